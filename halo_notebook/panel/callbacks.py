"""A program's callbacks: called in order, one at a time, where they were registered."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from ..concurrency.usercode import Home, UserCodeError

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Callback:
    """A callback, with the context and the loop in which it was registered."""

    function: Callable[..., Any]
    home: Home = field(default_factory=Home)


class Callbacks:
    """Calls callbacks in order, for code on the loop.

    Args:
        failed: gets a callback and one line on what it raised. The next one is called all the same.
    """

    def __init__(self, failed: Callable[[Callable[..., Any], str], None]) -> None:
        self._failed = failed
        self._last: Future[None] | None = None
        self._running: set[asyncio.Task[None]] = set()  # the loop itself holds no task

    def call(self, callback: Callback, *args: Any) -> None:
        """Call `callback` soon: after the next step of the loop it is on its way."""
        before, self._last = self._last, Future()
        task = asyncio.ensure_future(self._run(callback, args, before, self._last))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(
        self, callback: Callback, args: tuple[Any, ...], before: Future[None] | None, over: Future[None]
    ) -> None:
        async def in_turn() -> Any:
            # A finished one is not awaited, so that a callback runs before the code that awaits the reply.
            if before is not None and not before.done():
                await asyncio.wrap_future(before)
            try:
                value = callback.function(*args)
                return await value if inspect.isawaitable(value) else value
            finally:
                over.set_result(None)

        try:
            await callback.home.call(in_turn)
        except UserCodeError as error:
            _log.info("A callback of a panel failed", exc_info=error)
            self._failed(callback.function, str(error))
        except RuntimeError:  # the interpreter exits, or the loop has been closed
            _log.info("A callback of a panel was not called", exc_info=True)
