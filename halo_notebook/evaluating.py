"""Many cases asked of an agent: each a conversation of its own, kept as it goes, judged as it comes.

What it promises:

- Each case × configuration × repeat is a conversation with a fresh session. Its turns run in
  order; conversations run side by side.
- A turn is noted in the file before it is sent, and whole when it has ended. What had ended is
  not asked again when the evaluation is gone on with; what is known by its content, so an edited
  case is asked anew and an added one alone.
- A message that may have reached the agent is not sent again: such a turn is recorded as
  interrupted, also by the next run over the same file. Sent again is only what certainly did not
  arrive: no connection, 429, 503 with `Retry-After`; and then all slow down together.
- Times are the agent's: they count from when the message is written. What a conversation waited
  for its place stands beside them.

It does not know what a reply means; the checks say whether it passes.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import queue
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from . import bridge
from .cases import Case, CaseSource, digest, read_cases
from .checks import Check, call_check, checked_checks
from .client import AsyncHaloClient, HaloClient
from .connection import shared_by
from .errors import (
    ConnectionFailed,
    HaloError,
    InvalidRequest,
    RateLimited,
    ServerError,
    StatusError,
    UsageError,
)
from .evaluation import Conversation, Evaluation, status_of
from .journal import Journal, read_lines
from .request import plain_json

if TYPE_CHECKING:
    from .reply import Reply
    from .stream import JSON

Config: TypeAlias = "Mapping[str, Any] | HaloClient | AsyncHaloClient | None"
Checks: TypeAlias = "Sequence[Check] | Mapping[str, Check] | Check"

STREAMS_PER_CLIENT = 10
"""More open streams on one HTTP client distort the times that it takes."""
MAX_TRIES = 6
MAX_WAIT_S = 120.0


def evaluate(
    cases: CaseSource,
    checks: Checks = (),
    *,
    configs: Mapping[str, Config] | None = None,
    repeats: int = 1,
    concurrency: int = 8,
    rate_limit: float | None = None,
    path: str | Path | None = None,
    resume: bool = True,
    progress: bool = True,
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
        path: the file to keep it in (JSON lines); None for one that ends with the process.
        resume: whether to go on with what `path` holds; False refuses a file that holds something.
        progress: whether to show how far it is.

    Returns:
        an `Evaluation`.

    Raises:
        InvalidRequest: naming the case, check or configuration that makes no sense.
        UsageError: when the file cannot be used.
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
    evaluation, journal = plan.opened(path, resume=resume)
    channel: bridge.Channel[_Ended | None] = bridge.Channel()

    async def run() -> None:
        try:
            await _Run(plan, journal, evaluation, channel.put).run()
        finally:
            channel.put(None)

    with contextlib.closing(journal), _progress(evaluation, shown=progress) as tick:
        future = bridge.io_thread.submit(run())
        try:
            while (ended := channel.get()) is not None:
                evaluation.judge_reply(ended.key, ended.turn, ended.reply, ended.expect)
                tick()
        except KeyboardInterrupt:
            future.cancel()
            _drain(channel)
            evaluation.interrupted = True
        else:
            future.result()
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
    resume: bool = True,
    progress: bool = True,
) -> Evaluation:
    """As `evaluate`, on the caller's own loop: its async checks may hold what belongs to that loop."""
    plan = _Plan.made(cases, checks, configs, repeats, concurrency, rate_limit)
    evaluation, journal = plan.opened(path, resume=resume)
    judging: asyncio.Queue[_Ended | None] = asyncio.Queue()
    with contextlib.closing(journal), _progress(evaluation, shown=progress) as tick:

        async def run() -> None:
            try:
                await _Run(plan, journal, evaluation, judging.put_nowait).run()
            finally:
                judging.put_nowait(None)

        running = asyncio.ensure_future(run())
        try:
            while (ended := await judging.get()) is not None:
                for name, check in plan.checks.items():
                    try:
                        verdict = call_check(check, ended.reply, ended.expect)
                        verdict = await verdict if hasattr(verdict, "__await__") else verdict
                    except Exception as error:  # noqa: BLE001  # a user's own may raise anything
                        verdict = error
                    evaluation.judge(ended.key, ended.turn, name, verdict)
                tick()
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    return evaluation


@dataclass(frozen=True)
class _Ended:
    """A turn that has ended, to be judged."""

    key: str
    turn: int
    reply: Reply
    expect: JSON


@dataclass(frozen=True)
class _Target:
    """A configuration: who is asked, with which fields."""

    name: str
    client: AsyncHaloClient
    fields: dict[str, Any]

    @property
    def content_key(self) -> str:
        return digest([self.client.base_url, plain_json(self.fields, f"configuration {self.name!r}")])


@dataclass(frozen=True)
class _Plan:
    """What is to be asked, checked before anything is sent."""

    cases: list[Case]
    checks: dict[str, Check]
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
        _need("filelock", "pandas", "scipy", "tqdm")
        counts: dict[str, Any] = {"repeats": repeats, "concurrency": concurrency}
        for name, value in counts.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidRequest(
                    f"{name} must be a whole number from 1, not {value!r}. Nothing was sent."
                )
        if rate_limit is not None and not rate_limit > 0:
            raise InvalidRequest(f"rate_limit must be above 0, not {rate_limit!r}. Nothing was sent.")
        read = read_cases(cases)
        targets = {name: _target(name, config) for name, config in (configs or {"default": None}).items()}
        for target in targets.values():
            for case in read:
                for turn in case.turns:
                    target.client.prepare(turn.say, **{**target.fields, **turn.fields})
        return cls(read, checked_checks(checks), targets, repeats, concurrency, rate_limit)

    def conversations(self) -> list[Conversation]:
        """All of them, in the order in which they are begun: configurations take turns."""
        copies: Counter[str] = Counter()
        made = []
        for repeat in range(1, self.repeats + 1):
            for case in self.cases:
                for target in self.targets.values():
                    content = digest([case.content_key, target.content_key, repeat])
                    copies[content] += 1  # two cases, or two configurations, may be the same
                    made.append(Conversation(f"{content}-{copies[content]}", case, target.name, repeat))
        return made

    def opened(self, path: str | Path | None, *, resume: bool) -> tuple[Evaluation, Journal]:
        """The evaluation as its file knows it, and the file to go on in."""
        if path is None:
            file = Path(tempfile.mkdtemp(prefix="halo-evaluation-")) / "evaluation.jsonl"
        else:
            file = Path(path).expanduser()
        journal = Journal(file)
        try:
            if not resume and file.stat().st_size:
                raise InvalidRequest(
                    f"{file.name!r} holds an evaluation. Nothing was sent; go on with it (resume=True), or "
                    "give another path."
                )
            conversations = self.conversations()
            evaluation = Evaluation(file, conversations, self.checks, list(self.targets))
            evaluation.take(read_lines(file))
            evaluation.rescore(self.checks)
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
            ).result()
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
        if "session_id" in fields:
            raise InvalidRequest(
                f"Configuration {name!r} has a session_id. Nothing was sent; each conversation has its own."
            )
        if client is None:
            from IPython.core.getipython import get_ipython

            client = shared_by(get_ipython())[0].client()[0]
    else:
        raise InvalidRequest(
            f"Configuration {name!r} is {type(config).__name__}. Nothing was sent; give request fields or a "
            "client."
        )
    inner = client._client if isinstance(client, HaloClient) else client
    return _Target(name, inner, fields)


@dataclass
class _Pace:
    """One clock for all conversations: the rate that the user wants, and what the server asks for."""

    per_minute: float | None
    _next: float = 0.0
    _paused_until: float = 0.0
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

    def slow_down(self, wait_s: float) -> None:
        """The server takes no more: all wait, and go on at half the pace."""
        self._paused_until = max(self._paused_until, time.perf_counter() + wait_s)
        self._gap_s = min(max(2 * self._gap_s, 0.02), 10.0)

    def taken(self) -> None:
        """A message was taken: somewhat faster again, down to what the user wants."""
        self._gap_s = max(self._least_s, self._gap_s * 0.9 if self._gap_s > 0.005 else 0.0)


class _Run:
    """The conversations that are to be had, so many at a time, on the running loop."""

    def __init__(
        self,
        plan: _Plan,
        journal: Journal,
        evaluation: Evaluation,
        ended: Callable[[_Ended], Any],
    ) -> None:
        self._plan = plan
        self._journal = journal
        self._evaluation = evaluation
        self._todo = deque(evaluation.unfinished())
        self._ended = ended
        self._pace = _Pace(plan.rate_limit)
        self._began = time.perf_counter()
        # Sent again is what certainly did not arrive, by us, so that all slow down together.
        shards = -(-plan.concurrency // STREAMS_PER_CLIENT)
        self._clients = {
            name: [target.client.copy(max_retries=0) for _ in range(shards)]
            for name, target in plan.targets.items()
        }

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for number in range(min(self._plan.concurrency, len(self._todo))):
                    group.create_task(self._work(number // STREAMS_PER_CLIENT))
        finally:
            for clients in self._clients.values():
                for client in clients:
                    await client.aclose()

    async def _work(self, shard: int) -> None:
        while self._todo:
            conversation = self._todo.popleft()
            await self._converse(conversation, self._clients[conversation.config][shard])

    async def _converse(self, conversation: Conversation, client: AsyncHaloClient) -> None:
        session_id: str | None = None
        fields = self._plan.targets[conversation.config].fields
        for number, turn in enumerate(conversation.case.turns):
            given = {**fields, **turn.fields, "session_id": session_id}
            reply = await self._ask(conversation, number, client, given)
            expect = conversation.case.expected(number)
            self._ended(_Ended(conversation.key, number, reply, expect))
            if reply.status != "complete":
                return
            session_id = reply.session_id

    async def _ask(
        self,
        conversation: Conversation,
        number: int,
        client: AsyncHaloClient,
        fields: Mapping[str, Any],
    ) -> Reply:
        """Ask one turn, again only while it certainly did not arrive; it is on the disk when this returns."""
        ready = time.perf_counter()
        about: dict[str, JSON] = {"key": conversation.key, "turn": number}
        for tries in range(1, MAX_TRIES + 1):
            await self._pace.wait()
            try:
                # On the disk before it leaves: after any end it is known what may have arrived.
                await asyncio.wrap_future(self._note({"kind": "sent", **about, "at": _now()}))
            except asyncio.CancelledError:
                self._note({"kind": "refused", **about})
                raise
            stream = client.stream(conversation.case.turns[number].say, **cast(Any, fields))
            reply = stream.reply
            wait_s = time.perf_counter() - ready
            error: HaloError | None = None
            try:
                async with stream as events:
                    async for _ in events:
                        pass
            except HaloError as caught:
                error = caught
            finally:
                reply.retries = tries - 1
                again_s = _again_in_s(error, tries)
                record = self._record(about, conversation, reply, error, wait_s)
                kept = record if again_s is None else {"kind": "refused", **about}
                written = self._note(kept)
            if again_s is None:
                break
            self._pace.slow_down(again_s)
        if reply.status == "complete":
            self._pace.taken()
        await asyncio.wrap_future(written)
        return reply

    def _note(self, line: dict[str, JSON]) -> Future[None]:
        self._evaluation.take([line])
        return self._journal.append(line)

    def _record(
        self,
        about: Mapping[str, JSON],
        conversation: Conversation,
        reply: Reply,
        error: HaloError | None,
        wait_s: float,
    ) -> dict[str, JSON]:
        refused = isinstance(error, StatusError) and 400 <= error.status_code < 500
        return {
            "kind": "turn",
            **about,
            "case": conversation.case.id,
            "config": conversation.config,
            "repeat": conversation.repeat,
            "status": status_of(reply, refused=refused),
            "queue_wait_s": wait_s,
            "reply": reply.to_dict(),
        }


def _again_in_s(error: HaloError | None, tries: int) -> float | None:
    """How long to wait before a message that certainly did not arrive is sent again; None when it is not."""
    if tries >= MAX_TRIES:
        return None
    backoff_s: float = 0.25 * 2 ** (tries - 1)
    match error:
        case ConnectionFailed():
            return backoff_s
        case RateLimited() | ServerError(status_code=503):
            asked = error.retry_after_s
            if asked is None:
                return backoff_s if isinstance(error, RateLimited) else None
            return asked if asked <= MAX_WAIT_S else None
    return None


def _drain(channel: bridge.Channel[_Ended | None]) -> None:
    """Wait, for a bounded time, until what was cut short has been noted."""
    deadline = time.monotonic() + 5
    with contextlib.suppress(queue.Empty):
        while channel.get(max(0.0, deadline - time.monotonic()), calls=False) is not None:
            pass


@contextlib.contextmanager
def _progress(evaluation: Evaluation, *, shown: bool) -> Iterator[Callable[[], None]]:
    """A bar of turns, with passes and failures counted."""
    if not shown:
        yield lambda: None
        return
    from tqdm.auto import tqdm

    with tqdm(total=evaluation.turns_left(), unit="turn") as bar:

        def tick() -> None:
            bar.set_postfix_str(evaluation.tally(), refresh=False)
            bar.update()

        yield tick


def _need(*names: str) -> None:
    """Say at once what is not installed, and not when all has been asked."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UsageError(
                f"An evaluation needs the package {name}. Nothing was sent; run "
                "python -m pip install 'halo-notebook[eval]' where the kernel runs."
            )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
