"""An evaluation's file: one writer, whole lines, nothing else touched, and no text in memory."""

from __future__ import annotations

import contextlib
import gc
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from halo_notebook import HaloClient, TextDelta, errors
from halo_notebook.demo import DEMO_KEY, DemoAgent, Step
from halo_notebook.evaluation.journal import Journal, line_at, located_lines

from .agents import ok, sent, states

if TYPE_CHECKING:
    from halo_notebook.stream import JSON

    from .conftest import Run


def lines_of(path: Path) -> list[dict[str, JSON]]:
    return [line for _, line in located_lines(path)]


def test_without_a_path_the_file_is_deleted_with_the_result(run: Run) -> None:
    """Nothing is left behind for each evaluation that was tried."""
    result = run(["one"])
    folder = result.path.parent
    assert result.path.exists()
    del result
    gc.collect()
    assert not folder.exists()


def test_a_second_writer_is_refused(run: Run, kept: Path) -> None:
    """In this process, and in another."""
    code = f"from halo_notebook.evaluation.journal import *; Journal(Path({str(kept)!r}))"
    with contextlib.closing(Journal(kept)):
        with pytest.raises(errors.UsageError, match="Another evaluation is writing"):
            run(["one"], path=kept)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "Another evaluation is writing" in done.stderr
    assert len(run(["one"], path=kept)) == 1
    with pytest.raises(errors.InvalidRequest, match="holds an evaluation"):
        run(["one"], path=kept, resume=False)


@pytest.mark.parametrize(
    "content", ["my dear diary\n", '{"cells": [', "no newline", "\n", '{"kind":"turn"}\n']
)
def test_a_file_of_another_kind_is_not_touched(content: str, run: Run, kept: Path) -> None:
    """Such as a notebook whose path was given by mistake, or a device, whose reading may never end."""
    kept.write_text(content)
    for path in (kept, "/dev/full", "/dev/null", "."):
        with pytest.raises(errors.UsageError, match="is not an evaluation file"):
            run(["one"], path=path)
    assert kept.read_text() == content
    assert list(kept.parent.iterdir()) == [kept]


def test_a_file_whose_first_line_is_incomplete_can_be_used(run: Run, kept: Path) -> None:
    """A process that was killed at once leaves such a file."""
    kept.write_bytes(b'{"kind":"run","form')
    assert states(run(["one"], path=kept)) == ["complete"]


def test_a_line_cut_short_by_a_crash_is_skipped(kept: Path) -> None:
    """The lines after it are still read, from where they begin."""
    with contextlib.closing(Journal(kept)) as journal:
        journal.append({"kind": "run"})
    with kept.open("ab") as file:
        file.write(b'{"kind": "tor')
    written: list[dict[str, JSON]] = [{"kind": "zwölf", "number": number} for number in range(100)]
    with contextlib.closing(Journal(kept)) as journal:
        begin = [journal.append(line) for line in written]
    assert list(located_lines(kept)) == [(0, {"kind": "run"}), *zip(begin, written, strict=True)]
    with kept.open("rb") as file:
        assert [line_at(file, at) for at in begin] == written
    assert lines_of(kept.with_name("none")) == []


def test_a_full_disk_ends_the_run_in_one_line(agent: DemoAgent, run: Run, kept: Path) -> None:
    """No message leaves that could not be recorded, and the file can be resumed."""
    run(["one"], path=kept)
    before = kept.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))  # room for a part of a line
    try:
        with pytest.raises(errors.UsageError, match=r"could not be written \(File too large\)"):
            run(["one", "two", "three"], path=kept)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sent(agent) == ["one"]
    assert kept.read_bytes() == before
    assert set(states(run(["one", "two", "three"], path=kept))) == {"complete"}


def test_no_text_is_held_in_memory(run: Run) -> None:
    """Replies of 100 kB each leave next to nothing behind: they are in the file."""

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta("x" * 100_000)

    with DemoAgent(first_byte_s=0, reply=reply) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        run(["warm"], [ok], configs=configs)
        tracemalloc.start()
        result = run([f"{number}" for number in range(600)], [ok], configs=configs)
        gc.collect()
        held, most = tracemalloc.get_traced_memory()
        sizes = [len(row["text"]) for row in result.rows()]
        most_reading = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert sizes == [100_000] * 600
    assert held < 3_000_000  # of the 60 MB that came
    assert max(most, most_reading) < 25_000_000


def test_a_table_reads_only_the_lines_of_its_turns(run: Run, kept: Path) -> None:
    """The position of each turn's line is remembered: what else is in the file is not read again."""
    result = run(["one", ["two", "three"]], [ok], path=kept)
    with kept.open("r+b") as file:
        for at, line in located_lines(kept):
            if line["kind"] != "turn":
                file.seek(at)
                file.write(b"!")  # not JSON any more, at the same place
    assert [row["message"] for row in result.rows()] == ["one", "two", "three"]
    assert states(result) == ["complete"] * 3 and len(result.conversation(1)) == 2
    assert all(row["ok"] for row in result.rescore().rows())
    assert {line["kind"] for line in lines_of(kept)} == {"turn"}
