"""Join the panel's ES modules into one, and its style sheets: anywidget loads one of each.

The joined modules share one scope. So each top-level name is used in only one module, and an `import`
must not rename anything.
"""

from __future__ import annotations

import re
from pathlib import Path

STATIC = Path(__file__).parent / "static"

_IMPORT = re.compile(r'^import \{[^}]*\} from "(\.[\w/.]+\.js)";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?!default )", re.MULTILINE)


def bundle(entry: str) -> str:
    """Return a module of `static` joined with the modules that it imports, each after its own imports."""
    parts: dict[Path, str] = {}

    def add(file: Path) -> None:
        text = file.read_text("utf-8")
        for imported in _IMPORT.findall(text):
            if (other := (file.parent / imported).resolve()) not in parts:
                add(other)
        parts[file] = _EXPORT.sub("", _IMPORT.sub("", text))

    add((STATIC / entry).resolve())
    return "\n".join(parts.values())


def styles(*more: str) -> str:
    """Return the widgets' style sheets as one, with the general rules first, then `more` of `static`."""
    names = ("shared/panel.css", "shared/turn.css", "shared/tree.css", *more)
    return "\n".join((STATIC / name).read_text("utf-8") for name in names)
