"""One message of an evaluation, sent once: what became of it, and whether it may be sent again.

What it promises:

- Whatever ends it, an `Outcome` says what had arrived by then.
- Sent again may be only what certainly did not arrive.

It does not know what a conversation is, nor who waits for whom.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

from .errors import ConnectionFailed, HaloError, RateLimited, ServerError, StatusError
from .reply import Reply

if TYPE_CHECKING:
    from .client import AsyncHaloClient

COMPLETE, FAILED, INTERRUPTED = "complete", "failed", "interrupted"
MAX_TRIES = 6
MAX_WAIT_S = 120.0


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
    """

    reply: Reply = field(default_factory=_nothing_known)
    status: str = INTERRUPTED
    again_s: float | None = None


class Asker(Protocol):
    """Sends messages, by whichever way."""

    async def ask(
        self, outcome: Outcome, config: str, message: str, fields: Mapping[str, Any], tries: int
    ) -> None:
        """Send a message and fill in `outcome`, also when cancelled. `tries` counts from 1."""
        ...

    async def aclose(self) -> None: ...


class LocalAsker:
    """Sends from this process, on the running loop.

    Args:
        clients: by the name of their configuration; they are copied, and stay as they are.
    """

    def __init__(self, clients: Mapping[str, AsyncHaloClient]) -> None:
        self._clients = {name: for_many_streams(client) for name, client in clients.items()}

    async def ask(
        self, outcome: Outcome, config: str, message: str, fields: Mapping[str, Any], tries: int
    ) -> None:
        await ask_once(self._clients[config], outcome, message, fields, tries)

    async def aclose(self) -> None:
        for client in self._clients.values():
            await client.aclose()


def for_many_streams(client: AsyncHaloClient) -> AsyncHaloClient:
    """A copy that bears many streams, and sends nothing again by itself, so that all slow down together."""
    from .transport import AiohttpTransport

    return client.copy(AiohttpTransport(client.base_url), max_retries=0)


async def ask_once(
    client: AsyncHaloClient, outcome: Outcome, message: str, fields: Mapping[str, Any], tries: int
) -> None:
    """Send a message once, read its reply to the end, and fill in `outcome`. Raises only when cancelled."""
    stream = client.stream(message, **cast(Any, fields))
    outcome.reply = reply = stream.reply
    error: HaloError | None = None
    try:
        async with stream as events:
            async for _ in events:
                pass
    except HaloError as caught:
        error = caught
    finally:
        reply.retries = tries - 1
        refused = isinstance(error, StatusError) and 400 <= error.status_code < 500
        if reply.status == "complete":
            outcome.status = COMPLETE
        else:
            outcome.status = FAILED if refused or not reply.may_have_arrived else INTERRUPTED
        outcome.again_s = _again_in_s(error, tries)


def _again_in_s(error: HaloError | None, tries: int) -> float | None:
    """How long to wait before a message that certainly did not arrive is sent again; None when it is not."""
    if tries >= MAX_TRIES:
        return None
    backoff_s: float = 0.25 * 2 ** (tries - 1)
    match error:
        case ConnectionFailed():
            return backoff_s
        case RateLimited() | ServerError(status_code=503):
            asked = error.retry_after_s
            if asked is None:
                return backoff_s if isinstance(error, RateLimited) else None
            return asked if asked <= MAX_WAIT_S else None
    return None
