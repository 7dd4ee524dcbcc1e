"""A reply as a value: its text, its actions, and what it shows of itself."""

from __future__ import annotations

from halo_notebook import Reply
from halo_notebook.stream import Action, MalformedRecord, TextDelta


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
