"""Async sources read from sync code: in order, to the end, and stopped when the reader stops."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from halo_notebook.concurrency.interrupts import Inbox, wait
from halo_notebook.concurrency.loop import spawn
from halo_notebook.concurrency.pulled import Pulled, entered


class Source:
    """Gives some numbers, then waits, raises or ends; and notes when it has been left."""

    def __init__(self, count: int, then: str = "end") -> None:
        self.count = count
        self.then = then
        self.left = threading.Event()

    async def run(self) -> AsyncGenerator[int, None]:
        try:
            for number in range(self.count):
                yield number
            if self.then == "wait":
                await asyncio.sleep(3600)
            if self.then == "raise":
                raise ValueError("the source's own")
        finally:
            await asyncio.sleep(0)
            self.left.set()


def read_into(seen: list[int], items: Pulled[int]) -> None:
    """As `extend`, which loses what it has read when it ends by an error."""
    for item in items:
        seen.append(item)  # noqa: PERF402  # as the docstring says


def test_items_come_in_order_and_then_what_the_source_raises() -> None:
    """An end is an end, and an error comes once, after the items."""
    items = Pulled(Source(1000).run())
    assert list(items) == list(range(1000))
    assert items.ended and items.get() is None
    seen: list[int] = []
    items = Pulled(Source(3, "raise").run())
    with pytest.raises(ValueError, match="the source's own"):
        read_into(seen, items)
    assert seen == [0, 1, 2]
    assert items.get() is None


def test_a_reader_waits_no_longer_than_it_says() -> None:
    """None means that nothing came in time; the source continues."""
    source = Source(1, "wait")
    items = Pulled(source.run())
    assert items.get(10) == 0
    since = time.monotonic()
    assert items.get(0.05) is None and items.get(0) is None
    assert time.monotonic() - since < 5
    assert not items.ended
    items.stop()
    assert source.left.wait(5)


@pytest.mark.parametrize("started", [True, False])
def test_stopping_ends_the_source_and_gives_what_is_left(started: bool) -> None:
    """It has been left when `stop` returns; one that was not started never is."""
    source = Source(3, "wait")
    items = Pulled(source.run())
    if started:
        assert items.get() == 0
        while len(items._items) < 2:
            time.sleep(0.01)
    assert items.stop(10) == ([1, 2] if started else [])
    assert source.left.is_set() == started
    assert items.ended and items.stop() == []


def test_another_thread_can_end_the_source() -> None:
    """The reader gets what has come, then the end; also when it starts only then."""
    source = Source(1, "wait")
    items = Pulled(source.run())
    timer = threading.Timer(0.1, items.cancel)
    timer.start()
    assert list(items) == [0]
    assert source.left.is_set()
    for _ in range(200):  # in whatever order the loop gets to know of both
        late = Pulled(Source(3, "wait").run())
        late.cancel()
        assert list(late) == []
    timer.join()


@pytest.mark.parametrize("as_message", [True, False])
def test_an_interrupt_ends_the_reading(as_message: bool) -> None:
    """Raised where the reader waits, and the source is left."""
    source = Source(1, "wait")
    inbox = Inbox()
    main = threading.main_thread().ident
    assert main is not None
    stop = inbox.stop if as_message else lambda: signal.pthread_kill(main, signal.SIGINT)
    timer = threading.Timer(0.1, stop)
    seen: list[int] = []
    timer.start()
    items = Pulled(source.run(), inbox)
    with pytest.raises(KeyboardInterrupt):
        read_into(seen, items)
    items.stop()
    assert seen == [0]
    assert source.left.wait(5)
    timer.join()


class Place:
    """An async context manager that one at a time can be in."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.refused = False

    @contextlib.asynccontextmanager
    async def taken(self) -> AsyncIterator[str]:
        if self.refused:
            raise ValueError("on entering")
        async with self.lock:
            yield threading.current_thread().name


def test_sync_code_enters_and_leaves_on_the_loop() -> None:
    """Also by an exception; what entering raises comes to the caller."""
    place = Place()
    with entered(place.taken()) as name:
        assert name == "halo-io"
        assert place.lock.locked()
    with pytest.raises(ZeroDivisionError), entered(place.taken()):
        raise ZeroDivisionError
    assert not place.lock.locked()
    place.refused = True
    with pytest.raises(ValueError, match="on entering"), entered(place.taken()):
        pytest.fail("it is not entered")


def test_who_stops_waiting_takes_no_place() -> None:
    """The next one gets it."""
    place = Place()
    inbox = Inbox()
    with entered(place.taken()):
        threading.Timer(0.1, inbox.stop).start()
        with pytest.raises(KeyboardInterrupt), entered(place.taken(), inbox):
            pytest.fail("it is not entered")

    async def take() -> bool:
        async with place.taken():
            return place.lock.locked()

    assert wait(spawn(take()))
    assert not place.lock.locked()
