"""What an evaluation sends: cases, each a conversation of one or more turns.

- Whatever form cases come in, each becomes one `Case`, or the error names the case and what is wrong.
- A case's key is a digest of its messages and the fields that go with them, not of its id or expectation.
"""

from __future__ import annotations

import contextlib
import csv
import difflib
import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from ..client.request import RequestFields, checked_request, plain_json
from ..errors import InvalidRequest

if TYPE_CHECKING:
    from ..stream import JSON

CaseSource: TypeAlias = "str | Path | Sequence[Any] | Mapping[str, Any] | Any"

_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode
_FIELDS = tuple(name for name in RequestFields.__annotations__ if name != "session_id")


@dataclass(frozen=True, slots=True)
class CaseTurn:
    """One message of a case, with the request fields that go with it (see `RequestFields`).

    `expect` is what checks of its reply get as expected: any JSON, None for nothing.
    """

    message: str
    expect: JSON = None
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case:
    """A conversation to have with an agent: its turns, in order, in one session.

    `id` is its name in tables, and `tags` group it. `expect` is for the last reply, see `CaseTurn`.
    """

    id: str
    turns: tuple[CaseTurn, ...]
    expect: JSON = None
    tags: tuple[str, ...] = ()

    def expected(self, turn: int) -> JSON:
        """What is expected of that turn's reply (from 0): its own expectation, or the case's for the last."""
        own = self.turns[turn].expect
        return self.expect if own is None and turn == len(self.turns) - 1 else own

    @property
    def content_key(self) -> str:
        """A digest of what is sent, whatever the id."""
        return digest([[turn.message, plain_json(turn.fields, "a field")] for turn in self.turns])


@dataclass(frozen=True, slots=True)
class Conversation:
    """A case as it is run once."""

    key: str  # a digest of what is sent to whom, and the number of the repeat
    case: Case
    config: str  # the name of the configuration that it is sent to
    repeat: int  # from 1


def digest(content: JSON) -> str:
    """A short name for JSON content, the same on every machine."""
    return hashlib.sha256(_canonical(content).encode("utf-8", "replace")).hexdigest()[:20]


def read_cases(source: CaseSource) -> list[Case]:
    """Return the cases in `source`.

    Args:
        source: a list whose items are a message, a list of messages (turns of one conversation), a
            dict or a `Case`; a pandas DataFrame with a row per case; or the path of a file, ``.jsonl``
            with one such item per line or ``.csv`` with a row per case.

            A dict is ``{message, expect, id, tags}`` with request fields beside them, or ``{turns, expect,
            id, tags}``, in which a turn is a message or ``{message, expect}`` with request fields. Columns
            are named like these keys; in a CSV, `tags` are separated by ``;`` and `turns` is a JSON list.

    Raises:
        InvalidRequest: naming the case, before anything is sent.

    >>> [case.id for case in read_cases(["Hello", ["My name is Ada", "What is my name?"]])]
    ['1', '2']
    """
    if isinstance(source, (str, Path)):
        items: Iterable[Any] = _from_file(Path(source).expanduser())
    elif hasattr(source, "to_dict") and hasattr(source, "columns"):
        items = _from_rows(plain_json(source, "the cases"))
    elif isinstance(source, Mapping):
        items = [source]
    elif isinstance(source, Iterable):
        items = source
    else:
        what = type(source).__name__
        raise InvalidRequest(f"The cases are {what}. Nothing was sent; give a list or a file.")
    cases: dict[str, Case] = {}
    for number, item in enumerate(items, 1):
        case = _case(item, number)
        if case.id in cases:
            both = f"{list(cases).index(case.id) + 1} and {number}"
            raise InvalidRequest(
                f"Cases {both} have the same id {case.id!r}. Nothing was sent; give each its own."
            )
        cases[case.id] = case
    if not cases:
        raise InvalidRequest("There are no cases. Nothing was sent; give some.")
    return list(cases.values())


def _from_file(path: Path) -> Iterator[Any]:
    if path.suffix.lower() not in (".jsonl", ".csv"):
        raise InvalidRequest(
            f"A string is read as a file name, and {path.name!r} is not .jsonl or .csv. Nothing was sent. "
            f"For one message, pass [{path.name!r}]."
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidRequest(
            f"The cases in {str(path)!r} could not be read ({why}). Nothing was sent; give a .jsonl or "
            ".csv file, or a list of messages."
        ) from None
    if path.suffix.lower() == ".csv":
        table = csv.DictReader(io.StringIO(text, newline=""))
        yield from _from_rows({key: value or None for key, value in row.items()} for row in table)
        return
    # Not splitlines, which parts at characters that JSON may hold.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except ValueError:
                what = f"Line {number} of {path.name!r}"
                raise InvalidRequest(f"{what} is not JSON. Nothing was sent; fix that line.") from None


def _from_rows(rows: Any) -> Iterator[dict[str, Any]]:
    """The rows of a table as dicts of what their cells hold."""
    for row in rows:
        given = {str(name): value for name, value in row.items() if value is not None}
        if isinstance(given.get("turns"), str):
            with contextlib.suppress(ValueError):
                given["turns"] = json.loads(given["turns"])
        if isinstance(given.get("tags"), str):
            given["tags"] = [tag.strip() for tag in given["tags"].split(";") if tag.strip()]
        yield given


def _case(item: Any, number: int) -> Case:
    if isinstance(item, Case):
        return item
    if isinstance(item, str):
        item = {"turns": [item]}
    elif isinstance(item, Sequence) and not isinstance(item, (bytes, bytearray)):
        item = {"turns": item}
    if not isinstance(item, Mapping):
        raise InvalidRequest(
            f"Case {number} is {type(item).__name__}. Nothing was sent; give a message, a list of messages "
            "or a dict."
        )
    given: dict[str, Any] = dict(item)
    case_id = str(given.pop("id", number))
    name = f"Case {case_id!r}"
    of_a_turn = {key: given.pop(key) for key in ("message", *RequestFields.__annotations__) if key in given}
    if "turns" in given and of_a_turn:
        both = f"turns and {', '.join(of_a_turn)}"
        raise InvalidRequest(f"{name} has {both}. Nothing was sent; put what goes with a turn into it.")
    if "turns" in given:
        _check_keys(given, ("id", "turns", "expect", "tags"), name)
    else:
        _check_keys(given, ("id", "message", "turns", "expect", "tags", *_FIELDS), name)
    turns: Any = given.get("turns", [of_a_turn] if of_a_turn else None)
    if isinstance(turns, (str, Mapping)):
        turns = [turns]
    if not isinstance(turns, Sequence) or not turns:
        raise InvalidRequest(f"{name} has no turns. Nothing was sent; give at least one message.")
    tags = given.get("tags") or ()
    if isinstance(tags, str) or not all(isinstance(tag, str) for tag in tags):
        raise InvalidRequest(f"{name}: tags must be a list of strings. Nothing was sent; fix that case.")
    return Case(
        id=case_id,
        turns=tuple(_turn(turn, name) for turn in turns),
        expect=plain_json(given.get("expect"), f"{name}: expect"),
        tags=tuple(tags),
    )


def _turn(turn: Any, name: str) -> CaseTurn:
    if isinstance(turn, CaseTurn):
        return turn
    given = {"message": turn} if isinstance(turn, str) else dict(turn) if isinstance(turn, Mapping) else {}
    if "session_id" in given:
        own = "a case has a session of its own"
        raise InvalidRequest(f"{name}: {own}. Nothing was sent; leave session_id out.")
    _check_keys(given, ("message", "expect", *_FIELDS), name)
    message, expect = given.pop("message", None), given.pop("expect", None)
    try:
        checked_request(message, given, {})
    except InvalidRequest as error:
        raise InvalidRequest(f"{name}: {error}") from None
    return CaseTurn(message, plain_json(expect, f"{name}: expect"), given)


def _check_keys(given: Iterable[str], allowed: Sequence[str], name: str) -> None:
    for key in given:
        if key not in allowed:
            close = difflib.get_close_matches(str(key), allowed, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise InvalidRequest(
                f"{name}: Unknown key {key!r}. Nothing was sent{hint} Allowed: {', '.join(allowed)}."
            )
