"""The file of an evaluation: what was sent and what came back, a JSON line each, as it happens.

- Lines are only ever added, in order. A `confirmed` line is on the disk, with all before it.
- A message is recorded before it is sent, so that after any end it is known what may have reached the agent.
- Only a file that begins like a journal is continued; no other file is touched.
- There is one writer: a second is refused, in this process or another.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import io
import os
import queue
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ...errors import UsageError
from ...recording.kinds import EVALUATION, kind_of
from ..file_paths import file_lock, why_not_written
from ..json_text import writer

if TYPE_CHECKING:
    from ...stream import JSON


_as_json = writer()
# With it, writing waits for the disk. A second call to sync would have to wait once more for the interpreter,
# behind what computes: milliseconds, where a disk takes a fifth of one.
_SYNCED = getattr(os, "O_DSYNC", 0)
_BEGINNING = b'{"kind":"run"'
_Line: TypeAlias = "tuple[bytes, asyncio.Future[None] | None]"


class Journal:
    """Adds lines to a file, on a thread of its own; those that wait are synced together.

    Any thread may add lines, confirmed ones are added on one loop. The file is created if it does not
    exist. Raises `UsageError` when it is not an evaluation's file, cannot be written, or is being written by
    another evaluation, also after `wait_s` seconds.

    `error` is set when a line could not be written; `close` raises it.
    """

    def __init__(self, path: Path, wait_s: float = 0) -> None:
        from filelock import Timeout

        self.path = path
        try:
            if path.exists() and not _is_journal(path):
                raise UsageError(
                    f"{str(path)!r} is not an evaluation file. Nothing was sent, and it was not changed; "
                    "give another path."
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as undo:
                self._lock = file_lock(path)
                self._lock.acquire(timeout=wait_s)
                undo.callback(self._lock.release)
                # Unbuffered: what could not be written must not be tried again later.
                self._file = undo.enter_context(io.FileIO(path, "a", opener=_synced))
                if path.stat().st_size and not _ends_with_a_line(path):
                    self._file.write(b"\n")  # the part of a line stays on a line of its own
                self._size = self._end = path.stat().st_size  # what is on the disk, and what will be
                self._waiting: queue.SimpleQueue[_Line | None] = queue.SimpleQueue()
                self._order = threading.Lock()  # lines wait in the order of their positions
                self.error: UsageError | None = None
                self._thread = threading.Thread(target=self._write_all, name="halo-journal", daemon=True)
                self._thread.start()
                undo.pop_all()
        except Timeout:
            raise UsageError(
                f"Another evaluation is writing {path.name!r}. Nothing was sent; wait until it finishes, or "
                "give another path."
            ) from None
        except (OSError, NotImplementedError) as error:  # a disk that knows no locks
            what = f"{str(path)!r} could not be written ({why_not_written(path, error)})"
            raise UsageError(f"{what}. Nothing was sent; choose another path.") from None

    def append(self, line: dict[str, JSON], on_disk: asyncio.Future[None] | None = None) -> int:
        """Add a line, and return the byte at which it begins. If it cannot be written, `close` raises."""
        text = _as_json(line).encode("utf-8", "replace") + b"\n"
        with self._order:
            begins, self._end = self._end, self._end + len(text)
            self._waiting.put((text, on_disk))
        return begins

    async def confirmed(self, line: dict[str, JSON]) -> None:
        """Add a line and wait until it is on the disk. Raises `UsageError` when it cannot be written."""
        on_disk: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.append(line, on_disk)
        await on_disk

    def close(self) -> None:
        """Wait until every line is on the disk. Raises `UsageError` when one could not be written."""
        self._waiting.put(None)
        self._thread.join()
        self._file.close()
        self._lock.release()
        if self.error is not None:
            raise self.error

    def _write_all(self) -> None:
        batch: list[_Line | None] = []
        while None not in batch:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            lines = [each for each in batch if each is not None]
            if self.error is None:
                # Nothing is written after a failure: it would end the line that is cut short.
                try:
                    self._write(b"".join(text for text, _ in lines))
                except OSError as error:
                    # These messages do not leave, so the file must not say that they were sent.
                    with contextlib.suppress(OSError):
                        self._file.truncate(self._size)
                    self.error = UsageError(
                        f"{self.path.name!r} could not be written ({error.strerror}). Nothing more was sent, "
                        "and what it holds is kept. Make room, and run again to resume."
                    )
            waiting = [on_disk for _, on_disk in lines if on_disk is not None]
            if waiting:
                with contextlib.suppress(RuntimeError):  # their loop has been closed
                    # All at once: each call wakes the loop.
                    waiting[0].get_loop().call_soon_threadsafe(_settle, waiting, self.error)

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        if not _SYNCED:
            os.fsync(self._file.fileno())
        self._size += len(data)


def _synced(path: str, flags: int) -> int:
    return os.open(path, flags | _SYNCED, 0o666)


def _settle(waiting: list[asyncio.Future[None]], error: UsageError | None) -> None:
    for future in waiting:
        if not future.done():
            future.set_result(None) if error is None else future.set_exception(error)


def _is_journal(path: Path) -> bool:
    """Whether a file may be continued: one that begins like a journal, or is empty."""
    if not path.is_file():  # reading a device may never end
        return False
    try:
        with path.open("rb") as file:
            first = file.readline(2 * len(_BEGINNING)).removeprefix(codecs.BOM_UTF8)
        return _BEGINNING.startswith(first[: len(_BEGINNING)]) or kind_of(path) == EVALUATION
    except OSError:
        return True  # opening it for writing says why not


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def now() -> str:
    """The time, as lines of the file have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
