"""An independent look at HTML: it fails at whatever is not on the lists."""

from __future__ import annotations

import re
from html.parser import HTMLParser

FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_WEB = r"(?i:https?)://[^\s\"'<>`\\/?#@]+([/?#][^\s\"'<>`\\]*)?"
_LINK = {"href": rf"{_WEB}|mailto:[^\s\"'<>`\\]+", "rel": "noopener noreferrer", "target": "_blank"}
_AUTO = {"dir": "auto|ltr|rtl"}
_ALIGN = {"dir": "auto", "style": r"text-align:\s*(left|right|center);?"}
_COLOUR = (
    r"color:var\(--jp-mirror-editor-(keyword|string|number)-color, inherit\)"
    r"|font-style:italic;opacity:0\.75"
)
_FRAME = (
    r"margin:8px 0 12px;padding:6px 10px;border:1px solid rgba\(128, ?128, ?128, ?0\.5\);border-radius:4px"
)
_PLAIN = (
    *("br", "em", "hr", "s", "strong"),
    *("tbody", "thead", "tr"),
)
# Of each tag the attributes, and of each of them the values.
_TEXT = {
    **{tag: dict[str, str]() for tag in _PLAIN},
    "a": _LINK,
    "td": _ALIGN,
    "th": _ALIGN,
    **dict.fromkeys(("p", "li", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote"), _AUTO),
    "table": {"dir": "rtl"},
    "code": {"dir": "ltr"},
    "ul": {"dir": "rtl", "style": r"padding:0 2\.5em"},
    "ol": {"dir": "rtl", "style": r"padding:0 2\.5em", "start": r"\d+"},
    "pre": {"dir": "ltr|auto", "style": rf"{_FRAME};overflow-x:auto|white-space:pre-wrap"},
    "span": {"style": _COLOUR, "class": "mathjax_process tex2jax_process"},
}
_IMAGE = {"img": {"src": _WEB, "alt": "(?s:.*)", "referrerpolicy": "no-referrer", "loading": "lazy"}}
_JSON = {
    "details": {"open": ""},
    "summary": {},
    "strong": {},
    "span": {"style": r"opacity:0\.65"},
    "div": {
        "class": "halo-json mathjax_ignore tex2jax_ignore",
        "dir": "ltr",
        "style": r"font-family:monospace;font-size:13px;line-height:1\.5;margin:8px 0|margin-left:18px"
        r"|white-space:pre-wrap;word-wrap:break-word;overflow-wrap:anywhere",
    },
}


class Look(HTMLParser):
    """Reads HTML, and fails at a tag, an attribute or a value that is not allowed."""

    def __init__(self, html: str, allowed: dict[str, dict[str, str]]) -> None:
        super().__init__(convert_charrefs=True)
        self.allowed = allowed
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.formulas: list[str] = []
        assert not FORBIDDEN.search(html), FORBIDDEN.search(html)
        self.feed(html)
        self.close()
        assert self.open == [], "left open"

    @property
    def links(self) -> list[str]:
        """The addresses that links go to, in order."""
        return [str(attributes["href"]) for tag, attributes in self.elements if tag == "a"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in self.allowed, f"the tag <{tag}>"
        assert len(attrs) == len(dict(attrs)), attrs
        for name, value in attrs:
            assert re.fullmatch(self.allowed[tag].get(name, "(?!)"), value or ""), f"<{tag} {name}={value!r}>"
        if tag == "a":
            # Without an address where the sanitiser cannot read it, such as a broken punycode host.
            assert {name for name, _ in attrs} | {"href"} == set(_LINK)
        self.elements.append((tag, dict(attrs)))
        if tag not in {"br", "hr", "img"}:
            self.open.append(tag)

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


def safe_text(html: str, *, images: bool = False) -> Look:
    """Look at the HTML of a reply's text, and return what was seen."""
    return Look(html, {**_TEXT, **_IMAGE} if images else _TEXT)


def safe_json(html: str) -> Look:
    """Look at a JSON tree's HTML, and return what was seen."""
    return Look(html, _JSON)
