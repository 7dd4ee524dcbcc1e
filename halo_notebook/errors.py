"""The error tree. Every message says what failed, what was kept and what to do next.

    HaloError
    ├── ConfigError            a setting is missing or unsafe; nothing was sent
    ├── InvalidRequest         a field is not what the API takes; nothing was sent
    ├── UsageError             a magic or a stream is not used as it can be; nothing was sent
    ├── ConnectionFailed       no connection came about; the message did not arrive
    ├── StatusError            the server answered with an error status
    │   ├── BadRequest             400, 413, 422
    │   ├── AuthenticationError    401
    │   ├── IdentityError          403
    │   ├── NotFound               404
    │   ├── RateLimited            429
    │   └── ServerError            5xx
    └── ReplyError             the reply broke off; the message may have arrived
        ├── ReplyTimeout           silence for longer than the limit
        ├── ReplyInterrupted       the connection failed in mid-reply
        ├── ReplyUnreadable        what came is not a reply of this API
        └── ReplyStopped           the user stopped it

No message holds a secret. In IPython a `HaloError` shows as its one line, without a
traceback, and the cell fails, so that Run All stops there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .reply import Reply


class HaloError(Exception):
    """Anything this package reports as failed.

    Attributes:
        reply: what had arrived of the reply, or None when none had begun.
    """

    reply: Reply | None = None

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: the one line."""
        return [f"{type(self).__name__}: {self}"]


class ConfigError(HaloError):
    """A setting is missing or unsafe. Nothing was sent."""


class InvalidRequest(HaloError, ValueError):
    """A field is not what the API takes. Nothing was sent."""


class UsageError(HaloError):
    """A magic's line or a stream is not used as it can be. Nothing was sent."""


class ConnectionFailed(HaloError):
    """No connection came about: the message certainly did not arrive."""


class StatusError(HaloError):
    """The server answered with an error status.

    Attributes:
        status_code: the HTTP status.
        detail: the server's own words (its JSON `error`), without control characters.
        docs_url: the page that the server points to, or None.
        retry_after_s: the seconds that `Retry-After` asks for, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int = 0,  # a default, since unpickling gives the message alone
        detail: str = "",
        docs_url: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.detail = detail
        self.docs_url = docs_url
        self.retry_after_s = retry_after_s


class BadRequest(StatusError):
    """The server refused the request's content (400, 413, 422)."""


class AuthenticationError(StatusError):
    """The key is missing or wrong (401)."""


class IdentityError(StatusError):
    """Identity verification is on and the user token did not prove the user (403)."""


class NotFound(StatusError):
    """There is no such page at the base URL (404)."""


class RateLimited(StatusError):
    """Too many requests (429). The message was not taken."""


class ServerError(StatusError):
    """The service failed (5xx)."""


class ReplyError(HaloError):
    """The reply broke off. The message may have arrived, so it is not sent again."""


class ReplyTimeout(ReplyError):
    """The agent was silent for longer than the limit."""


class ReplyInterrupted(ReplyError):
    """The connection failed before the reply had ended."""


class ReplyUnreadable(ReplyError):
    """What came is not a reply of this API."""


class ReplyStopped(ReplyError):
    """The user stopped the reply."""
