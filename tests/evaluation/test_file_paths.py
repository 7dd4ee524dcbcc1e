"""Where an evaluation is kept: its file wherever the process goes, never left locked or behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import errors
from halo_notebook.demo import DEMO_KEY
from halo_notebook.evaluation import Evaluation, aevaluate, evaluate
from halo_notebook.evaluation.file.journal import Journal
from halo_notebook.evaluation.file.state import RunState
from halo_notebook.evaluation.sending.resuming import open_run

from .agents import ok, states

if TYPE_CHECKING:
    from halo_notebook import DemoAgent, HaloClient

    from ..harness.kernels import Kernel
    from .conftest import Run


# --- Its path ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given", ["run.jsonl", "./sub/../run.jsonl", Path("run.jsonl"), "link.jsonl", "~/run.jsonl"]
)
def test_the_file_is_the_same_wherever_the_process_goes(
    given: str | Path, run: Run, agent: DemoAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path, a link, a home: what they named at first; another file of that name is not read."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sub").mkdir()
    (tmp_path / "link.jsonl").symlink_to("run.jsonl")
    result = run(["one"], path=given)
    monkeypatch.chdir(tmp_path / "sub")
    monkeypatch.setenv("HOME", str(tmp_path / "sub"))
    Path("run.jsonl").write_text("another file")
    assert result.path == tmp_path / "run.jsonl"
    assert list(result.df["status"]) == ["complete"] and len(result.conversation(0)) == 1
    assert result.rescore([ok]).passed("ok") == {"demo": {"1": [True]}}
    assert result.to_html("page.html") == tmp_path / "sub" / "page.html"
    assert states(run(["one"], path=tmp_path / "link.jsonl")) == ["complete"] and len(agent.requests) == 1


def test_two_names_of_a_file_have_one_writer(run: Run, tmp_path: Path) -> None:
    """A link is no way around the lock."""
    (tmp_path / "link.jsonl").symlink_to("run.jsonl")
    with (
        contextlib.closing(Journal(tmp_path / "run.jsonl")),
        pytest.raises(errors.UsageError, match="Another evaluation is writing"),
    ):
        run(["one"], path=tmp_path / "link.jsonl")


LOOP = "loop.jsonl"


@pytest.mark.parametrize(
    "path",
    [
        "x" * 300,
        "y" * 246 + ".jsonl",
        "a\0b",
        "~nobody_here/x",
        "",
        LOOP,
        "file/x.jsonl",
        3,
        b"x",
        "/proc/x/y",
    ],
)
def test_a_path_that_cannot_be_used_is_one_line(
    path: Any, run: Run, agent: DemoAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too long, with a NUL, no home, a loop of links, no folder, not a path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / LOOP).symlink_to(LOOP)
    (tmp_path / "file").write_text("x")
    with pytest.raises(errors.UsageError, match=r"^[^\n]*Nothing was sent[^\n]*$"):
        run(["one"], path=path)
    assert len(agent.requests) == 0
    with pytest.raises(errors.UsageError, match=r"^[^\n]+$"):
        Evaluation.open(path)
    if path and len(str(path)) != 252:  # that one has no room for a lock beside it
        with pytest.raises(errors.UsageError, match=r"^[^\n]*(cannot be used|could not be written)[^\n]*$"):
            run(["one"]).to_html(path)


def test_a_folder_that_is_gone_is_one_line(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path names nothing there; an absolute one still works."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(errors.UsageError, match=r"'run\.jsonl' cannot be used \(No such file or directory\)"):
        run(["one"], path="run.jsonl")
    result = run(["one"], path=tmp_path / "run.jsonl")
    assert states(result) == ["complete"] and len(result.df) == 1


@pytest.mark.parametrize("asynchronous", [False, True], ids=["evaluate", "aevaluate"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_stop_while_a_file_is_read_is_not_lost(
    share: float, asynchronous: bool, agent: DemoAgent, run: Any, kept: Path
) -> None:
    """It ends the reading and raises. Nothing is sent, and the next call can use the file."""
    cases = [f"message {number}" for number in range(100)]
    run(cases, path=kept, concurrency=32)
    stops_at = int(share * len(kept.read_bytes().splitlines())) + 1
    read, take = [], RunState.take

    def interrupted(state: RunState, *given: Any) -> None:
        read.append(1)
        if len(read) == stops_at:
            os.kill(os.getpid(), signal.SIGINT)
        take(state, *given)

    settings: Any = {**run.keywords, "path": kept}

    def resume() -> None:
        if asynchronous:
            asyncio.run(aevaluate([*cases, "one more"], **settings))
        else:
            evaluate([*cases, "one more"], **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunState, "take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            resume()
    assert len(agent.requests) == 100
    if not asynchronous:  # asyncio.run keeps an interrupt until the next wait
        assert len(read) == stops_at
    assert states(run([*cases, "one more"], path=kept)) == ["complete"] * 101


# --- Its lock ---------------------------------------------------------------------------


@pytest.mark.parametrize("asynchronous", [False, True], ids=["evaluate", "aevaluate"])
def test_a_stop_after_the_file_is_opened_leaves_it_free(
    asynchronous: bool, client: HaloClient, agent: DemoAgent, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between any two steps: the next call can use the file, and no message was sent."""

    def opened(*given: Any, **settings: Any) -> Any:
        state = open_run(*given, **settings)
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(1000):  # the signal arrives here, at the latest
            pass
        return state

    monkeypatch.setattr("halo_notebook.evaluation.sending.conversations.open_run", opened)
    settings: Any = {"configs": {"demo": client}, "path": kept, "progress": False}
    held = []  # as IPython keeps the last traceback, with its frames
    try:
        if asynchronous:
            asyncio.run(aevaluate(["one"], **settings))
        else:
            evaluate(["one"], **settings)
    except KeyboardInterrupt as error:
        held.append(error)
    assert held and len(agent.requests) == 0
    monkeypatch.undo()
    assert states(evaluate(["one"], **settings)) == ["complete"]


@pytest.mark.parametrize("where", ["RunState", "now"])
def test_an_error_while_the_file_is_opened_leaves_it_free(
    where: str, run: Run, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is."""

    def fails(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(f"halo_notebook.evaluation.sending.resuming.{where}", fails)
        with pytest.raises(MemoryError) as held:
            run(["one"], path=kept)
    assert states(run(["one"], path=kept)) == ["complete"] and held.value.__traceback__


def test_a_lock_is_released_on_any_thread(run: Run, kept: Path) -> None:
    """The one that ends a run need not be the one that began it."""
    journal = Journal(kept)
    thread = threading.Thread(target=journal.close)
    thread.start()
    thread.join()
    assert states(run(["one"], path=kept)) == ["complete"]


def test_a_thread_that_cannot_be_started_leaves_the_file_free(
    run: Run, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine at its limit."""

    def fails(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("halo_notebook.evaluation.file.journal.threading.Thread.start", fails)
        with pytest.raises(RuntimeError) as held:
            Journal(kept)
    assert states(run(["one"], path=kept)) == ["complete"] and held.value.__traceback__


# --- Its folder, without a path ----------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


UNTIL_KILLED = """\
import os, signal, tempfile
from halo_notebook import HaloClient, evaluate
tempfile.tempdir = {folder!r}
client = HaloClient({key!r}, base_url={url!r})
result = evaluate(["one"], configs={{"demo": client}}, progress=False)
print(result.path, flush=True)
if {ends!r} == "fork" and os.fork() == 0:
    raise SystemExit
signal.pause()
"""


@pytest.mark.parametrize("ends", ["killed", "fork"])
def test_the_folder_of_a_killed_process_is_removed_by_the_next(
    ends: str, agent: DemoAgent, run: Run, folder: Path
) -> None:
    """And not before: while the process lives, its result can be read, also when a fork of it has ended."""
    code = UNTIL_KILLED.format(folder=str(folder), key=DEMO_KEY, url=agent.url, ends=ends)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        path = Path(process.stdout.readline().strip())
        own = run(["one"])
        assert path.exists() and own.path.exists() and path.parent.parent == folder
    finally:
        process.kill()
        process.communicate()
    mine = run(["one"])
    assert not path.parent.exists() and own.path.exists() and mine.path.exists()
    del own, mine
    gc.collect()
    assert list(folder.iterdir()) == []


def test_folders_of_others_are_left_alone(run: Run, folder: Path) -> None:
    """Without a lock beside it, a folder is not one of ours; nor is a file."""
    (folder / "halo-evaluation-mine").mkdir()
    (folder / "halo-evaluation-mine" / "x").write_text("x")
    (folder / "halo-evaluation-file").write_text("x")
    (folder / "halo-evaluation-file.lock").write_text("x")
    before = sorted(folder.rglob("*"))
    run(["one"])
    gc.collect()
    assert sorted(folder.rglob("*")) == before


def test_no_place_for_temporary_files_is_one_line(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that is gone, or a disk that is full."""
    monkeypatch.setattr(tempfile, "tempdir", "/proc/nowhere")
    with pytest.raises(
        errors.UsageError, match=r"No temporary folder could be created \(.*\)\. Nothing was sent"
    ):
        run(["one"])


# --- Its errors in a kernel --------------------------------------------------------------


@pytest.mark.kernel
def test_an_error_of_an_evaluation_is_one_line_in_a_cell(kernel: Kernel, tmp_path: Path) -> None:
    """A full disk in the middle of a run, a name that is too long, a file of another kind."""
    kernel.run(
        # What is imported while files have a limit must not be cached: the cached file would be cut short.
        "import resource, sys\nsys.dont_write_bytecode = True\n"
        "from halo_notebook import DemoAgent, HaloClient, evaluate, aevaluate\n"
        "from halo_notebook.demo import DEMO_KEY\n"
        "agent = DemoAgent(first_byte_s=0, chunk_s=0).start()\n"
        "settings = {'configs': {'demo': HaloClient(DEMO_KEY, base_url=agent.url)}, 'progress': False}\n"
        f"path, other = {str(tmp_path / 'run.jsonl')!r}, {str(tmp_path / 'other')!r}\n"
        "open(other, 'w').write('x')\n"
        "cases = ['one', 'two', 'three', 'four']\n"
        "limits = resource.getrlimit(resource.RLIMIT_FSIZE)\n"
    )
    full = "resource.setrlimit(resource.RLIMIT_FSIZE, (1500, limits[1]))\ntry:\n    {}\nfinally:\n"
    full += "    resource.setrlimit(resource.RLIMIT_FSIZE, limits)"
    calls: list[tuple[str, str]] = [
        (full.format("evaluate(cases, path=path, **settings)"), "could not be written (File too large)"),
        (full.format("await aevaluate(cases, path=path + '2', **settings)"), "could not be written"),
        ("evaluate(cases, path='x' * 300, **settings)", "(File name too long)"),
        ("evaluate(cases, path=other, **settings)", "is not an evaluation file"),
    ]
    for code, words in calls:
        done = kernel.run(code)
        [line] = done.traceback
        assert words in line and "\n" not in line and done.stderr == ""
