"""Sends many cases to an agent: each a conversation, kept as it goes, judged as it comes.

- Each case × configuration × repeat is a conversation with a fresh session. Its turns run in order;
  conversations run side by side.
- A turn is in the file before it is sent, and again, with its reply, when it has ended.
- A message that may have reached the agent is recorded as interrupted, and sent again only on demand.
  What certainly did not arrive is sent again, and then all conversations slow down together.
- Times are the agent's: they count from when the message is written, not from when it could be.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..concurrency.interrupts import InterruptInbox, wait
from ..concurrency.loop import spawn
from ..concurrency.pulled import Pulled
from .dask import ClusterSender, check_use, check_workers
from .judging import Checks, ajudged, judged
from .pace import Pace
from .plan import Config, Plan, now, open_run
from .report.progress import progress_bar
from .result import Evaluation
from .sender import COMPLETE, MAX_TRIES, LocalSender, Outcome

if TYPE_CHECKING:
    from distributed import Client as DaskClient

    from ..checks import Score
    from ..reply import Reply
    from ..stream import JSON
    from .cases import CaseSource, Conversation
    from .state import RunState

# No more messages are sent while this many replies wait for the checks, which would fill the memory.
MAX_UNJUDGED = 100
_STOP_WAIT_S = 5.0  # how long an interrupt waits for the lines of the turns that it stops


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

    An interrupt (the kernel's Stop) ends it with an incomplete result, which the same call resumes with a
    `path`.

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
        on: a synchronous `distributed.Client`: its cluster's workers, which need `halo-notebook[dask]`, send
            the messages and read the replies. Everything else stays in this process. Key and user token go
            to the workers: use TLS on more than one machine.

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
    run = _Run(Plan(cases, checks, configs, repeats, concurrency, rate_limit), on)
    if on is not None:
        wait(spawn(check_workers(on)))
    # The inbox first: an interrupt must not come between the opening of the file and its `with`.
    with InterruptInbox() as inbox, run.opened(path, resume=resume, progress=progress) as state:
        turns = Pulled(run.ended(), inbox)
        try:
            inbox.run(state.rescore)
            for ended in turns:
                run.take(ended, inbox.run(judged, state.checks, ended.reply, ended.expect))
        except KeyboardInterrupt:
            state.interrupted = True
            for ended in turns.stop(_STOP_WAIT_S):
                run.take(ended, inbox.run(judged, state.checks, ended.reply, ended.expect))
        finally:
            turns.stop(_STOP_WAIT_S)
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
    run = _Run(Plan(cases, checks, configs, repeats, concurrency, rate_limit), on)
    if on is not None:
        await check_workers(on)
    with contextlib.ExitStack() as stack:
        with InterruptInbox() as inbox:  # as above
            state = stack.enter_context(run.opened(path, resume=resume, progress=progress))
        if inbox.stopped:
            raise KeyboardInterrupt
        with contextlib.suppress(KeyboardInterrupt):  # of a check
            state.interrupted = True
            for key, number, reply, expect in state.replies() if state.checks else ():
                state.set_scores(key, number, await ajudged(state.checks, reply, expect))
            async with contextlib.aclosing(run.ended()) as turns:
                async for ended in turns:
                    run.take(ended, await ajudged(state.checks, ended.reply, ended.expect))
            state.interrupted = False
    return Evaluation(state)


@dataclass(frozen=True, slots=True)
class _Ended:
    """A turn that has ended, to be judged."""

    key: str
    turn: int
    reply: Reply
    expect: JSON
    settles: int  # turns: itself, and those that will not be sent because of it


class _Run:
    """The conversations to run, a number of them at a time; `on` a cluster, or in this process."""

    def __init__(self, plan: Plan, on: DaskClient | None) -> None:
        if on is not None:
            check_use(on, plan.clients, plan.concurrency)
        self._plan = plan
        self._on = on
        self._pace = Pace(plan.rate_limit)
        self._sender: LocalSender | ClusterSender
        self._ended: asyncio.Queue[_Ended | None] = asyncio.Queue()
        self._given = 0  # replies to be judged, and how many of them have been, by another thread
        self._judged = 0

    @contextlib.contextmanager
    def opened(self, path: str | Path | None, *, resume: bool | str, progress: bool) -> Iterator[RunState]:
        """Hold the file open and show a bar of turns, with passes and failures counted."""
        self._state, self._journal = open_run(self._plan, path, resume=resume)
        with contextlib.closing(self._journal):
            self._todo = deque(self._state.unfinished(interrupted=resume == "interrupted"))
            total = sum(len(each.case.turns) for each in self._todo)
            with progress_bar(total, shown=progress) as self._bar:
                yield self._state

    async def ended(self) -> AsyncGenerator[_Ended, None]:
        """Run the conversations on the running loop; yields each turn that has ended, to be judged."""
        running = asyncio.ensure_future(self._run())
        running.add_done_callback(lambda _: self._ended.put_nowait(None))
        try:
            while (ended := await self._ended.get()) is not None:
                yield ended
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def take(self, ended: _Ended, scores: dict[str, Score]) -> None:
        """Keep what the checks found about a turn."""
        self._state.set_scores(ended.key, ended.turn, scores)
        self._judged += 1
        self._bar.set_postfix_str(self._state.tally(), refresh=False)
        self._bar.update(ended.settles)

    async def _run(self) -> None:
        plan, on = self._plan, self._on
        clients = plan.clients if self._todo else {}
        self._sender = LocalSender(clients) if on is None else ClusterSender(on, clients)
        error: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(plan.concurrency, len(self._todo))):
                    group.create_task(self._work())
        except BaseExceptionGroup as errors:
            error = errors.exceptions[0]  # they have the same cause, so one is enough to say what to do
        finally:
            lag_s = await self._sender.aclose()
            if lag_s is not None:
                self._add({"kind": "lag", "p90_s": lag_s})
        if error is not None:
            raise error  # not above: IPython shows the whole of an error whose context is a group

    async def _work(self) -> None:
        while self._todo:
            await self._converse(self._todo.popleft())

    async def _converse(self, conversation: Conversation) -> None:
        session_id: str | None = None
        round_ = self._state.next_round(conversation.key)
        fields = self._plan.fields[conversation.config]
        turns = conversation.case.turns
        for number, turn in enumerate(turns):
            # Polled: waking this for each reply would cost more than the polling, which is rare.
            while self._given - self._judged >= MAX_UNJUDGED:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            given = {**fields, **turn.fields, "session_id": session_id}
            reply = await self._send(conversation, round_, number, given)
            self._given += 1
            complete, expect = reply.status == "complete", conversation.case.expected(number)
            settles = 1 if complete else len(turns) - number
            self._ended.put_nowait(_Ended(conversation.key, number, reply, expect, settles))
            if not complete:
                return
            session_id = reply.session_id

    async def _send(
        self, conversation: Conversation, round_: int, number: int, fields: Mapping[str, Any]
    ) -> Reply:
        """Send one turn, again only while it certainly did not arrive."""
        ready = time.perf_counter()
        for tries in range(1, MAX_TRIES + 1):
            turn: dict[str, JSON] = {"key": conversation.key, "turn": number, "round": round_, "try": tries}
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
