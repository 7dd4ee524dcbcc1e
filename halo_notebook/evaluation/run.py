"""Sends many cases to an agent: each a conversation, kept as it goes, judged as it comes.

- Each case × configuration × repeat is a conversation with a fresh session. Its turns run in
  order; conversations run side by side.
- A turn is in the file before it is sent, and again, with its reply, when it has ended. A stored
  turn is not sent again by a later run.
- A message that may have reached the agent is not sent again automatically. It is recorded as
  interrupted, and a later run leaves it so unless told otherwise. Only what certainly did not arrive
  is sent again, and then all conversations slow down together.
- Times are the agent's: they count from when the message is written. The time that a conversation
  waited for its turn to send is stored beside them.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..concurrency.loop import Channel, spawn, wait
from .dask import ClusterSender, check_use, check_workers
from .judging import Checks, ajudged, judged
from .pace import Pace
from .plan import Config, Plan, check_installed, made_plan, now, open_run
from .result import Evaluation
from .sender import COMPLETE, MAX_TRIES, LocalSender, Outcome, Sender

if TYPE_CHECKING:
    from distributed import Client as DaskClient

    from ..reply import Reply
    from ..stream import JSON
    from .cases import CaseSource, Conversation
    from .journal import Journal
    from .state import RunState

MAX_UNJUDGED = 100
"""No more messages are sent while this many replies wait for the checks, which would fill the memory."""


def evaluate(
    cases: CaseSource,
    checks: Checks = (),
    *,
    configs: Mapping[str, Config] | None = None,
    repeats: int = 1,
    concurrency: int = 8,
    rate_limit: float | None = None,
    path: str | Path | None = None,
    resume: bool | Literal["interrupted"] = True,
    progress: bool = True,
    on: DaskClient | None = None,
) -> Evaluation:
    """Send all `cases` to an agent, judge its replies, and return the result.

    An interrupt (the kernel's Stop) ends it with what there is by then: the result says that it is
    incomplete, and with a `path` the same call resumes it.

    Args:
        cases: see `read_cases`.
        checks: functions of a reply, see `halo_notebook.checks`; a list, or a dict by name.
        configs: name → request fields that go with each message (``{"agent_id": …}``), or a
            client. None: one, ``default``, with the kernel's own client.
        repeats: how often each case is sent.
        concurrency: how many conversations run at a time.
        rate_limit: messages per minute, all together; None for no limit.
        path: the file to keep it in (JSON lines); None for one that is deleted with the result.
        resume: True continues what `path` holds and leaves alone what may have reached the agent;
            ``"interrupted"`` sends that again too, in fresh sessions: choose it when a message that
            arrives twice does no harm. False refuses a file that holds something.
        progress: whether to show progress.
        on: a synchronous `distributed.Client`: its cluster's workers send the messages and read the
            replies (`halo-notebook[dask]`, installed there too). Everything else stays in this process:
            the shared rate limit, the checks, and the file, which can be resumed with or without a
            cluster. Key and user token go to the workers: a cluster on more than this machine should
            have TLS.

    Returns:
        an `Evaluation`.

    Raises:
        InvalidRequest: naming the case, check or configuration that makes no sense.
        UsageError: when the file cannot be used, or the cluster.
        ConfigError: when there is no agent to send to.

    >>> from halo_notebook import HaloClient
    >>> from halo_notebook.checks import contains
    >>> from halo_notebook.demo import DEMO_KEY, DemoAgent
    >>> with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
    ...     client = HaloClient(DEMO_KEY, base_url=agent.url)
    ...     case = {"turns": ["My name is Ada", "What is my name?"], "expect": "Ada"}
    ...     result = evaluate([case], [contains()], configs={"demo": client}, progress=False)
    >>> [row["status"] for row in result.rows()], result.passed("contains")
    (['complete', 'complete'], {'demo': {'1': [True]}})
    """
    plan = made_plan(cases, checks, configs, repeats, concurrency, rate_limit)
    if on is not None:
        _check_cluster(on, plan)
        wait(spawn(check_workers(on)))
    state, journal = open_run(plan, path, resume=resume)
    channel: Channel[_Ended | None] = Channel()
    todo = state.unfinished(interrupted=resume == "interrupted")

    async def run() -> None:
        try:
            await _Run(plan, todo, journal, state, channel.put, on=on).run()
        finally:
            channel.put(None)

    def judge(ended: _Ended) -> None:
        state.set_scores(ended.key, ended.turn, judged(state.checks, ended.reply, ended.expect))

    with contextlib.closing(journal), _progress(state, todo, shown=progress) as tick:
        future = None
        try:
            state.rescore()
            future = spawn(run())
            while (ended := channel.get()) is not None:
                judge(ended)
                ended.judged()
                tick(ended.settles)
            future.result()
        except KeyboardInterrupt:
            state.interrupted = True
            if future is not None:
                future.cancel()
                for ended in _drained(channel):
                    judge(ended)
    return Evaluation(state)


async def aevaluate(
    cases: CaseSource,
    checks: Checks = (),
    *,
    configs: Mapping[str, Config] | None = None,
    repeats: int = 1,
    concurrency: int = 8,
    rate_limit: float | None = None,
    path: str | Path | None = None,
    resume: bool | Literal["interrupted"] = True,
    progress: bool = True,
    on: DaskClient | None = None,
) -> Evaluation:
    """As `evaluate`, on the caller's own loop: async checks may hold objects that belong to it."""
    plan = made_plan(cases, checks, configs, repeats, concurrency, rate_limit)
    if on is not None:
        _check_cluster(on, plan)
        await check_workers(on)
    state, journal = open_run(plan, path, resume=resume)
    judging: asyncio.Queue[_Ended | None] = asyncio.Queue()
    todo = state.unfinished(interrupted=resume == "interrupted")

    with contextlib.closing(journal), _progress(state, todo, shown=progress) as tick:
        for key, number, reply, expect in state.replies() if state.checks else ():
            state.set_scores(key, number, await ajudged(state.checks, reply, expect))

        async def run() -> None:
            try:
                await _Run(plan, todo, journal, state, judging.put_nowait, on=on).run()
            finally:
                judging.put_nowait(None)

        running = asyncio.ensure_future(run())
        try:
            while (ended := await judging.get()) is not None:
                scores = await ajudged(state.checks, ended.reply, ended.expect)
                state.set_scores(ended.key, ended.turn, scores)
                ended.judged()
                tick(ended.settles)
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    return Evaluation(state)


def _check_cluster(on: DaskClient, plan: Plan) -> None:
    check_installed("An evaluation on a Dask cluster", "dask", "distributed")
    check_use(on, plan.clients, plan.concurrency)


@dataclass(frozen=True, slots=True)
class _Ended:
    """A turn that has ended, to be judged."""

    key: str
    turn: int
    reply: Reply
    expect: JSON
    settles: int  # turns: itself, and those that will not be sent because of it
    judged: Callable[[], object]  # to be called when it is


class _Run:
    """The conversations to run, a number of them at a time, on the running loop."""

    def __init__(
        self,
        plan: Plan,
        todo: Sequence[Conversation],
        journal: Journal,
        state: RunState,
        ended: Callable[[_Ended], object],
        *,
        on: DaskClient | None,
    ) -> None:
        self._plan = plan
        self._todo = deque(todo)
        self._journal = journal
        self._state = state
        self._ended = ended
        self._pace = Pace(plan.rate_limit)
        self._sender: Sender = LocalSender(plan.clients) if on is None else ClusterSender(on, plan.clients)
        self._given = 0  # replies to be judged, and how many of them have been, by another thread
        self._judged = 0

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._plan.concurrency, len(self._todo))):
                    group.create_task(self._work())
        except BaseExceptionGroup as errors:
            # They have the same cause, so one is enough to say what to do.
            raise errors.exceptions[0] from None
        finally:
            lag_s = await self._sender.aclose()
            if lag_s is not None:
                self._add({"kind": "lag", "p90_s": lag_s})

    async def _work(self) -> None:
        while self._todo:
            await self._converse(self._todo.popleft())

    async def _converse(self, conversation: Conversation) -> None:
        session_id: str | None = None
        fields = self._plan.targets[conversation.config].fields
        for number, turn in enumerate(conversation.case.turns):
            # Polled: waking this for each reply would cost more than the polling, which is rare.
            while self._given - self._judged >= MAX_UNJUDGED:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            given = {**fields, **turn.fields, "session_id": session_id}
            reply = await self._send(conversation, number, given)
            expect = conversation.case.expected(number)
            self._given += 1
            complete = reply.status == "complete"
            settles = 1 if complete else len(conversation.case.turns) - number
            self._ended(_Ended(conversation.key, number, reply, expect, settles, self._count_judged))
            if not complete:
                return
            session_id = reply.session_id

    def _count_judged(self) -> None:
        self._judged += 1

    async def _send(self, conversation: Conversation, number: int, fields: Mapping[str, Any]) -> Reply:
        """Send one turn, again only while it certainly did not arrive."""
        ready = time.perf_counter()
        turn: dict[str, JSON] = {"key": conversation.key, "turn": number}
        for tries in range(1, MAX_TRIES + 1):
            await self._sender.ready()
            await self._pace.wait()
            try:
                # On the disk before it leaves: after any end it is known what may have arrived.
                sent: dict[str, JSON] = {"kind": "sent", **turn, "at": now()}
                self._state.take(sent)
                await self._journal.confirmed(sent)
            except BaseException:
                self._add({"kind": "refused", **turn})
                raise
            sent_at = time.perf_counter()
            outcome = Outcome()
            message = conversation.case.turns[number].message
            try:
                await self._sender.send(outcome, conversation.config, message, fields, tries)
            finally:
                self._add(
                    {
                        "kind": "turn",
                        **turn,
                        "case": conversation.case.id,
                        "config": conversation.config,
                        "repeat": conversation.repeat,
                        "status": outcome.status,
                        "queue_wait_s": sent_at - ready,
                        "reply": outcome.reply.to_dict(),
                    }
                    if outcome.again_s is None
                    else {"kind": "refused", **turn}
                )
            if outcome.again_s is None:
                break
            self._pace.slow_down(outcome.again_s, sent_at)
        if outcome.status == COMPLETE:
            self._pace.speed_up()
        return outcome.reply

    def _add(self, line: dict[str, JSON]) -> None:
        self._state.take(line, self._journal.append(line))


def _drained(channel: Channel[_Ended | None]) -> list[_Ended]:
    """The turns that had ended by now. Waits a bounded time for the lines of those that were stopped."""
    deadline = time.monotonic() + 5
    left = []
    with contextlib.suppress(queue.Empty):
        while (ended := channel.get(max(0.0, deadline - time.monotonic()), calls=False)) is not None:
            left.append(ended)
    return left


@contextlib.contextmanager
def _progress(
    state: RunState, todo: Sequence[Conversation], *, shown: bool
) -> Iterator[Callable[[int], None]]:
    """A bar of turns, with passes and failures counted."""
    if not shown:
        yield lambda turns: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=sum(len(each.case.turns) for each in todo), unit="turn") as bar:

        def tick(turns: int) -> None:
            bar.set_postfix_str(state.tally(), refresh=False)
            bar.update(turns)

        yield tick
