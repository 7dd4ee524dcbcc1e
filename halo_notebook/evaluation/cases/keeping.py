"""A case added to a file of cases.

- A line is only ever added, whole, at the end of the file; what is there is not touched.
- A case whose messages and request fields are in the file already is not added again, whatever its id.
- There is one writer at a time. A file that is not one of cases is refused.
"""

from __future__ import annotations

import codecs
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ...client.request import checked_request
from ...errors import InvalidRequest, UsageError, check_installed
from ...recording.format import is_recording
from ..file_paths import absolute, file_lock, why_not_written
from .case import digest, keyed, read_cases

if TYPE_CHECKING:
    from ...stream import JSON
    from .case import Case, CaseTurn

_LOCK_WAIT_S = 10.0
_OTHER_ENCODINGS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # that of UTF-32 begins like the first


@dataclass(frozen=True)
class Kept:
    """Where a case is kept.

    Attributes:
        id: in the file; a number follows the case's own where another case has that.
        count: how many cases the file has.
        is_new: whether it was added now.
    """

    path: Path
    id: str
    count: int
    is_new: bool

    def __str__(self) -> str:
        cases = f"{self.count:,} case{'s' if self.count != 1 else ''}"
        if self.is_new:
            return f"Kept in {self.path.name!r} as {self.id!r} ({cases})."
        has = f"{self.path.name!r} has this case already, as {self.id!r}"
        return f"{has}. Nothing was added; edit its line to change it."


def keep_case(case: Case, path: str | Path) -> Kept:
    """Add `case` to the ``.jsonl`` file at `path`, which is created if there is none.

    Raises:
        InvalidRequest: when the case has a user, whose function a file cannot hold.
        UsageError: when the file is not one of cases or cannot be written; it is unchanged then.
    """
    if case.user is not None:
        raise InvalidRequest(
            f"Case {case.id!r} has a function as its user, which a file cannot hold. Nothing was changed; "
            "keep the messages that were sent: result.as_cases()."
        )
    check_installed("Keeping a case", "eval", "filelock", outcome="Nothing was written")
    from filelock import Timeout

    file = absolute(path)
    if file.suffix.lower() != ".jsonl":
        raise _refused(file, "does not end in .jsonl", "use a name that does")
    if not file.parent.is_dir():  # a lock would create it, and a name may be misspelt
        raise _refused(file, f"could not be written (no folder {str(file.parent)!r})", "create it")
    try:
        with file_lock(file).acquire(timeout=_LOCK_WAIT_S):
            return _kept(case, file)
    except Timeout:
        raise _refused(
            file, "is being written by another process", "try again when it has finished"
        ) from None
    except (OSError, ValueError, NotImplementedError) as error:  # such as a disk that knows no locks
        if isinstance(error, InvalidRequest):
            raise
        why = why_not_written(file, error)
        raise _refused(file, f"could not be written ({why})", "choose another place") from None


def _kept(case: Case, file: Path) -> Kept:
    if file.exists() and not file.is_file():  # reading a device may never end
        raise OSError(None, "it is not a file")
    data = file.read_bytes() if file.exists() else b""
    cases, sent = _cases_in(file, data), _sent(case)
    for each in cases:
        if _sent(each) == sent:
            return Kept(file, each.id, len(cases), is_new=False)
    ids, number = {each.id for each in cases}, 2
    own = case.id
    while case.id in ids:
        case = replace(case, id=f"{own}-{number}")
        number += 1
    line = json.dumps(case_content(case), ensure_ascii=False).encode("utf-8", "replace") + b"\n"
    _append(file, line if data.endswith((b"\n", b"\r")) or not data else b"\n" + line)
    return Kept(file, case.id, len(cases) + 1, is_new=True)


def _cases_in(file: Path, data: bytes) -> list[Case]:
    if not data.removeprefix(codecs.BOM_UTF8).strip():
        return []
    if data.startswith(_OTHER_ENCODINGS):
        raise _refused(file, "is not UTF-8", "save it as UTF-8, or choose another file")
    if is_recording(data):
        raise _refused(file, "is a recording", "choose another file; evaluate takes a recording as it is")
    try:
        return read_cases(file)
    except InvalidRequest as error:
        why = str(error).partition(". Nothing was sent")[0]
        raise _refused(file, f"is not a file of cases ({why})", "choose another file") from None


def _sent(case: Case) -> str:
    """A digest of what the agent gets: the same for a context that a person wrote without its labels."""
    sent = [checked_request(turn.message, {**turn.fields, "user_token": None}, {}) for turn in case.turns]
    return digest([request.body for request in sent])


def _append(file: Path, line: bytes) -> None:
    """Add a line in one piece, or nothing of it."""
    # Linux lets nobody "create" another user's file that is there, in a folder such as /tmp.
    create = 0 if file.exists() else os.O_CREAT
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | create | getattr(os, "O_BINARY", 0), 0o666)
    try:
        size = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, line)
            if written < len(line):  # the disk is full
                raise OSError(None, f"only {written:,} of {len(line):,} bytes fit")
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def case_content(case: Case) -> dict[str, JSON]:
    """The case as `read_cases` takes it from a line, without what says nothing, and without a user token."""
    turns = [_turn_content(turn, case.id) for turn in case.turns]
    content: dict[str, JSON] = {"id": case.id}
    if len(turns) == 1 and "expect" not in turns[0]:
        content |= turns[0]
    else:
        content["turns"] = [turn["message"] if len(turn) == 1 else turn for turn in turns]
    content |= {} if case.expect is None else {"expect": case.expect}
    content |= {"tags": [*case.tags]} if case.tags else {}
    return content | ({"metadata": case.metadata} if case.metadata else {})


def _turn_content(turn: CaseTurn, case_id: str) -> dict[str, JSON]:
    fields = cast("dict[str, JSON]", keyed(turn.fields, f"Case {case_id!r}"))
    expect: dict[str, JSON] = {} if turn.expect is None else {"expect": turn.expect}
    return {"message": turn.message, **fields, **expect}


def _refused(file: Path, what: str, todo: str) -> UsageError:
    return UsageError(f"{file.name!r} {what}. Nothing was changed; {todo}.")
