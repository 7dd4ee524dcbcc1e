"""A reply as the outputs of a notebook's cell."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from IPython.display import publish_display_data

from ...display.blocks import ReplyRenderer, ShownText, wrap
from ...display.bundles import json_bundle, labelled_payloads, status_bundle, status_html

if TYPE_CHECKING:
    from ...display.pacer import Pacer
    from ...reply import Reply
    from ...stream import JSON

MAX_SINGLE_ACTIONS = 2
"""More actions than this at one repaint are shown as one tree: each alone would be a message
of its own, and a burst of them would be dropped."""
MAX_ACTION_OUTPUTS = 20
"""After so many, further actions go into one tree that grows: JupyterLab hides a cell's outputs
beyond the fiftieth, and the status line with them."""


class NotebookScreen:
    """A reply as a cell's outputs: the text, each action as a tree, the status line.

    Args:
        reply: what to show; it grows.
        pacer: told what each message costs.
        metadata: gives what is written beside the text under the key `halo`.
        images: whether remote images are shown; else they are links.
    """

    def __init__(
        self, reply: Reply, pacer: Pacer, metadata: Callable[[], dict[str, JSON]], *, images: bool = False
    ) -> None:
        self._reply = reply
        self._pacer = pacer
        self._metadata = metadata
        self._text = ShownText(images=images)
        self._display_id = f"halo-{uuid.uuid4().hex}"
        self._part = 0
        self._actions_shown = 0
        self._action_outputs = 0
        self._rest: list[JSON] = []  # the actions of the one tree that grows
        self._state = ""

    def begin(self, state: str) -> None:
        self._state = state
        self._publish_text(status_html([state + " …"]), plain_text=state + " …")
        _warm_up()

    def paint(self, state: str) -> None:
        since = self._pacer.clock()
        if self._take_text():
            html = self._text.renderer.html() + self._text.end_html()
            self._publish_text(wrap(html), update=True, since=since)
        elif not self._part and state != self._state:
            self._state = state
            self._publish_text(status_html([state + " …"]), update=True, since=since)
        self._show_actions()

    def finish(self, words: Sequence[str]) -> None:
        self._take_text()
        html = self._text.renderer.finish() + self._text.end_html()
        html = wrap(html) if self._part else status_html(["no text"])
        # Only the last frame has its plain text beside it: it would double the bytes of each.
        plain_text = self._text.shown(self._reply.text) or "(no text)"
        self._publish_text(html, update=True, plain_text=plain_text)
        self._show_actions()
        self._show_payloads(self._reply.summary_only, len(self._reply.action_events))
        self._publish(status_bundle(words), {})

    def _take_text(self) -> bool:
        """Take in what has come; whether anything had."""
        text, self._part = self._reply.text_since(self._part)
        self._text.append(text)
        return bool(text)

    def _publish_text(
        self, html: str, *, plain_text: str | None = None, update: bool = False, since: float | None = None
    ) -> None:
        data = {"text/html": html}
        if plain_text is not None:
            data["text/plain"] = plain_text
        self._publish(
            data,
            {"halo": self._metadata()},
            since=since,
            transient={"display_id": self._display_id},
            update=update,
        )

    def _show_actions(self) -> None:
        events = self._reply.action_events[self._actions_shown :]
        self._show_payloads([event.payload for event in events], self._actions_shown)
        self._actions_shown += len(events)

    def _show_payloads(self, payloads: list[JSON], before: int) -> None:
        how: dict[str, Any] = {}
        most = MAX_SINGLE_ACTIONS
        if payloads and self._action_outputs >= MAX_ACTION_OUTPUTS:
            how = {"transient": {"display_id": f"{self._display_id}-rest"}, "update": bool(self._rest)}
            before -= len(self._rest)
            payloads = self._rest = self._rest + payloads
            most = 0
        for payload, label in labelled_payloads(payloads, before=before, most=most):
            since = self._pacer.clock()
            metadata = {"application/json": {"root": label}}
            self._publish(json_bundle(payload, label), metadata, since=since, **how)
            self._action_outputs += 1

    def _publish(
        self, data: dict[str, Any], metadata: dict[str, Any], *, since: float | None = None, **how: Any
    ) -> None:
        since = self._pacer.clock() if since is None else since
        publish_display_data(data=data, metadata=metadata, **how)
        size = sum(
            len(value) if isinstance(value, str) else len(json.dumps(value)) for value in data.values()
        )
        self._pacer.spent(since=since, size=size)


@cache
def _warm_up() -> None:
    """Make a process's first frame as quick as the others, while the agent is waited for."""
    ReplyRenderer().append("`a` [b](https://example.com)\n\n```python\nc\n```\n\n")
