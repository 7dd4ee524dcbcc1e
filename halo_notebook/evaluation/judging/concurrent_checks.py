"""Judges turns side by side, on the thread and the loop to which the user's checks belong.

- Sync checks are called on the caller's thread, one after the other, or on request on threads of their own.
- Async checks run on the loop of the caller's thread: the running one, nested if need be, or one of its own.
- A number of turns are judged at a time, and all checks of a turn together.
- A stop waits for no check, except for sync ones in `aevaluate`. What has not been judged by then stays
  without a verdict. What a check says that was interrupted is dropped: it may have taken that for an error.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from ...checks import Score
from ...concurrency.loop import LOOK_S
from ...concurrency.pulled import Pulled
from ...concurrency.usercode import UserCodeError, call_here, called, in_thread
from .checks import failed

if TYPE_CHECKING:
    from ...concurrency.interrupts import InterruptInbox
    from ..cases.user_calls import UserCalls
    from .checks import Judge, Seen

_STOP_WAIT_S = 0.3  # how long a stop waits for checks that end when they are cancelled
_left_behind = set[asyncio.Task[None]]()  # those that did not


@dataclass(frozen=True, slots=True)
class Ended:
    """A turn that has ended, to be judged."""

    key: str
    turn: int
    seen: Seen
    checks: Mapping[str, Judge]  # those that judge it
    settles: int = 0  # turns: itself, and those that will not be sent because of it


Keep: TypeAlias = "Callable[[Ended, dict[str, Score]], None]"
Turns: TypeAlias = "Pulled[Ended] | Iterable[Ended]"


class Jury:
    """Judges turns by checks.

    Args:
        keep: gets each turn with its scores.
        at_a_time: how many turns are judged at a time.
        in_threads: whether sync checks are called on threads.
        users: calls of the cases' users, which use the same loop meanwhile.
    """

    def __init__(
        self, keep: Keep, at_a_time: int, *, in_threads: bool = False, users: UserCalls | None = None
    ) -> None:
        self._keep = keep
        self._users = users
        self._at_a_time = at_a_time
        self._in_threads = in_threads
        self._has_ended = False
        self._is_interrupted: Callable[[], bool] = lambda: False
        self._error: BaseException | None = None  # what ends the run
        self._ending: asyncio.Event
        self._judging = set[asyncio.Task[None]]()

    def judge(self, turns: Turns, inbox: InterruptInbox) -> None:
        """Judge all `turns` from sync code.

        Raises what ends the run: KeyboardInterrupt when the inbox is stopped, and what a check raised.
        """
        self._is_interrupted = lambda: inbox.stopped
        rest = turns if isinstance(turns, Pulled) else iter(turns)
        if self._in_threads or self._users is not None:
            self._judge_on_loop(rest, inbox)
            return
        for ended in rest:
            with inbox.raising():
                begun = self._begin(ended)
            if begun.awaitables:
                # From the first async check on, everything runs on the loop.
                try:
                    self._judge_on_loop(rest, inbox, begun)
                finally:
                    begun.close()
                return
            self._keep(ended, begun.scores)
        if inbox.stopped:  # so that no more was sent
            raise KeyboardInterrupt

    async def ajudge(self, turns: AsyncIterator[Ended]) -> None:
        """Judge all `turns` on the running loop. Raises what a check raised to end the run."""
        task = asyncio.current_task()
        if task is not None:
            before = task.cancelling()
            self._is_interrupted = lambda: task.cancelling() > before
        await self._judge_until(turns, _look, None)
        if self._error is not None:
            raise self._error

    def _judge_on_loop(
        self, turns: Pulled[Ended] | Iterator[Ended], inbox: InterruptInbox, begun: _Begun | None = None
    ) -> None:
        # They are in the middle of an iteration, which continues where it is.
        given = turns.on_loop() if isinstance(turns, Pulled) else one_by_one(turns)
        inbox.run_on_loop(self._judge_until(given, inbox.until_stopped, begun), self._end)
        # Raised here: through a task it would end the loop.
        if self._error is not None:
            raise self._error
        if inbox.stopped:
            raise KeyboardInterrupt

    async def _judge_until(
        self, turns: AsyncIterator[Ended], stop: Callable[[], Awaitable[object]], begun: _Begun | None
    ) -> None:
        """Judge the turn that was `begun` and all `turns`, until `stop` returns or a check ends the run."""
        self._ending = asyncio.Event()
        of_users = self._users.tasks if self._users else set()
        if self._users:
            self._users.use(asyncio.get_running_loop())
        taking = asyncio.ensure_future(self._take_all(turns, begun))
        ends: set[asyncio.Future[Any]] = {
            asyncio.ensure_future(self._ending.wait()),
            asyncio.ensure_future(stop()),
        }
        try:
            await asyncio.wait({taking, *ends}, return_when=asyncio.FIRST_COMPLETED)
            if self._error is None and taking.done():
                taking.result()
        finally:
            self._has_ended = True  # what comes later is not kept
            if self._users:
                self._users.end()
            for task in (taking, *ends, *self._judging):
                task.cancel()
            await asyncio.wait({taking, *ends})  # the lines of turns that were cut are written
            await _end_soon(self._judging | of_users)

    async def _take_all(self, turns: AsyncIterator[Ended], begun: _Begun | None) -> None:
        free = asyncio.Semaphore(self._at_a_time)

        def ended(begun: _Begun, task: asyncio.Task[None]) -> None:
            begun.close()
            self._judging.discard(task)
            free.release()
            if not task.cancelled() and (error := task.exception()) is not None:
                self._end(error)  # what it found could not be kept

        async def finish(begun: _Begun) -> None:
            await free.acquire()
            task = asyncio.ensure_future(self._finish(begun))
            self._judging.add(task)
            task.add_done_callback(partial(ended, begun))

        if begun is not None:
            await finish(begun)
        async for turn in turns:
            if self._in_threads:
                await finish(_Begun(turn, {}, {}, turn.checks))
                continue
            while free.locked():
                await asyncio.wait(self._judging, return_when=asyncio.FIRST_COMPLETED)
            try:
                begun = self._begin(turn)
                if self._is_stopped:
                    return
                if not begun.awaitables:
                    self._keep(turn, begun.scores)
            except BaseException as error:  # noqa: BLE001  # it must not end the loop
                self._end(error)
                return
            await (finish(begun) if begun.awaitables else asyncio.sleep(0))
        while self._judging:
            await asyncio.wait(self._judging)

    def _begin(self, turn: Ended) -> _Begun:
        """Call its checks, one after the other; what is awaitable is left, and after a stop nothing."""
        begun = _Begun(turn, {}, {}, {})
        try:
            for name, check in turn.checks.items():
                if self._is_stopped:
                    break
                try:
                    value = called(check.with_arguments(turn.seen))
                    if inspect.isawaitable(value):
                        begun.awaitables[name] = value
                    else:
                        begun.scores[name] = check.score(value)
                except (UserCodeError, TypeError, ValueError) as error:
                    begun.scores[name] = failed(error)
            if self._is_stopped:
                begun.close()
        except BaseException:
            begun.close()
            raise
        return begun

    async def _finish(self, begun: _Begun) -> None:
        """Call what is left to call, all together, and keep what is found."""
        seen = begun.turn.seen
        calls: dict[str, Callable[[], Any]] = {
            name: partial(_same, value) for name, value in begun.awaitables.items()
        }
        for name, check in begun.judges.items():
            call = check.with_arguments(seen)
            calls[name] = partial(in_thread, call) if self._in_threads and not check.is_async else call
        # In tasks of their own: a check may cancel the task in which it runs.
        scored = (self._scored(begun.turn.checks[name], call) for name, call in calls.items())
        found = await asyncio.gather(*scored, return_exceptions=True)
        by_name = dict(begun.scores)
        for name, score in zip(calls, found, strict=True):
            if isinstance(score, asyncio.CancelledError):
                by_name[name] = failed(UserCodeError(score))
            elif isinstance(score, BaseException):
                raise score
            else:
                by_name[name] = score
        if not self._is_stopped:
            self._keep(begun.turn, {name: by_name[name] for name in begun.turn.checks})

    async def _scored(self, check: Judge, call: Callable[[], Any]) -> Score:
        nothing = Score(None)  # not kept
        if self._is_stopped:
            return nothing
        try:
            return check.score(await call_here(call))
        except (UserCodeError, TypeError, ValueError) as error:
            try:
                return failed(error)
            except BaseException as ending:  # noqa: BLE001  # it must not end the loop
                self._end(ending)
                return nothing

    @property
    def _is_stopped(self) -> bool:
        """Whether what checks find from now on is dropped."""
        return self._has_ended or self._is_interrupted()

    def _end(self, error: BaseException) -> None:
        """End the run because of what a check raised."""
        self._error = self._error or error
        self._has_ended = True
        self._ending.set()
        for task in tuple(self._judging):
            task.cancel()  # now: the loop may be about to call another of them, which may take its time


@dataclass(frozen=True, slots=True)
class _Begun:
    """A turn of which some checks have been called."""

    turn: Ended
    scores: dict[str, Score]
    awaitables: dict[str, Awaitable[Any]]  # what others returned
    judges: Mapping[str, Judge]  # those left to call

    def close(self) -> None:
        """Drop coroutines that were never awaited, without Python's warning."""
        for value in self.awaitables.values():
            if inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
                value.close()


async def one_by_one(turns: Iterable[Ended]) -> AsyncIterator[Ended]:
    """The same turns for async code; the loop does other things in between."""
    for turn in turns:
        yield turn
        await asyncio.sleep(0)


async def _look() -> None:
    """Wake the loop now and then: a kernel's Stop cancels the task of a cell, and wakes no loop."""
    while True:  # noqa: ASYNC110  # nothing else would wake it
        await asyncio.sleep(LOOK_S)


def _same(value: Any) -> Any:
    return value


async def _end_soon(tasks: set[asyncio.Task[None]]) -> None:
    """Wait for cancelled tasks, and leave behind those that do not end in time."""
    if tasks:
        _, left = await asyncio.wait(tasks, timeout=_STOP_WAIT_S)
        for task in left:
            _left_behind.add(task)  # the loop itself does not hold them
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it may outlive the loop
            task.add_done_callback(_forget)


def _forget(task: asyncio.Task[None]) -> None:
    _left_behind.discard(task)
    if not task.cancelled():
        task.exception()  # so that nobody is told that it was not looked at
