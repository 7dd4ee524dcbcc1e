"""Messages that were sent, as items for `read_cases`: those of a session or of a recording.

An item has what the agent got, and nothing that is bound to that time: no id of a conversation, no token, no
agent.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...client.request import RequestFields
from ...recording.format import read_recording

if TYPE_CHECKING:
    from ...stream import JSON

# Which agent answers is the choice of an evaluation's configurations.
_FIELDS = [
    name for name in RequestFields.__annotations__ if name not in ("session_id", "user_token", "agent_id")
]
_MAX_SLUG_CHARS = 40
_sorted_json = json.JSONEncoder(sort_keys=True, ensure_ascii=False).encode


def sent_item(requests: Sequence[Mapping[str, JSON]]) -> dict[str, Any]:
    """The requests of one conversation, in order, as an item.

    Its id is the first words of the last message and a digest of all that was sent.
    """
    turns = [{name: each[name] for name in ("message", *_FIELDS) if name in each} for each in requests]
    words = "-".join(re.findall(r"\w+", str(turns[-1]["message"])[:1_000].casefold()))
    digest = hashlib.sha256(_sorted_json(turns).encode("utf-8", "replace")).hexdigest()[:8]
    metadata = {"resumed": True} if requests[0].get("session_id") else {}
    return {
        "id": f"{words[:_MAX_SLUG_CHARS].strip('-') or 'case'}-{digest}",
        "turns": turns,
        "metadata": metadata,
    }


def rated_item(written: Sequence[tuple[dict[str, JSON], dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """The turns of one conversation, each a request, a rating and a vote that may be empty, as an item."""
    item = sent_item([request for request, *_ in written])
    _, rating, vote = written[-1]
    if rating:
        item["metadata"] |= {"rating": rating["value"], "rating_note": rating["note"]}
    if vote:
        item["metadata"]["vote"] = vote["outcome"]
    if earlier := [{"turn": at, **rated} for at, (_, rated, _) in enumerate(written[:-1], 1) if rated]:
        item["metadata"]["earlier_ratings"] = earlier
    return item


def recorded_items(path: Path) -> list[dict[str, Any]]:
    """The conversations of a recording as items; those in which the same was sent are one.

    Raises `UsageError` when it is not a recording.
    """
    conversations: dict[str | int, list[dict[str, JSON]]] = {}
    for number, exchange in enumerate(read_recording(path)):
        if exchange.arrived:
            conversations.setdefault(exchange.session_id or number, []).append(exchange.body)
    items = map(sent_item, conversations.values())
    return list({item["id"]: item for item in items}.values())
