"""A reply as plain text in a terminal, or in a console such as qtconsole, which cannot update an output."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from ...display.bundles import MAX_TREES, action_text, labelled_payloads, status_text
from ...display.text import PlainPieces, terminal_text, writable
from ...display.timeline import ShownAction

if TYPE_CHECKING:
    from ...reply import Reply
    from ...stream import JSON


class TerminalScreen:
    """Prints a reply as plain text while it arrives."""

    def __init__(self, reply: Reply) -> None:
        self._reply = reply
        self._part = 0
        self._chars = 0  # of the text that is printed
        self._actions = 0
        self._line_open = False
        self._plain = PlainPieces()

    def begin(self, state: str) -> None:
        pass  # not every terminal can take a line back

    def paint(self, state: str) -> None:
        text, self._part = self._reply.text_since(self._part)
        start = self._chars
        events = self._reply.action_events[self._actions :]
        for offset, together in groupby(events, lambda event: event.offset):
            if offset > start + len(text):
                break  # received after the text was read
            self._write(text[self._chars - start : offset - start])
            self._chars = offset
            self._show([event.payload for event in together])
        self._write(text[self._chars - start :])
        self._chars = start + len(text)
        _flush()

    def finish(self, words: Sequence[str]) -> None:
        self.paint("")
        self._show(self._reply.summary_only)
        self._end_line()
        self._write(f"{status_text(words)}\n")
        _flush()

    def _show(self, payloads: list[JSON]) -> None:
        numbered = enumerate(payloads, self._actions + 1)
        actions = [ShownAction(number, payload, 0.0, self._chars) for number, payload in numbered]
        for payload, label in labelled_payloads(actions, most=MAX_TREES):
            self._end_line()
            self._write(f"{action_text(payload, label)}\n")
        self._actions += len(payloads)

    def _end_line(self) -> None:
        if self._line_open:
            self._write("\n")

    def _write(self, text: str) -> None:
        text = writable(self._plain(text))
        if text:
            _print(text)
            self._line_open = not text.endswith("\n")


def write_line(text: str) -> None:
    """Print `text` as a line of its own."""
    _print(f"{writable(terminal_text(text))}\n")
    _flush()


def _print(text: str) -> None:
    if sys.stdout is not None:  # it is None in a program without a console
        sys.stdout.write(text)


def _flush() -> None:
    if hasattr(sys.stdout, "flush"):  # what another program puts there may only write
        sys.stdout.flush()
