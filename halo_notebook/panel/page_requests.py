"""What a page may ask for.

Requests run on the loop, whichever thread they arrive on, and in the order in which they arrive. A
request that arrives again is recognised by its id, and is only answered.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, cast

from ..client.request import checked_request
from ..concurrency.loop import IN_BROWSER, in_worker
from ..display.text import one_line
from ..errors import UsageError
from . import follower, outbox
from .answers import answer_to
from .versions import add_version, free_name
from .views import found_in

if TYPE_CHECKING:
    from ..recording.ratings import Verdict
    from ..session import Session, Turn
    from ..stream import JSON
    from .state import PanelState
    from .views import View

EXPORT_PART_CHARS = 300_000
"""An export goes to the page in parts of this size, which it asks for one by one."""
MAX_NOTE_CHARS = 2_000
MAX_NAME_CHARS = 100
"""Of a session that is named in the page, or by the file that it was opened from."""
_MAX_KNOWN = 1_000
_MAX_EXPORTS = 10

Request: TypeAlias = "dict[str, Any]"


class Asked(Protocol):
    """What has a page that asks.

    Attributes:
        closed: whether requests are dropped.
        requests: the ids of those that were received.
    """

    closed: bool
    requests: dict[str, None]

    def tell(self, kind: str, **content: JSON) -> None:
        """Send one message to the page."""


A = TypeVar("A", bound=Asked)
_log = logging.getLogger(__name__)


async def handle(state: PanelState, request: Any, buffers: Sequence[Any] = ()) -> None:
    """Do what a panel's page asks for, and answer. `buffers` are the binary parts of the request."""
    await answer(state, request, _HANDLERS, buffers)


async def answer(
    state: A, request: Any, handlers: Mapping[str, Callable[[A, Request], Any]], buffers: Sequence[Any] = ()
) -> None:
    """Do what the page asks for, by the handler of its kind, and answer what that returns."""
    if state.closed or not isinstance(request, dict) or not isinstance(cid := request.get("cid"), str):
        return
    answered: Any = None
    if cid not in state.requests:
        state.requests[cid] = None
        if len(state.requests) > _MAX_KNOWN:
            del state.requests[next(iter(state.requests))]
        answered = await answer_to(
            request, handlers, lambda handler: handler(state, {**request, "buffers": buffers})
        )
    state.tell("answer", cid=cid, **(answered or {}))


def _send(state: PanelState, request: Request) -> None:
    pictures = state.pictures.get(request.get("images", []))
    fields = {"images": [each.url for each in pictures]} if pictures else {}
    ids = tuple(each.id for each in pictures)
    _put(state, request, _text(request, "text"), fields, exact=False, pictures=ids)


def _upload(state: PanelState, request: Request) -> View:
    """Take the next part of a file; the answer asks for it as text if its buffer was lost on the way."""
    as_text = "base64" in request
    if as_text:
        data = base64.b64decode(_text(request, "base64"))
    else:
        data = b"".join(bytes(each) for each in request["buffers"])
    if len(data) != request.get("bytes"):
        if as_text:
            raise UsageError("A part of the file was damaged on its way. Nothing was changed; add it again.")
        return {"as_text": True}
    state.uploads.add(_text(request, "which"), request.get("part"), request.get("parts"), data)
    return {}


def _image(state: PanelState, request: Request) -> None:
    """Keep a file that has come in parts as an image, to be sent with a message."""
    name, thumbnail = _text(request, "name"), _text(request, "thumbnail")
    state.pictures.add(_text(request, "id"), name, state.uploads.take(_text(request, "which")), thumbnail)


def _again(state: PanelState, request: Request) -> None:
    turn, session = _turn(state, request), state.session
    given = _fields(turn, begins=session.starts_anew or session.session_id is None)
    _put(state, request, turn.message, given, exact=True)


async def _edit(state: PanelState, request: Request) -> None:
    """Send another message in place of a turn's, in a session that branches off there, and show that."""
    turn, text = _turn(state, request), _text(request, "text")
    if turn.reply.status == "streaming":
        raise UsageError("That turn still runs. Nothing was sent; stop it, or wait for its end.")
    fields = _fields(turn, begins=turn.sent_id is None)
    checked_request(text, fields, {})
    branch = add_version(state.register, state.session.branch(turn))
    outbox.put(state, branch, text, fields, cid=request["cid"], exact=True)
    state.publish("session_name", branch.name)
    await follower.show(state, branch)


def _fields(turn: Turn, *, begins: bool) -> dict[str, Any]:
    """The request fields of a turn, to send it again; its history only if that `begins` a conversation."""
    left_out = {"message", "session_id"} | (set() if begins else {"conversation_history"})
    return {name: value for name, value in turn.request.items() if name not in left_out}


def _put(
    state: PanelState,
    request: Request,
    text: str,
    fields: dict[str, Any],
    *,
    exact: bool,
    pictures: Sequence[str] = (),
) -> None:
    cid = request["cid"]
    outbox.put(state, state.session, text, fields, cid=cid, exact=exact, pictures=pictures)


def _rate(state: PanelState, request: Request) -> None:
    value, note = cast("Verdict", _text(request, "value")), _text(request, "note")[:MAX_NOTE_CHARS]
    state.session.rate(_turn(state, request), value, note)


async def _keep(state: PanelState, request: Request) -> View:
    """Add the conversation up to a turn to the file of test cases."""
    turn, expect, tags = _turn(state, request), _text(request, "expect"), request.get("tags")
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise UsageError("The page's request has no list of tags. Reload the page.")

    def keep() -> str:
        from ..evaluation.cases.keeping import keep_case  # heavy: needed here only

        return str(keep_case(turn.as_case(expect=expect or None, tags=tags), state.cases))

    # Another process may be writing the file, so not on the thread that renders replies.
    return {"kept": keep() if IN_BROWSER else await asyncio.to_thread(keep)}


async def _switch(state: PanelState, request: Request) -> None:
    name = _text(request, "name")
    name = name if name in state.register else name.strip()
    if name not in state.register and (not name or not name.isprintable() or len(name) > MAX_NAME_CHARS):
        raise UsageError("A session's name is one line of at most 100 characters. Nothing was changed.")
    state.publish("session_name", name)
    await follower.show(state, state.register.get(name))


async def _find(state: PanelState, request: Request) -> View:
    """The sessions whose messages or replies have a text, each with the place."""
    text = _text(request, "text")

    def found() -> list[JSON]:
        places = {name: found_in(state.register[name], text) for name in state.register}
        return [{"name": name, "place": place} for name, place in places.items() if place is not None]

    return {"found": await in_worker(found)}


async def _open(state: PanelState, request: Request) -> None:
    """Show an exported session that has come in parts, beside those that there are."""
    name = one_line(_text(request, "name"), MAX_NAME_CHARS)
    data = state.uploads.take(_text(request, "which"))

    def opened() -> Session:
        from ..recording.exported import checked_export
        from ..session import Session

        return Session.from_export(checked_export(data, name))

    # It may be large, so not on the thread that renders replies.
    session = opened() if IN_BROWSER else await asyncio.to_thread(opened)
    stem = re.sub(r"\.json$", "", name, flags=re.IGNORECASE).strip() or session.name
    state.register.add(session, free_name(state.register, stem))
    state.publish("session_name", session.name)
    await follower.show(state, session)


def _new(state: PanelState, request: Request) -> None:
    state.register.new(state.session_name)


async def _export(state: PanelState, request: Request) -> View:
    session, part, as_json = state.session, request.get("part", 0), request.get("format") == "json"
    which = str(request.get("which"))  # several views may export at the same time
    if part == 0:
        name = f"{session.name}.{'json' if as_json else 'md'}"
        text = await in_worker(session.to_json if as_json else session.to_markdown)
        state.exports.pop(which, None)
        state.exports[which] = name, text
        if len(state.exports) > _MAX_EXPORTS:
            del state.exports[next(iter(state.exports))]
    name, text = state.exports.get(which, ("", ""))
    parts = -(-len(text) // EXPORT_PART_CHARS)
    if not isinstance(part, int) or not 0 <= part < parts:
        raise UsageError("The export has no such part. Export it again.")
    return {
        "name": name,
        "mime": "application/json" if as_json else "text/markdown",
        "text": text[part * EXPORT_PART_CHARS : (part + 1) * EXPORT_PART_CHARS],
        "parts": parts,
    }


async def _earlier(state: PanelState, request: Request) -> View:
    before = request.get("before")
    if not isinstance(before, int):
        raise UsageError("The page is out of date. Reload the page.")
    turns, earlier = await in_worker(state.turns_before, before)
    return {"turns": turns, "earlier": earlier, "before": before}


async def _views(state: PanelState, request: Request) -> None:
    """A page shows the panel in `count` places."""
    viewed, before = request.get("count") != 0, state.viewed
    state.viewed = viewed
    if viewed and not before:
        await state.refresh()
    elif before and not viewed:
        state.listens = False
        state.tell("views")  # another page may show it, and says so


_HANDLERS: dict[str, Callable[[PanelState, Request], Any]] = {
    "send": _send,
    "upload": _upload,
    "image": _image,
    "again": _again,
    "edit": _edit,
    "stop": lambda state, request: outbox.stop(state, state.session),
    "unqueue": lambda state, request: outbox.take_back(state, _text(request, "which")),
    "release": lambda state, request: outbox.release(state, _text(request, "which")),
    "rate": _rate,
    "keep": _keep,
    "switch": _switch,
    "new": _new,
    "find": _find,
    "open": _open,
    "export": _export,
    "earlier": _earlier,
    "sync": lambda state, request: state.refresh(),
    "views": _views,
}


def _turn(state: PanelState, request: Request) -> Turn:
    turns = state.session.turns
    number = _text(request, "key").removeprefix("t")
    if not number.isascii() or not number.isdigit() or not 0 < int(number) <= len(turns):
        raise UsageError("This session has no such turn. Nothing was changed.")
    return turns[int(number) - 1]


def _text(request: Request, name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str):
        raise UsageError(f"The page's request has no {name!r}. Reload the page.")
    return value
