"""Async sources used from sync code: they run on the loop, and the calling thread waits for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from .loop import post, spawn, wait

T = TypeVar("T")


@contextlib.contextmanager
def entered(manager: AbstractAsyncContextManager[T]) -> Iterator[T]:
    """Enter `manager` on the loop, and leave it there when this block ends.

    One task enters and leaves it, so that an interrupt at any moment leaves it too. An exception of
    the block does not reach `manager`.
    """
    entering: Future[T] = Future()
    leave = asyncio.Event()

    async def hold() -> None:
        try:
            async with manager as value:
                if entering.set_running_or_notify_cancel():
                    entering.set_result(value)
                    await leave.wait()
        except BaseException as error:
            if entering.done():
                raise
            entering.set_exception(error)

    holding: Future[None] | None = None
    try:
        holding = spawn(hold())
        yield wait(entering)
    finally:
        post(leave.set)
        if holding is not None:
            if entering.done() and not entering.cancelled():
                wait(holding)
            else:
                holding.cancel()
