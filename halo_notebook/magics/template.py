"""Replaces `{{ expression }}` in a prompt with its value from the notebook.

Single braces are left alone, so code and JSON in a prompt stay as typed. So are double braces
that are empty or not closed. An expression may itself contain braces: it ends at the first
closing pair after which it compiles.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import CodeType
from typing import Any

from ..concurrency import usercode
from ..display.text import one_line
from ..errors import UsageError


def expand(prompt: str, evaluate: Callable[[CodeType], Any]) -> str:
    """Return `prompt` with each `{{ expression }}` replaced by its value as text.

    Raises:
        UsageError: when a name is unknown or an expression fails; the message quotes it.

    >>> expand("Plan {{ plan }}, {not this}", lambda code: eval(code, {"plan": "pro"}))
    'Plan pro, {not this}'
    """
    parts = []
    at = 0
    while (start := prompt.find("{{", at)) >= 0:
        found = _expression(prompt, start)
        end = start + 2
        if found is None:
            parts.append(prompt[at:end])
        else:
            source, code, end = found
            parts += [prompt[at:start], _value(source, code, evaluate)]
        at = end
    return "".join([*parts, prompt[at:]])


def _expression(prompt: str, start: int) -> tuple[str, CodeType, int] | None:
    """The expression that starts at `start`: its source, code and end; None if there is none."""
    first = end = prompt.find("}}", start)
    while end >= 0:
        source = prompt[start + 2 : end].strip()
        if not source and end == first:
            return None
        with suppress(SyntaxError, ValueError, RecursionError, MemoryError):
            return source, compile(source, "<prompt>", "eval"), end + 2
        end = prompt.find("}}", end + 1)
        if end - start > 2_000:  # too long for an expression, and each attempt compiles it again
            break
    if first < 0:
        return None
    raise UsageError(
        f"{_quoted(prompt[start + 2 : first])} is not a Python expression. Nothing was sent; fix it. "
        "(%%halo --raw sends braces as typed.)"
    )


def _value(source: str, code: CodeType, evaluate: Callable[[CodeType], Any]) -> str:
    try:
        return str(usercode.call(str, usercode.call(evaluate, code)))
    except usercode.UserCodeError as raised:
        error = raised.error
        name = getattr(error, "name", None)
        if isinstance(error, NameError) and name in code.co_names:
            raise UsageError(
                f"No variable named {name!r} for {_quoted(source)}. Nothing was sent; define it. "
                "(%%halo --raw sends braces as typed.)"
            ) from None
        raise UsageError(
            f"{_quoted(source)} raised {type(error).__name__}: {one_line(str(error))}. Nothing was sent; fix "
            "the expression."
        ) from None


def _quoted(source: str) -> str:
    return f"{{{{ {one_line(source, 60)} }}}}"
