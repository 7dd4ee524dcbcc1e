"""Labelling in a notebook: a sample of replies, one after the other, without what the checks found.

A label is in the file before the next reply is shown. After a restart of the kernel, the same call continues
where the person was.
"""

from __future__ import annotations

import asyncio
from html import escape
from typing import TYPE_CHECKING, Any

import anywidget
from IPython.display import publish_display_data
from traitlets import Any as AnyTrait
from traitlets import Unicode

from ..concurrency.loop import spawn
from ..display.wording import counted
from .answers import answer_to, one_by_one
from .assets import bundle, styles
from .label_requests import LabelRequests
from .sending import send_to_page
from .static_copy import static_class, static_copy

if TYPE_CHECKING:
    from ..evaluation.label_queue import LabelQueue

_SHOWN_ROWS = 50


class LabelPanel(anywidget.AnyWidget):
    """A sample of replies to label as good or bad; `result.label()` makes it.

    Keys: P passes the reply, F fails it, U is for unsure, N goes to the note, B goes back.

    Attributes:
        height: a CSS length. Can be set.
    """

    _esm = bundle("label_panel.js")
    _css = styles("explorer.css", "labels.css")

    height = Unicode("640px").tag(sync=True)
    _static_class = Unicode("").tag(sync=True)
    # The page sets it to learn whether it is connected; it is not kept.
    _snapshot = AnyTrait(None).tag(
        sync=True, to_json=lambda value, widget: None, from_json=lambda value, widget: None
    )

    def __init__(self, queue: LabelQueue) -> None:
        self._queue = queue
        self._requests = LabelRequests(queue)
        self._turn = asyncio.Lock()  # of requests
        super().__init__(_static_class=static_class())
        self.on_msg(lambda widget, content, buffers: spawn(self._handle(content)))

    @property
    def rows(self) -> list[int]:
        """The rows of `df` that are to be labelled, in the order in which they are shown."""
        return [row.number for row in self._queue.rows]

    def __repr__(self) -> str:
        queue = self._queue
        return f"LabelPanel({queue.done:,} of {counted(len(queue.rows), 'label')} by {queue.author!r})"

    def _ipython_display_(self) -> None:
        shown: Any = self._repr_mimebundle_()
        publish_display_data(data=shown[0] if isinstance(shown, tuple) else shown)
        text = self._without_widgets()
        html = static_copy(self._static_class, f"<p>{escape(text)}</p>")
        publish_display_data(data={"text/html": html, "text/plain": text})

    def _without_widgets(self) -> str:
        rows = ", ".join(map(str, self.rows[:_SHOWN_ROWS])) + (", …" if len(self.rows) > _SHOWN_ROWS else "")
        return (
            "Labelling needs a notebook that shows widgets. From code, result.label_rows({row: True, …}) "
            f"labels these rows: {rows}."
        )

    async def _handle(self, request: Any) -> None:
        """Do what the page asks for, and answer."""
        if not isinstance(request, dict) or not isinstance(cid := request.get("cid"), str):
            return
        handlers = {"item": self._requests.item, "label": self._requests.label}
        answer = await answer_to(request, handlers, lambda handler: one_by_one(self._turn, handler, request))
        if self.comm is not None:
            send_to_page(self, {"kind": "answer", "cid": cid, **(answer or {})})
