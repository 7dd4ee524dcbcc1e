"""What people say about replies: the labels in an evaluation's file, and the samples to be labelled.

- A label belongs to the reply that it judged. If that message is sent again, it does not count any more.
- Of the labels of one author, the latest in the file counts. Of several authors, the majority counts; an
  unsure one does not vote.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ..cases.case import digest

if TYPE_CHECKING:
    from ...stream import JSON

PASS, FAIL, UNSURE = LABELS = ("pass", "fail", "unsure")


@dataclass(frozen=True, slots=True)
class Label:
    """What one person says about a reply, of which `reply` is a digest; `label` is one of `LABELS`."""

    author: str
    label: str
    note: str
    at: datetime
    reply: str

    def line(self, key: str, turn: int) -> dict[str, JSON]:
        """The label of that turn as a line."""
        at = self.at.isoformat(timespec="milliseconds")
        said: dict[str, JSON] = {"label": self.label, "note": self.note, "author": self.author, "at": at}
        return {"kind": "label", "key": key, "turn": turn, "reply": self.reply, **said}


@dataclass(frozen=True, slots=True)
class Stratum:
    """A part of the rows: how many there were, and those that were drawn by chance, by key and turn."""

    size: int
    drawn: tuple[tuple[str, int], ...]


class Labels:
    """The labels and samples in a file, in the order in which they were written."""

    def __init__(self) -> None:
        self._by_turn: dict[tuple[str, int], dict[str, Label]] = {}
        self.samples: dict[tuple[Stratum, ...], None] = {}  # in their order, each once

    def take(self, line: Mapping[str, Any]) -> None:
        """Take in a line that has been checked."""
        if line["kind"] == "sample":
            strata = tuple(
                Stratum(each["size"], tuple((key, turn) for key, turn in each["drawn"]))
                for each in line["strata"]
            )
            self.samples[strata] = None
            return
        at = datetime.fromisoformat(line["at"])
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
        label = Label(line["author"], line["label"], line["note"], at, line["reply"])
        self._by_turn.setdefault((line["key"], line["turn"]), {})[label.author] = label

    def of(self, key: str, turn: int, reply: Mapping[str, Any] | None) -> list[Label]:
        """The labels of a turn's reply, one for each author; `reply` is its content in the file."""
        found = self._by_turn.get((key, turn))
        if not found or reply is None:
            return []
        made = reply_digest(reply)
        return [label for label in [*found.values()] if label.reply == made]

    def has(self, key: str, turn: int) -> bool:
        """Whether the turn has a label, of this or an earlier reply."""
        return (key, turn) in self._by_turn

    def copied(self) -> Labels:
        """A copy to which labels can be added."""
        made = Labels()
        made._by_turn = {turn: dict(labels) for turn, labels in self._by_turn.items()}
        made.samples = dict(self.samples)
        return made


def reply_digest(reply: Mapping[str, Any]) -> str:
    """A digest of a reply's content in the file, which has the time at which it began."""
    return digest(dict(reply))


def passes(labels: Iterable[Label]) -> bool | None:
    """What most of the authors say; None without a majority."""
    votes = [label.label for label in labels]
    passed, failed = votes.count(PASS), votes.count(FAIL)
    return None if passed == failed else passed > failed


def joined_notes(labels: Iterable[Label]) -> str:
    """The notes in one line, with the authors if there are several. An unsure label without one says so."""
    said = list(labels)
    words = [(each.author, each.note or (UNSURE if each.label == UNSURE else "")) for each in said]
    named = (f"{author}: {note}" if len(said) > 1 else note for author, note in words if note)
    return "; ".join(named)


def sample_line(at: str, strata: Iterable[Stratum]) -> dict[str, JSON]:
    """A sample as a line."""
    made: list[JSON] = [
        {"size": each.size, "drawn": [[key, turn] for key, turn in each.drawn]} for each in strata
    ]
    return {"kind": "sample", "at": at, "strata": made}
