"""Code → HTML with the colours of the notebook's own code cells."""

from __future__ import annotations

from functools import lru_cache
from html import escape
from itertools import groupby
from operator import itemgetter
from typing import Final

from pygments import lex
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Keyword, Literal, Number, String

MAX_HIGHLIGHTED_CHARS = 10_000
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


@lru_cache(maxsize=64)
def highlighted(code: str, language: str) -> str:
    """Return `code` as HTML, with colours when `language` is known and the code is not long.

    Only keywords, strings, numbers and comments: a span for each token would double every frame.
    """
    if language not in _LANGUAGES or len(code) > MAX_HIGHLIGHTED_CHARS:
        return escape(code)
    lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    pieces: list[tuple[str, str]] = []
    for kind, text in lex(code, lexer):
        # `in` is how a token type says that it is a kind of another; its stubs know a plain tuple's.
        style = next((s for group, s in _STYLES if kind in group), "")  # type: ignore[comparison-overlap]
        # White space takes the style of the text before it, so that there are fewer spans.
        pieces.append((pieces[-1][0] if pieces and text.isspace() else style, text))
    html = ""
    for style, run in groupby(pieces, itemgetter(0)):
        shown = escape("".join(text for _, text in run))
        html += f'<span style="{style}">{shown}</span>' if style and shown else shown
    return html
