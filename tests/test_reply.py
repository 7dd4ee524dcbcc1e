"""A reply as a value: its text, its actions, and what it shows of itself."""

from __future__ import annotations

from typing import Any

from halo_notebook import HaloClient, Reply
from halo_notebook.demo import DemoAgent
from halo_notebook.stream import Action, MalformedRecord, TextDelta

from .client.clients import KEY


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
    seen += reply.text_since(part)[0]
    assert seen == reply.text == "".join(f"{number} " for number in range(50))


def test_a_million_deltas_are_joined_once() -> None:
    """Adding is cheap and reading joins: a long reply in tiny chunks costs what its text costs."""
    reply = Reply()
    for _ in range(200_000):
        reply.add(TextDelta("ab"), at_s=0.1)
    assert len(reply.text) == 400_000
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

    def steps(_: Any) -> list[Any]:
        return [TextDelta("<img src=x onerror=alert(1)> **bold**"), Action({"<b>": "<script>"})]

    with DemoAgent(reply=steps, first_byte_s=0) as agent:
        reply = HaloClient(KEY, base_url=agent.url).ask("Hello")
    bundle = reply._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert "<img" not in bundle["text/html"] and "<script" not in bundle["text/html"]
    assert "<strong>bold</strong>" in bundle["text/html"]
    assert "**bold**" in bundle["text/plain"]
