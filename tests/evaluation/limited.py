"""A server that takes only so many messages in a time, or none for a while. It reports what it saw."""

from __future__ import annotations

import asyncio
import math
import re
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

_REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nhi"
_REFUSAL = "HTTP/1.1 {}\r\n{}Content-Length: 0\r\n\r\n"


def fixed(limit: int, window_s: float) -> Callable[[float], bool]:
    """Takes `limit` messages, then none until the window has ended; the first message begins it."""
    began, count = 0.0, 0

    def takes(now: float) -> bool:
        nonlocal began, count
        if now >= began + window_s:
            began, count = now, 0
        count += 1
        return count <= limit

    return takes


def sliding(limit: int, window_s: float, *, refusals_count: bool = False) -> Callable[[float], bool]:
    """Takes a message while fewer than `limit` were taken (or tried) in the window before it."""
    times: deque[float] = deque()

    def takes(now: float) -> bool:
        while times and times[0] <= now - window_s:
            times.popleft()
        taken = len(times) < limit
        if taken or refusals_count:
            times.append(now)
        return taken

    return takes


def bucket(a_second: float, burst: int) -> Callable[[float], bool]:
    """Takes a message for a token, of which `a_second` are added, up to `burst` of them."""
    tokens, last = float(burst), -math.inf

    def takes(now: float) -> bool:
        nonlocal tokens, last
        tokens, last = min(burst, tokens + (now - last) * a_second), now
        if tokens < 1:
            return False
        tokens -= 1
        return True

    return takes


class Limited:
    """A server that takes a message when `takes` says so, and else refuses it.

    Args:
        takes: takes the time on the monotonic clock.
        retry_after: what a refusal asks for.
        delay_s: how long a reply takes.

    Attributes:
        takes: the same; it can be replaced.
        taken: when messages were taken.
        refused: how many were refused.
        most: how many connections there were at a time.
    """

    def __init__(
        self,
        takes: Callable[[float], bool] = lambda now: True,
        retry_after: str | None = None,
        delay_s: float = 0.0,
        status: str = "429 Too Many Requests",
    ) -> None:
        self.takes, self._delay_s = takes, delay_s
        asks = "" if retry_after is None else f"Retry-After: {retry_after}\r\n"
        self._refusal = _REFUSAL.format(status, asks).encode()
        self.taken: list[float] = []
        self.refused = self.most = self._open = 0
        self._loop = asyncio.new_event_loop()
        self._server: asyncio.Server | None = None
        self._port = 0
        self._is_away = False
        self._waiting: set[asyncio.StreamWriter] = set()  # for a message
        self._thread = threading.Thread(target=self._loop.run_forever)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/api/sdk"

    def __enter__(self) -> Self:
        self._thread.start()
        self.listen()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.go_away()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def listen(self) -> None:
        """Accept connections, at the same address as before."""

        async def listen() -> None:
            self._is_away = False
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, backlog=1000)
            self._port = self._server.sockets[0].getsockname()[1]

        asyncio.run_coroutine_threadsafe(listen(), self._loop).result(10)

    def go_away(self) -> None:
        """Refuse connections, and close those that there are, each after its reply."""

        async def close() -> None:
            assert self._server is not None, "it listens"
            self._is_away = True
            self._server.close()
            for writer in self._waiting:
                writer.close()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        self.most = max(self.most, self._open)
        try:
            while not self._is_away:
                self._waiting.add(writer)
                head = await reader.readuntil(b"\r\n\r\n")
                found = re.search(rb"(?i)content-length: *(\d+)", head)
                await reader.readexactly(int(found[1]) if found else 0)
                self._waiting.discard(writer)
                now = time.monotonic()
                if not self.takes(now):
                    self.refused += 1
                    writer.write(self._refusal)
                    continue
                self.taken.append(now)
                await asyncio.sleep(self._delay_s)
                writer.write(_REPLY)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._open -= 1
            self._waiting.discard(writer)
            writer.close()
