"""Where a client's messages go: its settings, its user tokens, and a transport for each event loop.

Connections belong to an event loop; a client that is used on several has connections of its own on each.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias
from weakref import WeakKeyDictionary

from ..concurrency.loop import IN_BROWSER
from .transports.protocol import Tap, Transport
from .user_tokens import CallUser, UserTokens, call_in_thread

if TYPE_CHECKING:
    import httpx

    from ..reply import Reply
    from .request import Request
    from .secrets import Secret
    from .settings import ClientSettings

AnyTransport: TypeAlias = "Transport | httpx.AsyncBaseTransport"


class Endpoint:
    """See the module.

    Attributes:
        settings: checked.
        transport: the caller's own, or None for the network.
        record: keeps what passes, or None.
        offline: whether no service is reached; no key is needed then, and no user token is requested.
        last: the reply to the last message, or None.
    """

    def __init__(self, settings: ClientSettings, transport: AnyTransport | None, record: Tap | None) -> None:
        self.settings = settings
        self.transport = transport
        self.record = record
        self.offline = bool(getattr(transport, "offline", False))
        self.tokens = UserTokens()
        self.last: Reply | None = None
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Transport] = WeakKeyDictionary()

    def copy(self, transport: AnyTransport | None, **settings: Any) -> Endpoint:
        """A copy with other settings and connections of its own; `transport` replaces the network."""
        made = copy.copy(self)
        made.transport = self.transport or transport
        made.settings = dataclasses.replace(self.settings, **settings)
        made._loops = WeakKeyDictionary()
        return made

    async def user_token(
        self, request: Request, call: CallUser = call_in_thread, refused: Secret | None = None
    ) -> Secret | None:
        """The user token to send with `request`, or None; see `UserTokens.get`."""
        if request.user_token is None or self.offline:
            return None
        return await self.tokens.get(request.user_token, call, refused)

    def on_loop(self) -> Transport:
        """The transport for the running loop, made when it is first needed. Raises `ConfigError`."""
        loop = asyncio.get_running_loop()
        transport = self._loops.get(loop)
        if transport is None:
            self._loops[loop] = transport = self._made()
        return transport

    def _made(self) -> Transport:
        if isinstance(self.transport, Transport):
            return self.transport
        if self.transport is not None:
            from .transports.httpx import HttpxTransport

            return HttpxTransport(self.transport)
        if IN_BROWSER:
            from .transports.fetch import FetchTransport

            return FetchTransport()
        from .transports.httpx import network

        return network(self.settings.base_url)

    async def aclose(self) -> None:
        """Close the connections on the running loop."""
        transport = self._loops.pop(asyncio.get_running_loop(), None)
        if transport is not None:
            await transport.aclose()
