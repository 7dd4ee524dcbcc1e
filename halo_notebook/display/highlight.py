"""Code → HTML with the colours of the notebook's own code cells."""

from __future__ import annotations

import time
from html import escape
from itertools import groupby
from operator import itemgetter
from typing import Final

from pygments import lex
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Keyword, Literal, Number, String

MAX_HIGHLIGHTED_CHARS = 10_000
MAX_LINE_CHARS = 1_000
"""With a longer line, code is plain: some lexers take quadratic time within one line."""
MAX_REPLY_CHARS = 100_000
MAX_REPLY_S = 0.2
"""CPU seconds that highlighting a reply may take, since Stop waits for it."""
try:
    time.thread_time()
    _clock = time.thread_time
except (AttributeError, OSError):  # a page's Python may have no clock for threads
    _clock = time.perf_counter
# Some of the hundreds of lexers in Pygments take time that grows fast with the text.
_LANGUAGES = {
    *("python", "py", "python3", "pycon", "ipython", "javascript", "js", "typescript", "ts", "json", "java"),
    *("c", "cpp", "c++", "csharp", "c#", "go", "rust", "ruby", "rb", "php", "sql", "bash", "sh", "shell"),
    *("zsh", "html", "xml", "css", "yaml", "toml", "ini", "diff", "r", "julia", "kotlin", "swift"),
    "dockerfile",
}
# The colours of the notebook's own code cells, light or dark. Where a front end has none, or drops
# them (JupyterLab, reopened untrusted), code is plain: any one colour is faint on white or on black.
_STYLES: Final = (
    (Comment, "font-style:italic;opacity:0.75"),
    (Keyword, "color:var(--jp-mirror-editor-keyword-color, inherit)"),
    (String, "color:var(--jp-mirror-editor-string-color, inherit)"),
    (Number, "color:var(--jp-mirror-editor-number-color, inherit)"),
    (Literal, "color:var(--jp-mirror-editor-number-color, inherit)"),
)


class Highlighter:
    """Highlights the code of one reply within a budget of time and size; past it, code is plain."""

    def __init__(self) -> None:
        self._chars = MAX_REPLY_CHARS
        self._seconds = MAX_REPLY_S
        self._done: dict[tuple[str, str], str] = {}  # a reply is rendered twice if it defines links

    def html(self, code: str, language: str) -> str:
        """Return `code` as HTML, with colours when `language` is known and the code is not long."""
        key = language, code
        if key not in self._done:
            self._done[key] = self._coloured(code, language) or escape(code)
        return self._done[key]

    def _coloured(self, code: str, language: str) -> str:
        """The code as HTML; empty if it is not highlighted.

        Only keywords, strings, numbers and comments: a span for each token would double every frame.
        """
        is_long = len(code) > min(self._chars, MAX_HIGHLIGHTED_CHARS)
        if language not in _LANGUAGES or is_long or max(map(len, code.split("\n"))) > MAX_LINE_CHARS:
            return ""
        self._chars -= len(code)
        # Loading a lexer, once a process, is not a reply's own work: all of them together take 0.4 s.
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
        since = _clock()
        pieces: list[tuple[str, str]] = []
        for kind, text in lex(code, lexer):
            # `in` is how a token type says that it is a kind of another; its stubs know a plain tuple's.
            style = next((s for group, s in _STYLES if kind in group), "")  # type: ignore[comparison-overlap]
            # White space takes the style of the text before it, so that there are fewer spans.
            pieces.append((pieces[-1][0] if pieces and text.isspace() else style, text))
            if _clock() - since > self._seconds:
                self._chars = 0
                return ""
        self._seconds -= _clock() - since
        html = ""
        for style, run in groupby(pieces, itemgetter(0)):
            shown = escape("".join(text for _, text in run))
            html += f'<span style="{style}">{shown}</span>' if style and shown else shown
        return html
