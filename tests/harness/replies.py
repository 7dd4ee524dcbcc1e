"""Replies that have ended, made from their events."""

from __future__ import annotations

from typing import TYPE_CHECKING

from halo_notebook.reply import Reply
from halo_notebook.stream import TextDelta

if TYPE_CHECKING:
    from halo_notebook.stream import Event


def reply_of(*events: Event | str) -> Reply:
    """A reply that has ended."""
    reply = Reply()
    for event in events:
        reply.add(TextDelta(event) if isinstance(event, str) else event, 0.1)
    reply.elapsed_s, reply.status, reply.state = 0.2, "complete", ""
    return reply
