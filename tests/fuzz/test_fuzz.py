"""The fuzz targets still run, on their seeds and on some inputs of hypothesis."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from halo_notebook.stream import StreamParser

from .fuzz_stream import SEEDS, check, inputs


@pytest.mark.parametrize("number", range(len(SEEDS)))
def test_the_stream_holds_for_the_seeds(number: int) -> None:
    """Each seed gives what a plain scan of it finds, however it is cut."""
    check(SEEDS[number])


@settings(max_examples=200, deadline=None, database=None)
@given(inputs)
def test_the_stream_holds_for_generated_inputs(data: bytes) -> None:
    """So does what hypothesis makes up."""
    check(data)


def test_a_broken_parser_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that loses one held byte fails the check: the target does look."""
    feed = StreamParser.feed

    def forgetful(self: StreamParser, data: bytes) -> object:
        events = feed(self, data)
        self._held = self._held[1:]
        return events

    monkeypatch.setattr(StreamParser, "feed", forgetful)
    with pytest.raises(AssertionError, match="is not"):
        check(b"\xff\x01\x01" + "żółw".encode())
