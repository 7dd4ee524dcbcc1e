"""The panel's ES modules as one, and its style sheets: anywidget loads one of each.

The modules share one scope then, so each top-level name stands in one of them only, and an `import`
renames nothing.
"""

from __future__ import annotations

import re
from pathlib import Path

STATIC = Path(__file__).parent / "static"

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default )", re.MULTILINE)


def bundle(entry: str = "panel.js") -> str:
    """Join a module of `static` and those that it imports, each once and after what it imports."""
    parts: dict[str, str] = {}

    def add(name: str) -> None:
        text = (STATIC / name).read_text("utf-8")
        for imported in _IMPORT.findall(text):
            if imported not in parts:
                add(imported)
        parts[name] = _EXPORT.sub("", _IMPORT.sub("", text))

    add(entry)
    return "\n".join(parts.values())


def styles() -> str:
    """Join the style sheets of `static`, the general rules first."""
    return "\n".join((STATIC / name).read_text("utf-8") for name in ("panel.css", "turn.css", "tree.css"))
