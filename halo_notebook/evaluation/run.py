"""Send many cases to an agent, judge the replies as they come, and return the result."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..concurrency.interrupts import InterruptInbox, wait
from ..concurrency.loop import spawn
from ..concurrency.pulled import Pulled
from .file.stored_turns import unjudged
from .judging.concurrent_checks import one_by_one
from .result import Evaluation
from .sending.configs import hidden_tokens
from .sending.conversations import Run
from .sending.dask import check_workers
from .sending.plan import Plan

if TYPE_CHECKING:
    from distributed import Client as DaskClient

    from .cases.case import CaseSource
    from .judging.checks import Checks
    from .sending.configs import Config

# Threads that take turns for each message would cost more than what they do.
_JUDGED_EVERY_S = 0.02
_LONG_RUN = 100  # conversations
_MOST_NEW = 20_000  # objects, before they are searched for garbage
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
    check_concurrency: int | None = None,
    check_threads: bool = False,
) -> Evaluation:
    """Send all `cases` to an agent, judge its replies, and return the result.

    An interrupt (the kernel's Stop) ends it with an incomplete result, which the same call resumes with a
    `path`; before anything is sent it raises KeyboardInterrupt.

    Args:
        cases: see `read_cases`.
        checks: functions of a reply, see `halo_notebook.checks`; a list, or a dict by name.
        configs: name → request fields that go with each message (``{"agent_id": …}``), or a
            client. None: one, ``default``, with the kernel's own client.
        repeats: how often each case is sent.
        concurrency: how many conversations run at a time.
        rate_limit: messages per minute, all together; None for no limit.
        path: the file that holds the result (JSON lines); None for one that is deleted with the result.
        resume: True sends what `path` does not hold, except messages that may have reached the agent.
            ``"interrupted"`` sends these again, too, in fresh sessions: choose it when a message that
            arrives twice does no harm. False refuses a file that is not empty.
        progress: whether to show progress.
        on: a synchronous `distributed.Client`: its cluster's workers, which need `halo-notebook[dask]`, send
            the messages and read the replies. Everything else stays in this process. Key and user token go
            to the workers: use TLS on more than one machine.
        check_concurrency: how many turns are judged at a time, each by all of its checks together; None for
            as many as `concurrency`. It is for async checks and `check_threads`.
        check_threads: whether sync checks are called on threads, and so at the same time. Otherwise they are
            called on the caller's thread, one after the other.

    Raises:
        InvalidRequest: naming the case, check or configuration that is not valid.
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
    configs = hidden_tokens(configs)
    # The inbox first: an interrupt must not come between the opening of the file and its `with`.
    with contextlib.ExitStack() as stack:
        inbox = stack.enter_context(InterruptInbox())
        with inbox.raising():
            run = Run(Plan(cases, checks, configs, repeats, concurrency, rate_limit, check_concurrency), on)
            if on is not None:
                wait(spawn(check_workers(on)))
        state = stack.enter_context(run.opened(path, inbox, resume=resume, progress=progress))
        # In a long run, searching all that the kernel holds for garbage again and again would hold up the
        # replies. Where something is frozen already (which takes a while to count), the program sees to it.
        if len(state.conversations) > _LONG_RUN and not gc.get_freeze_count():
            stack.callback(gc.unfreeze)
            gc.freeze()
            # By default, replies that wait for the checks already make so many objects that it searches them.
            most_new, *others = gc.get_threshold()
            if 0 < most_new < _MOST_NEW:
                stack.callback(gc.set_threshold, most_new, *others)
                gc.set_threshold(_MOST_NEW, *others)
        turns = Pulled(run.ended(), inbox, wake_every_s=_JUDGED_EVERY_S)
        try:
            run.jury(state.keep, in_threads=check_threads).judge(unjudged(state), inbox)
            run.jury(run.take, in_threads=check_threads, users=run.async_users).judge(turns, inbox)
        except KeyboardInterrupt:
            state.interrupted = True
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
    check_concurrency: int | None = None,
    check_threads: bool = False,
) -> Evaluation:
    """As `evaluate`, on the caller's own loop: async checks may hold objects that belong to it."""
    configs = hidden_tokens(configs)
    run = Run(Plan(cases, checks, configs, repeats, concurrency, rate_limit, check_concurrency), on)
    if on is not None:
        await check_workers(on)
    with contextlib.ExitStack() as stack:
        with InterruptInbox() as inbox:  # as above
            state = stack.enter_context(run.opened(path, inbox, resume=resume, progress=progress))
        if inbox.stopped:
            raise KeyboardInterrupt
        with contextlib.suppress(KeyboardInterrupt):  # of a check
            state.interrupted = True
            jury = run.jury(state.keep, in_threads=check_threads)
            await jury.ajudge(one_by_one(unjudged(state)))
            async with contextlib.aclosing(run.ended()) as turns:
                await run.jury(run.take, in_threads=check_threads).ajudge(turns)
            state.interrupted = inbox.stopped  # by a case's user
    return Evaluation(state)
