r"""Untrusted text and JSON → safe HTML and safe plain text.

Whoever can write into what an agent reads can write into a reply, and a front end runs the
script in the HTML of a cell that was just run. So text becomes HTML here, once, for every
front end. The promise:

- No tag, attribute, class, style or URL scheme but those listed in `_CLEANER_SETTINGS`, whatever
  the input: Markdown is read with raw HTML off, and what comes out goes through a sanitiser all
  the same. The writer of the text chooses none of the classes and styles.
- A link goes to http, https or mailto, or it stays the text that it was, so that the reader
  sees it. A remote image is a link unless images are allowed: its address can carry data out.
- No control character, and none that reorders text, reaches the output, escaped in the source
  or not. Embeddings, overrides and isolates (U+202A–202E, U+2066–2069) are dropped, not
  isolated: they could make code or an address read otherwise than it runs, also within a reply,
  and right-to-left text needs none of them.
- What is returned stays small enough to be shown: the Jupyter server drops a message above about
  3 MB. A longer text is shown in part, with a note in between.
- Work is near linear in the text, whatever it holds. Finished blocks are rendered once; a frame
  reads only what follows them, at most `MAX_OPEN_CHARS`.

The functions are pure and `ReplyRenderer` holds nothing but its text and what became of it: no
display, no I/O, no clock. When to paint is another module's matter.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block.reference import reference as _reference_rule
from markdown_it.rules_block.table import table as _table_rule
from markdown_it.rules_core import StateCore
from markdown_it.rules_core.text_join import text_join
from markdown_it.token import Token
from pygments import lex
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Keyword, Literal, Number, String
from pygments.util import ClassNotFound

if TYPE_CHECKING:
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.utils import EnvType, OptionsDict

    from ..stream import JSON

MAX_HTML_BYTES = 1_500_000
"""The most that `ReplyRenderer.html` returns, as JSON-encoded UTF-8 in a message."""
MAX_PLAIN_BYTES = 500_000
"""The most that `plain` returns: it travels in the same message as the HTML."""
MAX_BLOCK_BYTES = 400_000
MAX_OPEN_CHARS = 16_384
"""A block beyond this is cut, at a line where there is one, and goes on as a new block."""
MAX_RESOLVED_CHARS = 262_144
"""Up to this length `finish` renders anew when links were defined after their use."""

# ---------------------------------------------------------------------------------------------
# Plain text

_REORDERING: Final = "\u202a-\u202e\u2066-\u2069"
# All of C0 but \n and \t; \r too, so that a line cannot be written over. Dropping single
# characters, and no sequences, gives the same whether a text comes whole or in pieces.
_UNSAFE = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_REORDERING}]")
_LINE_SEPARATORS = re.compile("[\u2028\u2029]")
_SURROGATES = re.compile("[\ud800-\udfff]")
_NOT_PLAIN = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff{_REORDERING}]")


def terminal_text(text: str) -> str:
    r"""Return `text` without what a terminal would act on.

    Dropped are all control characters but newline and tab (ESC, the 8-bit C1 ones and the
    carriage return with them) and the characters that reorder text; the separators U+2028 and
    U+2029 become newlines, a lone surrogate U+FFFD. Each character is judged by itself, so
    pieces of a stream give what the whole gives, and no sequence can come together from two
    of them. The rest of an escape sequence stays visible.

    >>> terminal_text("\x1b[31mred\x1b[0m\r\n")
    '[31mred[0m\n'
    """
    if not _NOT_PLAIN.search(text):
        return text
    return _SURROGATES.sub("\ufffd", _LINE_SEPARATORS.sub("\n", _UNSAFE.sub("", text)))


def one_line(text: str, limit: int = 200) -> str:
    """Return `text` as one line of at most `limit` characters, for labels and error details.

    White space is collapsed, control characters are dropped, and a cut is marked with ``…``.

    >>> one_line("not  found:\\n the page", limit=14)
    'not found: th…'
    """
    start = text[: 16 * limit + 64]  # enough, and no more, of a text of any size
    line = " ".join(terminal_text(start).split())
    if len(line) > limit or len(start) < len(text):
        return line[: max(limit - 1, 0)].rstrip() + "…"
    return line


def plain(text: str) -> str:
    """Return `text` as `terminal_text` does, in part when it is above `MAX_PLAIN_BYTES`."""
    return bounded(terminal_text(text), MAX_PLAIN_BYTES)


def bounded(text: str, max_bytes: int) -> str:
    """Return `text`, or its beginning and end with a note in between when it is too large.

    Args:
        text: any text.
        max_bytes: what the result may take as JSON-encoded UTF-8, without the note.
    """
    if 6 * len(text) <= max_bytes or _wire_size(text) <= max_bytes:
        return text
    head = _cut_to(text, max_bytes // 2, from_end=False)
    tail = _cut_to(text, max_bytes // 2, from_end=True)
    hidden = len(text) - len(head) - len(tail)
    return f"{head}\n\n{_hidden_note(hidden)}\n\n{tail}"


def _hidden_note(hidden: int) -> str:
    return f"… {hidden:,} characters not shown here; `_halo.text` holds the whole"


def _wire_size(text: str) -> int:
    """The bytes that `text` takes in a message, its quotes and line ends escaped."""
    return len(json.dumps(text, ensure_ascii=False).encode("utf-8", "replace")) - 2


def _cut_to(text: str, max_bytes: int, *, from_end: bool) -> str:
    part = text[-max_bytes:] if from_end else text[:max_bytes]
    while (size := _wire_size(part)) > max_bytes:
        keep = max(len(part) * max_bytes // size - 1, 0)
        part = part[len(part) - keep :] if from_end else part[:keep]
    return part


# ---------------------------------------------------------------------------------------------
# Formulas

# JupyterLab 4.6 typesets with MathJax 3, all its packages and 'require', behind its Safe
# extension; nbconvert's export with MathJax 2.7 and Safe. That is not enough here:
# - all formulas of a page share one parser, so a \def or \let changes every later formula;
# - Safe finds an URL's scheme with ^\s*([a-z]+): and lets pass what does not match, so a scheme
#   with a tab or a newline in it goes through, and the browser drops those characters; plain
#   http addresses pass in any case, past our rules for links;
# - \require loads packages, \class and \cssId reach the page's style sheet, \hspace, \raise or
#   \\[-100em] paint over what stands beside the reply.
# So a formula that uses anything but what is listed here is shown as code.
_TEX_COMMANDS = frozenset(
    re.findall(
        r"\S+",
        """
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa varkappa lambda mu nu xi
    omicron pi varpi rho varrho sigma varsigma tau upsilon phi varphi chi psi omega digamma
    Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega
    varGamma varDelta varTheta varLambda varXi varPi varSigma varUpsilon varPhi varPsi varOmega
    aleph beth gimel daleth hbar hslash ell wp Re Im imath jmath partial nabla infty emptyset varnothing
    forall exists nexists neg lnot top bot angle measuredangle sphericalangle triangle square blacksquare
    Box Diamond diamond lozenge star bigstar clubsuit diamondsuit heartsuit spadesuit flat natural sharp
    prime backprime complement eth mho surd degree checkmark dagger ddagger S P pounds copyright
    frac dfrac tfrac cfrac binom dbinom tbinom sqrt root of over choose atop sum prod coprod int iint iiint
    iiiint oint bigcap bigcup bigsqcup bigvee bigwedge bigodot bigoplus bigotimes biguplus intop smallint
    lim limsup liminf sup inf max min arg det dim exp gcd hom ker lg ln log Pr deg injlim projlim varlimsup
    varliminf varinjlim varprojlim sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh coth
    operatorname mod bmod pmod pod limits nolimits displaystyle textstyle scriptstyle scriptscriptstyle
    pm mp times div cdot ast circ bullet cap cup uplus sqcap sqcup vee wedge lor land setminus smallsetminus
    wr amalg oplus ominus otimes oslash odot bigcirc bigtriangleup bigtriangledown triangleleft
    triangleright ltimes rtimes boxplus boxminus boxtimes boxdot dotplus centerdot barwedge veebar curlyvee
    curlywedge Cap Cup intercal
    leq le geq ge neq ne equiv sim simeq approx approxeq cong propto asymp doteq ll gg lll ggg prec succ
    preceq succeq subset supset subseteq supseteq subsetneq supsetneq nsubseteq nsupseteq sqsubset sqsupset
    sqsubseteq sqsupseteq in ni notin owns mid nmid parallel nparallel perp vdash dashv models vDash Vdash
    nvdash leqslant geqslant lesssim gtrsim lessgtr gtrless nless ngtr nleq ngeq triangleq coloneqq eqqcolon
    because therefore bowtie smile frown between pitchfork trianglelefteq trianglerighteq lhd rhd unlhd
    unrhd not to gets leftarrow rightarrow leftrightarrow Leftarrow Rightarrow Leftrightarrow uparrow
    downarrow updownarrow Uparrow Downarrow Updownarrow longleftarrow longrightarrow longleftrightarrow
    Longleftarrow Longrightarrow Longleftrightarrow mapsto longmapsto hookleftarrow hookrightarrow nearrow
    searrow swarrow nwarrow leftharpoonup leftharpoondown rightharpoonup rightharpoondown
    rightleftharpoons leftrightharpoons leadsto rightsquigarrow twoheadrightarrow twoheadleftarrow
    rightarrowtail leftarrowtail nrightarrow nleftarrow nRightarrow nLeftarrow nleftrightarrow
    nLeftrightarrow iff implies impliedby upharpoonright restriction circlearrowleft circlearrowright
    curvearrowleft curvearrowright xrightarrow xleftarrow xRightarrow xLeftarrow xleftrightarrow xmapsto
    overset underset stackrel overbrace underbrace overline underline overrightarrow overleftarrow
    overleftrightarrow underrightarrow underleftarrow substack sideset
    hat widehat check tilde widetilde acute grave dot ddot dddot ddddot breve bar vec mathring
    left right middle big Big bigg Bigg bigl bigr bigm Bigl Bigr Bigm biggl biggr biggm Biggl Biggr Biggm
    lbrace rbrace lbrack rbrack langle rangle lceil rceil lfloor rfloor lvert rvert lVert rVert vert Vert
    lgroup rgroup lmoustache rmoustache ulcorner urcorner llcorner lrcorner backslash
    mathrm mathbf mathit mathsf mathtt mathcal mathscr mathfrak mathbb boldsymbol bm pmb mathnormal
    text textrm textbf textit textsf texttt textnormal mbox rm bf it sf tt cal
    quad qquad thinspace medspace thickspace negthinspace enspace ldots cdots vdots ddots dots dotsb dotsc
    dotsi dotsm dotso colon phantom hphantom vphantom smash strut mathstrut boxed cancel bcancel xcancel
    mathop mathbin mathrel mathord mathopen mathclose mathpunct mathinner nonumber notag tag hline cr
    begin end
    """,
    )
)
_TEX_ENVIRONMENTS = frozenset(
    re.findall(
        r"\S+",
        """
    equation equation* align align* aligned alignat alignat* alignedat gather gather* gathered multline
    multline* split cases dcases rcases matrix pmatrix bmatrix Bmatrix vmatrix Vmatrix smallmatrix array
    subarray
    """,
    )
)
MAX_FORMULA_CHARS = 5_000
MAX_FORMULAS = 500
_MAX_TEX_DEPTH = 50  # MathJax reads groups, roots and the like recursively
_MAX_TEX_CONTROLS = 500
_TEX_CONTROL = re.compile(r"\\(?:([A-Za-z]+)\*?|([^A-Za-z]))", re.DOTALL)
_TEX_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*(?:\{([a-zA-Z]+\*?)\})?")
_TEX_COLUMNS = re.compile(r"\\begin\s*\{(?:array|subarray)\}(?!\s*(?:\[[tbc]\]\s*)?\{[lcr| ]{1,60}\})")
_TEX_PAIRS = re.compile(r"\\begin\s*\{align(?:ed)?at\*?\}(?!\s*\{[1-9]\})")  # a loop in MathJax
_TEX_LENGTH = r"(?:[0-9](?:\.[0-9]+)?(?:em|ex|mm)|[0-9]{1,2}(?:\.[0-9]+)?pt)"
_TEX_LINE_GAP = re.compile(rf"\\\\\s*\*?\s*\[(?!\s*{_TEX_LENGTH}\s*\])")


def _is_ordinary_tex(tex: str) -> bool:
    """Whether a formula, without its delimiters, holds ordinary mathematics only.

    The page looks for the delimiters itself. With braces in balance and no delimiter inside,
    it finds the ones that stand at the two ends, and so takes for the formula what was judged.
    """
    if len(tex) > MAX_FORMULA_CHARS or not tex.strip():
        return False
    depth = controls = 0
    at = 0
    while at < len(tex):
        char = tex[at]
        if char == "\\":
            controls += 1
            if controls > _MAX_TEX_CONTROLS:
                return False
            control = _TEX_CONTROL.match(tex, at)
            if control is None:
                return False  # a backslash at the end would escape the delimiter
            word, sign = control.groups()
            if word is not None and word not in _TEX_COMMANDS:
                return False
            if sign is not None and sign not in ",;:!> \n\\|{}_^%&#$-/":
                return False  # \( and \[ among them
            at = control.end() - (1 if control.group().endswith("*") else 0)
            continue
        # A bare % would hide the rest of its line, # stands for an argument, $ is a delimiter.
        if char in "%#$":
            return False
        depth += (char == "{") - (char == "}")
        if not 0 <= depth <= _MAX_TEX_DEPTH:
            return False
        at += 1
    if depth:
        return False
    if any(name not in _TEX_ENVIRONMENTS for name in _TEX_ENVIRONMENT.findall(tex)):
        return False
    return not any(pattern.search(tex) for pattern in (_TEX_COLUMNS, _TEX_PAIRS, _TEX_LINE_GAP))


def _math_inline(state: StateInline, silent: bool) -> bool:
    r"""Read $…$, $$…$$, \(…\) or \[…\] within a paragraph."""
    text, at = state.src, state.pos
    if text[at] == "$":
        opening = "$$" if text.startswith("$$", at) else "$"
        closing = opening
    elif text.startswith(("\\(", "\\["), at):
        opening = text[at : at + 2]
        closing = "\\)" if opening == "\\(" else "\\]"
    else:
        return False
    start = at + len(opening)
    limit = start + MAX_FORMULA_CHARS + len(closing)
    end = text.find(closing, start, limit)
    while end > 0 and _is_escaped(text, end, start):
        end = text.find(closing, end + len(closing), limit)
    if end <= start:
        return False
    tex = text[start:end]
    if opening == "$" and not _is_dollar_formula(text, at, tex, end):
        return False
    if not silent:
        token = state.push("math_inline", "", 0)
        token.content = tex
        token.markup = opening
        token.info = closing
    state.pos = end + len(closing)
    return True


def _is_escaped(text: str, at: int, start: int) -> bool:
    backslashes = 0
    while at - backslashes > start and text[at - backslashes - 1] == "\\":
        backslashes += 1
    return backslashes % 2 == 1


def _is_dollar_formula(text: str, at: int, tex: str, end: int) -> bool:
    """Whether $…$ is a formula, and not two prices or two variables of a shell."""
    if tex[0].isspace() or tex[-1].isspace() or "\n\n" in tex:
        return False
    before = text[at - 1 : at]
    after = text[end + 1 : end + 2]
    if before.isalnum() or after.isalnum() or after == "$":
        return False
    # '$5 and US$': a number and words are no formula.
    starts_as_number = tex.lstrip("+-")[:1].isdigit()
    return not starts_as_number or not any(map(str.isspace, tex)) or any(sign in tex for sign in "\\^_={}<>+")


def _math_block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    r"""Read $$…$$ or \[…\] that begins and ends at a line's ends, without blank lines inside.

    As a rule for blocks, since a line of a formula may begin with what else starts a list.
    """
    if state.is_code_block(start_line):
        return False
    first = _line(state, start_line)
    if first.startswith("$$"):
        opening = closing = "$$"
    elif first.startswith("\\["):
        opening, closing = "\\[", "\\]"
    else:
        return False
    lines: list[str] = []
    length = 0
    rest = first[2:]
    at = start_line
    while True:
        found = rest.find(closing)
        if found >= 0:
            if rest[found + 2 :].strip():
                return False
            lines.append(rest[:found])
            break
        lines.append(rest)
        length += len(rest) + 1
        at += 1
        if at >= end_line or length > MAX_FORMULA_CHARS or at - start_line > 200:
            return False
        if state.sCount[at] < state.blkIndent or not (rest := _line(state, at)).strip():
            return False
    tex = "\n".join(lines)
    if not tex.strip():
        return False
    if not silent:
        state.line = at + 1
        token = state.push("math_block", "", 0)
        token.block = True
        token.content = tex
        token.markup = opening
        token.info = closing
        token.map = [start_line, state.line]
    return True


def _line(state: StateBlock, line: int) -> str:
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]


# ---------------------------------------------------------------------------------------------
# Markdown

_CLEANER_SETTINGS: Final[dict[str, Any]] = {
    "tags": {
        "a", "blockquote", "br", "code", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p",
        "pre", "s", "span", "strong", "table", "tbody", "td", "th", "thead", "tr", "ul",
    },
    "attributes": {
        "a": {"href"}, "ol": {"start"}, "pre": {"style"}, "span": {"style"}, "td": {"style"}, "th": {"style"},
    },
    "allowed_classes": {"span": {"mathjax_process", "tex2jax_process"}},
    "filter_style_properties": {
        "border", "border-radius", "color", "font-style", "margin", "opacity", "padding", "text-align",
    },
    "generic_attribute_prefixes": set(),
    "set_tag_attribute_values": {"a": {"target": "_blank"}},
    "url_schemes": {"http", "https", "mailto"},
    "url_relative": "deny",
    "link_rel": "noopener noreferrer",
}  # fmt: skip
_CLEANER = nh3.Cleaner(**_CLEANER_SETTINGS)
_CLEANER_WITH_IMAGES = nh3.Cleaner(
    **{
        **_CLEANER_SETTINGS,
        "tags": {*_CLEANER_SETTINGS["tags"], "img"},
        "attributes": {**_CLEANER_SETTINGS["attributes"], "img": {"src", "alt"}},
        "set_tag_attribute_values": {
            **_CLEANER_SETTINGS["set_tag_attribute_values"],
            "img": {"referrerpolicy": "no-referrer", "loading": "lazy"},
        },
    }
)

# No user or password before the host: 'https://bank.example@evil.example' misleads.
_SAFE_URL = re.compile(r"(?:https?://[^/?#@\\\s][^/?#@\\\s]*(?:[/?#]|$)|mailto:[^\s?])", re.IGNORECASE)
_BARE_URL = re.compile(r"\bhttps?://[^\s<>\"'`|\\^{}]{1,2000}", re.IGNORECASE)
_TASK = re.compile(r"\[([ xX])\][ \t]+(?=\S)")
_MATH_START = re.compile(r"^[ \t>*+\-0-9.)]*(?:\$\$|\\\[)", re.MULTILINE)
_SPECIAL = re.compile(r"[\[\]!<>&*_`~$\\|]")
_DELIMITER_ROW = re.compile(r"[\s:|-]*-[\s:|-]*")

MAX_TABLE_COLUMNS = 100
MAX_TABLE_CELLS = 10_000
_MAX_NESTING = 20


class _Markdown(MarkdownIt):
    """CommonMark with tables, strikethrough and formulas, and without raw HTML."""

    def __init__(self) -> None:
        super().__init__(
            "commonmark", {"html": False, "maxNesting": _MAX_NESTING}, renderer_cls=_HtmlRenderer
        )
        self.enable(["table", "strikethrough"])
        self.disable(["html_block", "html_inline"])
        self.block.ruler.at("reference", _one_line_reference)
        self.block.ruler.at("table", _bounded_table, {"alt": ["paragraph", "reference"]})
        self.block.ruler.before(
            "fence", "math_block", _math_block, {"alt": ["paragraph", "reference", "blockquote", "list"]}
        )
        self.inline.ruler.before("escape", "math_inline", _math_inline)

    def validateLink(self, url: str) -> bool:  # noqa: N802 - the library's name
        return _SAFE_URL.match(url) is not None

    def normalizeLink(self, url: str) -> str:  # noqa: N802 - the library's name
        return super().normalizeLink(url).replace("'", "%27")

    def normalizeLinkText(self, link: str) -> str:  # noqa: N802 - the library's name
        # As it is: decoded, a punycode host could look like another one.
        return link


class _HtmlRenderer(RendererHTML):
    """What tokens become; `env` says whether the block is finished and counts formulas."""

    def fence(self, tokens: Sequence[Token], idx: int, _options: OptionsDict, env: EnvType) -> str:
        token = tokens[idx]
        language = token.info.split(maxsplit=1)[0].lower() if token.info.strip() else ""
        code = highlighted(token.content, language) if env.get("finished") else escape(token.content)
        return f"{_PRE}<code>{code}</code></pre>\n"

    def code_block(self, tokens: Sequence[Token], idx: int, _options: OptionsDict, _env: EnvType) -> str:
        return f"{_PRE}<code>{escape(tokens[idx].content)}</code></pre>\n"

    def math_inline(self, tokens: Sequence[Token], idx: int, _options: OptionsDict, env: EnvType) -> str:
        return _formula_html(tokens[idx], env) or f"<code>{escape(_formula_source(tokens[idx]))}</code>"

    def math_block(self, tokens: Sequence[Token], idx: int, _options: OptionsDict, env: EnvType) -> str:
        formula = _formula_html(tokens[idx], env)
        if formula:
            return f"<p>{formula}</p>\n"
        return f"{_PRE}<code>{escape(_formula_source(tokens[idx]))}</code></pre>\n"


def _formula_source(token: Token) -> str:
    return f"{token.markup}{token.content}{token.info}"


def _formula_html(token: Token, env: EnvType) -> str:
    # The wrapper's class keeps the page from typesetting prices; this one allows it again.
    env["formulas"] = env.get("formulas", 0) + 1
    if env["formulas"] > MAX_FORMULAS or not _is_ordinary_tex(token.content):
        return ""
    return (
        f'<span class="mathjax_process tex2jax_process">{escape(_formula_source(token), quote=False)}</span>'
    )


def _bounded_table(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    # A short row is filled up with empty cells, so that two characters can cost a hundred.
    if start_line + 2 > end_line or not _DELIMITER_ROW.fullmatch(_line(state, start_line + 1)):
        return False
    columns = _line(state, start_line).strip("| \t").count("|") + 1
    end = next((line for line in range(start_line + 2, end_line) if not _line(state, line)), end_line)
    if columns > MAX_TABLE_COLUMNS or (end - start_line) * columns > MAX_TABLE_CELLS:
        return False
    return _table_rule(state, start_line, end_line, silent)


_REFERENCE = re.compile(r"\[(?:[^\[\]\\]|\\.){1,999}\]:(?:[ \t]*|[ \t]+\S+[ \t]*([\"'(].*)?)$")
MAX_REFERENCES = 300


def _one_line_reference(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    # A label or title that may go on over lines makes many of them read the rest many times.
    definition = _REFERENCE.match(_line(state, start_line))
    if not definition or len(state.env["references"]) >= MAX_REFERENCES:
        return False
    title = (definition[1] or "").rstrip()
    if title and (len(title) < 2 or title[-1] != {"(": ")"}.get(title[0], title[0])):
        return False
    return _reference_rule(state, start_line, end_line, silent)


@lru_cache(maxsize=64)
def highlighted(code: str, language: str) -> str:
    """Return `code` as HTML, with colours when `language` is known and the code is not long.

    Keywords, strings, numbers and comments only: a span per token would double every frame.
    """
    if language not in _LANGUAGES or len(code) > MAX_HIGHLIGHTED_CHARS:
        return escape(code)
    try:
        lexer = get_lexer_by_name(language, stripnl=False, ensurenl=False)
    except ClassNotFound:  # in another version of Pygments
        return escape(code)
    parts: list[str] = []
    run: list[str] = []
    run_style = ""
    for kind, text in lex(code, lexer):
        # `in` is how a token type says that it is a kind of another; its stubs know a plain tuple's.
        style = next((s for group, s in _STYLES if kind in group), "")  # type: ignore[comparison-overlap]
        if text.isspace():
            style = run_style
        if style != run_style:
            parts.append(_styled("".join(run), run_style))
            run, run_style = [], style
        run.append(text)
    parts.append(_styled("".join(run), run_style))
    return "".join(parts)


MAX_HIGHLIGHTED_CHARS = 10_000
# Of the hundreds that Pygments knows, some take time that grows fast with the text.
_LANGUAGES = frozenset(
    (
        *(
            "python",
            "py",
            "python3",
            "pycon",
            "ipython",
            "javascript",
            "js",
            "typescript",
            "ts",
            "json",
            "java",
        ),
        *(
            "c",
            "cpp",
            "c++",
            "csharp",
            "c#",
            "go",
            "rust",
            "ruby",
            "rb",
            "php",
            "sql",
            "bash",
            "sh",
            "shell",
            "zsh",
        ),
        *("html", "xml", "css", "yaml", "toml", "ini", "diff", "r", "julia", "kotlin", "swift", "dockerfile"),
    )
)
# The colours of the notebook's own code cells, light or dark. Where a front end has none, or drops
# them (JupyterLab, reopened untrusted), code is plain: any one colour is faint on white or on black.
_STYLES: Final = (
    (Comment, "font-style:italic;opacity:0.75"),
    (Keyword, "color:var(--jp-mirror-editor-keyword-color, inherit)"),
    (String, "color:var(--jp-mirror-editor-string-color, inherit)"),
    (Number, "color:var(--jp-mirror-editor-number-color, inherit)"),
    (Literal, "color:var(--jp-mirror-editor-number-color, inherit)"),
)
_FRAME: Final = "margin:8px 0 12px;padding:6px 10px;border:1px solid rgba(128,128,128,0.5);border-radius:4px"
_PRE: Final = f'<pre style="{_FRAME}">'


def _styled(text: str, style: str) -> str:
    if not style or not text:
        return escape(text)
    return f'<span style="{style}">{escape(text)}</span>'


_MARKDOWN = _Markdown()
_ALT_TEXT = _HtmlRenderer()


@dataclass(slots=True)
class _Block:
    """A top-level block: its tokens, and the lines it stands in."""

    tokens: list[Token]
    first_line: int
    end_line: int

    @property
    def kind(self) -> str:
        return self.tokens[0].type

    @property
    def is_open_fence(self) -> bool:
        """Whether this is a fence whose closing line has not come."""
        token = self.tokens[0]
        lines = len(token.content.removesuffix("\n").split("\n")) if token.content else 0
        return token.type == "fence" and lines + 1 >= self.end_line - self.first_line


References: TypeAlias = dict[str, Any]


def _read_blocks(text: str, references: References) -> list[_Block]:
    tokens: list[Token] = []
    _MARKDOWN.block.parse(text, _MARKDOWN, {"references": references}, tokens)
    blocks: list[_Block] = []
    start = 0
    for index, token in enumerate(tokens):
        if token.level == 0 and token.nesting <= 0:
            first = tokens[start].map or [0, 0]
            blocks.append(_Block(tokens[start : index + 1], first[0], first[1]))
            start = index + 1
    return blocks


def _block_html(block: _Block, source: str, env: dict[str, Any], *, images: bool) -> str:
    """The safe HTML of one block; its source as plain text when it would cost too much."""
    if any(token.level >= _MAX_NESTING - 1 for token in block.tokens):
        return _verbatim(source)  # the reader leaves out what is nested deeper
    for index, token in enumerate(block.tokens):
        if token.type == "inline":
            _read_inline(token, block.tokens, index, env, images=images)
        elif token.tag in {"td", "th"} and token.nesting == 1 and "style" not in token.attrs:
            # JupyterLab would set the cells of HTML output to the right.
            token.attrs["style"] = "text-align:left"
    html = _MARKDOWN.renderer.render(block.tokens, _MARKDOWN.options, env)
    cleaner = _CLEANER_WITH_IMAGES if images else _CLEANER
    # Again, since an entity such as &#x202e; is a character by now.
    html = terminal_text(cleaner.clean(html))
    if 6 * len(html) > MAX_BLOCK_BYTES and _wire_size(html) > MAX_BLOCK_BYTES:
        return _verbatim(source)
    return html


def _read_inline(token: Token, tokens: list[Token], index: int, env: dict[str, Any], *, images: bool) -> None:
    if (
        index >= 2
        and tokens[index - 1].type == "paragraph_open"
        and tokens[index - 2].type == "list_item_open"
        and (task := _TASK.match(token.content))
    ):
        token.content = ("☐ " if task[1] == " " else "☑ ") + token.content[task.end() :]
    children: list[Token] = []
    if len(token.content) > 2_000 and len(_SPECIAL.findall(token.content)) * 4 > len(token.content):
        # No prose; reading 32 KB of '![' takes most of a second.
        children.append(Token("text", "", 0, content=token.content))
    else:
        _MARKDOWN.inline.parse(token.content, _MARKDOWN, env, children)
        token.children = children
        text_join(StateCore("", _MARKDOWN, env, [token]))
        children = token.children
    token.children = list(_linked(children, images=images))


def _linked(children: list[Token], *, images: bool) -> Iterator[Token]:
    """Give the tokens with bare URLs as links, and images as what they may be."""
    inside_link = False
    for child in children:
        match child.type:
            case "link_open":
                inside_link = True
                child.attrs = {"href": child.attrs["href"]}  # a title can lie about the address
                yield child
            case "link_close":
                inside_link = False
                yield child
            case "image":
                yield from _image(child, inside_link=inside_link, images=images)
            case "text" if not inside_link and "://" in child.content:
                yield from _text_with_links(child.content)
            case _:
                yield child


def _image(token: Token, *, inside_link: bool, images: bool) -> Iterator[Token]:
    source = str(token.attrs["src"])
    alt = _ALT_TEXT.renderInlineAsText(token.children, _MARKDOWN.options, {})
    if images and source.lower().startswith("http"):
        token.attrs = {"src": source, "alt": alt}
        token.children = [Token("text", "", 0, content=alt)]
        yield token
        return
    text = Token("text", "", 0, content=f"image: {alt.strip() or source}")
    if inside_link:
        yield text
    else:
        yield from _link(source, text)


def _link(url: str, text: Token) -> Iterator[Token]:
    yield Token("link_open", "a", 1, attrs={"href": url})
    yield text
    yield Token("link_close", "a", -1)


def _text_with_links(text: str) -> Iterator[Token]:
    at = 0
    for found in _BARE_URL.finditer(text):
        url = found.group().rstrip(".,:;!?*_~")
        while url.endswith((")", "]")):
            opening = "(" if url.endswith(")") else "["
            if url.count(url[-1]) <= url.count(opening):
                break
            url = url[:-1].rstrip(".,:;!?*_~")
        address = _MARKDOWN.normalizeLink(url)
        if not _MARKDOWN.validateLink(address):
            continue
        yield Token("text", "", 0, content=text[at : found.start()])
        yield from _link(address, Token("text", "", 0, content=url))
        at = found.start() + len(url)
    yield Token("text", "", 0, content=text[at:])


def _verbatim(source: str) -> str:
    shown = bounded(source, MAX_BLOCK_BYTES // 6)  # a quote takes six characters as HTML
    return f'<pre style="white-space:pre-wrap">{escape(shown)}</pre>\n'


def _is_too_dense(text: str) -> bool:
    """Whether `text` has far more lines than anything that people read."""
    lines = text.count("\n")
    return lines > 1_000 and lines * 6 > len(text)


def _line_starts(text: str) -> list[int]:
    """Where each line of `text` starts, and at the end the text's length."""
    starts = [0]
    while (end := text.find("\n", starts[-1])) >= 0:
        starts.append(end + 1)
    if starts[-1] < len(text):
        starts.append(len(text))
    return starts


def _source_of(block: _Block, text: str, starts: list[int]) -> str:
    return text[starts[block.first_line] : starts[min(block.end_line, len(starts) - 1)]]


def _finishable(text: str, starts: list[int], blocks: list[_Block]) -> int:
    """How many of the blocks nothing that may follow can change.

    A block is finished when another one starts after it, on a line that is whole: half a line,
    '#' or '2', may still go on the paragraph or the list before. Without a blank line between,
    what came last may yet be the start of a formula or of a link definition, so there the
    blocks have to be of kinds that begin or end by one line.
    """
    complete_lines = text.count("\n")
    for index in range(len(blocks) - 1, 0, -1):
        block, before = blocks[index], blocks[index - 1]
        line = block.first_line
        if line >= complete_lines:
            continue
        if not text[starts[line - 1] : starts[line]].strip():
            return index
        by_one_line = (
            block.kind
            in {"heading_open", "hr", "fence", "bullet_list_open", "ordered_list_open", "blockquote_open"}
            or before.kind in {"heading_open", "hr"}
            or (before.kind == "fence" and not before.is_open_fence)
        )
        if by_one_line and not _MATH_START.search(text, 0, starts[line]):
            return index
    return 0


def _continuation(blocks: list[_Block], text: str, starts: list[int]) -> str:
    """The lines with which the rest of a block that was cut is read as more of the same."""
    last = blocks[-1] if blocks else None
    lines = 1 if last and last.is_open_fence else 2 if last and last.kind == "table_open" else 0
    if last is None or not lines:
        return ""
    opening = text[starts[last.first_line] : starts[last.first_line + lines]]
    return opening if len(opening) < 1_000 else ""


class ReplyRenderer:
    """Markdown text that grows → safe HTML, whole at any time.

    Top-level blocks that nothing to come can change are rendered once. What follows them, the
    open block, is rendered anew when asked for. Any chunking of a text gives the same
    `finish()` as long as no block had to be cut. For one thread at a time.

    Args:
        images: whether remote images are shown; else each becomes a link with its text.

    >>> reply = ReplyRenderer()
    >>> reply.append("Hello *wor")
    >>> reply.html()
    '<p>Hello *wor</p>\\n'
    >>> reply.append("ld*")
    >>> reply.finish()
    '<p>Hello <em>world</em></p>\\n'
    """

    def __init__(self, *, images: bool = False) -> None:
        self._images = images
        self._pieces: list[str] = []  # the whole text; each piece is clean already
        self._length = 0
        self._unread: list[str] = []  # pieces that came since the last look
        self._tail = ""  # the text after the last finished block
        self._taken = 0  # how many characters stand before it
        self._position = 0  # of what is being finished, in the whole text
        self._spans: list[tuple[int, int]] = []  # where each finished block stands there
        self._cuts: list[int] = []
        self._prefix = ""  # the opening line of a fence that was cut
        self._references: References = {}
        self._formulas = 0
        self._finished: list[str] = []
        self._sizes: list[int] = []  # of the finished blocks, as they are sent
        self._sources: list[int] = []  # the same in characters of the text
        self._size = 0
        self._open_references: References = {}
        self._open: tuple[str, list[_Block], References] | None = None  # read, and not yet rendered
        self._open_html: str | None = ""

    def append(self, text: str) -> None:
        """Take the next piece of the text; cheap, nothing is rendered yet."""
        text = terminal_text(text)
        if text:
            self._pieces.append(text)
            self._unread.append(text)
            self._length += len(text)

    @property
    def length(self) -> int:
        """How many characters have come, without those that are never shown."""
        return self._length

    @property
    def spans(self) -> list[tuple[int, int]]:
        """Where each of `finished_blocks` begins and ends, by the count of `length`."""
        self._read()
        return self._spans

    def cut(self, *, must: bool = False) -> bool:
        """Finish what is open, so that the next character begins a new block; return whether it did.

        It does not where that would tear something apart: within a line, a fence, a table or a
        formula.

        Args:
            must: do so all the same, as at the end of the text.
        """
        self._read()
        if self._tail.strip():
            source, blocks, references = self._open or self._blocks_of(self._tail)
            if not must and (
                not source.endswith("\n")
                or not blocks
                or blocks[-1].is_open_fence
                or blocks[-1].kind == "table_open"
                or source.count("$$") % 2
                or source.count("\\[") != source.count("\\]")
            ):
                return False
            self._position = self._taken
            self._finish(blocks, source, _line_starts(source), references, len(source) + 1)
        self._taken += len(self._tail)
        self._tail = self._prefix = self._open_html = ""
        self._open = None
        self._open_references = {}
        self._cuts.append(self._length)
        return True

    def resolved(self) -> ReplyRenderer:
        """What `finished_blocks` should be after the last `cut`: with the links whose definition came late.

        The same renderer, or another with the same text cut at the same places.
        """
        if not self._references or self._length > MAX_RESOLVED_CHARS:
            return self
        return self._anew(self._references)

    @property
    def finished_blocks(self) -> list[str]:
        """The HTML of the blocks that will not change again; only ever grows."""
        self._read()
        return self._finished

    @property
    def open_block(self) -> str:
        """The HTML of what follows the finished blocks, as it stands now."""
        self._read()
        if self._open_html is None:
            self._open_html = self._render_open(finished=False)
        return self._open_html

    def html(self) -> str:
        """Return the safe HTML of all text so far; in part when above `MAX_HTML_BYTES`."""
        return self._assembled(self.open_block)

    def finish(self) -> str:
        """Return the whole, rendered as final.

        Links whose definition came late are resolved when the text is at most
        `MAX_RESOLVED_CHARS`. Changes nothing: `finished_blocks` stay, and text may still come.
        """
        self._read()
        last = self._render_open(finished=True)
        references = self._open_references | self._references
        if references and self._finished and self._length <= MAX_RESOLVED_CHARS:
            return self._rendered_anew(references)
        return self._assembled(last)

    def _rendered_anew(self, references: References) -> str:
        """Render the text with these link definitions known from the start."""
        again = self._anew(references)
        return again._assembled(again._render_open(finished=True))

    def _anew(self, references: References) -> ReplyRenderer:
        again = ReplyRenderer(images=self._images)
        again._references = dict(references)
        text = "".join(self._pieces)
        at = 0
        for cut in self._cuts:
            again.append(text[at:cut])
            again.cut(must=True)
            at = cut
        again.append(text[at:])
        again._read()
        return again

    def _read(self) -> None:
        """Read what came since the last look, and finish the blocks that can be finished."""
        if not self._unread:
            return
        self._tail += "".join(self._unread)
        self._unread.clear()
        self._open_html = None
        self._open = None
        at = 0
        while len(self._tail) - at > MAX_OPEN_CHARS:
            window = self._tail[at : at + MAX_OPEN_CHARS]
            half = MAX_OPEN_CHARS // 2
            end = window.rfind("\n", half) + 1 or window.rfind(" ", half) + 1 or MAX_OPEN_CHARS
            self._position = self._taken + at
            at += self._finish_blocks(window[:end], must=True)
        self._position = self._taken + at
        at += self._finish_blocks(self._tail[at:], must=False)
        self._tail = self._tail[at:]
        self._taken += at

    def _finish_blocks(self, text: str, *, must: bool) -> int:
        """Finish blocks at the start of `text`; return how many characters they took.

        Args:
            text: what follows the finished blocks, or the start of it.
            must: more text follows and is known, so that at least something has to go.
        """
        if _is_too_dense(text):
            cut = text.rfind("\n") + 1
            self._add(_verbatim(text[:cut]), cut, (0, cut))
            self._prefix = ""
            if must:
                return cut
            self._position += cut
            return cut + self._finish_blocks(text[cut:], must=False)
        source, blocks, references = self._blocks_of(text)
        starts = _line_starts(source)
        count = _finishable(source, starts, blocks)
        if not count:
            if not must:
                self._open = source, blocks, references
                return 0
            if len(blocks) < 2:
                self._finish(blocks, source, starts, references, len(starts))
                self._prefix = _continuation(blocks, source, starts)
                return len(text)
            count = len(blocks) - 1
        end_line = blocks[count].first_line
        self._finish(blocks[:count], source, starts, references, end_line)
        taken = starts[end_line] - len(self._prefix)
        self._prefix = ""
        return taken

    def _blocks_of(self, text: str) -> tuple[str, list[_Block], References]:
        source = self._prefix + text
        references = dict(self._references)
        return source, _read_blocks(source, references), references

    def _finish(
        self, blocks: list[_Block], source: str, starts: list[int], references: References, end_line: int
    ) -> None:
        for label, reference in references.items():
            if label not in self._references and reference["map"][1] <= end_line:
                self._references[label] = reference
        env: dict[str, Any] = {"references": self._references, "finished": True, "formulas": self._formulas}
        for block in blocks:
            part = _source_of(block, source, starts)
            begin = starts[block.first_line] - len(self._prefix)
            span = (max(begin, 0), begin + len(part))
            self._add(_block_html(block, part, env, images=self._images), len(part), span)
        self._formulas = env["formulas"]

    def _add(self, html: str, source_chars: int, span: tuple[int, int]) -> None:
        """Take in a finished block, which stands at `span` from `_position` on."""
        self._spans.append((self._position + span[0], self._position + span[1]))
        size = _wire_size(html)
        self._finished.append(html)
        self._sizes.append(size)
        self._sources.append(source_chars)
        self._size += size

    def _render_open(self, *, finished: bool) -> str:
        # Once only: tokens are changed when they are rendered.
        source, blocks, references = self._open or self._blocks_of(self._tail)
        self._open = None
        self._open_references = {
            label: references[label] for label in references if label not in self._references
        }
        starts = _line_starts(source)
        env: dict[str, Any] = {"references": references, "finished": finished, "formulas": self._formulas}
        return "".join(
            _block_html(block, _source_of(block, source, starts), env, images=self._images)
            for block in blocks
        )

    def _assembled(self, last: str) -> str:
        """Join the finished blocks and the `last`; the beginning and the end if that is too much."""
        last_size = _wire_size(last)
        if self._size + last_size <= MAX_HTML_BYTES:
            return "".join(self._finished) + last
        part = MAX_HTML_BYTES // 2 - 10_000
        head = 0
        size = 0
        while head < len(self._sizes) and size + self._sizes[head] <= part:
            size += self._sizes[head]
            head += 1
        tail = len(self._sizes)
        size = last_size
        while tail > head and size + self._sizes[tail - 1] <= part:
            tail -= 1
            size += self._sizes[tail]
        hidden = sum(self._sources[head:tail])
        words = escape(_hidden_note(hidden)).replace("`_halo.text`", "<code>_halo.text</code>")
        note = f"<p><em>{words}</em></p>\n"
        return "".join(self._finished[:head]) + note + "".join(self._finished[tail:]) + last


def markdown_to_html(text: str, *, images: bool = False) -> str:
    r"""Return the safe HTML of a whole text, as `ReplyRenderer.finish` would.

    >>> markdown_to_html("from $5 to $10, <b>not</b> [here](javascript:alert)")
    '<p>from $5 to $10, &lt;b&gt;not&lt;/b&gt; [here](javascript:alert)</p>\n'
    """
    renderer = ReplyRenderer(images=images)
    renderer.append(text)
    return renderer.finish()


MAX_RENDERED_CHARS = 300_000
MAX_TAIL_CHARS = 2_000


class ShownText:
    """As much of a text that grows as a page can show: the beginning rendered, and of the rest the end.

    Beyond `MAX_RENDERED_CHARS` only the last `MAX_TAIL_CHARS` are kept: no page could show more,
    and an interrupt must not wait for it to be rendered.

    Args:
        images: whether remote images are shown; else they are links.
    """

    def __init__(self, *, images: bool = False) -> None:
        self.renderer = ReplyRenderer(images=images)
        self.length = 0
        """How many characters have come, shown or not."""
        self._tail = ""

    def append(self, text: str) -> None:
        """Take the next piece of the text."""
        room = max(0, MAX_RENDERED_CHARS - self.length)
        self.renderer.append(text[:room])
        if len(text) > room:
            self._tail = (self._tail + text[room:])[-MAX_TAIL_CHARS:]
        self.length += len(text)

    def end_html(self) -> str:
        """What stands below the part that is rendered: a note, and the end of the text; mostly nothing."""
        if not self._tail:
            return ""
        note = self._note()
        return (f"<p><em>{escape(note)}</em></p>\n" if note else "") + markdown_to_html(self._tail)

    def shown(self, text: str) -> str:
        """The plain text of `text`, the whole as it came, cut at the same places."""
        if self._tail:
            text = f"{text[:MAX_RENDERED_CHARS]}\n{self._note()}\n{self._tail}"
        return plain(text)

    def _note(self) -> str:
        left_out = self.length - MAX_RENDERED_CHARS - len(self._tail)
        return f"… {left_out:,} characters are not shown here; _halo.text holds the whole" if left_out else ""


def wrap(html: str) -> str:
    """Return a reply's `html` in the element that every front end shows it in.

    Its classes keep MathJax from taking prices for formulas: the first is for version 3 and
    later (JupyterLab), the second for version 2 (nbconvert's export).
    """
    return f'<div class="halo-reply {NO_FORMULAS}" dir="auto">{html}</div>'


NO_FORMULAS: Final = "mathjax_ignore tex2jax_ignore"
"""The classes that keep JupyterLab's and nbconvert's typesetting away from what is not a formula."""


# ---------------------------------------------------------------------------------------------
# JSON

MAX_JSON_HTML_BYTES = 400_000
MAX_KEY_CHARS = 200
MAX_DISPLAY_DEPTH = 64
"""Front ends and notebook tools walk a JSON output recursively, each level in many frames."""
_MAX_SAFE_INTEGER = 2**53 - 1
# Shown as \\u escapes: data has to be seen as it is, so nothing is dropped from it.
_INVISIBLE = re.compile(f"[\x00-\x1f\x7f-\x9f\u200b\u2028\u2029\ufeff\ud800-\udfff{_REORDERING}]")


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
        size += _wire_size(part)
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
            size += _wire_size(copied) + 2 if isinstance(copied, str) else len(str(copied)) + 1
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
            size += _wire_size(key) + 4
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
