"""An evaluation as JUnit XML, which CI systems show: a test case per conversation."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

from ...display.text import one_line
from ..file_paths import written_whole
from ..outcomes import COMPLETE
from ..tables.rows import conversation_rows, is_failure, why

if TYPE_CHECKING:
    from ..cases.case import Conversation
    from ..file.state import RunState

_NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MAX_TEXT = 10_000  # of a message and of a reply
_NOTHING = "No conversation has a result"


def write_junit(state: RunState, path: Path) -> Path:
    """Write a test suite per configuration to `path`; returns it.

    A conversation fails if the agent did not complete it or a check fails, and is skipped if its result is
    missing or no check has judged it. If every one is skipped, there is an error: nothing was tested.
    """
    suites = ET.Element("testsuites", name="evaluation")
    made = {config: ET.SubElement(suites, "testsuite", name=_text(config)) for config in state.sources}
    tested = False
    with state.opened() as file:
        for conversation in state.conversations.values():
            suite = made[conversation.config]
            rows = conversation_rows(state, conversation, state.lines(conversation, file))
            tested |= _add(suite, state, conversation, rows)
    if not tested:
        suite = ET.SubElement(suites, "testsuite", name="evaluation")
        case = ET.SubElement(suite, "testcase", classname="evaluation", name="has results", time="0")
        ET.SubElement(case, "error", message=_NOTHING)
    for suite in suites:
        for name, tag in (
            ("tests", "testcase"),
            ("failures", "failure"),
            ("errors", "error"),
            ("skipped",) * 2,
        ):
            suite.set(name, str(sum(1 for _ in suite.iter(tag))))
    with written_whole(path, state.path) as page:
        page.write('<?xml version="1.0" encoding="utf-8"?>\n')
        page.write(ET.tostring(suites, encoding="unicode"))
    return path


def _add(
    suite: ET.Element, state: RunState, conversation: Conversation, rows: Sequence[Mapping[str, Any]]
) -> bool:
    """Add a conversation. Returns whether it has a result."""
    repeat = f" [{conversation.repeat}]" if conversation.repeat > 1 else ""
    case = ET.SubElement(suite, "testcase", classname=_text(conversation.config))
    case.set("name", _text(conversation.case.id) + repeat)
    case.set("time", f"{sum(row['elapsed_s'] or 0.0 for row in rows):.3f}")
    failed = [row for row in rows if is_failure(state, row)]
    if state.missing(conversation):
        reasons = (why(state, row) for row in rows if row["status"] != COMPLETE)
        ET.SubElement(case, "skipped", message=_text(one_line(next(filter(None, reasons), ""), 500)))
        return False
    if failed:
        message = "; ".join(f"turn {row['turn']}: {why(state, row)}" for row in failed)
        failure = ET.SubElement(case, "failure", message=_text(one_line(message, 500)))
        failure.text = _text("\n".join(_said(rows)))
        return True
    judged = any(row[check] is not None for row in rows for check in state.checks_of_agent)
    if not judged:
        ET.SubElement(case, "skipped", message="no check has judged it")
    return judged


def _said(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield f"> {(row['message'] or '')[:_MAX_TEXT]}"
        yield (row["text"] or row["error"] or f"({row['status']})")[:_MAX_TEXT]


def _text(text: str) -> str:
    """A text without the characters that XML cannot have."""
    return _NOT_XML.sub("\ufffd", text)
