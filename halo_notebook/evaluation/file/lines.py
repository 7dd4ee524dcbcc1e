"""The lines of an evaluation's file, read and checked: a file may come from anybody.

- A line cut short by a crash is skipped and counted, and the lines after it are still read.
- The end of a file may be a line that another process is still writing, and is not counted.
- Any other line that cannot be meant is one error, which names the line.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from ...client.request import checked_request
from ...errors import InvalidRequest, UsageError
from ...reply import check_reply, is_moment
from ..cases.user_functions import END_REASONS, FIELDS
from ..outcomes import CAUSES
from .label_lines import LABELS

FORMAT = 2
_FORMATS = (1, FORMAT)  # the first has no cases, no verdicts and no causes
ENDED = ("complete", "failed", "interrupted")
_BEGINNING = b'{"kind"'
_KIND = re.compile(rb'\{"kind":"(\w+)"')
_VERDICT: dict[str, Any] = {
    **dict.fromkeys(("check", "version", "given", "note"), str),
    "passed": (bool, NoneType),
    "value": (int, float, NoneType),
    "judged": bool,
}
_MISSING = object()


def located_lines(
    path: Path, skipped: list[int] | None = None, kinds: Collection[str] | None = None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of a file in order, each with the byte at which it begins; none without a file.

    The numbers of lines that were cut short are added to `skipped`. With `kinds` only lines of these kinds.
    Raises `UsageError`, naming the line.
    """
    if not path.exists():
        return
    with path.open("rb") as file:
        at = 0
        for number, raw in enumerate(file, 1):
            begins, at = at, at + len(raw)
            is_whole = raw.endswith(b"\n")
            text = raw.removeprefix(codecs.BOM_UTF8).strip(b" \t\r\n\0")  # NULs: a crash of the machine
            kind = _KIND.match(text) if kinds is not None else None
            if not text or (kinds is not None and kind and kind[1].decode() not in kinds):
                continue
            try:
                line = _checked(text)
            except ValueError as error:
                is_one = getattr(error, "msg", "") != "Extra data"  # else an editor has joined lines
                if not isinstance(error, _Unfit) and is_one and _is_cut_short(text):
                    if skipped is not None and is_whole:
                        skipped.append(number)
                else:
                    why = str(error) if isinstance(error, _Unfit) else "it is not JSON"
                    why = why if is_one else "it is several lines in one, or needs line feeds as line ends"
                    raise unfit_line(path, number, why) from None
            else:
                if kinds is None or line["kind"] in kinds:
                    yield begins, line
            if not is_whole:
                return  # what another process adds to it meanwhile would be read as a line of its own


def unfit_line(path: Path, number: int, why: str) -> UsageError:
    """The error that a line cannot be meant."""
    return UsageError(
        f"Line {number} of {path.name!r} is not a line of an evaluation ({why}). Nothing was sent; remove "
        "that line, or give another path."
    )


def line_number(path: Path, at: int) -> int:
    """The number of the line that begins at that byte."""
    with path.open("rb") as file:
        return next((number for number, raw in enumerate(file, 1) if (at := at - len(raw)) < 0), 1)


def line_at(file: BinaryIO, at: int, kind: str = "turn") -> dict[str, Any]:
    """The line of that kind that begins at that byte. Raises `UsageError` when the file has changed."""
    file.seek(at)
    try:
        line = _checked(file.readline())
    except ValueError:
        line = {}
    if line.get("kind") != kind:
        raise UsageError(
            f"{file.name!r} has changed since it was read (at byte {at:,}). Nothing was sent; run the same "
            "call again to read it again."
        )
    return line


def _is_cut_short(text: bytes) -> bool:
    """Whether what is not JSON may be a line's beginning. A message whose line is whole may have left."""
    is_whole = text.startswith(b'{"kind":"sent"') and text.endswith(b"}")
    return text[: len(_BEGINNING)] == _BEGINNING[: len(text)] and not is_whole


class _Unfit(ValueError):
    """A line that is JSON, and not what its kind holds."""


def _checked(raw: bytes) -> dict[str, Any]:
    """A line as JSON. Raises `ValueError`."""
    try:
        line = json.loads(raw.decode())  # not of bytes, whose encoding it would have to find out
        if b"\\u" in raw and b"\\ud" in raw.lower():  # a lone surrogate could neither be shown nor written
            line = json.loads(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace"))
    except RecursionError:
        raise _Unfit("it is nested too deeply") from None
    if not isinstance(line, dict):
        raise _Unfit("it is not an object")
    kind = line.get("kind")
    check = _CHECKS.get(kind) if isinstance(kind, str) else None
    if check is None:
        raise _Unfit(f"its kind is {str(kind)[:40]!r}")
    check(line)
    return cast("dict[str, Any]", line)


def _check_run(line: Mapping[str, Any]) -> None:
    if line.get("format", 1) not in _FORMATS:
        raise _Unfit(f"its format is {str(line['format'])[:40]!r}, and not {FORMAT}")
    if "repeats" in line:
        _check(line, "repeats", lambda value: _is_count(value) and value > 0)
    if "configs" in line:
        _check(line, "configs", lambda value: isinstance(value, dict))
        for config in line["configs"].values():
            if isinstance(config, dict):
                _check_names(config, "url", "source", "target")
                _check(config, "url", _is_url)
                _check(config, "source", _is_text)
                _check(config, "target", _is_text)
            elif not _is_url(config):
                raise _Unfit(f"a configuration is {str(config)[:40]!r}")


def _check_case(line: Mapping[str, Any]) -> None:
    for name in ("key", "id", "content"):
        _check(line, name, _is_text)
    _check(line, "turns", lambda value: isinstance(value, list) and (bool(value) or "user" in line))
    if "user" in line:
        _check_names(line["user"], "version", "goal", "max_turns", "expect", "fields")
        _check_kinds(line["user"], {"version": str, "goal": str, "fields": dict})
        _check(line["user"], "max_turns", lambda value: _is_count(value) and value > len(line["turns"]))
    for turn in line["turns"]:
        _check_names(turn, "message", "expect", "fields")
        _check(turn, "message", _is_text)
        _check(turn, "fields", lambda value: isinstance(value, dict))
    _check(line, "expect", lambda value: True)
    _check(line, "tags", _is_texts)
    _check(line, "metadata", lambda value: isinstance(value, dict))


def _check_plan(line: Mapping[str, Any]) -> None:
    _check(line, "cases", _is_texts)
    if len(set(line["cases"])) < len(line["cases"]):
        raise _Unfit("'cases' names a case twice")


def _check_checks(line: Mapping[str, Any]) -> None:
    _check(line, "checks", lambda value: isinstance(value, list))
    for check in line["checks"]:
        of_user = ["of_user"] if isinstance(check, dict) and "of_user" in check else []
        _check_names(check, "name", "version", "arguments", "of_conversation", *of_user)
        if of_user:
            _check(check, "of_user", lambda value: isinstance(value, bool))
        _check(check, "arguments", _is_texts)
        _check(check, "name", _is_text)
        _check(check, "version", _is_text)
        _check(check, "of_conversation", lambda value: isinstance(value, bool))


def _check_lag(line: Mapping[str, Any]) -> None:
    _check(line, "p90_s", _is_time)


def _check_stage(line: Mapping[str, Any]) -> None:
    """What all lines about a turn have."""
    _check(line, "key", _is_text)
    for name in ("turn", "round", "try"):
        if name == "turn" or name in line:
            _check(line, name, _is_count)


def _check_message(line: Mapping[str, Any]) -> None:
    """A message that a user has said: it is sent when the run is resumed."""
    _check_stage(line)
    _check_names(line, "kind", "key", "turn", "message", "fields")
    _check(line, "fields", lambda value: isinstance(value, dict) and value.keys() <= set(FIELDS))
    try:
        checked_request(line["message"], line["fields"], {})
    except InvalidRequest as error:
        raise _Unfit(str(error).partition(". Nothing was sent")[0]) from None


def _check_end(line: Mapping[str, Any]) -> None:
    _check_stage(line)
    _check(line, "reason", lambda value: value in END_REASONS)
    _check(line, "note", _is_text)


def _check_verdict(line: Mapping[str, Any]) -> None:
    _check_stage(line)
    _check_kinds(line, _VERDICT)
    if line["value"] is not None:
        _check(line, "value", lambda value: _is_time(value) and 0 <= value <= 1)


def _check_label(line: Mapping[str, Any]) -> None:
    _check_stage(line)
    _check_kinds(line, dict.fromkeys(("label", "note", "author", "at", "reply"), str))
    _check(line, "label", lambda value: value in LABELS)
    _check(line, "at", is_moment)


def _check_sample(line: Mapping[str, Any]) -> None:
    _check(line, "strata", lambda value: isinstance(value, list))
    for stratum in line["strata"]:
        _check_names(stratum, "size", "drawn")
        _check(stratum, "drawn", lambda value: isinstance(value, list) and all(map(_is_place, value)))
        _check(stratum, "size", _is_count)
        if stratum["size"] < len(stratum["drawn"]):
            raise _Unfit("more rows are drawn than there are")


def _check_turn(line: Mapping[str, Any]) -> None:
    _check_stage(line)
    _check(line, "status", lambda value: value in ENDED)
    if "cause" in line:
        _check(line, "cause", lambda value: value in CAUSES)
    if "queue_wait_s" in line:
        _check(line, "queue_wait_s", _is_time_or_none)
    _check(line, "reply", lambda value: isinstance(value, dict))
    try:
        check_reply(line["reply"])
    except ValueError as error:
        raise _Unfit(str(error)) from None


def _check_kinds(place: Mapping[str, Any], kinds_of: Mapping[str, Any]) -> None:
    for name, kinds in kinds_of.items():
        if not isinstance(place.get(name, _MISSING), kinds):
            raise _Unfit(
                f"{name!r} is {str(place[name])[:40]!r}" if name in place else f"{name!r} is missing"
            )


def _check_names(value: Any, *names: str) -> None:
    if not isinstance(value, dict) or value.keys() != set(names):
        raise _Unfit(f"an item needs {', '.join(names)}")


def _check(place: Mapping[str, Any], name: str, fits: Any) -> None:
    if name not in place:
        raise _Unfit(f"{name!r} is missing")
    if not fits(place[name]):
        raise _Unfit(f"{name!r} is {str(place[name])[:40]!r}")


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_place(value: Any) -> bool:
    """Whether it is a conversation's key and the number of a turn."""
    return isinstance(value, list) and len(value) == 2 and _is_text(value[0]) and _is_count(value[1])


def _is_url(value: Any) -> bool:
    try:
        return _is_text(value) and urlsplit(value).hostname != ""
    except ValueError:
        return False


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 53


def _is_time(value: Any) -> bool:
    """Whether it is a number of seconds, and not NaN; an answer may come before the message has all left."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1 <= value < 1e9


def _is_time_or_none(value: Any) -> bool:
    return value is None or _is_time(value)


_CHECKS = {
    "run": _check_run,
    "case": _check_case,
    "plan": _check_plan,
    "checks": _check_checks,
    "message": _check_message,
    "end": _check_end,
    "sent": _check_stage,
    "refused": _check_stage,
    "turn": _check_turn,
    "verdict": _check_verdict,
    "label": _check_label,
    "sample": _check_sample,
    "lag": _check_lag,
}
