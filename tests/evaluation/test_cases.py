"""Cases in every form that users have, and their keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from halo_notebook.errors import InvalidRequest
from halo_notebook.evaluation.cases import Case, CaseTurn, read_cases


def test_each_form_becomes_cases() -> None:
    """A message, a list of turns, a dict, turns with fields and expectations."""
    first, second, third = read_cases(
        [
            "Hello",
            ["My name is Ada", "What is my name?"],
            {
                "id": "invoice",
                "turns": [{"message": "Where is my invoice?", "expect": "Billing", "user_id": "u_1"}],
                "tags": ["billing"],
            },
        ]
    )
    assert first == Case("1", (CaseTurn("Hello"),))
    assert [turn.message for turn in second.turns] == ["My name is Ada", "What is my name?"]
    assert third.turns[0] == CaseTurn("Where is my invoice?", "Billing", {"user_id": "u_1"})
    assert (third.id, third.tags) == ("invoice", ("billing",))


def test_what_the_case_expects_is_for_its_last_turn() -> None:
    """A turn's own expectation comes first."""
    case = read_cases([{"turns": ["one", "two"], "expect": "yes"}])[0]
    assert [case.expected(turn) for turn in (0, 1)] == [None, "yes"]
    case = read_cases([{"turns": [{"message": "one", "expect": "no"}], "expect": "yes"}])[0]
    assert case.expected(0) == "no"


def test_files_and_dataframes_give_the_same_cases(tmp_path: Path) -> None:
    """JSON lines, CSV and a DataFrame."""
    wanted = [
        Case("a", (CaseTurn("Hello\u2028there"),), "Hi", ("x", "y")),
        Case("b", (CaseTurn("one"), CaseTurn("two"))),
    ]
    lines = [
        {"id": "a", "turns": ["Hello\u2028there"], "expect": "Hi", "tags": ["x", "y"]},
        {"id": "b", "turns": ["one", "two"]},
    ]
    (tmp_path / "cases.jsonl").write_text(
        "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines), encoding="utf-8"
    )
    assert read_cases(tmp_path / "cases.jsonl") == wanted
    (tmp_path / "cases.csv").write_text(
        'id,message,turns,expect,tags\na,Hello\u2028there,,Hi,x; y\nb,,"[""one"", ""two""]",,\n',
        encoding="utf-8-sig",
    )
    assert read_cases(str(tmp_path / "cases.csv")) == wanted
    frame = pd.DataFrame(
        [
            {"id": "a", "message": "Hello\u2028there", "turns": None, "expect": "Hi", "tags": "x;y"},
            {"id": "b", "message": None, "turns": ["one", "two"], "expect": None, "tags": None},
        ]
    )
    assert read_cases(frame) == wanted


def test_a_case_of_one_turn_needs_no_turns() -> None:
    """Its message stands in the case, with what is expected of the reply and request fields beside it."""
    case = {"id": "a", "message": "Hello", "expect": "Hi", "tags": ["x"], "user_id": "u_1"}
    same = {"id": "a", "turns": [{"message": "Hello", "user_id": "u_1"}], "expect": "Hi", "tags": ["x"]}
    assert read_cases([case]) == read_cases([same])
    assert read_cases([case])[0].expected(0) == "Hi"


def test_columns_may_be_request_fields() -> None:
    """They go with the row's message."""
    case = read_cases(pd.DataFrame([{"message": "Hello", "user_id": "u_1"}]))[0]
    assert case.turns == (CaseTurn("Hello", None, {"user_id": "u_1"}),)


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
        ([{"turns": [{"message": "a", "user": 1}]}], "Unknown key 'user'. Nothing was sent"),
        (
            [{"turns": [{"say": "a"}]}],
            "Unknown key 'say'. Nothing was sent. Allowed: message, expect, user_id, user_token, company_id,",
        ),
        (
            [{"id": "a", "turns": ["a"], "say": "a"}],
            "Case 'a': Unknown key 'say'. Nothing was sent. Allowed: id, turns, expect, tags.",
        ),
        (
            [{"say": "a"}],
            "Unknown key 'say'. Nothing was sent. Allowed: id, message, turns, expect, tags, user_id,",
        ),
        ([{"id": "a"}], "Case 'a' has no turns"),
        ([{"message": "a", "session_id": "s"}], "leave session_id out"),
        ([{"turns": ["a"], "user_id": "u_1"}], "has turns and user_id"),
        (
            "hi",
            "A string is read as a file name, and 'hi' is not .jsonl or .csv. Nothing was sent. For one",
        ),
        ([{"turns": [{"message": "a", "session_id": "s"}]}], "leave session_id out"),
        ([{"turns": [{"message": "a", "mode": "loud"}]}], "There is no mode 'loud'"),
        ([{"id": "a", "turns": ["a"]}, {"id": "a", "turns": ["b"]}], "Cases 1 and 2 have the same id 'a'"),
        ([{"turns": ["a"], "tags": "x"}], "tags must be a list"),
        pytest.param([{"turns": ["a"], "expect": object()}], "expect cannot be sent as JSON", id="an object"),
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


def test_a_wrong_file_is_named(tmp_path: Path) -> None:
    """With the line, or the ending."""
    (tmp_path / "bad.jsonl").write_text('{"turns": ["a"]}\n{nonsense\n')
    with pytest.raises(InvalidRequest, match=r"Line 2 of 'bad.jsonl'"):
        read_cases(tmp_path / "bad.jsonl")
    (tmp_path / "cases.txt").write_text("Hello")
    with pytest.raises(
        InvalidRequest,
        match=r"'cases.txt' is not \.jsonl or \.csv\. .* For one message, pass \['cases\.txt'\]\.$",
    ):
        read_cases(tmp_path / "cases.txt")
