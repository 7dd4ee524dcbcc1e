"""Messages as inspect_ai has them, and what a model makes of them."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inspect_ai.model import ChatMessage, Model, ModelOutput
    from inspect_ai.solver import Generate, Solver, TaskState


def message(role: str, content: Any, **metadata: Any) -> dict[str, Any]:
    """A message as JSON: inspect_ai is slow to import, so not while tests are collected."""
    return {"role": role, "content": content, "metadata": metadata or None}


user, assistant = partial(message, "user"), partial(message, "assistant")


def messages(given: Any) -> list[ChatMessage]:
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
            state.messages += messages([user(text, **metadata)])
            return await generate(state)

        return solve

    return saying()


def generated(model: Model, *given: Any, **config: Any) -> ModelOutput:
    from inspect_ai.model import GenerateConfig

    return asyncio.run(model.generate(messages(given), config=GenerateConfig(**config)))


def about(message: Any) -> dict[str, Any]:
    """What an assistant's message says about its reply."""
    said = message.metadata["halo"]
    assert isinstance(said, dict)
    return said
