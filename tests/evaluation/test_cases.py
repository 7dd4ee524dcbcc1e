"""Cases in every form that users have, and their keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from halo_notebook.errors import InvalidRequest
from halo_notebook.evaluation.cases import Case, CaseTurn, read_cases


@pytest.mark.parametrize(
    ("given", "case"),
    [
        ("Hello", Case("1", (CaseTurn("Hello"),))),
        (["My name is Ada", "My name?"], Case("1", (CaseTurn("My name is Ada"), CaseTurn("My name?")))),
        (
            {"id": "a", "message": "Hello", "expect": "Hi", "tags": ["x"], "user_id": "u_1"},
            Case("a", (CaseTurn("Hello", None, {"user_id": "u_1"}),), "Hi", ("x",)),
        ),
        (
            {"id": "a", "turns": ["Hello", {"message": "Where?", "expect": "Here", "user_id": "u_1"}]},
            Case("a", (CaseTurn("Hello"), CaseTurn("Where?", "Here", {"user_id": "u_1"}))),
        ),
    ],
)
def test_each_form_becomes_a_case(given: Any, case: Case) -> None:
    """A message, a list of turns, and a dict of one turn or of several, with request fields."""
    assert read_cases([given]) == [case]


def test_what_the_case_expects_is_for_its_last_turn() -> None:
    """A turn's own expectation comes first."""
    turns = [{"message": "one", "expect": "no"}, "two"]
    case, own = read_cases([{"turns": turns, "expect": "yes"}, {"turns": turns[:1], "expect": "yes"}])
    assert [case.expected(0), case.expected(1), own.expected(0)] == ["no", "yes", "no"]


def test_files_and_dataframes_give_the_same_cases(tmp_path: Path) -> None:
    """JSON lines, CSV and a DataFrame."""
    wanted = [
        Case("a", (CaseTurn("Hello\u2028there", None, {"user_id": "u_1"}),), "Hi", ("x", "y")),
        Case("b", (CaseTurn("one"), CaseTurn("two"))),
    ]
    rows: list[dict[str, Any]] = [
        {"id": "a", "message": "Hello\u2028there", "user_id": "u_1", "expect": "Hi", "tags": "x; y"},
        {"id": "b", "turns": ["one", "two"]},
    ]
    assert read_cases(pd.DataFrame(rows)) == wanted
    lines = [json.dumps(row, ensure_ascii=False) for row in ({**rows[0], "tags": ["x", "y"]}, rows[1])]
    (tmp_path / "cases.jsonl").write_text("\n\n".join(lines), encoding="utf-8")
    assert read_cases(tmp_path / "cases.jsonl") == wanted
    rows[1]["turns"] = json.dumps(rows[1]["turns"])
    pd.DataFrame(rows).to_csv(tmp_path / "cases.csv", index=False, encoding="utf-8-sig")
    assert read_cases(str(tmp_path / "cases.csv")) == wanted


def test_the_key_of_a_case_depends_on_what_is_sent() -> None:
    """Not on its id, its tags or what is expected."""
    key = read_cases(["Hello"])[0].content_key
    assert read_cases([{"id": "x", "turns": ["Hello"], "expect": "Hi", "tags": ["t"]}])[0].content_key == key
    for other in ("Hello!", ["Hello", "Hello"], {"turns": [{"message": "Hello", "user_id": "u_1"}]}):
        assert read_cases([other])[0].content_key != key


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        ([], "There are no cases"),
        ([""], "Case '1': The message is empty"),
        (["x" * 10_001], "Case '1': The message has 10,001 characters"),
        ([["one", ""]], "Case '1': The message is empty"),
        ([[]], "Case '1' has no turns"),
        ([3], "Case 1 is int"),
        (
            [{"turns": ["a"], "exspect": 1}],
            "Unknown key 'exspect'. Nothing was sent; did you mean 'expect'? Allowed: id, turns, expect,",
        ),
        (
            [{"turns": [{"say": "a"}]}],
            "Unknown key 'say'. Nothing was sent. Allowed: message, expect, user_id,",
        ),
        (
            [{"id": "a", "turns": ["a"], "say": "a"}],
            "Case 'a': Unknown key 'say'. Nothing was sent. Allowed: id,",
        ),
        ([{"say": "a"}], "Nothing was sent. Allowed: id, message, turns, expect, tags, user_id,"),
        ([{"id": "a"}], "Case 'a' has no turns"),
        ([{"message": "a", "session_id": "s"}], "leave session_id out"),
        ([{"turns": [{"message": "a", "session_id": "s"}]}], "leave session_id out"),
        ([{"turns": ["a"], "user_id": "u_1"}], "has turns and user_id"),
        ([{"turns": [{"message": "a", "mode": "loud"}]}], "There is no mode 'loud'"),
        ([{"id": "a", "turns": ["a"]}, {"id": "a", "turns": ["b"]}], "Cases 1 and 2 have the same id 'a'"),
        ([{"turns": ["a"], "tags": "x"}], "tags must be a list"),
        pytest.param([{"turns": ["a"], "expect": object()}], "expect cannot be sent as JSON", id="an object"),
        (
            "hi",
            "'hi' is not .jsonl or .csv. Nothing was sent. For one message, pass ['hi'].",
        ),
        ("nowhere.jsonl", "could not be read"),
        (pd.DataFrame([{"message": "a", "turns": ["b"]}]), "has turns and message"),
        (pd.DataFrame([{"say": "a"}]), "Unknown key 'say'"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_a_wrong_case_is_named(cases: Any, words: str) -> None:
    """Before anything is sent, with the case's own id."""
    with pytest.raises(InvalidRequest) as caught:
        read_cases(cases)
    assert words in str(caught.value)
    assert "Nothing was sent" in str(caught.value)


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    """With its number."""
    (tmp_path / "bad.jsonl").write_text('{"turns": ["a"]}\n{nonsense\n')
    with pytest.raises(InvalidRequest, match=r"Line 2 of 'bad.jsonl'"):
        read_cases(tmp_path / "bad.jsonl")
