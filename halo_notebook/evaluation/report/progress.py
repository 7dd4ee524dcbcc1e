"""A bar of turns whose saved form is its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def progress_bar(total: int, *, shown: bool) -> Iterator[Any]:
    """A bar of tqdm: in a kernel a widget, elsewhere text.

    A widget is saved as the text beside it, unless its state is saved too. That text says nothing until the
    end, and then what the bar says, so that no saved cell shows a bar that has not moved.
    """
    from tqdm.auto import tqdm

    if not shown or all(each.__module__ != "tqdm.notebook" for each in tqdm.__mro__):
        with tqdm(total=total, unit="turn", disable=not shown) as bar:
            yield bar
        return
    from IPython.display import display

    with tqdm(total=total, unit="turn", display=False) as bar:
        widget = getattr(bar, "container")  # noqa: B009  # which the types of text bars do not have
        shown_as: Any = display({**widget._repr_mimebundle_(), "text/plain": ""}, raw=True, display_id=True)
        try:
            yield bar
        finally:
            shown_as.update({**widget._repr_mimebundle_(), "text/plain": str(bar)}, raw=True)
