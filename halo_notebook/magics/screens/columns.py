"""The replies of several configurations in one cell: side by side in a notebook, else one after the other."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from IPython.display import publish_display_data

from ...display.bundles import status_text
from ...display.columns import MAX_COLUMNS_BYTES, Column, columns_html
from .notebook import REPAINT_WEIGHT, warm_up
from .terminal import TerminalScreen, write_line

if TYPE_CHECKING:
    from ...display.pacer import Pacer
    from ...reply import Reply
    from ...stream import JSON

Words = Callable[[str], Sequence[str]]
"""The status line of the configuration with that name."""


class Columns(Protocol):
    """Where the replies are shown."""

    def begin(self) -> None:
        """Show that replies are expected."""

    def paint(self) -> None:
        """Show what has been received so far."""

    def finish(self) -> None:
        """Show the whole replies and their status lines."""


class NotebookColumns:
    """Shows replies side by side, in one output that is updated.

    Args:
        replies: by the name of their configuration.
        words: gives the status line of an ended reply.
        metadata: returns what the output's `halo` holds.
        images: see `Timeline`.
        updates: whether an output can be updated; otherwise it is shown once, at the end.
    """

    def __init__(
        self,
        replies: dict[str, Reply],
        pacer: Pacer,
        words: Words,
        metadata: Callable[[], dict[str, JSON]],
        *,
        images: bool = False,
        updates: bool = True,
    ) -> None:
        limit = MAX_COLUMNS_BYTES // len(replies)
        self._columns = [
            Column(name, reply, images=images, max_bytes=limit) for name, reply in replies.items()
        ]
        self._pacer = pacer
        self._words = words
        self._metadata = metadata
        self._updates = updates
        self._id = f"halo-{uuid.uuid4().hex}"
        self._shown = ""

    def begin(self) -> None:
        self.paint()
        warm_up()

    def paint(self) -> None:
        if not self._updates:
            return
        since = self._pacer.clock()
        html = columns_html([self._html(column) for column in self._columns])
        if html != self._shown:
            self._publish({"text/html": html})
            size = len(json.dumps(html, ensure_ascii=False))
            self._pacer.spent(since=since, size=size * REPAINT_WEIGHT)

    def finish(self) -> None:
        bundles = [column.finished(self._words(column.name)) for column in self._columns]
        text = "\n\n".join(bundle["text/plain"] for bundle in bundles)
        data = {"text/html": columns_html([bundle["text/html"] for bundle in bundles]), "text/plain": text}
        self._publish(data, {"halo": self._metadata()})

    def _html(self, column: Column) -> str:
        if column.reply.status == "streaming":
            return column.frame()
        return str(column.finished(self._words(column.name))["text/html"])

    def _publish(self, data: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        transient = {"display_id": self._id} if self._updates else None
        update = bool(self._shown)
        self._shown = data["text/html"] if self._updates else ""
        publish_display_data(data=data, metadata=metadata or {}, transient=transient, update=update)


class TerminalColumns:
    """Prints one reply after the other, each below its name; the first while it arrives."""

    def __init__(self, replies: dict[str, Reply], words: Words) -> None:
        self._words = words
        self._waiting = list(replies.items())
        self._screen: TerminalScreen | None = None

    def begin(self) -> None:
        pass

    def paint(self) -> None:
        while self._waiting and self._paint_first().status != "streaming":
            self._finish_first()

    def finish(self) -> None:
        while self._waiting:
            self._paint_first()
            self._finish_first()

    def _paint_first(self) -> Reply:
        name, reply = self._waiting[0]
        if self._screen is None:
            self._screen = TerminalScreen(reply)
            write_line(status_text([name]))
        self._screen.paint("")
        return reply

    def _finish_first(self) -> None:
        name, reply = self._waiting.pop(0)
        assert self._screen is not None, "it was painted"
        self._screen.finish(self._words(name))
        if reply.error:
            write_line(reply.error)
        self._screen = None
