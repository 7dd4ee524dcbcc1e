"""The file of an evaluation: what was asked and what came, a JSON line each, as it happens.

What it promises:

- Lines are only ever added. One that `append` has confirmed is on the disk.
- A message is noted before it is sent, so that after any end it is known what may have reached
  the agent.
- A line that was torn by the end of its process is passed over, and no later one with it.
- There is one writer: a second is refused, in this process or another.

It does not know what a line says, but for its `kind`.
"""

from __future__ import annotations

import json
import os
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import UsageError

if TYPE_CHECKING:
    from .stream import JSON


class Journal:
    """Adds lines to a file, on a thread of its own; several at once are synced together.

    Args:
        path: is made when there is none.

    Raises:
        UsageError: when the file cannot be written, or another evaluation is writing it.
    """

    def __init__(self, path: Path) -> None:
        from filelock import FileLock, Timeout

        self.path = path
        self._lock = FileLock(f"{path}.lock")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire(timeout=0)
            self._file = path.open("ab")
        except Timeout:
            raise UsageError(
                f"Another evaluation is writing {path.name!r}. Nothing was sent; wait for its end, or give "
                "another path."
            ) from None
        except OSError as error:
            self._lock.release()
            raise UsageError(
                f"{str(path)!r} could not be written ({error.strerror}). Nothing was sent; choose another "
                "path."
            ) from None
        if path.stat().st_size and not _ends_with_a_line(path):
            self._file.write(b"\n")  # what was torn stays alone on its line
        self._waiting: queue.SimpleQueue[tuple[bytes, Future[None]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write_all, name="halo-journal", daemon=True)
        self._thread.start()

    def append(self, line: dict[str, JSON]) -> Future[None]:
        """Add a line; the future is done when it is on the disk."""
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":"))
        done: Future[None] = Future()
        self._waiting.put((text.encode("utf-8", "replace") + b"\n", done))
        return done

    def close(self) -> None:
        """Wait until every line is on the disk, and let others write."""
        self._waiting.put(None)
        self._thread.join()
        self._file.close()
        self._lock.release()

    def _write_all(self) -> None:
        ended = False
        while not ended:
            batch = [self._waiting.get()]
            while not self._waiting.empty():
                batch.append(self._waiting.get())
            ended = None in batch
            lines = [each for each in batch if each is not None]
            try:
                self._file.write(b"".join(text for text, _ in lines))
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                for _, done in lines:
                    done.set_exception(error)
            else:
                for _, done in lines:
                    if done.set_running_or_notify_cancel():
                        done.set_result(None)


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a journal that are whole, in order; nothing when there is no file."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for raw in file:
            try:
                line = json.loads(raw)
            except ValueError:
                continue  # torn, by the end of a process
            if isinstance(line, dict) and raw.endswith(b"\n"):
                yield line


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
