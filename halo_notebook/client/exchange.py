"""One request, one streamed reply: the async core and its sync face.

What it promises:

- A request is checked against the API's documented limits before anything is sent.
- A message that may have arrived is never sent again: one message can open a ticket,
  and the API knows no idempotency key. Sent again is only what certainly did not
  arrive (no connection, 429, 503 with `Retry-After`), and once with a fresh user token
  after a 403.
- What had arrived of a reply stays on `.reply`, whatever ends it.
- The key and the user token appear in no repr, error, snapshot or log.
- Times count from the moment the request is written: no queueing, no connecting.

`AsyncHaloClient` holds the one algorithm and works on the caller's loop. `HaloClient`
runs it on the I/O thread (see `bridge`) and hands its events over.

It does not know what a payload means, nor what the service says that its page does not
document: an unknown status or header is handled the same way as a known one.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import dataclasses
import hashlib
import inspect
import json
import math
import queue
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Unpack, cast, runtime_checkable
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

from ..concurrency import loop as bridge
from ..concurrency import threads
from ..display.words import what_is_kept
from ..errors import (
    AuthenticationError,
    BadRequest,
    ConfigError,
    ConnectionFailed,
    HaloError,
    IdentityError,
    NotFound,
    RateLimited,
    ReplyInterrupted,
    ReplyTimeout,
    ReplyUnreadable,
    ServerError,
    StatusError,
    UsageError,
)
from ..reply import Reply
from ..stream import JSON, MAX_RECORD_BYTES, Event, StreamParser, TextDelta, decode_json
from .request import Answer, Request, RequestFields, TokenSource, UserToken, checked_request
from .settings import (
    DEFAULT_BASE_URL,
    Secret,
    checked_base_url,
    checked_key,
    checked_token,
    is_loopback,
    setting,
)

if TYPE_CHECKING:
    import httpx

    from ..recording.recorder import Play, Recorder

CONNECT_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 120.0
MAX_RETRIES = 2
MAX_RETRY_WAIT_S = 60.0
"""A longer `Retry-After` is reported, not waited for."""

_as_json = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
_MAX_ERROR_BODY_BYTES = 64 * 1024
_MAX_ID_CHARS = 1_000
_ERROR_BODY_S = 5.0
_TEXT_FIELDS = ("response", "message", "text", "reply", "content")
_BACKOFF_S = 0.5


@dataclass(frozen=True)
class _Settings:
    api_key: Secret
    base_url: str
    user_id: str | None
    user_token: TokenSource | None
    agent_id: str | None
    connect_timeout_s: float
    silence_timeout_s: float
    max_retries: int
    max_record_bytes: int


# --- What can fail ----------------------------------------------------------------------


def _transport_errors() -> dict[type[Exception], tuple[type[HaloError], str]]:
    """Every exception of httpx → ours, and what failed. One that is not named goes as its parent does."""
    import httpx

    not_sent = "Nothing was sent"
    return {
        httpx.ConnectTimeout: (ConnectionFailed, "no connection to {host} within {connect_s:g} s"),
        httpx.PoolTimeout: (ConnectionFailed, "no free connection to {host}"),
        httpx.ConnectError: (ConnectionFailed, "no connection to {host} ({why})"),
        httpx.ProxyError: (ConnectionFailed, "the proxy gave no connection to {host} ({why})"),
        httpx.UnsupportedProtocol: (ConfigError, f"the base URL's protocol is not supported. {not_sent}"),
        httpx.InvalidURL: (ConfigError, f"the base URL is not valid. {not_sent}"),
        httpx.LocalProtocolError: (ConfigError, f"the request is not valid HTTP ({{why}}). {not_sent}"),
        httpx.TimeoutException: (ReplyTimeout, "the agent was silent for {silence_s:g} s"),
        httpx.NetworkError: (ReplyInterrupted, "the connection broke off"),
        httpx.ProtocolError: (ReplyInterrupted, "the connection broke off"),
        httpx.DecodingError: (ReplyUnreadable, "the reply's compression could not be read"),
        httpx.TooManyRedirects: (ReplyUnreadable, "the server redirected too often"),
        httpx.HTTPError: (ReplyInterrupted, "the exchange failed ({why})"),
        httpx.StreamError: (ReplyInterrupted, "the reply's bytes could not be read"),
        httpx.CookieConflict: (ReplyUnreadable, "the server's cookies contradict each other"),
    }


_STATUS_ERRORS: dict[int, tuple[type[StatusError], str, str]] = {
    400: (BadRequest, "Halo refused the request", "mend the field it names and run again"),
    401: (AuthenticationError, "Halo refused the key", "check HALO_API_KEY, or run %halo connect"),
    403: (
        IdentityError,
        "Halo refused the user",
        "give a valid user_token for this user_id, or leave the user_id out",
    ),
    404: (NotFound, "There is no Halo API at the base URL", "check HALO_BASE_URL"),
    413: (BadRequest, "The request is too large for the server", "send smaller images or less context"),
    422: (BadRequest, "Halo could not process the request", "mend the field it names and run again"),
    429: (RateLimited, "Halo takes no more requests just now", "wait{wait} and run again"),
}
_NOT_ENTERED = (
    "This stream is not open. Nothing was sent; write 'with client.stream(…) as events:' ('async with' for "
    "an AsyncHaloClient) and read the events inside."
)
_MAY_HAVE_ARRIVED = (
    "The message may have arrived and is not sent again by itself; run it again only if that does no harm"
)


def _status_error(answer: Answer, body: bytes, secrets: Sequence[Secret]) -> StatusError:
    code = answer.status_code
    detail, docs_url = _error_detail(body, secrets)
    retry_after_s = _retry_after_s(answer)
    wait = f" {retry_after_s:,.0f} s" if retry_after_s is not None else ""
    shown = f" ({code}: {detail})" if detail else f" ({code})"
    if code in _STATUS_ERRORS:
        kind, what, todo = _STATUS_ERRORS[code]
        message = f"{what}{shown}. The session is kept; {todo.format(wait=wait)}."
    elif code == 503 and retry_after_s is not None:
        kind = ServerError
        message = f"Halo is not available just now{shown}. The session is kept; wait{wait} and run again."
    elif 300 <= code < 400:
        kind = StatusError
        message = (
            f"The server redirected the request{shown}, which is not followed, so that the key goes nowhere "
            "else. The session is kept; check HALO_BASE_URL."
        )
    else:
        kind = ServerError if code >= 500 else StatusError
        what = "The service failed" if code >= 500 else "The server gave no reply"
        message = f"{what}{shown}. The session is kept. {_MAY_HAVE_ARRIVED}."
    return kind(message, status_code=code, detail=detail, docs_url=docs_url, retry_after_s=retry_after_s)


def _error_detail(body: bytes, secrets: Sequence[Secret]) -> tuple[str, str | None]:
    """The server's own words: its JSON `error`; not a page of HTML, which says nothing in one line."""
    try:
        content = decode_json(body.decode("utf-8", "replace"))
    except ValueError:
        return "", None
    if not isinstance(content, dict):
        return "", None
    detail, docs_url = content.get("error"), content.get("docs_url")
    text = _shown(detail, 300, secrets).rstrip(".") if isinstance(detail, str) else ""
    if not (isinstance(docs_url, str) and docs_url.startswith("https://")):
        docs_url = None
    return text, docs_url and _shown(docs_url, 300, secrets)


def _shown(text: str, limit: int, secrets: Sequence[Secret]) -> str:
    """A server's or a transport's words in one line, without what was sent to it in confidence."""
    from ..display.text import one_line

    # Masked before it is cut, and after what may stand between a secret's characters is gone.
    line = one_line(text, _MAX_ERROR_BODY_BYTES)
    for secret in secrets:
        line = line.replace(secret.reveal(), "•••")
    return one_line(line, limit)


def _retry_after_s(answer: Answer) -> float | None:
    value = answer.headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit() and len(value) < 20:
        return float(value)
    try:
        at = parsedate_to_datetime(value)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        return max(0.0, (at - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):  # what cannot be read says nothing
        return None


# --- User tokens ------------------------------------------------------------------------


def _has_expired(token: Secret) -> bool:
    """Whether the token is a JWT whose `exp` has passed. What cannot be read is not known to have."""
    try:
        claims = token.reveal().split(".")[1]
        expires = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
        return not isinstance(expires, bool) and float(expires) <= time.time()
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError):
        return False


_AskCaller: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]


async def ask_here(function: Callable[[], Any]) -> Any:
    """Call a user's callback from async code; a blocking one must not hold up the loop."""
    value = await threads.to_thread(function)
    return await value if inspect.isawaitable(value) else value


# --- The async core ---------------------------------------------------------------------


class AsyncHaloClient:
    """Talks to a Halo agent from async code, on the caller's loop.

    Args:
        api_key: the widget key (``ab_live_…``). Default: `%config HaloMagics.api_key`, then
            HALO_API_KEY.
        base_url: https, or http to this machine. Default: as for the key, HALO_BASE_URL.
        user_id, agent_id: sent with each request that names no other. `user_id` defaults
            as the key does, from HALO_USER_ID.
        user_token: a JWT, or a callable (sync or async) that returns a fresh one: it is asked
            when there is none, when its `exp` has passed, and once after a 403. Default: as
            for the key, HALO_USER_TOKEN.
        connect_timeout_s: seconds to wait for a connection.
        silence_timeout_s: seconds to wait for the first byte and between chunks. The whole
            has no limit.
        max_retries: how often a message that certainly did not arrive is sent again.
        max_record_bytes: a longer record is dropped as malformed.
        transport: an `httpx.AsyncBaseTransport` (or a `Sender`) to use in place of the network. One that
            is `offline`, such as a `Replay`, has a base URL of its own and needs no key, and no user token
            is asked for.
        record: a `Recorder` that keeps what passes.

    Raises:
        ConfigError: when a setting is missing or unsafe.

    >>> import asyncio
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
        transport: Transport | None = None,
        record: Recorder | None = None,
    ) -> None:
        # What reaches nobody must not fail for want of a key, nor hold one.
        self._offline = bool(getattr(transport, "offline", False))
        if self._offline:
            api_key, base_url = Secret("ab_live_offline"), getattr(transport, "base_url", base_url)
        token = None if self._offline else setting("user_token", user_token)
        if not (token is None or isinstance(token, Secret) or callable(token)):
            raise ConfigError("user_token must be a string or a callable. Nothing was sent.")
        self._settings = _Settings(
            api_key=checked_key(setting("api_key", api_key) or ""),
            base_url=checked_base_url(str(setting("base_url", base_url) or DEFAULT_BASE_URL)),
            user_id=setting("user_id", user_id),
            user_token=token,
            agent_id=setting("agent_id", agent_id),
            connect_timeout_s=_seconds("connect_timeout_s", connect_timeout_s),
            silence_timeout_s=_seconds("silence_timeout_s", silence_timeout_s),
            max_retries=_count("max_retries", max_retries, least=0),
            max_record_bytes=_count("max_record_bytes", max_record_bytes, least=1),
        )
        self._transport = transport
        self._record = record
        # Connections and locks belong to a loop; one client may be used on several.
        self._loops: WeakKeyDictionary[asyncio.AbstractEventLoop, _OnLoop] = WeakKeyDictionary()
        self._token: tuple[TokenSource, Secret] | None = None  # the last one, and the callable that gave it
        self._last: Reply | None = None

    @property
    def base_url(self) -> str:
        """Where requests go."""
        return self._settings.base_url

    @property
    def identity(self) -> list[JSON]:
        """Who is asked, and as whom, as far as the settings say: equal for equal, and without secrets."""
        settings = self._settings
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
            HaloError: on entering, when the message was not taken; while iterating, when
                the reply broke off.
        """
        return AsyncReplyStream(self, self.prepare(message, **fields), ask_here)

    async def ask(self, message: str, **fields: Unpack[RequestFields]) -> Reply:
        """Send `message` and return the streamed reply once it has ended. See `stream`."""
        async with self.stream(message, **fields) as stream:
            return await stream.to_end()

    async def chat(self, message: str, **fields: Unpack[RequestFields]) -> Reply:
        """Send `message` to the endpoint that answers in one piece. See `stream`.

        The answer's JSON is kept on `Reply.raw`; its text is the first of the fields
        `response`, `message`, `text`, `reply` and `content` that is a string.

        Raises:
            ReplyUnreadable: when the answer is no JSON object.
        """
        async with AsyncReplyStream(self, self.prepare(message, **fields), ask_here, path="/chat") as whole:
            return await whole.to_end()

    def prepare(self, message: str, **fields: Unpack[RequestFields]) -> Request:
        """Check a request without sending it. Raises as `stream` does at once."""
        settings = self._settings
        defaults = {name: getattr(settings, name) for name in ("user_id", "agent_id", "user_token")}
        return checked_request(message, fields, defaults)

    def dry_run(self, request: Request, path: str = "/chat/stream") -> dict[str, JSON]:
        """The exact request as JSON, its secrets as 'set'; nothing is sent."""
        body = dict(request.body)
        if request.user_token is not None:
            body["user_token"] = "set"  # noqa: S105  # which is what is shown in its place
        return {
            "method": "POST",
            "url": self._settings.base_url + path,
            "headers": {**_headers("set")},
            "body": body,
        }

    def debug(self) -> dict[str, JSON]:
        """One snapshot of the client's state that can be shared: secrets are 'set' or 'unset'."""
        settings = self._settings
        token = settings.user_token
        return {
            "base_url": settings.base_url,
            "api_key": "unset" if self._offline else "set",
            "user_id": settings.user_id,
            "user_token": "set" if token is not None else "unset",
            "user_token_is_callable": callable(token),
            "agent_id": settings.agent_id,
            "connect_timeout_s": settings.connect_timeout_s,
            "silence_timeout_s": settings.silence_timeout_s,
            "max_retries": settings.max_retries,
            "max_record_bytes": settings.max_record_bytes,
            "transport": type(self._transport).__name__ if self._transport else "network",
            "last_status": self._last.status if self._last else None,
            "last_error": self._last.error if self._last else None,
            "last_session_id": self._last.session_id if self._last else None,
            "last_agent_id": self._last.agent_id if self._last else None,
        }

    def copy(self, transport: Transport | None = None, **settings: Any) -> AsyncHaloClient:
        """Another client with these settings changed, and with connections of its own.

        Args:
            transport: in place of the network, where this client has no transport of its own.
            settings: as for the constructor.
        """
        made = copy.copy(self)
        made._transport = self._transport or transport
        made._settings = dataclasses.replace(self._settings, **settings)
        made._loops = WeakKeyDictionary()
        return made

    async def aclose(self) -> None:
        """Close the connections on this loop. The client can be used again; it opens new ones."""
        on_loop = self._loops.pop(asyncio.get_running_loop(), None)
        if on_loop is not None:
            await on_loop.aclose()

    async def __aenter__(self) -> AsyncHaloClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.base_url!r}, api_key set)"

    def _on_loop(self) -> _OnLoop:
        """What belongs to the running loop, made when first asked for."""
        loop = asyncio.get_running_loop()
        on_loop = self._loops.get(loop)
        if on_loop is None:
            transport = self._transport or _network()
            if isinstance(transport, Sender):
                on_loop = _OnLoop(None, transport, asyncio.Lock())
            else:
                on_loop = _OnLoop(self._made_http(transport), None, asyncio.Lock())
            self._loops[loop] = on_loop
        return on_loop

    def _made_http(self, transport: httpx.AsyncBaseTransport | None) -> httpx.AsyncClient:
        import httpx

        settings = self._settings
        try:
            return httpx.AsyncClient(
                transport=transport,
                timeout=httpx.Timeout(
                    settings.silence_timeout_s, connect=settings.connect_timeout_s, pool=None
                ),
                # Each turn has a connection of its own: a kept one may be closed by the server just as
                # the message goes out, and a message that may have arrived cannot be sent again.
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
                follow_redirects=False,
                # Without https no certificates are needed, and loading them takes its time.
                verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                if settings.base_url.startswith("http:")
                else True,
                # A proxy from the environment must not see what goes to this machine.
                trust_env=not is_loopback(settings.base_url),
            )
        except Exception as error:  # an odd proxy or certificate in the environment raises many kinds
            why = _shown(str(error), 120, [self._settings.api_key])
            raise ConfigError(
                f"The network could not be set up ({why}). Nothing was sent; check the proxy and certificate "
                "variables (HTTPS_PROXY, ALL_PROXY, SSL_CERT_FILE)."
            ) from error

    async def _user_token(self, request: Request, ask: _AskCaller, refused: Secret | None) -> Secret | None:
        """The token to send, asked for anew after `refused` and when it has expired; None for none."""
        source = request.user_token
        if source is None or self._offline:
            return None
        if isinstance(source, Secret):
            if _has_expired(source):
                raise ConfigError(
                    "The user token has expired. Nothing was sent; give a fresh one, or a callable "
                    "that returns fresh ones."
                )
            return source
        # Many turns may find it expired at once, and one asks. Not where asking needs the thread that
        # reads the turn: it may be busy with another of them.
        lock = self._on_loop().token_lock if ask is ask_here else contextlib.nullcontext()
        async with lock:
            token = self._token[1] if self._token and self._token[0] == source else None
            if token is None or token == refused or _has_expired(token):
                token = await self._fresh_token(source, ask)
                self._token = (source, token)
            return token

    async def _fresh_token(self, source: Callable[[], str | Awaitable[str]], ask: _AskCaller) -> Secret:
        def asked() -> Any:
            try:
                return source()
            except StopIteration as error:  # which no future can carry: the turn would wait for ever
                raise RuntimeError("StopIteration") from error

        try:
            value = await ask(asked)
        except Exception as error:  # noqa: BLE001  # a user's callable may raise anything
            # Its text is left out, here and in tracebacks: who signs tokens may well put a secret in it.
            name = str(error) if str(error) == "StopIteration" else type(error).__name__
            raise ConfigError(
                f"The user_token callable raised {name}. The message was not taken; "
                "mend the callable and run again."
            ) from None
        if not isinstance(value, str) or not value.strip():
            raise ConfigError(
                f"The user_token callable returned {type(value).__name__} in place of a token. "
                "The message was not taken; mend the callable and run again."
            )
        token = checked_token(value)
        if _has_expired(token):
            raise ConfigError(
                "The user_token callable returned a token that has expired. The message was not taken; "
                "let it return a fresh one and run again."
            )
        return token


def _network() -> httpx.AsyncBaseTransport | None:
    """What reaches the network where there are no sockets; None for httpx's own."""
    if not threads.IN_BROWSER:
        return None
    from .transports.fetch import FetchTransport

    return FetchTransport()


def _headers(key: str) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        # A compressed reply would be held back until a block of it is full.
        "Accept-Encoding": "identity",
    }


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


@dataclass(frozen=True)
class _OnLoop:
    """What sends on one loop: httpx's client, or who does without it."""

    http: httpx.AsyncClient | None
    sender: Sender | None
    token_lock: asyncio.Lock

    async def aclose(self) -> None:
        for each in (self.http, self.sender):
            if each is not None:
                await each.aclose()


def _count(name: str, value: Any, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigError(f"{name} must be a whole number from {least}, not {value!r}. Nothing was sent.")
    return value


def _seconds(name: str, value: Any) -> float:
    if not (isinstance(value, (int, float)) and value > 0 and not math.isnan(value)):
        raise ConfigError(f"{name} must be a number of seconds above 0, not {value!r}. Nothing was sent.")
    return float(value)


class AsyncReplyStream:
    """One turn on the wire: an async context manager that iterates the reply's events.

    Attributes:
        request: what is sent.
        reply: what has arrived; it grows, and is kept whatever ends the stream.
        attended: whether somebody is there to let a `Replay` by steps go on. Set it before the stream
            is entered.
        played: the recorded exchange that a `Replay` serves it from, whose clock it goes by; None else.
    """

    def __init__(
        self, client: AsyncHaloClient, request: Request, ask: _AskCaller, path: str = "/chat/stream"
    ) -> None:
        self.request = request
        self.reply = Reply()
        self._client = client
        self._settings = client._settings
        self.attended = False
        self.played: Play | None = None
        self._ask = ask
        self._path = path
        self._tries = 0
        self._batches: AsyncGenerator[list[Event], None] | None = None
        self._events: AsyncGenerator[Event, None] | None = None
        self._written_at = time.perf_counter()
        self._answer: Answer | None = None
        self._secrets: list[Secret] = [self._settings.api_key]

    @property
    def state(self) -> str:
        """One line on where things stand, such as ``waiting for the agent``."""
        return self.reply.state

    @state.setter
    def state(self, state: str) -> None:
        if state != self.reply.state:
            self.reply.state = state
            self.reply.watchers.tell(self.reply)

    @property
    def may_have_arrived(self) -> bool:
        """Whether the message, or a part of it, has left."""
        return self.reply.may_have_arrived

    @may_have_arrived.setter
    def may_have_arrived(self, may_have: bool) -> None:
        self.reply.may_have_arrived = may_have

    async def __aenter__(self) -> AsyncReplyStream:
        if self._events is not None:
            raise UsageError(
                "This stream has been opened before. Nothing was sent; make another for each turn."
            )
        self._batches = self._run()
        self._events = self._each(self._batches)
        self._client._last = self.reply
        try:
            self._answer = await self._send_until_taken()
        except BaseException as error:
            self._end(error)
            raise
        sent_id = self.request.body.get("session_id")
        self.reply.session_id = _checked_id(_header(self._answer, "X-Session-Id") or sent_id)
        self.reply.agent_id = _checked_id(_header(self._answer, "X-Agent-Id"))
        self.state = "waiting for the agent"
        return self

    def __aiter__(self) -> AsyncIterator[Event]:
        if self._events is None:
            raise UsageError(_NOT_ENTERED)
        return self._events

    async def to_end(self) -> Reply:
        """Read what is left of the reply and return it: for one who needs no event. Raises as iterating."""
        if self._batches is None:
            raise UsageError(_NOT_ENTERED)
        async for _ in self._batches:
            pass
        return self.reply

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Left early, by a break or an exception of the caller's own: the user stopped it.
        try:
            for generator in (self._events, self._batches):
                if generator is not None:
                    await generator.aclose()
        finally:
            self._end(None)
            if self._answer is not None:
                await self._answer.aclose()

    async def _run(self) -> AsyncGenerator[list[Event], None]:
        answer = self._answer
        assert answer is not None, "entering the stream made it"
        in_one = None if self._path == "/chat/stream" else _InOnePiece()
        parser = in_one or StreamParser(max_record_bytes=self._settings.max_record_bytes)
        try:
            try:
                with self._mapped_errors():
                    async for chunk in answer.aiter_bytes():
                        yield self._taken_in(parser.feed(chunk))
            finally:
                # What a broken stream still held is part of what had arrived.
                rest = self._taken_in(parser.close())
            if in_one is not None:
                self._take_fields(in_one.content)
            yield rest
            self._check_kind(answer, in_one)
        except BaseException as error:
            self._end(error)
            raise
        self._end(None, complete=True)

    async def _each(self, batches: AsyncGenerator[list[Event], None]) -> AsyncGenerator[Event, None]:
        async for events in batches:
            for event in events:
                yield event

    def _taken_in(self, events: list[Event]) -> list[Event]:
        """The events, all of which the reply has by then: a caller may leave after any."""
        if events:
            self.state = "streaming"
            at_s = self._now()
            for event in events:
                self.reply.add(event, at_s)
        return events

    def _take_fields(self, content: dict[str, JSON] | None) -> None:
        if content is not None:
            self.reply.raw = content
            self.reply.session_id = _checked_id(content.get("session_id")) or self.reply.session_id
            self.reply.agent_id = _checked_id(content.get("agent_id")) or self.reply.agent_id

    def _check_kind(self, answer: Answer, in_one: _InOnePiece | None) -> None:
        """Raise when what has come to its end cannot be a reply."""
        if in_one is not None:
            if in_one.content is None:
                raise ReplyUnreadable(
                    "The answer is not a JSON object. Its text and the session are kept. "
                    f"{_MAY_HAVE_ARRIVED}."
                )
            return
        declared = _header(answer, "Content-Type")
        if declared is not None and not declared.lower().startswith("text/plain"):
            raise ReplyUnreadable(
                f"The answer is declared as {_shown(declared, 60, self._secrets)}, not as the text/plain of "
                "a reply, so it may not be the agent's. Its text and the session are kept; check "
                f"HALO_BASE_URL. {_MAY_HAVE_ARRIVED}."
            )

    def _end(self, error: BaseException | None, *, complete: bool = False) -> None:
        """Say once why the reply has ended."""
        reply = self.reply
        if reply.status != "streaming":
            return
        reply.elapsed_s = self._now()
        reply.state = ""
        # The status last: another thread that sees it takes the rest as it is then.
        if complete:
            reply.status = "complete"
        elif isinstance(error, HaloError):
            error.reply = reply
            reply.error = str(error)
            reply.status = "failed"
        elif isinstance(error, Exception):
            reply.error = type(error).__name__
            reply.status = "failed"
        else:
            reply.status = "stopped"
        reply.watchers.tell(reply)

    def _now(self) -> float:
        return self.played.now_s() if self.played else time.perf_counter() - self._written_at

    async def _send_until_taken(self) -> Answer:
        """Send the request, again only while it certainly has not arrived; return the 200."""
        refused: Secret | None = None
        while True:
            token = await self._client._user_token(self.request, self._ask, refused)
            try:
                return await self._send_once(token)
            except IdentityError:
                asks = callable(self.request.user_token) and not self._client._offline
                if refused is not None or not asks:
                    raise
                refused = token
                self.may_have_arrived = False
            except (ConnectionFailed, RateLimited, ServerError) as error:
                wait_s = self._retry_wait_s(error)
                if wait_s is None:
                    raise
                self.reply.retries += 1
                self.may_have_arrived = False
                self.state = f"not taken yet, trying again in {wait_s:g} s"
                await (self.played.sleep if self.played else asyncio.sleep)(wait_s)
                self.state = "connecting"

    def _retry_wait_s(self, error: HaloError) -> float | None:
        """How long to wait before sending again; None when it must not be, or not any more."""
        if self.reply.retries >= self._settings.max_retries:
            return None
        backoff_s: float = _BACKOFF_S * 2**self.reply.retries
        if isinstance(error, StatusError):
            if error.retry_after_s is not None:
                return error.retry_after_s if error.retry_after_s <= MAX_RETRY_WAIT_S else None
            return backoff_s if isinstance(error, RateLimited) else None
        return backoff_s

    async def _send_once(self, token: Secret | None) -> Answer:
        body = dict(self.request.body)
        if token is not None:
            body["user_token"] = token.reveal()
            self._secrets.append(token)
        content = _as_json(body).encode("utf-8", "replace")
        post = partial(self._post, self._client._on_loop(), content)
        self._tries += 1
        self._written_at = time.perf_counter()
        # What tells when it begins to write is believed; of another transport nothing is known.
        transport = self._client._transport
        self.may_have_arrived = transport is not None and not getattr(transport, "traces", False)
        with self._mapped_errors():
            answer = await self._answered(post)
        if answer.status_code == 200:
            return answer
        try:
            raise _status_error(answer, await _bounded_body(answer), self._secrets)
        finally:
            await answer.aclose()

    async def _answered(self, post: Callable[[], Awaitable[Answer]]) -> Answer:
        if self._client._record is None:
            return await post()
        return await self._client._record.send(
            post,
            shown=self._client.dry_run(self.request, self._path),
            path=self._path,
            tries=self._tries,
            secrets=self._secrets,
            now_s=self._now,
            may_have_arrived=lambda: self.may_have_arrived,
            silence_s=self._settings.silence_timeout_s,
        )

    async def _post(self, on_loop: _OnLoop, content: bytes) -> Answer:
        settings = self._settings
        url, headers = settings.base_url + self._path, _headers(settings.api_key.reveal())
        if on_loop.sender is not None:
            return await on_loop.sender.post(
                url,
                headers,
                content,
                connect_s=settings.connect_timeout_s,
                silence_s=settings.silence_timeout_s,
                leaves=self._leaves,
                has_left=self._has_left,
            )
        assert on_loop.http is not None, "one of the two sends"
        extensions: dict[str, Any] = {"trace": self._trace}
        if self._client._offline:
            extensions["halo_turn"] = self
        request = on_loop.http.build_request(
            "POST", url, headers=headers, content=content, extensions=extensions
        )
        return await on_loop.http.send(request, stream=True)

    async def _trace(self, name: str, info: Mapping[str, Any]) -> None:
        # Only the network transport tells; for another the time of sending stands.
        if name.endswith("send_request_headers.started"):
            self._leaves()
        if name.endswith("send_request_body.complete"):
            self._has_left()

    def _leaves(self) -> None:
        self.may_have_arrived = True

    def _has_left(self) -> None:
        self._written_at = time.perf_counter()
        self.state = "waiting for the agent"

    @contextlib.contextmanager
    def _mapped_errors(self) -> Iterator[None]:
        """Turn what the transport raises into this package's errors."""
        try:
            yield
        except (HaloError, GeneratorExit):
            raise
        except Exception as error:
            raise self._mapped(error) from error

    def _mapped(self, error: Exception) -> HaloError:
        table = _transport_errors()
        kind, what = next(
            (table[cls] for cls in type(error).__mro__ if cls in table),
            (ReplyInterrupted, f"the transport raised {type(error).__name__}"),
        )
        what = what.format(
            host=urlsplit(self._settings.base_url).netloc,
            connect_s=self._settings.connect_timeout_s,
            silence_s=(self.played and self.played.silence_s) or self._settings.silence_timeout_s,
            why=_shown(str(error) or type(error).__name__, 120, self._secrets),
        )
        what = what[0].upper() + what[1:]
        if kind is ConfigError:
            return ConfigError(f"{what}; check HALO_BASE_URL.")
        if kind is ConnectionFailed:
            return ConnectionFailed(
                f"{what}. The message was not sent and the session is kept; check HALO_BASE_URL and the "
                "network, then run again."
            )
        return kind(f"{what} before the reply had ended. {what_is_kept(self.reply)}. {_MAY_HAVE_ARRIVED}.")


class _InOnePiece:
    """Reads an answer that comes in one piece, in the way in which a `StreamParser` reads a stream.

    Attributes:
        content: its JSON, once it is closed; None when it is no object.
    """

    def __init__(self) -> None:
        self.content: dict[str, JSON] | None = None
        self._body = bytearray()

    def feed(self, data: bytes) -> list[Event]:
        self._body += data
        return []

    def close(self) -> list[Event]:
        text = self._body.decode("utf-8", "replace")
        # Half of one, or something else, is kept as it came.
        with contextlib.suppress(ValueError):
            content = decode_json(text)
            if isinstance(content, dict):
                self.content = content
                said = (content.get(name) for name in _TEXT_FIELDS)
                text = next((each for each in said if isinstance(each, str)), "")
        return [TextDelta(text)] if text else []


def _header(answer: Answer, name: str) -> str | None:
    """A header's value, or None when it is missing or empty."""
    return answer.headers.get(name) or None


def _checked_id(value: JSON) -> str | None:
    """An id as it came, opaque; None for what no id can be, which would be shown, kept and sent back."""
    usable = isinstance(value, str) and 0 < len(value) <= _MAX_ID_CHARS and value.isprintable()
    return cast(str, value) if usable else None


async def _bounded_body(answer: Answer) -> bytes:
    """The start of an error's body; what cannot be read of it is left out."""
    body = bytearray()
    # Whatever ends it, and a body that never ends: the status says what has to be said.
    with contextlib.suppress(Exception):
        async with asyncio.timeout(_ERROR_BODY_S):
            async for chunk in answer.aiter_bytes():
                body += chunk
                if len(body) >= _MAX_ERROR_BODY_BYTES:
                    break
    return bytes(body[:_MAX_ERROR_BODY_BYTES])


# --- The sync face ----------------------------------------------------------------------


class HaloClient:
    """Talks to a Halo agent from sync code, in a notebook's cell too.

    It takes the arguments of `AsyncHaloClient` and raises the same errors. Network I/O runs
    on a thread of its own; an interrupt (Ctrl-C, the kernel's Stop) closes the connection
    and keeps what had arrived.

    >>> from halo_notebook.demo import DEMO_KEY, DemoAgent
    >>> with DemoAgent(chunk_s=0) as agent, HaloClient(DEMO_KEY, base_url=agent.url) as client:
    ...     reply = client.ask("My name is Ada")
    >>> reply.status, reply.text[:16]
    ('complete', 'Nice to meet you')
    """

    def __init__(self, api_key: str | Secret | None = None, **settings: Any) -> None:
        self._client = AsyncHaloClient(api_key, **settings)

    @property
    def base_url(self) -> str:
        """Where requests go."""
        return self._client.base_url

    def stream(self, message: str, **fields: Unpack[RequestFields]) -> ReplyStream:
        """Send `message`; the result is a context manager that iterates the events.

        See `AsyncHaloClient.stream` for arguments and errors.
        """
        return ReplyStream(self._client, self._client.prepare(message, **fields))

    def ask(self, message: str, **fields: Unpack[RequestFields]) -> Reply:
        """Send `message` and return the streamed reply once it has ended. See `stream`."""
        return _to_end(self.stream(message, **fields))

    def chat(self, message: str, **fields: Unpack[RequestFields]) -> Reply:
        """Send `message` to the endpoint that answers in one piece.

        See `AsyncHaloClient.chat`.
        """
        return _to_end(self.chat_stream(message, **fields))

    def chat_stream(self, message: str, **fields: Unpack[RequestFields]) -> ReplyStream:
        """As `stream`, from the endpoint that answers in one piece: its text is one event."""
        return ReplyStream(self._client, self._client.prepare(message, **fields), path="/chat")

    def prepare(self, message: str, **fields: Unpack[RequestFields]) -> Request:
        """Check a request without sending it. Raises as `stream` does at once."""
        return self._client.prepare(message, **fields)

    def dry_run(self, request: Request, path: str = "/chat/stream") -> dict[str, JSON]:
        """The exact request as JSON, its secrets as 'set'; nothing is sent."""
        return self._client.dry_run(request, path)

    def debug(self) -> dict[str, JSON]:
        """One snapshot of the client's state that can be shared: secrets are 'set' or 'unset'."""
        return self._client.debug()

    def close(self) -> None:
        """Close the connections. The client can be used again; it opens new ones."""
        bridge.io_thread.run(self._client.aclose())

    def __enter__(self) -> HaloClient:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_url!r}, api_key set)"


def _to_end(stream: ReplyStream) -> Reply:
    with stream as events:
        for _ in events:
            pass
    return stream.reply


class ReplyStream:
    """One turn on the wire, for sync code: a context manager that iterates the reply's events.

    Its `request`, `reply`, `state`, `may_have_arrived` and `attended` are those of `AsyncReplyStream`.
    Leaving it early closes the connection and keeps what had arrived.
    """

    def __init__(self, client: AsyncHaloClient, request: Request, path: str = "/chat/stream") -> None:
        self._channel: bridge.Channel[Event | _Opened | _Ended | _Stop] = bridge.Channel()
        self._stream = AsyncReplyStream(client, request, self._channel.call, path)
        self._pumping: Any = None
        self._ended: _Ended | None = None

    @property
    def request(self) -> Request:
        return self._stream.request

    @property
    def reply(self) -> Reply:
        return self._stream.reply

    @property
    def state(self) -> str:
        return self._stream.state

    @property
    def may_have_arrived(self) -> bool:
        return self._stream.may_have_arrived

    @property
    def attended(self) -> bool:
        return self._stream.attended

    @attended.setter
    def attended(self, attended: bool) -> None:
        self._stream.attended = attended

    def open(self) -> None:
        """Start sending, without waiting for an answer. Entering does it too, and waits."""
        if self._pumping is None:
            self._pumping = bridge.io_thread.submit(self._pump())

    def __enter__(self) -> ReplyStream:
        self.open()
        try:
            self.next_event(None)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def __iter__(self) -> Iterator[Event]:
        while True:
            event = self.next_event(None)
            if event is not None:
                yield event
            elif self._ended:
                return

    def next_event(self, timeout_s: float | None) -> Event | None:
        """Return the next event; None when the server has just answered, when none came
        within `timeout_s`, and at the end (then `ended` is true).

        Raises:
            HaloError: when the message was not taken or the reply broke off.
        """
        if self._pumping is None:
            raise UsageError(_NOT_ENTERED)
        if self._ended is None:
            try:
                item = self._channel.get(timeout_s)
            except queue.Empty:
                return None
            if isinstance(item, _Opened):
                return None
            if isinstance(item, _Stop):
                self.stop()
                return None
            if not isinstance(item, _Ended):
                return item
            self._ended = item
            if item.error is not None:
                raise item.error
        return None

    @property
    def ended(self) -> bool:
        """Whether the last event has been given."""
        return self._ended is not None

    def ask_to_stop(self) -> None:
        """Have the thread that reads this stream stop it. From any thread, and at any time."""
        self._channel.put(_Stop())

    def stop(self) -> None:
        """Close the connection, keeping what had arrived. Does nothing after the end.

        For the thread that reads this stream; `ask_to_stop` is for the others.
        """
        if self._pumping is None:
            self._stream._end(None)  # never sent, and never will be by who stops it
        if self._pumping is None or self._ended:
            return
        self._pumping.cancel()
        deadline = time.monotonic() + bridge.STOP_WAIT_S
        with contextlib.suppress(queue.Empty):
            while not isinstance(
                self._channel.get(max(0.0, deadline - time.monotonic()), calls=False), _Ended
            ):
                pass
        self._ended = _Ended(None)
        self._stream._end(None)  # in case that closing takes longer than is waited for

    async def _pump(self) -> None:
        """On the I/O thread: hand the events over to the thread that waits for them."""
        error: BaseException | None = None
        try:
            async with self._stream as events:
                self._channel.put(_Opened())
                async for event in events:
                    self._channel.put(event)
        except BaseException as caught:
            error = caught
            if not isinstance(caught, Exception):
                raise
        finally:
            # A cancelled stream has no error: whoever cancelled it knows.
            self._channel.put(_Ended(error if isinstance(error, Exception) else None))


class _Opened:
    """The server has answered 200."""


class _Stop:
    """Somebody asks for the end."""


@dataclass(frozen=True)
class _Ended:
    error: Exception | None
