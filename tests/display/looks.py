"""An independent look at HTML: it fails at whatever is not on the lists."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from urllib.parse import urlsplit

FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
VOID = {"br", "hr", "img"}
TEXT_TAGS = {
    *("blockquote", "br", "code", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre"),
    *("s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul", "a"),
}
LINK = {"href", "rel", "target"}
TEXT_ATTRIBUTES = {
    "a": LINK,
    "ol": {"start"},
    "td": {"style"},
    "th": {"style"},
    "span": {"style", "class"},
    "pre": {"style"},
}
_ALIGN = r"text-align:\s*(left|right|center);?"
TEXT_STYLES = {
    "td": _ALIGN,
    "th": _ALIGN,
    "span": r"color:var\(--jp-mirror-editor-(keyword|string|number)-color, inherit\)"
    r"|font-style:italic;opacity:0\.75",
    "pre": r"margin:8px 0 12px;padding:6px 10px;border:1px solid rgba\(128, ?128, ?128, ?0\.5\)"
    r";border-radius:4px|white-space:pre-wrap",
}
JSON_TAGS = {"div", "details", "summary", "span", "strong"}
JSON_ATTRIBUTES = {"div": {"class", "dir", "style"}, "details": {"open"}, "span": {"style"}}
JSON_STYLES = {
    "div": r"font-family:monospace;font-size:13px;line-height:1\.5;margin:8px 0|margin-left:18px"
    r"|white-space:pre-wrap;word-wrap:break-word;overflow-wrap:anywhere",
    "span": r"opacity:0\.65",
}
VALUES = {
    "rel": "noopener noreferrer",
    "target": "_blank",
    "start": r"\d+",
    "referrerpolicy": "no-referrer",
    "loading": "lazy",
    "dir": "ltr",
}


class Look(HTMLParser):
    """Reads HTML and fails at whatever is not on the lists."""

    def __init__(self, tags: set[str], attributes: dict[str, set[str]], styles: dict[str, str]) -> None:
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.styles = tags, attributes, styles
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.formulas: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.tags, f"the tag <{tag}>"
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), names
        for name, value in attrs:
            assert name in self.attributes.get(tag, set()), f"the attribute {name} on <{tag}>"
            self.look_at(tag, name, value or "")
        if tag == "a":
            # Without an address where the sanitiser cannot read it, such as a broken punycode host.
            assert set(names) | {"href"} == LINK
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def look_at(self, tag: str, name: str, value: str) -> None:
        if name in ("href", "src"):
            assert not re.search(r"[\s\"'<>`\\]", value), value
            address = urlsplit(value)
            assert address.scheme in ({"http", "https"} if name == "src" else {"http", "https", "mailto"})
            assert address.scheme == "mailto" or (address.netloc and "@" not in address.netloc)
        elif name == "class":
            own = "mathjax_process tex2jax_process"
            assert value == (own if tag == "span" else "halo-json mathjax_ignore tex2jax_ignore")
        elif name == "style":
            assert re.fullmatch(self.styles[tag], value), value
        elif name in VALUES:
            assert re.fullmatch(VALUES[name], value), value

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] == "span" and "class" in self.elements[-1][1]:
            self.formulas.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"neither a comment nor a declaration nor an instruction: {data}")

    handle_decl = handle_pi = unknown_decl = handle_comment  # type: ignore[assignment]


def _looked_at(look: Look, html: str) -> Look:
    assert not FORBIDDEN.search(html), FORBIDDEN.search(html)
    look.feed(html)
    look.close()
    assert look.open == [], "left open"
    return look


def safe_text(html: str, *, images: bool = False) -> Look:
    """Look at the HTML of a reply's text, and return what was seen."""
    tags, attributes = TEXT_TAGS, TEXT_ATTRIBUTES
    if images:
        tags = tags | {"img"}
        attributes = {**attributes, "img": {"src", "alt", "referrerpolicy", "loading"}}
    return _looked_at(Look(tags, attributes, TEXT_STYLES), html)


def safe_json(html: str) -> Look:
    """Look at a JSON tree's HTML, and return what was seen."""
    return _looked_at(Look(JSON_TAGS, JSON_ATTRIBUTES, JSON_STYLES), html)
