"""What an evaluation sends: cases, each a conversation of one or more turns.

- Whatever form cases come in, each becomes one `Case`, or the error names the case and what is wrong.
- A case's key is a digest of its messages and the fields that go with them, not of its id or expectation.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ..client.request import RequestFields, checked_request, plain_json
from ..display.text import whole_text
from ..errors import InvalidRequest
from .case_files import read_items, table_items
from .columns import COLUMNS, columns_of

if TYPE_CHECKING:
    from ..stream import JSON

CaseSource: TypeAlias = "str | Path | Sequence[Any] | Mapping[str, Any] | Any"

_canonical = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode
_FIELDS = tuple(name for name in RequestFields.__annotations__ if name != "session_id")
_KEYS = ("id", "message", "turns", "expect", "tags", "metadata", *RequestFields.__annotations__)
# How similar a key and a known one are if it is misspelt: 'tag' and 'tags' are, 'user' and 'user_id' are not.
_NEAR = 0.85


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
    `metadata` is any JSON by name; it is not sent, and each name becomes a column of the tables.
    """

    id: str
    turns: tuple[CaseTurn, ...]
    expect: JSON = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, JSON] = field(default_factory=dict)

    def expected(self, turn: int) -> JSON:
        """What is expected of that turn's reply (from 0): its own expectation, or the case's for the last."""
        own = self.turns[turn].expect
        return self.expect if own is None and turn == len(self.turns) - 1 else own

    @property
    def content_key(self) -> str:
        """A digest of what is sent, whatever the id."""
        return digest([[turn.message, keyed(turn.fields, f"Case {self.id!r}")] for turn in self.turns])


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


def keyed(fields: Mapping[str, Any], place: str) -> JSON:
    """The request fields that say what is sent. A user token says who sends it, and is renewed."""
    return plain_json({name: value for name, value in fields.items() if name != "user_token"}, place)


def read_cases(source: CaseSource) -> list[Case]:
    """Return the cases in `source`.

    Args:
        source: a list whose items are a message, a list of messages (turns of one conversation), a
            dict, a `Case`, a `Session` or one of its turns; a session; a DataFrame (pandas, polars) or
            pyarrow table with a row per case; or the path of a file: ``.jsonl`` with one such item per line,
            ``.csv`` with a row per case, ``.json`` with an exported session, or a recording, each
            conversation of which is a case.

            A dict is ``{message, expect, id, tags}`` with request fields beside them, or ``{turns, expect,
            id, tags}``, in which a turn is a message or ``{message, expect}`` with request fields. Any other
            key is metadata, and so is what ``metadata``, a dict, contains. Columns are named like these keys;
            in a table, `tags` are separated by ``;``, and `turns` and `metadata` are JSON.

    Raises:
        InvalidRequest: naming the case, before anything is sent.
        UsageError: when a file is not an exported session or a recording, though it begins like one.

    >>> [case.id for case in read_cases(["Hello", ["My name is Ada", "What is my name?"]])]
    ['1', '2']
    """
    if isinstance(source, (str, Path)):
        items: Iterable[Any] = read_items(source, _KEYS)
    elif hasattr(type(source), "as_case"):
        items = [source]
    elif hasattr(type(source), "columns"):
        items = table_items(cast("list[dict[str, Any]]", plain_json(source, "The cases")))
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


def check_apart(checks: Iterable[str], cases: Iterable[Case]) -> None:
    """Raise `InvalidRequest` where the metadata of a case would have the column of a check."""
    of_checks = {name: check for check in checks for name in columns_of(check)}
    for case in cases:
        for name in case.metadata:
            if name in of_checks:
                raise InvalidRequest(
                    f"Case {case.id!r}: its metadata {name!r} is a column of the check {of_checks[name]!r}. "
                    "Nothing was sent; rename one."
                )


def _case(item: Any, number: int) -> Case:
    if hasattr(type(item), "as_case"):
        item = item.as_case()
    if isinstance(item, Case):
        item = {name: getattr(item, name) for name in ("id", "turns", "expect", "tags", "metadata")}
    elif isinstance(item, (str, CaseTurn)):
        item = {"turns": [item]}
    elif isinstance(item, Sequence) and not isinstance(item, (bytes, bytearray)):
        item = {"turns": item}
    if not isinstance(item, Mapping):
        raise InvalidRequest(
            f"Case {number} is {type(item).__name__}. Nothing was sent; give a message, a list of messages "
            "or a dict."
        )
    # What is missing in a table is NaN in its rows.
    given: dict[str, Any] = {key: value for key, value in item.items() if not _is_missing(value)}
    case_id = plain_json(given.pop("id", number), f"Case {number}: id")
    if not isinstance(case_id, str | int | float):
        raise InvalidRequest(f"Case {number}: its id is not a string. Nothing was sent; fix that case.")
    name = f"Case {str(case_id)!r}"
    of_a_turn = {key: given.pop(key) for key in ("message", *RequestFields.__annotations__) if key in given}
    if "turns" in given and of_a_turn:
        both = f"turns and {', '.join(of_a_turn)}"
        raise InvalidRequest(f"{name} has {both}. Nothing was sent; put what goes with a turn into it.")
    turns: Any = given.pop("turns", [of_a_turn] if of_a_turn else None)
    expect, tags, metadata = (given.pop(key, None) for key in ("expect", "tags", "metadata"))
    metadata = _metadata(metadata, given, name)
    if isinstance(turns, (str, Mapping, CaseTurn)):
        turns = [turns]
    if not isinstance(turns, Sequence) or not turns:
        only = f" (it has only {', '.join(map(repr, metadata))})" if metadata else ""
        raise InvalidRequest(f"{name} has no turns{only}. Nothing was sent; give at least one 'message'.")
    return Case(
        id=whole_text(str(case_id)),
        turns=tuple(_turn(turn, name) for turn in turns),
        expect=_whole_json(plain_json(expect, f"{name}: expect")),
        tags=_tags(tags, name),
        metadata=metadata,
    )


def _metadata(given: Any, others: Mapping[Any, Any], name: str) -> dict[str, JSON]:
    """What a case holds under `metadata`, and its other keys: none of them misspelt, or a column's name."""
    if not isinstance(given, Mapping | None):
        raise InvalidRequest(
            f"{name}: metadata must be a dict, not {type(given).__name__}. Nothing was sent; fix that case."
        )
    for key in others:
        if close := difflib.get_close_matches(str(key).lower(), _KEYS, n=1, cutoff=_NEAR):
            raise InvalidRequest(
                f"{name}: Unknown key {key!r}. Nothing was sent; did you mean {close[0]!r}? If it is "
                "metadata, rename it, or put it into a dict 'metadata'."
            )
    made: dict[str, JSON] = {}
    for part in (given or {}, others):
        plain = cast("dict[str, JSON]", _whole_json(plain_json(dict(part), f"{name}: metadata")))
        for key, value in plain.items():
            if key in COLUMNS or key in made or not key.strip():
                what = (
                    "a column of the result"
                    if key in COLUMNS
                    else "there twice"
                    if key.strip()
                    else "no name"
                )
                raise InvalidRequest(f"{name}: {key!r} is {what}. Nothing was sent; rename it.")
            made[key] = value
    return made


def _tags(given: Any, name: str) -> tuple[str, ...]:
    """A list of strings or numbers, or one number."""
    tags = plain_json(given, f"{name}: tags") if given is not None else []
    tags = [tags] if isinstance(tags, int | float) else tags
    if not isinstance(tags, list) or any(
        isinstance(tag, bool) or not isinstance(tag, str | int | float) for tag in tags
    ):
        raise InvalidRequest(f"{name}: tags must be a list of strings. Nothing was sent; fix that case.")
    return tuple(dict.fromkeys(whole_text(_number_text(tag)) for tag in tags))


def _whole_json(value: JSON) -> JSON:
    if not value or isinstance(value, str):
        return whole_text(value) if isinstance(value, str) else value
    return json.loads(whole_text(json.dumps(value, ensure_ascii=False)))  # type: ignore[no-any-return]


def _number_text(tag: Any) -> str:
    """A tag as text: 3 also for 3.0, as which a column with a gap holds it."""
    return str(int(tag)) if isinstance(tag, float) and tag.is_integer() else str(tag)


def _is_missing(value: Any) -> bool:
    if isinstance(value, float):
        return value != value  # noqa: PLR0124  # NaN
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _turn(turn: Any, name: str) -> CaseTurn:
    if isinstance(turn, CaseTurn):
        turn = {**turn.fields, "message": turn.message, "expect": turn.expect}
    given: dict[str, Any] = {"message": turn} if not isinstance(turn, Mapping) else dict(turn)
    if "session_id" in given:
        own = "a case has a session of its own"
        raise InvalidRequest(f"{name}: {own}. Nothing was sent; leave session_id out.")
    _check_keys(given, ("message", "expect", *_FIELDS), name)
    message, expect = given.pop("message", None), given.pop("expect", None)
    try:
        body = checked_request(message, given, {}).body
    except InvalidRequest as error:
        raise InvalidRequest(f"{name}: {error}") from None
    if "images" in body:  # drawn once: a figure may change later
        given["images"] = body["images"]
    return CaseTurn(whole_text(message), _whole_json(plain_json(expect, f"{name}: expect")), given)


def _check_keys(given: Iterable[str], allowed: Sequence[str], name: str) -> None:
    for key in given:
        if key not in allowed:
            close = difflib.get_close_matches(str(key).lower(), allowed, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise InvalidRequest(
                f"{name}: Unknown key {key!r}. Nothing was sent{hint} Allowed: {', '.join(allowed)}."
            )
