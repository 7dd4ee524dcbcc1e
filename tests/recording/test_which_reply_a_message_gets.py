"""A message gets the reply that it got when it was recorded."""

from __future__ import annotations

from pathlib import Path

from halo_notebook import HaloClient, errors
from halo_notebook.demo import DemoAgent, sign_user_token
from halo_notebook.recording.format import read_recording
from halo_notebook.recording.recorder import Recorder

from .recordings import KEY, SECRET, asked, recorded, replaying, said, texts


def test_the_nth_time_gets_the_nth_reply_and_then_the_first(path: Path) -> None:
    """Also in the same conversation, so that a second Run All shows the same again."""
    turns = [said("Go on", "one", sent=None), *(said("Go on", n, sent="sess_1") for n in ("two", "three"))]
    client = replaying(recorded(path, *turns))
    assert texts(client, *["Go on"] * 3) == ["one", "two", "three"]
    assert texts(client, *["Go on"] * 3, session="sess_1") == ["one", "two", "three"]


def test_a_conversation_is_continued_with_its_own_replies(path: Path) -> None:
    """Conversations with the same first message are distinguished by their session ids."""
    begun = [said("Hello", f"hello from {name}", session=name) for name in "ab"]
    continued = [said("Who?", name, sent=name, session=name) for name in "ba"]
    client = replaying(recorded(path, *begun, *continued))
    assert texts(client, "Hello", "Who?") == ["hello from a", "a"]
    assert texts(client, "Hello", "Who?") == ["hello from b", "b"]
    assert texts(client, "Hello", "Who?", session="a") == ["hello from a", "a"], "Run All once more"


def test_white_space_in_a_message_does_not_matter(path: Path) -> None:
    """Another session, other context, a user id and other white space are no reason to fail."""
    client = replaying(recorded(path, said("Who\nam I?", "Ada", sent="sess_1", user_id="u_1")))
    reply = client.ask(" Who am  I? ", session_id="other", user_id="u_2", context={"plan": "team"})
    assert (reply.text, reply.session_id) == ("Ada", "sess_1")


def test_fields_decide_where_several_have_the_message(path: Path) -> None:
    """The one whose other fields are most alike answers, however often it is asked."""
    turns = [said("Hi", mode, user_id="u_1", mode=mode) for mode in ("chat", "voice")]
    client = replaying(recorded(path, *turns))
    for mode in ("voice", "voice", "chat"):
        assert client.ask("Hi", mode=mode).text == mode


def test_a_failed_turn_and_its_repetition_are_both_replayed(path: Path) -> None:
    """The failure comes first, as then; the same again in the next round."""
    failed = said("Hi", b'{"error": "no"}', status=500, session=None, headers={})
    client = replaying(recorded(path, failed, said("Hi", "hello")))
    for session in (None, "sess_1"):
        assert isinstance(asked(client, "Hi", session_id=session)[1], errors.ServerError)
        assert asked(client, "Hi", session_id=session)[0].text == "hello"


def test_an_unknown_message_is_one_clear_line(path: Path) -> None:
    """It names what is there, the nearest first, and was not sent."""
    messages = ("My name is Ada", "Open a ticket", "What is my name?", "Bye\x1b[31m<script>")
    client = replaying(recorded(path, *(said(message, "x") for message in messages)))
    reply, error = asked(client, "What's my name")
    assert isinstance(error, errors.UsageError)
    assert str(error) == (
        "\"What's my name\" is not in the recording 'demo.jsonl'. Nothing was sent; it holds "
        "'What is my name?', 'My name is Ada', 'Open a ticket' and 1 more."
    )
    assert (reply.status, reply.may_have_arrived) == ("failed", False)
    assert "\x1b" not in str(asked(client, "Bye")[1])


def test_a_403_that_was_retried_with_a_fresh_token_is_skipped(path: Path) -> None:
    """Without a token there is none to be refreshed: the 403 in between is passed over."""
    tokens = iter([sign_user_token("ha_secret_of_another", "u_1"), sign_user_token(SECRET, "u_1")])
    with DemoAgent(first_byte_s=0, chunk_s=0, identity_secret=SECRET) as agent:
        client = HaloClient(
            KEY, base_url=agent.url, user_id="u_1", user_token=lambda: next(tokens), record=Recorder(path)
        )
        then = client.ask("My name is Ada")
    assert [each.status for each in read_recording(path)] == [403, 200]
    for _ in range(2):
        assert replaying(path).ask("My name is Ada").text == then.text
