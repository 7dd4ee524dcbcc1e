"""The async client: the exchange, driven on the caller's own event loop."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Unpack

from ..errors import UsageError
from ..stream import JSON, MAX_RECORD_BYTES, Event
from .endpoint import AnyTransport, Endpoint
from .exchange import NOT_OPEN, Exchange, dry_run
from .request import Request, RequestFields, checked_request
from .secrets import Secret, checked_key, not_sent
from .settings import (
    CONNECT_TIMEOUT_S,
    DEFAULT_BASE_URL,
    MAX_RETRIES,
    SILENCE_TIMEOUT_S,
    ClientSettings,
    checked_base_url,
    checked_count,
    checked_seconds,
    setting,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from ..reply import Reply
    from .transports.protocol import Tap
    from .user_tokens import UserToken


class AsyncHaloClient:
    """Talks to a Halo agent from async code, on the caller's loop.

    Args:
        api_key: the widget key (``ab_live_…``). Default: `%config HaloMagics.api_key`, then HALO_API_KEY.
        base_url: https, or http to this machine. Default: as for the key, HALO_BASE_URL.
        user_id, agent_id: sent with each request that names no other. `user_id` defaults as the key does,
            from HALO_USER_ID.
        user_token: a JWT, or a callable (sync or async) that returns a fresh one. It is called when there is
            no token, when its `exp` has passed, and once after a 403. Default: as for the key,
            HALO_USER_TOKEN.
        connect_timeout_s: seconds to wait for a connection.
        silence_timeout_s: seconds to wait for the first byte and between chunks. There is no limit on the
            total time.
        max_retries: how often a message that certainly did not arrive is sent again.
        max_record_bytes: a longer record is dropped as malformed.
        transport: replaces the network: an `httpx.AsyncBaseTransport`, or a `Transport` (see
            `client.transports.protocol`). An offline one, such as a `Replay`, has a base URL of its own; no
            key is needed then, and no user token is requested.
        record: a `Recorder`, which keeps what passes.
        source: who answers, if not Halo, such as ``demo agent``; shown with each reply. Default: what the
            transport says, such as ``replay of FILE``.

    Raises:
        ConfigError: when a setting is missing or unsafe.

    >>> import asyncio
    >>> from halo_notebook import TextDelta
    >>> from halo_notebook.demo import DEMO_KEY, DemoAgent
    >>> async def first_words(url: str) -> str:
    ...     async with AsyncHaloClient(DEMO_KEY, base_url=url) as client:
    ...         async with client.stream("My name is Ada") as events:
    ...             return "".join([e.text async for e in events if isinstance(e, TextDelta)])[:16]
    >>> with DemoAgent(chunk_s=0) as agent:
    ...     asyncio.run(first_words(agent.url))
    'Nice to meet you'
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
        # What reaches no service must neither need a key nor hold one.
        offline = bool(getattr(transport, "offline", False))
        if offline:
            api_key, base_url = Secret("ab_live_offline"), getattr(transport, "base_url", base_url)
        token = None if offline else setting("user_token", user_token)
        if not (token is None or isinstance(token, Secret) or callable(token)):
            raise not_sent("user_token must be a string or a callable")
        settings = ClientSettings(
            api_key=checked_key(setting("api_key", api_key) or ""),
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
        self.endpoint = Endpoint(settings, transport, record)

    @property
    def settings(self) -> ClientSettings:
        """What the client was given, checked. Secrets in it do not show."""
        return self.endpoint.settings

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

    def stream(self, message: str, **fields: Unpack[RequestFields]) -> AsyncReplyStream:
        """Send `message`; the result is an async context manager that iterates the events.

        Args:
            message: at most 10,000 characters.
            fields: see `RequestFields`.

        Returns:
            an `AsyncReplyStream`; its `reply` grows as the events arrive.

        Raises:
            InvalidRequest: at once, when a field is not what the API takes.
            HaloError: on entering, when the message was not taken; while iterating, when the reply broke off.
        """
        return AsyncReplyStream(self.endpoint, self.prepare(message, **fields))

    async def ask(self, message: str, **fields: Unpack[RequestFields]) -> Reply:
        """Send `message` and return the streamed reply once it has ended. See `stream`."""
        async with self.stream(message, **fields) as stream:
            return await stream.to_end()

    async def chat(self, message: str, **fields: Unpack[RequestFields]) -> Reply:
        """Send `message` to the endpoint that answers in one piece. See `stream`.

        The answer's JSON is kept on `Reply.raw`; its text is the first of the fields `response`, `message`,
        `text`, `reply` and `content` that is a string.

        Raises:
            ReplyUnreadable: when the answer is not a JSON object.
        """
        async with AsyncReplyStream(self.endpoint, self.prepare(message, **fields), path="/chat") as stream:
            return await stream.to_end()

    def prepare(self, message: str, **fields: Unpack[RequestFields]) -> Request:
        """Check a request without sending it. Raises as `stream` does at once."""
        settings = self.settings
        defaults = {name: getattr(settings, name) for name in ("user_id", "agent_id", "user_token")}
        return checked_request(message, fields, defaults)

    def dry_run(self, request: Request, path: str = "/chat/stream") -> dict[str, JSON]:
        """The exact request as JSON, its secrets as 'set'; nothing is sent."""
        return dry_run(self.base_url, request, path)

    def debug(self) -> dict[str, JSON]:
        """One snapshot of the client's state that can be shared: secrets are 'set' or 'unset'."""
        settings, endpoint, last = self.settings, self.endpoint, self.endpoint.last
        token = settings.user_token
        plain = ("base_url", "user_id", "agent_id", "connect_timeout_s", "silence_timeout_s", "max_retries")
        return {
            **{name: getattr(settings, name) for name in (*plain, "max_record_bytes")},
            "api_key": "unset" if endpoint.offline else "set",
            "user_token": "set" if token is not None else "unset",
            "user_token_is_callable": callable(token),
            "transport": type(endpoint.transport).__name__ if endpoint.transport else "network",
            **{
                f"last_{name}": getattr(last, name, None)
                for name in ("status", "error", "session_id", "agent_id")
            },
        }

    def copy(self, transport: AnyTransport | None = None, **settings: Any) -> AsyncHaloClient:
        """Another client with these settings changed, and with connections of its own.

        Args:
            transport: in place of the network, where this client has no transport of its own.
            settings: as for the constructor.
        """
        made = AsyncHaloClient.__new__(AsyncHaloClient)
        made.endpoint = self.endpoint.copy(transport, **settings)
        return made

    async def aclose(self) -> None:
        """Close the connections on this loop. The client can be used again; it opens new ones."""
        await self.endpoint.aclose()

    async def __aenter__(self) -> AsyncHaloClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r}, api_key set)"


class AsyncReplyStream(Exchange):
    """One turn on the wire: an async context manager that iterates the reply's events.

    Attributes:
        request: what is sent.
        reply: what has been received; it grows, and is kept whatever ends the stream.
        state: one line on where things stand, such as ``waiting for the agent``.
        attended: whether somebody can let a `Replay` by steps continue. Set it before the stream is entered.
    """

    _events: AsyncGenerator[Event, None] | None = None

    async def __aenter__(self) -> AsyncReplyStream:
        await self.open()
        self._events = self._each()
        return self

    def __aiter__(self) -> AsyncIterator[Event]:
        if self._events is None:
            raise UsageError(NOT_OPEN)
        return self._events

    async def to_end(self) -> Reply:
        """Read the rest of the reply and return it, without its events. Raises as iterating does."""
        async for _ in self.batches:
            pass
        return self.reply

    async def __aexit__(self, *exc_info: object) -> None:
        # Left early, by a break or by the caller's own exception: the user stopped it.
        try:
            if self._events is not None:
                await self._events.aclose()
        finally:
            await self.aclose()

    async def _each(self) -> AsyncGenerator[Event, None]:
        async for events in self.batches:
            for event in events:
                yield event
