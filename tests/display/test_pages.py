"""What a reader sees of a reply, in a real JupyterLab and a real browser.

A page takes seconds to load, so the tests share one, and each looks at cells that no other test runs.
Hostile samples have a page of their own, on which each is shown as the output of a cell that was just
run, because a front end trusts such outputs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from halo_notebook.display.bundles import reply_bundle

from ..harness import hostile
from ..harness.contrast import CONTRASTS
from ..harness.looks import safe_text
from ..harness.pages import BrowserPage
from ..harness.replies import reply_of

if TYPE_CHECKING:
    from playwright.sync_api import Request

    from ..harness.lab import Lab, LabPage

pytestmark = pytest.mark.browser

DEMO_KEY = "ab_live_demo"
TREES = ".jp-RenderedJSON"
"""JupyterLab's own JSON trees."""

AGENT = """\
import os
import time
from halo_notebook import Action, DemoAgent
from halo_notebook.demo import DEMO_KEY

WORDS = [f"word-{number}" for number in range(1, 2001)]

def reply(request):
    match request["message"]:
        case "wait for the file":
            yield b"A seat costs from $5 to $10.\\n\\n"
            yield Action({"type": "create_ticket", "ticket": {"id": 7}})
            yield b"**A square** is $x^2$, "
            while not os.path.exists("go-on"):
                yield 0.02
            yield b"and the *second half* too."
        case "stall":
            yield b"The text **before** the stop."
            yield 600.0
        case "2,000 words":
            for word in WORDS[:-1]:
                yield f"{word} ".encode()
                yield 0.001
            open("ended-at", "w").write(str(time.time()))
            yield WORDS[-1].encode()
        case message:
            yield f"You said: {message}".encode()

agent = DemoAgent(reply=reply, first_byte_s=0).start()
%config HaloMagics.api_key = DEMO_KEY
%config HaloMagics.base_url = agent.url
"""

CELLS = {
    "load": "%load_ext halo_notebook",
    "tracking": "%%halo\nHow do I set up event tracking?",
    "markdown": "%%halo\nShow me Markdown",
    "history": "%halo history",
    "fail": "%%halo\n/fault cut text",
    "after fail": "print('this cell was run')",
    "agent": AGENT,
    "stream": "%%halo\nwait for the file",
    "stop": "%%halo\nstall",
    "after stop": "%%halo\nhello again",
    "long": "%%halo\n2,000 words",
}
AT = {name: index for index, name in enumerate(CELLS)}

MAX_PAUSE = """
window.longestPause = 0;
let last = performance.now();
window.heartbeat = setInterval(() => {
  window.longestPause = Math.max(window.longestPause, performance.now() - last);
  last = performance.now();
}, 20);
"""


@pytest.fixture(scope="class")
def replies(lab_server: Lab) -> Iterator[LabPage]:
    """One page with all of `CELLS`, after a Run All, which ends at the cell that fails."""
    from ..harness.lab import LabPage

    with LabPage(lab_server) as page:
        page.open_notebook(list(CELLS.values()))
        page.run_all()
        page.wait_for_text(AT["fail"], "ReplyInterrupted")
        page.run_cell(AT["agent"])
        yield page
        (lab_server.root / "ended-at").unlink(missing_ok=True)
        assert page.page_errors == page.browser_dialogs == page.dialogs == []


@pytest.mark.kernel
class TestReplies:
    """Replies of the demo agent."""

    def test_text_is_shown_before_the_stream_ends(self, replies: LabPage) -> None:
        """While the agent holds back the second half, the first can be read in a cell that still runs.

        The action stands where it arrived, and what is selected above it stays selected. MathJax takes what
        is a formula, and nothing between two dollar signs that is none.
        """
        cell = AT["stream"]
        replies.start_cell(cell)
        replies.wait_for_text(cell, "A square is")
        expect(replies.cell(cell).locator(".jp-InputPrompt")).to_have_text("[*]:")
        assert "second half" not in replies.cell_text(cell)
        output = replies.cell_output(cell)
        output.locator(".halo-reply p").first.select_text()

        replies.let_go()
        replies.wait_for_text(cell, "and the second half too.")
        replies.wait_for_text(cell, "total")
        replies.kernel_idle()
        prices, square = output.locator(".halo-reply p").all()
        square.locator("mjx-container").wait_for()
        assert prices.inner_html() == "A seat costs from $5 to $10."
        assert "$" not in square.inner_text()
        shown = output.inner_text()
        assert shown.index("A seat") < shown.index("create_ticket") < shown.index("A square")
        assert replies.page.evaluate("String(getSelection())").strip() == "A seat costs from $5 to $10."
        space = square.locator("xpath=..").evaluate("reply => getComputedStyle(reply).marginTop")
        assert space == "8px", "below the action"

    def test_actions_are_trees_and_the_status_line_names_the_demo_agent(self, replies: LabPage) -> None:
        """JupyterLab's own tree opens on a click; a demo agent's reply cannot be taken for one of Halo's."""
        output = replies.cell_output(AT["tracking"])
        first, second = (output.locator(TREES).nth(number) for number in (0, 1))
        expect(first).to_contain_text("action 1: highlight")
        expect(second).to_contain_text("action 2: navigate")
        assert output.inner_text().count('"highlight"') == 1

        assert "2px solid" not in first.inner_text()
        first.get_by_text("style", exact=True).click()
        first.get_by_text('"2px solid"').wait_for()

        status = output.locator(".halo-status", has_text="total").inner_text()
        assert status.startswith("demo agent · agent agent_demo · session default · first text ")
        assert status.endswith(" · 2 actions")

    def test_a_reply_that_breaks_off_fails_its_cell(self, replies: LabPage) -> None:
        """The text stays, with 'failed' beside it and one line that says why; Run All went no further."""
        output = replies.cell_output(AT["fail"])
        expect(output.locator(".halo-reply")).to_have_text("This reply will be cut in the middle of a sen")
        output.locator(".halo-status").get_by_text("failed", exact=True).wait_for()
        error = output.locator('[data-mime-type="application/vnd.jupyter.stderr"]').inner_text().strip()
        assert error.startswith("ReplyInterrupted: ") and "\n" not in error
        assert replies.cell_text(AT["after fail"]) == ""

    def test_the_stop_button_keeps_the_text_received_so_far(self, replies: LabPage) -> None:
        """The cell ends at once, says 'stopped' under its text, and the next cell gets its reply."""
        replies.start_cell(AT["stop"])
        replies.wait_for_text(AT["stop"], "The text before the stop.")
        replies.interrupt()
        replies.wait_for_text(AT["stop"], "ReplyStopped: ")
        replies.kernel_idle()
        output = replies.cell_output(AT["stop"])
        expect(output.locator(".halo-reply")).to_have_text("The text before the stop.")
        output.locator(".halo-status").get_by_text("stopped", exact=True).wait_for()
        replies.run_cell(AT["after stop"])
        replies.wait_for_text(AT["after stop"], "You said: hello again")

    def test_a_long_answer_keeps_pace(self, replies: LabPage) -> None:
        """The last of 2,000 words is seen soon after it was sent, and the page never hangs meanwhile."""
        cell = AT["long"]
        replies.page.evaluate(MAX_PAUSE)
        replies.start_cell(cell)
        last = replies.cell_output(cell).locator(".halo-reply", has_text="word-1999 word-2000")
        last.wait_for(timeout=60_000)
        seen = time.time()
        sent = float((replies.lab.root / "ended-at").read_text())
        longest_pause_ms = replies.page.evaluate("() => (clearInterval(heartbeat), longestPause)")
        replies.kernel_idle()
        assert seen - sent < 3
        assert longest_pause_ms < 1_500
        texts = replies.cell_output(cell).locator(".halo-reply").all_inner_texts()
        assert len(" ".join(texts).split()) == 2_000

    @pytest.mark.parametrize("theme", ["Light", "Dark"])
    def test_all_text_can_be_read(self, replies: LabPage, theme: str) -> None:
        """The contrast of text, code, links, status lines and plain HTML trees is at least 4.5 to 1."""
        replies.set_theme(f"JupyterLab {theme}")
        try:
            replies.page.evaluate(
                "document.querySelectorAll('.halo-json details').forEach(node => { node.open = true; })"
            )
            contrasts = replies.page.evaluate(CONTRASTS, ".halo-reply, .halo-status, .halo-json")
        finally:
            replies.set_theme("JupyterLab Light")
        assert {name.split()[0] for name in contrasts} == {"halo-reply", "halo-status", "halo-json"}
        assert any("code" in name for name in contrasts)
        assert {name: round(ratio, 2) for name, ratio in contrasts.items() if ratio < 4.5} == {}

    @pytest.mark.ci
    def test_a_reply_is_legible_where_it_is_not_trusted(self, replies: LabPage) -> None:
        """Saved and reopened untrusted, text, action and status line are there; the file has no secret."""
        replies.reopen(trusted=False)
        cell = AT["tracking"]
        for text in ("Setting up event tracking", "action 1: highlight", "#event-tracking", "demo agent"):
            replies.wait_for_text(cell, text)
        output = replies.cell_output(cell)
        assert output.locator(".jp-mod-trusted").count() == 0
        assert "Error" not in output.inner_text()
        assert replies.dialogs == []

        outputs = replies.saved()["cells"][cell]["outputs"]
        (about,) = [each["metadata"]["halo"] for each in outputs if "halo" in each.get("metadata", {})]
        assert about["session_id"].startswith("sess_")
        assert (about["agent_id"], about["source"]) == ("agent_demo", "demo agent")
        saved = replies.path.read_text()
        assert DEMO_KEY not in saved and replies.lab.token not in saved


HOSTILE = f"""\
import json, sys, time
sys.path.insert(0, {str(Path(hostile.__file__).parent)!r})
import hostile
from halo_notebook import Action, Reply, TextDelta
from halo_notebook.display.pacer import Pacer
from halo_notebook.magics.screens.notebook import NotebookScreen

due = 0.0

def paced(message):
    # The server drops outputs above 1 MB a second.
    global due
    time.sleep(max(0.0, due - time.monotonic()))
    size = len(json.dumps(message["content"]["data"], ensure_ascii=False).encode("utf-8", "replace"))
    due = max(due, time.monotonic()) + size / 900_000
    return message

get_ipython().display_pub.register_hook(paced)

def show(event):
    reply = Reply()
    reply.add(event, 0.1)
    screen = NotebookScreen(reply, Pacer(), dict)
    screen.begin("waiting")
    screen.finish(["total"])
    return reply

def texts(names):
    for name in names:
        show(TextDelta(hostile.TEXTS[name]))

def payloads(names):
    for name in names:
        display(show(Action(hostile.PAYLOADS[name])))  # the reply shows itself as HTML
"""


# JupyterLab shows the first 50 outputs of a cell. A payload here has three, a text two, and a long one more.
HOSTILE_CELLS = [
    HOSTILE,
    *(f"texts([*hostile.TEXTS][{at}:{at + 12}])" for at in range(0, len(hostile.TEXTS), 12)),
    "show(TextDelta('\\n\\n'.join(text for text in hostile.TEXTS.values() if len(text) < 5_000)))",
    *(f"payloads([*hostile.PAYLOADS][{at}:{at + 16}])" for at in range(0, len(hostile.PAYLOADS), 16)),
    "show(TextDelta('At the end: $x^2$'));",
]

WATCH_COMMANDS = """
window.commandsRun = [];
jupyterapp.commands.commandExecuted.connect((_, command) => commandsRun.push(command.id));
"""
TRUST = "for (const cell of harness.panel().content.widgets) cell.model.trusted = true;"

# Each formula would lay out the whole page again.
LEAVE_OUT = """
const sheet = new CSSStyleSheet();
sheet.replaceSync('.jp-OutputArea-output { content-visibility: auto }');
document.adoptedStyleSheets.push(sheet);
"""

UNSAFE_PARTS = """
() => {
  const found = [];
  const forbidden = `script, style, link, meta, base, iframe, frame, object, embed, form, img, video, audio,
    dialog`;
  for (const element of document.querySelectorAll('.jp-OutputArea-output *')) {
    const address = element.href && (element.href.baseVal || element.href);
    const ours = element.closest('.halo-reply') && !element.closest('mjx-container');
    if (element.matches(forbidden) || (address && !/^(https?|mailto):/.test(address))
      || (ours && !['static', 'relative'].includes(getComputedStyle(element).position))
      || [...element.attributes].some(({ name, value }) => /^(on|data-commandlinker)/.test(name)
        || (/^\\s*(javascript|vbscript|data)\\s*:/i.test(value) && name !== 'title'))) {
      found.push(element.outerHTML.slice(0, 300));
    }
  }
  return found;
}
"""
# What stands in each reply, without what MathJax makes of a formula and JupyterLab of a heading or a link.
REPLIES = """
() => [...document.querySelectorAll('.halo-reply')].map(reply => {
  const copy = reply.cloneNode(true);
  for (const added of copy.querySelectorAll('mjx-container, .numbering-entry')) added.remove();
  for (const link of copy.querySelectorAll('a[rel=noopener]')) link.rel = 'noopener noreferrer';
  return copy.innerHTML;
})
"""


@pytest.mark.ci
class TestHostile:
    """Replies that attack the page they are shown in."""

    @pytest.fixture
    def attacked(self, lab: LabPage) -> LabPage:
        """A page on which every sample has been shown, each in a turn of its own."""
        self.strangers: list[str] = []
        home = urlsplit(lab.lab.url).netloc

        def note(request: Request) -> None:
            address = urlsplit(request.url)
            if address.scheme not in ("data", "blob", "about") and address.netloc != home:
                self.strangers.append(request.url)

        lab.page.on("request", note)
        # A flood of headings would fill the table of contents again with each output.
        lab.lab.change_settings("@jupyterlab/toc-extension/registry", includeOutput=False)
        lab.page.add_init_script(LEAVE_OUT)
        lab.open_notebook(HOSTILE_CELLS)
        for cell in range(len(HOSTILE_CELLS)):
            lab.run_cell(cell, timeout=90)
        return lab

    def check(self, page: LabPage) -> None:
        """Assert that every sample is on the page and that none did anything."""
        payloads = len(hostile.PAYLOADS)
        # Each payload once as JupyterLab's own tree, and once more as HTML.
        ends = page.page.locator(".halo-status", has_text="total")
        # What a cell has shown last may be painted after its end.
        expect(ends).to_have_count(len(hostile.TEXTS) + 2 + payloads)
        for trees in (TREES, ".halo-json"):
            expect(page.page.locator(trees)).to_have_count(payloads)
        page.cell_output(len(HOSTILE_CELLS) - 1).locator("mjx-container").wait_for()
        page.page.wait_for_function(
            "() => !document.querySelector('.mathjax_process:not(:has(mjx-container))')"
        )
        assert page.page.evaluate(UNSAFE_PARTS) == []
        for html in page.page.evaluate(REPLIES):
            safe_text(html)
        self.check_nothing_ran(page)

    def check_nothing_ran(self, page: LabPage) -> None:
        """Assert that no script, request or dialog of a sample is to be seen."""
        assert page.page.evaluate("() => window.__halo_pwned ?? ({}).polluted") is None
        assert page.dialogs == page.browser_dialogs == page.page_errors == self.strangers == []
        assert len(page.page.context.pages) == 1

    @pytest.mark.timeout(300)
    def test_no_sample_does_anything(self, attacked: LabPage) -> None:
        """Run, saved and reopened, trusted or not: no script, no request, no dialog, nothing but text."""
        self.check(attacked)

        page = attacked.page
        page.evaluate(WATCH_COMMANDS)
        for text in ("data-commandlinker-command", "onload=", "[click](javascript:", "onclick="):
            page.locator(".halo-reply").get_by_text(text).first.click()
        for tree in (TREES, ".halo-json"):
            page.locator(tree).get_by_text("data-commandlinker-command").first.click()
        attacked.painted()
        assert page.evaluate("commandsRun") == []
        self.check_nothing_ran(attacked)

        attacked.reopen(trusted=False)
        self.check(attacked)
        assert attacked.page.locator(".jp-mod-trusted .halo-reply").count() == 0

        shown = attacked.page.locator(".halo-reply").count()
        assert shown > len(hostile.TEXTS)
        attacked.page.evaluate(TRUST)
        trusted = attacked.page.locator(".jp-mod-trusted .halo-reply")
        attacked.page.wait_for_function(
            "() => !document.querySelector('.jp-OutputArea-output:not(.jp-mod-trusted) .halo-reply')"
        )
        expect(trusted).to_have_count(shown)
        self.check(attacked)


def test_code_fits_a_narrow_column() -> None:
    """Also in a page that has no styles of its own for code, as in VS Code."""
    with BrowserPage() as browser:
        for code in ("```sh\n{}\n```", "- item\n\n  ```\n  {}\n  ```", "`{}`", "{}"):
            reply = reply_of("Run this:\n\n" + code.format("a-long-command" * 40))
            html = reply_bundle(reply, ["total"])["text/html"]
            browser.page.set_content(f'<div style="width:300px">{html}</div>')
            assert browser.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), code
