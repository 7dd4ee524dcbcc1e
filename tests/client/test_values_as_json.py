"""Values of a notebook as JSON: the same in every process, null where missing, or an error with its place."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from halo_notebook import errors
from halo_notebook.client.request import context_entry, plain_json

ROWS = [{"a": 1, "b": "x"}, {"a": None, "b": None}]
NAT = pd.NaT


class Kind(Enum):
    ONE = frozenset({"b", "a"})


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ({"b", "a", "c"}, ["a", "b", "c"]),
        (frozenset({2, 1, "1"}), ["1", 1, 2]),
        ({(2, 1), (1, 2)}, [[1, 2], [2, 1]]),
        ({"k": [{"b", "a"}]}, {"k": [["a", "b"]]}),
        ({frozenset({"b", "a"}): 1}, {"['a', 'b']": 1}),
        ({(1, frozenset({"b", "a"})): 1}, {"(1, ['a', 'b'])": 1}),
        ({"b": 1, "a": 2}.keys(), ["a", "b"]),
        (Kind.ONE, ["a", "b"]),
        (timedelta(days=1), "1 day, 0:00:00"),
        (pd.Timedelta("1h"), "0 days 01:00:00"),
        (np.timedelta64(5, "ns"), "5 nanoseconds"),
        (np.timedelta64("NaT", "ns"), None),
        (pd.Period("2024-01"), "2024-01"),
        (pd.Interval(0, 1), "(0, 1]"),
        (pd.Categorical(["a", None]), ["a", None]),
        (pd.Index([1, 2]), [1, 2]),
        (pd.array([True, None], dtype="boolean"), [True, None]),
        (pl.Series([1, None]), [1, None]),
        (pa.array(["a", None]), ["a", None]),
        (pa.chunked_array([[1], [2]]), [1, 2]),
        (pa.scalar(5), 5),
        (pd.DataFrame({"a": [pd.Timedelta("1h"), NAT]}), [{"a": "0 days 01:00:00"}, {"a": None}]),
        (pd.DataFrame({"a": [pd.Period("2024-01"), NAT]}), [{"a": "2024-01"}, {"a": None}]),
        (pd.DataFrame({"a": [Decimal("NaN"), Decimal("1.5")]}), [{"a": None}, {"a": "1.5"}]),
        (
            pd.DataFrame({"a": pd.cut([1, 5, float("nan")], [0, 2, 6])}),
            [{"a": "(0.0, 2.0]"}, {"a": "(2.0, 6.0]"}, {"a": None}],
        ),
        (pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": ["x", pd.NA]}), ROWS),
        (pl.DataFrame({"a": [1, None], "b": ["x", None]}), ROWS),
        (pa.table({"a": [1, None], "b": ["x", None]}), ROWS),
        (
            pl.DataFrame({"a": [timedelta(1)], "b": [{"x": [float("nan")]}]}),
            [{"a": "1 day, 0:00:00", "b": {"x": [None]}}],
        ),
    ],
    ids=range(29),
)
def test_a_value_has_one_json_form(value: Any, plain: Any) -> None:
    """Sets have an order, spans of time and of numbers a text, and columns of other libraries are lists."""
    assert plain_json(value, "it") == plain


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "nan has no JSON form"),
        (Decimal("NaN"), "NaN has no JSON form"),
        (Decimal("sNaN"), "sNaN has no JSON form"),
        (Decimal("Infinity"), "Infinity has no JSON form"),
        ({"a": [float("inf")]}, "'a': inf has no JSON form"),
        ({"a": {"b": b"x"}}, "'a': 'b': bytes has no JSON form"),
        (pd.DataFrame({"n": [1], "raw": [b"x"]}), "'raw': bytes has no JSON form"),
        (pd.DataFrame({"z": [1j]}), "'z': complex has no JSON form"),
        (pl.DataFrame({"raw": [b"x"]}), "'raw': bytes has no JSON form"),
        (pa.table({"raw": [b"x"]}), "'raw': bytes has no JSON form"),
        (pa.table([[1], [2]], names=["a", "a"]), "column names are not unique"),
        (pl.LazyFrame({"a": [1]}), "LazyFrame has no JSON form; give its .collect()"),
        (deque([1]), "deque has no JSON form"),
        ((x for x in [1]), "generator has no JSON form"),
        (np.void(b"abc"), "has no JSON form"),
    ],
    ids=range(15),
)
def test_what_has_none_is_refused_with_its_place(value: Any, words: str) -> None:
    """The key or the column, before anything is sent."""
    with pytest.raises(errors.InvalidRequest) as caught:
        context_entry("df", value)
    assert words in str(caught.value) and str(caught.value).startswith(
        "context['df'] cannot be sent as JSON ("
    )


@pytest.mark.parametrize(
    "frame",
    [pl.DataFrame({"a": [1]}), pa.table({"a": [1]}), pa.record_batch({"a": [1]}), pd.DataFrame({"a": [1]})],
)
def test_a_frame_of_any_library_is_a_list_of_rows(frame: Any) -> None:
    """As context, with that type."""
    assert context_entry("orders", frame) == {"label": "orders", "type": "list", "value": [{"a": 1}]}
