"""The rows of an evaluation as a table: its columns and their types, in any file, whatever is missing."""

from __future__ import annotations

import copy
import csv
import io
import math
import pickle
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from halo_notebook import HaloClient, Reply, TextDelta
from halo_notebook.checks import Score, contains
from halo_notebook.demo import DEMO_KEY, DemoAgent, Step
from halo_notebook.evaluation import Evaluation, evaluate
from halo_notebook.evaluation.cases.columns import ROW_COLUMNS

from ..agents import ok

if TYPE_CHECKING:
    from halo_notebook.stream import JSON

    from ..conftest import Run

EXPECTED: list[JSON] = [42, "x", ["a", 1], None, {"a": [1]}, True, 2.5, 10**30]
HOSTILE = ["=1+1", '+cmd|" /C calc"!A0', "-2+3", "@SUM(1)", " =1", "-5", "- a list", "quiet"]


def echo(request: dict[str, JSON]) -> Iterator[Step]:
    yield TextDelta(str(request["message"]))


def graded(reply: Reply) -> Score | None:
    return (
        None if reply.text == "quiet" else Score(reply.text.startswith("="), len(reply.text) / 100, "graded")
    )


def conversation_check(conversation: Any) -> bool:
    return len(conversation) == 1


def of_messages(checks: Any) -> Evaluation:
    """Expectations of every type, metadata of one type and of several, and texts that are formulas."""
    cases: list[dict[str, Any]] = [
        {"id": f"={number}", "message": text, "expect": expect, "topic": "ab"[number % 2], "mixed": expect}
        for number, (text, expect) in enumerate(zip(HOSTILE, EXPECTED, strict=True))
    ]
    cases[0]["since"] = datetime(2025, 1, 2, tzinfo=UTC)
    with DemoAgent(first_byte_s=0, chunk_s=0, reply=echo) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        return evaluate(cases, checks, configs=configs, progress=False, concurrency=1)


@pytest.fixture(scope="module")
def result() -> Evaluation:
    return of_messages([graded, conversation_check])


# --- Columns ----------------------------------------------------------------------------


def test_a_check_has_three_columns_of_their_types(result: Evaluation) -> None:
    """A nullable boolean, a float, a text; then come the columns of the metadata."""
    df = result.df
    assert list(df) == [
        *ROW_COLUMNS,
        *("graded", "graded score", "graded note"),
        *("conversation_check", "conversation_check score", "conversation_check note"),
        *("topic", "mixed", "since"),
    ]
    for check in ("graded", "conversation_check"):
        assert (df[check].dtype, df[f"{check} score"].dtype) == ("boolean", "float64")
    assert df["graded"].tolist() == [True, *[False] * 6, pd.NA] and df["conversation_check"].all()
    assert df["graded score"].tolist()[:2] == [0.04, len(HOSTILE[1]) / 100]
    assert math.isnan(df["graded score"].iloc[7]) and df["graded note"].iloc[0] == "graded"
    assert df["topic"].tolist() == list("abababab")
    assert df["since"].tolist()[0] == "2025-01-02T00:00:00+00:00" and df["since"].isna().sum() == 7


def test_message_expectation_and_time_have_columns(result: Evaluation) -> None:
    """What is expected keeps its type; the time is in UTC."""
    df = result.df
    assert df["message"].tolist() == HOSTILE and df["expect"].tolist() == EXPECTED
    assert [type(each) for each in df["expect"][:1]] == [int] and isinstance(df["expect"][2], list)
    assert str(df["started_at"].dtype) == "datetime64[ms, UTC]"
    assert (abs(df["started_at"] - datetime.now(UTC)) < timedelta(minutes=5)).all()
    assert set(df["cause"]) == {""}
    assert next(result.rows()).keys() == set(df)


def test_metadata_groups(result: Evaluation) -> None:
    """A column like any other; also what is expected, whose values keep their types."""
    rates = result.df.groupby("topic")["graded"].mean()
    assert rates.to_dict() == {"a": 0.25, "b": 0.0}
    assert len(result.df.groupby("expect", sort=False).size()) == 7
    for name in ("mixed", "expect"):
        assert len(result.df.drop_duplicates(name)) == 8 and result.df[name].nunique() == 7


@pytest.mark.parametrize(
    "values",
    [EXPECTED, [1, True, 1.0, "1"], [None, [1], "x"], [{"a": 1}, [{"a": 1}], 0], ["ä", None, -0.0]],
    ids=["all", "like 1", "list", "nested", "texts and numbers"],
)
def test_metadata_of_several_types_is_sorted_and_grouped_as_text(values: list[JSON], run: Run) -> None:
    """By pandas, without settings, into the groups of the summary; what is missing stays missing."""
    cases = [{"message": "Hello", "which": value} for value in values]
    result = run(cases)
    present = [value for value in values if value is not None]
    groups = result.df.groupby("which").size()
    assert groups.sum() == len(present) and result.df["which"].isna().sum() == len(values) - len(present)
    of_summary = result.summary(by="which").index.get_level_values(1).drop("(all)")
    assert list(groups.index) == sorted(of_summary)
    assert result.df.sort_values("which")["which"].dropna().tolist() == [
        name for name, count in groups.items() for _ in range(count)
    ]
    assert [row.get("which") for row in result.rows()] == values  # there they keep their types


@pytest.mark.parametrize("checks", [[], [ok], [contains()], {"a": ok, "b": ok, "c": ok}], ids=len)
def test_a_table_without_values_has_the_same_types(
    checks: Any, agent: DemoAgent, run: Run, tmp_path: Path
) -> None:
    """No reply, or no row: as many columns, of the same types, in every file."""
    agent.faults += ["401"] * 3
    failed, complete = run(["one", "two", "three"], checks), run(["one", "two", "three"], checks)
    tables = [failed.df, failed.failures(), failed.df.head(0), complete.df, complete.failures()]
    for number, table in enumerate(tables):
        assert list(table) == list(complete.df)
        same = [name for name in table if name != "actions"]
        assert table[same].dtypes.equals(complete.df[same].dtypes)
        table.to_parquet(tmp_path / f"{number}.parquet")
        table.to_excel(tmp_path / f"{number}.xlsx")
        assert len(pl.from_pandas(table)) == len(pa.table(table)) == len(table)
    assert (len(failed.failures()), len(failed.worst())) == (0, 0)
    assert failed.worst().dtypes.equals(complete.worst().dtypes)
    assert set(failed.df["cause"]) == {"refused"} and failed.df["text"].tolist() == [""] * 3


# --- Files ------------------------------------------------------------------------------


def test_other_libraries_take_the_table(result: Evaluation) -> None:
    """pyarrow, polars, Parquet: a column of one type as it is, any other as JSON, texts as texts."""
    df = result.df
    texts = ["42", "x", '["a", 1]', None, '{"a": [1]}', "true", "2.5", str(10**30)]
    for table in (
        pl.from_pandas(df),
        pl.DataFrame(df),
        pl.from_arrow(pa.table(df)),
        pl.read_parquet(io.BytesIO(df.to_parquet())),
    ):
        assert isinstance(table, pl.DataFrame)
        assert table["expect"].to_list() == table["mixed"].to_list() == texts
        assert table["graded"].to_list() == [True, *[False] * 6, None]
        assert table["started_at"].dtype == pl.Datetime("ms", "UTC")
        assert table["tags"].to_list() == ["[]"] * 8 and table["text"].to_list() == HOSTILE
    assert pl.from_pandas(df.head(1))["expect"].dtype == pl.Int64


def test_a_spreadsheet_gets_no_formula(result: Evaluation, tmp_path: Path) -> None:
    """In CSV and Excel, in texts and in an index; numbers stay, and times lose their zone in Excel."""
    df = result.df.set_index("case", drop=False)
    rows = list(csv.DictReader(io.StringIO(df.to_csv(index_label="index"))))
    assert [row["text"] for row in rows] == [
        *("'=1+1", '\'+cmd|" /C calc"!A0', "'-2+3", "'@SUM(1)", "' =1", "-5", "'- a list", "quiet"),
    ]
    assert [row["index"] for row in rows] == [row["case"] for row in rows] == [f"'={at}" for at in range(8)]
    assert [row["expect"] for row in rows][:5] == ["42", "x", '["a", 1]', "", '{"a": [1]}']
    df.to_excel(tmp_path / "x.xlsx")
    stored = pd.read_excel(tmp_path / "x.xlsx")
    assert stored["text"].tolist()[:2] == ["'=1+1", HOSTILE[1]] and stored["case"][0] == "'=0"
    assert abs(stored["started_at"][0] - df["started_at"].iloc[0].tz_localize(None)) < timedelta(seconds=1)
    assert stored["expect"].tolist()[:3] == [42, "x", '["a", 1]']
    df.set_index("started_at").to_excel(tmp_path / "y.xlsx")
    assert pd.read_excel(tmp_path / "y.xlsx")["started_at"].dtype.kind == "M"
    df["text"].to_excel(tmp_path / "z.xlsx")
    assert "'=1+1" in df["text"].to_csv() and pd.read_excel(tmp_path / "z.xlsx")["text"][0] == "'=1+1"


@pytest.mark.parametrize(
    "table",
    [
        lambda result: result.summary(),
        lambda result: result.summary(by="mixed"),
        lambda result: result.worst(),
        lambda result: result.flaky(),
        lambda result: result.compare_with(result.path).cases,
    ],
    ids=["summary", "by metadata", "worst", "flaky", "compared"],
)
def test_every_table_goes_into_every_file(table: Callable[[Evaluation], Any], result: Evaluation) -> None:
    """Also those that say more than the rows, with ids that are formulas and groups of every type."""
    frame = table(result)
    frame.to_excel(io.BytesIO())
    assert "\n=" not in frame.to_csv() and ",=" not in frame.to_csv()
    for made in (pl.from_pandas(frame), pa.table(frame), pd.read_parquet(io.BytesIO(frame.to_parquet()))):
        assert len(made) == len(frame)
    for copied in (copy.deepcopy(frame), pickle.loads(pickle.dumps(frame))):  # noqa: S301  # our own
        assert copied.equals(frame)
    assert len(frame.drop_duplicates()) == len(frame)


def test_a_table_is_copied_and_sent_to_another_process(result: Evaluation) -> None:
    """Pickle, deepcopy, JSON, with every type of expectation."""
    df = result.df
    for made in (pickle.loads(pickle.dumps(df)), copy.deepcopy(df), df.copy()):  # noqa: S301  # our own
        assert type(made) is type(df) and made["expect"].tolist() == EXPECTED
        assert made.dtypes.equals(df.dtypes) and made.equals(df)
    assert '"expect":42' in df.head(1).to_json(orient="records")
    assert '"started_at":"20' in df.head(1).to_json(orient="records")
