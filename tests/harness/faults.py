"""Every way in which an exchange can fail, and what is promised for it.

Each fault is met twice: by the client and by a cell.
"""

from __future__ import annotations

from dataclasses import dataclass

from halo_notebook import errors


@dataclass(frozen=True)
class Fault:
    """What a client promises when the demo agent suffers the fault `name`.

    Attributes:
        error: the error raised; None when the reply is complete all the same.
        words: what the error's line holds.
        text: what the reply's text holds.
        sent: how many requests may be sent: 3 where a message certainly did not arrive.
    """

    name: str
    error: type[errors.HaloError] | None
    words: tuple[str, ...] = ()
    text: str = ""
    sent: int = 1


NOT_AGAIN = "not sent again automatically"
FAULTS = [
    Fault("400", errors.BadRequest, ("refused the request (400: Bad request",)),
    Fault("401", errors.AuthenticationError, ("refused the key (401", "HALO_API_KEY")),
    Fault("403", errors.IdentityError, ("refused the user (403", "user_token")),
    Fault("404", errors.NotFound, ("no Halo API at the base URL (404", "HALO_BASE_URL")),
    Fault("413", errors.BadRequest, ("too large for the server (413", "smaller images")),
    Fault("422", errors.BadRequest, ("could not process the request (422",)),
    Fault("429", errors.RateLimited, ("Rate limit reached (429", "wait and run again"), sent=3),
    Fault("429 retry-after", errors.RateLimited, ("(429", "wait 1 s and run again"), sent=3),
    Fault("429 retry-after 90", errors.RateLimited, ("(429", "wait 90 s and run again")),
    Fault("500", errors.ServerError, ("service failed (500", NOT_AGAIN)),
    Fault("502", errors.ServerError, ("service failed (502).", NOT_AGAIN)),
    Fault("503", errors.ServerError, ("service failed (503", NOT_AGAIN)),
    Fault("503 retry-after", errors.ServerError, ("temporarily unavailable (503", "wait 1 s"), sent=3),
    Fault("504", errors.ServerError, ("service failed (504", NOT_AGAIN)),
    Fault("redirect", errors.StatusError, ("redirected the request (307", "HALO_BASE_URL")),
    Fault("cut text", errors.ReplyInterrupted, ("connection broke off", NOT_AGAIN), "This reply will be cut"),
    Fault(
        "cut record", errors.ReplyInterrupted, ("connection broke off", NOT_AGAIN), "This reply will be cut"
    ),
    Fault(
        "stall", errors.ReplyTimeout, ("silent for 1 s", "The reply so far", NOT_AGAIN), "This reply stalls"
    ),
    Fault("stall first", errors.ReplyTimeout, ("silent for 1 s", "The session is kept", NOT_AGAIN)),
    Fault("close", errors.ReplyInterrupted, ("connection broke off", NOT_AGAIN)),
    Fault("content type", errors.ReplyUnreadable, ("declared as text/html", "HALO_BASE_URL"), "This reply"),
    Fault("json", errors.ReplyUnreadable, ("declared as application/json",), "This reply"),
    Fault("drip", None, text="drip"),
    Fault("empty", None),
    Fault("no headers", None, text="without its headers"),
    Fault("utf-8", None, text="�"),
    Fault("malformed", None, text="This reply holds a record that is not JSON"),
    Fault("many actions", None, text="actions"),
]
