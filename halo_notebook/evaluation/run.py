"""Send many cases to an agent, judge the replies as they come, and return the result."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..concurrency.interrupts import InterruptInbox, wait
from ..concurrency.loop import spawn
from ..concurrency.pulled import Pulled
from .conversations import Run
from .dask import check_workers
from .judging import Checks, ajudged, judged
from .plan import Config, Plan
from .result import Evaluation

if TYPE_CHECKING:
    from distributed import Client as DaskClient

    from .cases import CaseSource

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
    run = Run(Plan(cases, checks, configs, repeats, concurrency, rate_limit), on)
    if on is not None:
        wait(spawn(check_workers(on)))
    # The inbox first: an interrupt must not come between the opening of the file and its `with`.
    with InterruptInbox() as inbox, run.opened(path, resume=resume, progress=progress) as state:
        turns = Pulled(run.ended(), inbox)
        try:
            inbox.run(state.rescore)
            for ended in turns:
                run.take(ended, inbox.run(judged, state.checks, ended.seen))
        except KeyboardInterrupt:
            state.interrupted = True
            for ended in turns.stop(_STOP_WAIT_S):
                run.take(ended, inbox.run(judged, state.checks, ended.seen))
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
    run = Run(Plan(cases, checks, configs, repeats, concurrency, rate_limit), on)
    if on is not None:
        await check_workers(on)
    with contextlib.ExitStack() as stack:
        with InterruptInbox() as inbox:  # as above
            state = stack.enter_context(run.opened(path, resume=resume, progress=progress))
        if inbox.stopped:
            raise KeyboardInterrupt
        with contextlib.suppress(KeyboardInterrupt):  # of a check
            state.interrupted = True
            for key, number, seen, unjudged in state.unjudged():
                state.set_scores(key, number, await ajudged(unjudged, seen))
            async with contextlib.aclosing(run.ended()) as turns:
                async for ended in turns:
                    run.take(ended, await ajudged(state.checks, ended.seen))
            state.interrupted = False
    return Evaluation(state)
