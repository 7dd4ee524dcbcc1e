"""Labelling in a notebook: a sample of replies, one after the other, without what the checks found.

A label is in the file before the next reply is shown. After a restart of the kernel, the same call continues
where the person was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any

from ..display.wording import counted
from .assets import bundle
from .label_requests import LabelRequests
from .result_widget import ResultWidget

if TYPE_CHECKING:
    from ..evaluation.labels.queue import LabelQueue
    from .views import View

_SHOWN_ROWS = 50


class LabelPanel(ResultWidget):
    """A sample of replies to label as good or bad; `result.label()` makes it.

    Keys: P passes the reply, F fails it, U is for unsure, N goes to the note, B goes back.

    Attributes:
        height: a CSS length. Can be set.
    """

    _esm = bundle("labels/label_panel.js")

    def __init__(self, queue: LabelQueue) -> None:
        self._queue = queue
        self._requests = LabelRequests(queue)
        super().__init__()

    @property
    def rows(self) -> list[int]:
        """The rows of `df` that are to be labelled, in the order in which they are shown."""
        return [row.number for row in self._queue.rows]

    def __repr__(self) -> str:
        queue = self._queue
        return f"LabelPanel({queue.done:,} of {counted(len(queue.rows), 'label')} by {queue.author!r})"

    def _copy(self) -> tuple[str, str]:
        rows = ", ".join(map(str, self.rows[:_SHOWN_ROWS])) + (", …" if len(self.rows) > _SHOWN_ROWS else "")
        text = (
            "Labelling needs a notebook that shows widgets. From code, result.label_rows({row: True, …}) "
            f"labels these rows: {rows}."
        )
        return f"<p>{escape(text)}</p>", text

    def _handlers(self) -> Mapping[str, Callable[[Mapping[str, Any]], View]]:
        return {"item": self._requests.item, "label": self._requests.label}
