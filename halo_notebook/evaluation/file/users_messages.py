"""What the users of an evaluation's cases have said, where it is in the file, and how conversations ended.

A message is said once: it belongs to its place in the conversation, in whichever round or process it is sent.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from ..cases.case import CaseTurn
from ..cases.user_functions import TOO_MANY_TURNS, USER_FAILED
from .lines import line_at

if TYPE_CHECKING:
    from ..cases.case import Conversation


@dataclass(frozen=True, slots=True)
class End:
    """The end of a conversation, as its user decided it.

    Attributes:
        turns: how many it had.
        reason: one of `END_REASONS`.
        note: why the user failed; otherwise empty.
    """

    turns: int
    reason: str
    note: str

    @property
    def failed(self) -> bool:
        """Whether the user failed: the conversation may still go on."""
        return self.reason == USER_FAILED


class UsersMessages:
    """The messages by the conversations' keys: 8 bytes each."""

    def __init__(self) -> None:
        self._places: dict[str, array[int]] = {}  # the bytes at which the lines begin
        self._ends: dict[str, End] = {}

    def take(self, line: Mapping[str, Any], at: int, conversation: Conversation) -> None:
        """Take in a line of the kind ``message`` or ``end`` that begins at that byte."""
        if conversation.case.user is None:
            return
        key = conversation.key
        if line["kind"] == "end":
            self._ends[key] = End(line["turn"], line["reason"], line["note"])
        elif line["turn"] == self.count(conversation):
            self._places.setdefault(key, array("Q")).append(at)

    def count(self, conversation: Conversation) -> int:
        """How many messages of a conversation are known, sent or not."""
        fixed = len(conversation.case.turns)
        return fixed + len(self._places.get(conversation.key, ())) if conversation.case.user else fixed

    def end(self, conversation: Conversation) -> End | None:
        """How it ended, after all of its messages; it goes on where its case allows more turns than then."""
        end = self._ends.get(conversation.key)
        if end is None or end.turns != self.count(conversation):
            return None
        return None if end.reason == TOO_MANY_TURNS and end.turns < conversation.case.most_turns else end

    def read(self, conversation: Conversation, file: BinaryIO) -> list[CaseTurn]:
        """The messages that the user has said, from the open file."""
        lines = [line_at(file, at, "message") for at in self._places.get(conversation.key, ())]
        return [said_turn(conversation, line["message"], line["fields"]) for line in lines]


def said_turn(conversation: Conversation, message: str, fields: Mapping[str, Any]) -> CaseTurn:
    """A message of a conversation's user, with all request fields that go with it."""
    user = conversation.case.user
    return CaseTurn(message, user.expect, {**user.fields, **fields}) if user else CaseTurn(message)
