"""Links, bare addresses and images in a line of Markdown → tokens that may be shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final
from unicodedata import category

from markdown_it.token import Token

from .writing_systems import is_punctuation

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

# No user or password before the host: 'https://bank.example@evil.example' misleads.
_SAFE_URL = re.compile(r"(?:https?://[^/?#@\\\s][^/?#@\\\s]*(?:[/?#]|$)|mailto:[^\s?])", re.IGNORECASE)
_BARE_URL = re.compile(r"https?://[^\s<>\"'`|\\^{}]{1,2000}", re.IGNORECASE)
_AFTER_A_URL: Final = ".,:;!?*_~"
_MAX_BRACKETS_AFTER_A_URL: Final = 20
_DATA = re.compile("data:", re.IGNORECASE)
_SVG = re.compile(
    r"(!\[[^\]]{0,500}\]\(data:image/svg\+xml[\w;=-]*,)<svg.*?</svg>", re.IGNORECASE | re.DOTALL
)
_AFTER_DATA = re.compile(r"[\s()<>\"'`]")
MAX_DATA_CHARS = 4_000
_SHOWN_DATA_CHARS = 60


def is_safe(url: str) -> bool:
    """Whether a link may go to `url`."""
    return _SAFE_URL.match(url) is not None


def is_data(url: str) -> bool:
    """Whether `url` holds its own content. Markdown may parse it, but nothing links to it or loads it."""
    return _DATA.match(url) is not None


def without_svg(text: str) -> str:
    """`text` without the SVG in the addresses of images: its blanks would end the address."""
    return _SVG.sub(r"\1…", text) if "</svg>" in text else text


def short_data(text: str) -> str:
    """`text` with only the beginning of what a data: URL holds."""
    if not _DATA.search(text):
        return text
    return re.sub(rf"(data:[^\s()]{{{_SHOWN_DATA_CHARS}}})[^\s()]+", r"\1…", text, flags=re.IGNORECASE)


class DataCut:
    """Shortens the data: URLs in a text that comes in pieces; one may hold hundreds of KB of base64."""

    def __init__(self) -> None:
        self._edge = ""  # the last characters, where a URL may begin
        self._length: int | None = None  # of the URL so far

    def __call__(self, piece: str) -> str:
        shown: list[str] = []
        text = self._edge + piece
        at = len(self._edge)  # what is before it has been shown
        self._edge = ""
        while at < len(text):
            if self._length is None:
                found = _DATA.search(text, max(0, at - 4))
                end = found.end() if found else len(text)
                shown.append(text[at:end])
                self._edge, self._length = ("", 0) if found else (text[-4:], None)
            else:
                after = _AFTER_DATA.search(text, at)
                end = after.start() if after else len(text)
                shown.append(text[at : min(end, at + max(0, MAX_DATA_CHARS - self._length))])
                length = self._length + end - at
                shown += ["…"] if self._length <= MAX_DATA_CHARS < length else []
                self._length = None if after else length
            at = end
        return "".join(shown)


def linked(
    children: list[Token],
    markdown: MarkdownIt,
    alt_text: Callable[[Token], str],
    *,
    images: bool,
    is_growing: bool = False,
) -> Iterator[Token]:
    """Yield the tokens with bare URLs as links, and with images as links unless they are allowed.

    A bare URL at the end of a text that `is_growing` is not linked: more of it may arrive.
    """
    inside_link = False
    closing = ""  # of a link that is shown as its source
    for index, child in enumerate(children):
        match child.type:
            case "link_open" if not is_safe(href := str(child.attrs["href"])):
                is_auto = child.markup == "autolink"
                yield _text("<" if is_auto else "[")
                closing = ">" if is_auto else f"]({short_data(href)})"
            case "link_close" if closing:
                yield _text(closing)
                closing = ""
            case "link_open":
                inside_link = True
                child.attrs = {"href": child.attrs["href"]}  # a title can lie about the address
                yield child
            case "link_close":
                inside_link = False
                yield child
            case "image":
                yield from _image(child, alt_text(child), inside_link=inside_link, images=images)
            case "text":
                child.content = short_data(child.content)
                if inside_link or closing or "://" not in child.content:
                    yield child
                else:
                    is_last = is_growing and index == len(children) - 1
                    yield from text_with_links(child.content, markdown, is_growing=is_last)
            case _:
                yield child


def _image(token: Token, alt: str, *, inside_link: bool, images: bool) -> Iterator[Token]:
    source = str(token.attrs["src"])
    if images and source.lower().startswith("http"):
        token.attrs = {"src": source, "alt": alt}
        token.children = [_text(alt)]
        yield token
        return
    text = _text(f"image: {alt.strip() or short_data(source)}")
    yield from [text] if inside_link or not is_safe(source) else _link(source, text)


def _text(content: str) -> Token:
    return Token("text", "", 0, content=content)


def _link(url: str, text: Token) -> list[Token]:
    return [Token("link_open", "a", 1, attrs={"href": url}), text, Token("link_close", "a", -1)]


def text_with_links(text: str, markdown: MarkdownIt, *, is_growing: bool = False) -> Iterator[Token]:
    """Yield `text` with its bare URLs as links."""
    at = end = 0
    while found := _BARE_URL.search(text, end):
        url = _without_sentence(found.group())
        address = markdown.normalizeLink(url)
        end = found.start() + len(url)  # another may come after the punctuation, without a blank
        if not is_safe(address) or (is_growing and found.end() == len(text)):
            continue
        yield _text(text[at : found.start()])
        yield from _link(address, _text(url))
        at = end
    yield _text(text[at:])


def _without_sentence(url: str) -> str:
    """`url` without the punctuation of the sentence around it, in any script."""
    if not url.isascii():
        url = url[: next((at for at, char in enumerate(url) if is_punctuation(char)), len(url))]
        while not url[-1].isascii() and category(url[-1])[0] in "PSC":
            url = url[:-1]
    url = url.rstrip(_AFTER_A_URL)
    for _ in range(_MAX_BRACKETS_AFTER_A_URL):
        if url.count(url[-1]) <= url.count({")": "(", "]": "["}.get(url[-1], url[-1])):
            break
        url = url[:-1].rstrip(_AFTER_A_URL)
    return url
