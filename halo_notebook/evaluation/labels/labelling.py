"""Labels added to an evaluation and to its file: each is on the disk before the call returns."""

from __future__ import annotations

import contextlib
import getpass
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO

from ...checks import NoVerdict
from ...checks.verdicts import plain
from ...display.text import one_line, whole_text
from ...errors import InvalidRequest, UsageError
from ..cases.case import is_missing
from ..file.journal import Journal
from ..file.label_lines import FAIL, LABELS, PASS, UNSURE, Label, reply_digest
from ..file.lines import line_at
from ..outcomes import COMPLETE
from ..tables.browsing import tell_changed
from ..tables.rows import row_number

if TYPE_CHECKING:
    import pandas as pd

    from ...stream import JSON
    from ..cases.case import Conversation
    from ..file.state import RunState, TurnState

MAX_NOTE_CHARACTERS = 10_000
MAX_AUTHOR_CHARACTERS = 100
_LOCK_WAIT_S = 2.0  # another person's label takes milliseconds; an evaluation does not end so soon
_MEANINGS = {True: PASS, False: FAIL, None: UNSURE}


@dataclass(frozen=True, slots=True)
class Row:
    """A row of `df`: a turn of a conversation."""

    number: int
    conversation: Conversation
    turn: int
    state: TurnState


def rows_of(state: RunState) -> Iterator[Row]:
    """The rows in their order."""
    number = 0
    for conversation in state.conversations.values():
        for turn, turn_state in enumerate(state.turns(conversation)):
            yield Row(number, conversation, turn, turn_state)
            number += 1


def verdict_of(row: Row, check: str) -> bool | None:
    """What a check says of a complete reply; None where it says nothing."""
    score = row.state.scores.get(check)
    is_verdict = row.state.status == COMPLETE and score is not None and not isinstance(score, NoVerdict)
    return score.passed if score is not None and is_verdict else None


def label_rows(
    state: RunState, labels: Mapping[int, Any], notes: Mapping[int, str] | None, author: str | None
) -> None:
    """See `Evaluation.label_rows`."""
    given = _by_row(labels, "labels")
    noted = _by_row({} if notes is None else notes, "notes")
    if unlabelled := [row for row in noted if row not in given]:
        raise InvalidRequest(
            f"Row {unlabelled[0]} has a note and no label. Nothing was labelled; give it a label, too."
        )
    rows = list(rows_of(state)) if given else []
    add_labels(
        state,
        [
            (_row(rows, row), _label(value, f"Row {row}"), checked_note(noted.get(row), f"Row {row}"))
            for row, value in given.items()
        ],
        author_name(author),
    )


def _by_row(given: Any, name: str) -> dict[int, Any]:
    """A dict, a column of a table, or pairs; without the rows that have no value, such as an empty cell."""
    is_column = getattr(given, "ndim", None) == 1 and hasattr(given, "items")
    pairs = given.items() if isinstance(given, Mapping) or is_column else given
    try:
        pairs = [(row, value) for row, value in pairs]
    except (TypeError, ValueError):
        what = type(given).__name__
        raise InvalidRequest(
            f"{name} must be a dict by row, not {what}. Nothing was labelled; a column of a table works, too."
        ) from None
    found: dict[int, Any] = {}
    for row, value in pairs:
        number = row_number(row)
        if number is None or number in found:
            shown = one_line(repr(row), 40)
            raise InvalidRequest(
                f"{name}: {shown} is not a row. Nothing was labelled; rows are numbered from 0, as in df."
                if number is None
                else f"{name}: row {shown} is there twice. Nothing was labelled; give each row once."
            )
        # A column has None where it has no value; in a dict, None is a label.
        if (value is None and not is_column) or not is_missing(value):
            found[number] = value
    return found


def _row(rows: Sequence[Row], number: int) -> Row:
    if number >= len(rows):
        raise InvalidRequest(
            f"Row {number} does not exist. Nothing was labelled; the result has {len(rows):,} rows, numbered "
            "from 0."
        )
    row = rows[number]
    if row.state.status != COMPLETE:
        raise InvalidRequest(
            f"Row {number} has no complete reply ({row.state.status}). Nothing was labelled; leave it out."
        )
    return row


def _label(value: Any, place: str) -> str:
    with contextlib.suppress(ValueError):  # an array of several values
        value = plain(value)
    if value is None or isinstance(value, bool):
        return _MEANINGS[value]
    if isinstance(value, str) and value in LABELS:
        return value
    raise InvalidRequest(
        f"{place}: {one_line(repr(value), 40)} is not a label. Nothing was labelled; allowed are True, "
        "False, None, 'pass', 'fail' and 'unsure'."
    )


def checked_note(note: Any, place: str) -> str:
    """A note as text. Raises `InvalidRequest`."""
    if note is None:
        return ""
    if not isinstance(note, str) or len(note) > MAX_NOTE_CHARACTERS:
        what = f"{len(note):,} characters long" if isinstance(note, str) else type(note).__name__
        raise InvalidRequest(
            f"{place}: its note is {what}. Nothing was labelled; give a text of at most "
            f"{MAX_NOTE_CHARACTERS:,} characters."
        )
    return whole_text(note).strip()


def author_name(author: Any = None) -> str:
    """Who labels: a name in one line, by default that of the user. Raises `InvalidRequest`."""
    if author is None:
        try:
            author = getpass.getuser()
        except (OSError, KeyError, ImportError):  # a container may have no user of that number
            author = "unknown"
    name = whole_text(author).strip() if isinstance(author, str) else ""
    if not 0 < len(name) <= MAX_AUTHOR_CHARACTERS or any(unicodedata.category(each) == "Cc" for each in name):
        raise InvalidRequest(
            f"author must be a name, not {one_line(repr(author), 40)}. Nothing was labelled; give one line "
            f"of at most {MAX_AUTHOR_CHARACTERS} characters."
        )
    return one_line(name)


def add_labels(state: RunState, chosen: Iterable[tuple[Row, str, str]], author: str) -> list[Label]:
    """Add each row's label and note, all or none. Raises `UsageError` when they cannot be written."""
    at = datetime.now(UTC)
    made: list[Label] = []
    lines: list[dict[str, JSON]] = []
    with _opened(state) as file:
        for row, label, note in chosen:
            made.append(Label(author, label, note, at, reply_digest(_reply(row, file))))
            lines.append(made[-1].line(row.conversation.key, row.turn))
    write(state, lines)
    return made


@contextlib.contextmanager
def _opened(state: RunState) -> Iterator[BinaryIO]:
    """The file, to read its lines. Raises `UsageError`, which says that nothing was labelled."""
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(state.opened())
        except UsageError as error:
            raise UsageError(str(error).replace("Nothing was changed", "Nothing was labelled")) from None
        yield file


def write(state: RunState, lines: Sequence[dict[str, JSON]]) -> None:
    """Add these lines to the file, and then to what is known. Raises `UsageError`."""
    if not lines:
        return
    with _opened(state):  # a journal would create a file that is not there
        pass
    try:
        journal = Journal(state.path, _LOCK_WAIT_S)
        for line in lines:
            journal.append(line)
        journal.close()
    except UsageError as error:
        why = str(error).partition(". ")[0]
        raise UsageError(f"{why}. Nothing was labelled; try again when it can be written.") from None
    for line in lines:
        state.take(line)
    tell_changed(state)


def labels_frame(state: RunState) -> pd.DataFrame:
    """See `Evaluation.labels`."""
    from ..tables.dataframes import TEXT, table_of

    found = [
        {
            "row": row.number,
            "case": row.conversation.case.id,
            "config": row.conversation.config,
            "repeat": row.conversation.repeat,
            "turn": row.turn + 1,
            "author": label.author,
            "label": label.label,
            "note": label.note,
            "at": label.at,
        }
        for row, labels in labelled_rows(state)
        for label in labels
    ]
    columns = ("row", "case", "config", "repeat", "turn", "author", "label", "note", "at")
    types: dict[str, Any] = {
        **dict.fromkeys(("row", "repeat", "turn"), "int64"),
        **dict.fromkeys(("case", "config", "author", "label", "note"), TEXT),
        "at": "datetime64[ms, UTC]",
    }
    return table_of(found, columns, types)


def labelled_rows(state: RunState) -> Iterator[tuple[Row, list[Label]]]:
    """The rows with labels that count, and these."""
    with state.opened() as file:
        for row in rows_of(state):
            key, turn = row.conversation.key, row.turn
            if row.state.status != COMPLETE or not state.labels.has(key, turn):
                continue
            if labels := state.labels.of(key, turn, _reply(row, file)):
                yield row, labels


def _reply(row: Row, file: BinaryIO) -> dict[str, Any]:
    """The content of a complete reply, in the open file."""
    assert row.state.at is not None
    reply: dict[str, Any] = line_at(file, row.state.at)["reply"]
    return reply
