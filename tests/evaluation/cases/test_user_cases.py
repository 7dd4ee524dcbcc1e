"""A case with a user: what is refused before anything is sent, and which stored conversations are its own."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import DemoAgent, ScriptedUser
from halo_notebook.checks import JudgedTurn
from halo_notebook.errors import InvalidRequest
from halo_notebook.evaluation import read_cases
from halo_notebook.evaluation.cases.keeping import keep_case

from ..agents import sent

if TYPE_CHECKING:
    from pathlib import Path

    from ..conftest import Run

Turns = Sequence[JudgedTurn]


def two(conversation: Turns) -> str | None:
    """A user with two messages."""
    return ["one", "two", None][len(conversation)]


def no_argument() -> str:
    return "Hi"


def two_arguments(conversation: Turns, more: int) -> str:
    return "Hi"


REFUSED: list[tuple[Any, str]] = [
    ({"turns": [two, "Thanks"]}, "Case '1': a function must be the last of its turns"),
    ({"turns": [two, two]}, "a function must be the last of its turns"),
    ({"turns": ["Hi"], "max_turns": 3}, "has max_turns, and its last turn is not a function"),
    ({"message": two, "max_turns": 0}, "max_turns must be a whole number from 1 to 10,000, not 0. "),
    (
        {"turns": ["a", "b", two], "max_turns": 2},
        "from 3 to 10,000, not 2. Nothing was sent; it counts the 2 turns",
    ),
    ({"message": two, "max_turns": "3"}, "a whole number from 1 to 10,000, not '3'"),
    ({"message": two, "max_turns": True}, "from 1 to 10,000, not True"),
    ({"message": two, "max_turns": 2.5}, "from 1 to 10,000, not 2.5"),
    ({"message": two, "max_turns": 10**30}, "from 1 to 10,000, not 1000000"),
    ({"turns": [*["Hi"] * 10, two]}, "from 11 to 10,000, not 10"),
    ({"message": two, "max_turn": 3}, "Unknown key 'max_turn'. Nothing was sent; did you mean 'max_turns'?"),
    ({"message": two, "session_id": "s"}, "session_id"),
    ({"turns": [{"message": two, "mode": "nope"}]}, "Unknown mode 'nope'"),
    (ScriptedUser, "ScriptedUser is a class. Nothing was sent; call it"),
    (no_argument, "its user must take one argument, the conversation so far"),
    (two_arguments, "its user must take one argument"),
]


@pytest.mark.parametrize(("case", "why"), REFUSED, ids=[why for _, why in REFUSED])
def test_a_wrong_case_is_refused(case: Any, why: str, agent: DemoAgent, run: Run) -> None:
    """In one line, before anything is sent."""
    with pytest.raises(InvalidRequest) as raised:
        run([case, "other"])
    assert why in str(raised.value) and "Nothing was sent" in str(raised.value)
    assert sent(agent) == []


def test_a_file_of_cases_cannot_hold_a_function(tmp_path: Path) -> None:
    """The error names it, when reading and when keeping."""
    file = tmp_path / "cases.jsonl"
    file.write_text('{"message": "Hi", "max_turns": 3}\n')
    with pytest.raises(InvalidRequest, match="a file of cases cannot hold one"):
        read_cases(file)
    [case] = read_cases([two])
    with pytest.raises(InvalidRequest, match=r"Case '1' has a function.*as_cases\(\)"):
        keep_case(case, tmp_path / "kept.jsonl")
    assert not (tmp_path / "kept.jsonl").exists()


def test_the_key_has_the_version_and_the_goal(agent: DemoAgent, run: Run, kept: Path) -> None:
    """Another of either, or other first messages, is another case; another name or limit is not."""

    def user(goal: str, version: str) -> Any:
        made = functools.partial(two)
        made.goal, made.version = goal, version  # type: ignore[attr-defined]
        return made

    def cases(goal: str = "g", version: str = "1", first: str = "Hi", **others: Any) -> Any:
        return [{"turns": [first, user(goal, version)], **others}]

    counts = []
    for given in (
        cases(),
        cases(),
        cases(id="x", max_turns=7),
        cases(goal="h"),
        cases(version="2"),
        cases(first="Ho"),
    ):
        before = len(agent.requests)
        run(given, path=kept)
        counts.append(len(agent.requests) - before)
    assert counts == [2, 0, 0, 2, 2, 2]


def test_a_function_without_a_version_counts_with_its_code(agent: DemoAgent, run: Run, kept: Path) -> None:
    """The same code is the same user, also as another object; changed code is another one."""

    def user(word: str) -> Any:
        return lambda conversation: None if conversation else word

    for word in ("a", "a", "b"):
        run([user(word)], path=kept)
    assert sent(agent) == ["a", "b"]


def test_a_user_whose_changes_cannot_be_seen_needs_a_version(agent: DemoAgent, run: Run) -> None:
    """Otherwise each run would send everything again."""

    class Nested:
        def __init__(self) -> None:
            self.deep: Any = None
            for _ in range(5_000):
                self.deep = [self.deep]

        def __call__(self, conversation: Turns) -> str | None:
            return two(conversation)

    user = Nested()
    with pytest.raises(InvalidRequest, match="give the function an attribute 'version'"):
        run([user])
    user.version = "1"  # type: ignore[attr-defined]
    assert len(run([user]).df) == 2
