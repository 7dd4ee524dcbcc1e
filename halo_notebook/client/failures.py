"""What can fail in an exchange: a transport's errors and the server's statuses, as this package's errors."""

from __future__ import annotations

import contextlib
import math
import re
import time
from datetime import UTC
from typing import TYPE_CHECKING

from ..display.wording import what_is_kept
from ..errors import (
    AuthenticationError,
    BadRequest,
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
)
from ..stream import JSON, decode_json
from .masking import shown
from .transports.protocol import BrokeOff, NotConnected, NotTrusted, Silent, Unreadable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..reply import Reply
    from .secrets import Secret
    from .transports.protocol import Incoming

MAY_HAVE_ARRIVED = (
    "The message may have arrived and is not sent again automatically; run it again only if sending it "
    "twice is safe"
)

TRANSPORT_ERRORS: dict[type[BaseException], tuple[type[HaloError], str]] = {
    NotConnected: (ConnectionFailed, "No connection to {host} ({why})"),
    NotTrusted: (ConnectionFailed, "No connection to {host}: its certificate is not trusted ({why})"),
    Silent: (ReplyTimeout, "The agent was {why}"),
    BrokeOff: (ReplyInterrupted, "The connection broke off{reason}"),
    Unreadable: (ReplyUnreadable, "The reply could not be read ({why})"),
}
_DAY_S = 24 * 3600.0
_SINCE_1970_S = 1e9  # a larger number of seconds, about 32 years, is a time
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]*)?|\.[0-9]{1,15}")
_CERTIFICATE = (
    "check HALO_BASE_URL and this computer's clock; if your network has a certificate authority of its own, "
    "set SSL_CERT_FILE to its certificate"
)
_STATUS_ERRORS: dict[int, tuple[type[StatusError], str, str]] = {
    400: (BadRequest, "Halo refused the request", "fix the field it names and run again"),
    401: (AuthenticationError, "Halo refused the key", "check HALO_API_KEY, or run %halo connect"),
    403: (IdentityError, "Halo refused the user", "give a valid user_token for the user_id, or leave it out"),
    404: (NotFound, "There is no Halo API at the base URL", "check HALO_BASE_URL"),
    413: (BadRequest, "The request is too large for the server", "send smaller images or less context"),
    422: (BadRequest, "Halo could not process the request", "fix the field it names and run again"),
    429: (RateLimited, "Rate limit reached", "wait{wait} and run again"),
}


def retry_wait_s(error: HaloError, retries: int, *, first_s: float, longest_s: float) -> float | None:
    """Seconds to wait before the message is sent again; None when it must not be.

    Where the server asks for no time, it is `first_s` and doubles with each of the `retries` so far. If the
    server asks for more than `longest_s`, the message is not sent again.
    """
    if error.again_s is None or error.again_s > longest_s:
        return None
    return error.again_s or first_s * 2.0**retries


def transport_error(
    error: BaseException, reply: Reply, host: str, secrets: Sequence[Secret], *, answered: bool
) -> HaloError:
    """What a transport raised, as an error of this package; a caller's own transport may raise anything.

    `answered`: whether the server has answered the message.
    """
    why = shown(str(error), 120, secrets)
    kind, what = TRANSPORT_ERRORS.get(
        type(error), (ReplyInterrupted, f"The transport raised {type(error).__name__}")
    )
    what = what.format(host=host, why=why, reason=f" ({why})" if why else "")
    if kind is ConnectionFailed and not answered:
        again = not isinstance(error, NotTrusted)
        todo = "check HALO_BASE_URL and the network" if again else _CERTIFICATE
        failed = kind(f"{what}. The message was not sent and the session is kept; {todo}, then run again.")
        failed.again_s = failed.again_s if again else None
        return failed
    kind = ReplyInterrupted if kind is ConnectionFailed else kind
    return kind(f"{what} before the reply had ended. {what_is_kept(reply)}. {MAY_HAVE_ARRIVED}.")


def status_error(incoming: Incoming, body: bytes, secrets: Sequence[Secret]) -> StatusError:
    """An answer with a status other than 200, as an error; `body` is the start of its body."""
    code = incoming.status
    detail, docs_url = _detail(body, secrets)
    retry_after_s = _retry_after_s(incoming.headers)
    wait = ""
    if retry_after_s:
        wait = f" {math.ceil(retry_after_s):,} s" if retry_after_s < _DAY_S else " more than a day"
    status = f" ({code}: {detail})" if detail else f" ({code})"
    if code in _STATUS_ERRORS:
        kind, what, todo = _STATUS_ERRORS[code]
        message = f"{what}{status}. The session is kept; {todo.format(wait=wait)}."
    elif code == 503 and retry_after_s is not None:
        kind = ServerError
        message = f"Halo is temporarily unavailable{status}. The session is kept; wait{wait} and run again."
    elif 300 <= code < 400:
        kind = StatusError
        message = (
            f"The server redirected the request{status}. Redirects are not followed, so that the key goes "
            "nowhere else. The session is kept; check HALO_BASE_URL."
        )
    elif 400 <= code < 500:
        kind = StatusError
        message = f"Halo refused the request{status}. The session is kept; fix what it names and run again."
    else:
        kind = ServerError if code >= 500 else StatusError
        what = "The service failed" if code >= 500 else "The server gave no reply"
        message = f"{what}{status}. The session is kept. {MAY_HAVE_ARRIVED}."
    return kind(message, status_code=code, detail=detail, docs_url=docs_url, retry_after_s=retry_after_s)


def _detail(body: bytes, secrets: Sequence[Secret]) -> tuple[str, str | None]:
    """The `error` and `docs_url` of the answer's JSON, each in one line."""
    content: JSON = None
    with contextlib.suppress(ValueError):
        content = decode_json(body.decode("utf-8", "replace"))
    detail, url = (content.get(name) if isinstance(content, dict) else None for name in ("error", "docs_url"))
    text = shown(detail, 300, secrets).rstrip(".") if isinstance(detail, str) else ""
    is_url = isinstance(url, str) and url.startswith("https://")
    return text, shown(str(url), 300, secrets) if is_url else None


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The seconds that `Retry-After` asks for; None when it cannot be read.

    It may be a number of seconds, a date, or seconds or milliseconds since 1970. A time is counted from the
    answer's own `Date`, since this computer's clock may be wrong.
    """
    value = headers.get("retry-after", "").strip()
    if len(values := {each.strip() for each in value.split(",")}) == 1:  # the same header twice
        value = values.pop()
    at = _timestamp(value)
    if _NUMBER.fullmatch(value):
        at = float(value)
        if at < _SINCE_1970_S:
            return at
        at = at / 1000 if at > 100 * _SINCE_1970_S else at
    if at is None:
        return None
    sent_at = _timestamp(headers.get("date", ""))
    return max(0.0, at - (time.time() if sent_at is None else sent_at))


def _timestamp(date: str) -> float | None:
    """A date of HTTP in seconds since 1970, or None."""
    from email.utils import parsedate_to_datetime  # loading the magics does not need it

    try:
        at = parsedate_to_datetime(date)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, TypeError, LookupError):
        return None
