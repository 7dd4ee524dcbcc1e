"""The demo agent's faults: answers that a client must cope with, by name."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from ..stream import JSON, Action, ActionSummary
from .protocol import BASE_PATH, Answer, Ending, Step, chat_answer, error_answer, stream_answer

_Fault: TypeAlias = Callable[[str, str], Answer]
"""Takes the ids of the session and the agent that a reply is sent under."""


def _streamed(*steps: Step, ending: Ending = "end") -> _Fault:
    return lambda session_id, agent_id: stream_answer(steps, session_id, agent_id, ending)


def _always(answer: Answer) -> _Fault:
    return lambda session_id, agent_id: answer


_DRIP = "This reply drips, byte by byte … done.".encode()
_ACTIONS: list[JSON] = [
    {"type": "highlight", "selector": f"#row-{row}", "number": row} for row in range(1, 201)
]
_PAGE = b"<!doctype html><title>Sign in</title><p>This reply is a page of HTML, not a stream.</p>"
_MOVED = f"{BASE_PATH}/moved/chat/stream"
_STATUSES = {
    400: "Bad request",
    401: "Missing or invalid API key",
    403: "Identity verification failed",
    404: "Not found",
    413: "The request is too large",
    422: "The request cannot be processed",
    429: "Too many requests",
    500: "Internal server error",
    502: "Bad gateway",
    503: "Service unavailable",
    504: "The agent took too long",
}
_FAULTS: dict[str, _Fault] = {
    "redirect": _always(error_answer(307, f"Asked for: moved to {_MOVED}", (("Location", _MOVED),))),
    "cut text": _streamed(b"This reply will be cut in the middle of a sen", ending="cut"),
    "cut record": _streamed(
        b"This reply will be cut inside a record. ", b'\x1e__ACTION__{"type": "hi', ending="cut"
    ),
    "stall": _streamed(b"This reply stalls here: the rest never comes,", ending="silence"),
    "stall first": _always(Answer(None, ending="silence")),
    "drip": _streamed(*(step for at in range(len(_DRIP)) for step in (_DRIP[at : at + 1], 0.02))),
    "empty": _streamed(),
    "content type": _always(Answer(200, (("Content-Type", "text/html; charset=utf-8"),), (_PAGE,))),
    "json": lambda session_id, agent_id: chat_answer(
        [b"This reply is one JSON answer, where a stream of text was due."], session_id, agent_id
    ),
    "no headers": _always(Answer(200, (), (b"This reply comes without its headers.",))),
    "utf-8": _streamed(
        b"This reply holds bytes that are not UTF-8: \xff\xfe and \xc3( and \xe2\x82. It goes on."
    ),
    "malformed": _streamed(
        b"This reply holds a record that is not JSON, ",
        b'\x1e__ACTION__{"type": "highlight", oops}\x1e',
        b"then a summary that is no array, ",
        b'\x1e__ACTIONS__{"type": "highlight"}\x1e',
        b"and goes on.",
    ),
    "many actions": _streamed(
        b"This reply sends 200 actions at once. ", *map(Action, _ACTIONS), ActionSummary(_ACTIONS)
    ),
    "close": _always(Answer(None, ending="cut")),
}

FAULTS = (*map(str, _STATUSES), "429 retry-after", "503 retry-after", *_FAULTS)
"""The names of all faults. ``retry-after`` may be followed by a number of seconds: ``429 retry-after 3``."""


def fault_answer(asked: str, session_id: str, agent_id: str) -> Answer:
    """Return the answer that the fault `asked` consists of; a 400 if the fault is unknown."""
    name = " ".join(asked.lower().split())
    if fault := _FAULTS.get(name):
        return fault(session_id, agent_id)
    found = re.fullmatch(r"(\d{3})|(429|503) retry-after ?(\d{0,6})", name)
    status = int(found[1] or found[2]) if found else 0
    if found is None or status not in _STATUSES:
        return error_answer(400, f"Unknown fault '{name}'. Faults: {', '.join(FAULTS)}.")
    error = f"{_STATUSES[status]} (the fault '{name}' was asked for)."
    if status == 502:
        # A bad gateway is reported by a proxy, which knows nothing of the API's JSON.
        page = f"<html><title>502 Bad Gateway</title><h1>{error}</h1></html>\n".encode()
        return Answer(status, (("Content-Type", "text/html"), ("Content-Length", str(len(page)))), (page,))
    return error_answer(status, error, (("Retry-After", found[3] or "1"),) if found[2] else ())
