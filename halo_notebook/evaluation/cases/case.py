"""What an evaluation sends: cases, each a conversation of one or more turns.

- Whatever form cases come in, each becomes one `Case`, or the error names the case and what is wrong.
- A case's key is a digest of its messages and the fields that go with them, and of its user's version and
  goal, not of its id or expectation.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from ...client.request import RequestFields, checked_request, plain_json
from ...display.text import one_line, short_repr, whole_text
from ...display.wording import counted
from ...errors import InvalidRequest
from ..json_text import writer
from .columns import COLUMNS, columns_of
from .files import read_items, table_items
from .user_functions import MAX_TURNS, MOST_TURNS, CaseUser, user_of

if TYPE_CHECKING:
    from ...stream import JSON

CaseSource: TypeAlias = "str | Path | Sequence[Any] | Mapping[str, Any] | Any"

_canonical = writer(sort_keys=True)
_FIELDS = tuple(name for name in RequestFields.__annotations__ if name != "session_id")
_TURN_KEYS = ("message", *RequestFields.__annotations__)
_KEYS = ("id", "message", "turns", "max_turns", "expect", "tags", "metadata", *RequestFields.__annotations__)
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
    `metadata` is any JSON by name; it is not sent, and each name becomes a column of the tables. `user` says
    the messages after those of `turns`; None for a conversation of only these.
    """

    id: str
    turns: tuple[CaseTurn, ...]
    expect: JSON = None
    tags: tuple[str, ...] = ()
    metadata: dict[str, JSON] = field(default_factory=dict)
    user: CaseUser | None = None

    def expected(self, turn: int, *, is_last: bool = False) -> JSON:
        """What is expected of that turn's reply (from 0): its own expectation, or the case's for the last.

        `is_last`: whether the conversation has ended with it, which only a user decides.
        """
        if turn < len(self.turns):
            own = self.turns[turn].expect
        else:
            own = self.user.expect if self.user else None
        is_last = is_last if self.user else turn == len(self.turns) - 1
        return self.expect if own is None and is_last else own

    @property
    def expectations(self) -> list[JSON]:
        """All that may be expected of a reply."""
        found = [self.expected(turn) for turn in range(len(self.turns))]
        return [*found, self.user.expect, self.expect] if self.user else found

    @property
    def most_turns(self) -> int:
        """How many turns a conversation has at most."""
        return self.user.max_turns if self.user else len(self.turns)

    @property
    def opening(self) -> str:
        """Its first message, or the goal of its user, as tables name it."""
        return self.turns[0].message if self.turns else self.user.goal if self.user else ""

    @property
    def content_key(self) -> str:
        """A digest of what is sent, whatever the id."""
        place = f"Case {self.id!r}"
        content: list[JSON] = [[turn.message, keyed(turn.fields, place)] for turn in self.turns]
        if self.user:
            content.append({"user": self.user.version, "goal": self.user.goal})
            content += [keyed(self.user.fields, place)] if self.user.fields else []
        return digest(content)


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
            dict, a `Case`, a `Session` or one of its turns; one dict, case or session; a DataFrame (pandas,
            polars) or pyarrow table with a row per case; or the path of a file: ``.jsonl`` with one such item
            per line, ``.csv`` with a row per case, ``.json`` with an exported session, or a recording, each
            conversation of which is a case.

        A dict is ``{message, expect, id, tags}`` with request fields beside them, or ``{turns, expect,
            id, tags}``, in which a turn is a message or ``{message, expect}`` with request fields. The last
            message may be a function, the user, which says the messages that follow, see `CaseUser`;
            ``max_turns`` limits the turns, 10 if it is not given. Any other key is metadata, and so is what
            ``metadata``, a dict, contains. Columns are named like these keys; in a table, `tags` are
            separated by ``;``, and `turns` and `metadata` are JSON.

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
    elif isinstance(source, Mapping | Case) or callable(source):
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
            if hasattr(type(item), "as_case") and case.content_key == cases[case.id].content_key:
                continue  # such as a message that was sent again after an error
            both = f"{list(cases).index(case.id) + 1} and {number}"
            raise InvalidRequest(
                f"Cases {both} have the same id {short_repr(case.id)}. Nothing was sent; give each its own."
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
                    f"Case {short_repr(case.id)}: its metadata {name!r} is a column of the check "
                    f"{of_checks[name]!r}. Nothing was sent; rename one."
                )


def _case(item: Any, number: int) -> Case:
    if hasattr(type(item), "as_case"):
        item = item.as_case()
    if isinstance(item, Case):
        item = _parts(item)
    elif isinstance(item, (str, CaseTurn)) or callable(item):
        item = {"turns": [item]}
    elif isinstance(item, Sequence) and not isinstance(item, (bytes, bytearray)):
        item = {"turns": item}
    if not isinstance(item, Mapping):
        raise InvalidRequest(
            f"Case {number} is {type(item).__name__}. Nothing was sent; give a message, a list of messages, "
            "a dict or a function."
        )
    # What is missing in a table is NaN in its rows.
    given: dict[str, Any] = {key: value for key, value in item.items() if not is_missing(value)}
    case_id = plain_json(given.pop("id", number), f"Case {number}: id")
    if not isinstance(case_id, str | int | float):
        raise InvalidRequest(f"Case {number}: its id is not a string. Nothing was sent; fix that case.")
    name = f"Case {short_repr(str(case_id))}"
    of_a_turn = {key: given.pop(key) for key in _TURN_KEYS if key in given}
    if "turns" in given and of_a_turn:
        both = f"turns and {', '.join(of_a_turn)}"
        raise InvalidRequest(
            f"{name} has {both}. Nothing was sent; move what goes with a turn into that turn."
        )
    turns: Any = given.pop("turns", [of_a_turn] if of_a_turn else None)
    max_turns, expect, tags, metadata = (
        given.pop(key, None) for key in ("max_turns", "expect", "tags", "metadata")
    )
    metadata = _metadata(metadata, given, name)
    if isinstance(turns, (str, Mapping, CaseTurn)) or callable(turns):
        turns = [turns]
    if hasattr(turns, "tolist"):  # a row of a Parquet file holds an array
        turns = turns.tolist()
    if not isinstance(turns, Sequence) or not turns:
        only = f" (it has only {one_line(', '.join(map(repr, metadata)))})" if metadata else ""
        if metadata.get("kind") == "run":
            only = " (it is a line of an evaluation, which Evaluation.open reads)"
        raise InvalidRequest(f"{name} has no turns{only}. Nothing was sent; give at least one 'message'.")
    *before, last = turns
    user = _user(last, name, len(before), max_turns)
    return Case(
        id=whole_text(str(case_id)),
        turns=tuple(_turn(turn, name) for turn in (before if user else turns)),
        expect=_whole_json(plain_json(expect, f"{name}: expect")),
        tags=_tags(tags, name),
        metadata=metadata,
        user=user,
    )


def _parts(case: Case) -> dict[str, Any]:
    """A case as a dict, as it is given."""
    item = {name: getattr(case, name) for name in ("id", "turns", "expect", "tags", "metadata")}
    user = case.user
    if user is None:
        return item
    if user.function is None:
        raise InvalidRequest(
            f"Case {short_repr(case.id)} was read from a file, which does not hold the function of its user. "
            "Nothing was sent; give the case with its function, or use as_cases()."
        )
    said = {**user.fields, "message": user.function, "expect": user.expect}
    return {**item, "turns": [*case.turns, said], "max_turns": user.max_turns}


def _user(turn: Any, name: str, before: int, max_turns: Any) -> CaseUser | None:
    """The user that the last turn of a case is, after so many others; None if that is a message."""
    given = _turn_keys(turn, name)
    if not callable(given.get("message")):
        if max_turns is not None:
            raise InvalidRequest(
                f"{name} has max_turns, and its last turn is not a function. Nothing was sent; leave it out, "
                "or give a function (a file of cases cannot hold one)."
            )
        return None
    if isinstance(max_turns, float) and max_turns.is_integer():
        max_turns = int(max_turns)  # of a table
    most: Any = MAX_TURNS if max_turns is None else max_turns
    if isinstance(most, bool) or not isinstance(most, Integral) or not before < int(most) <= MOST_TURNS:
        raise InvalidRequest(
            f"{name}: max_turns must be a whole number from {before + 1} to {MOST_TURNS:,}, not {most!r:.40}."
            f" Nothing was sent; it counts the {counted(before, 'turn')} before the function, too."
        )
    function, expect = given.pop("message"), given.pop("expect", None)
    fields = _checked_fields("Hello", given, name)
    expect = _whole_json(plain_json(expect, f"{name}: expect"))
    return user_of(function, name, max_turns=int(most), expect=expect, fields=fields)


def _metadata(given: Any, others: Mapping[Any, Any], name: str) -> dict[str, JSON]:
    """What a case holds under `metadata`, and its other keys: none of them misspelt, or a column's name."""
    if not isinstance(given, Mapping | None):
        raise InvalidRequest(
            f"{name}: metadata must be a dict, not {type(given).__name__}. Nothing was sent; fix that case."
        )
    for key in others:
        if close := difflib.get_close_matches(str(key).lower(), _KEYS, n=1, cutoff=_NEAR):
            raise InvalidRequest(
                f"{name}: Unknown key {short_repr(key)}. Nothing was sent; did you mean {close[0]!r}? If it "
                "is metadata, rename it, or put it into a dict 'metadata'."
            )
    made: dict[str, JSON] = {}
    if not given and not others:
        return made
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
                raise InvalidRequest(f"{name}: {short_repr(key)} is {what}. Nothing was sent; rename it.")
            made[key] = value
    return made


def _tags(given: Any, name: str) -> tuple[str, ...]:
    """A list of strings or numbers, or one number."""
    if given is None:
        return ()
    tags = plain_json(given, f"{name}: tags")
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


def is_missing(value: Any) -> bool:
    if isinstance(value, float):
        return value != value  # noqa: PLR0124  # NaN
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _turn(turn: Any, name: str) -> CaseTurn:
    given = _turn_keys(turn, name)
    message, expect = given.pop("message", None), given.pop("expect", None)
    if callable(message):
        raise InvalidRequest(
            f"{name}: a function must be the last of its turns. Nothing was sent; it says all messages that "
            "follow."
        )
    fields = _checked_fields(message, given, name)
    return CaseTurn(whole_text(message), _whole_json(plain_json(expect, f"{name}: expect")), fields)


def _turn_keys(turn: Any, name: str) -> dict[str, Any]:
    """A turn as a dict, whose keys are known."""
    if isinstance(turn, CaseTurn):
        turn = {**turn.fields, "message": turn.message, "expect": turn.expect}
    given: dict[str, Any] = {"message": turn} if not isinstance(turn, Mapping) else dict(turn)
    if "session_id" in given:
        own = "a case has a session of its own"
        raise InvalidRequest(f"{name}: {own}. Nothing was sent; leave session_id out.")
    _check_keys(given, ("message", "expect", *_FIELDS), name)
    return given


def _checked_fields(message: Any, fields: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Request fields that can go with a message."""
    try:
        body = checked_request(message, fields, {}).body
    except InvalidRequest as error:
        raise InvalidRequest(f"{name}: {error}") from None
    # Images are drawn once: a figure may change later.
    return {**fields, "images": body["images"]} if "images" in body else {**fields}


def _check_keys(given: Iterable[str], allowed: Sequence[str], name: str) -> None:
    for key in given:
        if key not in allowed:
            close = difflib.get_close_matches(str(key).lower(), allowed, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            raise InvalidRequest(
                f"{name}: Unknown key {short_repr(key)}. Nothing was sent{hint} Allowed: "
                f"{', '.join(allowed)}."
            )
