"""An async client works on each loop of asyncio, keeps none that has ended, and says where there is none."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import pytest
import trio

from halo_notebook import AsyncHaloClient, errors
from halo_notebook.demo import DEMO_KEY, DemoAgent

from .servers import over, over_each

Ask: TypeAlias = Callable[[AsyncHaloClient], Coroutine[Any, Any, Any]]


async def left(client: AsyncHaloClient) -> None:
    async with client.stream("Hello") as events:
        async for _ in events:
            break


@pytest.mark.parametrize("user_token", [None, lambda: "a.token"], ids=["no token", "a callable"])
@pytest.mark.parametrize("ask", [lambda client: client.ask("Hello"), left], ids=["ask", "left"])
def test_a_client_keeps_no_loop_that_has_ended(ask: Ask, user_token: Any, agent: DemoAgent) -> None:
    """Nor its connections and certificates; turns at the same time share what belongs to their loop."""
    client = AsyncHaloClient(DEMO_KEY, base_url=agent.url, user_token=user_token)
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def three_turns() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*(ask(client) for _ in range(3)))

    for _ in range(10):
        asyncio.run(three_turns())
    gc.collect()
    assert [loop() for loop in loops] == [None] * 10


USES: dict[str, Ask] = {
    "ask": lambda client: client.ask("Hi"),
    "chat": lambda client: client.chat("Hi"),
    "stream": left,
    "aclose": lambda client: client.aclose(),
}


def by_hand(function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    function().send(None)


def in_a_thread(function: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    raised: list[errors.HaloError] = []

    def run() -> None:
        try:
            by_hand(function)
        except errors.HaloError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    raise raised[0]


@pytest.mark.parametrize("user_token", [None, lambda: "a.token"], ids=["no token", "a callable"])
@pytest.mark.parametrize("run", [trio.run, by_hand, in_a_thread])
@pytest.mark.parametrize("use", USES)
def test_without_a_loop_of_asyncio_it_is_one_line(
    use: str, run: Callable[[Any], Any], user_token: Any, agent: DemoAgent
) -> None:
    """Under trio, and where nothing runs: nothing is sent."""
    client = AsyncHaloClient(DEMO_KEY, base_url=agent.url, user_token=user_token)
    with pytest.raises(errors.UsageError, match="No event loop of asyncio runs here") as caught:
        run(lambda: USES[use](client))
    assert "Nothing was sent" in str(caught.value) and "\n" not in str(caught.value)
    assert not agent.requests


@over_each
@pytest.mark.parametrize("message", ["Hello", "Open a ticket", "help"])
@pytest.mark.parametrize("whole", [True, False], ids=["read", "left"])
def test_an_exchange_is_freed_without_the_garbage_collector(
    whole: bool, message: str, via: str, agent: DemoAgent
) -> None:
    """Thousands of them would keep the collector busy; also one that was left before its end."""

    async def asked() -> weakref.ref[Any]:
        async with over(agent.url, via) as client:
            stream = client.stream(message)
            async with stream:
                await (stream.to_end() if whole else anext(stream))
            return weakref.ref(stream)

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(asked())() is None
    finally:
        gc.enable()
