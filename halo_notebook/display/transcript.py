"""A turn as Markdown, for an exported conversation.

The agent's text is in it unchanged, so a program that renders the file must treat it as untrusted.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..reply import Reply


def turn_markdown(
    number: int, message: str, reply: Reply, *, value: str = "", note: str = "", vote: Mapping[str, Any] = {}
) -> str:
    """A message and its reply so far as Markdown, with a heading; the actions are JSON blocks.

    `value` and `note` are those of a person's `Rating`, `vote` is a `Vote` as a dict; all may be empty.
    """
    text = _closed(reply.text) or "*(no text)*"
    parts = [f"## Turn {number}", "**You**", _closed(message), "**Agent**", text]
    for payload in reply.actions:
        text = json.dumps(payload, indent=2, ensure_ascii=False)
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
        parts.append(f"{fence}json\n{text}\n{fence}")
    if reply.status != "complete":
        parts.append(f"*({reply.status}{': ' + reply.error if reply.error else ''})*")
    if value or note:
        parts.append(f"*(rated {value or 'with a note'})*")
        parts += [_closed(note)] if note else []
    if vote:
        parts.append(f"*(vote: {vote['outcome']}, as {json.dumps(vote['config'], ensure_ascii=False)})*")
    return "\n\n".join(parts) + "\n"


def _closed(text: str) -> str:
    """Markdown with its last code fence closed, so that it does not enclose what follows."""
    fence = ""
    for line in text.split("\n"):
        mark = re.match(r" {0,3}(`{3,}|~{3,})", line)
        if mark and not fence:
            fence = mark.group(1)
        elif mark and mark.group(1).startswith(fence) and not line.strip(" `~"):
            fence = ""
    return f"{text}\n{fence}" if fence else text
