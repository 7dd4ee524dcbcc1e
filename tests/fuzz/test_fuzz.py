"""The stream parser keeps its invariant for the fuzzer's seeds and for some generated inputs."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from halo_notebook.stream import StreamParser

from .fuzz_stream import SEEDS, check, inputs


def test_the_invariant_holds_for_the_seeds() -> None:
    """Each seed gives what a plain scan of it finds, however it is cut."""
    for seed in SEEDS:
        check(seed)


@settings(max_examples=200, deadline=None, database=None)
@given(inputs)
def test_the_invariant_holds_for_generated_inputs(data: bytes) -> None:
    """So does what hypothesis generates."""
    check(data)


def test_a_broken_parser_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A parser that loses one held byte fails the check."""
    feed = StreamParser.feed

    def forgetful(self: StreamParser, data: bytes) -> object:
        events = feed(self, data)
        self._held = self._held[1:]
        return events

    monkeypatch.setattr(StreamParser, "feed", forgetful)
    with pytest.raises(AssertionError, match="is not"):
        check(b"\xff\x01\x01" + "żółw".encode())
