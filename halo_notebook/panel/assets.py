"""Join the panel's ES modules into one, and its style sheets: anywidget loads one of each.

The joined modules share one scope. So each top-level name is used in only one module, and an `import`
must not rename anything.
"""

from __future__ import annotations

import re
from pathlib import Path

STATIC = Path(__file__).parent / "static"

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default )", re.MULTILINE)


def bundle(entry: str = "panel.js") -> str:
    """Return a module of `static` joined with the modules that it imports, each after its own imports."""
    parts: dict[str, str] = {}

    def add(name: str) -> None:
        text = (STATIC / name).read_text("utf-8")
        for imported in _IMPORT.findall(text):
            if imported not in parts:
                add(imported)
        parts[name] = _EXPORT.sub("", _IMPORT.sub("", text))

    add(entry)
    return "\n".join(parts.values())


def styles(*more: str) -> str:
    """Return the panel's style sheets as one, with the general rules first, then `more` of `static`."""
    names = ("panel.css", "turn.css", "tree.css", *more)
    return "\n".join((STATIC / name).read_text("utf-8") for name in names)
