"""A conversation as a page shows it: blocks of safe HTML and actions, each in its place.

What it promises:

- A turn looks the same however it came to be seen: followed while it arrives, in whatever
  frames, or rendered at once when it has ended.
- A frame costs what is new: finished blocks once, and of the open block what has changed at
  its end.
- An action stands where it arrived: exactly, where the text before it ends with a line, and
  after the block that it arrived in where placing it would tear that block apart.
- All that is given here is plain JSON of bounded size: a turn fits a message.

It does not know how a frame travels, nor when.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

from ..stream import JSON
from .blocks import ShownText
from .json_tree import json_display, page_json, payload_label
from .words import counted

if TYPE_CHECKING:
    from ..reply import Reply

MAX_ACTIONS = 200
"""Further actions of one reply are counted, not shown."""
MAX_ACTION_BYTES = 1_000_000
"""A larger payload is shown in part."""
MAX_ACTIONS_BYTES = 1_200_000
"""Actions beyond this are counted: a turn has to fit a message, which may have about 3 MB."""
MAX_BLOCKS_BYTES = 800_000

View: TypeAlias = "dict[str, JSON]"
"""A turn, or a part of one, as JSON for a page."""


@dataclass
class ShownAction:
    """An action in its place.

    Attributes:
        id: tells it from the turn's other actions.
        after: how many of the text's finished blocks stand before it; None while it stands at the
            end, after the open one.
        label: one line.
        json: the payload as exact JSON, or, when `cut`, a shortened copy.
        at_s: seconds from the request's being written.
        cut: whether the payload is shown in part.
    """

    id: str
    after: int | None
    label: str
    json: str
    at_s: float
    cut: bool


class Timeline:
    """A reply that grows → the blocks of its text, with its actions in their places.

    Args:
        reply: is read, never changed.
        images: whether remote images are shown; else they are links.

    >>> from halo_notebook.reply import Reply
    >>> from halo_notebook.stream import Action, TextDelta
    >>> reply = Reply()
    >>> reply.add(TextDelta("One.\\n"), 0.1)
    >>> reply.add(Action({"type": "go"}), 0.2)
    >>> reply.add(TextDelta("Two."), 0.3)
    >>> timeline = Timeline(reply)
    >>> frame = timeline.frame()
    >>> frame["blocks"], frame["open"], timeline.actions[0].after
    (['<p>One.</p>\\n'], '<p>Two.</p>\\n', 1)
    """

    def __init__(self, reply: Reply, *, images: bool = False) -> None:
        self.actions: list[ShownAction] = []
        self._reply = reply
        self._text = ShownText(images=images)
        self._part = 0
        self._events = 0  # how many actions have been taken in
        self._number = 0  # of the last action, shown or not
        self._actions_bytes = 0
        self._left_out = 0
        self._places: dict[str, int] = {}  # of the actions that wait for theirs, in the renderer's count
        self._sent_blocks = 0
        self._sent_open = ""

    def frame(self) -> View:
        """What is new since the last frame.

        Returns:
            ``blocks``, the HTML of the blocks that were finished; ``keep`` and ``open``: the open
            block's HTML is the first `keep` UTF-16 units of what it was, and then `open`;
            ``actions``, those that have come; ``places``, pairs of an action's id and the place
            that it has found.
        """
        known = len(self.actions)
        self._take()
        new = self.actions[known:]
        ids = {action.id for action in new}
        places: list[JSON] = [[name, after] for name, after in self._settle() if name not in ids]
        renderer = self._text.renderer
        blocks = renderer.finished_blocks[self._sent_blocks :]
        self._sent_blocks += len(blocks)
        open_html = renderer.open_block + self._text.end_html()
        # What was open and is finished now is no beginning of what is open next.
        keep = 0 if blocks else _shared_length(self._sent_open, open_html)
        self._sent_open = open_html
        return {
            "blocks": list[JSON](blocks),
            "keep": _utf16_length(open_html[:keep]),
            "open": open_html[keep:],
            "actions": [_plain(action) for action in new],
            "places": places,
        }

    def so_far(self) -> View:
        """All that the frames have given until now: ``blocks``, ``open`` and ``actions``."""
        return {
            "blocks": list[JSON](self._text.renderer.finished_blocks[: self._sent_blocks]),
            "open": self._sent_open,
            "actions": [_plain(action) for action in self.actions],
        }

    def whole(self) -> View:
        """The reply as it has ended: ``blocks`` and ``actions``, and as ``cut`` what is left out.

        The last call: nothing may follow it.
        """
        self._take()
        renderer = self._text.renderer
        renderer.cut(must=True)
        self._settle(last=True)
        resolved = renderer.resolved()
        if len(resolved.finished_blocks) == len(renderer.finished_blocks):
            renderer = resolved
        blocks = [*renderer.finished_blocks]
        notes = []
        if end := self._text.end_html():
            blocks.append(end)
        if left_out := _shorten(blocks):
            notes.append(f"{counted(left_out, 'part')} of the text")
        for payload in self._reply.summary_only:
            self._add(payload, self._reply.elapsed_s or 0.0, len(blocks))
        if self._left_out:
            notes.append(counted(self._left_out, "action"))
        return {
            "blocks": list[JSON](blocks),
            "actions": [_plain(action) for action in self.actions],
            "cut": f"Not shown here: {' and '.join(notes)}. The reply in the kernel holds all."
            if notes
            else "",
        }

    def _take(self) -> None:
        """Take in what has come: text, cut at each action where that tears nothing apart."""
        # The text first: whatever action came before any of it is then among the events.
        text, self._part = self._reply.text_since(self._part)
        start, shown = self._text.length, 0
        for event in self._reply.action_events[self._events :]:
            if event.offset > start + len(text):
                break  # it has come since
            upto = event.offset - start
            self._text.append(text[shown:upto])
            shown = max(shown, upto)
            self._events += 1
            renderer = self._text.renderer
            if renderer.cut():
                self._add(event.payload, event.at_s, len(renderer.finished_blocks))
            elif self._add(event.payload, event.at_s, None):
                self._places[self.actions[-1].id] = renderer.length
        self._text.append(text[shown:])

    def _add(self, payload: JSON, at_s: float, after: int | None) -> bool:
        self._number += 1
        text, cut = _payload_text(payload)
        size = len(text.encode("utf-8", "replace"))
        if len(self.actions) >= MAX_ACTIONS or self._actions_bytes + size > MAX_ACTIONS_BYTES:
            self._left_out += 1
            return False
        self._actions_bytes += size
        self.actions.append(
            ShownAction(
                f"a{self._number}", after, payload_label(payload, self._number), text, round(at_s, 3), cut
            )
        )
        return True

    def _settle(self, *, last: bool = False) -> list[tuple[str, int]]:
        """Give the actions that wait their places, as far as the blocks around them are finished."""
        spans = self._text.renderer.spans
        settled = []
        for action in self.actions:
            position = self._places.get(action.id)
            if position is None or not (last or (spans and spans[-1][1] >= position)):
                continue
            del self._places[action.id]
            # After each block that had begun before it came.
            action.after = bisect_left(spans, (position, -1))
            settled.append((action.id, action.after))
        return settled


def _payload_text(payload: JSON) -> tuple[str, bool]:
    """A payload as JSON for the page, or a copy that is shortened and whether it is."""
    text = page_json(payload)
    if len(text.encode("utf-8", "replace")) <= MAX_ACTION_BYTES:
        return text, False
    # Marks may more than double the size of a copy.
    return page_json(json_display(payload, max_bytes=MAX_ACTION_BYTES // 3)), True


def _shorten(blocks: list[str]) -> int:
    """Empty the blocks in the middle when all are too much; how many were. Their count stays."""
    if sum(map(len, blocks)) * 6 <= MAX_BLOCKS_BYTES:
        return 0
    sizes = [len(json.dumps(block, ensure_ascii=False).encode("utf-8", "replace")) for block in blocks]
    excess = sum(sizes) - MAX_BLOCKS_BYTES
    left_out = 0
    for index in sorted(range(len(blocks)), key=lambda at: abs(at - len(blocks) // 2)):
        if excess <= 0:
            break
        blocks[index] = ""
        excess -= sizes[index]
        left_out += 1
    return left_out


def _plain(action: ShownAction) -> JSON:
    return cast("JSON", asdict(action))


def _shared_length(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    least, most = 0, min(len(one), len(other))
    while least < most:
        middle = (least + most + 1) // 2
        if one[least:middle] == other[least:middle]:
            least = middle
        else:
            most = middle - 1
    return least


def _utf16_length(text: str) -> int:
    """How long a page's script finds `text` to be."""
    return len(text) + sum(character > "\uffff" for character in text)
