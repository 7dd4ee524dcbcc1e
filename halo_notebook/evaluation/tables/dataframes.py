"""The tables of an evaluation, as pandas DataFrames that a page shows and a file holds as they are.

Lists, dicts and values of several types have no column type of their own in most files: there they are JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

import pandas as pd

from ...display.formulas import NO_FORMULAS
from ...display.text import terminal_text, writable

TEXT = pd.Series(["a text"]).dtype  # `str`, or `object` with an older pandas
# What a spreadsheet takes for the beginning of a formula, except in a number.
_BEGIN_FORMULAS = ("=", "+", "-", "@")
_NUMBER = re.compile(r"\s*[+-]?[\d.,]+(?:[eE][+-]?\d+)?%?\s*")
_ROW = re.compile(r"<tr.*?</tr>", re.DOTALL)
_CELL = re.compile(r"<(td|th)>(.*?)</\1>", re.DOTALL)
_AT_THE_RIGHT = re.compile(r"[+-]?[\d.,]+(?:e[+-]?\d+)?|NaN|NaT|None|True|False|&lt;NA&gt;|inf|\.\.\.")
_WIDE_CHARS = 24  # of a text for which a narrow page must keep some room
_TOO_LARGE = 1 << 63  # for a whole number in a file


class Column(pd.Series):  # type: ignore[misc]  # pandas has no types
    """A column of a `Table`; a table that is made of it is one, too."""

    @property
    def _constructor(self) -> type[Column]:
        return Column

    @property
    def _constructor_expanddim(self) -> type[Table]:
        return Table

    def __arrow_array__(self, type: Any = None) -> Any:  # noqa: A002  # pyarrow's own name
        """For pyarrow and what uses it: polars, Parquet and Feather files."""
        import pyarrow as pa

        column = pd.Series(self)
        if column.dtype.kind == "O":
            kinds = set(column.dropna().map(_kind))
            if len(kinds) > 1 or "" in kinds:
                column = column.map(_as_text)
        return pa.array(column, type=type, from_pandas=True)

    def to_csv(self, *args: Any, **settings: Any) -> Any:
        return self.to_frame().to_csv(*args, **settings)

    def to_excel(self, *args: Any, **settings: Any) -> Any:
        return self.to_frame().to_excel(*args, **settings)


class Table(pd.DataFrame):  # type: ignore[misc]  # pandas has no types
    """A DataFrame whose texts a page does not typeset, and which any file can hold.

    In a CSV or Excel file, a text that a spreadsheet would take for a formula begins with an apostrophe, also
    where it is the name of a column or in the index.
    """

    @property
    def _constructor(self) -> type[Table]:
        return Table

    @property
    def _constructor_sliced(self) -> type[Column]:
        return Column

    def _repr_html_(self) -> str | None:
        html = super()._repr_html_()
        return f'<div class="{NO_FORMULAS}">{_texts_left(html)}</div>' if html else None

    def to_sql(self, *args: Any, **settings: Any) -> Any:
        return self._with_cells(_as_text).to_sql(*args, **settings)

    def to_json(self, *args: Any, **settings: Any) -> Any:
        # pandas warns without it, and will write dates in this way.
        return super().to_json(*args, **{"date_format": "iso", **settings})

    def to_csv(self, *args: Any, **settings: Any) -> Any:
        return self._with_texts(_for_csv, settings).to_csv(*args, **settings)

    def to_excel(self, *args: Any, **settings: Any) -> Any:
        frame = self._with_texts(_for_excel, settings)
        for number in range(frame.shape[1]):
            column = frame.iloc[:, number]
            if getattr(column.dtype, "tz", None) is not None:  # Excel has no time zones
                frame.isetitem(number, column.dt.tz_localize(None))
        return frame.to_excel(*args, **settings)

    def _with_texts(self, changed: Callable[[Any], Any], settings: dict[str, Any]) -> Any:
        """A plain DataFrame with changed cells and names, of the columns that `settings` choose."""
        chosen = settings.pop("columns", None)  # by the names that the table has
        table = self if chosen is None else self[list(chosen)]
        frame = table._with_cells(changed).rename(index=changed, columns=changed)
        return frame.rename_axis(index=changed, columns=changed)

    def _with_cells(self, changed: Callable[[Any], Any]) -> Any:
        """A plain DataFrame with changed texts and objects."""
        frame = pd.DataFrame(self)
        for number in range(frame.shape[1]):  # by number, since a name may be there twice
            column = frame.iloc[:, number]
            if column.dtype.kind == "O":
                frame.isetitem(number, column.map(changed))
        return frame


class Readable(Table):
    """A table of numbers that shows as a text for readers, as long as it is not changed."""

    _metadata: ClassVar = ["_html", "_text", "_as_made"]

    @classmethod
    def of(cls, rows: Any, index: pd.Index, html: str, text: str) -> Readable:
        table = cls(rows, index=index)
        table._html, table._text, table._as_made = html, text, pd.DataFrame(table)
        return table

    def copy(self, deep: bool = True) -> Readable:
        copied: Readable = Readable(super().copy(deep)).__finalize__(self)
        return copied

    def _repr_html_(self) -> str | None:
        html = super()._repr_html_()
        return self._html if html and self._is_as_made() else html

    def __repr__(self) -> str:
        return writable(str(self._text if self._is_as_made() else super().__repr__()))

    def _is_as_made(self) -> bool:
        # Unpickled by another version of pandas, it may have lost its texts.
        return getattr(self, "_as_made", None) is not None and pd.DataFrame(self).equals(self._as_made)


def _texts_left(html: str) -> str:
    """pandas' HTML of a table with its columns of texts aligned to the left; numbers stay at the right."""
    texts = {
        at  # counted from the right, since a row may have cells of an index before its own
        for row in _ROW.findall(html)
        for at, (kind, cell) in enumerate(reversed(_CELL.findall(row)))
        if kind == "td" and not _AT_THE_RIGHT.fullmatch(cell)
    }

    def aligned(row: re.Match[str]) -> str:
        places = iter(reversed(range(len(_CELL.findall(row[0])))))

        def cell_of(cell: re.Match[str]) -> str:
            wide = ";min-width:10em" if len(cell[2]) > _WIDE_CHARS else ""
            style = f' style="text-align:left{wide}"' if next(places) in texts else ""
            return f"<{cell[1]}{style}>{cell[2]}</{cell[1]}>"

        return _CELL.sub(cell_of, row[0])

    return _ROW.sub(aligned, html)


def table_of(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], types: Mapping[str, Any]) -> Table:
    """The rows as a table with these columns, some of a given type, even without a row or a value."""
    held = list(rows)
    made = {name: pd.Series([row[name] for row in held], dtype=types.get(name)) for name in columns}
    return Table(made)


def _kind(cell: Any) -> str:
    """What a file's column could hold the cell as: one of three types, or none."""
    match cell:
        case str():
            return "text"
        case bool():
            return "boolean"
        case int() | float() if abs(cell) < _TOO_LARGE:
            return "number"
    return ""


def _as_text(cell: Any) -> Any:
    """The cell as text, lists, dicts and numbers as JSON; what is missing stays missing."""
    if isinstance(cell, list | dict):
        return json.dumps(cell, ensure_ascii=False)
    if isinstance(cell, str) or pd.isna(cell):
        return cell
    return json.dumps(cell) if isinstance(cell, bool | int | float) else str(cell)


def _for_csv(cell: Any) -> Any:
    """A text that no spreadsheet takes for a formula, and lists and dicts as JSON."""
    text = _as_text(cell) if isinstance(cell, list | dict) else cell
    is_formula = isinstance(text, str) and text.lstrip().startswith(_BEGIN_FORMULAS)
    return f"'{text}" if is_formula and not _NUMBER.fullmatch(text) else text


def _for_excel(cell: Any) -> Any:
    """A text without control characters, which Excel refuses, and without what it takes for a formula."""
    if isinstance(cell, datetime) and cell.tzinfo is not None:  # in an index
        return cell.replace(tzinfo=None)
    is_number = isinstance(cell, float) or (isinstance(cell, int) and abs(cell) < _TOO_LARGE)
    text = cell if is_number else _as_text(cell)
    return terminal_text("'" + text if text.startswith("=") else text) if isinstance(text, str) else text
