"""Where a client's messages go: its settings, its user tokens, and what sends on each event loop.

Connections belong to an event loop. A client may be used on several, one after the other or at the same
time, and has connections of its own on each.
"""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable
from weakref import WeakKeyDictionary

from ..concurrency import threads
from ..errors import ConfigError
from .secrets import Secret, shown
from .settings import ClientSettings, is_loopback
from .tokens import CallUser, UserTokens, call_in_thread

if TYPE_CHECKING:
    import httpx

    from ..recording.recorder import Recorder
    from ..reply import Reply
    from .request import Answer, Request


@runtime_checkable
class Sender(Protocol):
    """Carries messages without httpx's objects, which take their time; see `AiohttpTransport`."""

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        content: bytes,
        *,
        connect_s: float,
        silence_s: float,
        leaves: Callable[[], object],
        has_left: Callable[[], object],
    ) -> Answer:
        """Send `content`; returns when the answer's head has come. Raises httpx's errors.

        Args:
            url, headers, content: what is sent.
            connect_s, silence_s: seconds to wait for a connection, and for the first byte and between chunks.
            leaves: to be called just before the first byte may leave.
            has_left: to be called when all has.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections."""
        ...


Transport: TypeAlias = "httpx.AsyncBaseTransport | Sender"


class Endpoint:
    """See the module.

    Attributes:
        settings: checked.
        transport: what the caller gave in place of the network, or None.
        record: keeps what passes, or None.
        offline: whether no service is reached: no key is needed and no user token is requested.
        tokens: the user tokens.
        last: the reply to the last message, or None.
    """

    def __init__(
        self, settings: ClientSettings, transport: Transport | None, record: Recorder | None
    ) -> None:
        self.settings = settings
        self.transport = transport
        self.record = record
        self.offline = bool(getattr(transport, "offline", False))
        self.tokens = UserTokens()
        self.last: Reply | None = None
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Sending] = WeakKeyDictionary()

    def copy(self, transport: Transport | None, **settings: Any) -> Endpoint:
        """One with these settings changed and connections of its own; `transport` replaces the network."""
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

    def on_loop(self) -> Sending:
        """What sends on the running loop, made when it is first needed."""
        loop = asyncio.get_running_loop()
        sending = self._loops.get(loop)
        if sending is None:
            transport = self.transport or _network()
            if isinstance(transport, Sender):
                sending = Sending(None, transport)
            else:
                sending = Sending(_made_http(self.settings, transport), None)
            self._loops[loop] = sending
        return sending

    async def aclose(self) -> None:
        """Close the connections on the running loop."""
        sending = self._loops.pop(asyncio.get_running_loop(), None)
        if sending is not None:
            await sending.aclose()


@dataclass(frozen=True)
class Sending:
    """What sends on one loop: httpx's client, or a `Sender`."""

    http: httpx.AsyncClient | None
    sender: Sender | None

    async def aclose(self) -> None:
        for each in (self.http, self.sender):
            if each is not None:
                await each.aclose()


def _network() -> httpx.AsyncBaseTransport | None:
    """What reaches the network where there are no sockets; None for httpx's own."""
    if not threads.IN_BROWSER:
        return None
    from .transports.fetch import FetchTransport

    return FetchTransport()


def _made_http(settings: ClientSettings, transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
    import httpx

    try:
        return httpx.AsyncClient(
            transport=transport,
            timeout=httpx.Timeout(settings.silence_timeout_s, connect=settings.connect_timeout_s, pool=None),
            # Each turn has a connection of its own: a kept one may be closed by the server just as
            # the message goes out, and a message that may have arrived cannot be sent again.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            follow_redirects=False,
            # Without https no certificates are needed, and loading them takes its time.
            verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) if settings.base_url.startswith("http:") else True,
            # A proxy from the environment must not see what goes to this machine.
            trust_env=not is_loopback(settings.base_url),
        )
    except Exception as error:  # an odd proxy or certificate in the environment raises many kinds
        why = shown(str(error), 120, [settings.api_key])
        raise ConfigError(
            f"The network could not be set up ({why}). Nothing was sent; check the proxy and certificate "
            "variables (HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE)."
        ) from error
