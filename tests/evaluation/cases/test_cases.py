"""Cases in every form that users have, and their keys."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from halo_notebook import ScriptedUser
from halo_notebook.checks import contains
from halo_notebook.client.secrets import Secret
from halo_notebook.errors import InvalidRequest
from halo_notebook.evaluation.cases.case import Case, CaseTurn, read_cases

from ..agents import ok, sent, states

if TYPE_CHECKING:
    from halo_notebook import DemoAgent, HaloClient
    from halo_notebook.stream import JSON

    from ..conftest import Run


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


@pytest.mark.parametrize(
    "given",
    [
        {"message": "one"},
        Case("1", (CaseTurn("one"),)),
        lambda conversation: None if conversation else "one",
        ScriptedUser(["one"]),
    ],
)
def test_a_single_case_needs_no_list(given: Any, agent: DemoAgent, run: Run) -> None:
    """A dict, a case, such as that of a conversation, or a user."""
    assert states(run(given)) == ["complete"] and sent(agent) == ["one"]


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


KEYS = """\
from collections import namedtuple
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
import numpy as np, pandas as pd
from halo_notebook import HaloClient
from halo_notebook.evaluation.sending.plan import Plan

class Tier(Enum):
    GOLD = frozenset("gold")

names = {"gold", "beta", "emea", "sso"}
values = [
    names, frozenset(names), [{"deep": [names]}], {frozenset(names): names}, {(1, frozenset(names)): 1},
    {1, "1", 2.5}, {Decimal("1.5"), date(2026, 1, 2), None}, {Tier.GOLD}, {np.int64(3), np.float32(0.5)},
    pd.DataFrame({"a": [names, {1}]}), pd.Series([names]), {PurePath("a"), PurePath("b")},
]
client = HaloClient("ab_live_x", base_url="http://127.0.0.1:1")
cases = [{"turns": [{"message": "Hi", "context": {"plan": value}}]} for value in values]
configs = {str(at): {"client": client, "custom_fields": {"plan": values[at]}} for at in range(3)}
print(*(each.key for each in Plan(cases, (), configs, 1, 1, None).conversations()))
"""


def test_the_key_of_a_case_is_the_same_in_every_process() -> None:
    """Sets at any depth, in cases and configurations: their order depends on the process's hash seed."""
    seeds = [
        subprocess.run(
            [sys.executable, "-c", KEYS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    ]
    assert len(set(seeds)) == 1 and len(seeds[0].split()) == 12 * 3


def token(user: str, number: int) -> str:
    claims = json.dumps({"user_id": user, "n": number, "exp": 2_000_000_000 + number})
    return f"e30.{base64.urlsafe_b64encode(claims.encode()).decode().rstrip('=')}.c2ln"


async def later() -> str:
    return token("u_1", 9)


@pytest.mark.parametrize("where", ["config", "case", "turn"])
def test_a_renewed_user_token_is_not_another_message(
    where: str, agent: DemoAgent, client: HaloClient, run: Run, kept: Path
) -> None:
    """A string, a callable and an async one say who asks. None of them is in the file."""
    tokens: list[Any] = [
        token("u_1", 1),
        token("u_1", 2),
        lambda: token("u_1", 3),
        later,
        Secret(token("u_1", 4)),
    ]
    for given in tokens:
        who = {"user_id": "u_1", "user_token": given}
        config = {"client": client, **(who if where == "config" else {})}
        turn = {"message": "Hi", **(who if where != "config" else {})}
        cases = [{"turns": [turn]} if where == "turn" else turn]
        assert states(run(cases, configs={"ada": config}, path=kept)) == ["complete"]
    [request] = agent.requests
    assert request.body["user_token"] == tokens[0]
    assert "e30." not in kept.read_text()
    other = [{"message": "Hi", "user_id": "u_2"}]
    run(other, configs={"ada": client}, path=kept)
    assert len(agent.requests) == 2  # another user is another message


@pytest.mark.parametrize(
    ("given", "tags"),
    [
        (3, ("3",)),
        (2.0, ("2",)),
        (1.5, ("1.5",)),
        (None, ()),
        (float("nan"), ()),
        (pd.NA, ()),
        ([1, "b", 2.5], ("1", "b", "2.5")),
        (["a, b", "a, b"], ("a, b",)),
        ({"b", "a", "c"}, ("a", "b", "c")),
        (("x", "y"), ("x", "y")),
        (np.array([1, 2]), ("1", "2")),
        (np.int64(3), ("3",)),
        ([], ()),
    ],
    ids=range(13),
)
def test_tags_may_be_numbers_or_missing(given: Any, tags: tuple[str, ...]) -> None:
    """A number is a tag; a set has an order."""
    assert read_cases([{"message": "Hi", "tags": given}])[0].tags == tags


@pytest.mark.parametrize(
    ("column", "tags"),
    [
        ([1, 2], [("1",), ("2",)]),
        ([1, None], [("1",), ()]),
        (["a; b", "a, b"], [("a", "b"), ("a, b",)]),
        ([["a"], None], [("a",), ()]),
    ],
    ids=str,
)
def test_tags_in_a_column(column: list[Any], tags: list[tuple[str, ...]]) -> None:
    """In DataFrames, in their rows as dicts, and in frames of other libraries."""
    frame = pd.DataFrame({"message": ["one", "two"], "tags": column})
    assert [case.tags for case in read_cases(frame)] == tags
    assert [
        case.tags for case in read_cases(pl.DataFrame({"message": ["one", "two"], "tags": column}))
    ] == tags
    if not isinstance(column[0], str):
        assert [case.tags for case in read_cases(frame.to_dict("records"))] == tags


@pytest.mark.parametrize(
    "turns",
    [np.array(["one", "two"]), pd.Series(["one", "two"]), np.array([{"message": "one"}, "two"], object)],
)
def test_turns_may_be_an_array(turns: Any) -> None:
    """As in a row of a Parquet file; an empty one is none."""
    [case] = read_cases([{"id": "a", "turns": turns}])
    assert [turn.message for turn in case.turns] == ["one", "two"]
    with pytest.raises(InvalidRequest, match="has no turns"):
        read_cases([{"turns": turns[:0]}])


def test_half_of_a_character_is_a_question_mark(run: Run, agent: DemoAgent) -> None:
    """As JSON may escape it: in the id, the message, a tag; the tables can hold it."""
    case = json.loads('{"id": "a\\ud83d", "message": "Hi \\ud800", "tags": ["\\udfff"], "expect": "\\ud800"}')
    result = run([case], [contains()])
    assert result.df[["case", "message"]].to_numpy().tolist() == [["a?", "Hi ?"]]
    assert next(result.rows())["tags"] == ["?"] and agent.requests[0].body["message"] == "Hi ?"
    assert result._repr_html_()


@pytest.mark.parametrize(
    "tags", [True, {"a": 1}, [["a"]], [None], [True], "a,b", object(), b"a"], ids=range(8)
)
def test_other_tags_are_refused_with_the_case(tags: Any) -> None:
    """In one line."""
    with pytest.raises(InvalidRequest, match=r"^Case 'a': tags "):
        read_cases([{"id": "a", "message": "Hi", "tags": tags}])


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame({"id": ["a", "b"], "message": ["Hi", "Ho"], "expect": [1.5, float("nan")]}),
        pa.table({"id": ["a", "b"], "message": ["Hi", "Ho"], "expect": [1.5, None]}),
        pa.record_batch({"id": ["a", "b"], "message": ["Hi", "Ho"], "expect": [1.5, None]}),
        pd.DataFrame({"id": ["a", "b"], "message": ["Hi", "Ho"], "expect": [1.5, None]}),
    ],
    ids=lambda frame: type(frame).__name__ + type(frame).__module__.partition(".")[0],
)
def test_frames_of_other_libraries_are_cases(frame: Any) -> None:
    """What is missing is null."""
    assert read_cases(frame) == [Case("a", (CaseTurn("Hi"),), 1.5), Case("b", (CaseTurn("Ho"),))]


class Distributed:
    """As a DataFrame of Dask."""

    columns = ("message",)

    def compute(self) -> None: ...


class Remote:
    """As a DataFrame of cuDF."""

    columns = ("message",)

    def to_pandas(self) -> None: ...


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (pl.LazyFrame({"message": ["Hi"]}), r"give its \.collect\(\)"),
        (Distributed(), r"give its \.compute\(\)"),
        (Remote(), r"give its \.to_pandas\(\)"),
        (pl.DataFrame({"message": ["Hi"], "expect": [b"x"]}), "'expect': bytes has no JSON form"),
        (pa.table([["a"], ["b"]], names=["message", "message"]), "column names are not unique"),
    ],
    ids=["polars lazy", "dask", "cudf", "bytes", "pyarrow"],
)
def test_the_error_for_a_frame_names_the_column_or_the_method(frame: Any, words: str) -> None:
    """In one line, before anything is sent."""
    with pytest.raises(InvalidRequest, match=words):
        read_cases(frame)


@pytest.mark.parametrize(
    ("case", "words"),
    [
        (Case("a", (CaseTurn(""),)), "Case 'a': The message is empty"),
        (Case("a", (CaseTurn("Hi", fields={"mode": "loud"}),)), "Unknown mode 'loud'"),
        (Case("a", ()), "Case 'a' has no turns"),
    ],
)
def test_a_case_is_checked_like_a_dict(case: Case, words: str) -> None:
    """What it holds may be wrong, too."""
    with pytest.raises(InvalidRequest, match=words):
        read_cases([case])


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
            "Unknown key 'exspect'. Nothing was sent; did you mean 'expect'? If it is metadata,",
        ),
        (
            [{"turns": [{"say": "a"}]}],
            "Unknown key 'say'. Nothing was sent. Allowed: message, expect, user_id,",
        ),
        ([{"say": "a"}], "Case '1' has no turns (it has only 'say'). Nothing was sent; give at least one 'm"),
        ([{"id": "a"}], "Case 'a' has no turns"),
        (
            [{"kind": "run", "format": 2}],
            "has no turns (it is a line of an evaluation, which Evaluation.open",
        ),
        ([{"message": "a", "session_id": "s"}], "leave session_id out"),
        ([{"turns": [{"message": "a", "session_id": "s"}]}], "leave session_id out"),
        ([{"turns": ["a"], "user_id": "u_1"}], "has turns and user_id"),
        ([{"turns": [{"message": "a", "mode": "loud"}]}], "Unknown mode 'loud'"),
        ([{"id": "a", "turns": ["a"]}, {"id": "a", "turns": ["b"]}], "Cases 1 and 2 have the same id 'a'"),
        ([{"turns": ["a"], "tags": "x"}], "tags must be a list"),
        pytest.param([{"turns": ["a"], "expect": object()}], "expect cannot be sent as JSON", id="an object"),
        (
            "hi",
            "'hi' is not .jsonl, .csv or .json. Nothing was sent. For one message, pass ['hi'].",
        ),
        ("nowhere.jsonl", "could not be read"),
        (pd.DataFrame([{"message": "a", "turns": ["b"]}]), "has turns and message"),
        (pd.DataFrame([{"say": "a"}]), "has no turns (it has only 'say')"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_a_wrong_case_is_named(cases: Any, words: str) -> None:
    """Before anything is sent, with the case's own id."""
    with pytest.raises(InvalidRequest) as caught:
        read_cases(cases)
    assert words in str(caught.value)
    assert "Nothing was sent" in str(caught.value)


LONG = "x" * 20_000


@pytest.mark.parametrize(
    "cases",
    [
        f"{LONG}\n{LONG}",
        [{"id": LONG, "turns": []}],
        [{LONG: 1}, "a"],
        [{str(number): 1 for number in range(5_000)}],
        [{"message": "a", f"mesage{LONG[:1]}": 1}],
        [{"turns": [{LONG: 1}]}],
        [{"message": "a", "mode": LONG}],
        [{"message": "a", "context": {LONG: {"label": 1, "value": 1}}}],
        [{"message": "a", "custom_fields": {LONG: object()}}],
        [{"message": "a", "text": 1, "id": LONG}],
        [{"id": LONG, "message": message} for message in "ab"],
    ],
    ids=range(11),
)
def test_an_error_quotes_only_a_beginning(cases: Any) -> None:
    """It is one line that can be read, whatever a file has in the place of a name."""
    with pytest.raises(InvalidRequest) as caught:
        read_cases(cases)
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


# --- Metadata ---------------------------------------------------------------------------


def test_other_keys_are_metadata(tmp_path: Path) -> None:
    """In a dict, a `Case`, a DataFrame, CSV and JSON lines; a missing value is none."""
    wanted = [{"topic": "billing", "tier": 2}, {"topic": "setup"}]
    rows = [{"message": "one", "topic": "billing", "tier": 2}, {"message": "two", "topic": "setup"}]
    found = read_cases(rows)
    assert [case.metadata for case in found] == wanted
    assert [case.metadata for case in read_cases(found)] == wanted
    assert [case.content_key for case in found] == [case.content_key for case in read_cases(["one", "two"])]
    for frame in (pd.DataFrame(rows), pl.DataFrame(rows), pa.Table.from_pylist(rows)):
        assert [case.metadata for case in read_cases(frame)] == wanted
    (tmp_path / "cases.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [case.metadata for case in read_cases(tmp_path / "cases.jsonl")] == wanted
    (tmp_path / "cases.csv").write_text("message;topic;tier\none;billing;2\ntwo;setup;\n")
    # A cell of a CSV file is text.
    assert [case.metadata for case in read_cases(tmp_path / "cases.csv")] == [
        {"topic": "billing", "tier": "2"},
        {"topic": "setup"},
    ]


def test_metadata_may_be_a_dict_of_any_names(tmp_path: Path) -> None:
    """Also of one that is almost a key, and beside other keys; in a table it is JSON."""
    wanted = {"model": "x", "topic": [1, {"a": None}]}
    given = {"message": "Hi", "metadata": {"model": "x"}, "topic": [1, {"a": None}]}
    assert read_cases([given])[0].metadata == wanted
    frame = pd.DataFrame({"message": ["Hi"], "metadata": [json.dumps(wanted)]})
    assert read_cases(frame)[0].metadata == wanted
    assert read_cases(pd.DataFrame([given]))[0].metadata == wanted
    frame.to_csv(tmp_path / "cases.csv", index=False)
    assert read_cases(tmp_path / "cases.csv")[0].metadata == wanted
    turns = {"turns": ["one", "two"], "topic": "billing"}
    assert read_cases([turns])[0].metadata == {"topic": "billing"}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (date(2026, 1, 2), "2026-01-02"),
        (pd.Timestamp("2026-01-02T03:04", tz="UTC"), "2026-01-02T03:04:00+00:00"),
        (np.int64(3), 3),
        (np.array([1.5, 2]), [1.5, 2.0]),
        ({"b", "a"}, ["a", "b"]),
        (Decimal("1.50"), "1.50"),
        ({1: "x"}, {"1": "x"}),
        (False, False),
        ("half \ud83d", "half ?"),
        ({"\udfff": ["\ud800"]}, {"?": ["?"]}),
    ],
    ids=range(10),
)
def test_metadata_is_json(value: Any, kept: JSON) -> None:
    """Dates, values of numpy, sets; half of a character is a question mark."""
    assert read_cases([{"message": "Hi", "about": value}])[0].metadata == {"about": kept}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"mesage": "Hi"},
            "Unknown key 'mesage'. Nothing was sent; did you mean 'message'? If it is",
        ),
        ({"message": "Hi", "tag": "x"}, "did you mean 'tags'?"),
        ({"message": "Hi", "Expect": 1}, "did you mean 'expect'?"),
        ({"message": "Hi", "user-id": "u"}, "did you mean 'user_id'?"),
        ({"turns": ["Hi"], "metdata": {}}, "did you mean 'metadata'?"),
        ({"message": "Hi", "text": "x"}, "'text' is a column of the result. Nothing was sent; rename it."),
        ({"message": "Hi", "metadata": {"case": 1}}, "'case' is a column of the result"),
        ({"message": "Hi", "started_at": "x"}, "'started_at' is a column of the result"),
        ({"message": "Hi", "metadata": {"a": 1}, "a": 1}, "'a' is there twice"),
        ({"message": "Hi", " ": 1}, "' ' is no name"),
        ({"message": "Hi", "metadata": ["a"]}, "metadata must be a dict, not list"),
        ({"message": "Hi", "metadata": "a"}, "metadata must be a dict, not str"),
        ({"message": "Hi", "blob": b"x"}, "metadata cannot be sent as JSON ('blob': bytes has no JSON form)"),
        ({"message": "Hi", "share": float("inf")}, "inf has no JSON form"),
    ],
    ids=range(14),
)
def test_wrong_metadata_is_named(given: Any, words: str) -> None:
    """A misspelt key, a name that a column of the tables has, what is not JSON."""
    with pytest.raises(InvalidRequest, match=r"^[^\n]*Nothing was sent[^\n]*$") as caught:
        read_cases([given])
    assert words in str(caught.value)


def test_metadata_that_is_not_a_table_s_json_is_named() -> None:
    """As for turns."""
    with pytest.raises(InvalidRequest, match="Case 'a': its metadata are not JSON"):
        read_cases(pd.DataFrame({"id": ["a"], "message": ["Hi"], "metadata": ['{"x": ']}))


@pytest.mark.parametrize("name", ["contains", "contains score", "contains note"])
def test_metadata_cannot_have_the_column_of_a_check(name: str, run: Run, agent: DemoAgent) -> None:
    """Nothing is sent; other checks on the result are refused as well, and its own stay."""
    cases = [{"id": "a", "message": "Hi", name: "x"}]
    with pytest.raises(InvalidRequest, match=rf"Case 'a': its metadata '{name}' is a column of the check"):
        run(cases, [contains()])
    assert not agent.requests
    result = run(cases, [ok])
    with pytest.raises(InvalidRequest, match="is a column of the check 'contains'"):
        result.rescore([contains()])
    assert result.passed("ok") == {"demo": {"a": [True]}}


def test_a_wrong_line_is_named(tmp_path: Path) -> None:
    """With its number."""
    (tmp_path / "bad.jsonl").write_text('{"turns": ["a"]}\n{nonsense\n')
    with pytest.raises(InvalidRequest, match=r"Line 2 of 'bad.jsonl'"):
        read_cases(tmp_path / "bad.jsonl")


class Figure:
    """As matplotlib's: drawn when it is saved, and it may change in between."""

    def __init__(self) -> None:
        self.drawn = b"one"

    def savefig(self, file: Any, format: str) -> None:  # noqa: A002  # as matplotlib calls it
        file.write(b"\x89PNG\r\n\x1a\n" + self.drawn)


def test_images_and_frames_go_with_cases_and_configurations(
    run: Run, client: HaloClient, agent: DemoAgent
) -> None:
    """Drawn once, when they are given; the case and its key have what is sent."""
    figure, table = Figure(), pd.DataFrame({"n": [1, 2]})
    [case] = read_cases([{"message": "Look", "images": [figure], "context": {"orders": table}}])
    first = {"data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\none").decode()}
    assert set(case.turns[0].fields["images"]) == first
    key, figure.drawn = case.content_key, b"two"
    assert case.content_key == key
    [changed] = read_cases([{"message": "Look", "images": [figure], "context": {"orders": table}}])
    assert changed.content_key != key
    run([case, "And this?"], configs={"figure": {"client": client, "images": [figure]}})
    sent = [request.body for request in agent.requests]
    second = {"data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\ntwo").decode()}
    assert {body["message"]: set(body["images"]) for body in sent} == {"Look": first, "And this?": second}
    assert sent[0]["context"] == {
        "orders": {"label": "orders", "type": "list", "value": [{"n": 1}, {"n": 2}]}
    }


@pytest.mark.parametrize("images", [[b"<svg/>"], b"\x89PNG\r\n\x1a\n", ["a.png"], [object()]])
def test_what_is_not_an_image_is_named_with_its_case(images: Any, run: Run, agent: DemoAgent) -> None:
    """Before anything is sent, in a case and in a configuration."""
    with pytest.raises(InvalidRequest, match=r"^Case '1': images"):
        run([{"message": "Look", "images": images}])
    with pytest.raises(InvalidRequest, match=r"^Configuration 'a' \(1 of 1\): images"):
        run(["Look"], configs={"a": {"images": images}})
    assert not agent.requests
