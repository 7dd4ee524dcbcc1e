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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

import halo_notebook
from halo_notebook import AsyncHaloClient, HaloClient, Reply, errors
from halo_notebook.checks import contains
from halo_notebook.demo import DEMO_KEY, DemoAgent, Step, sign_user_token
from halo_notebook.evaluation import dask as cluster
from halo_notebook.evaluation.journal import located_lines
from halo_notebook.evaluation.run import aevaluate, evaluate
from halo_notebook.recording.recorder import Recorder
from halo_notebook.stream import JSON, TextDelta

if TYPE_CHECKING:
    from distributed import Client

ALWAYS = {"ok": lambda reply: True}


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
def kept(tmp_path: Path) -> Path:
    return tmp_path / "evaluation.jsonl"


def asked(agent: DemoAgent) -> list[str]:
    return [request.body["message"] for request in agent.requests]


def messages(count: int) -> list[str]:
    return [f"message {number}" for number in range(count)]


def begun() -> dict[int, int]:
    """In a worker: its process → how many turns it has been given by the runs that are there."""
    return {os.getpid(): sum(len(sender.tickets) for sender in cluster.senders.values())}


def held(dask_scheduler: Any = None) -> tuple[int, int]:
    """On the scheduler: how many workers it would close, and how many tasks it knows."""
    return len(dask_scheduler.workers_to_close(n=2)), len(dask_scheduler.tasks)


def holding(first: int, released: threading.Event) -> Callable[[dict[str, JSON]], Iterator[Step]]:
    """Replies in two parts; from the `first` message on the last one waits until it is released."""

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta("first ")
        while int(str(request["message"]).split()[1]) >= first and not released.is_set():
            yield 0.02
        yield TextDelta("and last")

    return reply


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_all_workers_send_and_none_is_held_for_longer(dask: Client) -> None:
    """Turns are spread over the worker processes, which are not closed as idle meanwhile, and then may be."""
    seen: list[tuple[dict[str, dict[int, int]], tuple[int, int]]] = []
    released = threading.Event()

    def look() -> None:
        wait_until(lambda: len(agent.requests) == 12)
        wait_until(lambda: dask.run_on_scheduler(held) == (0, 2))
        seen.append((dask.run(begun), dask.run_on_scheduler(held)))
        released.set()

    with DemoAgent(first_byte_s=0, reply=holding(0, released)) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        looking = threading.Thread(target=look)
        looking.start()
        result = evaluate(messages(12), configs=configs, concurrency=12, on=dask, progress=False)
        looking.join()
    assert [row["status"] for row in result.rows()] == ["complete"] * 12
    given = {pid: count for each in seen[0][0].values() for pid, count in each.items()}
    assert os.getpid() not in given and sorted(given.values()) == [6, 6]
    assert dask.run(begun).keys() == seen[0][0].keys()
    wait_until(lambda: dask.run_on_scheduler(held) == (2, 0))
    assert not any(count for each in dask.run(begun).values() for count in each.values())


def test_a_worker_bears_more_streams_than_it_has_threads(dask: Client) -> None:
    """With a thread for each of two workers, sixteen conversations are at the agent at a time."""

    def together(request: dict[str, JSON]) -> Iterator[Step]:
        deadline = time.monotonic() + 20
        while len(agent.requests) < 16 and time.monotonic() < deadline:
            yield 0.02
        yield TextDelta(f"{len(agent.requests)} are here")

    with DemoAgent(first_byte_s=0, reply=together) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        result = evaluate(messages(16), configs=configs, concurrency=16, on=dask, progress=False)
        assert {row["text"] for row in result.rows()} == {"16 are here"}


def test_a_conversation_goes_on_from_worker_to_worker(
    dask: Client, agent: DemoAgent, client: HaloClient
) -> None:
    """Its turns have one session, and all of a reply comes back: actions, times, who answered."""
    case = {"id": "ada", "turns": ["My name is Ada", "Open a ticket", "What is my name?"], "expect": "Ada"}
    result = evaluate(
        [case], [contains()], configs={"demo": client}, repeats=4, concurrency=4, on=dask, progress=False
    )
    rows = list(result.rows())
    assert len(agent.requests) == len(rows) == 12
    assert len({row["session_id"] for row in rows}) == 4
    assert all("Ada" in row["text"] for row in rows if row["turn"] == 3)
    assert all(row["actions"][0]["type"] == "create_ticket" for row in rows if row["turn"] == 2)
    assert all(0 < row["first_text_s"] <= row["elapsed_s"] for row in rows)
    assert {row["agent_id"] for row in rows} == {"agent_demo"}


def test_the_file_goes_on_here_and_there(
    dask: Client, agent: DemoAgent, client: HaloClient, kept: Path
) -> None:
    """What one run asked, here or on a cluster, the next does not ask again, wherever it is."""
    given: dict[str, Any] = {"configs": {"demo": client}, "path": kept, "progress": False}
    evaluate(messages(2), **given)
    evaluate(messages(4), on=dask, **given)
    result = evaluate(messages(6), **given)
    evaluate(messages(6), on=dask, **given)
    assert sorted(asked(agent)) == messages(6)
    assert [row["status"] for row in result.rows()] == ["complete"] * 6
    kinds = [line["kind"] for _, line in located_lines(kept) if line["kind"] in ("sent", "turn")]
    assert kinds.count("sent") == kinds.count("turn") == 6


def test_one_rate_limit_for_all_workers(dask: Client, agent: DemoAgent, client: HaloClient) -> None:
    """Messages leave no faster than that many a minute, all together."""
    began = time.monotonic()
    result = evaluate(
        messages(6), configs={"demo": client}, concurrency=6, rate_limit=600, on=dask, progress=False
    )
    assert time.monotonic() - began >= 0.5
    assert max(row["queue_wait_s"] for row in result.rows()) >= 0.45
    assert len(agent.requests) == 6


def test_a_429_slows_all_workers_down(dask: Client, agent: DemoAgent, client: HaloClient) -> None:
    """Each is sent again, since it was not taken, and in the end all are asked once."""
    agent.faults.extend(["429 retry-after"] * 5)
    result = evaluate(messages(12), configs={"demo": client}, concurrency=6, on=dask, progress=False)
    rows = list(result.rows())
    assert {row["status"] for row in rows} == {"complete"}
    assert sum(row["retries"] for row in rows) == 5
    assert len(agent.requests) == 17
    assert all(row["queue_wait_s"] >= 1 and row["elapsed_s"] < 1 for row in rows if row["retries"])


@pytest.mark.parametrize("fault", ["cut text", "500", "stall"])
def test_what_may_have_arrived_is_not_sent_again(
    fault: str, dask: Client, agent: DemoAgent, client: HaloClient, kept: Path
) -> None:
    """It is recorded as interrupted with its error, and the next run leaves it alone."""
    agent.faults.append(fault)
    given: dict[str, Any] = {"configs": {"demo": client}, "path": kept, "progress": False, "on": dask}
    for _ in range(2):
        result = evaluate([["one", "two"]], **given)
        rows = list(result.rows())
        assert [row["status"] for row in rows] == ["interrupted", "skipped"]
        assert "not sent again" in rows[0]["error"]
    assert asked(agent) == ["one"]


def test_what_was_not_taken_is_asked_by_the_next_run(
    dask: Client, agent: DemoAgent, client: HaloClient, kept: Path
) -> None:
    """A refused key and a worker without a connection have harmed nobody."""
    agent.faults.append("401")
    nobody = HaloClient(DEMO_KEY, base_url="http://127.0.0.1:1", connect_timeout_s=0.2)
    configs = {"demo": client, "none": nobody}
    result = evaluate(["one"], configs=configs, path=kept, on=dask, progress=False)
    errors_shown = [row["error"] for row in result.rows()]
    assert [row["status"] for row in result.rows()] == ["failed", "failed"]
    assert "refused the key" in errors_shown[0] and "No connection to 127.0.0.1:1" in errors_shown[1]
    again = evaluate(["one"], configs={"demo": client}, path=kept, on=dask, progress=False)
    assert [row["status"] for row in again.rows()] == ["complete"]


def test_a_killed_worker_sends_nothing_twice(dask: Client, kept: Path) -> None:
    """Killed in mid-reply: what it had is interrupted, the rest is asked once, and its successor helps."""
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
            seen.update(pid for each in dask.run(begun).values() for pid, count in each.items() if count)
        return True

    with DemoAgent(first_byte_s=0, reply=holding(20, released)) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        given: dict[str, Any] = {"configs": configs, "path": kept, "progress": False, "on": dask}
        killer = threading.Thread(target=kill)
        killer.start()
        result = evaluate(messages(120), [look], concurrency=8, **given)
        killer.join()
        states = [row["status"] for row in result.rows()]
        lost = [row for row in result.rows() if row["status"] == "interrupted"]
        assert states.count("complete") + len(lost) == 120
        assert 1 <= len(lost) <= 8
        assert all("was lost before it reported the outcome" in row["error"] for row in lost)
        assert len(seen) == 2 and killed not in seen
        again = evaluate(messages(120), **given)
        assert [row["status"] for row in again.rows()] == states
        assert len(asked(agent)) == len(set(asked(agent)))
        assert set(messages(120)) - set(asked(agent)) <= {row["message"] for row in lost}


def test_an_interrupt_keeps_what_had_arrived(dask: Client, kept: Path) -> None:
    """The workers stop and tell what they had; the same call goes on from there."""
    released = threading.Event()

    def interrupt() -> None:
        wait_until(lambda: len(agent.requests) == 12)
        time.sleep(0.5)  # for the first part to reach the worker
        os.kill(os.getpid(), signal.SIGINT)

    with DemoAgent(first_byte_s=0, reply=holding(8, released)) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        given: dict[str, Any] = {"configs": configs, "path": kept, "progress": False, "on": dask}
        interrupter = threading.Thread(target=interrupt)
        interrupter.start()
        result = evaluate(messages(30), ALWAYS, concurrency=4, **given)
        interrupter.join()
        assert result.interrupted
        assert "the same call resumes it" in result.notes()[0]
        rows = list(result.rows())
        assert [row["text"] for row in rows if row["status"] == "interrupted"] == ["first "] * 4
        assert [row["status"] for row in rows].count("complete") == 8
        released.set()
        again = evaluate(messages(30), concurrency=30, **given)
        assert [row["status"] for row in again.rows()].count("complete") == 26
        assert sorted(asked(agent)) == sorted(messages(30))


def test_secrets_show_nowhere(
    dask: Client, agent: DemoAgent, kept: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not in the file, not in the tasks, nor in what scheduler, workers and client log when they log all."""

    def log_all(level: int) -> None:
        logging.getLogger("distributed").setLevel(level)

    def tasks(dask_scheduler: Any = None) -> str:
        known = dask_scheduler.tasks.values()
        return repr([(task, task.run_spec, task.annotations) for task in known])

    seen: list[str] = []

    def look(reply: Reply) -> bool:
        seen.append(dask.run_on_scheduler(tasks))
        return True

    agent.faults.append("401")
    client = HaloClient("ab_live_confidential", base_url=agent.url, user_token="a.b.confidential")
    caplog.set_level(logging.DEBUG, "distributed")
    before = logging.getLogger("distributed").level
    dask.run(log_all, logging.DEBUG)
    try:
        result = evaluate(messages(4), [look], configs={"demo": client}, path=kept, on=dask, progress=False)
    finally:
        logs = repr([dask.get_worker_logs(), dask.get_scheduler_logs(), dask.get_events()])
        dask.run(log_all, before)
    assert [row["status"] for row in result.rows()].count("complete") == 3
    assert {request.body["user_token"] for request in agent.requests} == {"a.b.confidential"}
    assert "send_turn" in caplog.text and "send_turn" in logs and "hold_worker" in seen[0]
    everything = kept.read_text() + repr(result) + logs + caplog.text + "".join(seen)
    assert "confidential" not in everything


def test_what_crosses_shows_nothing(agent: DemoAgent) -> None:
    """A sealed turn is 'sealed', in a repr, in an error's arguments and as bytes."""
    client = AsyncHaloClient("ab_live_confidential", base_url=agent.url)
    sealed = cluster.seal(client, "a.b.confidential", "demo", {"message": "hello"}, 1)
    assert repr(sealed) == str(sealed) == "sealed"
    crossed = pickle.dumps(sealed)
    assert b"confidential" not in crossed and b"hello" not in crossed
    assert pickle.loads(crossed).opened()["settings"]["api_key"] == "ab_live_confidential"  # noqa: S301
    with pytest.raises(TypeError, match="a secret is not pickled"):
        pickle.dumps(client.settings)


def test_a_user_token_is_asked_for_here(dask: Client) -> None:
    """A callable is called in this process, and once more when its token is refused."""
    secret = "ha_secret_of_the_test"
    given: list[int] = []

    def fresh() -> str:
        given.append(os.getpid())
        return "a.b.wrong" if len(given) == 1 else sign_user_token(secret, "ada")

    with DemoAgent(first_byte_s=0, chunk_s=0, identity_secret=secret) as agent:
        client = HaloClient(DEMO_KEY, base_url=agent.url, user_id="ada", user_token=fresh)
        result = evaluate(messages(3), configs={"demo": client}, concurrency=1, on=dask, progress=False)
        assert [row["status"] for row in result.rows()] == ["complete"] * 3
        assert given == [os.getpid()] * 2 and len(agent.requests) == 4

        def broken() -> str:
            raise RuntimeError("confidential")

        client = HaloClient(DEMO_KEY, base_url=agent.url, user_id="ada", user_token=broken)
        row = next(evaluate(["one"], configs={"demo": client}, on=dask, progress=False).rows())
        assert row["status"] == "failed" and "callable raised RuntimeError" in row["error"]
        assert len(agent.requests) == 4


def test_a_workers_own_settings_are_not_sent(dask: Client, agent: DemoAgent, client: HaloClient) -> None:
    """What is sent is what this process would send, whatever a worker's environment says."""

    def set_environment(values: Mapping[str, str | None]) -> None:
        for name, value in values.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value

    names = ("HALO_USER_ID", "HALO_AGENT_ID", "HALO_API_KEY", "HALO_BASE_URL")
    dask.run(set_environment, dict.fromkeys(names, "another"))
    try:
        result = evaluate(["one"], configs={"demo": client}, on=dask, progress=False)
    finally:
        dask.run(set_environment, dict.fromkeys(names))
    assert next(result.rows())["status"] == "complete"
    assert agent.requests[0].body == {"message": "one"}


def test_aevaluate_does_not_hold_the_callers_loop(dask: Client, agent: DemoAgent, client: HaloClient) -> None:
    """The loop goes on while the cluster asks, and async checks run on it."""

    async def run() -> tuple[int, Any]:
        steps = 0
        here = asyncio.get_running_loop()

        async def step() -> None:
            nonlocal steps
            while True:
                await asyncio.sleep(0.01)
                steps += 1

        async def check(reply: Reply) -> bool:
            await asyncio.sleep(0)
            return asyncio.get_running_loop() is here

        stepping = asyncio.create_task(step())
        result = await aevaluate(
            messages(6), {"here": check}, configs={"demo": client}, rate_limit=600, on=dask, progress=False
        )
        stepping.cancel()
        return steps, result.passed("here")

    steps, passed = asyncio.run(run())
    assert steps >= 10
    assert passed == {"demo": {str(number): [True] for number in range(1, 7)}}


def test_a_turn_is_sent_once_by_the_process_it_was_given_to(agent: DemoAgent, client: HaloClient) -> None:
    """Neither a second call with its ticket nor a call that meets another process sends it."""

    async def run() -> list[dict[str, Any] | None]:
        sealed = cluster.seal(client.aio, None, "demo", {"message": "one"}, 1)
        answer = await cluster.open_sender("run")
        token = answer["token"]
        assert (await cluster.open_sender("run"))["token"] == token
        told = [
            await cluster.send_turn("run", "another process", "ticket", sealed),
            await cluster.send_turn("another run", token, "ticket", sealed),
            await cluster.send_turn("run", token, "ticket", sealed),
            await cluster.send_turn("run", token, "ticket", sealed),
        ]
        await cluster.close_sender("run")
        told.append(await cluster.send_turn("run", token, "later", sealed))
        return told

    *refused, told, again, later = asyncio.run(run())
    assert told is not None and told["status"] == "complete"
    assert [*refused, again, later] == [None] * 4
    assert asked(agent) == ["one"]


def test_what_nobody_renews_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the process that runs the evaluation is gone, its workers let go of all of it."""
    monkeypatch.setattr(cluster, "LEASE_S", 0.2)

    async def run() -> None:
        await cluster.open_sender("left alone")
        sender = cluster.senders["left alone"]
        await asyncio.to_thread(sender.ended.wait, 10)
        assert sender.ended.is_set()

    asyncio.run(run())
    assert "left alone" not in cluster.senders


def test_a_cluster_that_ends_ends_the_run(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was under way is interrupted, what had come is kept, and the same call goes on without it."""
    monkeypatch.setattr(cluster, "WAIT_FOR_WORKER_S", 2.0)
    released = threading.Event()

    def end() -> None:
        wait_until(lambda: len(agent.requests) == 8)
        dask.retire_workers(list(dask.nthreads()), close_workers=True, remove=True)

    with DemoAgent(first_byte_s=0, reply=holding(4, released)) as agent, running(1) as dask:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        given: dict[str, Any] = {"configs": configs, "path": kept, "progress": False}
        ender = threading.Thread(target=end)
        ender.start()
        with pytest.raises(errors.UsageError, match=r"no worker that can send for 2 s.*run again"):
            evaluate(messages(20), concurrency=4, on=dask, **given)
        ender.join()
        with pytest.raises(errors.UsageError, match=r"has no workers\. Nothing was sent"):
            evaluate(messages(20), on=dask, **given)
        released.set()
        result = evaluate(messages(20), concurrency=20, **given)
        states = [row["status"] for row in result.rows()]
        assert states.count("interrupted") == 4 and states.count("complete") == 16
        assert sorted(asked(agent)) == sorted(messages(20))


def test_a_client_that_is_closed_ends_the_run(kept: Path) -> None:
    """Nobody waits for a loop that is no more."""

    def end() -> None:
        wait_until(lambda: len(agent.requests) == 8)
        dask.close()

    with DemoAgent(first_byte_s=0, reply=holding(4, threading.Event())) as agent, running(1) as dask:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        given: dict[str, Any] = {"configs": configs, "path": kept, "progress": False, "on": dask}
        ender = threading.Thread(target=end)
        ender.start()
        with pytest.raises(errors.UsageError, match=r"cluster is closed.*run again"):
            evaluate(messages(20), concurrency=4, **given)
        ender.join()
        with pytest.raises(errors.UsageError, match="not connected"):
            evaluate(messages(20), **given)


def test_what_is_no_use_as_a_cluster_is_refused(
    dask: Client, agent: DemoAgent, client: HaloClient, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is sent or written, with what to give in its place."""
    from distributed import Client

    anything: Any = dask.cluster
    given: dict[str, Any] = {"path": kept, "progress": False, "configs": {"demo": client}}
    with pytest.raises(errors.UsageError, match=r"must be a distributed\.Client, not LocalCluster"):
        evaluate(["one"], on=anything, **given)

    async def with_asynchronous() -> None:
        address = dask.scheduler_info()["address"]
        async with Client(address, asynchronous=True) as asynchronous:
            with pytest.raises(errors.UsageError, match="The Dask client is asynchronous"):
                await aevaluate(["one"], on=asynchronous, **given)
            with pytest.raises(errors.UsageError, match="The Dask client is asynchronous"):
                evaluate(["one"], on=asynchronous, **given)

    asyncio.run(with_asynchronous())
    with pytest.raises(errors.InvalidRequest, match=r"concurrency can be 400 at most"):
        evaluate(["one"], concurrency=401, on=dask, **given)
    own = HaloClient(
        DEMO_KEY, base_url=agent.url, transport=httpx.MockTransport(lambda _: httpx.Response(200))
    )
    with pytest.raises(errors.InvalidRequest, match="'own' has a client with a transport of its own"):
        evaluate(["one"], on=dask, **{**given, "configs": {"own": own}})
    own = HaloClient(DEMO_KEY, base_url=agent.url, record=Recorder(kept.with_name("recording.jsonl")))
    with pytest.raises(errors.InvalidRequest, match="'own' has a client with a record of its own"):
        evaluate(["one"], on=dask, **{**given, "configs": {"own": own}})
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == "distributed" else found(name)
    )
    with pytest.raises(errors.UsageError, match=r"needs the package distributed.*halo-notebook\[dask\]"):
        evaluate(["one"], on=dask, **given)
    assert asked(agent) == [] and not kept.exists()


def put_in_place(name: str, value: Any) -> Any:
    """In a worker: have another version, or no module under that name; returns what puts it back."""
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
        (("aiohttp", None), "lacks aiohttp"),
        (
            ("halo_notebook.evaluation.dask", None),
            r"cannot use halo_notebook \(.*halo_notebook\.evaluation\.dask",
        ),
    ],
    ids=str,
)
def test_workers_must_have_what_is_here(
    change: tuple[str, Any], words: str, dask: Client, agent: DemoAgent, client: HaloClient
) -> None:
    """Where one of them has another version, or lacks something, nothing is sent."""
    address = next(iter(dask.nthreads()))
    given: dict[str, Any] = {"progress": False, "configs": {"demo": client}, "on": dask}
    before = dask.run(put_in_place, *change, workers=[address])[address]
    try:
        with pytest.raises(errors.UsageError, match=words) as caught:
            evaluate(["one"], **given)
    finally:
        dask.run(put_in_place, change[0], before, workers=[address])
    assert address in str(caught.value)
    assert "Nothing was sent; install halo-notebook[dask]" in str(caught.value)
    assert asked(agent) == []
    assert next(evaluate(["one"], **given).rows())["status"] == "complete"
