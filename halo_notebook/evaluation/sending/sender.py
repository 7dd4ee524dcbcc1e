"""One message of an evaluation, sent once: what became of it, whose failure it was, and whether it may be
sent again.
"""

from __future__ import annotations

import asyncio
import errno
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from ...errors import HaloError, IdentityError
from ...reply import Reply, reply_from
from ..outcomes import COMPLETE, FAILED, INTERRUPTED, STOPPED, cause_of, has_errno

if TYPE_CHECKING:
    from ...client.aio import AsyncHaloClient

MAX_WAIT_S = 120.0
"""For so long messages are sent again that were refused or could not connect; a longer wait ends the run."""
_LAG_EVERY_S = 0.05
_MEASURED_S = 2.0  # a shorter time says nothing about the lag
_LAG_AT = 0.9  # a stall or two, as at the start, is not what most replies met


_AS_PLAIN_VALUES = ("status", "cause", "again_s", "user_refused", "too_many_files")


def _unknown() -> Reply:
    reply = Reply()
    reply.status, reply.state, reply.may_have_arrived = "stopped", "", True
    return reply


@dataclass
class Outcome:
    """What became of a message: the worst that is possible, until more is known."""

    reply: Reply = field(default_factory=_unknown)
    status: str = INTERRUPTED
    cause: str = STOPPED  # whose failure it is, see above; empty for a complete turn
    again_s: float | None = None  # see `HaloError`
    user_refused: bool = False  # because of its user token
    too_many_files: bool = False  # are open in the process that sent it
    taken: Callable[[], object] = lambda: None  # called in that process, when it is answered with a reply

    def fail(self, error: HaloError) -> None:
        """The message was not sent, because of this error."""
        self.status, self.cause, self.again_s = FAILED, cause_of(error, whole=False), None
        self.reply.status, self.reply.error, self.reply.may_have_arrived = "failed", str(error), False

    def to_dict(self) -> dict[str, Any]:
        """It as plain values, for another process."""
        content = {name: getattr(self, name) for name in _AS_PLAIN_VALUES}
        return {**content, "reply": self.reply.to_dict(), "may_have_arrived": self.reply.may_have_arrived}

    def take(self, content: Mapping[str, Any]) -> None:
        """Become what `to_dict` gave in another process."""
        for name in _AS_PLAIN_VALUES:
            setattr(self, name, content[name])
        self.reply = reply_from(content["reply"])
        self.reply.may_have_arrived = content["may_have_arrived"]


class LocalSender:
    """Sends from this process, on the running loop, with copies of the configurations' clients.

    `dask.ClusterSender` has the same methods.
    """

    def __init__(self, clients: Mapping[str, AsyncHaloClient]) -> None:
        self._clients = {name: for_many_streams(client) for name, client in clients.items()}
        self._lag = Lag()

    async def ready(self) -> None:
        """Wait until a message can be sent. Raises `UsageError` when nothing will ever send one."""

    def send(
        self, outcome: Outcome, config: str, message: str, fields: Mapping[str, Any], tries: int
    ) -> Coroutine[Any, Any, None]:
        """Send a message and fill in `outcome`, also when cancelled. `tries` counts from 1."""
        return send_once(self._clients[config], outcome, message, fields, tries)

    async def aclose(self) -> float | None:
        """End. Returns how long data waited before it was read, see `Lag`."""
        lag_s = self._lag.end()
        for client in self._clients.values():
            await client.aclose()
        return lag_s


class Lag:
    """Measures from now on how late the running loop is: data waits as long before it is read."""

    def __init__(self) -> None:
        self._lags: deque[float] = deque(maxlen=10_000)
        self._measuring = asyncio.ensure_future(self._measure())

    async def _measure(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(_LAG_EVERY_S)
            self._lags.append(time.perf_counter() - began - _LAG_EVERY_S)

    def end(self) -> float | None:
        """Stop measuring. Returns the 90th percentile in seconds, None when the time was too short."""
        self._measuring.cancel()
        if len(self._lags) * _LAG_EVERY_S + sum(self._lags) < _MEASURED_S:
            return None
        return sorted(self._lags)[int(_LAG_AT * len(self._lags))]


def for_many_streams(client: AsyncHaloClient) -> AsyncHaloClient:
    """A copy for many streams at once. It does not retry: all conversations slow down together instead.

    Raises:
        ConfigError: when the network cannot be set up.
    """
    from ...client.transports.aiohttp import AiohttpTransport

    transport = None if client.transport else AiohttpTransport(client.base_url)
    return client.copy(transport, max_retries=0)


async def send_once(
    client: AsyncHaloClient, outcome: Outcome, message: str, fields: Mapping[str, Any], tries: int
) -> None:
    """Send a message once, read its reply to the end, and fill in `outcome`. Raises only when cancelled."""
    stream = client.stream(message, **cast("Any", fields))
    outcome.reply = reply = stream.reply
    error: HaloError | None = None
    try:
        async with stream:
            outcome.taken()
            await stream.to_end()
    except HaloError as caught:
        error = caught
    finally:
        reply.retries = tries - 1
        if reply.status == "complete":
            outcome.status, outcome.cause = COMPLETE, ""
        else:
            outcome.status = INTERRUPTED if reply.may_have_arrived else FAILED
            outcome.cause = STOPPED if error is None else cause_of(error, whole=not stream.partly_left)
        if error is not None:
            outcome.again_s = error.again_s
            outcome.too_many_files = has_errno(error, {errno.EMFILE, errno.ENFILE})
        outcome.user_refused = isinstance(error, IdentityError)
