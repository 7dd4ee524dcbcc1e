"""A sample of replies that one person labels, one after the other.

- A label is in the file, on the disk, before the next reply is shown.
- The sample is in the file, too. So the same call continues where the person was, also in another kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..file.journal import now
from ..file.label_lines import Label, sample_line
from .labelling import Row, add_labels, author_name, checked_note, labelled_rows, write
from .samples import draw

if TYPE_CHECKING:
    from ..file.state import RunState


class LabelQueue:
    """The replies of a sample in their order, with the labels that one person has given so far.

    `about` is ``conversation`` where a label is of the whole conversation, as the verdict of the check is.
    """

    def __init__(self, state: RunState, rows: Sequence[Row], author: str, about: str = "reply") -> None:
        self.state = state
        self.rows = tuple(rows)
        self.author = author
        known = {
            row.number: label
            for row, labels in labelled_rows(state)
            for label in labels
            if label.author == author
        }
        self.about = about
        self.labels: list[Label | None] = [known.get(row.number) for row in self.rows]

    @property
    def is_kept(self) -> bool:
        """Whether the labels stay when the result is gone."""
        return self.state.removal is None or not self.state.removal.alive

    @property
    def done(self) -> int:
        """How many have a label."""
        return sum(label is not None for label in self.labels)

    def following(self, place: int) -> int | None:
        """The first place from there on without a label, then from the beginning; None if all have one."""
        places = [*range(place, len(self.rows)), *range(place)]
        return next((each for each in places if self.labels[each] is None), None)

    def label(self, place: int, label: str, note: str) -> None:
        """Label the reply at that place. Raises `UsageError` when the label cannot be written."""
        row = self.rows[place]
        said = checked_note(note, f"Row {row.number}")
        [self.labels[place]] = add_labels(self.state, [(row, label, said)], self.author)


def open_queue(
    state: RunState,
    n: int,
    by: str | Sequence[str] | None = None,
    *,
    seed: int = 0,
    author: str | None = None,
) -> LabelQueue:
    """Draw a sample, and write it to the file if it is new. Raises `InvalidRequest` and `UsageError`."""
    name = author_name(author)
    sample = draw(state, n, by, seed)
    if sample.strata not in state.labels.samples:
        write(state, [sample_line(now(), sample.strata)])
    return LabelQueue(state, sample.rows, name, "conversation" if sample.of_conversations else "reply")
