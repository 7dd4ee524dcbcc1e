"""Many cases asked of an agent: each a conversation of its own, kept as it goes, judged as it comes.

What it promises:

- Each case × configuration × repeat is a conversation with a fresh session. Its turns run in
  order; conversations run side by side.
- A turn is noted in the file before it is sent, and whole when it has ended. What had ended is
  not asked again when the evaluation is gone on with; what is known by its content, so an edited
  case is asked anew and an added one alone.
- A message that may have reached the agent is not sent again by itself: such a turn is recorded
  as interrupted, also by the next run over the same file, until that is asked to. Sent again is
  only what certainly did not arrive: no connection, 429, 503 with `Retry-After`; and then all
  slow down together.
- Times are the agent's: they count from when the message is written. What a conversation waited
  for its place stands beside them.

It does not know what a reply means; the checks say whether it passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import inspect
import operator
import queue
import shutil
import tempfile
import time
import weakref
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from ..checks import Check, Judge, checked_checks
from ..client.aio import AsyncHaloClient
from ..client.request import plain_json
from ..client.sync import HaloClient
from ..concurrency import loop as bridge
from ..errors import InvalidRequest, UsageError
from ..kernel import current_client, source_of
from .cases import Case, CaseSource, digest, read_cases
from .dask import ClusterAsker, check_use, check_workers
from .journal import Journal, read_lines
from .result import Conversation, Evaluation
from .sender import COMPLETE, MAX_TRIES, Asker, LocalAsker, Outcome

if TYPE_CHECKING:
    from distributed import Client as DaskClient

    from ..reply import Reply
    from ..stream import JSON

Config: TypeAlias = "Mapping[str, Any] | HaloClient | AsyncHaloClient | None"
Checks: TypeAlias = "Sequence[Check] | Mapping[str, Check] | Check"

MAX_UNJUDGED = 100
"""Replies that may wait to be judged before no more are asked for: else slow checks would fill the memory."""


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
    """Ask an agent all `cases`, judge its replies, and return what came of it.

    An interrupt (the kernel's Stop) ends it with what there is by then: the result says that it
    is not whole, and the same call goes on from there when it has a `path`.

    Args:
        cases: see `read_cases`.
        checks: functions of a reply, see `halo_notebook.checks`; a list, or a dict by name.
        configs: name → request fields that go with each message (``{"agent_id": …}``), or a
            client. None: one, ``default``, with the kernel's own client.
        repeats: how often each case is asked.
        concurrency: how many conversations run at a time.
        rate_limit: messages a minute, all together; None for no limit.
        path: the file to keep it in (JSON lines); None for one that goes with the result.
        resume: True goes on with what `path` holds, and leaves alone what may have reached the agent;
            ``"interrupted"`` asks that again too, in fresh sessions: for you to say when a message that
            arrives twice does no harm. False refuses a file that holds something.
        progress: whether to show how far it is.
        on: a synchronous `distributed.Client`: its cluster's workers send the messages and read the replies
            (`halo-notebook[dask]`, installed there too). All the rest is as without it, here in this process:
            one rate limit for all workers, the file, which either way goes on with, and the checks. Key and
            user token go to the workers: a cluster on more than this machine should have TLS.

    Returns:
        an `Evaluation`.

    Raises:
        InvalidRequest: naming the case, check or configuration that makes no sense.
        UsageError: when the file cannot be used, or the cluster.
        ConfigError: when there is no agent to ask.

    >>> from halo_notebook.checks import contains
    >>> from halo_notebook.demo import DEMO_KEY, DemoAgent
    >>> with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
    ...     client = HaloClient(DEMO_KEY, base_url=agent.url)
    ...     case = {"turns": ["My name is Ada", "What is my name?"], "expect": "Ada"}
    ...     result = evaluate([case], [contains()], configs={"demo": client}, progress=False)
    >>> [row["status"] for row in result.rows()], result.passed("contains")
    (['complete', 'complete'], {'demo': {'1': [True]}})
    """
    plan = _Plan.made(cases, checks, configs, repeats, concurrency, rate_limit)
    if on is not None:
        plan.check_on(on)
        bridge.io_thread.run(check_workers(on))
    evaluation, journal = plan.opened(path, resume=resume)
    channel: bridge.Channel[_Ended | None] = bridge.Channel()
    todo = evaluation.unfinished(interrupted=resume == "interrupted")

    async def run() -> None:
        try:
            await _Run(plan, todo, journal, evaluation, channel.put, on=on).run()
        finally:
            channel.put(None)

    with contextlib.closing(journal), _progress(evaluation, todo, shown=progress) as tick:
        future = None
        try:
            evaluation.rescore()
            future = bridge.io_thread.submit(run())
            while (ended := channel.get()) is not None:
                evaluation.judge_reply(ended.key, ended.turn, ended.reply, ended.expect)
                ended.judged()
                tick(ended.settles)
            future.result()
        except KeyboardInterrupt:
            evaluation.interrupted = True
            if future is not None:
                future.cancel()
                for ended in _drained(channel):
                    evaluation.judge_reply(ended.key, ended.turn, ended.reply, ended.expect)
    return evaluation


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
    """As `evaluate`, on the caller's own loop: its async checks may hold what belongs to that loop."""
    plan = _Plan.made(cases, checks, configs, repeats, concurrency, rate_limit)
    if on is not None:
        plan.check_on(on)
        await check_workers(on)
    evaluation, journal = plan.opened(path, resume=resume)
    judging: asyncio.Queue[_Ended | None] = asyncio.Queue()
    todo = evaluation.unfinished(interrupted=resume == "interrupted")

    async def judge(key: str, turn: int, reply: Reply, expect: JSON) -> None:
        for name, check in plan.checks.items():
            try:
                verdict: Any = check(reply, expect)
                verdict = await verdict if inspect.isawaitable(verdict) else verdict
            except Exception as error:  # noqa: BLE001  # a user's own may raise anything
                verdict = error
            evaluation.judge(key, turn, name, verdict)

    with contextlib.closing(journal), _progress(evaluation, todo, shown=progress) as tick:
        for kept in evaluation.kept_replies() if plan.checks else ():
            await judge(*kept)

        async def run() -> None:
            try:
                await _Run(plan, todo, journal, evaluation, judging.put_nowait, on=on).run()
            finally:
                judging.put_nowait(None)

        running = asyncio.ensure_future(run())
        try:
            while (ended := await judging.get()) is not None:
                await judge(ended.key, ended.turn, ended.reply, ended.expect)
                ended.judged()
                tick(ended.settles)
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    return evaluation


@dataclass(frozen=True, slots=True)
class _Ended:
    """A turn that has ended, to be judged."""

    key: str
    turn: int
    reply: Reply
    expect: JSON
    settles: int  # turns: itself, and those that are not asked for its sake
    judged: Callable[[], object]  # to be called when it is


@dataclass(frozen=True)
class _Target:
    """A configuration: who is asked, with which fields."""

    name: str
    client: AsyncHaloClient
    fields: dict[str, Any]

    @property
    def content_key(self) -> str:
        """Whom its messages go to, and what goes with each."""
        return digest([self.client.identity, plain_json(self.fields, f"configuration {self.name!r}")])


@dataclass(frozen=True)
class _Plan:
    """What is to be asked, checked before anything is sent."""

    cases: list[Case]
    checks: dict[str, Judge]
    targets: dict[str, _Target]
    repeats: int
    concurrency: int
    rate_limit: float | None

    @classmethod
    def made(  # noqa: PLR0917  # what both faces were given, in their order
        cls,
        cases: CaseSource,
        checks: Checks,
        configs: Mapping[str, Config] | None,
        repeats: int,
        concurrency: int,
        rate_limit: float | None,
    ) -> _Plan:
        _need("An evaluation", "eval", "aiohttp", "filelock", "pandas", "scipy", "tqdm")
        repeats, concurrency = _count("repeats", repeats), _count("concurrency", concurrency)
        if rate_limit is not None and not rate_limit > 0:
            raise InvalidRequest(f"rate_limit must be above 0, not {rate_limit!r}. Nothing was sent.")
        read = read_cases(cases)
        if not isinstance(configs, Mapping | None):
            raise InvalidRequest(
                f"configs is {type(configs).__name__}. Nothing was sent; give a dict, from names to request "
                "fields or clients."
            )
        named = {str(name): config for name, config in (configs or {"default": None}).items()}
        targets = {name: _target(name, config) for name, config in named.items()}
        for target in targets.values():
            for case in read:
                for turn in case.turns:
                    target.client.prepare(turn.message, **{**target.fields, **turn.fields})
        return cls(read, checked_checks(checks), targets, repeats, concurrency, rate_limit)

    @property
    def clients(self) -> dict[str, AsyncHaloClient]:
        """Who is asked, by the configuration's name."""
        return {name: target.client for name, target in self.targets.items()}

    def check_on(self, on: DaskClient) -> None:
        """Refuse what cannot run on that cluster; its workers are another matter."""
        _need("An evaluation on a Dask cluster", "dask", "distributed")
        check_use(on, self.clients, self.concurrency)

    def conversations(self) -> list[Conversation]:
        """All of them, in the order in which they are begun: configurations take turns."""
        copies: Counter[str] = Counter()
        made = []
        case_keys = [case.content_key for case in self.cases]
        targets = [(target, target.content_key) for target in self.targets.values()]
        for repeat in range(1, self.repeats + 1):
            for case, case_key in zip(self.cases, case_keys, strict=True):
                for target, target_key in targets:
                    content = digest([case_key, target_key, repeat])
                    copies[content] += 1  # two cases, or two configurations, may be the same
                    made.append(Conversation(f"{content}-{copies[content]}", case, target.name, repeat))
        return made

    def opened(self, path: str | Path | None, *, resume: bool | str) -> tuple[Evaluation, Journal]:
        """The evaluation as its file knows it, and the file to go on in."""
        folder = tempfile.mkdtemp(prefix="halo-evaluation-") if path is None else None
        file = Path(folder, "evaluation.jsonl") if folder else Path(cast("str | Path", path)).expanduser()
        if resume not in (True, False, "interrupted"):
            raise InvalidRequest(
                f"resume must be True, False or 'interrupted', not {resume!r}. Nothing was sent."
            )
        journal = Journal(file)
        try:
            if not resume and file.stat().st_size:
                raise InvalidRequest(
                    f"{file.name!r} holds an evaluation. Nothing was sent; go on with it (resume=True), or "
                    "give another path."
                )
            conversations = self.conversations()
            sources = {name: source_of(client.base_url) for name, client in self.clients.items()}
            evaluation = Evaluation(file, conversations, self.checks, sources)
            if folder:
                weakref.finalize(evaluation, shutil.rmtree, folder, ignore_errors=True)
            evaluation.take(read_lines(file))
            asked: JSON = [conversation.key for conversation in conversations]
            journal.append(
                {
                    "kind": "run",
                    "format": 1,
                    "fingerprint": digest(asked),
                    "at": _now(),
                    "conversations": len(conversations),
                    "configs": {target.name: target.client.base_url for target in self.targets.values()},
                }
            )
        except BaseException:
            journal.close()
            raise
        return evaluation, journal


def _target(name: str, config: Config) -> _Target:
    client: Any
    fields: dict[str, Any] = {}
    if isinstance(config, (HaloClient, AsyncHaloClient)):
        client = config
    elif config is None or isinstance(config, Mapping):
        fields = dict(config or {})
        client = fields.pop("client", None)
        for own in ("message", "session_id"):
            if own in fields:
                raise InvalidRequest(
                    f"Configuration {name!r} has a {own}. Nothing was sent; each conversation has its own."
                )
        if not isinstance(client, HaloClient | AsyncHaloClient | None):
            raise InvalidRequest(
                f"Configuration {name!r} has a client that is {type(client).__name__}. Nothing was sent; "
                "give a HaloClient."
            )
        if client is None:
            client = current_client()
    else:
        raise InvalidRequest(
            f"Configuration {name!r} is {type(config).__name__}. Nothing was sent; give request fields or a "
            "client."
        )
    inner = client.aio if isinstance(client, HaloClient) else client
    return _Target(name, inner, fields)


@dataclass
class _Pace:
    """One clock for all conversations: the rate that the user wants, and what the server asks for."""

    per_minute: float | None
    _next: float = 0.0
    _paused_until: float = 0.0
    _slowed_at: float = 0.0
    _gap_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._gap_s = 60 / self.per_minute if self.per_minute else 0.0
        self._least_s = self._gap_s

    async def wait(self) -> None:
        """Wait for the next place."""
        while True:
            now = time.perf_counter()
            at = max(now, self._next, self._paused_until)
            self._next = at + self._gap_s
            if at > now:
                await asyncio.sleep(at - now)
            if self._paused_until <= time.perf_counter():
                return

    def slow_down(self, wait_s: float, sent_at: float) -> None:
        """The server takes no more: all wait, and go on at half the pace.

        Args:
            wait_s: for how long.
            sent_at: when the message left that was not taken, on `time.perf_counter`. Those that were on
                their way together are refused together, which halves the pace once.
        """
        now = time.perf_counter()
        self._paused_until = max(self._paused_until, now + wait_s)
        if sent_at >= self._slowed_at:
            self._slowed_at = now
            self._gap_s = min(max(2 * self._gap_s, 0.02), 10.0)

    def taken(self) -> None:
        """A message was taken: somewhat faster again, down to what the user wants."""
        self._gap_s = max(self._least_s, self._gap_s * 0.9 if self._gap_s > 0.005 else 0.0)


class _Run:
    """The conversations that are to be had, so many at a time, on the running loop."""

    def __init__(
        self,
        plan: _Plan,
        todo: Sequence[Conversation],
        journal: Journal,
        evaluation: Evaluation,
        ended: Callable[[_Ended], object],
        *,
        on: DaskClient | None,
    ) -> None:
        self._plan = plan
        self._todo = deque(todo)
        self._journal = journal
        self._evaluation = evaluation
        self._ended = ended
        self._pace = _Pace(plan.rate_limit)
        self._asker: Asker = LocalAsker(plan.clients) if on is None else ClusterAsker(on, plan.clients)
        self._given = 0  # replies to be judged, and how many of them have been, by another thread
        self._judged = 0

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(self._plan.concurrency, len(self._todo))):
                    group.create_task(self._work())
        except BaseExceptionGroup as errors:
            # One is enough to say what has to be done: they have the same cause.
            raise errors.exceptions[0] from None
        finally:
            lag_s = await self._asker.aclose()
            if lag_s is not None:
                self._note({"kind": "lag", "p90_s": lag_s})

    async def _work(self) -> None:
        while self._todo:
            await self._converse(self._todo.popleft())

    async def _converse(self, conversation: Conversation) -> None:
        session_id: str | None = None
        fields = self._plan.targets[conversation.config].fields
        for number, turn in enumerate(conversation.case.turns):
            # Looked at now and then: to be woken for each reply would cost more than it seldom saves.
            while self._given - self._judged >= MAX_UNJUDGED:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            given = {**fields, **turn.fields, "session_id": session_id}
            reply = await self._ask(conversation, number, given)
            expect = conversation.case.expected(number)
            self._given += 1
            goes_on = reply.status == "complete"
            settles = 1 if goes_on else len(conversation.case.turns) - number
            self._ended(_Ended(conversation.key, number, reply, expect, settles, self._count_judged))
            if not goes_on:
                return
            session_id = reply.session_id

    def _count_judged(self) -> None:
        self._judged += 1

    async def _ask(self, conversation: Conversation, number: int, fields: Mapping[str, Any]) -> Reply:
        """Ask one turn, again only while it certainly did not arrive."""
        ready = time.perf_counter()
        about: dict[str, JSON] = {"key": conversation.key, "turn": number}
        for tries in range(1, MAX_TRIES + 1):
            await self._asker.ready()
            await self._pace.wait()
            try:
                # On the disk before it leaves: after any end it is known what may have arrived.
                sent: dict[str, JSON] = {"kind": "sent", **about, "at": _now()}
                self._evaluation.take([sent])
                await self._journal.confirmed(sent)
            except BaseException:
                self._note({"kind": "refused", **about})
                raise
            sent_at = time.perf_counter()
            wait_s = sent_at - ready
            outcome = Outcome()
            message = conversation.case.turns[number].message
            try:
                await self._asker.ask(outcome, conversation.config, message, fields, tries)
            finally:
                self._note(
                    self._record(about, conversation, outcome, wait_s)
                    if outcome.again_s is None
                    else {"kind": "refused", **about}
                )
            if outcome.again_s is None:
                break
            self._pace.slow_down(outcome.again_s, sent_at)
        if outcome.status == COMPLETE:
            self._pace.taken()
        return outcome.reply

    def _note(self, line: dict[str, JSON]) -> None:
        self._evaluation.take([line])
        self._journal.append(line)

    def _record(
        self,
        about: Mapping[str, JSON],
        conversation: Conversation,
        outcome: Outcome,
        wait_s: float,
    ) -> dict[str, JSON]:
        return {
            "kind": "turn",
            **about,
            "case": conversation.case.id,
            "config": conversation.config,
            "repeat": conversation.repeat,
            "status": outcome.status,
            "queue_wait_s": wait_s,
            "reply": outcome.reply.to_dict(),
        }


def _drained(channel: bridge.Channel[_Ended | None]) -> list[_Ended]:
    """What had ended by now. Waits, for a bounded time, until what was cut short has been noted."""
    deadline = time.monotonic() + 5
    left = []
    with contextlib.suppress(queue.Empty):
        while (ended := channel.get(max(0.0, deadline - time.monotonic()), calls=False)) is not None:
            left.append(ended)
    return left


@contextlib.contextmanager
def _progress(
    evaluation: Evaluation, todo: Sequence[Conversation], *, shown: bool
) -> Iterator[Callable[[int], None]]:
    """A bar of turns, with passes and failures counted."""
    if not shown:
        yield lambda turns: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=sum(len(each.case.turns) for each in todo), unit="turn") as bar:

        def tick(turns: int) -> None:
            bar.set_postfix_str(evaluation.tally(), refresh=False)
            bar.update(turns)

        yield tick


def _count(name: str, value: Any) -> int:
    """A whole number from 1, of whatever kind, as Python's own."""
    try:
        count = 0 if isinstance(value, bool) else operator.index(value)
    except TypeError:
        count = 0
    if count < 1:
        raise InvalidRequest(f"{name} must be a whole number from 1, not {value!r}. Nothing was sent.")
    return count


def _need(what: str, extra: str, *names: str) -> None:
    """Say at once what is not installed, and not when all has been asked."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UsageError(
                f"{what} needs the package {name}. Nothing was sent; run "
                f"python -m pip install 'halo-notebook[{extra}]' where the kernel runs."
            )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
