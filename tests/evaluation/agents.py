"""What the tests of evaluations send, and the agents that they send it to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from halo_notebook.stream import JSON, TextDelta

if TYPE_CHECKING:
    from halo_notebook import DemoAgent, Evaluation, Reply
    from halo_notebook.demo import Step

Scripted = Callable[[dict[str, JSON]], "Iterator[Step]"]


def ok(reply: Reply) -> bool:
    """A check that every complete reply passes."""
    return True


def messages(count: int) -> list[str]:
    return [f"message {number}" for number in range(count)]


def sent(agent: DemoAgent) -> list[str]:
    """The messages that the agent has received."""
    return [request.body["message"] for request in agent.requests]


def states(result: Evaluation) -> list[str]:
    return [row["status"] for row in result.rows()]


def in_two_parts(pause_s: float) -> Scripted:
    """Replies that pause in the middle."""

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta("first ")
        yield pause_s
        yield TextDelta("and last")

    return reply


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)
