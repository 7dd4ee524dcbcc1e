"""The demo agent without a server, for a browser: a transport that asks it in the same process.

Answers, chunks, pace and faults are those of the demo agent's server.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from ..client.transports.protocol import BrokeOff, Incoming, Outgoing
from .protocol import Answer, step_bytes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from .server import DemoAgent


class DemoTransport:
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

    async def send(self, outgoing: Outgoing) -> Incoming:
        """Answer as the server would."""
        headers = {name.lower(): value for name, value in outgoing.headers.items()}
        outgoing.leaves()
        answer = self._agent.answer("POST", urlsplit(outgoing.url).path, headers, outgoing.body)
        outgoing.has_left()
        await asyncio.sleep(answer.after_s)
        if answer.status is None:
            await _end(answer, outgoing)

        async def chunks() -> AsyncIterator[bytes]:
            clock = asyncio.get_running_loop().time
            due = clock()
            for step in answer.steps:
                if isinstance(step, (int, float)):
                    due += step
                    await asyncio.sleep(max(0.0, due - clock()))
                else:
                    yield step_bytes(step)
            if answer.ending != "end":
                await _end(answer, outgoing)

        return Incoming(answer.status, {name.lower(): value for name, value in answer.headers}, chunks)

    async def aclose(self) -> None:
        """There is nothing to close."""


async def _end(answer: Answer, outgoing: Outgoing) -> NoReturn:
    if answer.ending == "silence":
        await asyncio.sleep(outgoing.silence_s)
        raise outgoing.silent()
    raise BrokeOff
