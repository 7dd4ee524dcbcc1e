"""A reply that grows → blocks of its text and actions in the order in which they arrived.

A timeline only grows: it has final items, the open block, and the actions that wait until that block ends.
An action stands where it arrived, but it never splits a list, a table, a fence or a paragraph. The items are
therefore the same whether a reply is followed while it arrives or read at once after its end. Nothing final
is moved or changed, with one exception after the end: see `Timeline.resolved`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from .blocks import BlockRenderer, FinishedBlock

if TYPE_CHECKING:
    from ..reply import Reply
    from ..stream import JSON


@dataclass(frozen=True, slots=True)
class ShownAction:
    """An action in a timeline, which arrived at `position` in `BlockRenderer.text`."""

    number: int  # among the reply's actions, from 1
    payload: JSON
    at_s: float  # from when the request was written
    position: int


Item: TypeAlias = FinishedBlock | ShownAction


@dataclass(slots=True)
class Section:
    """Blocks of text and the actions after them; `end` is where the next block begins."""

    blocks: list[FinishedBlock]
    actions: list[ShownAction]
    end: int


def sections(items: Sequence[Item], end: int) -> list[Section]:
    """Divide `items`, whose text ends at `end`, after each run of actions."""
    divided = [Section([], [], end)]
    for item in items:
        if isinstance(item, ShownAction):
            divided[-1].actions.append(item)
            continue
        if divided[-1].actions:
            divided[-1].end = item.begin
            divided.append(Section([], [], end))
        divided[-1].blocks.append(item)
    return divided


class Timeline:
    """A reply as it is shown, up to what has been read of it. For one thread at a time.

    Args:
        reply: is read, never changed.
        images: whether remote images are shown; otherwise they are links.

    >>> from halo_notebook.reply import Reply
    >>> from halo_notebook.stream import Action, TextDelta
    >>> reply = Reply()
    >>> for event in TextDelta("One.\\n\\nTwo, "), Action({"type": "go"}), TextDelta("three."):
    ...     reply.add(event, at_s=0.1)
    >>> timeline = Timeline(reply)
    >>> timeline.read()
    >>> timeline.items, timeline.text.open_html, len(timeline.waiting)
    ([FinishedBlock(html='<p>One.</p>\\n', begin=0)], '<p>Two, three.</p>\\n', 1)
    """

    def __init__(self, reply: Reply, *, images: bool = False) -> None:
        self.reply = reply
        self.items: list[Item] = []
        self.waiting: deque[ShownAction] = deque()
        self.text = BlockRenderer(images=images)
        self._part = 0
        self._chars = 0  # of the reply's text
        self._number = 0  # of the last action
        self._blocks = 0  # how many are items
        self._has_ended = False

    def read(self) -> None:
        """Add what has been received since the last call."""
        # The text first: then every action that was received before a part of it is among the events.
        text, self._part = self.reply.text_since(self._part)
        shown = 0
        for event in self.reply.action_events[self._number :]:
            upto = event.offset - self._chars
            if upto > len(text):
                break  # received after the text was read
            self.text.append(text[shown:upto])
            shown = upto
            self._wait(event.payload, event.at_s)
        self.text.append(text[shown:])
        self._chars += len(text)
        self._settle()

    def end(self) -> None:
        """Add the rest of a reply that has ended, and make everything final."""
        if not self._has_ended:
            self._has_ended = True
            self.read()
            self.text.end()
            for payload in self.reply.summary_only:
                self._wait(payload, self.reply.elapsed_s or 0.0)
            self._settle()

    def resolved(self) -> list[Item]:
        """The items after the end, with links that were defined after the block that uses them."""
        htmls = iter(self.text.resolved())
        return [
            FinishedBlock(next(htmls), item.begin) if isinstance(item, FinishedBlock) else item
            for item in self.items
        ]

    def _wait(self, payload: JSON, at_s: float) -> None:
        self._number += 1
        self.waiting.append(ShownAction(self._number, payload, at_s, self.text.length))

    def _settle(self) -> None:
        """Turn finished blocks into items, and the actions before and between them."""
        for block in self.text.finished[self._blocks :]:
            self._settle_actions(block.begin)
            self.items.append(block)
            self._blocks += 1
        self._settle_actions(self.text.open_begin)

    def _settle_actions(self, position: int) -> None:
        while self.waiting and self.waiting[0].position <= position:
            self.items.append(self.waiting.popleft())
