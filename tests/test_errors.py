"""Every error says whether its message arrived and whether it may be sent again."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from halo_notebook import errors

ERRORS = {
    name: kind
    for name, kind in vars(errors).items()
    if inspect.isclass(kind) and issubclass(kind, errors.HaloError)
}


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    """Each error has its line there, below its parent, with its `arrived`."""
    parents: list[type[Exception]] = []
    found = {}
    for bars, name, arrived in re.findall(
        r"^    ([│├└─ ]*)(\w+)(?: +(no|refused|maybe) )?.*$", errors.__doc__ or "", re.MULTILINE
    ):
        kind = ERRORS.get(name)
        if kind is None:
            continue
        parents[len(bars) // 4 :] = [kind]
        found[name] = arrived
        assert name == "HaloError" or parents[-2] in kind.__bases__, name
        status = re.search(rf"{name} +refused +(\d+)", errors.__doc__ or "")
        error = kind("it", status_code=int(status[1])) if status else kind("it")  # type: ignore[call-arg]
        assert error.arrived == (arrived or "no"), name
    assert found.keys() == ERRORS.keys()


@pytest.mark.parametrize(
    ("error", "arrived", "again_s"),
    [
        (errors.ConnectionFailed("no connection"), "no", 0.0),
        (errors.RateLimited("", status_code=429), "refused", 0.0),
        (errors.RateLimited("", status_code=429, retry_after_s=90.0), "refused", 90.0),
        (errors.ServerError("", status_code=503, retry_after_s=2.0), "refused", 2.0),
        (errors.ServerError("", status_code=503), "maybe", None),
        (errors.ServerError("", status_code=500, retry_after_s=2.0), "maybe", None),
        (errors.BadRequest("", status_code=400, retry_after_s=2.0), "refused", None),
        (errors.StatusError("", status_code=418), "refused", None),
        (errors.StatusError("", status_code=307), "maybe", None),
        (errors.ReplyTimeout(""), "maybe", None),
        (errors.ConfigError(""), "no", None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_only_what_did_not_arrive_may_be_sent_again(error: Any, arrived: str, again_s: float | None) -> None:
    """No connection, 429, and 503 with a `Retry-After`; nothing else."""
    assert (error.arrived, error.again_s) == (arrived, again_s)
