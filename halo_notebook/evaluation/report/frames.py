"""The tables of an evaluation, as pandas DataFrames that a page shows and a file holds as they are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from ...display.formulas import NO_FORMULAS
from ...display.text import terminal_text


class Column(pd.Series):  # type: ignore[misc]  # pandas has no types
    """A column of a `Table`; a table that is made of it is one, too."""

    @property
    def _constructor(self) -> type[Column]:
        return Column

    @property
    def _constructor_expanddim(self) -> type[Table]:
        return Table


class Table(pd.DataFrame):  # type: ignore[misc]  # pandas has no types
    """A DataFrame whose texts a page does not typeset, and which any file can hold."""

    @property
    def _constructor(self) -> type[Table]:
        return Table

    @property
    def _constructor_sliced(self) -> type[Column]:
        return Column

    def _repr_html_(self) -> str | None:
        html = super()._repr_html_()
        return f'<div class="{NO_FORMULAS}">{html}</div>' if html else None

    # Actions have any shape, and these files want one type in a column: their cells are JSON there.

    def to_parquet(self, *args: Any, **settings: Any) -> Any:
        return self._with_text_cells(_as_text, pd.DataFrame).to_parquet(*args, **settings)

    def to_feather(self, *args: Any, **settings: Any) -> Any:
        return self._with_text_cells(_as_text, pd.DataFrame).to_feather(*args, **settings)

    def to_sql(self, *args: Any, **settings: Any) -> Any:
        return self._with_text_cells(_as_text, pd.DataFrame).to_sql(*args, **settings)

    def to_excel(self, *args: Any, **settings: Any) -> Any:
        return self._with_text_cells(_for_excel, pd.DataFrame).to_excel(*args, **settings)

    def _with_text_cells(self, as_text: Any, kind: Any) -> Any:
        frame = kind(self)
        for name in frame.columns:
            if frame[name].dtype.kind == "O":
                frame[name] = frame[name].map(as_text)
        return frame


def table_of(rows: Iterable[Mapping[str, Any]], checks: Iterable[str] = ()) -> Table:
    """The rows as a table; the columns of `checks` hold True, False and missing values."""
    table = Table(list(rows))
    for name in checks:
        # Otherwise a column with a missing value could neither be negated nor be used as a mask.
        table[name] = table[name].astype("boolean")
    return table


def _as_text(cell: Any) -> Any:
    if isinstance(cell, (list, dict)):
        return json.dumps(cell, ensure_ascii=False)
    return cell if cell is None or isinstance(cell, (str, int, float)) or pd.isna(cell) else str(cell)


def _for_excel(cell: Any) -> Any:
    """A text without control characters, which Excel refuses, and without what it takes for a formula."""
    text = _as_text(cell)
    return terminal_text("'" + text if text.startswith("=") else text) if isinstance(text, str) else text
