"""A function as a turn of a case: it says the messages that follow, in reaction to the agent's replies."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from ...checks.versions import version_of
from ...client.request import RequestFields, checked_request
from ...display.text import one_line, whole_text
from ...errors import InvalidRequest

if TYPE_CHECKING:
    from ...checks import JudgedTurn
    from ...stream import JSON

MAX_TURNS = 10
"""How many turns a conversation with a user has at most, if its case does not say."""
MOST_TURNS = 10_000
"""A case may allow so many."""
TOO_MANY_TURNS, USER_FAILED = "too many turns", "user failed"


class ConversationEnd(Enum):
    """Why a user ends a conversation. A function that is a turn of a case may return one instead of None."""

    GOAL_REACHED = "goal reached"
    GAVE_UP = "gave up"
    ENDED = "ended"


END_REASONS = (*(each.value for each in ConversationEnd), TOO_MANY_TURNS, USER_FAILED)
Said: TypeAlias = "str | Mapping[str, Any] | ConversationEnd | None"
User: TypeAlias = "Callable[[tuple[JudgedTurn, ...]], Said | Awaitable[Said]]"
# A token is never written to the file, from which an interrupted conversation gets its messages.
_NOT_FROM_USERS = ("session_id", "user_token")
FIELDS = tuple(name for name in RequestFields.__annotations__ if name not in _NOT_FROM_USERS)


@dataclass(frozen=True, slots=True)
class CaseUser:
    """The user of a case, who says what follows its first messages.

    Attributes:
        function: gets the turns so far, a tuple of `JudgedTurn`, and returns the next message, a dict with
            `message` and request fields, or None or a `ConversationEnd` to end; sync or async. None in a case
            that was read from a file.
        version: of the function: its attribute `version`, or a digest of its code.
        goal: its attribute `goal`, or empty.
        max_turns: how many turns the conversation has at most, the first messages included.
        expect: what is expected of each reply to the user.
        fields: request fields that go with each of the user's messages.
    """

    function: User | None
    version: str
    goal: str = ""
    max_turns: int = MAX_TURNS
    expect: JSON = None
    fields: dict[str, Any] = field(default_factory=dict)


def user_of(function: User, name: str, **given: Any) -> CaseUser:
    """The function as the user of the case that is called `name`. Raises `InvalidRequest`."""
    if isinstance(function, type):
        raise InvalidRequest(f"{name}: {function.__name__} is a class. Nothing was sent; call it.")
    if not _takes_one_argument(function):
        raise InvalidRequest(
            f"{name}: its user must take one argument, the conversation so far. Nothing was sent; fix the "
            "function."
        )
    goal = getattr(function, "goal", "")
    if not isinstance(goal, str):
        raise InvalidRequest(
            f"{name}: the goal of its user must be a string, not {type(goal).__name__}. Nothing was sent; "
            "fix it."
        )
    version = version_of(function)
    if version != version_of(function):
        raise InvalidRequest(
            f"{name}: the version of its user cannot be determined. Nothing was sent; give the function an "
            "attribute 'version', a string."
        )
    return CaseUser(function, whole_text(version), whole_text(goal), **given)


def _takes_one_argument(function: User) -> bool:
    try:
        inspect.signature(function).bind(())
    except TypeError:
        return False
    except ValueError:  # a builtin, which does not say so
        pass
    return True


def checked_answer(answer: Any) -> tuple[str, dict[str, JSON]] | ConversationEnd:
    """What a user said: a message with its request fields as they are sent, or the end.

    Raises `InvalidRequest`, naming what a user may return.
    """
    match answer:
        case None:
            return ConversationEnd.ENDED
        case ConversationEnd():
            return answer
        case str():
            given: dict[str, Any] = {"message": answer}
        case Mapping():
            given = dict(answer)
        case _:
            raise InvalidRequest(
                f"it returned {type(answer).__name__}, and a user returns a message, a dict with 'message' "
                "and request fields, None or a ConversationEnd"
            )
    for name in given:
        if name not in ("message", *FIELDS):
            raise InvalidRequest(
                f"it returned the key {one_line(str(name), 40)!r}. Allowed: message, {', '.join(FIELDS)}"
            )
    message = given.pop("message", None)
    try:
        body = checked_request(message, given, {}).body
    except InvalidRequest as error:
        raise InvalidRequest(str(error).partition(". Nothing was sent")[0]) from None
    body = json.loads(whole_text(json.dumps(body, ensure_ascii=False)))  # what it is in the file
    return body.pop("message"), body
