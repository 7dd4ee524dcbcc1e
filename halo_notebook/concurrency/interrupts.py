"""An interrupt (Ctrl-C, the kernel's Stop) as a message to the thread that waits.

Python raises KeyboardInterrupt between any two steps of the main thread, also in the middle of a frame or
of cleaning up. With an `InterruptInbox` it raises nothing: the interrupt is noticed where the thread waits,
and however many come, each step is finished first.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, TypeVar

from .inbox import Inbox

T = TypeVar("T")


class InterruptInbox(Inbox):
    """An inbox that an interrupt stops while it is entered as a context manager.

    The previous handler is restored at the end, and while user code runs. A handler that was not
    installed from Python could not be restored, so it is left alone, and so is SIG_IGN. Only the main
    thread gets interrupts; on another one nothing changes.
    """

    def __init__(self) -> None:
        super().__init__()
        self._previous: Any = None
        self._installed = False

    def __enter__(self) -> InterruptInbox:
        on_main_thread = threading.current_thread() is threading.main_thread()
        if on_main_thread and callable(signal.getsignal(signal.SIGINT)):
            self._installed = True
            self._install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._installed:
            self._installed = False
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
        previous = signal.signal(signal.SIGINT, self._interrupted)
        if previous != self._interrupted:  # user code may have installed another one
            self._previous = previous

    def _interrupted(self, number: int, frame: FrameType | None) -> None:
        self.stop()
