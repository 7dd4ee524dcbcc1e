r"""How formulas are found in Markdown, so that prices stay prices, and which of them a page may typeset.

JupyterLab 4.6 typesets with MathJax 3, all its packages and 'require', behind its Safe
extension; nbconvert's export with MathJax 2.7 and Safe. That is not enough here:

- All formulas of a page share one parser, so a \def or \let changes every later formula.
- Safe finds the scheme of a URL with ^\s*([a-z]+): and lets what does not match pass, so a scheme
  with a tab or a newline in it gets through, and the browser drops those characters; plain
  http addresses pass in any case, past our rules for links.
- \require loads packages, \class and \cssId reach the page's style sheet, \hspace, \raise or
  \\[-100em] paint over what stands beside the reply.

So a formula that uses anything that is not listed here is shown as code.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .writing_systems import joins_words

if TYPE_CHECKING:
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline
    from markdown_it.token import Token

NO_FORMULAS: Final = "mathjax_ignore tex2jax_ignore"
"""The classes that keep JupyterLab's and nbconvert's typesetting away from what is not a formula."""

_COMMANDS: Final = """
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
"""
_ENVIRONMENTS: Final = """
    equation equation* align align* aligned alignat alignat* alignedat gather gather* gathered multline
    multline* split cases dcases rcases matrix pmatrix bmatrix Bmatrix vmatrix Vmatrix smallmatrix array
    subarray
"""
_TEX_COMMANDS = frozenset(_COMMANDS.split())
_TEX_ENVIRONMENTS = frozenset(_ENVIRONMENTS.split())
MAX_FORMULA_CHARS = 5_000
MAX_FORMULAS = 500
_MAX_ESCAPED = 20  # closings after a backslash, as in $US\$ 5$
_MAX_TEX_DEPTH = 50  # MathJax reads groups, roots and the like recursively
_MAX_TEX_CONTROLS = 500
# A command, a sign after a backslash (none at the end of a formula), or a character with a meaning.
_TEX_TOKEN = re.compile(r"\\(?:([A-Za-z]+)|([^A-Za-z]?))|[{}%#$]", re.DOTALL)
# Not among them are \( and \[, nor a backslash at the end, which would escape the delimiter.
_TEX_SIGNS = frozenset(",;:!> \n\\|{}_^%&#$-/")
_TEX_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*(?:\{([a-zA-Z]+\*?)\})?")
_TEX_COLUMNS = re.compile(r"\\begin\s*\{(?:array|subarray)\}(?!\s*(?:\[[tbc]\]\s*)?\{[lcr| ]{1,60}\})")
_TEX_PAIRS = re.compile(r"\\begin\s*\{align(?:ed)?at\*?\}(?!\s*\{[1-9]\})")  # a loop in MathJax
_TEX_LENGTH = r"(?:[0-9](?:\.[0-9]+)?(?:em|ex|mm)|[0-9]{1,2}(?:\.[0-9]+)?pt)"
_TEX_LINE_GAP = re.compile(rf"\\\\\s*\*?\s*\[(?!\s*{_TEX_LENGTH}\s*\])")


def is_ordinary_tex(tex: str) -> bool:
    """Whether a formula, without its delimiters, contains only ordinary mathematics.

    The page looks for the delimiters itself. The braces balance and there is no delimiter inside, so it
    finds the delimiters at the two ends and typesets exactly what was checked here.
    """
    if len(tex) > MAX_FORMULA_CHARS or not tex.strip():
        return False
    depth = controls = 0
    for token in _TEX_TOKEN.finditer(tex):
        word, sign = token.groups()
        if token[0] in "{}":
            depth += 1 if token[0] == "{" else -1
        elif token[0] in "%#$":
            # A bare % would hide the rest of its line, # stands for an argument, $ is a delimiter.
            return False
        elif word not in _TEX_COMMANDS if word else sign not in _TEX_SIGNS:
            return False
        else:
            controls += 1
        if not 0 <= depth <= _MAX_TEX_DEPTH or controls > _MAX_TEX_CONTROLS:
            return False
    if depth or not _TEX_ENVIRONMENTS.issuperset(_TEX_ENVIRONMENT.findall(tex)):
        return False
    return not any(pattern.search(tex) for pattern in (_TEX_COLUMNS, _TEX_PAIRS, _TEX_LINE_GAP))


_CLOSINGS = {"$$": "$$", "$": "$", "\\(": "\\)", "\\[": "\\]"}
_OPENING = re.compile(r"\$\$?|\\[(\[]|\\begin\{([a-zA-Z]+\*?)\}")


def math_inline(state: StateInline, silent: bool) -> bool:
    r"""Parse $…$, $$…$$, \(…\), \[…\] or \begin{x}…\end{x} within a paragraph."""
    text, at = state.src, state.pos
    found = _OPENING.match(text, at)
    if not found:
        return False
    opening, environment = found[0], found[1]
    closing = f"\\end{{{environment}}}" if environment else _CLOSINGS[opening]
    start = found.end()
    limit = start + MAX_FORMULA_CHARS + len(closing)
    end = text.find(closing, start, limit)
    for _ in range(_MAX_ESCAPED):
        if end < 0 or not _is_escaped(text, start, end):
            break
        end = text.find(closing, end + len(closing), limit)
    if end <= start or _is_escaped(text, start, end):
        return False
    tex = text[start:end]
    if opening == "$" and not _is_dollar_formula(text, at, tex, end):
        return False
    if not silent:
        _fill(state.push("math_inline", "", 0), opening, tex, closing)
    state.pos = end + len(closing)
    return True


def _fill(token: Token, opening: str, tex: str, closing: str) -> None:
    # An environment has to be checked with its name, and MathJax finds it by its name.
    is_environment = opening.startswith("\\begin")
    token.markup, token.info = ("", "") if is_environment else (opening, closing)
    token.content = f"{opening}{tex}{closing}" if is_environment else tex


def _is_escaped(text: str, start: int, end: int) -> bool:
    """Whether an odd number of backslashes stands before `end`."""
    before = text[max(start, end - 100) : end]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def _is_dollar_formula(text: str, at: int, tex: str, end: int) -> bool:
    """Whether $…$ is a formula, rather than two prices or two shell variables."""
    if tex[0].isspace() or tex[-1].isspace() or "\n\n" in tex:
        return False
    beside = text[at - 1 : at], text[end + 1 : end + 2]
    is_joined = any(char and joins_words(char) for char in beside)
    if beside[1] == "$" or any(
        char.isdecimal() or (char.isalnum() and not joins_words(char)) for char in beside
    ):
        return False
    # '$5 and US$': a number and words are not a formula. Nor are words without blanks, within such words.
    starts_as_number = tex.lstrip("+-")[:1].isdecimal()
    has_words = starts_as_number and any(map(str.isspace, tex))
    has_words |= (starts_as_number or is_joined) and any(map(joins_words, tex))
    return not has_words or any(sign in tex for sign in "\\^_={}<>+")


def math_block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    r"""Parse $$…$$, \[…\] or \begin{x}…\end{x} that begins and ends with a line and has no blank line inside.

    This is a rule for blocks, since a line of a formula may begin with what would otherwise start a list.
    """
    if state.is_code_block(start_line):
        return False
    first = line_of(state, start_line)
    found = _OPENING.match(first)
    if not found or len(found[0]) < 2 or found[0] == "\\(":
        return False
    opening = found[0]
    closing = f"\\end{{{found[1]}}}" if found[1] else _CLOSINGS[opening]
    if state.src.find(closing, state.bMarks[start_line] + len(opening)) < 0:
        return False  # as found by reading 200 lines, but many may begin like this
    lines = [first[found.end() :]]
    at = start_line
    while closing not in lines[-1]:
        at += 1
        if at >= end_line or at - start_line > 200 or state.sCount[at] < state.blkIndent:
            return False
        lines.append(line_of(state, at))
        if not lines[-1].strip():
            return False
    lines[-1], _, after = lines[-1].partition(closing)
    tex = "\n".join(lines)
    if after.strip() or not tex.strip() or len(tex) > 2 * MAX_FORMULA_CHARS:
        return False
    if not silent:
        state.line = at + 1
        token = state.push("math_block", "", 0)
        token.block = True
        _fill(token, opening, tex, closing)
        token.map = [start_line, state.line]
    return True


def line_of(state: StateBlock, line: int) -> str:
    """A line of the text that is being parsed, without its indentation."""
    return state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]]
