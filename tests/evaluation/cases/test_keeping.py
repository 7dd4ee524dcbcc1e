"""A file of cases grows by whole lines, holds no case twice, and is never damaged."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from halo_notebook import errors
from halo_notebook.evaluation.cases.case import Case, CaseTurn, read_cases
from halo_notebook.evaluation.cases.keeping import keep_case

from ...recording.recordings import recorded, said

ONE = Case("one", (CaseTurn("Hello"),), "Hi", ("a", "b"), {"rating": "down", "rating_note": "é\u2028"})
FULL = Case(
    "two",
    (CaseTurn("one", {"x": [1]}, {"context": {"a": 1}}), CaseTurn("two\nlines")),
    None,
    (),
    {"id": "metadata that is named like a key"},
)
FIELDS = Case("three", (CaseTurn("Hello", None, {"user_id": "u_1", "images": ["data:image/png;base64,AA"]}),))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cases.jsonl"


@pytest.mark.parametrize("expect", [[], {}, "", 0, False, [[]]], ids=repr)
def test_an_expectation_is_kept_though_it_is_empty(path: Path, expect: Any) -> None:
    """Only None says that nothing is expected."""
    keep_case(Case("one", (CaseTurn("Hello", expect), CaseTurn("Bye")), expect), path)
    [case] = read_cases(path)
    assert (case.expect, case.turns[0].expect) == (expect, expect)


def test_what_is_kept_is_read_back(path: Path) -> None:
    """One line for each, as a person would write it; what is there is not touched."""
    assert [str(keep_case(case, path)) for case in (ONE, FULL, FIELDS)] == [
        "Kept in 'cases.jsonl' as 'one' (1 case).",
        "Kept in 'cases.jsonl' as 'two' (2 cases).",
        "Kept in 'cases.jsonl' as 'three' (3 cases).",
    ]
    assert read_cases(path) == [ONE, FULL, FIELDS]
    first = path.read_text(encoding="utf-8").split("\n")[0]
    assert json.loads(first) == {
        "id": "one",
        "message": "Hello",
        "expect": "Hi",
        "tags": ["a", "b"],
        "metadata": {"rating": "down", "rating_note": "é\u2028"},
    }


def test_no_case_is_added_twice(path: Path) -> None:
    """Whatever its id, its expectation, its metadata, the order of its keys and the form of its context."""
    keep_case(ONE, path)
    before = path.read_bytes()
    again = keep_case(Case("other", (CaseTurn("Hello"),), "Hey"), path)
    assert (again.is_new, again.id, again.count) == (False, "one", 1) and path.read_bytes() == before
    assert (
        str(again)
        == "'cases.jsonl' has this case already, as 'one'. Nothing was added; edit its line to change it."
    )
    turn: dict[str, Any] = {"message": "Hi", "context": {"b": 1, "a": 2}}
    path.write_text(json.dumps(turn) + "\n")
    labelled = {name: {"label": name, "value": value} for name, value in turn["context"].items()}
    for context, is_new in (
        *(({"a": 2, "b": 1}, False), (labelled, False)),
        *(({"a": 2, "b": True}, True), ({"a": 2}, True), ({"a": 2, "b": "1"}, True)),
    ):
        given = Case("x", (CaseTurn("Hi", None, {"context": context}),))
        assert keep_case(given, path).is_new == is_new


def test_another_case_gets_another_id(path: Path) -> None:
    """A file in which two cases had one id could not be read."""
    for message in ("a", "b", "c"):
        keep_case(Case("one", (CaseTurn(message),)), path)
    assert [case.id for case in read_cases(path)] == ["one", "one-2", "one-3"]


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n  ", "\r"])
def test_a_line_is_added_after_any_end(path: Path, end: str) -> None:
    """Also after a last line without one, in a file that an editor wrote."""
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"id": "mine", "message": "Hey"}).encode() + end.encode())
    before = path.read_bytes()
    keep_case(ONE, path)
    assert [case.id for case in read_cases(path)] == ["mine", "one"]
    assert path.read_bytes().startswith(before) and path.read_bytes().endswith(b"\n")


def test_an_empty_file_is_a_file_of_cases(path: Path) -> None:
    """Also one with blanks or a byte order mark."""
    for content in (b"", b"\n", b"\xef\xbb\xbf"):
        path.write_bytes(content)
        assert keep_case(ONE, path).count == 1
        assert read_cases(path) == [ONE]


NOT_CASES: dict[str, tuple[bytes, str]] = {
    "not JSON": (b"Some notes.\n", "Line 1 of 'cases.jsonl' is not JSON"),
    "a torn line": (b'{"message": "Hi"}\n{"mess', "Line 2 of 'cases.jsonl' is not JSON"),
    "an evaluation": (b'{"kind":"run","format":2}\n', "has no turns"),
    "a recording": (b'{"halo_recording": 1}\n', "is a recording"),
    "UTF-16": ('{"message": "Hi"}\n'.encode("utf-16"), "is not UTF-8"),
    "binary": (b"\x00\x01\x02", "holds a NUL character"),
    "two of one id": (b'{"id": "a", "message": "1"}\n{"id": "a", "message": "2"}\n', "have the same id"),
    "a secret key": (b'{"message": "Hi", "mesage": "x"}\n', "Unknown key 'mesage'"),
}


@pytest.mark.parametrize(("content", "words"), NOT_CASES.values(), ids=NOT_CASES)
def test_a_file_of_something_else_is_not_touched(path: Path, content: bytes, words: str) -> None:
    """One line says what it holds."""
    path.write_bytes(content)
    with pytest.raises(errors.UsageError) as caught:
        keep_case(ONE, path)
    line = str(caught.value)
    assert words in line and "Nothing was changed" in line and "Nothing was sent" not in line
    assert "\n" not in line and path.read_bytes() == content


def test_a_missing_package_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it; nothing is written."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(errors.UsageError) as caught:
        keep_case(ONE, path)
    assert str(caught.value) == (
        "Keeping a case needs the package filelock. Nothing was written; run python -m pip install "
        "'halo-notebook[eval]' where the kernel runs."
    )
    assert not list(path.parent.iterdir())


@pytest.mark.parametrize("mode", [0o600, 0o664, 0o666, 0o444])
def test_the_lock_may_be_taken_by_all_who_may_write_the_file(path: Path, mode: int) -> None:
    """Also one that another version made, or that was made before the file was shared."""
    keep_case(ONE, path)
    lock = Path(f"{path}.lock")
    assert lock.stat().st_mode == path.stat().st_mode
    path.chmod(mode)
    lock.chmod(0o600)
    with suppress(errors.UsageError):  # the file is read-only
        keep_case(FULL, path)
    assert lock.stat().st_mode & 0o777 == mode | 0o600


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """A folder that every user of this machine may write."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o1777)
        yield folder


AS_ANOTHER_USER = """
import os, sys
from pathlib import Path
from halo_notebook.errors import HaloError
from halo_notebook.evaluation.cases.case import Case, CaseTurn
from halo_notebook.evaluation.file.journal import Journal
from halo_notebook.evaluation.cases.keeping import keep_case
case = Case("two", (CaseTurn("Bye"),))
for _ in range(2):
    keep_case(case, sys.argv[1])  # imports what another user may not be able to read
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
path = Path(sys.argv[2])
try:
    print(Journal(path).close() if path.name == "run.jsonl" else keep_case(case, path))
except HaloError as error:
    print(error)
"""


def as_another_user(path: Path) -> str:
    """What another user is told who keeps a case there or writes an evaluation; only root can be another."""
    run = subprocess.run(
        [sys.executable, "-c", AS_ANOTHER_USER, f"{path}.other.jsonl", str(path)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        # That user may not write the figures of a coverage run.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
    )
    assert not run.stderr, run.stderr
    return run.stdout.strip()


def test_two_users_share_a_file(shared_folder: Path) -> None:
    """In a folder such as /tmp, where a file may be replaced by its owner only."""
    path = shared_folder / "cases.jsonl"
    keep_case(ONE, path)
    path.chmod(0o666)
    keep_case(FIELDS, path)
    assert as_another_user(path) == "Kept in 'cases.jsonl' as 'two' (3 cases)."
    assert keep_case(FULL, path).count == 4


@pytest.mark.parametrize("name", ["cases.jsonl", "more cases.jsonl", "run.jsonl"])
def test_a_lock_that_another_user_may_not_take_is_named(shared_folder: Path, name: str) -> None:
    """With what to do; the file stays as it is."""
    path = shared_folder / name
    path.touch()
    path.chmod(0o666)
    lock = Path(f"{path}.lock")
    lock.touch()
    lock.chmod(0o444)
    line = as_another_user(path)
    assert f"(you may not write its lock file {str(lock)!r}; its owner can allow that, or delete it)" in line
    assert "could not be written" in line and "Nothing was " in line and path.read_bytes() == b""


@pytest.mark.parametrize("there", [True, False])
def test_a_link_in_place_of_a_lock_is_not_followed(path: Path, there: bool) -> None:
    """Else the file that it names would become as open as the file of cases, or be created."""
    secret = path.with_name("secret")
    if there:
        secret.write_text("kept")
        secret.chmod(0o600)
    path.touch()
    path.chmod(0o666)
    Path(f"{path}.lock").symlink_to(secret)
    with pytest.raises(errors.UsageError, match="could not be written"):
        keep_case(ONE, path)
    assert path.read_bytes() == b"" and secret.exists() is there
    assert not there or secret.stat().st_mode & 0o777 == 0o600


def test_a_place_that_cannot_be_written_is_named(path: Path) -> None:
    """Another ending, a missing folder, a folder, no home, a pipe, which nobody may ever write."""
    path.mkdir()
    for place, words in (
        (path, "could not be written"),
        (path.parent / "cases.json", "does not end in .jsonl"),
        (path.parent / "absent" / "cases.jsonl", "could not be written"),
        ("~nobody_of_that_name/cases.jsonl", "cannot be used"),
    ):
        with pytest.raises(errors.UsageError, match=words) as caught:
            keep_case(ONE, place)
        assert "\n" not in str(caught.value)
    os.mkfifo(path.parent / "pipe.jsonl")
    for read in (partial(keep_case, ONE), read_cases):
        with pytest.raises(errors.HaloError, match=r"\(it is not a file\)"):
            read(path.parent / "pipe.jsonl")
    recording = recorded(path.parent / "talk.jsonl", said("Hello", "Hi"))
    before = recording.read_bytes()
    with pytest.raises(errors.UsageError, match="is a recording"):
        keep_case(ONE, recording)
    assert recording.read_bytes() == before


@pytest.mark.parametrize("written", [0, 1, 30])
def test_a_full_disk_leaves_no_part_of_a_line(
    path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    """The file is as it was."""
    keep_case(ONE, path)
    before = path.read_bytes()
    whole = os.write

    def full(descriptor: int, data: bytes) -> int:
        if b'"message"' not in data:
            return whole(descriptor, data)
        if not written:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(descriptor, data[:written])

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(errors.UsageError, match=r"could not be written \((No space|only)"):
        keep_case(FULL, path)
    assert path.read_bytes() == before


WRITER = """\
import sys
from halo_notebook.evaluation.cases.case import Case, CaseTurn
from halo_notebook.evaluation.cases.keeping import keep_case
for number in range(25):
    keep_case(Case(f"{sys.argv[2]}-{number}", (CaseTurn(f"shared {number}"),)), sys.argv[1])
    own = f"{sys.argv[2]} {number} " + "x" * 9_000
    keep_case(Case(f"own {sys.argv[2]}-{number}", (CaseTurn(own),)), sys.argv[1])
"""


def test_several_processes_may_keep_at_once(path: Path) -> None:
    """Each line is whole, and what two of them keep is there once."""
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), name]) for name in "ab"]
    assert [writer.wait(120) for writer in writers] == [0, 0]
    cases: list[Any] = read_cases(path)
    assert len(cases) == 25 + 2 * 25
    assert len({case.content_key for case in cases}) == len(cases)
