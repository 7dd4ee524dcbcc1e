"""What the sync and the async client share: the settings, the user tokens, and a transport for each loop."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import hashlib
from collections import deque
from typing import TYPE_CHECKING, Any, Self, TypeAlias, Unpack
from weakref import WeakKeyDictionary

from ..concurrency.loop import IN_BROWSER
from ..errors import UsageError
from ..stream import JSON, MAX_RECORD_BYTES
from .request import Request, RequestFields, checked_request
from .secrets import Secret, checked_key, hidden, hide_token, not_sent
from .settings import (
    CONNECT_TIMEOUT_S,
    DEFAULT_BASE_URL,
    MAX_RETRIES,
    SILENCE_TIMEOUT_S,
    ClientSettings,
    checked_base_url,
    checked_count,
    checked_seconds,
    no_key,
    setting,
)
from .transports.protocol import Tap, Transport
from .user_tokens import CallUser, UserToken, UserTokens, call_in_thread

if TYPE_CHECKING:
    import httpx

    from ..reply import Reply

_RECENT_TOKENS = 4
AnyTransport: TypeAlias = "Transport | httpx.AsyncBaseTransport"


class Client:
    """The parts of a client that do not send; `HaloClient` and `AsyncHaloClient` add the sending.

    Attributes:
        settings: checked; secrets in it do not show.
        transport: the caller's own, or None for the network.
        record: keeps what passes, or None.
        offline: whether no service is reached; no key is needed then, and no user token is requested.
        last: the reply to the last message, or None.
        recent_tokens: the user tokens that were sent last: a later reply may repeat one.
    """

    def __init__(
        self,
        api_key: str | Secret | None = None,
        *,
        base_url: str | None = None,
        user_id: str | None = None,
        user_token: UserToken | None = None,
        agent_id: str | None = None,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        silence_timeout_s: float = SILENCE_TIMEOUT_S,
        max_retries: int = MAX_RETRIES,
        max_record_bytes: int = MAX_RECORD_BYTES,
        transport: AnyTransport | None = None,
        record: Tap | None = None,
        source: str | None = None,
    ) -> None:
        """Check the settings; nothing is sent.

        Args:
            api_key: the widget key (``ab_live_…``). Default: `%config HaloMagics.api_key`, then HALO_API_KEY.
            base_url: https, or http to this machine. Default: as for the key, HALO_BASE_URL.
            user_id, agent_id: sent with each request that names no other. `user_id` defaults as the key does,
                from HALO_USER_ID.
            user_token: a JWT, or a callable (sync or async) that returns a new one. The callable is called
                for the first message, when the token's `exp` has passed, and once after a 403. Default:
                `%config HaloMagics.user_token`, then HALO_USER_TOKEN.
            connect_timeout_s: seconds to wait for a connection.
            silence_timeout_s: how many seconds to wait for the first byte, and then for each next chunk. The
                total time is not limited.
            max_retries: how often a message that certainly did not arrive is sent again.
            max_record_bytes: a longer record is dropped as malformed. A reply longer than 16 MiB plus this
                number fails at that point; the part received so far is kept.
            transport: replaces the network: an `httpx.AsyncBaseTransport`, or a `Transport` (see
                `client.transports.protocol`). An offline one, such as a `Replay`, has a base URL of its own.
            record: a `Recorder`, which keeps what passes.
            source: who answers, if not Halo, such as ``demo agent``; shown with each reply. Default: what the
                transport says, such as ``replay of FILE``.

        Raises:
            ConfigError: when a setting is missing or unsafe.
        """
        api_key, user_token = hidden(api_key), hidden(user_token)  # in tracebacks, too
        # What reaches no service must neither need a key nor hold one.
        self.offline = bool(getattr(transport, "offline", False))
        if self.offline:
            api_key, base_url = Secret("ab_live_offline"), getattr(transport, "base_url", base_url)
        token = None if self.offline else setting("user_token", user_token)
        if not (token is None or isinstance(token, Secret) or callable(token)):
            raise not_sent("user_token must be a string or a callable")
        if (key := setting("api_key", api_key)) is None:
            raise no_key()
        self.settings = ClientSettings(
            api_key=checked_key(key),
            base_url=checked_base_url(str(setting("base_url", base_url) or DEFAULT_BASE_URL)),
            user_id=setting("user_id", user_id),
            user_token=token,
            agent_id=setting("agent_id", agent_id),
            connect_timeout_s=checked_seconds("connect_timeout_s", connect_timeout_s),
            silence_timeout_s=checked_seconds("silence_timeout_s", silence_timeout_s),
            max_retries=checked_count("max_retries", max_retries, least=0),
            max_record_bytes=checked_count("max_record_bytes", max_record_bytes, least=1),
            source=getattr(transport, "source", "") if source is None else source,
        )
        self.transport = transport
        self.record = record
        self.last: Reply | None = None
        self.recent_tokens: deque[Secret] = deque(maxlen=_RECENT_TOKENS)
        self._tokens = UserTokens()
        # Connections belong to an event loop.
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, Transport] = WeakKeyDictionary()

    @property
    def base_url(self) -> str:
        """Where requests go."""
        return self.settings.base_url

    @property
    def source(self) -> str:
        """Who answers, if not Halo: ``demo agent``, ``replay of FILE``, …; empty for Halo."""
        return self.settings.source

    @property
    def identity(self) -> list[JSON]:
        """Which agent is asked, and for which user, without secrets; equal for equal settings."""
        settings = self.settings
        account = hashlib.sha256(settings.api_key.reveal().encode("utf-8", "replace")).hexdigest()[:8]
        return [settings.base_url, account, settings.agent_id, settings.user_id]

    def prepare(self, message: str, **fields: Unpack[RequestFields]) -> Request:
        """Check a request without sending it. Raises as `stream` does at once."""
        hide_token(fields)
        settings = self.settings
        defaults = {
            "user_id": settings.user_id,
            "agent_id": settings.agent_id,
            "user_token": settings.user_token,
        }
        return checked_request(message, fields, defaults)

    def dry_run(self, request: Request, path: str = "/chat/stream") -> dict[str, JSON]:
        """The exact request as JSON, its secrets as 'set'; nothing is sent."""
        headers: dict[str, JSON] = {**request_headers("set")}
        return {"method": "POST", "url": self.base_url + path, "headers": headers, "body": request.shown}

    def debug(self) -> dict[str, JSON]:
        """One snapshot of the client's state that can be shared: secrets are 'set' or 'unset'."""
        settings, token = self.settings, self.settings.user_token
        plain = ("base_url", "user_id", "agent_id", "connect_timeout_s", "silence_timeout_s", "max_retries")
        last = ("status", "error", "session_id", "agent_id")
        return {
            **{name: getattr(settings, name) for name in (*plain, "max_record_bytes")},
            "api_key": "unset" if self.offline else "set",
            "user_token": "set" if token is not None else "unset",
            "user_token_is_callable": callable(token),
            "transport": type(self.transport).__name__ if self.transport else "network",
            **{f"last_{name}": getattr(self.last, name, None) for name in last},
        }

    def copy(self, transport: AnyTransport | None = None, **settings: Any) -> Self:
        """Another client with these settings changed, and with connections of its own.

        `transport` takes the place of the network, if this client has no transport of its own.
        """
        made = copy.copy(self)
        made.transport = self.transport or transport
        made.settings = dataclasses.replace(self.settings, **settings)
        made._loops = WeakKeyDictionary()
        return made

    async def user_token_for(
        self, request: Request, call: CallUser = call_in_thread, refused: Secret | None = None
    ) -> Secret | None:
        """The user token to send with `request`, or None; see `UserTokens.get`."""
        if request.user_token is None or self.offline:
            return None
        return await self._tokens.get(request.user_token, call, refused)

    def transport_here(self) -> Transport:
        """The transport for the running loop, made when it is first needed. Raises `ConfigError`."""
        loop = running_loop()
        transport = self._loops.get(loop)
        if transport is None:
            for closed in [each for each in self._loops if each.is_closed()]:
                del self._loops[closed]  # with a connection that was not closed, it would stay
            self._loops[loop] = transport = self._new_transport()
        return transport

    def _new_transport(self) -> Transport:
        if isinstance(self.transport, Transport):
            return self.transport
        if IN_BROWSER and self.transport is None:
            from .transports.fetch import FetchTransport

            return FetchTransport()
        from .transports.httpx import HttpxTransport, network

        return HttpxTransport(self.transport) if self.transport is not None else network(self.base_url)

    def look_again(self) -> None:
        """Read the environment again for the next message: a proxy or a certificate may be set by then."""
        if self.transport is None:  # such a one keeps no connection that would have to be closed
            self._loops.pop(running_loop(), None)

    async def aclose(self) -> None:
        """Close the connections on the running loop. The client can be used again; it opens new ones."""
        transport = self._loops.pop(running_loop(), None)
        if transport is not None:
            await transport.aclose()

    def __repr__(self) -> str:
        if "settings" not in vars(self):  # a traceback shows it while it is made
            return f"{type(self).__name__}(…)"
        return f"{type(self).__name__}({self.base_url!r}, api_key set)"


def running_loop() -> asyncio.AbstractEventLoop:
    """The running event loop. Raises `UsageError` where none of asyncio's runs, as under trio."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise UsageError(
            "No event loop of asyncio runs here, which async code of this package needs (trio has another). "
            "Nothing was sent; use asyncio.run, or a HaloClient."
        ) from None


def request_headers(key: str) -> dict[str, str]:
    """The headers of a request with that key."""
    return {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        # A compressed reply would be held back until a block of it is full.
        "Accept-Encoding": "identity",
    }
