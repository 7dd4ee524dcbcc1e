"""One message of an evaluation, sent once: what became of it, and whether it may be sent again.

What it promises:

- Whatever ends it, an `Outcome` says what had arrived by then.
- Sent again may be only what certainly did not arrive.

It does not know what a conversation is, nor who waits for whom.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from ..client.failures import retry_wait_s
from ..errors import HaloError, IdentityError
from ..reply import Reply, reply_from

if TYPE_CHECKING:
    from ..client.aio import AsyncHaloClient

COMPLETE, FAILED, INTERRUPTED = "complete", "failed", "interrupted"
MAX_TRIES = 6
MAX_WAIT_S = 120.0
_LAG_EVERY_S = 0.05
_MEASURED_S = 2.0  # a shorter time says nothing of the lag
_LAG_AT = 0.9  # where a stall or two, as at the start, is not what most replies met


def _nothing_known() -> Reply:
    reply = Reply()
    reply.status, reply.state, reply.may_have_arrived = "stopped", "", True
    return reply


@dataclass
class Outcome:
    """What became of a message; the worst that it can be, until more is known.

    Attributes:
        reply: what had arrived.
        status: ``complete``, ``failed`` (the message was not taken) or ``interrupted``.
        again_s: seconds after which it may be sent again, since it did not arrive; else None.
        user_refused: whether it was not taken because of its user token.
    """

    reply: Reply = field(default_factory=_nothing_known)
    status: str = INTERRUPTED
    again_s: float | None = None
    user_refused: bool = False


class Asker(Protocol):
    """Sends messages, by whichever way."""

    async def ready(self) -> None:
        """Wait until a message can be sent. Raises `UsageError` when there is nothing that will send one."""
        ...

    async def ask(
        self, outcome: Outcome, config: str, message: str, fields: Mapping[str, Any], tries: int
    ) -> None:
        """Send a message and fill in `outcome`, also when cancelled. `tries` counts from 1."""
        ...

    async def aclose(self) -> float | None:
        """End. Returns how long what had arrived waited to be read: see `Lag`."""
        ...


class LocalAsker:
    """Sends from this process, on the running loop.

    Args:
        clients: by the name of their configuration; they are copied, and stay as they are.
    """

    def __init__(self, clients: Mapping[str, AsyncHaloClient]) -> None:
        self._clients = {name: for_many_streams(client) for name, client in clients.items()}
        self._lag = Lag()

    async def ready(self) -> None:
        pass

    def ask(
        self, outcome: Outcome, config: str, message: str, fields: Mapping[str, Any], tries: int
    ) -> Coroutine[Any, Any, None]:
        return ask_once(self._clients[config], outcome, message, fields, tries)

    async def aclose(self) -> float | None:
        lag_s = self._lag.ended()
        for client in self._clients.values():
            await client.aclose()
        return lag_s


class Lag:
    """Measures from now on how late the running loop is: what has arrived waits as long to be read."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=10_000)
        self._measuring = asyncio.ensure_future(self._measure())

    async def _measure(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(_LAG_EVERY_S)
            self._lags.append(time.perf_counter() - began - _LAG_EVERY_S)

    def ended(self) -> float | None:
        """Measure no more. Returns the 90th percentile in seconds, None when it was too short to say."""
        self._measuring.cancel()
        if len(self._lags) * _LAG_EVERY_S + sum(self._lags) < _MEASURED_S:
            return None
        return sorted(self._lags)[int(_LAG_AT * len(self._lags))]


def for_many_streams(client: AsyncHaloClient) -> AsyncHaloClient:
    """A copy that bears many streams, and sends nothing again by itself, so that all slow down together."""
    from ..client.transports.aiohttp import AiohttpTransport

    return client.copy(AiohttpTransport(client.base_url), max_retries=0)


async def ask_once(
    client: AsyncHaloClient, outcome: Outcome, message: str, fields: Mapping[str, Any], tries: int
) -> None:
    """Send a message once, read its reply to the end, and fill in `outcome`. Raises only when cancelled."""
    stream = client.stream(message, **cast(Any, fields))
    outcome.reply = reply = stream.reply
    error: HaloError | None = None
    try:
        async with stream:
            await stream.to_end()
    except HaloError as caught:
        error = caught
    finally:
        reply.retries = tries - 1
        if reply.status == "complete":
            outcome.status = COMPLETE
        else:
            outcome.status = INTERRUPTED if reply.may_have_arrived else FAILED
        outcome.reply = _without(reply, [secret.reveal() for secret in stream.exchange.secrets])
        if error is not None and tries < MAX_TRIES:
            outcome.again_s = retry_wait_s(error, tries - 1, first_s=0.25, longest_s=MAX_WAIT_S)
        outcome.user_refused = isinstance(error, IdentityError)


def _without(reply: Reply, secrets: Sequence[str]) -> Reply:
    """The reply, with stars for what was sent in confidence where the agent has said it back."""
    records = reply.action_events or reply.summary or reply.malformed
    if not records and not any(secret in reply.text for secret in secrets):
        return reply  # which is most of them, and quickly known
    text = json.dumps(reply.to_dict(), ensure_ascii=False)
    told = [secret for secret in secrets if secret in text]
    if not told:
        return reply
    for secret in told:
        text = text.replace(secret, "*" * len(secret))
    masked = reply_from(json.loads(text))
    masked.may_have_arrived = reply.may_have_arrived
    return masked
