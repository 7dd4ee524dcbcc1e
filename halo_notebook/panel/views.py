"""A conversation's turns as JSON for the page, and as HTML where there is no script.

A view is plain JSON of bounded size: each turn fits into one message.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from os.path import commonprefix
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from weakref import WeakKeyDictionary

from ..display.blocks import FinishedBlock, wrap
from ..display.bundles import message_html, shown_message, status_html
from ..display.json_tree import Limits, json_display, json_html, page_json, payload_label
from ..display.markdown import verbatim
from ..display.text import bounded, one_line, terminal_text
from ..display.wording import caveats, counted, status_words
from ..stream import JSON
from .pictures import image_views

if TYPE_CHECKING:
    from ..display.timeline import Item, ShownAction, Timeline
    from ..session import Session, Turn

MAX_ACTIONS = 200
"""Further actions of a reply are counted, not shown."""
MAX_ACTION_BYTES = 1_000_000
"""A larger payload is shown in part."""
MAX_ACTIONS_BYTES = 1_200_000
"""Actions beyond this are counted, not shown: a message may have about 3 MB."""
MAX_TEXT_BYTES = 400_000
"""If the text is longer, only a part can be copied from the page."""
MAX_STATIC_BYTES = 100_000
MAX_FOUND_CHARS = 90
"""Of a message in the list of sessions."""

COPY_NOTE = (
    "This is a copy. The panel itself needs a running kernel, ipywidgets in the page, and, if the page has a"
    " Content-Security-Policy, script-src blob: in it."
)

_images: WeakKeyDictionary[Turn, list[JSON]] = WeakKeyDictionary()

View: TypeAlias = "dict[str, JSON]"
"""A turn, or a part of one, as JSON for a page."""


class Frames:
    """The frames that a page receives for a reply while it grows, each with only what is new.

    Args:
        timeline: of the reply.

    >>> from halo_notebook.display.timeline import Timeline
    >>> from halo_notebook.reply import Reply
    >>> from halo_notebook.stream import TextDelta
    >>> reply = Reply()
    >>> frames = Frames(Timeline(reply))
    >>> reply.add(TextDelta("A\\n\\nB"), 0.1)
    >>> frame = frames.frame()
    >>> frame["items"], frame["open"]
    ([{'html': '<p>A</p>\\n'}], '<p>B</p>\\n')
    >>> reply.add(TextDelta("!"), 0.2)
    >>> frames.frame()
    {'items': [], 'keep': 4, 'open': '!</p>\\n', 'waiting': []}
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._items: list[JSON] = []
        self._taken = 0  # how many items of the timeline were read
        self._waiting: list[View] = []
        self._actions: dict[int, View | None] = {}  # by number; None if it is left out
        self._actions_bytes = 0
        self._open = ""

    def frame(self) -> View:
        """What is new since the last frame.

        Returns:
            ``items``: the new final items in order: ``{"html": …}`` for a block of text, ``{"action": …}``,
            or ``{"waited": id}`` for an action that was sent as waiting before. ``keep`` and ``open``: the
            HTML of the open block is the first `keep` UTF-16 units of the previous one followed by `open`.
            ``waiting``: the new actions inside the open block.
        """
        self._timeline.read()
        waited = {action["id"] for action in self._waiting}
        items = self._new_items(self._timeline.items)
        self._items += items
        self._waiting = [view for action in self._timeline.waiting if (view := self._view_of(action))]
        open_html = self._timeline.text.open_html
        # A block that is finished now is not the beginning of the next open block.
        kept = "" if items else commonprefix([self._open, open_html])  # noqa: RUF071  # of characters
        self._open = open_html
        return {
            "items": [_told(item, waited) for item in items],
            "keep": len(kept.encode("utf-16-le")) // 2,
            "open": open_html.removeprefix(kept),
            "waiting": [action for action in self._waiting if action["id"] not in waited],
        }

    def so_far(self) -> View:
        """Everything that the frames have contained so far: ``items``, ``open`` and ``waiting``."""
        return {"items": [*self._items], "open": self._open, "waiting": list[JSON](self._waiting)}

    def whole(self) -> View:
        """The reply after its end: ``items``, and as ``cut`` a note on what is left out."""
        self._timeline.end()
        self._taken = 0
        items = self._new_items(self._timeline.resolved())
        left_out = sum(view is None for view in self._actions.values())
        note = f"Not shown here: {counted(left_out, 'action')}. The reply in the kernel holds all."
        return {"items": items, "cut": note if left_out else ""}

    def _new_items(self, items: list[Item]) -> list[JSON]:
        views: list[JSON] = []
        for item in items[self._taken :]:
            if isinstance(item, FinishedBlock):
                views.append({"html": item.html})
            elif view := self._view_of(item):
                views.append({"action": view})
        self._taken = len(items)
        return views

    def _view_of(self, action: ShownAction) -> View | None:
        if action.number not in self._actions:
            text, cut = _payload_text(action.payload)
            size = len(text.encode("utf-8", "replace"))
            fits = action.number <= MAX_ACTIONS and self._actions_bytes + size <= MAX_ACTIONS_BYTES
            self._actions_bytes += size if fits else 0
            view: View = {
                "id": f"a{action.number}",
                "label": payload_label(action.payload, action.number),
                "json": text,
                "at_s": round(action.at_s, 3),
                "cut": cut,
            }
            self._actions[action.number] = view if fits else None
        return self._actions[action.number]


def _told(item: JSON, waited: set[JSON]) -> JSON:
    action = cast("View", cast("View", item).get("action") or {})
    return {"waited": action["id"]} if action.get("id") in waited else item


def _payload_text(payload: JSON) -> tuple[str, bool]:
    """A payload as JSON for the page, and whether it is shortened."""
    text = page_json(payload)
    if len(text.encode("utf-8", "replace")) <= MAX_ACTION_BYTES:
        return text, False
    # Marks may more than double the size of a copy.
    return page_json(json_display(payload, max_bytes=MAX_ACTION_BYTES // 3)), True


def head_view(turn: Turn, number: int) -> View:
    """What is known about a turn before its reply: what was asked and when."""
    return {
        "key": f"t{number}",
        "number": number,
        "asked": shown_message(turn.message),
        "images": _images_of(turn),
        "start_note": turn.start_note(),
        "started_at": turn.reply.started_at.isoformat(timespec="milliseconds"),
    }


def _images_of(turn: Turn) -> list[JSON]:
    """What the page shows of a turn's images, made once: they may be large."""
    if turn not in _images:
        _images[turn] = image_views(turn.request.get("images"))
    return _images[turn]


def turn_view(turn: Turn, number: int, frames: Frames) -> View:
    """A turn after its end, the session's `number`-th from 1; `frames` are of its reply."""
    reply = turn.reply
    again = "" if reply.status == "complete" else "twice" if reply.may_have_arrived else "safe"
    return {
        **head_view(turn, number),
        **frames.whole(),
        "status": "stopped" if reply.status == "streaming" else reply.status,
        "error": reply.error,
        "agent": reply.agent_id,
        "source": turn.source,
        "first_text_s": reply.first_text_s,
        "elapsed_s": reply.elapsed_s,
        "words": list[JSON](caveats(reply)),
        "text": bounded(terminal_text(reply.text), MAX_TEXT_BYTES),
        "again": again,
    }


def found_in(session: Session, text: str) -> str | None:
    """The part of a message or reply of `session` that has `text`, in one line; None if none has it.

    Upper and lower case do not count. An empty text is in the first message.
    """
    wanted = text.casefold()
    for turn in session.turns.copy():
        for whole in (turn.message, turn.reply.text):
            if (at := whole.casefold().find(wanted)) >= 0:
                start = max(0, at - MAX_FOUND_CHARS // 3)
                return ("…" if start else "") + one_line(whole[start : at + MAX_FOUND_CHARS], MAX_FOUND_CHARS)
    return None


def static_html(session: Session, views: Sequence[tuple[Turn, View]], when: str) -> str:
    """The end of a conversation as safe HTML that needs no script, at most `MAX_STATIC_BYTES` of it.

    `views` are the session's last turns in order, each with its `turn_view`.
    """
    parts: list[str] = []
    room = MAX_STATIC_BYTES
    for turn, view in reversed(views):
        html = static_turn(turn, view, static_words(turn, session.name))
        room -= len(html)
        if room < 0 and parts:
            break
        parts.insert(0, html)
    left_out = len(session.turns) - len(parts)
    title = [f"Halo session {session.name}", f"as of {when}", counted(len(session.turns), "turn")]
    title += [f"the first {left_out} not shown"] if left_out else []
    return "\n".join([status_html(title), *parts, status_html([COPY_NOTE])])


def static_turn(turn: Turn, view: View, words: list[str]) -> str:
    """A turn that has ended as safe HTML, by its `turn_view`, with `words` as its status line."""
    html: list[str] = []
    payloads = turn.reply.actions
    for is_text, items in groupby(cast("list[Any]", view["items"]), lambda item: "html" in item):
        if is_text:
            html.append(wrap("".join(item["html"] for item in items)))
            continue
        for action in (item["action"] for item in items):
            payload = payloads[int(action["id"][1:]) - 1]
            html.append(json_html(payload, action["label"], Limits(nodes=200)))
    if sum(map(len, html)) > MAX_STATIC_BYTES:
        html = [wrap(verbatim(bounded(terminal_text(turn.reply.text), MAX_STATIC_BYTES // 6)))]
    return "\n".join([message_html(turn.masked_message), *html, status_html(words)])


def static_words(turn: Turn, session: str) -> list[str]:
    """The status line of a turn in a static copy."""
    words = status_words(turn.reply, source=turn.source, session=session)
    images = turn.request.get("images")
    words += [counted(len(images), "image")] if isinstance(images, list) and images else []
    return words + [word for word in (turn.start_note(), turn.reply.error) if word]
