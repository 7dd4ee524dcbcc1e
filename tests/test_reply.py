"""A reply as a value: its text, its actions, and what it shows of itself."""

from __future__ import annotations

import json

import pytest

from halo_notebook import Reply
from halo_notebook.stream import Action, ActionSummary, MalformedRecord, TextDelta


def test_text_can_be_followed_while_it_grows() -> None:
    """`text_since` gives each piece once, however often `text` is read between."""
    reply = Reply()
    seen, part = "", 0
    for number in range(50):
        reply.add(TextDelta(f"{number} "), at_s=0.1)
        if number % 3 == 0:
            assert reply.text.endswith(f"{number} ")
            more, part = reply.text_since(part)
            seen += more
    assert seen + reply.text_since(part)[0] == reply.text == "".join(f"{number} " for number in range(50))
    assert reply.text is reply.text, "read twice, joined once"


def test_malformed_records_are_kept() -> None:
    """They are on the reply and in its JSON, and are not shown as text."""
    reply = Reply()
    record = MalformedRecord("{", "json")
    reply.add(record, at_s=0.1)
    assert reply.malformed == [record] and reply.text == ""
    assert reply.to_dict()["malformed"] == [{"raw": "{", "reason": "json"}]


def test_a_reply_shows_itself_safely() -> None:
    """Its rich display is the safe HTML of its text and actions, with plain text beside."""
    reply = Reply()
    reply.add(TextDelta("<img src=x onerror=alert(1)> **bold**"), at_s=0.1)
    reply.add(Action({"<b>": "<script>"}), at_s=0.1)
    bundle = reply._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert "<img" not in bundle["text/html"] and "<script" not in bundle["text/html"]
    assert "<strong>bold</strong>" in bundle["text/html"]
    assert "**bold**" in bundle["text/plain"]


@pytest.mark.parametrize(
    ("sent", "summed_up", "same"),
    [
        ('{"x": 1.0}', '{"x": 1}', True),
        ('{"x": [1e0, {"y": 2.50}], "z": -0.0}', '{"z": 0, "x": [1, {"y": 2.5}]}', True),
        ("1e16", "10000000000000000", True),
        ('{"x": true}', '{"x": 1}', False),
        ('{"x": "1.0"}', '{"x": 1}', False),
        ("9007199254740993", "9007199254740992.0", False),
        ("[1.5]", "[1]", False),
    ],
)
def test_an_action_that_the_summary_writes_otherwise_is_one(sent: str, summed_up: str, *, same: bool) -> None:
    """Numbers that are equal are the same, and so is the order of keys; true and "1" are no numbers."""
    reply = Reply()
    reply.add(Action(json.loads(sent)), at_s=0.1)
    reply.add(ActionSummary([json.loads(summed_up)]), at_s=0.2)
    assert len(reply.actions) == (1 if same else 2)
