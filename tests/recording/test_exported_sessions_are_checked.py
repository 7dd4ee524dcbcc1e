"""An exported session is read back whole; a file that is not one is refused as a whole, with its turn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import ActionEvent, HaloClient, Rating, Recorder, Replay, Session, Vote, errors
from halo_notebook.demo import DEMO_KEY, DemoAgent
from halo_notebook.recording.exported import FORMAT
from halo_notebook.recording.format import read_recording
from halo_notebook.reply import Reply
from halo_notebook.session import Turn
from halo_notebook.stream import JSON, MAX_NESTING, Action, ActionSummary, MalformedRecord, TextDelta

if TYPE_CHECKING:
    from halo_notebook.demo import Step


@pytest.fixture
def session() -> Session:
    """With all that a turn may have."""
    session = Session("support", "sess_1", "agent_1", "https://example.com/api/sdk")
    for message, status in (("Hello", "complete"), ("More", "stopped"), ("Lost", "failed")):
        reply = Reply()
        reply.add(TextDelta("Hé \u2028 "), 0.1)
        reply.add(Action({"type": "a", "n": 2**60}), 0.2)
        reply.add(TextDelta("end"), 0.3)
        reply.add(ActionSummary([{"type": "a", "n": 2**60}, {"type": "b"}]), 0.4)
        reply.add(MalformedRecord("{", "json"), 0.5)
        reply.session_id, reply.agent_id, reply.elapsed_s, reply.retries = "sess_1", "agent_1", 1.5, 2
        reply.status, reply.may_have_arrived = status, message != "Lost"  # type: ignore[assignment]
        request: dict[str, Any] = {"message": message, "context": {"a": {"label": "a", "value": [1, None]}}}
        session.turns.append(Turn(request, reply, "https://example.com/api/sdk", "demo agent"))
    session.turns[1].vote = Vote("r", "a", ("a", "b"), "won", "a", blind=True, at="2026-01-02T03:04:05+00:00")
    session.rate(session.turns[0], "down", "Too *long* \u202e")
    return session


def test_a_session_is_read_back_as_it_was(session: Session, tmp_path: Path) -> None:
    """Its turns with their requests, texts, actions, times, ends and ratings."""
    loaded = Session.load(session.export(tmp_path / "talk.json"))
    assert loaded.to_dict() == session.to_dict()
    assert loaded.to_markdown() == session.to_markdown()
    reply = loaded.turns[0].reply
    assert loaded.turns[0].rating == Rating("down", "Too *long* \u202e")
    assert reply.started_at.timestamp() == pytest.approx(
        session.turns[0].reply.started_at.timestamp(), abs=1e-3
    )
    assert reply.action_events == [ActionEvent({"type": "a", "n": 2**60}, 0.2, 5)]
    assert (reply.first_text_s, reply.elapsed_s, reply.retries, reply.state) == (0.1, 1.5, 2, "")
    assert [turn.reply.may_have_arrived for turn in loaded.turns] == [True, True, False]


def test_an_export_of_an_earlier_version_is_read(session: Session, tmp_path: Path) -> None:
    """It has no number of a format, and says of no turn whom it was sent to and whether it arrived."""
    content: Any = session.to_dict()
    del content["halo_session"]
    for turn in content["turns"]:
        for name in ("target", "source", "may_have_arrived"):
            del turn[name]
    content["turns"][2]["reply"] |= {"text": "", "action_events": []}
    path = tmp_path / "talk.json"
    path.write_text("\ufeff" + json.dumps(content), encoding="utf-8")
    assert [turn.reply.may_have_arrived for turn in Session.load(path).turns] == [True, True, False]


def nested(levels: int, key: str) -> JSON:
    """A value with that many levels of lists, or of objects with that key."""
    value: JSON = 1
    for _ in range(levels):
        value = {key: value} if key else [value]
    return value


@pytest.mark.parametrize("key", ["", "a"], ids=["lists", "objects"])
@pytest.mark.parametrize("levels", [MAX_NESTING - 6, MAX_NESTING - 5, MAX_NESTING])
@pytest.mark.parametrize("path", ["/chat", "/chat/stream"])
def test_what_is_received_and_sent_can_be_opened(levels: int, key: str, path: str, tmp_path: Path) -> None:
    """However deeply it is nested; a recording of it can be read, too."""
    deep = nested(levels, key)
    steps: list[Step] = [TextDelta("Done."), Action(deep)] if path == "/chat/stream" else [TextDelta("Done.")]
    recorder = Recorder(tmp_path / "recording.jsonl")
    with (
        DemoAgent(first_byte_s=0, chunk_s=0, reply=lambda _: steps) as agent,
        HaloClient(DEMO_KEY, base_url=agent.url, record=recorder) as client,
    ):
        session = Session()
        with session.turn(client, "Hi", whole=path == "/chat", context={"k": deep}) as stream, stream:
            reply = stream.to_end()
    assert reply.actions == ([deep] if path == "/chat/stream" else []) and not reply.malformed
    [turn] = Session.load(session.export(tmp_path / "talk.json")).turns
    assert turn.reply.to_dict() == reply.to_dict()
    assert turn.request == session.turns[0].request
    [exchange] = read_recording(recorder.path)
    assert exchange.body == turn.request and recorder.error == ""


@pytest.mark.parametrize("levels", [MAX_NESTING + 1, 400, 100_000])
def test_what_is_nested_deeper_is_neither_read_nor_sent(levels: int, tmp_path: Path) -> None:
    """An action is kept as text, which can be opened; a value of a request is refused in one line."""
    text = "[" * levels + "]" * levels
    steps: list[Step] = [b"\x1e__ACTION__" + text.encode() + b"\x1e"]
    with (
        DemoAgent(first_byte_s=0, chunk_s=0, reply=lambda _: steps) as agent,
        HaloClient(DEMO_KEY, base_url=agent.url) as client,
    ):
        session = Session()
        session.ask(client, "Hi")
        with pytest.raises(errors.InvalidRequest, match=r"deeper than 256 levels.*Nothing was sent"):
            session.ask(client, "Hi", context={"k": nested(levels, "")})
    [turn] = Session.load(session.export(tmp_path / "talk.json")).turns
    assert [record.raw for record in turn.reply.malformed] == [text]


DEEP = "[" * 100_000 + "]" * 100_000
VOTE = {"round": "r", "config": "a", "configs": ["a", "b"], "outcome": "won", "winner": "a", "blind": True}
VOTE["at"] = "2026-01-02T03:04:05.678+00:00"
INVALID: dict[str, tuple[Any, str]] = {
    "not JSON": ("<script>", "it is not JSON"),
    "not UTF-8": (b"\xff\xfe\x00", "it is not JSON"),
    "NaN": ('{"turns": [NaN]}', "it is not JSON"),
    "nested too deep": (f'{{"turns": {DEEP}}}', "it is nested deeper than 272 levels). Nothing was changed"),
    "a list": ([], "'turns' is missing or has the wrong type"),
    "another object": ({"cells": []}, "'turns' is missing"),
    "a version of text": ({"halo_session": "1"}, "'halo_session' is missing or has the wrong type"),
    "version 0": ({"halo_session": 0}, "'halo_session' is not a format"),
    "turns an object": ({"turns": {}}, "'turns' is missing or has the wrong type"),
    "a name of another type": ({"name": 1}, "'name' is missing"),
    "an id of another type": ({"session_id": ["x"]}, "'session_id' is missing"),
    "a turn of another type": ({"turns": ["x"]}, "turn 1: 'request' is missing"),
    "no request": ({"request": None}, "turn 3: 'request' is missing"),
    "a blank message": ({"request": {"message": " "}}, "turn 3: The message is empty)"),
    "a context of another type": ({"request.context": "x"}, "turn 3: context must be a dict"),
    "images that are none": (
        {"request.images": ["javascript:alert(1)"]},
        "turn 3: images[0] must be an http(s)",
    ),
    "a history of another type": (
        {"request.conversation_history": [{"role": "user", "content": 5}]},
        "turn 3: conversation_history[0] needs 'role'",
    ),
    "a field of no kind": ({"request.say": "x"}, "turn 3: Unknown field 'say'"),
    "a message of another type": ({"request": {"message": []}}, "turn 3: 'message' is missing"),
    "no reply": ({"reply": []}, "turn 3: 'reply' is missing"),
    "a text of another type": ({"reply.text": 1}, "turn 3: 'text' is '1'"),
    "a status of no kind": ({"reply.status": "won"}, "turn 3: 'status' is 'won'"),
    "a date of no calendar": ({"reply.started_at": "0000-01-01"}, "turn 3: 'started_at' is '0000"),
    "a time that is a bool": ({"reply.elapsed_s": True}, "turn 3: 'elapsed_s' is 'True'"),
    "an endless time": ({"reply.first_text_s": 10**400}, "turn 3: 'first_text_s' is '1000"),
    "an action with more": ({"reply.action_events": [{"at_s": 1}]}, "turn 3: an item needs payload, at_s"),
    "an action beyond": (
        {"reply.action_events": [{"payload": 1, "at_s": 1, "offset": 900}]},
        "turn 3: its actions are not in the order of the text",
    ),
    "a rating of no kind": ({"rating": {"value": "<b>", "note": ""}}, "turn 3: 'value' of the rating"),
    "a note of another type": ({"rating": {"value": "up", "note": 3}}, "turn 3: 'note' is missing"),
    "a vote of another type": ({"vote": []}, "turn 3: 'vote' is missing"),
    "a vote without names": ({"vote": {**VOTE, "configs": [1]}}, "turn 3: 'configs' of the vote"),
    "a vote of no kind": ({"vote": {**VOTE, "outcome": "<b>"}}, "turn 3: 'outcome' of the vote"),
    "a vote at no time": ({"vote": {**VOTE, "at": "soon"}}, "turn 3: Invalid isoformat"),
    "a vote that is half blind": ({"vote": {**VOTE, "blind": 1}}, "turn 3: 'blind' is missing"),
    "an arrival of another type": ({"may_have_arrived": "yes"}, "turn 3: 'may_have_arrived' is missing"),
}


@pytest.mark.parametrize(("given", "words"), INVALID.values(), ids=INVALID)
def test_a_file_that_is_not_an_export_is_refused(
    given: Any, words: str, session: Session, tmp_path: Path
) -> None:
    """In one line that names the file, the turn and what is wrong with it."""
    content: Any = session.to_dict()
    if isinstance(given, dict):
        for name, value in given.items():
            inner = content if name in content or name == "cells" else content["turns"][2]
            *way, last = name.split(".")
            for key in way:
                inner = inner[key]
            inner[last] = value
        if "cells" in given:
            del content["turns"]
    else:
        content = given
    path = tmp_path / "talk.json"
    path.write_bytes(given if isinstance(given, bytes) else b"")
    if not isinstance(given, bytes):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(errors.UsageError) as caught:
        Session.load(path)
    line = str(caught.value)
    assert line.startswith("'talk.json' is not an exported session (") and words in line
    assert "Nothing was changed" in line and "\n" not in line and len(line) < 400


@pytest.mark.parametrize("given", [None, 5, ["a.json"]], ids=str)
@pytest.mark.parametrize("use", [Session.load, Session().export, Recorder, Replay])
def test_what_is_not_a_path_is_one_line(use: Callable[[Any], object], given: Any) -> None:
    """Nothing is read or written."""
    with pytest.raises(errors.UsageError, match=r"^[^\n]*; (give|choose) [^\n]*$"):
        use(given)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file, a folder, no home, one that is too large, one of a later version."""
    for place, words in (
        (tmp_path / "absent.json", "could not be read (No such file"),
        (tmp_path, "it is not a file"),
        ("~nobody_of_that_name/x.json", "does not exist"),
        ("a\0b.json", "could not be read"),
        ("~\ud800.json", "does not exist"),
    ):
        with pytest.raises(errors.UsageError) as caught:
            Session.load(place)
        assert words in str(caught.value) and "\n" not in str(caught.value)
    path = tmp_path / "later.json"
    path.write_text(json.dumps({**Session().to_dict(), "halo_session": FORMAT + 1}))
    with pytest.raises(errors.UsageError, match=r"later version .* \(format 2; this one reads 1\).*update"):
        Session.load(path)
    monkeypatch.setattr("halo_notebook.recording.format.MAX_FILE_BYTES", 10)
    with pytest.raises(errors.UsageError, match="an exported session may have 10"):
        Session.load(path)


def test_what_a_file_says_is_harmless(session: Session, tmp_path: Path) -> None:
    """Lone surrogates, names that are not one line and a token do not come in; a running turn is stopped."""
    content: Any = session.to_dict()
    content["name"], content["agent_id"] = "a\nb\x1b[31m" + "x" * 200, "ag\nent"
    content["turns"][0]["request"] |= {"message": "x\ud800y", "user_token": "tok_secret"}
    content["turns"][0]["reply"]["status"] = "streaming"
    content["turns"][1] |= {"source": "demo\nagent", "target": "t\x00"}
    path = tmp_path / "talk.json"
    path.write_text(json.dumps(content))
    loaded = Session.load(path)
    assert loaded.name.startswith("a b") and len(loaded.name) == 100 and loaded.name.isprintable()
    assert loaded.agent_id == "ag ent"
    first, second, _ = loaded.turns
    assert first.request["message"] == "x\ufffdy" and "user_token" not in first.request
    assert first.reply.status == "stopped" and (second.source, second.target) == ("demo agent", "t")
    loaded.to_json().encode()
