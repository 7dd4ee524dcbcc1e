"""JSON pruned to what can be shown, and then written: as HTML, as text, or as a copy for a front end.

A note stands in place of what is left out. If the result is too large for a message, the payload is pruned
further and written again.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html import escape
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from .formulas import NO_FORMULAS
from .text import MAX_PLAIN_BYTES, REORDERING, one_line
from .wording import counted

if TYPE_CHECKING:
    from ..stream import JSON

MAX_JSON_HTML_BYTES = 400_000
MAX_KEY_CHARS = 200
MAX_DISPLAY_DEPTH = 64
"""Front ends and notebook tools walk a JSON output recursively, each level in many frames."""
_MAX_SAFE_INTEGER = 2**53 - 1
# Shown as \\u escapes: data must be seen as it is, so nothing is dropped.
_INVISIBLE = re.compile(f"[\x00-\x1f\x7f-\x9f\u200b\u2028\u2029\ufeff\ud800-\udfff{REORDERING}]")
_FAINT = '<span style="opacity:0.65">'
# The older word-wrap too: JupyterLab drops `anywhere` from an untrusted notebook.
_VALUE_STYLE = "white-space:pre-wrap;word-wrap:break-word;overflow-wrap:anywhere"


@dataclass(frozen=True, slots=True)
class CutString:
    """The start of a long string, and how many characters are left out after it."""

    start: str
    more: int


@dataclass(slots=True)
class Branch:
    """A list or an object: how many values it has, and the first of them with their keys."""

    is_object: bool
    count: int
    is_too_deep: bool = False
    shown: list[tuple[str, Pruned]] = field(default_factory=list)

    @property
    def size(self) -> str:
        """The number of values, in words."""
        return f"{{}} {counted(self.count, 'key')}" if self.is_object else f"[] {counted(self.count, 'item')}"

    @property
    def rest(self) -> str:
        """A note on the values that are left out; empty when all are shown."""
        more = self.count - len(self.shown)
        return f"… {more:,} more" if more else ""


Pruned: TypeAlias = "None | bool | int | float | str | CutString | Branch"
Written = TypeVar("Written")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a payload is shown: values at any depth, levels, and characters of a string."""

    nodes: int = 2_000
    depth: int = 32
    string: int = 2_000


_TEXT_LIMITS = Limits(nodes=500, string=500)


def prune(payload: JSON, limits: Limits) -> Pruned:
    """Return what is shown of `payload`, which is not changed."""
    nodes_left = limits.nodes

    def pruned(value: JSON, depth: int, reserved: int) -> Pruned:
        nonlocal nodes_left
        if isinstance(value, str) and len(value) > limits.string:
            return CutString(value[: limits.string], len(value) - limits.string)
        if not isinstance(value, (dict, list)):
            return value
        branch = Branch(isinstance(value, dict), len(value), depth >= limits.depth and bool(value))
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, child in () if branch.is_too_deep else items:
            if nodes_left <= reserved:
                break
            nodes_left -= 1
            # Half of the rest is reserved for the values that follow: the first must not take everything.
            following = min(branch.count - len(branch.shown) - 1, max(nodes_left - reserved, 0) // 2)
            branch.shown.append((str(key), pruned(child, depth + 1, reserved + following)))
        return branch

    return pruned(payload, 0, 0)


def _fitting(
    write: Callable[[Pruned], Written], payload: JSON, limits: Limits, max_bytes: int
) -> Written | None:
    """Write as much of `payload` as fits into `max_bytes` of a message; None if nothing does."""
    while limits.nodes > 0:
        written = write(prune(payload, limits))
        if len(json.dumps(written, ensure_ascii=False).encode("utf-8", "replace")) <= max_bytes:
            return written
        limits = replace(limits, nodes=limits.nodes // 4, string=limits.string // 4)
    return None


def json_html(payload: JSON, label: str = "root", limits: Limits = Limits()) -> str:
    """Return `payload` as a tree that opens and closes without script; `label` names its root."""

    def write(pruned: Pruned) -> str:
        return (
            f'<div class="halo-json {NO_FORMULAS}" dir="ltr" '
            'style="font-family:monospace;font-size:13px;line-height:1.5;margin:8px 0">'
            f"{_html(one_line(label, MAX_KEY_CHARS), pruned, attributes=' open')}</div>"
        )

    return _fitting(write, payload, limits, MAX_JSON_HTML_BYTES) or write("… too large to show")


def _html(name: str, node: Pruned, *, attributes: str = "") -> str:
    shown = f"<strong>{escape(name)}</strong>{_FAINT}:</span> "
    if not isinstance(node, Branch) or not node.count:
        return f'<div style="{_VALUE_STYLE}">{shown}<span>{escape(_written(node))}</span></div>'
    if node.is_too_deep:
        return f"<div>{shown}{_FAINT}{node.size} … too deep to show</span></div>"
    inner = [_html(_key(key), child) for key, child in node.shown]
    inner += [f"<div>{_FAINT}{node.rest}</span></div>"] if node.rest else []
    return (
        f"<details{attributes}><summary>{shown}{_FAINT}{node.size}</span></summary>"
        f'<div style="margin-left:18px">{"".join(inner)}</div></details>'
    )


def json_text(payload: JSON, limits: Limits = _TEXT_LIMITS) -> str:
    """Return `payload` as indented JSON for a terminal, with notes on what is left out."""
    return _fitting(_text, payload, limits, MAX_PLAIN_BYTES) or "… too large to show"


def _text(node: Pruned, indent: str = "") -> str:
    if not isinstance(node, Branch) or not node.count:
        return _written(node)
    if node.is_too_deep:
        return f"… {node.size}, too deep to show"
    inner = f"{indent}  "
    lines = []
    for key, child in node.shown:
        name = f"{_quoted(key[:MAX_KEY_CHARS], len(key) - MAX_KEY_CHARS)}: " if node.is_object else ""
        lines.append(f"{inner}{name}{_text(child, inner)}")
    lines += [f"{inner}{node.rest}"] if node.rest else []
    opening, closing = "{}" if node.is_object else "[]"
    return f"{opening}\n" + ",\n".join(lines) + f"\n{indent}{closing}"


def json_display(payload: JSON, *, max_bytes: int = 500_000) -> JSON:
    """Return a copy of `payload` for an ``application/json`` output.

    Integers beyond ±(2**53 - 1) become strings, since a browser would round them. Control and reordering
    characters become visible escapes; the key ``__proto__``, which a front end would lose, is put in quotes.
    The copy has at most `max_bytes` as JSON in UTF-8.
    """
    limits = Limits(max_bytes // 3, MAX_DISPLAY_DEPTH, max_bytes)
    # In a list, since None is a copy too.
    copies = _fitting(lambda pruned: [_copy(pruned)], payload, limits, max_bytes)
    return copies[0] if copies else f"… too large to show: more than {max_bytes:,} bytes"


def _copy(node: Pruned) -> JSON:
    match node:
        case Branch(is_too_deep=True):
            return f"… {node.size}, too deep to show"
        case Branch(is_object=True):
            copy: dict[str, JSON] = {}
            for key, child in [*node.shown, *([("…", node.rest)] if node.rest else [])]:
                name = '"__proto__"' if key == "__proto__" else _key(key)
                while name in copy:
                    name += "…"  # two keys that differ only in what is cut
                copy[name] = _copy(child)
            return copy
        case Branch():
            items: list[JSON] = []
            for _, child in node.shown:
                items.append(_copy(child))  # a comprehension takes a frame of its own
            return [*items, node.rest] if node.rest else items
        case CutString(start, more):
            return f"{_copy(start)}… {more:,} more characters"
        case str():
            # A front end shows newlines and tabs well.
            return "\n".join("\t".join(map(_visible, line.split("\t"))) for line in node.split("\n"))
        case int() if abs(node) <= _MAX_SAFE_INTEGER:  # True and False too
            return node
        case float() if math.isfinite(node):
            return node
        case _:
            return None if node is None else _written(node)


def _written(node: Pruned) -> str:
    """A value without values below it as JSON, or a note."""
    match node:
        case Branch():
            return "{}" if node.is_object else "[]"
        case str():
            return _quoted(node)
        case CutString(start, more):
            return _quoted(start, more)
        case int() if node.bit_length() > 10_000:
            return "… a number of more than 3,000 digits"  # Python refuses to write it out
        case None | bool():
            return json.dumps(node)
        case _:
            return one_line(str(node), 4_000)


def _quoted(text: str, more: int = 0) -> str:
    shown = _visible(json.dumps(text, ensure_ascii=False))
    return f"{shown} … {more:,} more characters" if more > 0 else shown


def _key(key: str) -> str:
    return _visible(key) if len(key) <= MAX_KEY_CHARS else _visible(key[:MAX_KEY_CHARS]) + "…"


def _visible(text: str) -> str:
    """`text` with visible escapes in place of control and reordering characters."""
    return _INVISIBLE.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


_MARK = "\ue000"
_JSON_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*":?|-?[0-9][0-9.eE+-]*')
_INDEX_KEY = re.compile('"[0-9]+":')
# Below 16 digits, and with neither an exponent nor ".0", JavaScript writes a number as Python does.
_SAME_NUMBER = re.compile(r"-?[0-9]{1,15}|-?[0-9]+\.[0-9]*[1-9]")


def page_json(payload: JSON) -> str:
    r"""Return `payload` as JSON text whose numbers and keys stay exact through a page's `JSON.parse`.

    A number that JavaScript would write in another way is the string "\ue000" and its digits; a key
    that looks like an array index, which JavaScript would move to the front, begins with "\ue000".
    A string or key that begins with that character gets one more of it.
    """
    return _JSON_TOKEN.sub(_marked, json.dumps(payload, ensure_ascii=False, separators=(",", ":")))


def _marked(found: re.Match[str]) -> str:
    token = found[0]
    if token[0] != '"':
        return token if _SAME_NUMBER.fullmatch(token) else f'"{_MARK}{token}"'
    return f'"{_MARK}{token[1:]}' if token[1] == _MARK or _INDEX_KEY.fullmatch(token) else token


def payload_label(payload: JSON, index: int) -> str:
    """Return a short label for an action: its number and its `type`, otherwise its `name`.

    >>> payload_label({"type": "highlight"}, 1)
    'action 1: highlight'
    """
    names = (payload.get("type"), payload.get("name")) if isinstance(payload, dict) else ()
    kind = next((line for name in names if isinstance(name, str) and (line := one_line(name, 60))), "")
    return f"action {index}: {kind}" if kind else f"action {index}"
