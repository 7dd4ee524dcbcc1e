"""An evaluation as one file for a colleague: no script, nothing loaded, readable in light and dark."""

from __future__ import annotations

import base64
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ...display.bundles import message_html, reply_bundle
from ...display.text import one_line
from ...display.wording import counted, status_words
from ...reply import reply_from
from ..cases.columns import END
from ..file_paths import written_whole
from ..outcomes import COMPLETE
from ..tables.by_case import figures_of
from ..tables.rows import conversation_rows, is_failure, why
from .conversations import verdict_line
from .notebook import QUIET, overview
from .plot import plot

if TYPE_CHECKING:
    from ..cases.case import Conversation
    from ..file.state import RunState

_PAGE_CSS = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
th, td { border-bottom: 1px solid #8886; }
.halo-evaluation table { font-size: 13px; }
pre { overflow-x: auto; }
img { max-width: 100%; border-radius: 4px; }
details.conversation { border: 1px solid #8886; border-radius: 4px; margin: 0.5rem 0; padding: 0.5rem 1rem; }
details.conversation > summary { cursor: pointer; }
.bad { font-weight: bold; }
"""
_NO_SCRIPT = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def write_page(state: RunState, path: Path) -> Path:
    """Write the page of an evaluation to `path`, all or nothing; returns it."""
    with written_whole(path, state.path) as page:
        _write(state, page)
    return path


def _write(state: RunState, page: TextIO) -> None:
    when = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
    page.write(
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_NO_SCRIPT}">'
        '<meta name="viewport" content="width=device-width"><title>Evaluation</title>'
        f"<style>{_PAGE_CSS}</style></head><body><main>\n<h1>Evaluation</h1>\n{overview(state)}\n"
        f'<p style="{QUIET}">Written {escape(when)}</p>\n'
    )
    if any(run.times("elapsed_s") for run in figures_of(state).runs):
        picture = base64.b64encode(plot(state).svg().encode()).decode("ascii")
        alt = "Pass rates with intervals, and times, by configuration: the figures of the table above"
        page.write(f'<img alt="{alt}" src="data:image/svg+xml;base64,{picture}">\n')
    page.write("<h2>Conversations</h2>\n")
    with state.opened() as file:
        page.writelines(
            _conversation(state, conversation, state.lines(conversation, file))
            for conversation in state.conversations.values()
        )
    page.write("</main></body></html>\n")


def _conversation(state: RunState, conversation: Conversation, lines: list[dict[str, Any] | None]) -> str:
    """A conversation that folds; its line says whether it is worth opening."""
    rows = conversation_rows(state, conversation, lines)
    reasons = [why(state, row) for row in rows]
    # What ended it says more than what failed before.
    cut = [reason for reason, row in zip(reasons, rows, strict=True) if reason and row["status"] != COMPLETE]
    reason = next(filter(None, [*cut, *reasons]), "")
    about = f"{conversation.case.id} · {conversation.config} · repeat {conversation.repeat}"
    judged = any(row[name] is not None for row in rows for name in state.checks_of_agent)
    verdict = "✓" if judged else "–"
    if reason:
        # A missing result is not a failure, even if an earlier turn failed a check: as in the rates.
        failed = not state.missing(conversation) and any(is_failure(state, row) for row in rows)
        verdict = f'<span class="bad">{"✗" if failed else "–"} {escape(one_line(reason, 200))}</span>'
    if ended := rows[-1].get(END):
        about += f" · {ended}"
    title = f"{escape(one_line(about))} {verdict}"
    parts = []
    for row, line in zip(rows, lines, strict=True):
        if line is None:
            continue
        reply = reply_from(line["reply"])
        bundle = reply_bundle(reply, status_words(reply))
        parts.append(message_html(row["message"]) + str(bundle["text/html"]))
        if verdicts := verdict_line(state, row):
            parts.append(f'<p style="{QUIET}">{escape(verdicts)}</p>')
    if not parts:
        parts.append(f"<p>{escape(counted(len(rows), 'message'))}, not sent.</p>")
    inner = "\n".join(parts)
    return f'<details class="conversation"><summary>{title}</summary>\n{inner}\n</details>\n'
