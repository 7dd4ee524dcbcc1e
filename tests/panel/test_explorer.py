"""The explorer of a result: what it answers a page, and what a program gets from it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import pytest
from anywidget import AnyWidget

from halo_notebook import Action, ConversationEnd, DemoAgent, HaloClient, TextDelta, errors
from halo_notebook.concurrency.loop import spawn
from halo_notebook.demo import DEMO_KEY
from halo_notebook.evaluation import Evaluation, evaluate
from halo_notebook.evaluation.tables.browsing import ConversationList, Query
from halo_notebook.panel import conversation_views

if TYPE_CHECKING:
    from pathlib import Path

    from halo_notebook import Reply
    from halo_notebook.demo import Step
    from halo_notebook.panel.explorer import ResultExplorer
    from halo_notebook.stream import JSON

Ask = Callable[..., dict[str, Any]]
QUERY: dict[str, Any] = {"text": "", "filters": {}, "sort": "", "descending": False}


def reply(mode: str, request: dict[str, JSON]) -> Iterator[Step]:
    yield TextDelta(f"In **{mode}**: {request['message']}")
    yield Action({"type": "note", "mode": mode})


def in_voice(reply: Reply) -> bool:
    return "voice" in reply.text


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Two cases, one of two turns, in two configurations."""
    cases = [
        {"id": "one", "message": "Hello", "tags": ["greeting"], "expect": {"word": "hi"}},
        {"id": "two", "turns": ["First", "Second"], "topic": "<i>x</i>"},
    ]
    path = tmp_path_factory.mktemp("explorer") / "result.jsonl"
    with ExitStack() as stack:
        clients = {}
        for mode in ("chat", "voice"):
            agent = DemoAgent(reply=partial(reply, mode), first_byte_s=0, chunk_s=0)
            url = stack.enter_context(agent).url
            clients[mode] = stack.enter_context(HaloClient(DEMO_KEY, base_url=url))
        return evaluate(cases, [in_voice], configs=clients, path=path, progress=False)


@pytest.fixture
def explorer(result: Evaluation) -> ResultExplorer:
    return result.explore()


@pytest.fixture
def ask_of(monkeypatch: pytest.MonkeyPatch) -> Callable[[ResultExplorer], Ask]:
    """Puts a request to an explorer as its page does; returns the answer."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(AnyWidget, "send", lambda widget, content, buffers=None: told.append(content))

    def ask(explorer: ResultExplorer, kind: str, **content: Any) -> dict[str, Any]:
        spawn(explorer._handle({"kind": kind, "cid": "c1", **content})).result(10)
        [answer] = [each for each in told if each["kind"] == "answer"]
        told.clear()
        assert (answer.pop("kind"), answer.pop("cid")) == ("answer", "c1")
        return answer

    return lambda explorer: partial(ask, explorer)


@pytest.fixture
def ask(ask_of: Callable[[ResultExplorer], Ask], explorer: ResultExplorer) -> Ask:
    return ask_of(explorer)


def test_the_page_gets_the_first_rows_and_what_it_can_filter_by(ask: Ask) -> None:
    """Columns of which all rows are the same are left out."""
    answer = ask("find", query=QUERY)
    assert [column["name"] for column in answer["columns"]] == [
        *("case", "config", "status", "in_voice", "message", "total")
    ]
    assert [row["cells"][:5] for row in answer["rows"]] == [
        ["one", "chat", "complete", "failed", "Hello"],
        ["one", "voice", "complete", "passed", "Hello"],
        ["two", "chat", "complete", "failed", "First"],
        ["two", "voice", "complete", "passed", "First"],
    ]
    assert {each["name"] for each in answer["filters"]} == {"Status", "Configuration", "in_voice"}
    assert (answer["total"], answer["count"], answer["selected"]) == (4, 4, 0)


def test_a_conversation_has_its_turns_verdicts_and_actions(ask: Ask) -> None:
    """Text of the reply is HTML that `display` made; the action and everything else is for `textContent`."""
    view = ask("open", number=3, **{"from": 0})
    assert (view["case"], view["config"], view["repeat"]) == ("two", "voice", 1)
    assert view["metadata"] == [["topic", "<i>x</i>"]]
    assert view["verdicts"] == [{"check": "in_voice", "verdict": "passed"}]
    first, second = view["turns"]
    assert (first["message"], second["message"], view["next"]) == ("First", "Second", None)
    html, action = first["view"]["items"]
    assert html == {"html": "<p>In <strong>voice</strong>: First</p>\n"}
    assert action["action"]["json"] == '{"type":"note","mode":"voice"}'
    assert first["verdicts"] == [{"check": "in_voice", "verdict": "passed", "score": None, "note": ""}]
    assert first["view"]["again"] == ""


def test_a_long_conversation_comes_in_parts(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer has as many turns as fit in a message, at least one; the page asks for the others."""
    monkeypatch.setattr(conversation_views, "MAX_BYTES", 10)
    for kind in ("open", "compare"):
        begin = ask(kind, number=2, **{"from": 0})
        rest = ask(kind, number=2, **{"from": begin["next"]})
        assert [len(begin["turns"]), begin["next"], len(rest["turns"]), rest["next"]] == [1, 1, 1, None]


def test_configurations_are_compared_word_by_word(ask: Ask) -> None:
    """Each figure and each part of a reply says whether it differs."""
    view = ask("compare", number=0, **{"from": 0})
    assert view["configs"] == ["chat", "voice"]
    verdict = next(row for row in view["figures"] if row["name"] == "in_voice")
    assert (verdict["values"], verdict["differs"]) == (["failed", "passed"], [False, True])
    [turn] = view["turns"]
    for side, word in zip(turn["sides"], view["configs"], strict=True):
        assert [text for text, differs in side["parts"] if differs] == [word, word]
        assert "".join(text for text, _ in side["parts"]).startswith(f"In **{word}**: Hello")


def test_a_blind_view_tells_no_configuration(result: Evaluation) -> None:
    """Neither the names and verdicts nor the agent and the times are in it."""
    run = result.explore()._list.runs[1]
    view = conversation_views.conversation_view(result._state, run, blind=True)
    [turn] = cast("list[Any]", view["turns"])
    assert not {"config", "repeat", "status", "verdicts", "total_s"} & view.keys()
    assert turn["verdicts"] == [] and turn["view"]["agent"] is None
    told = [turn["view"][name] for name in ("source", "started_at", "first_text_s", "elapsed_s")]
    assert told == ["", "", None, None]


def test_conversations_of_a_user_are_shown_as_they_went() -> None:
    """Each with its own messages; why they ended can be read, searched and filtered."""

    def user(conversation: Any) -> Any:
        in_voice = conversation and "voice" in conversation[-1].reply.text
        if in_voice:
            return ConversationEnd.GOAL_REACHED
        return ["say first", "say second", None][len(conversation)]

    with ExitStack() as stack:
        clients = {}
        for mode in ("chat", "voice"):
            agent = stack.enter_context(DemoAgent(reply=partial(reply, mode), first_byte_s=0))
            clients[mode] = stack.enter_context(HaloClient(DEMO_KEY, base_url=agent.url))
        state = evaluate([user], configs=clients, progress=False)._state
    conversations = ConversationList(state)
    [ended] = [each for each in conversations.filters() if each.name == "Ended"]
    assert ended.values == (("ended", 1), ("goal reached", 1))
    chosen = Query("first", {"ended": frozenset({"goal reached"})})
    assert conversations.found(chosen) == [1] and conversations.found(Query("second")) == [0]
    view: Any = conversation_views.conversation_view(state, conversations.runs[0])
    assert [turn["message"] for turn in view["turns"]] == ["say first", "say second"]
    assert view["end"] == "ended"
    compared: Any = conversation_views.comparison_view(state, conversations.runs)
    assert [turn["message"] for turn in compared["turns"]] == ["say first", None]
    assert [side["message"] for side in compared["turns"][1]["sides"]] == ["say second", ""]
    assert [side["view"] is None for side in compared["turns"][1]["sides"]] == [False, True]


def test_a_run_that_was_cut_short_shows_what_it_has(
    ask_of: Callable[[ResultExplorer], Ask], result: Evaluation, tmp_path: Path
) -> None:
    """Turns that were not sent have their message and status, also in a file that is still being written."""
    lines = result.path.read_bytes().splitlines(keepends=True)
    path = tmp_path / "part.jsonl"
    # The second turn of a conversation has been sent, and the file ends in the middle of the next line.
    upto = next(at for at, line in enumerate(lines) if b'"kind":"sent"' in line and b'"turn":1' in line)
    path.write_bytes(b"".join(lines[: upto + 1]) + lines[upto + 1][:20])
    ask = ask_of(Evaluation.open(path).explore())
    answer = ask("find", query={**QUERY, "filters": {"status": ["interrupted", "not run"]}})
    assert answer["count"] > 0
    for row in answer["rows"]:
        for kind in ("open", "compare"):
            turns = ask(kind, number=row["number"], **{"from": 0})["turns"]
            assert turns[0]["message"] in ("Hello", "First")
    [unsent, *_] = [row for row in answer["rows"] if row["cells"][:3:2] == ["two", "interrupted"]]
    last = ask("open", number=unsent["number"], **{"from": 0})["turns"][-1]
    assert (last["message"], last["view"], last["verdicts"]) == ("Second", None, [])


def test_a_label_stands_beside_the_verdicts(ask: Ask, explorer: ResultExplorer, result: Evaluation) -> None:
    """With its note; the page is told that there is one."""
    changes: list[str] = []
    result._state.when_changed.append(lambda: changes.append("told"))
    result.label_rows({2: False}, notes={2: "<b>no</b>"}, author="Ada")
    [turn, _] = ask("open", number=2, **{"from": 0})["turns"]
    assert turn["verdicts"][-1] == {"check": "label", "verdict": "failed", "score": None, "note": "<b>no</b>"}
    assert changes == ["told"]
    assert "label" not in str(ask("open", number=3, **{"from": 0})["turns"][0]["verdicts"])
    answer = ask("find", query={**QUERY, "filters": {"label": ["fail"]}})
    assert [row["number"] for row in answer["rows"]] == [2]
    at = [column["id"] for column in answer["columns"]].index("label")
    assert (answer["columns"][at]["kind"], answer["rows"][0]["cells"][at]) == ("short", "fail")
    assert explorer.filtered.index.tolist() == [2, 3]
    [shown] = [each for each in answer["filters"] if each["id"] == "label"]
    assert (shown["name"], shown["values"]) == ("Label", [["fail", 1], ["not labelled", 3]])
    answer = ask("find", query={**QUERY, "filters": {"label": ["not labelled", "unsure"]}})
    assert [row["cells"][at] for row in answer["rows"]] == [""] * 3
    [shown] = [each for each in answer["filters"] if each["id"] == "label"]
    assert shown["values"][-1] == ["unsure", 0]


def test_a_search_gives_way_to_a_later_one(
    explorer: ResultExplorer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops where it is, and what it has found so far is not shown."""
    begun, go, find = threading.Event(), threading.Event(), explorer._list.found

    def found(query: Query, is_stopped: Callable[[], bool]) -> list[int]:
        if query.text == "slow":
            begun.set()
            assert go.wait(10) and is_stopped()
        return find(query, is_stopped)

    monkeypatch.setattr(explorer._list, "found", found)
    slow = {"kind": "find", "cid": "c0", "query": {**QUERY, "text": "slow"}}
    first = spawn(explorer._handle(slow))
    assert begun.wait(10)
    second = spawn(explorer._handle({"kind": "find", "cid": "c1", "query": {**QUERY, "text": "second"}}))
    while explorer._latest != "c1":
        time.sleep(0.001)
    go.set()
    first.result(10)
    second.result(10)
    assert len(explorer.filtered) == 4 and explorer._query.text == "second"


def test_a_closed_explorer_is_told_nothing(
    explorer: ResultExplorer, result: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is closed once, and again; the result can still be judged and explored."""
    told: list[object] = []
    monkeypatch.setattr(AnyWidget, "send", lambda widget, content, buffers=None: told.append(widget))
    explorer.close()
    explorer.close()
    result.rescore()
    assert not [widget for widget in told if widget is explorer]
    spawn(explorer._handle({"kind": "find", "cid": "c1", "query": QUERY})).result(10)
    assert explorer not in told
    assert len(result.explore().selected) == len(result.df)


class TestSelected:
    """What `.selected` and `.filtered` give."""

    def test_without_a_page_all_rows_are_there(self, explorer: ResultExplorer, result: Evaluation) -> None:
        """Neither selected nor filtered: the whole DataFrame."""
        assert explorer.selected.equals(result.df)
        assert explorer.filtered.equals(result.df)

    def test_filtered_rows_are_indexed_as_in_df(
        self, ask: Ask, explorer: ResultExplorer, result: Evaluation
    ) -> None:
        """All turns of each conversation that is found, in the order of the table."""
        query = {**QUERY, "text": "second", "sort": "config", "descending": True}
        assert ask("find", query=query)["count"] == 2
        assert list(explorer.filtered.index) == [4, 5, 2, 3]
        assert explorer.filtered.equals(result.df.loc[[4, 5, 2, 3]])
        assert explorer.selected.equals(explorer.filtered)

    def test_selected_rows_stay_selected_when_others_are_found(
        self, ask: Ask, explorer: ResultExplorer
    ) -> None:
        """They come in the order of the result."""
        assert ask("find", query=QUERY)["selected"] == 0
        assert ask("select", numbers=[2, 0], on=True) == {"selected": 2}
        assert ask("find", query={**QUERY, "text": "nothing like that"})["selected"] == 2
        assert list(explorer.selected.index) == [0, 2, 3]
        assert len(explorer.filtered) == 0 and "in_voice score" in explorer.filtered
        assert ask("select", numbers=[0], on=False) == {"selected": 1}
        assert ask("find", query={**QUERY, "text": "hello"})["count"] == 2
        assert ask("select", numbers=None, on=True) == {"selected": 3}
        assert list(explorer.selected.index) == [0, 1, 2, 3]
        assert ask("select", numbers=[], on=False, only=True) == {"selected": 0}


@pytest.mark.parametrize(
    "request_",
    [
        {"kind": "open", "number": 4, "from": 0},
        {"kind": "open", "number": -1, "from": 0},
        {"kind": "open", "number": True, "from": 0},
        {"kind": "open", "number": "0", "from": 0},
        {"kind": "open", "number": 0, "from": 1},
        {"kind": "compare", "number": None, "from": 0},
        {"kind": "select", "numbers": [[0]], "on": True},
        {"kind": "select", "numbers": [0], "on": 1},
        {"kind": "select", "numbers": {"0": 1}, "on": True},
        {"kind": "rows", "from": -1},
        {"kind": "rows", "from": "x"},
        {"kind": "find", "query": "text"},
        {"kind": "find", "query": {**QUERY, "text": 3}},
        {"kind": "find", "query": {**QUERY, "filters": {"status": "failed"}}},
        {"kind": "find", "query": {**QUERY, "filters": {"status": [1]}}},
        {"kind": "nothing"},
        {"kind": ["find"]},
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_one_line(ask: Ask, request_: dict[str, Any]) -> None:
    """The page gets an error, whatever it asks for; the explorer stays as it was."""
    error = ask(**request_)["error"]
    assert error.endswith("Reload the page.") and "\n" not in error
    assert ask("find", query=QUERY)["count"] == 4


@pytest.mark.parametrize("height", [480, None, b"1px", ["x"]])
def test_a_height_that_is_no_text_is_refused(result: Evaluation, height: Any) -> None:
    """With an error that names what is allowed."""
    with pytest.raises(errors.UsageError, match="CSS length"):
        result.explore(height=height)


def test_a_file_that_is_gone_is_one_line(
    ask: Ask, result: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in memory still shows; a conversation cannot be read, and the page says so."""
    monkeypatch.setattr(result._state, "path", result.path.with_name("gone.jsonl"))
    assert ask("find", query=QUERY)["count"] == 4
    assert "could not be read" in ask("open", number=0, **{"from": 0})["error"]
    assert "could not be read" in ask("find", query={**QUERY, "text": "hello"})["error"]
