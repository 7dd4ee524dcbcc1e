"""JSON pruned to what can be shown: as HTML, as text, and as a copy for a front end's own tree."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from itertools import islice
from typing import TYPE_CHECKING

from .formulas import NO_FORMULAS
from .text import MAX_PLAIN_BYTES, REORDERING, bounded, one_line, wire_size

if TYPE_CHECKING:
    from ..stream import JSON

MAX_JSON_HTML_BYTES = 400_000
MAX_KEY_CHARS = 200
MAX_DISPLAY_DEPTH = 64
"""Front ends and notebook tools walk a JSON output recursively, each level in many frames."""
_MAX_SAFE_INTEGER = 2**53 - 1
# Shown as \\u escapes: data has to be seen as it is, so nothing is dropped from it.
_INVISIBLE = re.compile(f"[\x00-\x1f\x7f-\x9f\u200b\u2028\u2029\ufeff\ud800-\udfff{REORDERING}]")


@dataclass(frozen=True, slots=True)
class _Node:
    """One step of a walk through JSON: a value, or the end of one that holds others."""

    step: str  # "value", "open", "close" or "left out"
    key: str | None = None  # None in a list and at the root
    value: JSON = None
    count: int = 0


@dataclass(slots=True)
class _Level:
    items: Iterator[tuple[str | None, JSON]]
    remaining: int
    reserved: int  # nodes kept for what follows on the levels above


@dataclass(slots=True)
class _Walk:
    """Steps through JSON in reading order, without recursion and within bounds.

    `nodes_left` may be lowered from outside; the walk then ends as soon as it can.
    """

    nodes_left: int
    max_depth: int
    levels: list[_Level] = field(default_factory=list)

    def steps(self, payload: JSON) -> Iterator[_Node]:
        yield self._enter(None, payload, 0)
        while self.levels:
            level = self.levels[-1]
            if level.remaining and self.nodes_left <= level.reserved:
                yield _Node("left out", count=level.remaining)
                level.remaining = 0
            if not level.remaining:
                self.levels.pop()
                yield _Node("close")
                continue
            key, value = next(level.items)
            level.remaining -= 1
            self.nodes_left -= 1
            # Half of what is left is kept for those that follow: the first must not take all.
            free = max(self.nodes_left - level.reserved, 0)
            yield self._enter(key, value, level.reserved + min(level.remaining, free // 2))

    def _enter(self, key: str | None, value: JSON, reserved: int) -> _Node:
        if not isinstance(value, (dict, list)) or not value:
            return _Node("value", key, value)
        if len(self.levels) >= self.max_depth:
            return _Node("left out", key, value, len(value))
        items: Iterator[tuple[str | None, JSON]]
        if isinstance(value, dict):
            items = ((str(name), child) for name, child in value.items())
        else:
            items = ((None, child) for child in value)
        self.levels.append(_Level(items, len(value), reserved))
        return _Node("open", key, value, len(value))


def _visible(text: str) -> str:
    """`text` with control and reordering characters as escapes that a reader can see."""
    if not _INVISIBLE.search(text):
        return text
    return _INVISIBLE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _quoted(text: str, limit: int) -> str:
    shown = _visible(json.dumps(text[:limit], ensure_ascii=False))
    return shown if len(text) <= limit else f"{shown} … {len(text) - limit:,} more characters"


def _key(key: str) -> str:
    return _visible(key) if len(key) <= MAX_KEY_CHARS else _visible(key[:MAX_KEY_CHARS]) + "…"


def _scalar(value: JSON, max_string: int) -> str:
    match value:
        case str():
            return _quoted(value, max_string)
        case dict():
            return "{}"
        case list():
            return "[]"
        case None | bool():
            return json.dumps(value)
        case int() if value.bit_length() > 10_000:
            return "… a number of more than 3,000 digits"  # Python refuses to write it out
        case _:
            return one_line(str(value), max_string)


def _size_note(value: JSON, count: int) -> str:
    if isinstance(value, dict):
        return f"{{}} {count:,} {'key' if count == 1 else 'keys'}"
    return f"[] {count:,} {'item' if count == 1 else 'items'}"


_FAINT = '<span style="opacity:0.65">'


def json_html(
    payload: JSON,
    label: str = "root",
    *,
    max_nodes: int = 2_000,
    max_depth: int = 32,
    max_string: int = 2_000,
) -> str:
    """Return `payload` as a tree that opens and closes without script.

    For front ends without a JSON view of their own. What is left out is said where it is.

    Args:
        payload: any JSON.
        label: what the root is called; one line of it is shown.
        max_nodes: how many values are shown, at any depth.
        max_depth: how many levels.
        max_string: how many characters of a string.
    """
    walk = _Walk(max_nodes, max_depth)
    parts: list[str] = []
    size = 0
    position: list[int] = []  # in each open list or object
    for node in walk.steps(payload):
        if node.step == "close":
            position.pop()
            part = "</div></details>"
        else:
            part = _node_html(node, one_line(label, MAX_KEY_CHARS), position, max_string)
            if node.step == "open":
                position.append(0)
        parts.append(part)
        size += wire_size(part)
        if size > MAX_JSON_HTML_BYTES:
            walk.nodes_left = 0
    return (
        f'<div class="halo-json {NO_FORMULAS}" dir="ltr" '
        'style="font-family:monospace;font-size:13px;line-height:1.5;margin:8px 0">'
        + "".join(parts)
        + "</div>"
    )


def _node_html(node: _Node, label: str, position: list[int], max_string: int) -> str:
    if not position:
        name = label
    elif node.key is not None:
        name = _key(node.key)
    else:
        name = str(position[-1])
    if position:
        position[-1] += 1
    shown = f"<strong>{escape(name)}</strong>{_FAINT}:</span> "
    match node.step:
        case "open":
            opened = " open" if not position else ""
            note = _size_note(node.value, node.count)
            return (
                f"<details{opened}><summary>{shown}{_FAINT}{note}</span></summary>"
                '<div style="margin-left:18px">'
            )
        case "left out" if node.value is None:
            return f"<div>{_FAINT}… {node.count:,} more</span></div>"
        case "left out":
            return f"<div>{shown}{_FAINT}{_size_note(node.value, node.count)} … too deep to show</span></div>"
        case _:
            value = escape(_scalar(node.value, max_string))
            # The older word-wrap too: JupyterLab drops `anywhere` from an untrusted notebook.
            style = "white-space:pre-wrap;word-wrap:break-word;overflow-wrap:anywhere"
            return f'<div style="{style}">{shown}<span>{value}</span></div>'


def json_text(payload: JSON, *, max_nodes: int = 500, max_depth: int = 32, max_string: int = 500) -> str:
    r"""Return `payload` as indented JSON for a terminal, with notes for what is left out.

    >>> print(json_text({"type": "highlight", "boxes": [1, 2]}))
    {
      "type": "highlight",
      "boxes": [
        1,
        2
      ]
    }
    """
    walk = _Walk(max_nodes, max_depth)
    lines: list[str] = []
    closing: list[str] = []
    for node in walk.steps(payload):
        if node.step == "close":
            lines[-1] = lines[-1].removesuffix(",")
            bracket = closing.pop()
            lines.append("  " * len(closing) + bracket + ("," if closing else ""))
            continue
        indent = "  " * len(closing)
        name = f"{_quoted(node.key, MAX_KEY_CHARS)}: " if node.key is not None else ""
        comma = "," if closing else ""
        match node.step:
            case "open":
                is_object = isinstance(node.value, dict)
                lines.append(f"{indent}{name}{'{' if is_object else '['}")
                closing.append("}" if is_object else "]")
            case "left out" if node.value is None:
                lines.append(f"{indent}… {node.count:,} more")
            case "left out":
                lines.append(f"{indent}{name}… {_size_note(node.value, node.count)}, too deep to show{comma}")
            case _:
                lines.append(f"{indent}{name}{_scalar(node.value, max_string)}{comma}")
    return bounded("\n".join(lines), MAX_PLAIN_BYTES)


def json_display(payload: JSON, *, max_bytes: int = 500_000) -> JSON:
    """Return a copy of `payload` that is fit for an ``application/json`` output.

    Integers beyond ±(2**53 - 1) become strings, since a browser would round them. Control and
    reordering characters become visible escapes, in keys and in strings; the key
    ``__proto__``, which a front end's copy would lose, is put in quotes. What is deeper than
    `MAX_DISPLAY_DEPTH`, or too much for `max_bytes` as JSON, is left out, with a note there.

    Args:
        payload: any JSON; it is not changed.
        max_bytes: how large the copy may be, as JSON in UTF-8.
    """
    max_items, max_string = max_bytes, max_bytes
    while max_items >= 2:
        copy = _display_copy(payload, max_bytes, max_items, max_string)
        if copy is not None:
            return copy[0]
        max_items = min(max_items, 4_000) // 4
        max_string = min(max_string, 40_000) // 4
    return f"… too large to show: more than {max_bytes:,} bytes"


def _display_copy(payload: JSON, max_bytes: int, max_items: int, max_string: int) -> list[JSON] | None:
    """A copy in a list of one, or nothing when it would be larger than `max_bytes`."""
    root: list[JSON] = []
    size = 0
    # What is still to be copied, in reading order from the end; each with where it goes.
    todo: list[tuple[JSON, list[JSON] | dict[str, JSON], str, int]] = [(payload, root, "", 0)]
    while todo:
        value, target, key, depth = todo.pop()
        size += 2 * (depth > 0)
        copied: JSON
        if not isinstance(value, (dict, list)):
            copied = _display_scalar(value, max_string)
            size += wire_size(copied) + 2 if isinstance(copied, str) else len(str(copied)) + 1
        elif depth >= MAX_DISPLAY_DEPTH and value:
            copied = f"… {_size_note(value, len(value))}, too deep to show"
            size += len(copied) + 4
        else:
            size += 2
            copied = [] if isinstance(value, list) else {}
        if isinstance(target, list):
            target.append(copied)
        else:
            while key in target:
                key += "…"  # two keys that differ in what is cut only
            size += wire_size(key) + 4
            target[key] = copied
        if size > max_bytes:
            return None
        if isinstance(value, (dict, list)) and isinstance(copied, (dict, list)):
            rest = len(value) - max_items
            if rest > 0:
                todo.append((f"… {rest:,} more", copied, "…", depth + 1))
            children: list[tuple[str, JSON]]
            if isinstance(value, dict):
                children = [(_display_key(str(name)), value[name]) for name in islice(value, max_items)]
            else:
                children = [("", child) for child in value[:max_items]]
            todo.extend((child, copied, name, depth + 1) for name, child in reversed(children))
    return root


def _display_key(key: str) -> str:
    return '"__proto__"' if key == "__proto__" else _key(key)


def _display_scalar(value: JSON, max_string: int) -> JSON:
    match value:
        case str():
            # Newlines and tabs are what a front end shows well.
            shown = "\n".join(
                "\t".join(map(_visible, line.split("\t"))) for line in value[:max_string].split("\n")
            )
            return (
                shown if len(value) <= max_string else f"{shown}… {len(value) - max_string:,} more characters"
            )
        case None | bool():
            return value
        case int() if -_MAX_SAFE_INTEGER <= value <= _MAX_SAFE_INTEGER:
            return value
        case float() if math.isfinite(value):
            return value
        case _:
            return _scalar(value, max_string)


def payload_label(payload: JSON, index: int) -> str:
    """Return a short label for an action, one line of at most 80 characters.

    Args:
        payload: the action's JSON; its `type`, else its `name`, is shown when it is a string.
        index: the number to show, as it is.

    >>> payload_label({"type": "highlight"}, 1)
    'action 1: highlight'
    >>> payload_label([1, 2], 2)
    'action 2'
    """
    kind = ""
    if isinstance(payload, dict):
        names = (payload.get("type"), payload.get("name"))
        kind = next((line for name in names if isinstance(name, str) and (line := one_line(name, 60))), "")
    return f"action {index}: {kind}" if kind else f"action {index}"
