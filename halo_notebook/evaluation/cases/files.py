"""Files of cases: JSON lines, CSV as spreadsheets write it, exported sessions and recordings.

- A text is never guessed: what is neither UTF-8 nor marked as another encoding is refused, since a message
  with wrong letters would be sent.
- An error names the file and the line, and nothing is sent.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...display.text import short_repr
from ...errors import InvalidRequest, UsageError
from ...recording.format import is_recording
from ...session import Session
from .sent_cases import recorded_items

_MARKS = {  # the longer ones first: UTF-32's mark begins like UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_LINE_ENDS = re.compile(r"\r\n|\n|\r")  # not splitlines, which parts at characters that JSON may hold
_JSON_CELLS = (  # a column, how its JSON begins, and what else to do
    ("turns", ("[", "{"), " (one message goes into the column 'message')"),
    ("metadata", ("{",), ""),
)
_SEPARATORS = (",", ";", "\t", "|")


def read_items(source: str | Path, columns: Collection[str]) -> Iterator[Any]:
    """The items of a file of cases, as `read_cases` takes them; `columns` are those that a CSV may have.

    An exported session is one item, and a recording has one for each conversation.
    """
    try:
        path = Path(source).expanduser()
        if path.suffix.lower() not in (".jsonl", ".csv", ".json"):
            name = short_repr(path.name or str(source))
            what = f"A string is read as a file name, and {name} is not .jsonl, .csv or .json"
            raise InvalidRequest(f"{what}. Nothing was sent. For one message, pass [{name}].")
        if path.suffix.lower() == ".json":
            return iter([_session(path)])
        if path.exists() and not path.is_file():  # reading a device may never end
            raise OSError(None, "it is not a file")
        data = path.read_bytes()
    except (OSError, ValueError, RuntimeError) as error:  # not a path; a user without a home
        if isinstance(error, InvalidRequest):
            raise
        why = getattr(error, "strerror", None) or error
        raise InvalidRequest(
            f"The cases in {str(source)!r} could not be read ({why}). Nothing was sent; give a .jsonl or "
            ".csv file, or a list of messages."
        ) from None
    if is_recording(data):
        return iter(recorded_items(path))
    text = _decoded(data, path.name)
    if path.suffix.lower() == ".csv":
        return table_items(_csv_rows(text, path.name, columns))
    return _json_lines(text, path.name)


def _session(path: Path) -> Session:
    try:
        return Session.load(path)
    except UsageError as error:
        raise UsageError(f"{error} (A list of cases is read from a .jsonl or .csv file.)") from None


def table_items(rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The rows of a table as items: an empty cell says nothing, and a text may be several tags or turns."""
    for number, row in enumerate(rows, 1):
        item = {name: value for name, value in row.items() if value is not None}
        for name, begins, hint in _JSON_CELLS:
            cell = item.get(name)
            if isinstance(cell, str) and cell.lstrip().startswith(begins):
                try:
                    item[name] = json.loads(cell)
                except (ValueError, RecursionError):
                    what = f"Case {short_repr(str(item.get('id', number)))}: its {name} are not JSON"
                    raise _wrong(what, f"fix that case{hint}") from None
        tags = item.get("tags")
        if isinstance(tags, str):
            item["tags"] = [tag.strip() for tag in tags.split(";") if tag.strip()]
        yield item


def _wrong(what: str, todo: str) -> InvalidRequest:
    return InvalidRequest(f"{what}. Nothing was sent; {todo}.")


def _decoded(data: bytes, name: str) -> str:
    encoding = next((found for mark, found in _MARKS.items() if data.startswith(mark)), "utf-8")
    if encoding.startswith("utf-8") and b"\0" in data:
        line = data[: data.index(b"\0")].count(b"\n") + 1
        raise _wrong(
            f"{name!r} holds a NUL character (line {line}): it is UTF-16 without its mark, or not a text",
            "save it as UTF-8",
        )
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        known = encoding.removesuffix("-sig").upper()
        raise _wrong(
            f"{name!r} is not {known} (line {line}); it may have an encoding of Windows, such as cp1252",
            "save it as UTF-8 (in a spreadsheet: CSV UTF-8)",
        ) from None


def _json_lines(text: str, name: str) -> Iterator[Any]:
    for number, line in enumerate(_LINE_ENDS.split(text), 1):
        if line.strip():
            try:
                yield json.loads(line)
            except (ValueError, RecursionError):
                raise _wrong(f"Line {number} of {name!r} is not JSON", "fix that line") from None


def _csv_rows(text: str, name: str, columns: Collection[str]) -> Iterator[dict[str, str]]:
    """The rows as dicts of the cells that hold something."""
    first_line = 1
    if marked := re.match(r'"?sep=(.)"?(?:\r\n|\n|\r)', text, re.IGNORECASE):  # Excel's own note
        separator, text, first_line = marked[1], text[marked.end() :], 2
    else:
        separator = _separator(text, columns)
    rows = _csv_records(text, name, separator, first_line)
    heads = [head.strip() for head in next(rows, (0, []))[1]]
    for head in heads:
        if head and heads.count(head) > 1:
            raise _wrong(f"{name!r} has two columns called {short_repr(head)}", "rename one, or remove it")
    for line, cells in rows:
        row = {head: cell for head, cell in zip(heads, cells, strict=False) if cell.strip()}
        if "" in row or any(cell.strip() for cell in cells[len(heads) :]):
            raise _wrong(
                f"The row at line {line} of {name!r} has a cell without a column (the separator is "
                f"{separator!r})",
                "give the column a name, or put quotes around a cell that contains the separator",
            )
        if row:
            yield row


def _separator(text: str, columns: Collection[str]) -> str:
    """The separator with which the most columns of the first line have a known name."""
    first = next((line for line in _LINE_ENDS.split(text) if line.strip()), "")

    def known(separator: str) -> int:
        return sum(head.strip(' "').lower() in columns for head in first.split(separator))

    return max(_SEPARATORS, key=known)  # the first of equals: a comma


def _csv_records(text: str, name: str, separator: str, first_line: int) -> Iterator[tuple[int, list[str]]]:
    """The records that are not empty, each with the line at which it begins."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    while True:
        line = first_line + reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # Also where a cell is too large: an open quote takes in all rows that follow.
            raise _wrong(
                f'The row at line {line} of {name!r} has an open quote (") or is too large ({error})',
                'fix that row (a quote within a cell is written "")',
            ) from None
        if cells:
            yield line, cells
