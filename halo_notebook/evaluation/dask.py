"""Messages of an evaluation, sent from the workers of a Dask cluster.

What it promises:

- A message is handed to one process, once, and that process sends it once: a worker's death, a
  restart, a lost answer or a lost scheduler make it one that may have arrived, never one that is
  sent again.
- What had arrived is told, also when it is stopped in mid-reply. What a worker knew that was lost
  is lost with it.
- It waits for no worker for ever.
- The key and the user token cross to the workers in `_Sealed`, made in one place; they show in no
  repr, log, task, error or answer. The scheduler passes on what it does not open.

Turns are no Dask tasks: tasks are for work that may be done twice. Dask does a task again when its
worker dies or its result is lost, moves it to another worker, holds it back while a worker's threads
are busy, which breaks the pace, and keeps its arguments, the key among them, on the scheduler. A
turn is a `Client.run` to one worker: a call outside of the tasks, which nothing repeats. One task
a worker there is, for as long as the run lasts, which does nothing and takes no thread: without it a
cluster that adapts to its tasks would close the workers in mid-reply.

It does not know what a conversation is, nor how fast messages may leave: that is one process's
affair, for all workers together.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import sys
import threading
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4

from ..client.aio import AsyncHaloClient
from ..concurrency import loop as bridge
from ..display.text import one_line
from ..errors import HaloError, InvalidRequest, UsageError
from ..reply import reply_from
from .sender import FAILED, Lag, Outcome, ask_once, for_many_streams

if TYPE_CHECKING:
    from distributed import Client, Future

    from ..stream import JSON

T = TypeVar("T")

MAX_CONCURRENCY = 400
"""A turn under way holds a connection from the scheduler to its worker; Dask opens 512 of them at most."""
WAIT_FOR_WORKER_S = 60.0
"""How long a cluster may be without workers before the run ends: they may be on their way."""
LEASE_S = 300.0
"""A worker that has not heard from the run for so long ends what it holds of it."""
STOP_WAIT_S = 2.0
"""How long the end of a run waits for what the workers had."""
_LOOK_EVERY_S = 1.0
_RENEW_EVERY_S = 60.0
_OPEN_WAIT_S = 10.0
_CALL_WAIT_S = 60.0


# --- What crosses -----------------------------------------------------------------------


class _Sealed:
    """A turn on its way to a worker, with key and token: shows nothing of it in a repr or a log.

    Dask can be told to log each message, as bytes; packed, the key is not to be read in them. Against
    who listens on the network it is no protection: that is what a cluster has TLS for.
    """

    def __init__(self, content: JSON) -> None:
        self._packed = zlib.compress(json.dumps(content).encode())

    def opened(self) -> Any:
        return json.loads(zlib.decompress(self._packed))

    def __repr__(self) -> str:
        return "sealed"


def _sealed(client: AsyncHaloClient, token: str | None, config: str, body: JSON, tries: int) -> _Sealed:
    """A turn with all that it takes to send it: the one place where secrets leave this process."""
    settings = client.settings
    return _Sealed(
        {
            "config": config,
            "settings": {
                "api_key": settings.api_key.reveal(),
                "base_url": settings.base_url,
                "connect_timeout_s": settings.connect_timeout_s,
                "silence_timeout_s": settings.silence_timeout_s,
                "max_record_bytes": settings.max_record_bytes,
            },
            "token": token,
            "body": body,
            "tries": tries,
        }
    )


def _told(outcome: Outcome) -> dict[str, Any]:
    """An outcome as plain values, which any version of Python can read."""
    return {
        "reply": outcome.reply.to_dict(),
        "may_have_arrived": outcome.reply.may_have_arrived,
        "status": outcome.status,
        "again_s": outcome.again_s,
        "user_refused": outcome.user_refused,
    }


def _take(outcome: Outcome, told: Mapping[str, Any]) -> None:
    outcome.reply = reply_from(told["reply"])
    outcome.reply.may_have_arrived = told["may_have_arrived"]
    outcome.status = told["status"]
    outcome.again_s = told["again_s"]
    outcome.user_refused = told["user_refused"]


# --- In a worker's process --------------------------------------------------------------


class _Sender:
    """What one run has in a worker's process: its clients, and the streams under way.

    All of it is on the I/O thread, however many threads the worker has: so many streams as are asked for
    run side by side, and neither Dask's own loop nor its tasks wait for them.

    Attributes:
        token: says which process this is, also when another is started in its place.
        ended: set at the end, whatever brings it about.
    """

    def __init__(self, run: str) -> None:
        self.token = uuid4().hex
        self._run = run
        self.ended = threading.Event()
        self._heard_at = time.monotonic()
        self._begun: set[str] = set()
        self._streams: set[asyncio.Task[Any]] = set()
        self._clients: dict[str, AsyncHaloClient] = {}
        self._lag: Lag | None = None
        self._watching: asyncio.Task[None] | None = None

    async def renew(self) -> None:
        """The run goes on."""
        self._heard_at = time.monotonic()
        if self._watching is None:
            self._lag = Lag()
            self._watching = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        """End it all when the process that runs the evaluation is no more."""
        while (left_s := self._heard_at + LEASE_S - time.monotonic()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left_s)
        await self.aclose()

    async def send(self, ticket: str, sealed: _Sealed) -> dict[str, Any] | None:
        """Send a turn and return what became of it; None when this is not to send it."""
        if self.ended.is_set() or ticket in self._begun:
            return None
        self._begun.add(ticket)
        self._heard_at = time.monotonic()
        turn, outcome = sealed.opened(), Outcome()
        stream = asyncio.current_task()
        assert stream is not None, "coroutines run in tasks"
        self._streams.add(stream)
        try:
            client = self._client(turn["config"], turn["settings"])
            body = dict(turn["body"])
            fields = {**body, "user_token": turn["token"]}
            await ask_once(client, outcome, fields.pop("message"), fields, turn["tries"])
        except asyncio.CancelledError:
            pass  # stopped: what had arrived is told all the same
        except HaloError as error:  # the client could not be made
            _not_sent(outcome, error)
        finally:
            self._streams.discard(stream)
        return _told(outcome)

    def _client(self, config: str, settings: Mapping[str, Any]) -> AsyncHaloClient:
        if config not in self._clients:
            client = AsyncHaloClient(**settings)
            # A body comes whole; what this machine's own settings would add to it has no place there.
            plain = client.copy(user_id=None, agent_id=None, user_token=None)
            self._clients[config] = for_many_streams(plain)
        return self._clients[config]

    async def aclose(self) -> float | None:
        """Stop what is under way and close the connections; returns as `Lag.ended` does."""
        self.ended.set()
        _senders.pop(self._run, None)
        streams = list(self._streams)
        for stream in streams:
            stream.cancel()
        await asyncio.gather(*streams, return_exceptions=True)
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()
        if self._watching is not None and self._watching is not asyncio.current_task():
            self._watching.cancel()
        return self._lag.ended() if self._lag is not None else None


_senders: dict[str, _Sender] = {}
"""By their runs."""


def _version() -> str:
    # Of the package as it is loaded: metadata may be missing, or another installation's.
    return str(sys.modules[__name__.partition(".")[0]].__version__)


async def installed() -> dict[str, Any]:
    """What a worker has of what it takes."""
    missing = [name for name in ("aiohttp",) if importlib.util.find_spec(name) is None]
    return {"version": _version(), "missing": missing}


async def open_sender(run: str) -> dict[str, Any]:
    """Have a sender for that run in this process, or keep the one that there is."""
    sender = _senders.setdefault(run, _Sender(run))
    await asyncio.wrap_future(bridge.io_thread.submit(sender.renew()))
    return {**await installed(), "token": sender.token}


async def send_turn(run: str, token: str, ticket: str, sealed: _Sealed) -> dict[str, Any] | None:
    """Send a turn, if this is the process that was chosen for it and has not begun it already."""
    sender = _senders.get(run)
    if sender is None or sender.token != token:
        return None
    return await asyncio.wrap_future(bridge.io_thread.submit(sender.send(ticket, sealed)))


async def close_sender(run: str) -> float | None:
    """End what that run has in this process."""
    sender = _senders.get(run)
    return await asyncio.wrap_future(bridge.io_thread.submit(sender.aclose())) if sender else None


def hold_worker(run: str, token: str) -> None:
    """A task that keeps a worker from being closed as idle, while the run has a sender there."""
    from distributed import secede

    sender = _senders.get(run)
    if sender is not None and sender.token == token:
        secede()  # its thread is for others to use
        sender.ended.wait()


# --- In the process that runs the evaluation ----------------------------------------------


def check_use(cluster: object, clients: Mapping[str, AsyncHaloClient], concurrency: int) -> None:
    """Refuse what cannot run on a cluster. To be called on the thread that gives it.

    Raises:
        UsageError: for another thing than a synchronous `distributed.Client` that is connected.
        InvalidRequest: for what cannot cross to its workers.
    """
    from distributed import Client

    if not isinstance(cluster, Client):
        raise UsageError(
            f"on must be a distributed.Client, not {type(cluster).__name__}. Nothing was sent; give "
            "Client(cluster)."
        )
    if cluster.asynchronous:
        raise UsageError(
            "The Dask client is asynchronous. Nothing was sent; give a synchronous one, Client(cluster), "
            "with aevaluate too: it does not block your loop."
        )
    if cluster.status != "running":
        raise UsageError(
            f"The Dask client is not connected (it is {cluster.status}). Nothing was sent; give one that is."
        )
    if concurrency > MAX_CONCURRENCY:
        raise InvalidRequest(
            f"concurrency can be {MAX_CONCURRENCY} at most on a Dask cluster, not {concurrency:,}. Nothing "
            "was sent; lower it."
        )
    for name, client in clients.items():
        if client.endpoint.transport is not None or client.endpoint.record is not None:
            what = "record" if client.endpoint.transport is None else "transport"
            raise InvalidRequest(
                f"Configuration {name!r} has a client with a {what} of its own, which cannot go to another "
                f"process. Nothing was sent; leave the {what} out, or leave out on=."
            )


async def check_workers(cluster: Client) -> None:
    """Refuse a cluster whose workers could not send.

    Raises:
        UsageError: when it has none, or one without this package as it is here.
    """
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
            "or start it anew: an interrupt also ends the workers of a LocalCluster in the same kernel."
        )
    unfit = {address: words for address, answer in answers.items() if (words := _unfit(answer))}
    for address, words in unfit.items():
        more = f", as do {len(unfit) - 1:,} more" if len(unfit) > 1 else ""
        raise UsageError(
            f"The Dask worker {address} {words}{more}. Nothing was sent; install halo-notebook[dask] "
            f"{_version()} on all workers."
        )


def _unfit(answer: Any) -> str:
    """Why a worker that gave this answer cannot send; empty when it can."""
    if isinstance(answer, Exception):
        return f"cannot use halo_notebook ({_why(answer)})"
    if answer["version"] != _version():
        return f"has halo_notebook {answer['version']} and not {_version()}"
    return f"lacks {', '.join(answer['missing'])}" if answer["missing"] else ""


def _why(error: Exception) -> str:
    return one_line(str(error) or type(error).__name__, 200)


def _not_sent(outcome: Outcome, error: HaloError) -> None:
    outcome.status, outcome.again_s = FAILED, None
    outcome.reply.status, outcome.reply.error, outcome.reply.may_have_arrived = "failed", str(error), False


async def _on_cluster(cluster: Client, call: Callable[[], Awaitable[T]]) -> T:
    """Await what a method of Dask's client gives, on that client's own loop: there it does not block."""

    async def called() -> T:
        return await call()

    coroutine = called()
    loop: Any = cluster.loop
    try:
        future = asyncio.run_coroutine_threadsafe(coroutine, loop.asyncio_loop)
    except RuntimeError:  # the loop is closed
        coroutine.close()
        raise
    return await asyncio.wrap_future(future)


async def _run_on(
    cluster: Client, workers: list[str] | None, function: Callable[..., Any], *arguments: Any
) -> dict[str, Any]:
    """Call `function` in the process of each of these workers, of all for None.

    Returns:
        address → what it returned, or the exception that came of it.
    """
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
    given: int = 0


class ClusterAsker:
    """Sends from the workers of a cluster; to be made and used on one running loop.

    Args:
        cluster: that of `check_use` and `check_workers`.
        clients: by the name of their configuration; they are copied, and stay as they are.
    """

    def __init__(self, cluster: Client, clients: Mapping[str, AsyncHaloClient]) -> None:
        self._cluster = cluster
        # They send nothing: they check what is sent, and know the user's tokens.
        self._clients = {name: for_many_streams(client) for name, client in clients.items()}
        self._run = uuid4().hex
        self._workers: dict[str, _Worker] = {}  # those that can be given turns, by address
        self._some = asyncio.Event()  # whether there are any, or never will be
        self._unfit: set[str] = set()  # those that could not be, as long as they stay
        self._opening: dict[str, asyncio.Task[None]] = {}
        self._under_way: dict[asyncio.Task[dict[str, Any]], str] = {}
        self._watching = asyncio.create_task(self._watch())
        self._stopping: asyncio.Task[float | None] | None = None

    async def ready(self) -> None:
        try:
            async with asyncio.timeout(WAIT_FOR_WORKER_S):
                await self._some.wait()
        except TimeoutError:
            why = f"has had no worker that can send for {WAIT_FOR_WORKER_S:.0f} s"
        else:
            if self._workers or not self._is_closed():
                return
            why = "is closed"
        raise UsageError(
            f"The Dask cluster {why}. No more is asked; what had come is kept. Check the cluster, and run "
            "again to go on."
        )

    def _is_closed(self) -> bool:
        return self._cluster.status in ("closing", "closed")

    async def ask(
        self, outcome: Outcome, config: str, message: str, fields: Mapping[str, Any], tries: int
    ) -> None:
        outcome.again_s = 0.0  # until it is handed out it certainly does not arrive
        client = self._clients[config]
        request = client.prepare(message, **fields)
        source = request.user_token
        refused = None
        while True:
            try:
                token = await client.endpoint.user_token(request, refused=refused)
            except HaloError as error:
                _not_sent(outcome, error)
                return
            worker = min(self._workers.values(), key=lambda each: (each.busy, each.given), default=None)
            if worker is None:
                outcome.again_s = 0.0
                return
            _take(outcome, _told(Outcome()))  # from here on it may arrive
            outcome.reply.retries = tries - 1
            revealed = token.reveal() if token is not None else None
            await self._hand_out(outcome, worker, _sealed(client, revealed, config, request.body, tries))
            if not (outcome.user_refused and callable(source) and refused is None):
                return
            refused = token  # once with a fresh one, as each client does

    async def _hand_out(self, outcome: Outcome, worker: _Worker, sealed: _Sealed) -> None:
        """Have a worker send it and wait for what comes of it, or for the worker's end."""
        call = asyncio.create_task(
            _run_on(self._cluster, [worker.address], send_turn, self._run, worker.token, uuid4().hex, sealed)
        )
        self._under_way[call] = worker.address
        worker.busy += 1
        worker.given += 1
        try:
            await asyncio.wait([call])
        except asyncio.CancelledError:
            # The run ends: all workers stop, and tell what they had.
            await asyncio.wait([self._stop()])
            await asyncio.wait([call], timeout=0.2)
            call.cancel()
            raise
        finally:
            worker.busy -= 1
            del self._under_way[call]
            self._take_answer(outcome, worker, call)

    def _take_answer(self, outcome: Outcome, worker: _Worker, call: asyncio.Task[dict[str, Any]]) -> None:
        answer: Any = None
        if call.done() and not call.cancelled():
            answer = call.exception() or call.result().get(worker.address)
        if isinstance(answer, dict):
            _take(outcome, answer)
            return
        if self._workers.get(worker.address) is worker:
            self._drop(worker.address)  # if it is still there, it is found again
        outcome.reply.status = "failed"
        outcome.reply.error = (
            f"The Dask worker {worker.address} was lost before it told what came of the message. It may have "
            "arrived and is not sent again by itself; run it again only if that does no harm."
        )

    def _drop(self, address: str) -> None:
        self._workers.pop(address).held.release()
        if not self._workers:
            self._some.clear()

    async def _watch(self) -> None:
        """See who comes and goes, and let nobody wait for who has gone."""
        while True:
            there = await self._addresses()
            for address in self._workers.keys() - there:
                self._drop(address)
            for call, address in self._under_way.items():
                if address not in there:
                    call.cancel()
            self._unfit &= there
            for address in there - self._opening.keys() - self._unfit:
                worker = self._workers.get(address)
                if worker is None or worker.renewed_at + _RENEW_EVERY_S < time.monotonic():
                    self._opening[address] = asyncio.create_task(self._open(address))
            if not self._workers and self._opening:
                # All of them before the first turn, which else would all go to the first that is there.
                await asyncio.wait(list(self._opening.values()), timeout=_OPEN_WAIT_S)
            if self._workers or self._is_closed():
                self._some.set()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _addresses(self) -> set[str]:
        """The workers that there are; none when nobody can be asked."""
        if self._is_closed():  # and its loop with it
            return set()
        try:
            async with asyncio.timeout(_CALL_WAIT_S):
                return set(await _on_cluster(self._cluster, self._cluster.nthreads))
        except Exception:  # noqa: BLE001  # whatever Dask raises
            return set()

    async def _open(self, address: str) -> None:
        """Have a sender there, or renew its lease."""
        try:
            async with asyncio.timeout(_CALL_WAIT_S):
                answer: Any = (await _run_on(self._cluster, [address], open_sender, self._run)).get(address)
                if isinstance(answer, OSError):
                    return  # no connection; it is looked at again
                if _unfit(answer):
                    self._unfit.add(address)
                    return
                known = self._workers.get(address)
                if known is not None and known.token == answer["token"]:
                    known.renewed_at = time.monotonic()
                    return
                held = await self._hold(address, answer["token"])
                if known is not None:
                    self._drop(address)  # another process is in its place
                self._workers[address] = _Worker(address, answer["token"], held, time.monotonic())
        except Exception:  # noqa: BLE001  # whatever Dask raises; it is looked at again
            return
        finally:
            del self._opening[address]

    async def _hold(self, address: str, token: str) -> Future[None]:
        """Keep the worker from being closed as idle, until what is returned is released."""

        async def submitted() -> Future[None]:
            return self._cluster.submit(
                hold_worker,
                self._run,
                token,
                key=f"halo-evaluation-{uuid4().hex}",
                workers=[address],
                allow_other_workers=False,
                pure=False,
                retries=0,
            )

        return await _on_cluster(self._cluster, submitted)

    def _stop(self) -> asyncio.Task[float | None]:
        """Have all workers stop, once."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._close_senders())
        return self._stopping

    async def _close_senders(self) -> float | None:
        self._watching.cancel()
        for opening in self._opening.values():
            opening.cancel()
        addresses = list(self._workers.keys() | self._opening.keys() | set(self._under_way.values()))
        lags: list[float] = []
        with contextlib.suppress(Exception):  # whatever Dask raises: a lease ends in any case
            async with asyncio.timeout(STOP_WAIT_S):
                answers = await _run_on(self._cluster, addresses, close_sender, self._run)
                lags = [lag for lag in answers.values() if isinstance(lag, float)]
        for address in list(self._workers):
            self._drop(address)
        return max(lags, default=None)

    async def aclose(self) -> float | None:
        lag_s = await asyncio.shield(self._stop())
        for client in self._clients.values():
            await client.aclose()
        return lag_s
