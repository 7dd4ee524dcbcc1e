"""Labels: what people say about replies is kept in the file, and counts for the reply that they saw."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from halo_notebook import Evaluation, errors
from halo_notebook.display.formulas import NO_FORMULAS
from halo_notebook.evaluation.file.journal import Journal
from halo_notebook.evaluation.labels import labelling

from ..agents import messages, ok, states

if TYPE_CHECKING:
    from halo_notebook import DemoAgent

    from ..conftest import Run

CASES: list[Any] = ["one", ["My name is Ada", "What is my name?"], "three"]  # rows 0, 1 and 2, 3


@pytest.fixture
def result(run: Run, kept: Path) -> Evaluation:
    return run(CASES, [ok], path=kept)


def label_of(result: Evaluation, row: int) -> tuple[Any, str]:
    found = result.df.loc[row]
    return (None if pd.isna(found["label"]) else bool(found["label"])), found["label note"]


def lines(path: Path, kind: str = "label") -> list[dict[str, Any]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


# --- What is kept -----------------------------------------------------------------------


def test_a_label_is_a_line_with_author_and_time(result: Evaluation, kept: Path) -> None:
    """It is in the file at once, and whoever opens the file has it."""
    result.label_rows({0: True, 2: False, 3: None}, notes={2: "does not know her"}, author="ada")
    written = lines(kept)
    assert [(line["label"], line["note"], line["author"], line["turn"]) for line in written] == [
        ("pass", "", "ada", 0),
        ("fail", "does not know her", "ada", 1),
        ("unsure", "", "ada", 0),
    ]
    assert abs(datetime.now(UTC) - datetime.fromisoformat(written[0]["at"])) < timedelta(minutes=5)
    for each in (result, Evaluation.open(kept)):
        df = each.df
        assert df["label"].tolist() == [True, pd.NA, False, pd.NA]
        assert df["label note"].tolist() == ["", "", "does not know her", "unsure"]
        assert (df["label"].dtype, each.labels["row"].tolist()) == ("boolean", [0, 2, 3])
        assert each.labels["label"].tolist() == ["pass", "fail", "unsure"]
        assert set(each.labels["author"]) == {"ada"} and str(each.labels["at"].dt.tz) == "UTC"


def test_the_author_is_the_user_by_default(result: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system knows no name, as in some containers, it is 'unknown'."""
    monkeypatch.setattr("getpass.getuser", lambda: "grace")
    result.label_rows({0: True})

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nobody)
    result.label_rows({0: False})
    assert result.labels["author"].tolist() == ["grace", "unknown"]


@pytest.mark.parametrize(
    "labels",
    [
        {0: True, 3: False},
        {np.int64(0): np.bool_(True), np.int8(3): np.bool_(False)},
        {0: "pass", 3: "fail"},
        pd.Series([True, False], index=[0, 3]),
        pd.Series([True, False], index=[0, 3], dtype="boolean"),
        [(0, True), (3, False)],
        {0: True, 1: float("nan"), 2: pd.NA, 3: False},
        pd.Series([True, None, float("nan"), False]),
        pd.Series([True, pd.NA, pd.NA, False], dtype="boolean"),
        pd.read_csv(io.StringIO("label\nTrue\n\nNA\nFalse\n"), skip_blank_lines=False)["label"],
    ],
    ids=["dict", "numpy", "words", "series", "nullable series", "pairs", *(f"gaps {n}" for n in range(4))],
)
def test_labels_of_any_usual_type(labels: Any, result: Evaluation) -> None:
    """A dict, a column of a table, or pairs; bools and the words of the file."""
    result.label_rows(labels)
    assert result.labels["label"].tolist() == ["pass", "fail"]
    result.label_rows(result.df["label"].dropna())  # what a table shows can be given back
    assert len(result.labels) == 2


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (({4: True},), "Row 4 does not exist. Nothing was labelled; the result has 4 rows"),
        (({-1: True},), "-1 is not a row"),
        (({True: True},), "True is not a row"),
        (({"0": True},), "'0' is not a row"),
        (({0.0: True},), "0.0 is not a row"),
        (({0: 1},), "Row 0: 1 is not a label. Nothing was labelled; allowed are True, False, None"),
        (({0: float("nan")}, {0: "why"}), "Row 0 has a note and no label"),
        ((pd.Series([True, False], index=[0, 0]),), "labels: row 0 is there twice"),
        (([(1, True), (1, True)],), "labels: row 1 is there twice"),
        (({0: True}, pd.Series(["a", "b"], index=[0, 0])), "notes: row 0 is there twice"),
        ((pd.DataFrame({"label": [True]}),), "labels must be a dict by row, not DataFrame"),
        (({0: "good"},), "'good' is not a label"),
        (({0: np.array([True, False])},), "is not a label"),
        ((0,), "labels must be a dict by row, not int"),
        (([0, 1],), "labels must be a dict by row, not list"),
        (({0: True}, {3: "why"}), "Row 3 has a note and no label"),
        (({0: True}, {0: 5}), "Row 0: its note is int"),
        (({0: True}, {0: "x" * 10_001}), "its note is 10,001 characters long"),
        (({0: True}, None, ""), "author must be a name, not ''"),
        (({0: True}, None, " \n\x1b"), "author must be a name"),
        (({0: True}, None, 7), "author must be a name, not 7"),
        (({0: True}, None, "a\nb"), "author must be a name, not 'a\\nb'"),
        (({0: True}, None, "a\tb"), "give one line of at most 100 characters"),
        (({0: True}, None, "x" * 101), "give one line of at most 100 characters"),
    ],
)
def test_a_wrong_label_is_named_before_anything_is_written(
    given: tuple[Any, ...], words: str, result: Evaluation, kept: Path
) -> None:
    """One line, and not one of the other labels is in the file either."""
    before = kept.read_bytes()
    labels, notes, author = (*given, None, None)[:3]
    good = {2: True} if isinstance(labels, dict) else {}
    with pytest.raises(errors.InvalidRequest) as raised:
        result.label_rows({**good, **labels} if good else labels, notes=notes, author=author)
    assert words in str(raised.value) and "\n" not in str(raised.value)
    assert "Nothing was labelled" in str(raised.value)
    assert kept.read_bytes() == before and result.labels.empty


def test_a_row_without_a_reply_has_no_label(agent: DemoAgent, run: Run) -> None:
    """What the agent did not complete fails anyway, and a missing reply cannot be judged."""
    agent.faults += ["cut text", "401"]
    result = run(["one", "two"], concurrency=1)
    for row, status in enumerate(states(result)):
        with pytest.raises(errors.InvalidRequest, match=rf"Row {row} has no complete reply \({status}\)"):
            result.label_rows({row: False})


# --- Which label counts -----------------------------------------------------------------


def test_the_latest_label_of_an_author_counts(result: Evaluation, kept: Path) -> None:
    """The latest in the file, whatever a clock says."""
    for label, note in ((True, "fine"), (False, ""), (None, "hm"), (False, "wrong after all")):
        result.label_rows({0: label}, notes={0: note}, author="ada")
    assert label_of(result, 0) == (False, "wrong after all") == label_of(Evaluation.open(kept), 0)
    assert len(lines(kept)) == 4 and len(result.labels) == 1
    later = lines(kept)[0] | {"at": "2190-01-01T00:00:00+00:00"}
    text = kept.read_text().splitlines()
    kept.write_text("\n".join([json.dumps(later, separators=(",", ":")) if '"fine"' in line else line
                               for line in text]) + "\n")  # fmt: skip
    assert label_of(Evaluation.open(kept), 0) == (False, "wrong after all")


@pytest.mark.parametrize(
    ("said", "label", "note"),
    [
        ({"ada": True, "bo": True}, True, ""),
        ({"ada": True, "bo": False}, None, "bo: because"),
        ({"ada": True, "bo": False, "cy": False}, False, "bo: because; cy: because"),
        ({"ada": True, "bo": None}, True, "bo: unsure"),
        ({"ada": None, "bo": None}, None, "ada: unsure; bo: unsure"),
    ],
)
def test_of_several_authors_the_majority_counts(
    said: dict[str, bool | None], label: bool | None, note: str, result: Evaluation
) -> None:
    """Who is unsure has no vote, and a tie is neither a pass nor a fail."""
    for author, each in said.items():
        result.label_rows({1: each}, notes={1: "because"} if each is False else None, author=author)
    assert label_of(result, 1) == (label, note)
    assert len(result.labels) == len(said)


def test_a_label_belongs_to_the_reply_that_it_judged(agent: DemoAgent, run: Run, kept: Path) -> None:
    """If the conversation is sent again, its turns have new replies, even if they say the same."""
    agent.faults += ["malformed", "cut text"]
    result = run([["one", "two"], "three"], path=kept, concurrency=1)
    assert states(result) == ["complete", "interrupted", "complete"]
    result.label_rows({0: True, 2: False})
    again = run([["one", "two"], "three"], [ok], path=kept, resume="interrupted")
    assert states(again) == ["complete"] * 3
    assert again.labels["row"].tolist() == [2] == Evaluation.open(kept).labels["row"].tolist()
    assert "The labels of an earlier reply are left out" in again.agreement("ok").notes[-1]
    again.label_rows({0: False, 1: True})
    assert Evaluation.open(kept).df["label"].tolist() == [False, True, False]


def test_labels_stay_with_other_checks_and_other_cases(result: Evaluation, run: Run, kept: Path) -> None:
    """They are about the reply: after a rescore, in a longer run, and in a copy of the result."""
    result.label_rows({0: True, 3: False})
    assert result.rescore({"other": lambda reply: False}).df["label"].tolist() == [True, pd.NA, pd.NA, False]
    longer = run([*CASES, "four"], path=kept)
    assert longer.labels["label"].tolist() == ["pass", "fail"]
    copied = copy.deepcopy(longer)
    copied.label_rows({1: True})
    assert len(copied.labels) == 3 and len(longer.labels) == 2


def test_lines_of_labels_may_stand_anywhere(result: Evaluation, kept: Path) -> None:
    """Also before the line of their turn, or twice."""
    result.label_rows({0: True, 3: False}, notes={0: "ok"})
    head, *rest = kept.read_text().splitlines()
    for order in (rest[::-1], rest + rest, sorted(rest)):
        kept.write_text("\n".join([head, *order]) + "\n")
        assert Evaluation.open(kept).df["label"].tolist() == [True, pd.NA, pd.NA, False]


# --- The file ---------------------------------------------------------------------------

KILLED = """\
import sys
from halo_notebook import Evaluation
result = Evaluation.open({path!r})
for row in range(10_000):
    result.label_rows({{row % 4: row % 3 == 0}}, notes={{row % 4: str(row)}})
    print(row, flush=True)
"""


def test_labels_survive_a_kill(result: Evaluation, kept: Path) -> None:
    """Each label whose call has returned is in the file after kill -9, and more can be added."""
    process = subprocess.Popen([sys.executable, "-c", KILLED.format(path=str(kept))], stdout=subprocess.PIPE)
    assert process.stdout is not None
    done = [int(process.stdout.readline()) for _ in range(25)]
    process.send_signal(signal.SIGKILL)
    done += [int(line) for line in process.stdout.read().split()]
    process.wait(20)
    process.stdout.close()
    assert [int(line["note"]) for line in lines(kept)][: len(done)] == done
    again = Evaluation.open(kept)
    assert len(again.labels) == 4
    again.label_rows({0: None})
    assert label_of(Evaluation.open(kept), 0)[1] == "unsure"


def test_nothing_is_labelled_while_another_process_writes(
    result: Evaluation, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is one line, since a label that is only in memory would be lost; afterwards it can be written."""
    monkeypatch.setattr(labelling, "_LOCK_WAIT_S", 0.1)
    before = kept.read_bytes()
    with contextlib.closing(Journal(kept)):
        with pytest.raises(errors.UsageError, match=r"^Another evaluation is writing .*Nothing was labelled"):
            result.label_rows({0: True})
        assert result.labels.empty and kept.read_bytes() == before
    result.label_rows({0: True})
    assert Evaluation.open(kept).labels["label"].tolist() == ["pass"]


def test_two_people_label_at_the_same_time(result: Evaluation, kept: Path) -> None:
    """Each waits for the other's line; none is lost or mixed with another."""
    code = (
        "import sys; from halo_notebook import Evaluation; result = Evaluation.open(sys.argv[1])\n"
        "for row in range(40): result.label_rows({row % 4: True}, author=sys.argv[2])"
    )
    people = [subprocess.Popen([sys.executable, "-c", code, str(kept), name]) for name in ("ada", "bo")]
    assert [person.wait(60) for person in people] == [0, 0]
    assert len(lines(kept)) == 80 and len(Evaluation.open(kept).labels) == 8


def test_a_file_that_is_gone_or_full_is_one_line(
    result: Evaluation, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is created, and nothing is half written."""
    before = kept.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Journal, "_write", full)
        with pytest.raises(errors.UsageError, match=r"No space left on device\)\. Nothing was labelled"):
            result.label_rows({0: True})
    assert kept.read_bytes() == before and result.labels.empty
    kept.unlink()
    with pytest.raises(errors.UsageError, match=r"could not be read .*\. Nothing was labelled; put it back"):
        result.label_rows({0: True})
    assert not kept.exists()


HOSTILE = ["<img src=x onerror=alert(1)>", "=HYPERLINK(1)", "a\x1b[31m\u202eb\ud800", "$x$", "</script>"]


def test_hostile_notes_and_authors_are_text(run: Run, kept: Path) -> None:
    """In a page, a terminal and a spreadsheet."""
    result = run(messages(len(HOSTILE)), [ok], path=kept)
    for row, text in enumerate(HOSTILE):
        result.label_rows({row: False}, notes={row: text}, author=text.replace("\x1b", ""))
    again = Evaluation.open(kept)
    for table in (again.labels, again.df):
        html = table._repr_html_() or ""
        assert "<img" not in html and "</script" not in html and NO_FORMULAS in html
        csv = table.to_csv()
        assert ",=HYPERLINK" not in csv and "\ud800" not in csv
    assert again.labels["note"].tolist()[0] == HOSTILE[0]
    page = again.to_html(kept.with_name("page.html")).read_text()
    assert page.count("✗ label (") == len(HOSTILE) and "<img src=x" not in page and "<script" not in page
