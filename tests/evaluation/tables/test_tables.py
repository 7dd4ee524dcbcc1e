"""An evaluation's tables as pandas users handle them: masks, groups, files, copies, and in a page."""

from __future__ import annotations

import copy
import csv
import gc
import io
import pickle
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import polars as pl
import pytest

from halo_notebook import Action, HaloClient, Reply, TextDelta, errors
from halo_notebook.demo import DEMO_KEY, DemoAgent, Step
from halo_notebook.display.formulas import NO_FORMULAS
from halo_notebook.evaluation import Evaluation, evaluate
from halo_notebook.evaluation.tables.dataframes import Table

if TYPE_CHECKING:
    from halo_notebook.stream import JSON

    from ..conftest import Run

PAYLOADS: list[JSON] = [
    {"x": 1},
    {"x": [1]},
    [1],
    "text",
    None,
    {"x": {"y": 1}},
    True,
    1.5,
    {"x": 1.0},
    [[{}]],
]
TEXTS = ["=1+1", "$\\let\\alpha\\beta$ <b>bold</b>", "\x01\x02 control", "quiet"]


def mixed(request: dict[str, JSON]) -> Iterator[Step]:
    number = int(str(request["message"]))
    yield TextDelta(TEXTS[number % 4])
    if number % 5:
        yield Action(PAYLOADS[number % len(PAYLOADS)])


def sums(reply: Reply) -> bool | None:
    return None if reply.text == "quiet" else reply.text.startswith("=")


@pytest.fixture(scope="module")
def result() -> Evaluation:
    """Actions of every shape, texts of every kind, and a check that was silent for one of four rows."""
    cases = [{"message": str(number), "tags": ["a", "b"] if number % 2 else []} for number in range(12)]
    with DemoAgent(first_byte_s=0, chunk_s=0, reply=mixed) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        return evaluate(cases, [sums], configs=configs, progress=False)


# --- A check that was silent once -------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "count"),
    [
        (lambda df: df[df["sums"]], 3),
        (lambda df: df[~df["sums"]], 6),
        (lambda df: df.query("sums"), 3),
        (lambda df: df.query("not sums and turn == 1"), 6),
        (lambda df: df.loc[df["sums"] & (df["turn"] == 1)], 3),
        (lambda df: df[df["sums"].isna()], 3),
        (lambda df: df[df["sums"].fillna(value=False)], 3),
        (lambda df: df[df["sums"] == True], 3),  # noqa: E712  # what users write
        (lambda df: df.dropna(subset="sums"), 9),
    ],
    ids=range(9),
)
def test_a_check_that_was_silent_once_is_a_column_of_booleans(
    result: Evaluation, chosen: Callable[[Any], Any], count: int
) -> None:
    """It can be negated and used as a mask; what is missing is in neither."""
    assert result.df["sums"].dtype == "boolean" and result.df["sums"].mean() == pytest.approx(1 / 3)
    assert len(chosen(result.df)) == count
    assert len(chosen(result.failures())) <= count


# --- What pandas does with a table ------------------------------------------------------


@pytest.mark.parametrize(
    ("use", "size"),
    [
        (lambda df: df.drop_duplicates(), 12),
        (lambda df: df.drop_duplicates("actions"), 9),
        (lambda df: df.drop_duplicates(["tags", "sums"]), 4),
        (lambda df: df.groupby("tags")["turn"].count(), 2),
        (lambda df: df.groupby("actions").size(), 9),
        (lambda df: df.groupby("sums", dropna=False).size(), 3),
        (lambda df: df["actions"].value_counts(), 9),
        (lambda df: df.merge(df, on="case"), 12),
        (lambda df: df.merge(df[["tags", "turn"]].drop_duplicates(), on="tags"), 12),
        (lambda df: df.merge(df[["actions"]].drop_duplicates(), on="actions"), 12),
        (lambda df: df.sort_values("actions"), 12),
        (lambda df: df.explode("tags"), 18),
        (lambda df: pd.concat([df, df]), 24),
        (lambda df: df.set_index("tags"), 12),
        (copy.deepcopy, 12),
        (lambda df: pickle.loads(pickle.dumps(df)), 12),  # noqa: S301  # our own
        (lambda df: df.pivot_table(index="tags", values="sums", aggfunc="mean"), 2),
        (lambda df: df.nunique(), 24),
    ],
    ids=range(18),
)
def test_a_table_can_be_grouped_joined_and_copied(
    result: Evaluation, use: Callable[[Any], Any], size: int
) -> None:
    """Its lists of tags and actions can be compared, as everything in it."""
    assert len(use(result.df)) == size


def test_lists_in_a_table_are_lists(result: Evaluation) -> None:
    """And equal to others of the same items."""
    row = next(row for row in result.rows() if row["case"] == "2")
    assert row["tags"] == ["a", "b"] and row["actions"] == [{"x": [1]}] and isinstance(row["actions"], list)
    assert hash(row["actions"]) == hash(type(row["actions"])([{"x": [1.0]}]))


@pytest.mark.parametrize("frame", ["df", "failures", "worst", "summary", "by tag"])
def test_a_table_can_be_stored_in_any_file(frame: str, result: Evaluation, tmp_path: Path) -> None:
    """Actions of several shapes are JSON where a column has one type."""
    tables: dict[str, Any] = {
        "df": result.df,
        "failures": result.failures(),
        "worst": result.worst(),
        "summary": result.summary(),
        "by tag": result.summary(by_tag=True),
    }
    table = tables[frame]
    table.to_parquet(tmp_path / "x.parquet")
    assert len(pd.read_parquet(tmp_path / "x.parquet")) == len(table)
    assert len(pl.read_parquet(tmp_path / "x.parquet")) == len(table)
    table.reset_index().to_feather(tmp_path / "x.feather")
    table.to_excel(tmp_path / "x.xlsx")
    assert table.reset_index().to_sql("t", sqlite3.connect(":memory:")) == len(table)
    assert table.to_csv() and table.to_json() and table.to_html()
    assert len(pickle.loads(pickle.dumps(table))) == len(table)  # noqa: S301  # our own


def test_a_table_in_a_file_says_what_it_says(result: Evaluation, tmp_path: Path) -> None:
    """Actions as JSON, booleans as booleans; a spreadsheet gets no formula from an agent."""
    stored = pd.read_parquet(io.BytesIO(result.df.to_parquet()))
    assert stored["actions"].tolist()[:4] == ["[]", '[{"x": [1]}]', "[[1]]", '["text"]']
    assert stored["sums"].tolist()[:3] == [True, False, False] and stored["sums"].isna().sum() == 3
    result.df.to_excel(tmp_path / "x.xlsx")
    texts = pd.read_excel(tmp_path / "x.xlsx")["text"].tolist()
    assert texts[:4] == ["'=1+1", TEXTS[1], " control", "quiet"]


FORMULAS = ['=HYPERLINK("http://x.test","x")', "=2+3", "=1+1", "=cmd|' /C calc'!A0"]


@pytest.mark.parametrize("frame", ["df", "summary", "by", "cases", "pivot", "unstacked", "column"])
def test_no_name_in_a_file_is_a_formula(frame: str, tmp_path: Path) -> None:
    """Of metadata, a check or a configuration, as the name of a column, of a level or of the index."""
    openpyxl = pytest.importorskip("openpyxl")
    metadata, check, first, second = FORMULAS
    with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
        client = HaloClient(DEMO_KEY, base_url=agent.url)
        configs: dict[str, Any] = {first: client, second: {"client": client, "mode": "voice"}}
        cases = [{"message": "a", "metadata": {metadata: "=4"}}, "b"]
        found = evaluate(cases, {check: len_of}, configs=configs, progress=False)
    tables: dict[str, Callable[[], Any]] = {
        "df": lambda: found.df,
        "summary": found.summary,
        "by": lambda: found.summary(by=metadata),
        "cases": lambda: found.compare().cases,
        "pivot": lambda: found.df.pivot_table(index=metadata, columns="config", values=f"{check} score"),
        "unstacked": lambda: found.df.set_index(["config", metadata])[[check, "text"]].unstack(0),
        "column": lambda: found.df.set_index(metadata)[check],
    }
    table = tables[frame]()
    table.to_excel(tmp_path / "x.xlsx")
    cells = [cell for row in openpyxl.load_workbook(tmp_path / "x.xlsx").active for cell in row]
    assert not [cell.value for cell in cells if cell.data_type == "f"]
    assert any(str(cell.value).startswith("'=") for cell in cells)
    texts = [text for row in csv.reader(io.StringIO(table.to_csv())) for text in row]
    assert not [text for text in texts if text.startswith("=")] and any(text[:2] == "'=" for text in texts)


def len_of(reply: Reply) -> bool:
    return len(reply.text) > 0


def test_a_file_of_some_columns_names_them_as_the_table_does(tmp_path: Path) -> None:
    """And a whole number that no spreadsheet can hold is a text."""
    table = Table({"=a": [1, 2], "b": [10**400, -(2**70)]})
    assert table.to_csv(columns=["=a"], index=False).split() == ["'=a", "1", "2"]
    table.to_excel(tmp_path / "x.xlsx", columns=["b"], index=False)
    assert pd.read_excel(tmp_path / "x.xlsx", dtype=object)["b"].tolist() == [str(10**400), str(-(2**70))]


def test_an_evaluation_can_be_copied(result: Evaluation) -> None:
    """The copy is judged on its own, and keeps the file as long as it is used."""
    made = copy.deepcopy(result)
    made.rescore({"all": lambda reply: True})
    assert made.summary()["all"]["demo"] == 1.0 and "all" not in result.df
    assert len(copy.copy(result).df) == 12
    with DemoAgent(first_byte_s=0) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        own = evaluate(["one"], configs=configs, progress=False)
    later, path = copy.copy(own), own.path
    del own
    gc.collect()
    assert len(later.df) == 1
    del later
    gc.collect()
    assert not path.parent.exists()


PICKLED = pytest.mark.parametrize("pickled", [pickle.dumps, pickle._dumps], ids=["C", "Python"])  # type: ignore[attr-defined]


@PICKLED
def test_an_evaluation_without_a_path_is_not_pickled(
    pickled: Callable[[Any], bytes], result: Evaluation
) -> None:
    """One line says why, and what can be pickled."""
    for given in (result, [result], copy.deepcopy(result)):
        with pytest.raises(errors.UsageError, match=r"Give evaluate a path, or pickle result\.df"):
            pickled(given)


@PICKLED
def test_a_pickled_evaluation_is_opened_from_its_file(
    pickled: Callable[[Any], bytes], run: Run, kept: Path
) -> None:
    """In this process or another; without the file it is one line."""
    result = run(["1", "2"], [sums], path=kept)
    again = pickle.loads(pickled({"a": result}))["a"]  # noqa: S301  # our own
    assert again.df.equals(result.df) and again.path == result.path
    whole = pickled(copy.copy(result))
    kept.unlink()
    with pytest.raises(errors.UsageError, match="No evaluation file at"):
        pickle.loads(whole)  # noqa: S301  # our own


# --- In a page --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shown",
    [
        lambda result: result.df,
        lambda result: result.failures(),
        lambda result: result.worst(),
        lambda result: result.summary(),
        lambda result: result.summary(by_tag=True),
        lambda result: result.df[["text"]],
        lambda result: result.df.head(2).T,
        lambda result: result.df.groupby("text").agg({"turn": "sum"}),
        lambda result: result.df["text"].to_frame(),
        lambda result: result.df.set_index("text")[["turn"]].reset_index(),
        lambda result: pd.concat([result.df, result.df]),
        lambda result: result.df.merge(result.df, on="case"),
        lambda result: result.df.pivot_table(index="text", values="turn"),
        lambda result: copy.deepcopy(result.df),
    ],
    ids=range(14),
)
def test_a_page_does_not_typeset_what_an_agent_wrote(
    shown: Callable[[Evaluation], Any], result: Evaluation
) -> None:
    """Nor run it: a table's HTML has the classes that keep formulas out, and its texts are escaped."""
    html = shown(result)._repr_html_()
    assert re.match(rf'<div class="(halo-evaluation )?{NO_FORMULAS}">', html) and html.endswith("</div>")
    assert "<b>" not in html


def test_without_html_there_is_none(result: Evaluation) -> None:
    """As the user has set pandas."""
    with pd.option_context("display.notebook_repr_html", False):
        assert result.df._repr_html_() is None


@pytest.mark.parametrize("columns", [20, 4])
@pytest.mark.parametrize("index", [None, "name", ["name", "id"]], ids=str)
def test_texts_stand_at_the_left_and_numbers_at_the_right(columns: int, index: Any) -> None:
    """A column of texts with its head, whatever the index, also where not all columns are shown."""
    rows = [
        {"text": "a <td>1</td>", "n": 1, "x": -1.5e-9, "flag": True, "none": None, "name": f"é{at}", "id": at}
        for at in range(3)
    ]
    table = Table(rows)
    table = table if index is None else table.set_index(index)
    with pd.option_context("display.max_columns", columns):
        shown = str(table._repr_html_())
    left = re.findall(r'<t[dh] style="text-align:left[^"]*">(.*?)</t[dh]>', shown)
    assert set(left) - {""} == {"text", "a &lt;td&gt;1&lt;/td&gt;"} | (
        {"name", "é0", "é1", "é2"} if index is None else set()
    )
    assert left.count("text") == 1 and left.count("a &lt;td&gt;1&lt;/td&gt;") == 3
    wide = Table([{"text": "x" * 30}, {"text": "y"}])._repr_html_() or ""
    assert wide.count("min-width") == 1
