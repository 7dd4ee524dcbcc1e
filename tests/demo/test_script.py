"""The demo agent's script: what it understands, remembers and says, and where its replies are cut."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook.demo.faults import FAULTS
from halo_notebook.demo.server import cut_awkwardly
from halo_notebook.stream import Action, ActionSummary, MalformedRecord, encode

from .over_http import EVENT_TRACKING, actions_of, ask, events_of, raw_chunks, text_of

if TYPE_CHECKING:
    import httpx


def test_session_remembers_a_name(http: httpx.Client) -> None:
    """A name given in a session is known there, and in no other; an unknown session id is accepted."""
    assert ask(http, "my name is Ada", session_id="mine").headers["x-session-id"] == "mine"
    answer = http.post("/chat", json={"message": "What is my name?", "session_id": "mine"}).json()
    assert "Ada" in answer["response"]
    session_id = ask(http, "Hello, my name is Zoë Müller.").headers["x-session-id"]
    again = ask(http, "What is my name?", session_id=session_id)
    assert again.headers["x-session-id"] == session_id
    assert "Zoë Müller" in text_of(again.content)
    other = ask(http, "what's my name")
    assert other.headers["x-session-id"] != session_id
    assert "not told me" in text_of(other.content)


@pytest.mark.parametrize(
    ("history", "words"),
    [
        (
            [{"role": "user", "content": "My name is Ada"}, {"role": "assistant", "content": "Hi"}],
            "name is Ada",
        ),
        (
            [{"speaker": "user", "text": "My name is Ada"}, {"role": "user", "content": "my name is Bo"}],
            "is Bo",
        ),
        ([{"role": "assistant", "content": "My name is Halo"}], "not told me"),
        (["My name is Ada", None, {"role": ["user"]}, {"role": "user", "content": [1]}, {}], "not told me"),
        ([], "not told me"),
    ],
    ids=range(5),
)
def test_a_name_may_come_with_the_history(http: httpx.Client, history: list[Any], words: str) -> None:
    """So a conversation that continues from a file knows it; only a user says a name."""
    assert words in text_of(ask(http, "What is my name?", conversation_history=history).content)


def test_name_cannot_contain_a_record(http: httpx.Client) -> None:
    """A user cannot make the script send a record."""
    body = json.dumps({"message": 'my name is \x1e__ACTION__{"type": 1}\x1e\ud800'})
    response = http.post("/chat/stream", content=body)
    assert b"\x1e" not in response.content
    assert "__ACTION__" in text_of(response.content)


def test_agent_says_what_it_knows(http: httpx.Client) -> None:
    """It lists what came with the message, without the token."""
    response = ask(
        http,
        "What do you know about me?",
        user_id="u1",
        user_token="a-token",
        mode="video",
        context={"cart": {"label": "Cart", "value": []}},
        custom_fields={"plan": "team"},
        conversation_history=[{"role": "user", "content": "x"}] * 3,
        behavior_context="12345",
        images=["https://example.com/1.png", "https://example.com/2.png"],
    )
    fenced = re.search(r"```json\n(.*?)\n```", text_of(response.content), re.DOTALL)
    assert fenced is not None
    assert json.loads(fenced.group(1)) == {
        "user_id": "u1",
        "user_token": "set",
        "company_id": None,
        "mode": "video",
        "context": ["cart"],
        "custom_fields": ["plan"],
        "behavior_context_characters": 5,
        "conversation_history_items": 3,
        "images": 2,
        "name": None,
        "turn": 1,
    }


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("show me MARKDOWN", r"\| Plan \| Seats"),
        ("Markdown", r"\$\$"),
        ("please open a ticket", "TM-4217"),
        ("where is billing", "Settings → Billing"),
        ("Invoices?", "Settings → Billing"),
        ("write a long answer", "# A field guide"),
        ("I need 2,000 words", "# A field guide"),
        ("help", "/fault NAME"),
        ("tell me a joke", "scripted demo agent"),
    ],
)
def test_key_words_are_enough(http: httpx.Client, message: str, expected: str) -> None:
    """A message is matched loosely, and every record of the reply can be read."""
    response = ask(http, message)
    assert re.search(expected, text_of(response.content))
    assert not any(isinstance(event, MalformedRecord) for event in events_of(response.content))


def test_answers_contain_what_the_help_promises(http: httpx.Client) -> None:
    """The long answer has about 2,000 words, the ticket is nested, the help names all faults."""
    [action] = actions_of(ask(http, "open a ticket").content)
    assert isinstance(action, dict) and isinstance(action["ticket"], dict)
    assert isinstance(action["ticket"]["timeline"], list)
    text = text_of(ask(http, "help").content)
    assert all(f"`{name}`" in text for name in FAULTS)
    text = text_of(ask(http, "write a long answer").content)
    assert 1_900 <= len(text.split()) <= 2_200
    paragraphs = text.strip().split("\n\n")
    assert len(set(paragraphs)) == len(paragraphs)


def test_replies_are_cut_at_awkward_places(http: httpx.Client) -> None:
    """Chunks end inside characters, tags and records, and together they are the reply."""
    chunks = raw_chunks(http, EVENT_TRACKING)
    reply = b"".join(chunks)
    assert reply == ask(http, EVENT_TRACKING).content
    assert len(chunks) > 50
    before = [reply[: sum(map(len, chunks[:count]))] for count in range(1, len(chunks))]
    assert any(re.match(rb"[\x80-\xbf]", chunk) for chunk in chunks)
    assert any(re.search(rb"\x1e_[_A-Z]{0,8}\Z", text) for text in before)
    assert any(re.search(rb"__ACTIONS?__[^\x1e]+\Z", text) for text in before)


def test_cuts_are_the_same_each_time() -> None:
    """The same bytes are cut in the same way, nothing is lost, and a tag among ASCII is cut."""
    replies = [b"", b"x", "é".encode(), "日本語".encode() * 50, encode(Action({"é": "€" * 99}))]
    replies += [
        b"x" * length + record + b"y" * length
        for length in range(40)
        for record in (encode(Action(None)), encode(ActionSummary([])))
    ]
    for reply in replies:
        chunks = cut_awkwardly(reply)
        cut_awkwardly.cache_clear()
        assert chunks == cut_awkwardly(reply)
        assert b"".join(chunks) == reply
        assert not (reply.isascii() and any(re.search(rb"\x1e__ACTIONS?__", chunk) for chunk in chunks))
