"""The page's logic, in Node.js: `node --test tests/panel/*.test.mjs` runs it alone."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from halo_notebook.display.json_tree import page_json
from halo_notebook.panel.assets import STATIC

from ..harness import hostile

if TYPE_CHECKING:
    from halo_notebook.stream import JSON

HERE = Path(__file__).parent
PRETTY = """
import {{ prettyJson }} from "{module}";
const texts = JSON.parse((await import("node:fs")).readFileSync(0, "utf-8"));
console.log(JSON.stringify(texts.map((text) => prettyJson(JSON.parse(text)))));
"""


def node(*args: str | Path, given: str = "") -> str:
    """What Node.js prints."""
    run = subprocess.run(
        ["node", *args],
        input=given,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def test_the_modules_do_what_their_tests_say() -> None:
    """Each test of json, tree and store passes."""
    tests = sorted(HERE.glob("*.test.mjs"))
    assert {test.name.partition(".")[0] for test in tests} == {"json", "store", "tree"}
    assert "\n# fail 0" in node("--test", "--test-reporter=tap", *tests)


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
        *("--eval", PRETTY.format(module=(STATIC / "json.js").as_uri())),
        given=json.dumps([page_json(payload) for payload in payloads]),
    )
    pretty = [json.dumps(payload, ensure_ascii=False, indent=2) for payload in payloads]
    # JavaScript writes half a character as an escape.
    assert json.loads(shown) == [
        re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):x}", text) for text in pretty
    ]
