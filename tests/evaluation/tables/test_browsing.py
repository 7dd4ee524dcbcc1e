"""Conversations are found by filters and words, and sorted, whatever they are called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from halo_notebook import Action, DemoAgent, Evaluation, HaloClient, TextDelta
from halo_notebook.demo import DEMO_KEY
from halo_notebook.evaluation import evaluate
from halo_notebook.evaluation.tables import browsing
from halo_notebook.evaluation.tables.browsing import MAX_FILTERS, ConversationList, Filter, Query

if TYPE_CHECKING:
    from pathlib import Path

    from halo_notebook import Reply
    from halo_notebook.demo import Step
    from halo_notebook.stream import JSON

    from ..conftest import Run

CASES = [
    {
        "id": "refund",
        "message": "Where is my money?",
        "tags": ["billing", "a, b"],
        "topic": "shop",
        "level": 10,
    },
    {"id": "Straße", "turns": ["My name is Ada", "Who am I?"], "tags": ["memory"], "level": 9},
    {"id": "<b>", "message": "Open a ticket", "tags": ["billing"], "topic": ["x", 1], "level": True},
]


def reply(request: dict[str, JSON]) -> Iterator[Step]:
    message = request["message"]
    yield TextDelta(f"About {message} ÜBER-all")
    if message == "Open a ticket":
        yield Action({"type": "create_ticket", "ticket": {"title": "Größe"}})


def asked_by_ada(reply: Reply) -> bool:
    return "Ada" in reply.text


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Three cases in two configurations, twice each."""
    path = tmp_path_factory.mktemp("browsing") / "result.jsonl"
    agents = [DemoAgent(reply=reply, first_byte_s=0, chunk_s=0).start() for _ in range(2)]
    clients = {
        name: HaloClient(DEMO_KEY, base_url=agent.url) for name, agent in zip("ab", agents, strict=True)
    }
    try:
        return evaluate(CASES, [asked_by_ada], configs=clients, repeats=2, path=path, progress=False)
    finally:
        for agent, client in zip(agents, clients.values(), strict=True):
            client.close()
            agent.stop()


@pytest.fixture
def conversations(result: Evaluation) -> ConversationList:
    return ConversationList(result._state)


def names(conversations: ConversationList, query: Query) -> list[str]:
    """The cases that are found, each once, in order."""
    runs = conversations.runs
    return list(dict.fromkeys(runs[number].conversation.case.id for number in conversations.found(query)))


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ({}, ["refund", "Straße", "<b>"]),
        ({"tag": {"billing"}}, ["refund", "<b>"]),
        ({"tag": {"a, b", "memory"}}, ["refund", "Straße"]),
        ({"metadata:topic": {'["x", 1]'}}, ["<b>"]),
        ({"metadata:level": {"true", "10"}}, ["refund", "<b>"]),
        ({"check:asked_by_ada": {"failed"}, "tag": {"memory"}}, ["Straße"]),
        ({"check:asked_by_ada": {"passed"}}, []),
        ({"status": {"complete"}, "config": set()}, ["refund", "Straße", "<b>"]),
        ({"status": {"failed"}}, []),
        ({"nothing of that name": {"x"}}, []),
        ({"check:nothing": {"not judged"}}, ["refund", "Straße", "<b>"]),
    ],
)
def test_a_conversation_fits_each_filter(
    conversations: ConversationList, filters: dict[str, set[str]], found: list[str]
) -> None:
    """It has one of the values that are chosen of each; a filter without a value chooses all."""
    query = Query(filters={name: frozenset(values) for name, values in filters.items()})
    assert names(conversations, query) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("money", ["refund"]),
        ("MONEY where", ["refund"]),
        ("strasse", ["Straße"]),
        ("about über-all", ["refund", "Straße", "<b>"]),
        ("create_ticket größe", ["<b>"]),
        ("ada who", ["Straße"]),
        ("<b>", ["<b>"]),
        ("", ["refund", "Straße", "<b>"]),
        (" \n\t", ["refund", "Straße", "<b>"]),
        ("money ticket", []),
        ("\x00\ud800", []),
    ],
)
def test_a_search_finds_words_in_what_was_said(
    conversations: ConversationList, text: str, found: list[str]
) -> None:
    """Each word is in the id, a message, a reply, an action or a note, in small or capital letters."""
    assert names(conversations, Query(text)) == found


def test_a_search_that_narrows_another_finds_the_same(conversations: ConversationList) -> None:
    """What is typed letter by letter finds what it finds when it is typed at once."""
    for text in ("o", "op", "open", "open t", "open tick", "ada", "a"):
        assert conversations.found(Query(text)) == ConversationList(conversations._state).found(Query(text))


def test_a_search_can_be_stopped(conversations: ConversationList) -> None:
    """It finds less then, and the next one finds everything."""
    assert conversations.found(Query("über-all"), lambda: True) == []
    assert len(conversations.found(Query("über-all"))) == 12


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        ("case", ["<b>", "refund", "Straße"]),
        ("message", ["Straße", "<b>", "refund"]),
        ("metadata:level", ["Straße", "refund", "<b>"]),
        ("tag", ["<b>", "refund", "Straße"]),
        ("nothing", ["refund", "Straße", "<b>"]),
    ],
)
def test_rows_are_sorted_by_a_column(conversations: ConversationList, sort: str, first: list[str]) -> None:
    """Numbers by their value, texts without regard to capitals; equal ones stay in order, also in reverse."""
    assert names(conversations, Query(sort=sort)) == first
    for descending in (True, False):
        found = conversations.found(Query(sort="status", descending=descending))
        assert found == list(range(12))


def test_filters_say_which_values_there_are(conversations: ConversationList) -> None:
    """Each with how many conversations have it; what is the same for all cases is not a filter."""
    filters = {each.id: dict(each.values) for each in conversations.filters()}
    assert filters == {
        "status": {"complete": 12},
        "config": {"a": 6, "b": 6},
        "tag": {"a, b": 4, "billing": 8, "memory": 4},
        "check:asked_by_ada": {"failed": 12},
        "metadata:topic": {"shop": 4, '["x", 1]': 4},
        "metadata:level": {"9": 4, "10": 4, "true": 4},
    }


def test_verdicts_are_those_of_the_moment(conversations: ConversationList, result: Evaluation) -> None:
    """After `rescore` filters and rows have the new checks."""
    assert conversations.runs
    result.rescore({"tickets": lambda reply: "ticket" in reply.text})
    try:
        found = conversations.found(Query(filters={"check:tickets": frozenset(["passed"])}))
        assert {conversations.runs[number].conversation.case.id for number in found} == {"<b>"}
    finally:
        result.rescore([asked_by_ada])


def found_by_label(conversations: ConversationList, *labels: str) -> list[int]:
    return conversations.found(Query(filters={"label": frozenset(labels)}))


def test_conversations_are_found_by_what_people_say(run: Run) -> None:
    """One with several labels fits each; of several authors the majority counts; the worst come first."""
    result = run(["one", ["two", "two again"], "three", "four", "five"])
    conversations = ConversationList(result._state)
    assert "label" not in {each.id for each in conversations.filters()}
    assert found_by_label(conversations, "not labelled") == [0, 1, 2, 3, 4]
    result.label_rows({0: True, 1: True, 2: False, 3: None, 4: True}, author="ada")
    result.label_rows({4: False}, notes={4: "Too LONG"}, author="grace")  # without a majority
    [labels] = [each for each in conversations.filters() if each.id == "label"]
    assert labels.values == (("fail", 1), ("not labelled", 1), ("pass", 2), ("unsure", 2))
    assert found_by_label(conversations, "fail") == [1]
    assert found_by_label(conversations, "pass") == [0, 1]
    assert found_by_label(conversations, "unsure") == [2, 3]
    assert found_by_label(conversations, "not labelled", "fail") == [1, 4]
    assert conversations.found(Query("two", {"label": frozenset({"pass"})})) == [1]
    assert conversations.found(Query(sort="label")) == [1, 2, 3, 0, 4]
    assert conversations.found(Query(sort="label", descending=True)) == [0, 2, 3, 1, 4]
    assert conversations.found(Query("long four")) == [3] and conversations.found(Query("unsure")) == []
    result.label_rows({4: False, 0: False}, author="ada")
    result.label_rows({4: False}, author="grace")
    assert conversations.found(Query("long")) == []
    assert found_by_label(conversations, "fail") == [0, 1, 3]


def test_labels_that_do_not_count_are_not_found(run: Run, kept: Path) -> None:
    """Those of another reply, as in a file that was edited; without the file none can be told."""
    run(["one", "two"], path=kept).label_rows({0: True, 1: False})
    text = kept.read_text()
    at = text.index('"reply":"', text.index('"kind":"label"')) + len('"reply":"')
    kept.write_text(text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :])
    result = Evaluation.open(kept)
    assert found_by_label(ConversationList(result._state), "not labelled") == [0]
    kept.unlink()
    conversations = ConversationList(result._state)
    assert [each.id for each in conversations.filters()] == ["status"]
    assert conversations.found(Query(sort="label")) == [0, 1]


def test_a_chosen_value_can_be_taken_back_when_it_is_gone(run: Run) -> None:
    """It is among the filters, with 0 conversations: after other labels, and after other checks."""
    result = run(["one", "two"], [asked_by_ada])
    conversations = ConversationList(result._state)
    result.label_rows({0: False})
    failed = frozenset({"failed"})
    chosen = {"label": frozenset({"fail"}), "check:asked_by_ada": failed, "status": frozenset[str]()}
    assert conversations.filters(chosen) == conversations.filters()
    result.label_rows({0: True})
    result.rescore({"other": asked_by_ada})
    filters = {each.id: each for each in conversations.filters(chosen)}
    assert filters["label"].values == (("not labelled", 1), ("pass", 1), ("fail", 0))
    assert filters["check:asked_by_ada"] == Filter("check:asked_by_ada", "asked_by_ada", (("failed", 0),))
    assert filters["status"].values == (("complete", 2),)
    assert [each.id for each in conversations.filters()] == ["status", "check:other", "label"]


def test_a_file_with_many_names_and_values_has_few_filters(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many names of metadata, and of many values, only so many are offered; the rest is counted."""
    monkeypatch.setattr(browsing, "MAX_VALUES", 5)
    result = run([{"message": f"{n}", "metadata": {f"name{m}": n for m in range(60)}} for n in range(3)])
    assert len(ConversationList(result._state).filters()) == MAX_FILTERS - 2  # without configuration and tag
    result = run([{"message": str(n), "tags": [f"tag {n}"]} for n in range(10)])
    [_, tags] = ConversationList(result._state).filters()
    assert len(tags.values) == 5 and tags.left_out == 5
