"""An arena: columns whose names are hidden until the vote, and the votes that are kept."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from anywidget import AnyWidget

from halo_notebook import ArenaPanel, AsyncHaloClient, DemoAgent, HaloClient, Session, errors
from halo_notebook.demo import DEMO_KEY
from halo_notebook.panel import outbox
from halo_notebook.panel.blind import blinded
from halo_notebook.stream import Action, TextDelta

from .conftest import Wire, asked

if TYPE_CHECKING:
    from halo_notebook.demo import Step
    from halo_notebook.kernel import Connection
    from halo_notebook.session import SessionRegister
    from halo_notebook.stream import JSON

NAMES = ("plum_one", "plum_two", "plum_three")
"""Nothing else on a page has 'plum' in it."""


class ArenaWire(Wire):
    """What an arena's page gets, and what it asks."""

    arena: ArenaPanel

    def state(self) -> dict[str, Any]:
        """The last message about the whole."""
        return self.of("arena")[-1]

    def until(self, **wanted: Any) -> dict[str, Any]:
        """The state of the whole, once it has these values."""
        self.wait(lambda: self.of("arena") and all(self.state()[name] == wanted[name] for name in wanted))
        return self.state()

    def say(self, text: str, cid: str | None = None) -> dict[str, Any]:
        cids = [f"{cid or text}-{at}" for at in range(len(self.state()["labels"]))]
        return self.ask("send", cid=cid, text=text, cids=cids)

    def round(self, text: str) -> list[int]:
        """Send a message and wait until one can vote; returns what the vote is about."""
        before = self.state()["round"]
        assert "error" not in self.say(text)
        self.wait(lambda: self.state()["round"] not in (None, before) and not self.state()["busy"])
        found: list[int] = self.state()["round"]
        return found

    def vote(self, choice: str) -> dict[str, Any]:
        return self.ask("vote", choice=choice, round=self.state()["round"])


@pytest.fixture
def open_arena(
    monkeypatch: pytest.MonkeyPatch, connection: Connection, register: SessionRegister
) -> Iterator[Callable[..., ArenaWire]]:
    """Makes an arena in the test's one kernel, and gives its wire."""
    monkeypatch.setattr("halo_notebook.panel.arena_widget.kernel_state", lambda shell: (connection, register))
    wires: dict[int, ArenaWire] = {}

    def send(panel: AnyWidget, content: dict[str, Any], buffers: Any = None) -> None:
        wires.setdefault(id(panel), ArenaWire()).put(content)

    monkeypatch.setattr(AnyWidget, "send", send)

    def made(configs: Any, **arguments: Any) -> ArenaWire:
        arena = ArenaPanel(configs, **arguments)
        wire = wires.setdefault(id(arena), ArenaWire())
        wire.panel = wire.arena = arena
        wire.wait(lambda: len(wire.of("snapshot")) >= len(configs) and wire.of("arena"))
        return wire

    yield made
    for wire in wires.values():
        wire.arena.close()


@pytest.fixture
def page(open_arena: Callable[..., ArenaWire], client: HaloClient) -> ArenaWire:
    """The page of an arena of two configurations."""
    return open_arena({name: {"client": client, "agent_id": f"agent_{name}"} for name in NAMES[:2]})


def reply_as(agent: DemoAgent, reply: Callable[[dict[str, JSON]], Any]) -> None:
    agent._reply = reply


def test_nothing_tells_the_names_before_the_vote(page: ArenaWire, agent: DemoAgent) -> None:
    """Messages, the widget's state and the static copy have no name, agent, time or reason."""

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta("Same text. ")
        yield Action({"type": "go"})

    reply_as(agent, reply)
    page.round("Hello")
    agent.faults.append("500")
    page.say("Hello again")
    page.until(busy=False, round=[2, 2])
    arena = page.arena
    hidden = json.dumps([page.messages, arena.get_state(), arena._arena.static_html("now")], default=str)
    assert "Same text" in hidden and "plum" not in hidden and "agent_demo" not in hidden
    for content in page.messages:
        for turn in [content["turn"]] if "turn" in content else content.get("turns", []):
            assert not any(turn.get(name) for name in ("first_text_s", "elapsed_s", "started_at", "agent"))
            assert "500" not in turn["error"]
            assert all(item["action"]["at_s"] is None for item in turn.get("items", []) if "action" in item)
    assert "The reason is shown after the vote" in hidden
    assert "error" not in page.vote("both bad")
    state = page.until(outcomes=["both bad", "both bad"])
    assert sorted(state["names"]) == sorted(NAMES[:2])
    shown = json.dumps(page.messages[-6:])
    assert "agent_plum_one" in shown and "The service failed (500" in shown and '"elapsed_s": 0.' in shown
    assert "plum_one" in arena._arena.static_html("now")


def test_what_is_not_known_to_be_harmless_is_hidden() -> None:
    """A field or a kind of message that is added later does not tell a name."""
    turn = {"key": "t1", "items": [], "status": "complete", "error": "", "new": "plum", "words": ["plum"]}
    sequence = {"epoch": 1, "seq": 2}
    for content in (
        {"kind": "snapshot", **sequence, "session": "plum", "sessions": [{"name": "plum"}], "turns": [turn],
         "live": {**turn, "state": "plum"}, "queue": [], "agent": "plum", "source": "plum", "new": "plum"},
        {"kind": "begin", **sequence, "turn": turn},
        {"kind": "turn", **sequence, "turn": turn},
        {"kind": "frame", **sequence, "items": [], "waiting": [], "state": "plum", "new": "plum"},
        {"kind": "beat", **sequence, "state": "plum"},
        {"kind": "queue", **sequence, "queue": [{"cid": "x", "error": "plum"}]},
        {"kind": "sessions", **sequence, "sessions": [{"name": "plum"}], "versions": {"1": "plum"}},
        {"kind": "answer", "cid": "x", "error": "plum", "text": "plum", "turns": [turn]},
        {"kind": "start", **sequence, "start_note": "plum"},
        {"kind": "notice", "text": "plum"},
        {"kind": "new", "text": "plum"},
    ):  # fmt: skip
        shown: Any = blinded(content, "A")  # type: ignore[arg-type]
        assert "plum" not in json.dumps(shown), content["kind"]
        assert shown is None or all(shown[name] == content[name] for name in sequence if name in content)


def test_what_only_one_configuration_sends_is_hidden(
    open_arena: Callable[..., ArenaWire], client: HaloClient
) -> None:
    """Its images and its history are not told before the vote, nor in the static copy."""
    image = "data:image/png;base64,iVBORw0KGgo="
    past = [{"role": "user", "content": "plum"}]
    page = open_arena({"a": {"client": client, "images": [image], "conversation_history": past}, "b": client})
    page.round("Hello")
    hidden = json.dumps(page.messages) + page.arena._arena.static_html("now")
    assert not any(word in hidden for word in ("plum", "1 image", "iVBOR", "earlier message"))
    page.vote("a")
    page.until(outcomes=page.state()["outcomes"])
    shown = json.dumps(page.messages[-4:]) + page.arena._arena.static_html("now")
    assert "1 image" in shown and "1 earlier message" in shown


def test_the_order_is_random_and_the_names_come_back_hidden(
    open_arena: Callable[..., ArenaWire], client: HaloClient
) -> None:
    """Each conversation has its order; it does not change within the conversation."""
    page = open_arena(dict.fromkeys(NAMES, client))
    orders = set()
    for number in range(12):
        page.round(f"Hello {number}")
        assert "error" not in page.vote("a")
        state = page.until(outcomes=["won", "lost", "lost"])
        orders.add(tuple(state["names"]))
        assert page.arena.votes()["columns"].iloc[-1] == tuple(state["names"])
        assert "error" not in page.ask("new")
        page.until(names=None, round=None, outcomes=None)
    assert len(orders) > 1
    assert page.arena.votes()["counted"].all() and len(page.arena.votes()) == 12


def test_names_are_shown_from_the_start_unless_it_is_blind(
    open_arena: Callable[..., ArenaWire], client: HaloClient
) -> None:
    """Then the columns are in the order of the dict, and a vote is not blind."""
    page = open_arena({"b": client, "a": AsyncHaloClient(DEMO_KEY, base_url=client.base_url)}, blind=False)
    assert page.state()["names"] == ["b", "a"] and page.state()["sessions"] == ["arena/b", "arena/a"]
    page.round("Hello")
    page.vote("tie")
    votes = page.arena.votes()
    assert votes[["outcome", "blind", "counted"]].to_numpy().tolist() == [["tie", False, True]]


def test_votes_are_counted_once_per_conversation(page: ArenaWire) -> None:
    """The first vote of a conversation counts, in the test and in the interval."""
    for number, choices in enumerate((["a", "b"], ["tie"], ["both bad", "a"])):
        for choice in choices:
            page.round(f"{number} {choice}")
            assert "error" not in page.vote(choice)
        page.ask("new")
        page.until(names=None)
    votes, preferences = page.arena.votes(), page.arena.preferences()
    assert votes["counted"].tolist() == [True, False, True, True, False]
    assert votes["blind"].tolist() == votes["counted"].tolist()
    assert votes["time"].is_monotonic_increasing
    (row,) = preferences.to_dict("records")
    assert (row["a wins"] + row["b wins"], row["ties"], row["both bad"], row["p"]) == (1, 1, 1, 1.0)
    assert votes.attrs["preferences"] == [row]


def test_a_vote_is_kept_with_the_turns(page: ArenaWire, tmp_path: Path) -> None:
    """An export has it and gives it back, also as Markdown; a case has its outcome."""
    page.round("Hello")
    page.vote("a")
    page.until(outcomes=["won", "lost"])
    winner = page.state()["names"][0]
    session = page.arena.sessions[winner]
    loaded = Session.load(session.export(tmp_path / "talk.json"))
    assert loaded.to_dict() == session.to_dict()
    vote = loaded.turns[0].vote
    assert vote and (vote.config, vote.outcome, vote.winner, vote.blind) == (winner, "won", winner, True)
    assert f'*(vote: won, as "{winner}")*' in session.to_markdown()
    assert session.as_case().metadata["vote"] == "won"
    assert session.branch(session.turns[0]).turns == []


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ("c", "A vote is 'A', 'B', 'tie' or 'both bad'"),
        ("", "A vote is"),
        (1, "A vote is"),
        (None, "A vote is"),
    ],
)
def test_a_vote_that_is_none_is_refused(page: ArenaWire, choice: Any, words: str) -> None:
    """The error names what is allowed, and nothing is stored."""
    page.round("Hello")
    assert words in page.vote(choice)["error"]
    with pytest.raises(errors.UsageError, match="A vote is"):
        page.arena.vote(choice)
    assert page.arena.votes().empty and page.state()["names"] is None


def test_there_must_be_something_to_vote_on(
    page: ArenaWire, register: SessionRegister, client: HaloClient
) -> None:
    """Not before a message, not twice, not on columns that have changed, not on other messages."""
    with pytest.raises(errors.UsageError, match="nothing to vote on"):
        page.arena.vote("a")
    seen = page.round("Hello")
    page.round("Hello")
    assert "have changed" in page.ask("vote", choice="a", round=seen)["error"]
    page.vote("a")
    with pytest.raises(errors.UsageError, match="has a vote"):
        page.arena.vote("b")
    register.get(f"arena/{NAMES[0]}").ask(client, "Something else")
    page.until(round=None, outcomes=None)
    with pytest.raises(errors.UsageError, match="nothing to vote on"):
        page.arena.vote("a")


def test_stop_stops_all_columns(page: ArenaWire, release: threading.Event) -> None:
    """The texts so far are kept, the round can be voted on, and no second message is sent meanwhile."""
    page.say("Hello")
    page.wait(lambda: all(each.turns and each.turns[-1].reply.text for each in page.arena.sessions.values()))
    assert "still awaited" in page.say("Another")["error"] and "still awaited" in page.ask("new")["error"]
    with pytest.raises(errors.UsageError, match="Nothing was sent"):
        page.arena.ask("Another")
    page.ask("stop")
    page.until(busy=False, round=[1, 1])
    assert [each.turns[-1].reply.status for each in page.arena.sessions.values()] == ["stopped", "stopped"]
    assert page.arena.busy is False


def test_a_message_right_after_a_stop_is_sent(page: ArenaWire) -> None:
    """To all columns: nothing ran that a stop could have held it for."""
    for _ in range(5):
        page.arena.stop()
        sent = page.arena.ask("Hello")
        assert [each.result(10).status for each in sent.values()] == ["complete", "complete"]
        page.until(busy=False)


def test_a_new_conversation_can_be_stopped_at_once(page: ArenaWire, release: threading.Event) -> None:
    """Before its columns show it."""
    for _ in range(5):
        page.arena.new()
        sent = page.arena.ask("Hello")
        page.arena.stop()
        for each in sent.values():
            error = each.exception(10)  # stopped in its turn, or before it began
            assert isinstance(error, errors.ReplyStopped) or each.result().status == "stopped"
        page.until(busy=False)


def test_a_message_that_was_held_back_makes_way_for_the_next(
    page: ArenaWire, register: SessionRegister, client: HaloClient, agent: DemoAgent, release: threading.Event
) -> None:
    """Stop holds a message that waits for another turn; a new message to all takes its place."""
    other = register.get(f"arena/{NAMES[0]}")
    running = threading.Thread(target=other.ask, args=(client, "Elsewhere"))
    running.start()
    page.wait(lambda: other.turns and other.turns[0].reply.text)
    with pytest.raises(errors.UsageError, match="still awaited"):
        page.arena.ask("Held")
    outbox.put(page.arena._arena.columns[NAMES[0]], other, "Held", {})
    page.ask("stop")
    running.join(10)
    page.until(busy=False)
    release.set()
    page.round("Next")
    assert sorted(map(str, asked(agent))) == ["Elsewhere", "Next", "Next"]
    assert not page.arena._arena.columns[NAMES[0]].outbox(other).messages


def test_only_the_column_that_failed_is_sent_again(page: ArenaWire, agent: DemoAgent) -> None:
    """A round is complete again when its last messages are the same."""
    agent.faults.append("500")
    page.say("Hello")
    page.until(busy=False, round=[1, 1])
    statuses = [session.turns[0].reply.status for session in page.arena.sessions.values()]
    assert sorted(statuses) == ["complete", "failed"]
    (failed,) = [turn for turn in page.of("turn") if turn["turn"]["again"]]
    assert failed["turn"]["again"] == "twice"
    page.ask("again", key="t1", column=failed["column"])
    page.wait(lambda: page.state()["round"] not in (None, [1, 1]))
    assert sorted(page.state()["round"]) == [1, 2] and len(agent.requests) == 3
    assert page.state()["round"][failed["column"]] == 2
    page.vote("ab"[failed["column"]])
    assert page.until(names=page.state()["names"])["outcomes"][failed["column"]] == "won"


def test_a_message_that_arrives_twice_is_sent_once(page: ArenaWire, agent: DemoAgent) -> None:
    """The page may ask again when an answer was lost."""
    page.say("Hello", cid="same")
    page.until(busy=False, round=[1, 1])
    page.say("Hello", cid="same")
    assert len(agent.requests) == 2


@pytest.mark.parametrize(
    "request_",
    [{"kind": "send", "text": "Hi"}, {"kind": "send", "text": "Hi", "cids": ["x"]},
     {"kind": "send", "text": "Hi", "cids": [1, 2]}, {"kind": "send", "text": " ", "cids": ["x", "y"]},
     {"kind": "send", "text": "x" * 10_001, "cids": ["x", "y"]}, {"kind": "frobnicate"},
     {"kind": "vote", "choice": "a", "round": [0, 0]}],
    ids=str,
)  # fmt: skip
def test_a_bad_request_is_one_line(page: ArenaWire, agent: DemoAgent, request_: dict[str, Any]) -> None:
    """Nothing is sent to any of the agents."""
    answer = page.ask(**request_)
    assert answer["error"] and "\n" not in answer["error"]
    assert not agent.requests


@pytest.mark.parametrize("column", [-1, 2, "0", 1.5, True, [0]])
def test_a_request_of_no_column_is_dropped(page: ArenaWire, column: Any) -> None:
    """So is one that a column does not take, such as a message of its own or another session."""
    page.request({"kind": "sync", "cid": "x", "column": column})
    for kind in ("send", "switch", "new", "keep", "edit", "rate"):
        page.request({"kind": kind, "cid": "y", "column": 0, "text": "Hi", "name": "other"})
    page.ask("stop", cid="z")
    assert not [each for each in page.of("answer") if each["cid"] in ("x", "y")]


@pytest.mark.parametrize(
    ("configs", "arguments", "words"),
    [
        ({"a": {}}, {}, "1 configuration"),
        ({str(number): {} for number in range(7)}, {}, "7 configurations"),
        ([1, 2], {}, "configs is list"),
        ({"a": {}, " ": {}}, {}, "not the name of a configuration"),
        ({"a": {}, "n" * 81: {}}, {}, "not the name of a configuration"),
        ({"a": {}, "b": {"mode": "chta"}}, {}, r"Configuration 'b' \(2 of 2\): .*did you mean 'chat'"),
        ({"a": {}, "b": 3}, {}, "Configuration 'b' is int"),
        ({"a": {}, "b": {}}, {"blind": 1}, "blind must be True or False"),
        ({"a": {}, "b": {}}, {"session": ""}, "session must be a name"),
        ({"a": {}, "b": {}}, {"height": 3}, "Nothing was shown"),
    ],
)
def test_arguments_that_make_no_sense_are_named(
    open_arena: Any, register: SessionRegister, configs: Any, arguments: dict[str, Any], words: str
) -> None:
    """In one line; no session is made."""
    with pytest.raises(errors.HaloError, match=words):
        ArenaPanel(configs, **arguments)
    assert list(register) == ["default"]


def test_another_run_of_the_cell_starts_a_new_conversation(
    open_arena: Callable[..., ArenaWire], client: HaloClient, register: SessionRegister
) -> None:
    """The columns could be recognised; the votes are kept."""
    configs = dict.fromkeys(NAMES[:2], client)
    first = open_arena(configs)
    first.round("Hello")
    first.vote("a")
    first.until(outcomes=["won", "lost"])
    second = open_arena(configs)
    assert second.state()["names"] is None and not any(each.turns for each in second.arena.sessions.values())
    assert f"arena/{NAMES[0]}-1" in register
    assert len(second.arena.votes()) == 1
    # The first one follows, with hidden names.
    first.until(names=None)


def test_a_conversation_that_is_replaced_elsewhere_is_shuffled_again(
    page: ArenaWire, register: SessionRegister, client: HaloClient
) -> None:
    """As by %halo resume: the page shows the new session, and the names are hidden again."""
    page.round("Hello")
    page.vote("a")
    page.until(outcomes=["won", "lost"])
    register.resume("sess_x", f"arena/{NAMES[1]}", target=client.base_url)
    page.until(names=None, round=None)


def test_programs_use_it_without_a_page(open_arena: Callable[..., ArenaWire], client: HaloClient) -> None:
    """Also with a user token that is a callable; a closed panel refuses."""
    page = open_arena({"a": {"client": client, "user_id": "u", "user_token": lambda: "a.b.c"}, "b": client})
    replies = {name: sent.result(10) for name, sent in page.arena.ask("Hello").items()}
    assert {name: reply.status for name, reply in replies.items()} == {"a": "complete", "b": "complete"}
    page.arena.vote("both bad")
    for winner in ("b", "A"):  # a name, and a letter: capitals are always columns
        page.arena.new()
        for sent in page.arena.ask("Hello").values():
            sent.result(10)
        page.arena.vote(winner)
    votes = page.arena.votes()
    assert votes["outcome"].tolist() == ["both bad", "win", "win"]
    assert votes["winner"].isna().tolist() == [True, False, False]
    assert votes["winner"].tolist()[1:] == ["b", votes["columns"].iloc[2][0]]
    assert "a.b.c" not in json.dumps(page.messages)
    page.arena.close()
    for call in (lambda: page.arena.ask("Hello"), lambda: page.arena.vote("a"), page.arena.new):
        with pytest.raises(errors.UsageError, match="closed"):
            call()
    page.arena.close()
    assert repr(page.arena) == "ArenaPanel(2 configurations)"


def test_a_program_votes_by_name(open_arena: Callable[..., ArenaWire], client: HaloClient) -> None:
    """It knows the names; the page, which does not, cannot."""
    page = open_arena(dict.fromkeys(NAMES, client))
    for number in range(6):
        page.arena.new()
        replies = {name: sent.result(10) for name, sent in page.arena.ask("Hello").items()}
        assert [reply.status for reply in replies.values()] == ["complete"] * 3
        if number == 5:
            page.until(busy=False, round=[1, 1, 1])
            assert "A vote is" in page.vote(NAMES[0])["error"]
        page.arena.vote(NAMES[number % 2])
    assert page.arena.votes()["winner"].tolist() == [*NAMES[:2]] * 3
    assert page.arena.votes()["counted"].all()


def test_one_agent_refuses_and_the_other_answers(
    open_arena: Callable[..., ArenaWire], client: HaloClient, agent: DemoAgent
) -> None:
    """A reply that cannot be had, because nobody listens there, is a failed reply of its column."""
    nobody = HaloClient(DEMO_KEY, base_url="http://127.0.0.1:9", max_retries=0)
    page = open_arena({"good": client, "gone": nobody})
    page.say("Hello")
    page.until(busy=False, round=[1, 1])
    assert {name: each.turns[-1].reply.status for name, each in page.arena.sessions.items()} == {
        "good": "complete",
        "gone": "failed",
    }
    assert "127.0.0.1" not in json.dumps(page.messages)
