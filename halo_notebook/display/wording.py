"""How the status of a reply is worded: the status line, counts, what is kept after an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..reply import Reply


def status_words(reply: Reply, *, source: str = "", session: str | None = None) -> list[str]:
    """What the status line says about a reply, piece by piece.

    If it was not Halo that answered, `source` says who did: ``demo agent``, ``replay of FILE``.
    """
    words = [source] if source else []
    # The prefix keeps an id from looking like one of our own words, such as 'failed'.
    words += [f"agent {reply.agent_id}"] if reply.agent_id else []
    words += [f"session {session}"] if session else []
    if reply.status in ("stopped", "failed"):
        words.append(reply.status)
    if reply.first_text_s is not None:
        words.append(f"first text {reply.first_text_s:.2f} s")
    if reply.elapsed_s is not None:
        words.append(f"total {reply.elapsed_s:.2f} s")
    words += [counted(len(reply.actions), "action")] if reply.actions else []
    return words + caveats(reply)


def caveats(reply: Reply) -> list[str]:
    """What is unusual about a reply, for its status line; usually nothing."""
    words = [counted(len(reply.malformed), "unreadable record")] if reply.malformed else []
    if reply.retries:
        words.append(f"try {reply.retries + 1}")
    if reply.status == "complete" and not reply.session_id:
        words.append("no session id, so the next message starts a new conversation")
    return words


def counted(count: int, what: str) -> str:
    """A number of things in words: ``1 action``, ``2,000 actions``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def what_is_kept(reply: Reply) -> str:
    """What is kept after a reply broke off or was stopped, for the line of its error."""
    arrived = reply.text or reply.action_events or reply.summary or reply.malformed
    return "The reply so far and the session are kept" if arrived else "The session is kept"
