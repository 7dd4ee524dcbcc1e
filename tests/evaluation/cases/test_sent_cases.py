"""Conversations as cases: of a session, a turn, an export and a recording; each sends what was sent then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import HaloClient, Recorder, Session, errors
from halo_notebook.demo import DEMO_KEY, DemoAgent
from halo_notebook.evaluation.cases.case import Case, CaseTurn, read_cases

from ...recording.recordings import recorded, said
from ..agents import sent, states

if TYPE_CHECKING:
    from ..conftest import Run

IMAGE = "data:image/png;base64,iVBORw0KGgo="
PLAN = {"plan": {"label": "plan", "value": "team"}}


@pytest.fixture
def session(client: HaloClient, agent: DemoAgent) -> Session:
    """A conversation in which a message did not arrive."""
    session = Session("support")
    session.ask(client, "My name is Ada", context={"plan": "team"}, images=[IMAGE], user_id="u_1")
    agent.faults.append("401")
    with pytest.raises(errors.AuthenticationError):
        session.ask(client, "Not taken")
    session.ask(client, "What is my name?", agent_id="agent_demo")
    session.rate(session.turns[0], "up", "Fine")
    session.rate(session.turns[2], "down", "Too long")
    return session


def test_a_conversation_becomes_a_case(session: Session) -> None:
    """Messages with their fields, but neither ids nor an agent; ratings are metadata for a person to read."""
    assert session.as_case("name", "Ada", ["memory"]) == Case(
        "name",
        (
            CaseTurn("My name is Ada", None, {"context": PLAN, "images": [IMAGE], "user_id": "u_1"}),
            CaseTurn("What is my name?"),
        ),
        "Ada",
        ("memory",),
        {
            "rating": "down",
            "rating_note": "Too long",
            "earlier_ratings": [{"turn": 1, "value": "up", "note": "Fine"}],
        },
    )


def test_a_turn_gives_the_conversation_up_to_it(session: Session) -> None:
    """Also one whose message did not arrive: it is asked for. Without it, that message is left out."""
    first, refused, last = session.turns
    assert [turn.message for turn in first.as_case().turns] == ["My name is Ada"]
    assert [turn.message for turn in refused.as_case().turns] == ["My name is Ada", "Not taken"]
    assert last.as_case() == session.as_case()
    assert first.as_case().metadata == {"rating": "up", "rating_note": "Fine"}


@pytest.mark.parametrize(
    ("message", "words"),
    [("What is my NAME?\n", "what-is-my-name-"), ("名前は？", "名前は-"), ("🙂", "case-")],
)
def test_an_id_is_the_same_for_the_same_conversation(message: str, words: str, client: HaloClient) -> None:
    """It begins with the message's words and differs where anything that is sent differs."""
    ids = []
    for context in (None, None, {"plan": "team"}):
        session = Session()
        session.ask(client, message, context=context)
        ids.append(session.as_case().id)
    assert all(each.startswith(words) and "\n" not in each for each in ids)
    assert ids[0] == ids[1] != ids[2]


@pytest.mark.parametrize(
    ("tags", "kept"),
    [
        (None, ()),
        (("é", "é", 3), ("é", "3")),
        ({"x"}, ("x",)),
        (5, ("5",)),
        ("x", None),
        ([None], None),
        ([["x"]], None),
    ],
)
def test_tags_are_those_of_a_case(tags: Any, kept: tuple[str, ...] | None, client: HaloClient) -> None:
    """Anything else than a list of strings or numbers is refused in one line."""
    session = Session()
    session.ask(client, "Hello")
    if kept is not None:
        assert session.as_case(tags=tags).tags == kept
    else:
        with pytest.raises(errors.InvalidRequest, match="tags must be a list"):
            session.as_case(tags=tags)


def test_only_the_last_conversation_of_a_session_is_a_case(client: HaloClient) -> None:
    """What was said to another agent, or under another id, is not what the agent knows."""
    session = Session()
    session.ask(client, "To this one")
    with DemoAgent(first_byte_s=0, chunk_s=0) as other:
        session.ask(HaloClient(DEMO_KEY, base_url=other.url), "To another one")
        session.ask(HaloClient(DEMO_KEY, base_url=other.url), "And again")
    assert [turn.message for turn in session.as_case().turns] == ["To another one", "And again"]
    assert [turn.message for turn in session.turns[0].as_case().turns] == ["To this one"]
    session.ask(client, "By its id", session_id="sess_1_known")
    case = session.as_case()
    assert [turn.message for turn in case.turns] == ["By its id"] and case.metadata == {"resumed": True}


def test_the_same_conversation_twice_is_one_case(client: HaloClient, agent: DemoAgent) -> None:
    """Such as the turns of a session in which a message was sent again after an error, and two sessions."""
    session, other = Session("one"), Session("two")
    agent.faults.append("401")
    with pytest.raises(errors.AuthenticationError):
        session.ask(client, "Hello")
    for each in (session, other):
        each.ask(client, "Hello")
    session.ask(client, "Goodbye")
    assert len(session.turns) == 3
    assert [len(case.turns) for case in read_cases([*session.turns, other])] == [1, 2]
    with pytest.raises(errors.InvalidRequest, match="have the same id"):
        read_cases([other.as_case(), other.as_case()])


def test_a_stopped_turn_is_part_of_the_conversation(client: HaloClient) -> None:
    """Its message had left; one that had not is none."""
    session = Session()
    with session.turn(client, "My name is Ada") as stream, stream:
        pass
    with session.turn(client, "Never sent"):
        pass
    session.ask(client, "What is my name?")
    assert [turn.message for turn in session.as_case().turns] == ["My name is Ada", "What is my name?"]


def test_evaluate_takes_conversations_in_each_form(
    session: Session, run: Run, agent: DemoAgent, tmp_path: Path
) -> None:
    """A session, its turns, cases of it and its export: the agent gets the same messages and fields."""
    export = session.export(tmp_path / "talk.json")
    for source in (session, [session], [session.turns[2]], session.as_case(), [session.as_case()], export):
        agent.requests.clear()
        assert states(run([source] if isinstance(source, Case) else source)) == ["complete"] * 2
        first, second = (dict(request.body) for request in agent.requests)
        assert second.pop("session_id") and second == {"message": "What is my name?"}
        assert first == {"message": "My name is Ada", "context": PLAN, "images": [IMAGE], "user_id": "u_1"}


def test_each_conversation_of_a_recording_is_a_case(client: HaloClient, run: Run, tmp_path: Path) -> None:
    """What was refused is left out, and a conversation that was had twice is one case."""
    with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
        path = tmp_path / "talk.jsonl"
        token = "tok_0123456789"
        recorded_by = HaloClient(
            DEMO_KEY,
            base_url=agent.url,
            user_id="u_1",
            user_token=token,
            record=Recorder(path),
            max_retries=0,
        )
        for _ in range(2):
            session = Session()
            session.ask(recorded_by, "My name is Ada", context={"plan": "team"})
            session.ask(recorded_by, "What is my name?")
        agent.faults.append("429 retry-after 90")
        with pytest.raises(errors.RateLimited):
            Session().ask(recorded_by, "Not taken")
        Session().ask(recorded_by, "Hello")
    two, one = read_cases(path)
    assert two.content_key == session.as_case().content_key and two.id == session.as_case().id
    assert [turn.message for turn in one.turns] == ["Hello"] and "user_token" not in one.turns[0].fields
    assert states(run(path)) == ["complete"] * 3


def test_conversations_of_a_recording_may_be_interleaved(tmp_path: Path) -> None:
    """They are told apart by their ids. An exchange without one is a conversation of its own."""
    path = recorded(
        tmp_path / "talk.jsonl",
        said("a1", "x", session="sess_a"),
        said("b1", "x", session="sess_b"),
        said("refused", session=None, status=403, headers={}),
        said("a2", "x", sent="sess_a", session="sess_a", custom_fields={"a": 1}),
        said("b2", "x", sent="sess_b", session=None, status=500, headers={}),
        said("alone", session=None, how="stopped"),
        said("later", "x", sent="sess_c", session="sess_c"),
    )
    cases = read_cases(path)
    assert [[turn.message for turn in case.turns] for case in cases] == [
        ["a1", "a2"],
        ["b1", "b2"],
        ["alone"],
        ["later"],
    ]
    assert cases[0].turns[1].fields == {"custom_fields": {"a": 1}}
    assert [case.metadata for case in cases] == [{}, {}, {}, {"resumed": True}]


def test_a_file_that_only_begins_like_one_is_refused(tmp_path: Path) -> None:
    """In one line, which says what it is not; nothing is sent."""
    (tmp_path / "talk.json").write_text(json.dumps(["Hello"]))
    with pytest.raises(
        errors.UsageError, match=r"'talk\.json' is not an exported session.*list of cases .* \.jsonl"
    ):
        read_cases(tmp_path / "talk.json")
    (tmp_path / "talk.jsonl").write_text('{"halo_recording": 1}\n{"message": "Hello"}\n')
    with pytest.raises(errors.UsageError, match="line 2 is not valid"):
        read_cases(str(tmp_path / "talk.jsonl"))


def test_a_continued_file_is_sent_as_it_was(client: HaloClient, agent: DemoAgent, tmp_path: Path) -> None:
    """The case begins where the new conversation began, with the history that the agent got."""
    session = Session()
    session.ask(client, "My name is Ada")
    loaded = Session.load(session.export(tmp_path / "talk.json"))
    assert loaded.as_case() == session.as_case()
    loaded.ask(client, "And now?")
    [turn] = loaded.as_case().turns
    assert turn.message == "And now?" and len(turn.fields["conversation_history"]) == 2
    assert sent(agent) == ["My name is Ada", "And now?"]
