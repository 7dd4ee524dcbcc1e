"""Evaluations on a Dask cluster: two worker processes of a real `LocalCluster`, and a real agent."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import pickle
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import halo_notebook
from halo_notebook import AsyncHaloClient, HaloClient, Reply, errors
from halo_notebook.checks import contains
from halo_notebook.demo import DEMO_KEY, DemoAgent, Step, sign_user_token
from halo_notebook.evaluation import aevaluate
from halo_notebook.evaluation.file.lines import located_lines
from halo_notebook.evaluation.sending import dask as cluster
from halo_notebook.recording.recorder import Recorder
from halo_notebook.stream import JSON, TextDelta

from ..agents import causes, messages, ok, sent, states, wait_until

if TYPE_CHECKING:
    from distributed import Client

    from ..conftest import Run


@contextmanager
def running(workers: int) -> Iterator[Client]:
    """A cluster of worker processes with a thread each, and its client."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        ) as local,
        Client(local) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Client]:
    """One cluster for the file."""
    with running(2) as client:
        yield client


@pytest.fixture
def dask(two_workers: Client) -> Client:
    """The cluster with both of its workers, also after a test that ended one."""
    two_workers.wait_for_workers(2, timeout=30)
    return two_workers


@pytest.fixture
def run_on(run: Run, dask: Client) -> Run:
    """`evaluate` on the cluster."""
    return partial(run, on=dask)


def started() -> dict[int, int]:
    """In a worker: its process → how many turns it was given by the runs that are there."""
    return {os.getpid(): sum(len(sender.tickets) for sender in cluster.senders.values())}


def held(dask_scheduler: Any = None) -> tuple[int, int]:
    """On the scheduler: how many workers it would close, and how many tasks it knows."""
    return len(dask_scheduler.workers_to_close(n=2)), len(dask_scheduler.tasks)


@contextmanager
def waiting_agent(first: int, released: threading.Event) -> Iterator[tuple[DemoAgent, dict[str, HaloClient]]]:
    """Its replies have two parts; from the `first` message on, the last part waits for `released`."""

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta("first ")
        while int(str(request["message"]).split()[1]) >= first and not released.is_set():
            yield 0.02
        yield TextDelta("and last")

    with DemoAgent(first_byte_s=0, reply=reply) as agent:
        yield agent, {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}


@contextmanager
def meanwhile(what: Callable[[], None]) -> Iterator[None]:
    thread = threading.Thread(target=what)
    thread.start()
    yield
    thread.join()


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_cases_user_stays_in_this_process(is_async: bool, agent: DemoAgent, run_on: Run) -> None:
    """It may hold what no other process can get; its messages are sent by the workers, in one session."""
    lock = threading.Lock()

    def user(conversation: Any) -> str | None:
        with lock:
            return None if len(conversation) == 3 else f"{os.getpid()} {len(conversation)}"

    async def user_later(conversation: Any) -> str | None:
        return user(conversation)

    result = run_on([user_later if is_async else user], [ok])
    assert sent(agent) == [f"{os.getpid()} {number}" for number in range(3)]
    assert states(result) == ["complete"] * 3 and len({row["session_id"] for row in result.rows()}) == 1


def test_all_workers_send_and_are_released_afterwards(dask: Client, run_on: Run) -> None:
    """Turns are spread over them, more than they have threads; they are closed as idle only after the run."""
    seen: list[dict[str, dict[int, int]]] = []
    released = threading.Event()

    def look() -> None:
        wait_until(lambda: len(agent.requests) == 12)
        wait_until(lambda: dask.run_on_scheduler(held) == (0, 2))
        seen.append(dask.run(started))
        released.set()

    with waiting_agent(0, released) as (agent, configs), meanwhile(look):
        result = run_on(messages(12), configs=configs, concurrency=12)
    assert states(result) == ["complete"] * 12
    given = {pid: count for each in seen[0].values() for pid, count in each.items()}
    assert os.getpid() not in given and list(given.values()) == [6, 6]
    wait_until(lambda: dask.run_on_scheduler(held) == (2, 0))
    assert not any(count for each in dask.run(started).values() for count in each.values())


def test_a_conversation_continues_on_any_worker(agent: DemoAgent, run_on: Run) -> None:
    """Its turns have one session, and the whole reply comes back: actions, times, who answered."""
    case = {"id": "ada", "turns": ["My name is Ada", "Open a ticket", "What is my name?"], "expect": "Ada"}
    rows = list(run_on([case], [contains()], repeats=4, concurrency=4).rows())
    assert len(agent.requests) == len(rows) == 12
    assert len({row["session_id"] for row in rows}) == 4
    assert all("Ada" in row["text"] for row in rows if row["turn"] == 3)
    assert all(row["actions"][0]["type"] == "create_ticket" for row in rows if row["turn"] == 2)
    assert all(0 < row["first_text_s"] <= row["elapsed_s"] for row in rows)
    assert {row["agent_id"] for row in rows} == {"agent_demo"}


def test_a_run_resumes_with_or_without_the_cluster(
    agent: DemoAgent, run: Run, run_on: Run, kept: Path
) -> None:
    """What one run sent, here or on a cluster, the next does not send again, wherever it is."""
    run(messages(2), path=kept)
    run_on(messages(4), path=kept)
    result = run(messages(6), path=kept)
    run_on(messages(6), path=kept)
    assert sorted(sent(agent)) == messages(6)
    assert states(result) == ["complete"] * 6
    kinds = [line["kind"] for _, line in located_lines(kept)]
    assert kinds.count("sent") == kinds.count("turn") == 6


def test_a_429_slows_all_workers_down(agent: DemoAgent, run_on: Run) -> None:
    """Each refused message is sent again, and in the end the agent has taken each once."""
    agent.faults.extend(["429 retry-after"] * 5)
    rows = list(run_on(messages(12), concurrency=6).rows())
    assert {row["status"] for row in rows} == {"complete"}
    assert sum(row["retries"] for row in rows) == 5
    assert len(agent.requests) == 17
    assert all(row["queue_wait_s"] >= 1 and row["elapsed_s"] < 1 for row in rows if row["retries"])


@pytest.mark.usefixtures("given_up_early")
def test_the_causes_of_failures_come_back_from_the_workers(agent: DemoAgent, run_on: Run, kept: Path) -> None:
    """The same as without a cluster: the agent's failures, refusals, limits and the network's."""
    nobody = HaloClient(DEMO_KEY, base_url="http://127.0.0.1:1")
    agent.faults.extend(["cut text", "500", "401", "drip"])
    demo = HaloClient(DEMO_KEY, base_url=agent.url)
    run_on(messages(4), configs={"demo": demo}, path=kept, concurrency=1)
    assert causes(kept) == ["agent", "agent", "refused", ""]
    agent.faults.extend(["429"] * 2)
    run_on(["limited"], configs={"demo": demo}, path=kept.with_name("limited"))
    run_on(["unsent"], configs={"nobody": nobody}, path=kept.with_name("unsent"))
    assert causes(kept.with_name("limited")) == ["limit"] and causes(kept.with_name("unsent")) == ["network"]


@pytest.mark.parametrize("fault", ["cut text", "500", "401"])
def test_a_message_that_may_have_arrived_is_not_sent_again(
    fault: str, agent: DemoAgent, run_on: Run, kept: Path
) -> None:
    """The next run leaves it alone. It sends one that was refused, because of its key."""
    agent.faults.append(fault)
    results = [run_on([["one", "two"]], path=kept) for _ in range(2)]
    if fault == "401":
        assert [states(result) for result in results] == [["failed", "skipped"], ["complete", "complete"]]
        assert sent(agent) == ["one", "one", "two"]
    else:
        assert [states(result) for result in results] == [["interrupted", "skipped"]] * 2
        assert all("not sent again" in next(result.rows())["error"] for result in results)
        assert sent(agent) == ["one"]


def test_a_killed_worker_sends_nothing_twice(dask: Client, run_on: Run, kept: Path) -> None:
    """Its turns are interrupted, the others are sent once, and its successor helps."""
    released = threading.Event()
    killed = next(iter(dask.run(os.getpid).values()))
    seen: set[int] = set()

    def has_senders() -> int:
        return len(cluster.senders) and os.getpid()

    def kill() -> None:
        wait_until(lambda: len(agent.requests) == 28)
        os.kill(killed, signal.SIGKILL)
        # One of them is new, and known to the run.
        wait_until(lambda: len(set(dask.run(has_senders, on_error="ignore").values()) - {0, killed}) == 2)
        released.set()

    def look(reply: Reply) -> bool:
        if released.is_set():
            seen.update(pid for each in dask.run(started).values() for pid, count in each.items() if count)
        return True

    with waiting_agent(20, released) as (agent, configs):
        with meanwhile(kill):
            result = run_on(messages(120), [look], configs=configs, path=kept, concurrency=8)
        lost = [row for row in result.rows() if row["status"] == "interrupted"]
        assert states(result).count("complete") + len(lost) == 120
        assert 1 <= len(lost) <= 8
        assert causes(kept).count("stopped") == len(lost)
        assert all("was lost before it reported the outcome" in row["error"] for row in lost)
        assert len(seen) == 2 and killed not in seen
        assert states(run_on(messages(120), configs=configs, path=kept)) == states(result)
        assert len(sent(agent)) == len(set(sent(agent)))
        assert set(messages(120)) - set(sent(agent)) <= {row["message"] for row in lost}


def test_an_interrupt_keeps_the_received_parts(run_on: Run, kept: Path) -> None:
    """The workers stop and report what they have received; the same call resumes."""
    released = threading.Event()

    def interrupt() -> None:
        wait_until(lambda: len(agent.requests) == 12)
        time.sleep(0.5)  # for the first part to reach the worker
        os.kill(os.getpid(), signal.SIGINT)

    with waiting_agent(8, released) as (agent, configs):
        with meanwhile(interrupt):
            result = run_on(messages(30), [ok], configs=configs, path=kept, concurrency=4)
        assert result.interrupted
        assert "the same call resumes it" in result.notes()[0]
        assert [row["text"] for row in result.rows() if row["status"] == "interrupted"] == ["first "] * 4
        assert causes(kept) == [""] * 8 + ["stopped"] * 4
        released.set()
        again = run_on(messages(30), configs=configs, path=kept, concurrency=30)
        assert states(again).count("complete") == 26
        assert sorted(sent(agent)) == sorted(messages(30))


def test_secrets_show_nowhere(
    dask: Client, run_on: Run, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the file, the tasks, or what scheduler, workers and client log when they log everything."""

    def log_all(level: int) -> int:
        before = logging.getLogger("distributed").level
        logging.getLogger("distributed").setLevel(level)
        return before

    def tasks(dask_scheduler: Any = None) -> str:
        known = dask_scheduler.tasks.values()
        return repr([(task, task.run_spec, task.annotations) for task in known])

    def look(request: dict[str, JSON]) -> Iterator[Step]:
        seen.append(dask.run_on_scheduler(tasks))  # while a message is on its way, so there are tasks
        yield TextDelta("hello")

    seen: list[str] = []
    with DemoAgent(first_byte_s=0, reply=look) as agent:
        agent.faults.append("401")
        client = HaloClient("ab_live_confidential", base_url=agent.url, user_token="a.b.confidential")
        caplog.set_level(logging.DEBUG, "distributed")
        [before, _] = dask.run(log_all, logging.DEBUG).values()
        try:
            result = run_on(messages(4), configs={"demo": client}, path=kept)
        finally:
            logs = repr([dask.get_worker_logs(), dask.get_scheduler_logs(), dask.get_events()])
            dask.run(log_all, before)
        assert states(result).count("complete") == 3
        assert {request.body["user_token"] for request in agent.requests} == {"a.b.confidential"}
        assert "send_turn" in caplog.text and "send_turn" in logs and "hold_worker" in seen[0]
    everything = kept.read_text() + repr(result) + logs + caplog.text + "".join(seen)
    assert "confidential" not in everything


def test_a_sealed_turn_shows_nothing(agent: DemoAgent) -> None:
    """Not in a repr, in an error's arguments, or as bytes."""
    client = AsyncHaloClient("ab_live_confidential", base_url=agent.url)
    sealed = cluster.Sealed(client, "a.b.confidential", "demo", {"message": "hello"}, 1)
    assert repr(sealed) == str(sealed) == "sealed"
    crossed = pickle.dumps(sealed)
    assert b"confidential" not in crossed and b"hello" not in crossed
    assert pickle.loads(crossed).opened()["settings"]["api_key"] == "ab_live_confidential"  # noqa: S301
    with pytest.raises(TypeError, match="a secret is not pickled"):
        pickle.dumps(client.settings)


def test_a_user_token_callable_runs_in_this_process(run_on: Run) -> None:
    """It is called once, and once more when its token is refused."""
    secret = "ha_secret_of_the_test"
    given: list[int] = []

    def fresh() -> str:
        given.append(os.getpid())
        return "a.b.wrong" if len(given) == 1 else sign_user_token(secret, "ada")

    def broken() -> str:
        raise RuntimeError("confidential")

    with DemoAgent(first_byte_s=0, chunk_s=0, identity_secret=secret) as agent:
        client = partial(HaloClient, DEMO_KEY, base_url=agent.url, user_id="ada")
        result = run_on(messages(3), configs={"demo": client(user_token=fresh)}, concurrency=1)
        assert states(result) == ["complete"] * 3
        assert given == [os.getpid()] * 2 and len(agent.requests) == 4
        row = next(run_on(["one"], configs={"demo": client(user_token=broken)}).rows())
        assert row["status"] == "failed" and "callable raised RuntimeError" in row["error"]
        assert len(agent.requests) == 4


def test_a_workers_own_settings_are_not_sent(dask: Client, agent: DemoAgent, run_on: Run) -> None:
    """What is sent is what this process would send, whatever a worker's environment says."""

    def set_environment(value: str | None) -> None:
        for name in ("HALO_USER_ID", "HALO_AGENT_ID", "HALO_API_KEY", "HALO_BASE_URL"):
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    dask.run(set_environment, "another")
    try:
        assert states(run_on(["one"])) == ["complete"]
    finally:
        dask.run(set_environment, None)
    assert agent.requests[0].body == {"message": "one"}


def test_aevaluate_does_not_block_the_callers_loop(dask: Client, client: HaloClient) -> None:
    """The loop runs while the cluster sends, and async checks run on it."""

    async def run() -> None:
        here, steps = asyncio.get_running_loop(), 0

        async def step() -> None:
            nonlocal steps
            while True:
                await asyncio.sleep(0.01)
                steps += 1

        async def check(reply: Reply) -> bool:
            return asyncio.get_running_loop() is here

        stepping = asyncio.create_task(step())
        result = await aevaluate(
            messages(6), {"here": check}, configs={"demo": client}, rate_limit=600, on=dask, progress=False
        )
        stepping.cancel()
        assert steps >= 10
        assert result.passed("here") == {"demo": {str(number): [True] for number in range(1, 7)}}

    asyncio.run(run())


def test_a_turn_is_sent_once_by_the_process_it_was_given_to(agent: DemoAgent, client: HaloClient) -> None:
    """Neither a second call with its ticket nor a call that meets another process sends it."""

    async def run() -> None:
        sealed = cluster.Sealed(client.aio, None, "demo", {"message": "one"}, 1)
        assert await cluster.open_sender("run", "0.0.9") is None
        token = await cluster.open_sender("run", halo_notebook.__version__)
        assert token and token == await cluster.open_sender("run", halo_notebook.__version__)
        assert await cluster.send_turn("run", "another process", "ticket", sealed) is None
        assert await cluster.send_turn("another run", token, "ticket", sealed) is None
        outcome = await cluster.send_turn("run", token, "ticket", sealed)
        assert outcome is not None and outcome["status"] == "complete"
        assert await cluster.send_turn("run", token, "ticket", sealed) is None
        await cluster.close_sender("run")
        assert await cluster.send_turn("run", token, "later", sealed) is None

    asyncio.run(run())
    assert sent(agent) == ["one"]


def test_a_sender_that_is_not_renewed_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the process that runs the evaluation is gone, its workers drop everything they hold for it."""
    monkeypatch.setattr(cluster, "LEASE_S", 0.2)

    asyncio.run(cluster.open_sender("left alone", halo_notebook.__version__))
    assert cluster.senders["left alone"].ended.wait(10)
    assert "left alone" not in cluster.senders


def test_a_cluster_that_ends_ends_the_run(run: Run, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Running turns are interrupted, stored ones are kept, and the same call resumes without it."""
    monkeypatch.setattr(cluster, "WAIT_FOR_WORKER_S", 2.0)
    released = threading.Event()

    def end() -> None:
        wait_until(lambda: len(agent.requests) == 8)
        dask.retire_workers(list(dask.nthreads()), close_workers=True, remove=True)

    with waiting_agent(4, released) as (agent, configs), running(1) as dask:
        start = partial(run, messages(20), configs=configs, path=kept)
        with meanwhile(end), pytest.raises(errors.UsageError, match=r"send for 2 s.*run again"):
            start(concurrency=4, on=dask)
        with pytest.raises(errors.UsageError, match=r"has no workers\. Nothing was sent"):
            start(on=dask)
        released.set()
        result = start(concurrency=20)
        assert states(result).count("interrupted") == 4 and states(result).count("complete") == 16
        assert sorted(sent(agent)) == sorted(messages(20))


def test_a_client_that_is_closed_ends_the_run(run: Run, kept: Path, dask: Client) -> None:
    """Nothing waits for its loop, which has ended."""
    from distributed import Client

    def end() -> None:
        wait_until(lambda: len(agent.requests) == 8)
        other.close()

    with waiting_agent(4, threading.Event()) as (agent, configs), Client(dask.cluster) as other:
        start = partial(run, messages(20), configs=configs, path=kept, on=other)
        with meanwhile(end), pytest.raises(errors.UsageError, match=r"cluster is closed.*run again"):
            start(concurrency=4)
        with pytest.raises(errors.UsageError, match="not connected"):
            start()


def test_a_wrong_cluster_is_refused(
    dask: Client, agent: DemoAgent, run_on: Run, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is sent or written, with what to give instead."""
    from distributed import Client

    demo = partial(HaloClient, DEMO_KEY, base_url=agent.url)
    transport = httpx.MockTransport(lambda _: httpx.Response(200))
    recorder = Recorder(kept.with_name("recording.jsonl"))

    async def with_asynchronous() -> None:
        async with Client(dask.scheduler_info()["address"], asynchronous=True) as asynchronous:
            with pytest.raises(errors.UsageError, match="The Dask client is asynchronous"):
                await aevaluate(["one"], configs={"demo": demo()}, path=kept, on=asynchronous)

    asyncio.run(with_asynchronous())
    for given, words in (
        ({"on": dask.cluster}, r"must be a distributed\.Client, not LocalCluster"),
        ({"concurrency": 401}, "concurrency can be 400 at most"),
        ({"configs": {"own": demo(transport=transport)}}, "'own' has a client with a transport of its own"),
        ({"configs": {"own": demo(record=recorder)}}, "'own' has a client with a record of its own"),
    ):
        with pytest.raises((errors.UsageError, errors.InvalidRequest), match=words):
            run_on(["one"], path=kept, **given)
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "distributed" else found(name)
    )
    with pytest.raises(errors.UsageError, match=r"needs the package distributed.*halo-notebook\[dask\]"):
        run_on(["one"], path=kept)
    assert sent(agent) == [] and not kept.exists()


def replaced(name: str, value: Any) -> Any:
    """In a worker: set another version, or hide a module; returns what undoes it."""
    if name == "version":
        before, halo_notebook.__version__ = halo_notebook.__version__, value
        return before
    hidden = f"{name} (hidden)"
    if value is None:
        sys.modules[hidden] = importlib.import_module(name)
        sys.modules[name] = None  # type: ignore[assignment]
    else:
        sys.modules[name] = sys.modules.pop(hidden)
    return True


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("version", "0.0.9"), r"has halo_notebook 0\.0\.9 and not"),
        (("aiohttp", None), r"cannot use halo_notebook \(.*aiohttp"),
        (("halo_notebook.evaluation.sending.dask", None), r"cannot use halo_notebook \(.*sending\.dask"),
    ],
    ids=str,
)
def test_workers_must_have_this_version(
    change: tuple[str, Any], words: str, dask: Client, agent: DemoAgent, run_on: Run
) -> None:
    """If one of them has another version, or lacks something, nothing is sent."""
    address = next(iter(dask.nthreads()))
    before = dask.run(replaced, *change, workers=[address])[address]
    try:
        with pytest.raises(errors.UsageError, match=words) as caught:
            run_on(["one"])
    finally:
        dask.run(replaced, change[0], before, workers=[address])
    assert address in str(caught.value)
    assert "Nothing was sent; install halo-notebook[dask]" in str(caught.value)
    assert sent(agent) == []
    assert states(run_on(["one"])) == ["complete"]
