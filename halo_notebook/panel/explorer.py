"""The conversations of a result in a notebook: a table, beside the conversation that is open.

What it promises:

- It stays fast with 10,000 conversations: the page has the rows in view, the kernel filters, searches and
  sorts. Replies are read from the file when a conversation is opened or searched.
- Nothing that an agent, a case, a check or a label says is markup in the page, except what `display` made.
- Requests run on a thread of their own, one at a time. A search that is out of date stops.

The table is ours. ITable of itables 2.9 was tried with 10,000 conversations: its data is one message of 4 MB,
which a Jupyter server drops; a search finds only what is in that message; a program learns which rows are
selected, but not which are found; and no key opens a row.

Page to kernel, each with a `cid`: `find`, `rows`, `select`, `open`, `compare`, and `label_start`, after which
come `item` and `label`, see `label_requests`. Kernel to page: an `answer` to each, and `changed` when
verdicts have changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from IPython.core.getipython import get_ipython

from ..display.text import one_line
from ..display.wording import counted
from ..errors import UsageError
from ..evaluation.labels.queue import open_queue
from ..evaluation.report.notebook import overview
from ..evaluation.report.terminal import overview_text
from ..evaluation.tables.browsing import (
    CASE,
    CHECK,
    CONFIG,
    LABEL,
    MESSAGE,
    METADATA,
    NOT_LABELLED,
    REPEAT,
    STATUS,
    TAG,
    TIME,
    ConversationList,
    Query,
    total_s,
    verdict_word,
)
from ..evaluation.tables.notes import headline
from ..evaluation.tables.rows import rows_frame
from ..stream import JSON
from .assets import bundle
from .conversation_views import comparison_view, conversation_view
from .label_requests import LabelRequests
from .result_widget import ResultWidget
from .sending import send_to_page

if TYPE_CHECKING:
    import pandas as pd

    from ..evaluation.file.state import RunState
    from ..evaluation.tables.by_case import Run
    from .views import View

PART = 100
"""So many rows are sent at a time; static/explorer/found.js asks for as many."""
MAX_CELL = 160
SAMPLE = 30
"""So many replies are drawn to be labelled."""


class ResultExplorer(ResultWidget):
    """The conversations of a result, to filter, search, sort, read and compare; `result.explore()` makes it.

    Where no widget can be shown, the cell shows the result's overview.

    Attributes:
        height: a CSS length. Can be set.
    """

    _esm = bundle("explorer/explorer.js")

    def __init__(self, state: RunState, *, height: str = "640px") -> None:
        if not isinstance(height, str):
            raise UsageError(
                f"height must be a CSS length, such as '640px', not {height!r}. Nothing was shown."
            )
        self._state = state
        self._list = ConversationList(state)
        self._query = Query()
        self._found = self._list.found(self._query)
        self._found_by = ""  # the id of the request that found them
        self._chosen: set[int] = set()
        self._latest: Any = None  # the last search
        self._labelling: LabelRequests | None = None
        super().__init__(height=height)
        state.when_changed.append(self._tell_changed)

    @property
    def selected(self) -> pd.DataFrame:
        """The rows of `result.df` of the selected conversations, or of `filtered` when none is selected."""
        chosen = sorted(self._chosen)
        return self._frame(chosen) if chosen else self.filtered

    @property
    def filtered(self) -> pd.DataFrame:
        """The rows of `result.df` of the conversations that filters and search find, sorted as the table."""
        return self._frame(self._found)

    def __repr__(self) -> str:
        return f"ResultExplorer({counted(len(self._state.conversations), 'conversation')})"

    def close(self) -> None:
        """Remove the explorer from the page for good."""
        state = getattr(self, "_state", None)  # one whose arguments were refused is closed by its finaliser
        if state is not None and self._tell_changed in state.when_changed:
            state.when_changed.remove(self._tell_changed)
        super().close()

    def _tell_changed(self) -> None:
        send_to_page(self, {"kind": "changed"})

    def _frame(self, numbers: Any) -> pd.DataFrame:
        runs = self._list.runs
        return rows_frame(
            self._state, chosen={runs[number].conversation.key: runs[number].rows for number in numbers}
        )

    def _copy(self) -> tuple[str, str]:
        # The overview of 10,000 conversations takes a second or two.
        in_kernel = hasattr(get_ipython(), "kernel")
        return overview(self._state), headline(self._state) if in_kernel else overview_text(self._state)

    def _first_view(self) -> View:
        return _answer(self)

    # --- Requests of the page ---

    async def _handle(self, request: Any) -> None:
        if isinstance(request, dict) and request.get("kind") == "find":
            self._latest = request.get("cid")
        await super()._handle(request)

    def _handlers(self) -> Mapping[str, Callable[[Mapping[str, Any]], View]]:
        return {kind: partial(handler, self) for kind, handler in _HANDLERS.items()}


def _find(explorer: ResultExplorer, request: Mapping[str, Any]) -> View:
    """Filter, search and sort; answers with the first rows."""
    given, cid = request.get("query"), request["cid"]
    query = explorer._query if given is None else _query(given)  # a page that has just been loaded gives none
    found = explorer._list.found(query, lambda: explorer._latest != cid)
    if explorer._latest != cid:
        return {}  # the page waits for a later one
    explorer._query, explorer._found, explorer._found_by = query, found, cid
    return _answer(explorer)


def _answer(explorer: ResultExplorer) -> View:
    """What was found, with its first rows."""
    query, conversations = explorer._query, explorer._list
    return {
        "found_by": explorer._found_by,
        "query": {
            "text": query.text,
            "filters": {name: list[JSON](sorted(values)) for name, values in query.filters.items()},
            "sort": query.sort,
            "descending": query.descending,
        },
        "columns": [{"id": name, "name": title, "kind": kind} for name, title, kind in _columns(explorer)],
        "filters": [
            {
                "id": each.id,
                "name": one_line(each.name, 100),
                "values": [[value, count] for value, count in each.values],
                "left_out": each.left_out,
            }
            for each in conversations.filters(query.filters)
        ],
        "total": len(conversations.runs),
        "count": len(explorer._found),
        "selected": len(explorer._chosen),
        "rows": _rows_from(explorer, 0),
    }


def _query(given: Any) -> Query:
    """What the page wants to see. Raises `UsageError` for anything that is not a query."""
    match given:
        case {"text": str(text), "filters": dict(filters), "sort": str(sort), "descending": bool(descending)}:
            if all(_is_texts(values) for values in filters.values()):
                chosen = {str(name): frozenset(values) for name, values in filters.items()}
                return Query(text[:1_000], chosen, sort, descending)
    raise UsageError("The page's search cannot be read. Reload the page.")


def _is_texts(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _columns(explorer: ResultExplorer) -> list[tuple[str, str, str]]:
    """The id, the title and the kind of each column; those in which all rows are the same are left out."""
    runs = explorer._list.runs
    names = [each.id for each in explorer._list.filters()]
    columns = [(CASE, "case", "text")]
    columns += [(CONFIG, "config", "short")] if CONFIG in names else []
    columns += [(REPEAT, "repeat", "number")] if any(run.conversation.repeat > 1 for run in runs) else []
    columns += [(STATUS, "status", "short")]
    columns += [
        (name, one_line(name.removeprefix(CHECK), 100), "verdict") for name in names if name.startswith(CHECK)
    ]
    columns += [(LABEL, "label", "short")] if LABEL in names else []
    columns += [(MESSAGE, "message", "long"), (TIME, "total", "seconds")]
    columns += [(TAG, "tags", "short")] if TAG in names else []
    columns += [
        (name, one_line(name.removeprefix(METADATA), 100), "short")
        for name in names
        if name.startswith(METADATA)
    ]
    return columns


def _rows_from(explorer: ResultExplorer, first: int) -> list[JSON]:
    """The rows of what was found, `PART` of them from that place on."""
    columns = [name for name, _, _ in _columns(explorer)]
    return [_row(explorer, number, columns) for number in explorer._found[first : first + PART]]


def _row(explorer: ResultExplorer, number: int, columns: list[str]) -> JSON:
    run = explorer._list.runs[number]
    cells: list[JSON] = [_cell(explorer, number, run, column) for column in columns]
    return {"number": number, "selected": number in explorer._chosen, "cells": cells}


def _cell(explorer: ResultExplorer, number: int, run: Run, column: str) -> JSON:
    if column.startswith(CHECK):
        return verdict_word(run, column.removeprefix(CHECK))
    if column == REPEAT:
        return run.conversation.repeat
    if column == TIME:
        return total_s(run)
    if column == LABEL:
        return ", ".join(value for value in explorer._list.values(number, column) if value != NOT_LABELLED)
    if column == CASE:
        return one_line(run.conversation.case.id, MAX_CELL)
    if column == MESSAGE:
        return one_line(run.conversation.case.opening, MAX_CELL)
    return one_line(", ".join(explorer._list.values(number, column)), MAX_CELL)


def _more_rows(explorer: ResultExplorer, request: Mapping[str, Any]) -> View:
    first = request.get("from")
    if not isinstance(first, int) or first < 0:
        raise UsageError("The page is out of date. Reload the page.")
    if request.get("found_by") != explorer._found_by:
        return {}  # another page has searched since then
    return {"rows": _rows_from(explorer, first)}


def _select(explorer: ResultExplorer, request: Mapping[str, Any]) -> View:
    """Select or deselect conversations by number, or all that were found; `only` these are selected then."""
    numbers, on = request.get("numbers"), request.get("on")
    if numbers is None:
        numbers = explorer._found
    if not isinstance(numbers, list) or not isinstance(on, bool):
        raise UsageError("The page is out of date. Reload the page.")
    chosen = {_run(explorer, number)[0] for number in numbers}
    before = set() if request.get("only") else explorer._chosen
    explorer._chosen = before | chosen if on else before - chosen
    return {"selected": len(explorer._chosen)}


def _open(explorer: ResultExplorer, request: Mapping[str, Any]) -> View:
    """Read one conversation."""
    number, run = _run(explorer, request.get("number"))
    view = conversation_view(explorer._state, run, _first(request, run))
    return {**view, "number": number, "comparable": len(_beside(explorer, run)) > 1}


def _compare(explorer: ResultExplorer, request: Mapping[str, Any]) -> View:
    """Compare the configurations of a conversation's case, in the same repeat."""
    number, run = _run(explorer, request.get("number"))
    return {
        **comparison_view(explorer._state, _beside(explorer, run), _first(request, run)),
        "number": number,
    }


def _beside(explorer: ResultExplorer, run: Run) -> list[Run]:
    """The runs of the same case and repeat, one per configuration, in their order."""
    this = run.conversation
    return [
        each
        for each in explorer._list.runs
        if each.conversation.case is this.case and each.conversation.repeat == this.repeat
    ]


def _run(explorer: ResultExplorer, number: Any) -> tuple[int, Run]:
    runs = explorer._list.runs
    if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < len(runs):
        raise UsageError("The result has no such conversation. Reload the page.")
    return number, runs[number]


def _first(request: Mapping[str, Any], run: Run) -> int:
    first = request.get("from")
    if not isinstance(first, int) or isinstance(first, bool) or not 0 <= first < len(run.turns):
        raise UsageError("The conversation has no such turn. Reload the page.")
    return first


def _start_labelling(explorer: ResultExplorer, request: Mapping[str, Any]) -> View:
    """Draw a sample of replies to label: by the verdicts of a check, a column, or by chance."""
    column = request.get("check")
    if not isinstance(column, str | None):
        raise UsageError("The page is out of date. Reload the page.")
    queue = open_queue(explorer._state, SAMPLE, column and column.removeprefix(CHECK))
    explorer._labelling = LabelRequests(queue)
    return {"total": len(queue.rows)}


def _label_requests(explorer: ResultExplorer) -> LabelRequests:
    if explorer._labelling is None:
        raise UsageError("The page is out of date. Reload the page.")
    return explorer._labelling


_HANDLERS: dict[str, Callable[[ResultExplorer, Mapping[str, Any]], View]] = {
    "find": _find,
    "rows": _more_rows,
    "select": _select,
    "open": _open,
    "compare": _compare,
    "label_start": _start_labelling,
    "item": lambda explorer, request: _label_requests(explorer).item(request),
    "label": lambda explorer, request: _label_requests(explorer).label(request),
}
