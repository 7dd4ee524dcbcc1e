"""Keeps what passes between a client and its agent: ``HaloClient(record=Recorder(path))``. Its promises:

- A recording holds an exchange as it was: the request, the answer's bytes as they arrived, and how it ended.
  Its line is written at its end: a process that is killed loses only the exchange that was under way.
- It is written on a thread of its own, so that a slow disk delays no other stream; a turn waits for its own.
- No secret is in it: not the key, not a user token, also where the message or the agent repeats it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ..client.masking import masked, masked_json
from ..client.transports.protocol import NotConnected, TransportError
from ..concurrency.loop import IN_BROWSER
from ..errors import UsageError
from ..stream import MAX_DOCUMENT_NESTING, decode_json
from .format import FORMAT, HEADERS, RecordedExchange, read_recording

if TYPE_CHECKING:
    from ..client.exchange import AsyncReplyStream
    from ..client.secrets import Secret
    from ..client.transports.protocol import Incoming


class Recorder:
    """See the module. Several clients may share one, on any thread.

    Args:
        path: the file. An existing recording is continued.

    Attributes:
        count: how many exchanges the file holds.
        lost: how many could not be kept.
        error: why the last of those could not, in one line.

    Raises:
        UsageError: when the file holds something else, or cannot be written.

    >>> import tempfile
    >>> from halo_notebook import HaloClient, Replay
    >>> from halo_notebook.demo import DEMO_KEY, DemoAgent
    >>> path = Path(tempfile.mkdtemp()) / "ada.jsonl"
    >>> with DemoAgent(chunk_s=0) as agent:
    ...     with HaloClient(DEMO_KEY, base_url=agent.url, record=Recorder(path)) as client:
    ...         then = client.ask("My name is Ada")
    >>> with HaloClient(transport=Replay(path, pace="fast")) as client:
    ...     now = client.ask("My name is Ada")
    >>> (now.text, now.session_id) == (then.text, then.session_id)
    True
    """

    def __init__(self, path: str | Path) -> None:
        self.count = self.lost = 0
        self.error = ""
        self._secrets: set[Secret] = set()  # all that went with a request; a later reply may repeat one
        self._lock = threading.Lock()
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="halo-recorder")
        try:
            self.path = Path(path).expanduser().absolute()  # the working directory may change
            if self.path.exists() and self.path.stat().st_size:
                self.count = len(read_recording(self.path))
                self._repair_end()
            self._append(b"")
        except (OSError, ValueError, RuntimeError, TypeError) as error:  # not a path; a user without a home
            why = getattr(error, "strerror", None) or error
            raise UsageError(
                f"{str(path)!r} could not be written ({why}). Nothing is recorded; choose another place."
            ) from None

    def begin(self, turn: AsyncReplyStream) -> Passing:
        """Keep the exchange that begins; see `Tap`."""
        self._secrets.update(turn.secrets)
        return Passing(self, turn)

    def keep(self, exchange: RecordedExchange) -> None:
        """Add an exchange to the file, without its secrets. One that cannot be written is `lost`."""
        secrets = tuple(self._secrets)
        kept = replace(
            exchange,
            body={name: masked_json(value, secrets) for name, value in exchange.body.items()},
            why=masked(exchange.why, secrets),
        )
        text = json.dumps(kept.to_line(), ensure_ascii=False, separators=(",", ":"))
        try:
            decode_json(text, MAX_DOCUMENT_NESTING)  # a line that cannot be read again would spoil the others
            with self._lock:
                self._append(text.encode("utf-8", "replace") + b"\n")
                self.count += 1
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            self.lost += 1
            self.error = f"{self.path.name!r} lacks a reply, which could not be written ({why})"

    def keep_soon(self, exchange: RecordedExchange) -> Future[None] | None:
        """Add an exchange on the recorder's thread, where there can be one."""
        if not IN_BROWSER:
            with contextlib.suppress(RuntimeError):  # the interpreter exits
                return self._writer.submit(self.keep, exchange)
        self.keep(exchange)
        return None

    def _append(self, line: bytes) -> None:
        # Opened each time: there is nothing to close, and each line is the system's at once.
        with self.path.open("ab") as file:
            if file.tell() == 0:
                line = json.dumps({"halo_recording": FORMAT}).encode() + b"\n" + line
            file.write(line)

    def _repair_end(self) -> None:
        """End the last line, or remove one that was cut short."""
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        try:
            if whole < len(data):
                decode_json(data[whole:].decode("utf-8-sig"), MAX_DOCUMENT_NESTING)
                self._append(b"\n")
        except ValueError:
            os.truncate(self.path, whole)


class Passing:
    """An exchange while it passes; it is kept when it has ended."""

    def __init__(self, recorder: Recorder, turn: AsyncReplyStream) -> None:
        self._recorder = recorder
        self._turn = turn
        self._at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._incoming: Incoming | None = None
        self._head_at_s = 0.0
        self._chunks: list[tuple[float, bytes]] = []
        self._over = False
        self._kept: Future[None] | None = None

    def head(self, incoming: Incoming) -> None:
        self._incoming, self._head_at_s = incoming, self._turn.clock.now_s()

    def chunk(self, data: bytes) -> None:
        self._chunks.append((self._turn.clock.now_s(), data))

    def end(self, error: BaseException | None) -> None:
        if self._over:
            return
        self._over = True
        turn, broken = self._turn, isinstance(error, Exception)
        name = type(error).__name__ if isinstance(error, TransportError) else "BrokeOff"
        given = self._incoming.headers if self._incoming else {}
        self._kept = self._recorder.keep_soon(
            RecordedExchange(
                path=turn.path,
                body=turn.request.shown,
                status=self._incoming.status if self._incoming else None,
                headers={name: given[name.lower()] for name in HEADERS if name.lower() in given},
                head_at_s=self._head_at_s,
                chunks=tuple(self._chunks),
                how="broken" if broken else "whole" if error is None else "stopped",
                ended_at_s=turn.clock.now_s(),
                error=name if broken else "",
                why=str(error) if broken else "",
                may_have_arrived=turn.reply.may_have_arrived and not isinstance(error, NotConnected),
                tries=turn.tries,
                source=turn.source,
                at=self._at,
            )
        )

    async def kept(self) -> None:
        """Wait until it is written."""
        if self._kept is not None:
            await asyncio.shield(asyncio.wrap_future(self._kept))  # what is stopped is still written
