"""What the tests of evaluations send, and the agents that they send it to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from halo_notebook.checks import JudgedTurn, Score
from halo_notebook.concurrency.interrupts import InterruptInbox
from halo_notebook.evaluation.cases.case import Case, CaseTurn, Conversation
from halo_notebook.evaluation.file.lines import located_lines
from halo_notebook.evaluation.judging.checks import named_checks, seen_of
from halo_notebook.evaluation.judging.concurrent_checks import Ended, Jury
from halo_notebook.reply import Reply
from halo_notebook.stream import JSON, TextDelta

if TYPE_CHECKING:
    from pathlib import Path

    from inspect_ai.model import ChatMessage, Model, ModelOutput
    from inspect_ai.solver import Generate, Solver, TaskState

    from halo_notebook import DemoAgent, Evaluation
    from halo_notebook.demo import Step
    from halo_notebook.evaluation.judging.checks import Seen

Scripted = Callable[[dict[str, JSON]], "Iterator[Step]"]


def ok(reply: Reply) -> bool:
    """A check that every complete reply passes."""
    return True


def seen(*replies: Reply, expect: JSON = None) -> Seen:
    """What checks see of the last turn of a conversation with these replies, by default an empty one."""
    said = [JudgedTurn(f"message {number}", reply) for number, reply in enumerate(replies or [Reply()])]
    case = Case("1", tuple(CaseTurn(turn.message) for turn in said), expect)
    return seen_of(Conversation("key", case, "demo", 1), said, is_last=True)


def judged(checks: Any, *replies: Reply, expect: JSON = None) -> dict[str, Score]:
    """What checks find about the last turn of a conversation with these replies."""
    found: dict[str, Score] = {}
    turn = Ended("key", len(replies) - 1, seen(*replies, expect=expect), named_checks(checks))
    with InterruptInbox() as inbox:
        Jury(lambda _, scores: found.update(scores), 8).judge([turn], inbox)
    return found


def stopping_once() -> Callable[[Reply], bool]:
    """A check in whose first call the user presses Stop."""
    stopped: list[bool] = []

    def stops(reply: Reply) -> bool:
        if not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        return True

    return stops


def messages(count: int) -> list[str]:
    return [f"message {number}" for number in range(count)]


def sent(agent: DemoAgent) -> list[str]:
    """The messages that the agent has received."""
    return [request.body["message"] for request in agent.requests]


def states(result: Evaluation) -> list[str]:
    return [row["status"] for row in result.rows()]


def causes(path: Path) -> list[str]:
    """The cause of each turn that has ended, in the order of the file."""
    return [line["cause"] for _, line in located_lines(path) if line["kind"] == "turn"]


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


# --- Of inspect_ai ----------------------------------------------------------------------


def message(role: str, content: Any, **metadata: Any) -> dict[str, Any]:
    """A message as JSON: inspect_ai is slow to import, so not while tests are collected."""
    return {"role": role, "content": content, "metadata": metadata or None}


user, assistant = partial(message, "user"), partial(message, "assistant")


def chat(given: Any) -> list[ChatMessage]:
    """As inspect's own objects."""
    from inspect_ai.model import ChatMessage
    from pydantic import TypeAdapter

    return TypeAdapter(list[ChatMessage]).validate_python(given)


def say(text: str, **metadata: Any) -> Solver:
    """A solver that appends a user message and generates the reply."""
    from inspect_ai.solver import solver

    @solver
    def saying() -> Solver:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            state.messages += chat([user(text, **metadata)])
            return await generate(state)

        return solve

    return saying()


def generated(model: Model, *given: Any, **config: Any) -> ModelOutput:
    from inspect_ai.model import GenerateConfig

    return asyncio.run(model.generate(chat(given), config=GenerateConfig(**config)))


def about(message: Any) -> dict[str, Any]:
    """What an assistant's message says about its reply."""
    said = message.metadata["halo"]
    assert isinstance(said, dict)
    return said
