"""Messages of an evaluation, sent from the workers of a Dask cluster.

- A message is given to one process, once, and that process sends it once: after a worker's death, a restart,
  a lost answer or a lost scheduler it may have arrived, and is not sent again.
- What was received is reported, also when the run is stopped. What only a lost worker knew is lost.
- Nothing waits for a worker forever.
- Key and user token go to the workers in `Sealed`: they are in no repr, log, task, error or answer.

Turns are not Dask tasks: Dask repeats a task when its worker dies, moves it, delays it while a worker's
threads are busy, and keeps its arguments, such as the key, on the scheduler. A turn is a `Client.run` on one
worker, which nothing repeats. One task per worker does nothing and uses no thread: without it an adaptive
cluster would close the workers as idle.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import sys
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast
from uuid import uuid4

from ...client.aio import AsyncHaloClient
from ...concurrency.loop import spawn
from ...display.text import one_line
from ...errors import HaloError, InvalidRequest, UsageError, check_installed
from .sender import Lag, Outcome, for_many_streams, send_once

if TYPE_CHECKING:
    from distributed import Client, Future

    from ...stream import JSON

T = TypeVar("T")

MAX_CONCURRENCY = 400  # a turn holds a connection from the scheduler to its worker; Dask opens at most 512
WAIT_FOR_WORKER_S = 60.0  # a cluster may be so long without workers, which may be starting
LEASE_S = 300.0  # a worker that hears nothing from a run for so long drops what it holds for that run
STOP_WAIT_S = 2.0  # the end of a run waits so long for what the workers have received
_LOOK_EVERY_S = 1.0
_RENEW_EVERY_S = 60.0
_CALL_WAIT_S = 60.0
_OPEN_WAIT_S = 10.0
_SETTINGS = ("base_url", "connect_timeout_s", "silence_timeout_s", "max_record_bytes")


class Sealed:
    """A turn on its way to a worker, with all it needs: the one place where secrets leave this process.

    A repr or a log shows nothing of it. Dask can log each message as bytes; compression hides the key there.
    Against listeners there is TLS.
    """

    def __init__(
        self, client: AsyncHaloClient, token: str | None, config: str, body: JSON, tries: int
    ) -> None:
        settings = {name: getattr(client.settings, name) for name in _SETTINGS}
        settings["api_key"] = client.settings.api_key.reveal()
        turn = {"config": config, "settings": settings, "token": token, "body": body, "tries": tries}
        self._packed = zlib.compress(json.dumps(turn).encode())

    def opened(self) -> Any:
        return json.loads(zlib.decompress(self._packed))

    def __repr__(self) -> str:
        return "sealed"


# --- In a worker's process --------------------------------------------------------------


class WorkerSender:
    """What one run has in a worker's process: its clients, and the streams that run.

    All of it is on the I/O thread, so any number of streams run side by side, and Dask waits for none.
    """

    def __init__(self, run: str) -> None:
        self.token = uuid4().hex  # identifies this process, also when another is started in its place
        self.ended = threading.Event()
        self.tickets: set[str] = set()  # of the turns that were started here
        self.heard_at = time.monotonic()
        self._run = run
        self._streams: set[asyncio.Task[Any]] = set()
        self._clients: dict[str, AsyncHaloClient] = {}
        self._lag = Lag()
        self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """End everything when the process that runs the evaluation is gone."""
        while (left_s := self.heard_at + LEASE_S - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left_s)
        await self.aclose()

    async def send(self, ticket: str, sealed: Sealed) -> dict[str, Any] | None:
        """Send a turn and return its outcome; None when it was started before, or after the end."""
        if self.ended.is_set() or ticket in self.tickets:
            return None
        self.tickets.add(ticket)
        self.heard_at = time.monotonic()
        turn, outcome = sealed.opened(), Outcome()
        stream = asyncio.current_task()
        assert stream is not None, "coroutines run in tasks"
        self._streams.add(stream)
        try:
            client = self._client(turn["config"], turn["settings"])
            fields = {**turn["body"], "user_token": turn["token"]}
            await send_once(client, outcome, fields.pop("message"), fields, turn["tries"])
        except asyncio.CancelledError:
            pass  # stopped: the part that was received is reported all the same
        except HaloError as error:  # the client could not be created
            outcome.fail(error)
        finally:
            self._streams.discard(stream)
        return outcome.to_dict()

    def _client(self, config: str, settings: Mapping[str, Any]) -> AsyncHaloClient:
        if config not in self._clients:
            client = AsyncHaloClient(**settings)
            # The body is complete: this machine's own settings must add nothing to it.
            plain = client.copy(user_id=None, agent_id=None, user_token=None)
            self._clients[config] = for_many_streams(plain)
        return self._clients[config]

    async def aclose(self) -> float | None:
        """Stop the streams and close the connections; returns as `Lag.end` does."""
        self.ended.set()
        senders.pop(self._run, None)
        streams = list(self._streams)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()
        if self._watching is not asyncio.current_task():
            self._watching.cancel()
        return self._lag.end()


senders: dict[str, WorkerSender] = {}
"""In a worker's process, by the runs."""


def _version() -> str:
    # Of the package as it is loaded: metadata may be missing, or another installation's.
    return str(sys.modules[__name__.partition(".")[0]].__version__)


async def installed() -> str:
    """A worker's version of the package; raises ImportError if it lacks what sending needs."""
    importlib.import_module("aiohttp")
    return _version()


async def open_sender(run: str, version: str) -> str | None:
    """Have a sender for that run in this process, or renew its lease; returns its token.

    Returns None if the package has another version.
    """
    if await installed() != version:
        return None

    async def opened() -> str:
        sender = senders.get(run) or senders.setdefault(run, WorkerSender(run))
        sender.heard_at = time.monotonic()
        return sender.token

    return await asyncio.wrap_future(spawn(opened()))


async def send_turn(run: str, token: str, ticket: str, sealed: Sealed) -> dict[str, Any] | None:
    """Send a turn, if this is the process that was chosen for it and has not started it already."""
    sender = senders.get(run)
    if sender is None or sender.token != token:
        return None
    return await asyncio.wrap_future(spawn(sender.send(ticket, sealed)))


async def close_sender(run: str) -> float | None:
    """End what that run has in this process."""
    sender = senders.get(run)
    return await asyncio.wrap_future(spawn(sender.aclose())) if sender else None


def hold_worker(run: str, token: str) -> None:
    """A task that keeps a worker from being closed as idle, while the run has a sender there."""
    from distributed import secede

    sender = senders.get(run)
    if sender is not None and sender.token == token:
        secede()  # others may use its thread
        sender.ended.wait()


# --- In the process that runs the evaluation ----------------------------------------------


def check_use(cluster: object, clients: Mapping[str, AsyncHaloClient], concurrency: int) -> None:
    """Refuse what cannot run on a cluster. Call it on the thread that gives the cluster."""
    check_installed("An evaluation on a Dask cluster", "dask", "distributed")
    from distributed import Client

    wrong = ""
    if not isinstance(cluster, Client):
        wrong = f"on must be a distributed.Client, not {type(cluster).__name__}"
    elif cluster.asynchronous:
        wrong = "The Dask client is asynchronous (aevaluate takes a synchronous one too)"
    elif cluster.status != "running":
        wrong = f"The Dask client is not connected (it is {cluster.status})"
    if wrong:
        raise UsageError(f"{wrong}. Nothing was sent; give a synchronous, connected Client(cluster).")
    if concurrency > MAX_CONCURRENCY:
        raise InvalidRequest(
            f"concurrency can be {MAX_CONCURRENCY} at most on a Dask cluster, not {concurrency:,}. Nothing "
            "was sent; lower it."
        )
    for name, client in clients.items():
        if client.transport is not None or client.record is not None:
            what = "record" if client.transport is None else "transport"
            raise InvalidRequest(
                f"Configuration {name!r} has a client with a {what} of its own, which cannot go to another "
                f"process. Nothing was sent; leave the {what} out, or leave out on=."
            )


async def check_workers(cluster: Client) -> None:
    """Refuse a cluster without workers, or with one that lacks this version of the package."""
    try:
        async with asyncio.timeout(_CALL_WAIT_S):
            answers = await _run_on(cluster, None, installed)
    except Exception as error:  # whatever Dask raises
        raise UsageError(
            f"The Dask cluster does not answer ({_why(error)}). Nothing was sent; check the cluster."
        ) from error
    if not answers:
        raise UsageError(
            "The Dask cluster has no workers. Nothing was sent; wait for them (client.wait_for_workers(1)), "
            "or restart it: an interrupt also ends the workers of a LocalCluster in the same kernel."
        )
    unfit: list[str] = []
    for address, answer in answers.items():
        if isinstance(answer, Exception):
            unfit.append(f"{address} cannot use halo_notebook ({_why(answer)})")
        elif answer != _version():
            unfit.append(f"{address} has halo_notebook {answer} and not {_version()}")
    if unfit:
        more = f", as do {len(unfit) - 1:,} more" if len(unfit) > 1 else ""
        raise UsageError(
            f"The Dask worker {unfit[0]}{more}. Nothing was sent; install halo-notebook[dask] "
            f"{_version()} on all workers."
        )


def _why(error: Exception) -> str:
    return one_line(str(error) or type(error).__name__, 200)


async def _on_cluster(cluster: Client, call: Callable[[], Awaitable[T]]) -> T:
    """Call a method of Dask's client on that client's own loop, where it does not block."""

    async def called() -> T:
        return await call()

    coroutine, loop = called(), cast("Any", cluster.loop)
    try:
        future = asyncio.run_coroutine_threadsafe(coroutine, loop.asyncio_loop)
    except RuntimeError:  # the loop is closed
        coroutine.close()
        raise
    return await asyncio.wrap_future(future)


async def _run_on(
    cluster: Client, workers: list[str] | None, function: Callable[..., Any], *arguments: Any
) -> dict[str, Any]:
    """Call `function` in each of these workers, in all for None: address → its value, or the exception."""
    return await _on_cluster(
        cluster, lambda: cluster.run(function, *arguments, workers=workers, on_error="return")
    )


@dataclass
class _Worker:
    """A worker that can be given turns."""

    address: str
    token: str
    held: Future[None]  # its task
    renewed_at: float
    busy: int = 0


class ClusterSender:
    """Sends from the workers of a cluster that has been checked; see `LocalSender`."""

    def __init__(self, cluster: Client, clients: Mapping[str, AsyncHaloClient]) -> None:
        self._cluster = cluster
        self._clients = clients  # they send nothing: they check what is sent, and know the user's tokens
        self._run = uuid4().hex
        self._workers: dict[str, _Worker] = {}  # by address
        self._changed = asyncio.Event()  # set when there are workers, or never will be
        self._calls: dict[asyncio.Task[dict[str, Any]], str] = {}  # the turns that run, and where
        self._watching = asyncio.create_task(self._watch())
        self._stopping: asyncio.Task[float | None] | None = None

    async def ready(self) -> None:
        try:
            async with asyncio.timeout(WAIT_FOR_WORKER_S):
                await self._changed.wait()
        except TimeoutError:
            why = f"has had no worker that can send for {WAIT_FOR_WORKER_S:.0f} s"
        else:
            if self._workers or not self._is_closed():
                return
            why = "is closed"
        raise UsageError(
            f"The Dask cluster {why}. Nothing more was sent, and the stored turns are kept. Check the "
            "cluster, and run again to resume."
        )

    def _is_closed(self) -> bool:
        return self._cluster.status in ("closing", "closed")

    async def send(
        self, outcome: Outcome, config: str, message: str, fields: Mapping[str, Any], tries: int
    ) -> None:
        outcome.again_s = 0.0  # until it is handed out it certainly does not arrive
        client = self._clients[config]
        request = client.prepare(message, **fields)
        refused = None
        while True:
            try:
                token = await client.user_token_for(request, refused=refused)
            except HaloError as error:
                outcome.fail(error)
                return
            worker = min(self._workers.values(), key=lambda each: each.busy, default=None)
            if worker is None:
                outcome.again_s = 0.0
                return
            outcome.take(Outcome().to_dict())  # from here on it may arrive
            outcome.reply.retries = tries - 1
            revealed = token.reveal() if token is not None else None
            await self._hand_out(outcome, worker, Sealed(client, revealed, config, request.body, tries))
            if not (outcome.user_refused and callable(request.user_token) and refused is None):
                return
            refused = token  # once more with a fresh one, as each client does

    async def _hand_out(self, outcome: Outcome, worker: _Worker, sealed: Sealed) -> None:
        """Have a worker send it, and wait for the outcome or for the worker's end."""
        call = asyncio.create_task(
            _run_on(self._cluster, [worker.address], send_turn, self._run, worker.token, uuid4().hex, sealed)
        )
        self._calls[call] = worker.address
        worker.busy += 1
        try:
            await asyncio.wait([call])
        except asyncio.CancelledError:
            # The run ends: all workers stop, and report what they have received.
            await asyncio.wait([self._stop()])
            await asyncio.wait([call], timeout=0.2)
            call.cancel()
            raise
        finally:
            worker.busy -= 1
            del self._calls[call]
            answer: Any = None
            if call.done() and not call.cancelled():
                answer = call.exception() or call.result().get(worker.address)
            if isinstance(answer, dict):
                outcome.take(answer)
            else:
                self._lose(worker, outcome)

    def _lose(self, worker: _Worker, outcome: Outcome) -> None:
        if self._workers.get(worker.address) is worker:
            self._drop(worker.address)  # if it is still there, it is found again
        outcome.reply.status = "failed"
        outcome.reply.error = (
            f"The Dask worker {worker.address} was lost before it reported the outcome. The message may have "
            "arrived and is not sent again automatically; run it again only if that does no harm."
        )

    def _drop(self, address: str) -> None:
        self._workers.pop(address).held.release()
        if not self._workers:
            self._changed.clear()

    async def _watch(self) -> None:
        """See which workers come and go, and let nothing wait for one that is gone."""
        while True:
            present = await self._addresses()
            for address in self._workers.keys() - present:
                self._drop(address)
            for call, address in self._calls.items():
                if address not in present:
                    call.cancel()
            # All of them before the first turn, or the first one would get all turns.
            await asyncio.gather(*map(self._open, present))
            if self._workers or self._is_closed():
                self._changed.set()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _addresses(self) -> set[str]:
        """The workers that are present; none when nobody can say."""
        if not self._is_closed():  # and its loop with it
            with contextlib.suppress(Exception):  # whatever Dask raises
                async with asyncio.timeout(_CALL_WAIT_S):
                    return set(await _on_cluster(self._cluster, self._cluster.nthreads))
        return set()

    async def _open(self, address: str) -> None:
        """Have a sender there, or renew its lease when it is time. What fails is tried again."""
        known = self._workers.get(address)
        if known is not None and known.renewed_at + _RENEW_EVERY_S > time.monotonic():
            return
        with contextlib.suppress(Exception):  # whatever Dask raises
            async with asyncio.timeout(_OPEN_WAIT_S):
                answers = await _run_on(self._cluster, [address], open_sender, self._run, _version())
            token = answers[address]
            if known is not None and known.token == token:
                known.renewed_at = time.monotonic()
            elif isinstance(token, str):
                if known is not None:
                    self._drop(address)  # another process is in its place
                self._workers[address] = _Worker(address, token, self._hold(address, token), time.monotonic())

    def _hold(self, address: str, token: str) -> Future[None]:
        """Keep the worker from being closed as idle, until the returned future is released."""
        # Done there and only there, once.
        place: dict[str, Any] = {"workers": [address], "allow_other_workers": False, "retries": 0}
        key = f"halo-evaluation-{uuid4().hex}"
        return self._cluster.submit(hold_worker, self._run, token, key=key, pure=False, **place)

    def _stop(self) -> asyncio.Task[float | None]:
        """Have all workers stop, once."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._close_senders())
        return self._stopping

    async def _close_senders(self) -> float | None:
        self._watching.cancel()
        lags: list[float] = []
        with contextlib.suppress(Exception):  # whatever Dask raises: a lease ends in any case
            async with asyncio.timeout(STOP_WAIT_S):
                answers = await _run_on(self._cluster, None, close_sender, self._run)
                lags = [lag for lag in answers.values() if isinstance(lag, float)]
        for address in list(self._workers):
            self._drop(address)
        return max(lags, default=None)

    async def aclose(self) -> float | None:
        return await asyncio.shield(self._stop())
