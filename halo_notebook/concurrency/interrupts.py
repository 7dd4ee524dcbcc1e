"""An interrupt (Ctrl-C, the kernel's Stop) as a message to the thread that waits.

Python raises KeyboardInterrupt between any two steps of the main thread, also in the middle of a frame or of
cleaning up. An `InterruptInbox` notices it where the thread waits, so each step is finished first.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

from .inbox import Inbox

T = TypeVar("T")


class InterruptInbox(Inbox):
    """An inbox that an interrupt stops while it is entered as a context manager.

    The previous handler is restored at the end, and while user code runs. A handler that was not installed
    from Python could not be restored, so it is left alone, and so is SIG_IGN. Only the main thread gets
    interrupts, so nothing is installed on another one.

    Args:
        linger_s: ignore interrupts for so long after the end, and let the first one after that restore the
            previous handler and go to it. For a kernel, which sets its own handlers before and after each
            cell: an interrupt between the end of a turn and that of its cell would cut into IPython while it
            shows an error, or into ipykernel while it sends the reply, which is lost then.
    """

    def __init__(self, linger_s: float = 0.0) -> None:
        super().__init__()
        self._linger_s = linger_s
        self._previous: Any = None
        self._installed = False
        self._ended_at: float | None = None

    def __enter__(self) -> InterruptInbox:
        on_main_thread = threading.current_thread() is threading.main_thread()
        if on_main_thread and callable(signal.getsignal(signal.SIGINT)):
            self._installed = True
            self._install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended_at = time.monotonic()
        if self._installed and not self._linger_s:
            signal.signal(signal.SIGINT, self._previous)

    def run(self, function: Callable[..., T], *args: Any) -> T:
        """See `Inbox.run`. An interrupt also stops this inbox."""
        if not self._installed:
            return super().run(function, *args)
        try:
            try:
                signal.signal(signal.SIGINT, self._previous)
                return function(*args)
            finally:
                self._install()
        except KeyboardInterrupt:
            self._install()  # it may have come just before the line above
            self.stop()
            raise

    def _install(self) -> None:
        previous: Any = signal.signal(signal.SIGINT, self._interrupted)
        if previous == self._interrupted:
            return
        lingering = getattr(previous, "__self__", None)
        self._previous = lingering._previous if isinstance(lingering, InterruptInbox) else previous

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        if self._ended_at is None:
            self.stop()
        elif time.monotonic() > self._ended_at + self._linger_s:
            signal.signal(signal.SIGINT, self._previous)
            self._previous(number, frame)
