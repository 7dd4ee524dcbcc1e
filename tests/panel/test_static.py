"""The front end's files: they are complete, style only the panel, and turn no string into code or markup."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tinycss2

from halo_notebook.panel.assets import STATIC, bundle, styles

from .test_modules import node

ROOT = Path(__file__).parents[2]
MODULES = {
    *("composer", "dom", "header", "json", "panel"),
    *("status", "store", "text", "transcript", "tree", "turn"),
}
# anywidget puts a widget's CSS into the page's head, where it applies to all of JupyterLab.
SCOPE = "halo-panel"


def is_scoped(selector: str, *, nested: bool) -> bool:
    """Whether a selector fits only a panel and what is in it; `nested` in a rule that does."""
    if not nested:
        return selector == f".{SCOPE}"
    while "(" in selector:
        inner = re.search(r"\([^()]*\)", selector)
        if not inner or "&" in inner[0]:
            return False
        selector = selector.replace(inner[0], "")
    if "&" not in selector:
        return not selector.startswith(("+", "~"))
    # From what stands for the outer rule's elements it may go inwards only, not to their neighbours.
    return bool(re.fullmatch(r"[^\s+~]*(\s*>.*|\s+[^\s+~].*)?", selector.rpartition("&")[2]))


def unscoped(content: Iterable[Any] | str, *, nested: bool = False) -> Iterator[str]:
    """The selectors and at-rules of a style sheet, or of a rule's block, that reach beyond the panel."""
    for rule in tinycss2.parse_blocks_contents(content, skip_comments=True, skip_whitespace=True):
        if rule.type == "qualified-rule":
            # A comma in brackets is inside a function's one token.
            parts = "".join("\0" if token == "," else token.serialize() for token in rule.prelude).split("\0")
            yield from (part.strip() for part in parts if not is_scoped(part.strip(), nested=nested))
            yield from unscoped(rule.content, nested=True)
        elif rule.type == "at-rule" and rule.lower_at_keyword in {"container", "layer", "media", "supports"}:
            yield from unscoped(rule.content or [], nested=nested)
        elif rule.type == "at-rule" and rule.lower_at_keyword == "keyframes":
            # The name of an animation applies to the whole page.
            if not tinycss2.serialize(rule.prelude).strip().startswith("halo-"):
                yield rule.serialize().split("{")[0].strip()
        elif rule.type != "declaration" or not nested:
            yield rule.serialize().strip()


@pytest.mark.parametrize(
    "css",
    [
        ".halo-panel { color: red }",
        ".halo-panel { .a, > .a + .b, .a:hover::before { color: red } }",
        ".halo-panel { [data-jp-theme-light=false] &, :is(.a, .b) > & .c + .d { color: red } }",
        ".halo-panel { color: red; .a { color: red } &:hover > b { color: red } .dark & { color: red } }",
        ".halo-panel { &:not(.a, .b) .c, &.a { color: red } }",
        "@media (width < 20em) { .halo-panel { color: red } }",
        ".halo-panel { @container (width < 20em) { .a { color: red } color: red } }",
        "@keyframes halo-wait { from { opacity: 0 } 50% { opacity: 1 } }",
        "/* .a {} */",
    ],
)
def test_a_rule_inside_the_panel_passes(css: str) -> None:
    """The check accepts a rule that holds only for a panel and what is in it."""
    assert list(unscoped(css)) == []


@pytest.mark.parametrize(
    ("css", "found"),
    [
        ("button { color: red }", "button"),
        (".halo-panel, .a { color: red }", ".a"),
        (".halo-panels { color: red }", ".halo-panels"),
        (".halo-panel + p { color: red }", ".halo-panel + p"),
        (":is(.halo-panel, .a) b { color: red }", ":is(.halo-panel, .a) b"),
        ("div:has(.halo-panel) { color: red }", "div:has(.halo-panel)"),
        (".halo-panel { ~ p { color: red } }", "~ p"),
        (".halo-panel { &:not(.a, .b) + p { color: red } }", "&:not(.a, .b) + p"),
        (".halo-panel { p:has(&) { color: red } }", "p:has(&)"),
        (":root { --halo: red }", ":root"),
        ("@media print { body { color: red } }", "body"),
        ("@keyframes spin { from { opacity: 0 } }", "@keyframes spin"),
        ('@import "https://example.com/a.css";', '@import "https://example.com/a.css";'),
        ("@font-face { font-family: a }", "@font-face { font-family: a }"),
    ],
)
def test_a_rule_that_reaches_beyond_the_panel_is_found(css: str, found: str) -> None:
    """The check names each rule that would change the rest of the page or load from another host."""
    assert list(unscoped(css)) == [found]


def test_the_package_styles_its_panel_only() -> None:
    """Every rule in the package's style sheets is scoped under the panel's class."""
    found = {path.name: list(unscoped(path.read_text())) for path in STATIC.glob("*.css")}
    assert set(found) == {"panel.css", "tree.css", "turn.css"}
    assert all(path.read_text() in styles() for path in STATIC.glob("*.css"))
    assert {name: rules for name, rules in found.items() if rules} == {}


def test_the_modules_are_joined_into_one(tmp_path: Path) -> None:
    """The result imports nothing, contains each module once, and is a valid module."""
    assert {path.stem for path in STATIC.glob("*.js")} == MODULES
    text = bundle()
    for path in STATIC.glob("*.js"):
        assert text.count(path.read_text("utf-8").splitlines()[0]) == 1, path.name
    assert re.findall("^(?:import|export) .*", text, re.MULTILINE) == ["export default () => {"]
    joined = tmp_path / "joined.mjs"
    joined.write_text(text, "utf-8")
    script = f"import widget from '{joined.as_uri()}'; console.log(Object.keys(widget()))"
    assert node("--input-type=module", "--eval", script) == "[ 'initialize', 'render' ]\n"


REFUSED = {
    "element.innerHTML = text;": "no-restricted-properties",
    "element['innerHTML'] = text;": "no-restricted-properties",
    "element[`outerHTML`] = text;": "no-restricted-properties",
    "element.insertAdjacentHTML('beforeend', text);": "no-restricted-properties",
    "document.write(text);": "no-restricted-properties",
    "eval(text);": "no-eval",
    "setTimeout('text', 1);": "no-implied-eval",
    "new Function(text)();": "no-new-func",
    "Reflect.construct(Function, [text]);": "no-restricted-syntax",
    "import(text);": "no-restricted-syntax",
    "if (text == 1) element.remove();": "eqeqeq",
    "var old = text; element.append(old);": "no-var",
    "let fixed = text; element.append(fixed);": "prefer-const",
    "element.append(nowhere);": "no-undef",
    "element.append(text); // eslint-disable-line no-eval -- there is none": None,
}
ACCEPTED = (
    "element.textContent = text;",
    "element.innerHTML = text; // eslint-disable-line no-restricted-properties -- made safe before",
)


def test_the_linter_refuses_what_runs_or_renders_a_string() -> None:
    """Each forbidden line is reported by its own rule; a directive with a reason allows one line."""
    lines = [*REFUSED, *ACCEPTED]
    # The comment stays at the end, where it covers its line and leaves the bracket alone.
    module = [
        f"export function sample{at}(element, text) {{ {code} }} {slashes}{comment}"
        for at, (code, slashes, comment) in enumerate(line.partition("//") for line in lines)
    ]
    run = subprocess.run(
        [
            ROOT / "tests/node_modules/.bin/eslint",
            *("--config", "tests/eslint.config.js", "--format", "json"),
            *("--stdin", "--stdin-filename", "halo_notebook/panel/static/sample.js"),
        ],
        cwd=ROOT,
        input="\n".join(module),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.stdout, run.stderr
    found: dict[str, set[str | None]] = {}
    for message in json.loads(run.stdout)[0]["messages"]:
        assert message["severity"] == 2, message
        found.setdefault(lines[message["line"] - 1], set()).add(message["ruleId"])
    missed = {line: found.get(line) for line, rule in REFUSED.items() if rule not in found.get(line, ())}
    assert missed == {}
    assert [line for line in ACCEPTED if line in found] == []


DIRECTIVE = re.compile(r"// eslint-disable-(next-)?line [\w/-]+(, [\w/-]+)* -- \S.*")


def test_a_directive_disables_one_rule_on_one_line_with_a_reason() -> None:
    """Every ESLint directive in the package names its rules and its reason, and applies to one line."""
    found = {
        f"{path.name}:{number}": line.strip()
        for path in STATIC.glob("*.js")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"/[/*]\s*(eslint|globals?|exported)\b", line) and not DIRECTIVE.search(line)
    }
    assert found == {}
