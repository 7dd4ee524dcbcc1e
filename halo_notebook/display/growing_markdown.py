r"""How much of a growing text a frame shows: only what the finished text will show, too.

Half a mark could become something else: '-' an underline, a list or a line; '**' the beginning of bold text.
So a frame leaves out marks at the end of the text, and opening marks whose end has not arrived. Once the text
has ended, all of it is shown.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .writing_systems import joins_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

_ITEM = r"[ \t]*(?:(?:[-+*]|\d{1,9}[.)])[ \t]+|>[ \t]*)*"
_FENCE_MARKS = r"`{3,}[^`]*|~{3,}.*"
_LINE_OF_MARKS = re.compile(
    rf"{_ITEM}(?:[-+*_=~`#>|:][-+*_=~`#>|: \t]*|\d{{1,9}}[.)]?[ \t]*|{_FENCE_MARKS})?"
    r"| {0,3}\[[^\]]+\]:[ \t]*\S*"
)
# Possessive: with several ways to read '[ [ [ a', trying all of them would never end.
_MARKS = re.compile(
    r"(?:(?<!\S)!(?!\[)|[*_~`\\]|&#?\w{0,31}|<(?:[bB][rR]?)?\s*/?|!?\[(?:[ xX]?\]|[xX])?[ \t]*)++$"
)
_FENCE = re.compile(rf"{_ITEM}(?:{_FENCE_MARKS})")
_TABLE_HEAD = re.compile(rf"(?:\A|\n){_ITEM}\|[^\n]*(?:\n[ \t>]*(?:[|:-][-|: \t]*)?)?$")
# A head without a pipe at its start is shown up to its first pipe. A longer line is prose.
_BARE_TABLE_HEAD = re.compile(
    r"(?:\A|\n)[^\n|`\\]{1,100}[ \t](?=(\|(?![^ \t\n])[^\n`]{0,200}(?:\n[ \t>]*(?:[|:-][-|: \t]*)?)?)\Z)"
)
_OPEN_TARGET = re.compile(
    r"\(\s*(?:<[^<>\n]*|[^\s()]*(?:\([^\s()]*\)[^\s()]*)*(?:\([^\s()]*)?(?:\s+(?:[\"'(].*)?)?)?|\[[^\]]*|",
    re.DOTALL,
)
_OPEN_ADDRESS = re.compile(r"<[^\s<>]*$")


def last_with_text(tokens: Sequence[Token]) -> int:
    """The index of the last token that has text."""
    return max((index for index, token in enumerate(tokens) if token.content), default=0)


def shown_length(text: str, tokens: Sequence[Token]) -> int:
    """How much of `text`, the last block of which has these tokens, a frame may show."""
    last = last_with_text(tokens)
    holder = tokens[last - 1].type if last else ""
    is_half_a_table = holder == "th_open" and "-" in text[text.rfind("\n") :]
    # The head of a table may be a heading while the line below it is only '---'.
    is_text = holder in {"paragraph_open", "heading_open"}
    if is_text or (is_half_a_table and all(each.type != "tbody_open" for each in tokens)):
        tail = text[-2_000:]
        if head := _TABLE_HEAD.search(tail):
            return len(text) - len(tail) + head.start()
        if head := _BARE_TABLE_HEAD.search(tail):
            return len(text) - len(tail) + head.start(1)
    if text.endswith("\\\n"):
        return len(text) - 2
    start = text.rstrip().rfind("\n") + 1
    if _FENCE.fullmatch(text[start:].rstrip()):
        return start
    start = text.rfind("\n") + 1
    line = text[start:]
    if marks := _MARKS.search(line[-100:]):
        line = line[: len(line) - len(marks[0])]
    is_number = line.isdecimal() and not text[:start].strip()
    if line and not is_number and len(line) < 100 and _LINE_OF_MARKS.fullmatch(line):
        return start
    return start + len(line)


def open_code(state: StateInline, silent: bool) -> bool:
    """Show what follows backticks that have no end yet as plain text."""
    if silent or not state.env.get("growing") or state.src[state.pos] != "`":
        return False
    rest = state.src[state.pos : state.posMax]
    code = rest.lstrip("`")
    length = len(rest) - len(code)
    if re.search(f"(?<!`)`{{{length}}}(?!`)", code):
        return False
    state.append_pending(code)
    state.pos = state.posMax
    return True


def open_link(state: StateInline, silent: bool) -> bool:
    """Show only the words of a link or an image whose end has not arrived."""
    text, at = state.src, state.pos
    if silent or not state.env.get("growing") or text[at] not in "[!<":
        return False
    if text[at] == "<":
        state.pos += bool(found := _OPEN_ADDRESS.match(text, at))
        return bool(found)
    label = at + (text[at] == "!")
    if text[label : label + 1] != "[":
        return False
    end = state.md.helpers.parseLinkLabel(state, label)
    maximum = state.posMax
    if end < 0:
        state.pos = label + 1
        return True
    if not _OPEN_TARGET.fullmatch(text, end + 1, maximum):
        return False
    state.pos, state.posMax = label + 1, end
    state.md.inline.tokenize(state)
    state.pos = state.posMax = maximum
    return True


def open_emphasis(state: StateInline) -> None:
    """Leave out the marks of emphasis whose end has not arrived.

    A mark within a word, as in 2*3, stays, unless there are several or the script has no blanks.
    """
    tokens = state.tokens
    for mark in state.delimiters if state.env.get("growing") else ():
        after = tokens[mark.token + 1].content[:1] if mark.token + 1 < len(tokens) else ""
        beside = tokens[mark.token - 1].content[-1:] + after
        is_emphasis = mark.length > 1 or not mark.close or any(map(joins_words, beside))
        if mark.open and mark.end < 0 and is_emphasis:
            tokens[mark.token].content = ""
