"""The demo agent without a server: an httpx transport that asks it in the same process.

What it promises: the answers, their chunks and their pace are those of the demo agent's server,
and its faults are what a client would make of that server's. A browser has no sockets to serve on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NoReturn

import httpx

from .protocol import Answer, step_bytes

if TYPE_CHECKING:
    from .server import DemoAgent


class DemoTransport(httpx.AsyncBaseTransport):
    """Gives a client the answers of `agent`, which need not be started.

    >>> from halo_notebook import HaloClient
    >>> from halo_notebook.demo import DEMO_KEY, DemoAgent
    >>> transport = DemoTransport(DemoAgent(chunk_s=0))
    >>> with HaloClient(DEMO_KEY, base_url=DemoTransport.url, transport=transport) as client:
    ...     client.ask("My name is Ada").text[:16]
    'Nice to meet you'
    """

    url = "http://127.0.0.1/api/sdk"
    """A base URL to give to the client; nothing listens there."""
    source = "demo agent"

    def __init__(self, agent: DemoAgent) -> None:
        self._agent = agent

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer `request` as the server would."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        target = request.url.raw_path.decode("ascii")
        answer = self._agent.answer(request.method, target, headers, await request.aread())
        silence_s = request.extensions.get("timeout", {}).get("read")
        await asyncio.sleep(answer.after_s)
        if answer.status is None:
            await _end(answer, silence_s)
        return httpx.Response(answer.status, headers=list(answer.headers), stream=_Body(answer, silence_s))


class _Body(httpx.AsyncByteStream):
    def __init__(self, answer: Answer, silence_s: float | None) -> None:
        self._answer = answer
        self._silence_s = silence_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        due = clock()
        for step in self._answer.steps:
            if isinstance(step, (int, float)):
                due += step
                await asyncio.sleep(max(0.0, due - clock()))
            else:
                yield step_bytes(step)
        if self._answer.ending != "end":
            await _end(self._answer, self._silence_s)


async def _end(answer: Answer, silence_s: float | None) -> NoReturn:
    if answer.ending == "silence":
        try:
            async with asyncio.timeout(silence_s):
                await asyncio.get_running_loop().create_future()
        except TimeoutError as error:
            raise httpx.ReadTimeout("silence") from error
    raise httpx.RemoteProtocolError("the server closed the connection before the answer's end")
