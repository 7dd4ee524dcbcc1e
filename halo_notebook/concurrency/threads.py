"""Threads, locks and waiting: the interpreter's own or, in a browser, what stands in for them.

What it promises: the names mean the same in both. Whoever starts a thread, waits, or shares
what a thread changes takes them from here; `bridge` does the waiting for a turn.
"""

from __future__ import annotations

import sys

IN_BROWSER = sys.platform == "emscripten"

if sys.platform == "emscripten":
    from .browser import Event, Lock, RLock, SimpleQueue, Thread, current_thread, get_ident, sleep, to_thread
else:
    from asyncio import to_thread
    from queue import SimpleQueue
    from threading import Event, Lock, RLock, Thread, current_thread, get_ident
    from time import sleep

__all__ = [
    "IN_BROWSER",
    "Event",
    "Lock",
    "RLock",
    "SimpleQueue",
    "Thread",
    "current_thread",
    "get_ident",
    "sleep",
    "to_thread",
]
