"""What a page asks for while a person labels replies: the next reply, and to keep a label.

The page gets nothing that tells the configuration, the agent, a verdict or a time. Page to kernel: `item` and
`label`, each with the place `at` in the queue. The answer has the reply to label next: the conversation up to
it, see `conversation_view`; its `label` and `note`, if it has them; and how many are `done` of the `total`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..errors import UsageError
from ..evaluation.file.label_lines import LABELS
from ..evaluation.tables.by_case import figures_of
from .conversation_views import conversation_view

if TYPE_CHECKING:
    from ..evaluation.labels.queue import LabelQueue
    from .views import View

_OUT_OF_DATE = "The page is out of date. Reload the page."


class LabelRequests:
    """Answers the page that shows a queue. Raises `UsageError`, also where a label could not be written."""

    def __init__(self, queue: LabelQueue) -> None:
        self.queue = queue
        self._runs = {run.conversation.key: run for run in figures_of(queue.state).runs}

    def item(self, request: Mapping[str, Any]) -> View:
        """The reply at a place, its conversation from a turn on; without a place the first unlabelled one."""
        at, first = request.get("at"), request.get("from", 0)
        if at is None:
            return self._view(self.queue.following(0))
        place = self._place(at)
        if not isinstance(first, int) or isinstance(first, bool) or first < 0:
            raise UsageError(_OUT_OF_DATE)
        return self._view(place, min(first, self.queue.rows[place].turn))

    def label(self, request: Mapping[str, Any]) -> View:
        """Keep a label, and answer with the next unlabelled reply."""
        place, label, note = self._place(request.get("at")), request.get("label"), request.get("note")
        if label not in LABELS or not isinstance(note, str):
            raise UsageError(_OUT_OF_DATE)
        self.queue.label(place, label, note)
        return self._view(self.queue.following(place))

    def _place(self, at: Any) -> int:
        if not isinstance(at, int) or isinstance(at, bool) or not 0 <= at < len(self.queue.rows):
            raise UsageError(_OUT_OF_DATE)
        return at

    def _view(self, place: int | None, first: int = 0) -> View:
        queue = self.queue
        view: View = {"at": place, "total": len(queue.rows), "done": queue.done, "is_kept": queue.is_kept}
        if place is None:
            return view
        row, known = queue.rows[place], queue.labels[place]
        run = self._runs[row.conversation.key]
        view |= conversation_view(queue.state, run, first, blind=True, until=row.turn + 1)
        for name in ("case", "end"):  # a person who has seen the results may know them
            view.pop(name, None)
        label, note = (known.label, known.note) if known else ("", "")
        return view | {"label": label, "note": note, "about": queue.about}
