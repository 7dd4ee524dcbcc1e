"""A reply as the outputs of a notebook's cell: text, actions where they arrived, the status line.

While text arrives, only the last output is updated; those above it are final. A text output is finished
when an action follows or when it has a few kilobytes, so that a long reply is not published again with
each frame. At the end an output is updated once more if one of its links was defined only later.
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

OUTPUT_BYTES = 3_000
"""A text output of this size is finished, and the text continues in the next one."""
MANY_OUTPUTS = 10
"""Each text output after so many outputs may be a quarter larger than the one before."""
MAX_OUTPUTS = 40
"""After so many, the text continues in one output and the actions in one tree: JupyterLab hides the outputs
of a cell after the fiftieth, and the status line would be among them."""
MAX_SINGLE_ACTIONS = 2
"""If more actions than this arrive in a row between two frames, they are shown as one tree: each would be a
message of its own, and the server would drop a burst of messages."""
REPAINT_WEIGHT = 5
"""A frame that the next one replaces counts so many times its bytes, and is therefore rarer."""


class NotebookScreen:
    """Shows a reply in the cell that is being run.

    Args:
        reply: what to show; it grows.
        pacer: counts the cost of each message.
        metadata: returns the metadata of the status line under the key `halo`.
        images: whether remote images are shown; otherwise they are links.
    """

    def __init__(
        self, reply: Reply, pacer: Pacer, metadata: Callable[[], dict[str, JSON]], *, images: bool = False
    ) -> None:
        self._timeline = Timeline(reply, images=images)
        self._pacer = pacer
        self._metadata = metadata
        self._id = f"halo-{uuid.uuid4().hex}"
        self._state = ""
        self._outputs = 0
        self._open: str | None = None  # the display id of the output that may still change
        self._open_html = ""  # what it shows
        self._blocks: list[FinishedBlock] = []  # the finished blocks in it
        self._finished: list[tuple[str, list[FinishedBlock], str]] = []  # ids, blocks, plain texts
        self._items = 0  # how many of the timeline's are shown
        self._plain_chars = 0  # how many characters of the text stand in finished outputs
        self._rest: list[ShownAction] = []  # the actions of the one tree that grows

    def begin(self, state: str) -> None:
        self._show_state(state)
        _warm_up()

    def paint(self, state: str) -> None:
        since = self._pacer.clock()
        self._timeline.read()
        self._paint(since)
        if not self._items and not self._timeline.text.length and state != self._state:
            self._show_state(state)

    def finish(self, words: Sequence[str]) -> None:
        self._timeline.end()
        self._paint(self._pacer.clock())
        self._finish_text(self._timeline.text.length, must=True)
        if self._open is not None:
            self._update_open(status_html(["no text"]) if not self._items else "", plain_text="(no text)")
        self._resolve_links()
        self._publish(status_bundle(words), {"halo": self._metadata()})

    def _show_state(self, state: str) -> None:
        self._state = state
        self._update_open(status_html([f"{state} …"]), plain_text=f"{state} …")

    def _paint(self, since: float) -> None:
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
        html = "".join(block.html for block in self._blocks) + timeline.text.open_html
        if html:
            self._update_open(wrap(html), since=since)

    @property
    def _output_bytes(self) -> float:
        return OUTPUT_BYTES * float(1.25 ** max(0, self._outputs - MANY_OUTPUTS))

    def _finish_text(self, end: int, *, must: bool = False) -> None:
        """Make the open output, whose text ends at `end`, final; after many outputs only if it `must` be."""
        if self._blocks and (must or self._outputs < MAX_OUTPUTS):
            # Plain text is added only now: it would double the bytes of each frame.
            text = plain(self._timeline.text.text[self._plain_chars : end])
            self._plain_chars = end
            self._update_open(wrap("".join(block.html for block in self._blocks)), plain_text=text)
            self._finished.append((cast(str, self._open), self._blocks, text))
            self._open, self._blocks = None, []

    def _resolve_links(self) -> None:
        """Update each output that has a link which was defined only later."""
        resolved = iter(self._timeline.resolved())
        blocks = (item for item in resolved if isinstance(item, FinishedBlock))
        for display_id, shown, text in self._finished:
            now = [next(blocks).html for _ in shown]
            if now != [block.html for block in shown]:
                data = {"text/html": wrap("".join(now)), "text/plain": text}
                self._publish(data, {}, transient={"display_id": display_id}, update=True)

    def _show_actions(self, actions: list[ShownAction]) -> None:
        most = MAX_SINGLE_ACTIONS
        rest = self._outputs >= MAX_OUTPUTS
        how: dict[str, Any] = {}
        if rest:
            how = {"transient": {"display_id": f"{self._id}-rest"}, "update": bool(self._rest)}
            actions = self._rest = self._rest + actions
            most = 0
        for payload, label in labelled_payloads(actions, most=most):
            since = self._pacer.clock()
            if not rest:
                how = self._next_output()
            bundle = json_bundle(payload, label)
            self._publish(bundle, {"application/json": {"root": label}}, since=since, **how)

    def _next_output(self) -> dict[str, Any]:
        """Where to publish an action: in place of an output that has no text, or below the others."""
        if self._open is None:
            self._outputs += 1
            return {}
        display_id, self._open = self._open, None
        return {"transient": {"display_id": display_id}, "update": True}

    def _update_open(self, html: str, *, plain_text: str | None = None, since: float | None = None) -> None:
        """Show `html` in the open output; open one if there is none."""
        if html == self._open_html and self._open is not None and plain_text is None:
            return
        update = self._open is not None
        if self._open is None:
            self._outputs += 1
            self._open = f"{self._id}-{self._outputs}"
        self._open_html = html
        data = {"text/html": html} if plain_text is None else {"text/html": html, "text/plain": plain_text}
        how = {"transient": {"display_id": self._open}, "update": update}
        self._publish(data, {}, since=since, weight=REPAINT_WEIGHT if plain_text is None else 1, **how)

    def _publish(
        self,
        data: dict[str, Any],
        metadata: dict[str, Any],
        *,
        since: float | None = None,
        weight: int = 1,
        **how: Any,
    ) -> None:
        since = self._pacer.clock() if since is None else since
        publish_display_data(data=data, metadata=metadata, **how)
        size = sum(
            len(value) if isinstance(value, str) else len(json.dumps(value)) for value in data.values()
        )
        self._pacer.spent(since=since, size=size * weight)


@cache
def _warm_up() -> None:
    """Make the first frame of a process as fast as the others, while the reply is awaited."""
    text = BlockRenderer()
    text.append("`a` [b](https://example.com)\n\n```python\nc\n```\n\n")
    text.end()
