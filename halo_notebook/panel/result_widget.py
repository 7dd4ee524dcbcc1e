"""What the widgets on a result share: the explorer and the page for labels."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import anywidget
from IPython.display import publish_display_data
from traitlets import Any as AnyTrait
from traitlets import Unicode

from ..concurrency.loop import spawn
from .answers import answer_to, one_by_one
from .assets import styles
from .sending import send_to_page
from .static_copy import static_class, static_copy

if TYPE_CHECKING:
    from .views import View


class ResultWidget(anywidget.AnyWidget):
    """A widget whose page makes requests, each with a `cid`, which are answered on a thread, one at a time.

    Attributes:
        height: a CSS length. Can be set.
    """

    _css = styles("explorer/explorer.css", "labels/labels.css")

    height = Unicode("640px").tag(sync=True)
    _static_class = Unicode("").tag(sync=True)
    # What a page shows before it asks for anything. The page sets it to learn whether it is connected.
    _snapshot = AnyTrait(None).tag(
        sync=True, to_json=lambda value, widget: widget._first_view(), from_json=lambda value, widget: None
    )

    def __init__(self, **traits: Any) -> None:
        self._turn = asyncio.Lock()  # of requests
        # In an HBox widgets share the width; without this layout it would have none.
        super().__init__(
            _static_class=static_class(), layout={"flex": "1 1 auto", "min_width": "0"}, **traits
        )
        self.on_msg(lambda widget, content, buffers: spawn(self._handle(content)))

    @abstractmethod
    def _handlers(self) -> Mapping[str, Callable[[Mapping[str, Any]], View]]:
        """What answers each kind of request."""

    @abstractmethod
    def _copy(self) -> tuple[str, str]:
        """The HTML and the text that are shown where no widget can be."""

    def _first_view(self) -> View | None:
        return None

    def _ipython_display_(self) -> None:
        shown: Any = self._repr_mimebundle_()
        publish_display_data(data=shown[0] if isinstance(shown, tuple) else shown)
        html, text = self._copy()  # the page shows the widget meanwhile
        html = static_copy(self._static_class, html)
        publish_display_data(data={"text/html": html, "text/plain": text})

    async def _handle(self, request: Any) -> None:
        """Do what the page asks for, and answer."""
        if not isinstance(request, dict) or not isinstance(cid := request.get("cid"), str):
            return
        answer = await answer_to(
            request, self._handlers(), lambda handler: one_by_one(self._turn, handler, request)
        )
        if self.comm is not None:
            send_to_page(self, {"kind": "answer", "cid": cid, **(answer or {})})
