"""Links, emphasis, formulas and directions are read as they are meant in any script."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from halo_notebook.display.blocks import BlockRenderer, markdown_to_html

from ..harness.looks import safe_text

A = "https://example.com/a"
SENTENCES = [
    *(
        f"请看：{A}。谢谢",
        f"詳しくは {A}、または",
        f"voir {A}…",
        f"见{A}",
        f"x{A}",
        f"（{A}）",
        f"「{A}」と",
        f"«{A}»",
    ),
    *(f"{A}，然后", f"{A}！", f"｢{A}｣", f"هل رأيت {A}؟ نعم", f"{A}، ثم", f"ดูที่{A} ครับ", f"देखें {A}।", f"“{A}”"),
    *(f"{A}——好", f"{A}👍", f"**{A}**", f"({A})。", f"{A}\u200b", f"*见{A}*，", f"[{A}]；", f"{A}.”"),
]


@pytest.mark.parametrize("text", [*SENTENCES, f"{A}_(b)", f"{A}/中文", f"{A}/paral·lel"])
def test_a_bare_address_ends_before_the_punctuation_of_any_script(text: str) -> None:
    """And it may stand beside a letter."""
    within = quote(text.removeprefix(A), safe="/()") if text not in SENTENCES else ""
    assert safe_text(markdown_to_html(text)).links == [f"{A}{within}"]


@pytest.mark.parametrize("between", ["、", "。", "」「", "）和（", "؛", "|", " "])
def test_a_bare_address_may_follow_another_after_punctuation(between: str) -> None:
    """Without a blank, as in scripts that have none; also while they arrive."""
    addresses = [f"{A}/{number}" for number in range(3)]
    text = between.join(addresses)
    assert safe_text(markdown_to_html(f"见{text}。")).links == addresses
    blocks = BlockRenderer()
    blocks.append(f"{text} と")
    assert safe_text(blocks.open_html).links == addresses


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("これは**「重要」**です", "これは<strong>「重要」</strong>です"),
        ("这是**我想做的事。**所以", "这是<strong>我想做的事。</strong>所以"),
        ("**마크다운(Markdown)**을 사용", "<strong>마크다운(Markdown)</strong>을 사용"),
        ("这是*（注）*的", "这是<em>（注）</em>的"),
        ("旧~~（版）~~新", "旧<s>（版）</s>新"),
        ("**｢半角｣**です", "<strong>｢半角｣</strong>です"),
        ("**“引用”**是", "<strong>“引用”</strong>是"),
        ("使用**`pip`**安装", "使用<strong><code>pip</code></strong>安装"),
        ("中**(a)**文**(b)**字", "中<strong>(a)</strong>文<strong>(b)</strong>字"),
        ("ใช้**(ไทย)**ครับ", "ใช้<strong>(ไทย)</strong>ครับ"),
        ("snake_case_name _（x）_字", "snake_case_name _（x）_字"),
        ('a**"b"**c ** d **', "a**&quot;b&quot;**c ** d **"),
    ],
)
def test_emphasis_beside_a_script_without_blanks(text: str, html: str) -> None:
    """Its marks need no blank beside them; elsewhere CommonMark's rules hold."""
    assert markdown_to_html(text) == f"<p>{html}</p>\n".replace("&quot;", '"')


PRICES = [
    *("US$5 und 7$", "$5–$10", "5$-10$", "A$ und B$", "100$的和200$的", "HK$5和$7元", "从$5到10$之间"),
    *("价格为$5，US$7", "ＵＳ$5 und 7$", "가격은 $5이고 7$는", "从$HOME到$中"),
]


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        *((f"设{tex}是整数", [tex]) for tex in ("$x$", "$x^2$", "$f(x)$", "$v_{速度}$", "$5x + 1$")),
        *(("$x$는 정수", ["$x$"]), ("ให้$x$เป็น", ["$x$"]), ("（$x$）和$y$。", ["$x$", "$y$"])),
        *((text, []) for text in PRICES),
    ],
)
def test_formulas_beside_a_script_without_blanks(text: str, formulas: list[str]) -> None:
    """A letter of such a script beside a dollar sign is not part of a price."""
    assert safe_text(markdown_to_html(text)).formulas == formulas


RIGHT_TO_LEFT = """\
مرحبا:

```python
print("x"); y = [1]
```

OK.

كيف حالك؟

| a | ب |
|---|---|
| 1 | ثم قال. |

- שלום `x`
- b

> `a` سلام

1. ערך

   עוד

# א

## A
"""


def test_each_block_has_the_direction_of_its_first_letter() -> None:
    """Code runs from left to right; what holds blocks with directions of their own gets that of its text."""
    elements = safe_text(markdown_to_html(RIGHT_TO_LEFT)).elements
    leaves = {tag for tag, attributes in elements if attributes.get("dir") == "auto"}
    assert leaves == {"p", "th", "td", "li", "h1", "h2"}
    assert {attributes.get("dir") for tag, attributes in elements if tag == "p"} == {"auto"}
    assert {attributes.get("dir") for tag, attributes in elements if tag == "pre"} == {"ltr"}
    holders = [tag for tag, attributes in elements if attributes.get("dir") == "rtl"]
    assert holders == ["ul", "li", "blockquote", "ol", "li"]
    assert [attributes["style"] for tag, attributes in elements if tag == "ul"] == ["padding:0 2.5em"]
    cells = [attributes["style"] for tag, attributes in elements if tag in {"td", "th"}]
    assert cells == ["text-align:left", "text-align:right"] * 2
    assert 'dir="rtl"' in markdown_to_html("| ב | a |\n|---|---|\n").split("\n", 1)[0]
    assert not re.search('"rtl"|padding', markdown_to_html("- a ב\n- b\n\n> a\n\n| a | ב |\n|-|-|\n"))
