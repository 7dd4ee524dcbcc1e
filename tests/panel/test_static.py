"""The front end's files: they are complete, tested, style only the panel, and turn no string into code."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import tinycss2

from halo_notebook.display.json_tree import page_json
from halo_notebook.panel.assets import STATIC, bundle, styles

from ..harness import hostile

if TYPE_CHECKING:
    from halo_notebook.stream import JSON

ROOT = Path(__file__).parents[2]


def is_scoped(selector: str, *, nested: bool) -> bool:
    """Whether a selector fits only a panel and what is in it; `nested` in a rule that does."""
    # anywidget puts a widget's CSS into the page's head, where it applies to all of JupyterLab.
    if not nested:
        return selector == ".halo-panel"
    while (shorter := re.sub(r"\([^()&]*\)", "", selector)) != selector:
        selector = shorter
    # From what `&` stands for it may go inwards only, not to a neighbour or to what contains it.
    return not re.search(r"\(|^[+~]|&[^&]*[+~][^&]*$", selector)


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
    ("css", "found"),
    [
        (".halo-panel { .a, > .a + .b, .a:hover::before { color: red } }", []),
        (".halo-panel { [data-jp-theme-light=false] &, :is(.a, .b) > & .c { color: red } }", []),
        (".halo-panel { &:not(.a, .b:has(p)) .c, &.a { color: red } &:hover > b { color: red } }", []),
        ("@media (width < 20em) { .halo-panel { color: red } }", []),
        (".halo-panel { @container (width < 20em) { .a { color: red } color: red } }", []),
        ("@keyframes halo-wait { from { opacity: 0 } 50% { opacity: 1 } } /* .a {} */", []),
        (".halo-panel, .a { color: red }", [".a"]),
        (".halo-panels { color: red }", [".halo-panels"]),
        (".halo-panel + p { color: red }", [".halo-panel + p"]),
        (":is(.halo-panel, .a) b { color: red }", [":is(.halo-panel, .a) b"]),
        (".halo-panel { ~ p { color: red } }", ["~ p"]),
        (".halo-panel { &:not(.a, .b) + p { color: red } }", ["&:not(.a, .b) + p"]),
        (".halo-panel { p:has(&) { color: red } }", ["p:has(&)"]),
        ("@media print { body { color: red } }", ["body"]),
        ("@keyframes spin { from { opacity: 0 } }", ["@keyframes spin"]),
        ('@import "https://example.com/a.css";', ['@import "https://example.com/a.css";']),
        ("@font-face { font-family: a }", ["@font-face { font-family: a }"]),
    ],
)
def test_a_rule_that_reaches_beyond_the_panel_is_found(css: str, found: list[str]) -> None:
    """The check names each rule that would change the rest of the page or load from another host."""
    assert list(unscoped(css)) == found


def node(*args: str | Path, given: str = "") -> str:
    """What Node.js prints."""
    run = subprocess.run(
        ["node", *args], cwd=ROOT, input=given, capture_output=True, encoding="utf-8", timeout=60, check=False
    )
    assert run.stdout, run.stderr
    return run.stdout


def test_the_package_styles_its_panel_only() -> None:
    """Every rule in the package's style sheets is scoped under the panel's class."""
    found = {path.name: list(unscoped(path.read_text())) for path in STATIC.rglob("*.css")}
    assert set(found) == {"arena.css", "explorer.css", "labels.css", "panel.css", "tree.css", "turn.css"}
    every = styles("explorer/explorer.css", "arena/arena.css", "labels/labels.css")
    assert all(path.read_text() in every for path in STATIC.rglob("*.css"))
    assert {name: rules for name, rules in found.items() if rules} == {}


SHARED = (
    "dom",
    "edit",
    "frame",
    "host",
    "images",
    "json",
    "keep",
    "link",
    "menu",
    "status",
    "text",
    "tree",
    "turn",
)
CHAT = ("chat_frame", "composer", "export", "store", "transcript")
LABELS = ("label_queue", "labels")
WIDGETS = {
    "chat/panel.js": {"header", "panel", "sessions", *CHAT, *SHARED},
    "arena/arena.js": {"arena", "arena_store", *CHAT, *SHARED},
    "labels/label_panel.js": {"conversation", "label_panel", *LABELS, *SHARED},
    "explorer/explorer.js": {
        "comparison",
        "conversation",
        "explorer",
        "filters",
        "found",
        "table",
        *LABELS,
        *SHARED,
    },
}


@pytest.mark.parametrize("entry", WIDGETS)
def test_the_modules_are_joined_into_one(tmp_path: Path, entry: str) -> None:
    """The result imports nothing, contains each module that it needs once, and is a valid module."""
    assert {path.stem for path in STATIC.rglob("*.js")} == set[str]().union(*WIDGETS.values())
    text = bundle(entry)
    for path in STATIC.rglob("*.js"):
        assert text.count(path.read_text("utf-8").splitlines()[0]) == (path.stem in WIDGETS[entry]), path.name
    exports = re.findall("^(?:import|export) .*", text, re.MULTILINE)
    assert len(exports) == 1 and exports[0].startswith("export default frontEnd(")
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
    report = node(
        ROOT / "tests/node_modules/.bin/eslint",
        *("--config", "tests/eslint.config.js", "--format", "json"),
        *("--stdin", "--stdin-filename", "halo_notebook/panel/static/sample.js"),
        given="\n".join(module),
    )
    found: dict[str, set[str | None]] = {}
    for message in json.loads(report)[0]["messages"]:
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
        for path in STATIC.rglob("*.js")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"/[/*]\s*(eslint|globals?|exported)\b", line) and not DIRECTIVE.search(line)
    }
    assert found == {}


def test_the_modules_do_what_their_tests_say() -> None:
    """Each test passes."""
    tests = sorted(Path(__file__).parent.glob("*.test.mjs"))
    names = {test.name.partition(".")[0] for test in tests}
    assert names == {"arena_store", "found", "host", "json", "label_queue", "store", "tree"}
    assert "\n# fail 0" in node("--test", "--test-reporter=tap", *tests)


PRETTY = """
import {{ prettyJson }} from "{module}";
const texts = JSON.parse((await import("node:fs")).readFileSync(0, "utf-8"));
console.log(JSON.stringify(texts.map((text) => prettyJson(JSON.parse(text)))));
"""


def test_a_payload_is_the_same_in_the_kernel_and_in_the_page() -> None:
    """Numbers, keys and strings, whatever an agent sends."""
    payloads: list[JSON] = [
        *hostile.PAYLOADS.values(),
        [0, -0.0, 1.0, -1.5, 0.1, 1e-5, 1e-7, 1.5e16, 1e21, 5e-324, 2**53 - 1, 2**53, -(2**63), 10**4_000],
        {"b": 1, "1": 2, "0": 3, "01": 4, "-1": 5, "4294967295": 6, "\ue0001": 7, "": 8, "a\\": {'"': ":1"}},
        ["\ue000", "\ue0001.0", "\ue000\ue000", '"1":', "\\", "1.0", True, False, None, {}, []],
    ]
    shown = node(
        "--input-type=module",
        *("--eval", PRETTY.format(module=(STATIC / "shared/json.js").as_uri())),
        given=json.dumps([page_json(payload) for payload in payloads]),
    )
    pretty = [json.dumps(payload, ensure_ascii=False, indent=2) for payload in payloads]
    # JavaScript writes half a character as an escape.
    assert json.loads(shown) == [
        re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):x}", text) for text in pretty
    ]
