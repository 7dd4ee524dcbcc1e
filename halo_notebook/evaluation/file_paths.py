"""Where the files of an evaluation are: at the user's path, or in a folder that is gone with the result."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TextIO
from uuid import uuid4

from ..errors import UsageError
from ..recording.kinds import check_replaceable

if TYPE_CHECKING:
    from filelock import BaseFileLock

_PREFIX = "halo-evaluation-"


def absolute(path: str | Path) -> Path:
    """The file that `path` names now, wherever the process goes later. Raises `UsageError`."""
    try:
        return Path(path).expanduser().resolve()
    except (OSError, RuntimeError, ValueError, TypeError) as error:  # such as a folder that is gone
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"The path {str(path)!r} cannot be used ({why}). Nothing was sent; give another path."
        ) from None


def file_lock(file: Path) -> BaseFileLock:
    """The lock beside `file`, ``FILE.lock``, which everybody who may write the file can take.

    It is held by whoever acquires it, on any thread. Raises `OSError`.
    """
    from filelock import FileLock

    place = Path(f"{file}.lock")
    # A link that somebody put there would give the mode to another file.
    create = os.O_CREAT if not place.exists() else 0
    lock = os.open(place, os.O_RDWR | create | getattr(os, "O_NOFOLLOW", 0), 0o666)
    try:
        own = os.fstat(lock)
        like = file.stat() if file.exists() else own
        mode = (
            stat.S_IMODE(like.st_mode) & 0o666 | 0o600
        )  # its owner can open it, also if the file is read-only
        with contextlib.suppress(OSError):  # it may be another user's
            if like.st_gid != own.st_gid:
                os.fchown(lock, -1, like.st_gid)
            if mode != stat.S_IMODE(own.st_mode):
                os.fchmod(lock, mode)
    finally:
        os.close(lock)
    return FileLock(place, mode=mode, thread_local=False)  # some versions set the mode, too


def why_not_written(file: Path, error: Exception) -> str:
    """Why a file that has a lock could not be written."""
    lock = Path(f"{file}.lock")
    if isinstance(error, PermissionError) and str(error.filename) == str(lock):
        todo = "allow that, or delete it" if lock.exists() else "let you create it"
        return f"you may not write its lock file {str(lock)!r}; its owner can {todo}"
    return str(getattr(error, "strerror", None) or error)


@contextlib.contextmanager
def written_whole(path: Path, source: Path) -> Iterator[TextIO]:
    """A text file to write a report about the evaluation at `source` into, all or nothing.

    Raises `UsageError` when it cannot be written, and where it would replace an evaluation, also one that is
    being written, a recording or an exported session.
    """
    path = Path(os.path.realpath(path))  # a link stays one
    unfinished = path.with_name(f".{path.name}.part")
    try:
        if path.exists() and not path.is_file():  # a device such as /dev/null would be replaced, too
            raise OSError(None, "it is not a file")
        _check_free(path, source)
        with unfinished.open("w", encoding="utf-8", errors="replace") as file:
            yield file
        _check_free(path, source)  # an evaluation may have begun meanwhile
        unfinished.replace(path)
    except OSError as error:
        raise UsageError(
            f"{str(path)!r} could not be written ({error.strerror}). The evaluation is kept; choose "
            "another path."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink()


def _check_free(path: Path, source: Path) -> None:
    """Raise `UsageError` where a report would replace what cannot be made again."""
    if path.exists() and source.exists() and path.samefile(source):
        raise UsageError(f"{str(path)!r} holds this evaluation. It was not changed; choose another path.")
    check_replaceable(path)
    if (lock_file := Path(f"{path}.lock")).exists():  # the file may still be empty
        from filelock import FileLock, Timeout

        try:
            FileLock(lock_file).acquire(timeout=0).lock.release()
        except Timeout:
            raise UsageError(
                f"{str(path)!r} is being written by an evaluation. It was not changed; choose another path."
            ) from None
    if path.suffix.lower() in (".jsonl", ".csv") and path.exists() and path.stat().st_size:
        raise UsageError(f"{str(path)!r} may hold cases. It was not changed; choose another path.")


def temporary_file() -> tuple[Path, Callable[[], None]]:
    """A file in a new folder, and a function that removes it. Raises `UsageError`.

    The folder has a lock beside it, held as long as this process lives or until it is removed. Folders whose
    lock nobody holds are those of killed processes, and are removed first.
    """
    from filelock import FileLock

    try:
        place = Path(tempfile.gettempdir())
        for folder in place.glob(f"{_PREFIX}*/"):
            if (lock_file := Path(f"{folder}.lock")).exists():
                with contextlib.suppress(OSError, TimeoutError):  # another user's, or in use
                    lock = FileLock(lock_file, thread_local=False)
                    lock.acquire(timeout=0)
                    _remove(folder, lock, os.getpid())
        folder = place / f"{_PREFIX}{uuid4().hex[:12]}"
        lock = FileLock(f"{folder}.lock", thread_local=False)
        lock.acquire(timeout=0)  # before there is a folder to remove
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise UsageError(
            f"No temporary folder could be created ({error.strerror}). Nothing was sent; free some space, or "
            "give a path."
        ) from None
    return folder / "evaluation.jsonl", partial(_remove, folder, lock, os.getpid())


def _remove(folder: Path, lock: BaseFileLock, owner: int) -> None:
    if os.getpid() == owner:  # a fork of it ends, too
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)
