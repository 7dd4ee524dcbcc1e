"""The error tree. Every message says what failed, what was kept and what to do next.

`arrived` says whether the message arrived: ``no``; ``refused``, when the server did not take it; ``maybe``.

    HaloError
    ├── ConfigError            no       a setting is missing or unsafe
    ├── InvalidRequest         no       a field is not what the API takes
    ├── UsageError             no       a magic, a stream or a method was used in a way that it does not allow
    ├── RequirementFailed      no       a result of an evaluation is not good enough; also an AssertionError
    ├── ConnectionFailed       no       there was no connection; the message may be sent again (by hand, if
    │                                   the certificate is not trusted)
    ├── StatusError            maybe    the server answered with an error status (4xx: refused)
    │   ├── BadRequest             refused  400, 413, 422
    │   ├── AuthenticationError    refused  401
    │   ├── IdentityError          refused  403
    │   ├── NotFound               refused  404
    │   ├── RateLimited            refused  429; the message may be sent again
    │   └── ServerError            maybe    5xx (503 with `Retry-After`: refused, may be sent again)
    └── ReplyError             maybe    the reply broke off
        ├── ReplyTimeout           maybe    the agent was silent for longer than the limit
        ├── ReplyInterrupted       maybe    the connection failed in the middle of the reply
        ├── ReplyUnreadable        maybe    the answer is not a reply of this API
        └── ReplyStopped           maybe    the user stopped it (no: before the message was sent)

No message holds a secret. In IPython a `HaloError` shows as its one line, without a
traceback, and the cell fails, so that Run All stops there.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from .reply import Reply

Arrived: TypeAlias = Literal["no", "refused", "maybe"]


class HaloError(Exception):
    """Anything this package reports as failed.

    Attributes:
        reply: the part of the reply that was received, or None when there was none.
        arrived: whether the message arrived, see the module.
        again_s: seconds after which the same message may be sent again; None when it may not.
    """

    reply: Reply | None = None
    arrived: Arrived = "no"
    again_s: float | None = None

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: the one line."""
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"  # IPython fails at what it cannot write
        return [f"{type(self).__name__}: {self}".encode(encoding, "replace").decode(encoding)]


class ConfigError(HaloError):
    """A setting is missing or unsafe. Nothing was sent."""


class InvalidRequest(HaloError, ValueError):
    """A field is not what the API takes. Nothing was sent."""


class UsageError(HaloError):
    """A magic, a stream or a method was used in a way that it does not allow. Nothing was sent."""


class RequirementFailed(HaloError, AssertionError):
    """A result of an evaluation does not meet a requirement. Nothing was sent.

    It is an AssertionError, so that pytest reports a test that failed, and not one with an error.
    """


class ConnectionFailed(HaloError):
    """There was no connection: the message certainly did not arrive."""

    again_s: float | None = 0.0


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
        status_code: int = 0,  # a default, because unpickling passes only the message
        detail: str = "",
        docs_url: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.detail = detail
        self.docs_url = docs_url
        self.retry_after_s = retry_after_s
        put_off = status_code == 429 or (status_code == 503 and retry_after_s is not None)
        self.again_s = (retry_after_s or 0.0) if put_off else None
        self.arrived = "refused" if put_off or 400 <= status_code < 500 else "maybe"


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

    arrived: Arrived = "maybe"


class ReplyTimeout(ReplyError):
    """The agent was silent for longer than the limit."""


class ReplyInterrupted(ReplyError):
    """The connection failed before the reply had ended."""


class ReplyUnreadable(ReplyError):
    """The answer is not a reply of this API."""


class ReplyStopped(ReplyError):
    """The user stopped the reply."""


def check_installed(what: str, extra: str, *names: str, outcome: str = "Nothing was sent") -> None:
    """Name a missing package now, and not after everything has been sent."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UsageError(
                f"{what} needs the package {name}. {outcome}; run "
                f"python -m pip install 'halo-notebook[{extra}]' where the kernel runs."
            )
