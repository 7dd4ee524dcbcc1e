"""Messages leave as fast as the user and the server want them, and as soon as there is a connection."""

from __future__ import annotations

import asyncio
import contextlib
import json
import selectors
import subprocess
import sys
import threading
import time
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import HaloClient, errors
from halo_notebook.demo import DEMO_KEY, DemoAgent
from halo_notebook.evaluation import aevaluate, evaluate
from halo_notebook.evaluation.file.lines import located_lines
from halo_notebook.evaluation.sending import conversations, pace
from halo_notebook.evaluation.sending.pace import Connections, Pace

from ..agents import causes, in_two_parts, messages, ok, states, wait_until
from ..limited import Limited, bucket, fixed, sliding

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from halo_notebook import Reply

    from ..conftest import Run

# --- The pace, on a clock of the test's own ---------------------------------------------


class _Hurried(selectors.DefaultSelector):
    """Never waits: the time for which it should wait has passed at once."""

    now_s = 1000.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everything waits, and nothing will happen"
        self.now_s += timeout
        return super().select(0)


def hurried(coroutine: Coroutine[Any, Any, object]) -> float:
    """Run it on a loop whose clock jumps from one timer to the next. Returns the seconds on that clock."""
    selector = _Hurried()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now_s  # type: ignore[method-assign]
    loop.slow_callback_duration = 1e9
    try:
        loop.run_until_complete(coroutine)
    finally:
        loop.close()
    return selector.now_s - _Hurried.now_s


async def send_all(
    pace: Pace,
    takes: Callable[[float], bool],
    count: int,
    concurrency: int,
    *,
    answer_s: float = 0.05,
    reply_s: float = 0.2,
    left: list[float] | None = None,
) -> None:
    """Send messages as an evaluation does, to a server that takes one when `takes` says so."""
    todo = list(range(count))
    now = asyncio.get_running_loop().time

    async def work() -> None:
        while todo:
            todo.pop()
            while True:
                departure = await pace.leave()
                assert departure is not None
                if left is not None:
                    left.append(now())
                await asyncio.sleep(answer_s / 2)
                taken = takes(now())
                await asyncio.sleep(answer_s / 2)
                if taken:
                    break
                pace.refused(departure, 0.0)
            pace.taken(departure)
            await asyncio.sleep(reply_s)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())


@pytest.mark.parametrize("concurrency", [8, 30, 100])
@pytest.mark.parametrize(
    ("takes", "count", "ideal_s"),
    [
        (partial(fixed, 60, 10), 120, 10),
        (partial(sliding, 60, 10), 120, 10),
        (partial(fixed, 60, 10), 600, 90),
        (partial(sliding, 60, 10), 600, 90),
        (partial(fixed, 300, 60), 600, 60),
        (partial(bucket, 6, 60), 120, 10),
        (partial(bucket, 6, 1), 120, 20),
        (partial(bucket, 1, 5), 60, 55),
        (partial(fixed, 10, 60), 30, 120),
    ],
    ids=[
        *("fixed", "sliding", "fixed for longer", "sliding for longer", "fixed minute"),
        *("bucket", "no two at once", "slow bucket", "slow minute"),
    ],
)
def test_a_server_with_a_rate_limit_is_met_within_twice_the_ideal_time(
    takes: Any, count: int, ideal_s: float, concurrency: int
) -> None:
    """Whatever its windows are, and though it does not say when it takes messages again."""
    ideal_s += count * 0.25 / concurrency
    assert hurried(send_all(Pace(None), takes(), count, concurrency)) <= 2 * ideal_s


@pytest.mark.parametrize("reply_s", [0.0, 1.0, 20.0])
def test_the_full_pace_is_back_soon_after_refusals(reply_s: float) -> None:
    """However long replies take: a message that is not refused at once has been taken."""
    until_s = _Hurried.now_s + 12

    def takes(now: float) -> bool:
        return now >= until_s

    took_s = hurried(send_all(Pace(None), takes, 200, 100, reply_s=reply_s))
    assert took_s <= 1.5 * 12 + 2 + 2 * (reply_s + 0.05)


def test_messages_refused_together_pause_once() -> None:
    """A burst of refusals is one sign that it was too fast, not one for each."""

    async def run() -> None:
        made = Pace(None)
        together = [await made.leave() for _ in range(12)]
        for departure in together:
            assert departure is not None
            made.refused(departure, 0.0)
        await made.leave()

    assert hurried(run()) == pytest.approx(pace.FIRST_PAUSE_S)


@pytest.mark.parametrize("asked_s", [1.0, 7.5, 60.0])
def test_retry_after_is_kept_to(asked_s: float) -> None:
    """All conversations wait as long as the server asks, and then no longer."""
    until_s = _Hurried.now_s + asked_s
    left: list[float] = []

    async def run() -> None:
        made = Pace(None)
        refused = await made.leave()
        assert refused is not None
        made.refused(refused, asked_s)
        await send_all(made, lambda now: now >= until_s, 50, 10, left=left)

    hurried(run())
    assert left[0] == pytest.approx(until_s) and len(left) == 50


@pytest.mark.parametrize(("per_minute", "concurrency"), [(600, 8), (60, 3), (6000, 100)])
def test_the_users_rate_is_exact(per_minute: float, concurrency: int) -> None:
    """Messages leave at equal distances, after a refusal too; only one that waits for an answer is later."""
    left: list[float] = []
    hurried(send_all(Pace(per_minute), lambda now: True, 100, concurrency, reply_s=0.0, left=left))
    gaps = [after - before for before, after in pairwise(left)]
    assert gaps == [pytest.approx(60 / per_minute)] * 99
    left.clear()
    hurried(send_all(Pace(per_minute), fixed(40, 20), 100, concurrency, left=left))
    assert min(after - before for before, after in pairwise(left)) > 0.999 * 60 / per_minute


def test_a_late_clock_does_not_slow_the_users_rate_down() -> None:
    """What a busy loop is late with one message is made up for with the next."""

    async def run() -> None:
        made = Pace(600)

        async def leave() -> None:
            await made.leave()
            selector.now_s += 0.04  # the loop computes

        await asyncio.gather(*(leave() for _ in range(50)))

    selector = _Hurried()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now_s  # type: ignore[method-assign]
    loop.run_until_complete(run())
    loop.close()
    assert selector.now_s - _Hurried.now_s == pytest.approx(49 * 0.1 + 0.04)


def test_a_message_that_could_not_connect_does_not_slow_the_others_down() -> None:
    """It says nothing about the server's limit."""

    async def run() -> None:
        made = Pace(None)
        for _ in range(100):
            departure = await made.leave()
            assert departure is not None
            made.unsent(departure)

    assert hurried(run()) == 0


def test_a_configuration_that_was_reached_is_tried_for_longer() -> None:
    """Without any connection its address may be wrong, and each message fails soon."""

    async def given_up_after_s(reached: bool) -> None:
        connections, tries = Connections(1), 1
        if reached:
            connections.made("a")
        while (wait_s := connections.failed("a", tries, too_many_files=False)) is not None:
            tries += 1
            await asyncio.sleep(wait_s)
        assert connections.failed("a", 1, too_many_files=False) is None  # the next message
        assert connections.failed("b", 1, too_many_files=False) is not None

    assert 15 <= hurried(given_up_after_s(False)) <= 18
    assert 120 <= hurried(given_up_after_s(True)) <= 123


# --- An evaluation ----------------------------------------------------------------------


def always(now: float) -> bool:
    return True


def of(server: Limited) -> dict[str, HaloClient]:
    return {"demo": HaloClient(DEMO_KEY, base_url=server.url)}


@pytest.mark.parametrize(
    "takes", [fixed(30, 0.5), sliding(30, 0.5), bucket(60, 10)], ids=["fixed", "sliding", "bucket"]
)
def test_refused_messages_are_sent_until_they_are_taken(takes: Any, run: Run) -> None:
    """Each is taken once, and its row says how often it was refused."""
    with Limited(takes) as server:
        result = run(messages(60), [ok], configs=of(server), concurrency=16)
    assert states(result) == ["complete"] * 60 and len(server.taken) == 60
    assert sum(row["retries"] for row in result.rows()) == server.refused > 0


def test_a_storm_of_429_slows_all_conversations_down(agent: DemoAgent, run: Run) -> None:
    """Each refused message is sent again, and in the end the agent has taken each once."""
    agent.faults.extend(["429 retry-after"] * 5)
    rows = list(run(messages(12), concurrency=6).rows())
    assert {row["status"] for row in rows} == {"complete"}
    assert sum(row["retries"] for row in rows) == 5 and len(agent.requests) == 17
    assert all(row["queue_wait_s"] >= 1 and row["elapsed_s"] < 1 for row in rows if row["retries"])


def test_the_rate_limit_is_shared(run: Run) -> None:
    """Messages leave no faster than that many a minute, all together, and times count from their leaving."""
    began = time.monotonic()
    result = run(messages(6), concurrency=6, rate_limit=600)
    assert time.monotonic() - began >= 0.5
    rows = sorted(result.rows(), key=lambda row: row["queue_wait_s"])
    assert rows[-1]["queue_wait_s"] >= 0.45
    assert rows[-1]["first_text_s"] < 0.4


@pytest.mark.parametrize("concurrency", [1, 8, 40])
def test_an_outage_costs_no_message(concurrency: int, run: Run) -> None:
    """Messages wait for the server to come back, and none is sent twice."""
    with Limited(delay_s=0.02) as server:

        def leave_and_return() -> None:
            wait_until(lambda: len(server.taken) >= 20)
            server.go_away()
            time.sleep(0.6)
            server.listen()

        thread = threading.Thread(target=leave_and_return)
        thread.start()
        result = run(messages(100), configs=of(server), concurrency=concurrency)
        thread.join()
    # One that left just when the server closed its connection may have arrived.
    complete, interrupted = (states(result).count(status) for status in ("complete", "interrupted"))
    assert complete + interrupted == 100 and interrupted <= concurrency
    assert complete <= len(server.taken) <= 100


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
def test_a_server_that_asks_for_a_long_wait_ends_the_run(status: str, run: Run, kept: Path) -> None:
    """With one line. Replies on their way are kept, nothing more is sent, and the same call resumes."""
    with Limited(fixed(30, 1e9), retry_after="3600", delay_s=0.1, status=status) as server:
        with pytest.raises(errors.RateLimited, match=r"asks to wait for 3,600 s") as caught:
            run(messages(500), [ok], configs=of(server), concurrency=8, path=kept)
        assert str(caught.value).count("\n") == 0 and str(kept) in str(caught.value)
        assert len(server.taken) == 30 and server.refused <= 8
        server.takes = always
        result = run(messages(500), [ok], configs=of(server), concurrency=100, path=kept)
        assert states(result) == ["complete"] * 500 == ["complete"] * len(server.taken)


def test_a_run_without_a_path_that_is_ended_keeps_its_file(run: Run) -> None:
    """The error names it, and a call with this path resumes."""
    with Limited(fixed(3, 1e9), retry_after="999999") as server:
        with pytest.raises(errors.RateLimited) as caught:
            run(messages(9), configs=of(server), concurrency=1)
        path = Path(str(caught.value).split("path='")[1].partition("'")[0])
        server.takes = always
        assert states(run(messages(9), configs=of(server), path=path)) == ["complete"] * 9
        assert len(server.taken) == 9


def test_a_server_that_refuses_everything_ends_the_run(
    run: Run, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After as long as a run waits at most; nothing is lost."""
    monkeypatch.setattr(conversations, "MAX_WAIT_S", 0.5)
    with Limited(fixed(10, 1e9)) as server:
        with pytest.raises(errors.RateLimited, match="has refused every message"):
            run(messages(20), configs=of(server), concurrency=4, path=kept)
        assert len(server.taken) == 10
        server.takes = always
        assert states(run(messages(20), configs=of(server), path=kept)) == ["complete"] * 20
        assert len(server.taken) == 20


def test_a_message_that_is_always_refused_is_given_up(
    agent: DemoAgent, run: Run, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While others are taken; its row says why, and the next run sends it again."""
    monkeypatch.setattr(conversations, "MAX_REFUSALS", 3)
    agent.faults.extend(["429"] * 3)
    result = run(messages(5), concurrency=1, path=kept)
    assert states(result) == ["failed", *["complete"] * 4] and causes(kept)[0] == "limit"
    assert states(run(messages(5), path=kept)) == ["complete"] * 5
    assert len(agent.requests) == 8


_FEW_FILES = """
import json, resource, sys
from halo_notebook import HaloClient, evaluate
from halo_notebook.evaluation.sending import dask  # what a run imports, before there are few files
import aiohttp, pandas, scipy.stats, tqdm, tqdm.auto

for url, files in zip(sys.argv[1::2], sys.argv[2::2]):
    configs = {"demo": HaloClient("ab_live_test", base_url=url)}
    evaluate(["warm up"], configs=configs, progress=False)
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(files), resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    result = evaluate([f"message {n}" for n in range(90)], configs=configs, concurrency=90, progress=False)
    print(json.dumps([result.summary()["complete"].tolist(), result.notes()]))
"""


def test_too_many_open_files_are_reported_and_fewer_connections_opened() -> None:
    """All messages are sent all the same, each once."""
    allowed = [40, 60, 80]
    with Limited(delay_s=0.3) as first, Limited(delay_s=0.3) as second, Limited(delay_s=0.3) as third:
        servers = [first, second, third]
        given = [str(each) for pair in zip(servers, allowed, strict=True) for each in (pair[0].url, pair[1])]
        command = [sys.executable, "-c", _FEW_FILES, *given]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    for server, files, line in zip(servers, allowed, done.stdout.splitlines()[-3:], strict=True):
        complete, notes = json.loads(line)
        assert complete == [90] and len(server.taken) == 91 and server.most < files
        assert "had too many open files, so the run used" in notes[0]


@pytest.mark.parametrize("end", [SystemExit, pytest.exit.Exception, KeyboardInterrupt])
@pytest.mark.parametrize("on_own_loop", [False, True], ids=["evaluate", "aevaluate"])
def test_what_ends_a_run_stops_sending(end: type[BaseException], on_own_loop: bool, kept: Path) -> None:
    """At once, whatever a check raised: few messages were sent, and the file says what became of each."""

    def check(reply: Reply) -> bool:
        raise end("enough")

    with DemoAgent(first_byte_s=0, reply=in_two_parts(0.05)) as agent:
        configs = {"a": HaloClient(DEMO_KEY, base_url=agent.url)}
        settings: Any = {"configs": configs, "path": kept, "progress": False}
        with contextlib.suppress(end):
            if on_own_loop:
                asyncio.run(aevaluate(messages(300), [check], **settings))
            else:
                evaluate(messages(300), [check], **settings)
        count = len(agent.requests)
        assert 1 <= count < 100
        stored = [line["kind"] for _, line in located_lines(kept)]
        assert count <= stored.count("sent") == stored.count("turn") + stored.count("refused") < 100
