"""A reply as the outputs of a notebook's cell: text, actions where they arrived, the status line.

While text arrives, only the last output is updated; those above it are final. A text output is finished
when an action follows or when it is large enough, so that a long reply is not published again with each
frame, and what the reader selects stays. At the end an output is updated once more if one of its links was
defined only later. Where outputs cannot be updated, each is shown once, when it is finished.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from IPython.display import publish_display_data

from ...display.blocks import BlockRenderer, FinishedBlock, wrap
from ...display.bundles import json_bundle, labelled_payloads, status_bundle, status_html
from ...display.text import plain
from ...display.timeline import ShownAction, Timeline, sections

if TYPE_CHECKING:
    from ...display.pacer import Pacer
    from ...reply import Reply
    from ...stream import JSON

OUTPUT_BYTES = 600
"""A text output of this size is finished, and the text continues in the next one."""
OUTPUT_GROWTH = 1.15
"""Each text output may be so many times as large as the one before: a long reply has few outputs, too."""
MAX_OUTPUTS = 40
"""After so many, the text continues in one output and the actions in one tree: JupyterLab hides the outputs
of a cell after the fiftieth, and the status line would be among them."""
MAX_SINGLE_ACTIONS = 2
"""More actions in a row between two frames are one tree: the server drops a burst of messages."""
REPAINT_WEIGHT = 5
"""A frame that the next one replaces counts so many times its bytes, and is therefore rarer."""
BELOW_ACTION = "margin-top:8px"
"""The style of a text output below an action: JupyterLab's tree has no space of its own."""


class NotebookScreen:
    """Shows a reply in the cell that is being run.

    Args:
        metadata: returns what the status line's `halo` holds.
        images: see `Timeline`.
        updates: whether an output can be updated.
        as_json: whether an action is also shown as JSON, see `json_bundle`.
    """

    def __init__(
        self,
        reply: Reply,
        pacer: Pacer,
        metadata: Callable[[], dict[str, JSON]],
        *,
        images: bool = False,
        updates: bool = True,
        as_json: bool = True,
    ) -> None:
        self._updates = updates
        self._as_json = as_json
        self._timeline = Timeline(reply, images=images)
        self._pacer = pacer
        self._since = pacer.clock()  # when the work on the next message began
        self._metadata = metadata
        self._id = f"halo-{uuid.uuid4().hex}"
        self._state = ""
        self._outputs = 0
        self._open: str | None = None  # the display id of the output that may still change
        self._open_html = ""  # what it shows
        self._blocks: list[FinishedBlock] = []  # the finished blocks in it
        self._style = ""
        self._finished: list[tuple[str, list[FinishedBlock], str, str]] = []  # ids, blocks, styles, texts
        self._items = 0  # how many of the timeline's are shown
        self._plain_chars = 0  # how many characters of the text stand in finished outputs
        self._rest: list[ShownAction] = []  # the actions of the one tree that grows

    def begin(self, state: str) -> None:
        self._show_state(state)
        warm_up()

    def paint(self, state: str) -> None:
        self._since = self._pacer.clock()
        self._timeline.read()
        self._paint()
        if not self._items and not self._timeline.text.length and state != self._state:
            self._show_state(state)

    def finish(self, words: Sequence[str]) -> None:
        self._since = self._pacer.clock()
        self._timeline.end()
        self._paint()
        self._finish_text(self._timeline.text.length, must=True)
        if self._open is not None or not self._items:
            self._update_open(status_html(["no text"]) if not self._items else "", plain_text="(no text)")
        if self._updates:
            self._resolve_links()
        elif self._rest:
            self._show_rest()
        self._publish(status_bundle(words), {"halo": self._metadata()})

    def _show_state(self, state: str) -> None:
        self._state = state
        if self._updates:
            self._update_open(status_html([f"{state} …"]), plain_text=f"{state} …")

    def _paint(self) -> None:
        """Show the items that are new, and the open block as it is now."""
        timeline = self._timeline
        new = timeline.items[self._items :]
        self._items = len(timeline.items)
        for section in sections(new, timeline.text.open_begin):
            for block in section.blocks:
                if sum(len(each.html) for each in self._blocks) >= self._output_bytes:
                    self._finish_text(block.begin)
                self._blocks.append(block)
            if section.actions:
                self._finish_text(section.end)
                self._show_actions(section.actions)
        # Where it cannot be updated, the open block is not even rendered.
        if self._updates and (self._blocks or timeline.text.open_html):
            self._update_open(self._wrapped(timeline.text.open_html))

    @property
    def _output_bytes(self) -> float:
        return OUTPUT_BYTES * float(OUTPUT_GROWTH**self._outputs)

    def _wrapped(self, open_html: str = "") -> str:
        return wrap("".join(block.html for block in self._blocks) + open_html, self._style)

    def _finish_text(self, end: int, *, must: bool = False) -> None:
        """Make the open output, whose text ends at `end`, final; after many outputs only if it `must` be."""
        if self._blocks and (must or self._outputs < MAX_OUTPUTS):
            # Plain text is added only now: it would double the bytes of each frame.
            text = plain(self._timeline.text.text[self._plain_chars : end])
            self._plain_chars = end
            self._update_open(self._wrapped(), plain_text=text)
            self._finished.append((cast(str, self._open), self._blocks, self._style, text))
            self._open, self._blocks, self._style = None, [], ""

    def _resolve_links(self) -> None:
        """Update each output that has a link which was defined only later."""
        resolved = iter(self._timeline.resolved())
        blocks = (item for item in resolved if isinstance(item, FinishedBlock))
        for display_id, shown, style, text in self._finished:
            now = [next(blocks).html for _ in shown]
            if now != [block.html for block in shown]:
                data = {"text/html": wrap("".join(now), style), "text/plain": text}
                self._publish(data, {}, display_id, update=True)

    def _show_actions(self, actions: list[ShownAction]) -> None:
        if self._outputs >= MAX_OUTPUTS:
            self._rest += actions
            if self._updates:
                self._show_rest(update=len(self._rest) > len(actions))
            return
        for payload, label in labelled_payloads(actions, most=MAX_SINGLE_ACTIONS):
            # In place of an output that has no text, or below the others.
            display_id, self._open = self._open, None
            self._outputs += display_id is None
            self._show_tree(payload, label, display_id, update=display_id is not None)
        self._style = BELOW_ACTION

    def _show_rest(self, *, update: bool = False) -> None:
        [(payload, label)] = labelled_payloads(self._rest, most=0)
        self._show_tree(payload, label, f"{self._id}-rest", update=update)

    def _show_tree(self, payload: JSON, label: str, display_id: str | None, *, update: bool) -> None:
        bundle = json_bundle(payload, label, as_json=self._as_json)
        self._publish(bundle, {"application/json": {"root": label}}, display_id, update=update)

    def _update_open(self, html: str, *, plain_text: str | None = None) -> None:
        """Show `html` in the open output; open one if there is none. With `plain_text` it is finished."""
        if html == self._open_html and self._open is not None and plain_text is None:
            return
        update = self._open is not None
        if self._open is None:
            self._outputs += 1
            self._open = f"{self._id}-{self._outputs}"
        self._open_html = html
        data = {"text/html": html} if plain_text is None else {"text/html": html, "text/plain": plain_text}
        self._publish(data, {}, self._open, update=update, weight=REPAINT_WEIGHT if plain_text is None else 1)

    def _publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any],
        display_id: str | None = None,
        *,
        update: bool = False,
        weight: int = 1,
    ) -> None:
        transient = {"display_id": display_id} if display_id and self._updates else None
        publish_display_data(data=data, metadata=metadata, transient=transient, update=update)
        self._pacer.spent(since=self._since, size=len(json.dumps(data, ensure_ascii=False)) * weight)
        self._since = self._pacer.clock()


@cache
def warm_up() -> None:
    """Make the first frame of a process as fast as the others, while the reply is awaited."""
    text = BlockRenderer()
    text.append("`a` [b](https://example.com)\n\n```python\nc\n```\n\n")
    text.end()
