"""All that the package shows, in one notebook of JupyterLab, one of Notebook 7 and one of Voila.

A page takes seconds to load, so the tests of a class share one, in their order. JupyterLab's is loaded three
times more: in the middle of an arena's round, without its kernel, and as changed by another program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from .harness.contrast import CONTRASTS
from .harness.panel_page import AGENT, SHOW, PanelPage, page_of, printed

if TYPE_CHECKING:
    from pathlib import Path

    from .harness.kernels import Kernel
    from .harness.lab import Lab, LabPage
    from .harness.voila import VoilaPage

ASK = """\
%load_ext halo_notebook
import os
import ipywidgets
from halo_notebook import Action, DemoAgent, TextDelta

def reply(request):
    for number in range(20):
        yield TextDelta(f"Paragraph {number} has " + "so many words " * 10 + ".\\n\\n")
        while number == 10 and request["message"] == "wait" and not os.path.exists("go-on"):
            yield 0.02
    yield Action({"type": "create_ticket"})
    yield TextDelta("The end.")

magics = get_ipython().magics_manager.registry["HaloMagics"]
magics.connection.demo = DemoAgent(first_byte_s=0, reply=reply).start()
magics.demo_announced = True

def ask(message):
    get_ipython().run_line_magic("halo", "ask " + message)
"""
BUTTON = """\
asked = ipywidgets.Output()
button = ipywidgets.Button(description="Ask")
button.on_click(asked.capture()(lambda _: ask("Hello")))
display(button, asked)
"""
PAIR = """\
from halo_notebook import Action, DemoAgent, HaloClient, TextDelta
from halo_notebook.demo import DEMO_KEY

def reply(request):
    yield TextDelta("Begin <img src=x onerror=window.hit=1> ")
    yield Action({"type": "<img src=x onerror=window.hit=1>"})
    while request["agent_id"] == "b" and not os.path.exists("go-on"):
        yield 0.02
    yield TextDelta("and the end.")

agent = DemoAgent(first_byte_s=0, reply=reply).start()
client = HaloClient(DEMO_KEY, base_url=agent.url)
name = "<img src=x onerror=window.hit=1>"
pair = {"first": {"client": client, "agent_id": "a"}, name: {"client": client, "agent_id": "b"}}
"""
EXPLORE = """\
from halo_notebook import Action, DemoAgent, HaloClient, TextDelta, evaluate
from halo_notebook.checks import contains
from halo_notebook.demo import DEMO_KEY

def reply(request):
    yield TextDelta(f"You said: **{request['message']}**")
    yield Action({"type": "note"})

agent = DemoAgent(reply=reply, first_byte_s=0, chunk_s=0).start()
client = HaloClient(DEMO_KEY, base_url=agent.url)
cases = [{"id": f"<b>{n}</b>", "message": "Open a ticket" if n % 2 else "Hello"} for n in range(30)]
configs = {"chat": client, "voice": {"client": client, "mode": "voice"}}
result = evaluate(cases, {"tickets": contains("ticket")}, configs=configs, progress=False)
explorer = result.explore(height="500px")
explorer
"""
EVALUATE = """\
from halo_notebook import DemoAgent, HaloClient, evaluate
from halo_notebook.demo import DEMO_KEY

def judge(reply):
    return "ticket" in reply.text

agent = DemoAgent(first_byte_s=0, chunk_s=0).start()
client = HaloClient(DEMO_KEY, base_url=agent.url)
cases = [f"{'Open a ticket' if n % 2 else 'Hello'} {n}" for n in range(12)]
path = f"labelled-{os.urandom(4).hex()}.jsonl"
evaluate(cases, judge, configs={"hidden": client}, path=path, progress=False)
open("last-path", "w").write(path);
"""
LABEL = """\
from halo_notebook import Evaluation
Evaluation.open(open("last-path").read()).label(6, by="judge", author="ada")
"""
RESULT = """\
from halo_notebook import DemoAgent, HaloClient, evaluate
from halo_notebook.checks import action, contains
from halo_notebook.demo import DEMO_KEY
agent = DemoAgent(first_byte_s=0.05, chunk_s=0.005).start()
agent.faults.append("cut text")
client = HaloClient(DEMO_KEY, base_url=agent.url)
result = evaluate(
    [
        {"id": "memory", "turns": ["I am Ada", "What is my name?"], "expect": "Ada", "tags": ["memory"]},
        {"id": "<img src=x onerror=alert(1)>", "turns": ["Hello"], "expect": "nothing of it"},
        *[{"id": f"help {number}", "turns": ["How do I set up event tracking?"]} for number in range(8)],
    ],
    {"contains": contains(), "links": action("link")},
    configs={"chat": client, "voice": {"client": client, "mode": "voice"}},
    repeats=2,
)
result"""
ARENA = """\
from halo_notebook import ArenaPanel
other = HaloClient(DEMO_KEY, base_url=DemoAgent(reply=reply, first_byte_s=0).start().url)
arena = ArenaPanel({"plum": client, "quince": other})
arena
"""

CELLS = {
    "ask": ASK,
    "within": "out = ipywidgets.Output()\ndisplay(out)\nwith out: ask('Hello')",
    "button": BUTTON,
    "wait": "%halo ask wait",
    "pair": PAIR,
    "configs": "%%halo --configs pair\nHello",
    "explore": EXPLORE,
    "selected": "print(len(explorer.selected), set(explorer.selected['message']))",
    "rescore": "result.rescore({'polite': contains('please')});",
    "evaluate": EVALUATE,
    "label": LABEL,
    "result": RESULT,
    "plot": "result.plot()",
    "worst": "result.show(int(result.worst().index[1]))",
    "agent": AGENT,
    "panel": SHOW,
    "arena": ARENA,
    "votes": "print(arena.votes()['winner'].tolist())",
    "demo": "magics.connection.demo = DemoAgent(first_byte_s=0, chunk_s=0).start()",
    "tracking": "%%halo\nHow do I set up event tracking?",
}
AT = {name: index for index, name in enumerate(CELLS)}


def opened(server: Lab) -> Iterator[LabPage]:
    """A page with all cells, none of them run but the first."""
    with page_of(server) as page:
        page.open_notebook(list(CELLS.values()))
        page.run_cell(AT["ask"])
        yield page


def shown_once(text: str) -> None:
    """The reply is in the text, once and in order."""
    at = [text.find(f"Paragraph {number} has") for number in range(20)]
    assert -1 not in at and at == sorted(at)
    assert text.count("Paragraph 7 has") == text.count("The end.") == text.count("total") == 1
    assert "create_ticket" in text and "connecting" not in text


def side_by_side(page: LabPage) -> None:
    """Two columns stand beside each other; what is hostile in them has done nothing."""
    columns = page.cell_output(AT["configs"]).locator(".halo-column")
    first, second = (columns.nth(number).bounding_box() for number in (0, 1))
    assert first and second and abs(first["y"] - second["y"]) < 2 and first["x"] < second["x"]
    assert columns.nth(1).inner_text().startswith("<img src=x onerror=window.hit=1>\n")
    assert columns.locator("img").count() == 0 and page.page.evaluate("window.hit") is None


class InANotebook:
    """What is tested in each front end."""

    def test_two_configurations_stream_side_by_side(self, page: LabPage) -> None:
        """One column ends while the other waits; hostile names and replies do nothing."""
        cell = AT["configs"]
        page.hold()
        page.run_cell(AT["pair"])
        page.start_cell(cell)
        page.wait_for_text(cell, "and the end.")
        columns = page.cell_output(cell).locator(".halo-column")
        expect(columns).to_have_count(2)
        assert "and the end." not in columns.nth(1).inner_text()
        page.let_go()
        page.kernel_idle()
        page.wait_for_text(cell, "session default/<img src=x onerror=window.hit=1>")
        side_by_side(page)

    def test_the_explorer_finds_selects_and_opens(self, page: LabPage) -> None:
        """Find conversations, select them, open one by keyboard, and see what the program gets."""
        page.run_cell(AT["explore"])
        output = page.cell_output(AT["explore"])
        root = output.locator(".halo-explorer")
        root.locator(".halo-counts", has_text="60 conversations").wait_for(timeout=30_000)
        root.get_by_label("Search messages and replies").fill("open TICKET")
        root.locator(".halo-counts", has_text="30 of 60 conversations").wait_for()
        root.get_by_role("grid").focus()
        # Keys that mean something to the notebook, too.
        for key in ("Home", "ArrowDown", " ", "ArrowDown", " ", "Enter"):
            page.page.keyboard.press(key)
        root.get_by_role("heading", name="<b>3</b>").wait_for()
        root.locator(".halo-pane").get_by_role("tree").wait_for()
        root.get_by_role("button", name="Clear selection of 2").wait_for()
        page.run_cell(AT["selected"])
        page.wait_for_text(AT["selected"], "2 {'Open a ticket'}")
        page.run_cell(AT["rescore"])
        root.get_by_role("columnheader", name="polite").wait_for()
        expect(output.locator(".halo-evaluation"), "the static copy").to_be_hidden()
        assert page.axe(".halo-panel") == []

    def test_keys_label_replies(self, page: LabPage) -> None:
        """Also those that mean something to the notebook: B inserts a cell, F finds, P opens a list."""
        cells = page.page.locator(".jp-Cell").count()
        page.run_cell(AT["evaluate"])
        page.run_cell(AT["label"])
        output = page.cell_output(AT["label"])
        root = output.locator(".halo-labeller")
        progress = root.locator(".halo-progress-words")  # a screen reader hears of it before it is painted
        expect(progress).to_have_text("0 of 6 labelled")
        root.locator(".halo-pane").focus()
        for count, key in enumerate("pfu", 1):
            page.page.keyboard.press(key)
            expect(progress).to_have_text(f"{count} of 6 labelled")
        page.page.keyboard.press("b")
        root.locator("[aria-pressed=true]", has_text="Unsure").wait_for()
        page.page.keyboard.press("n")
        page.page.keyboard.type("probably fine")
        page.page.keyboard.press("Escape")
        page.page.keyboard.press("p")
        root.locator("[aria-pressed=true]").wait_for(state="hidden")
        page.painted()
        assert page.page.locator(".jp-Cell").count() == cells
        expect(output.get_by_text("Labelling needs"), "the static copy").to_be_hidden()

    def test_an_arena_hides_names_until_the_vote(self, page: LabPage) -> None:
        """Replies arrive side by side; in JupyterLab, the page is loaded again in the middle of a round."""
        page.run_cell(AT["agent"])
        page.run_cell(AT["arena"])
        root = page.cell_output(AT["arena"]).locator(".halo-arena")
        box = root.get_by_role("textbox", name="Message", exact=True)
        page.hold()
        box.fill("gate")
        box.press("Enter")
        root.get_by_text("half,").nth(1).wait_for()
        expect(root.get_by_role("button", name="A is best")).to_be_hidden()
        self.in_the_middle(page)
        root.get_by_text("half,").nth(1).wait_for()
        page.let_go()
        root.get_by_role("button", name="A is best").wait_for()
        html = root.evaluate("root => root.outerHTML")
        assert "plum" not in html and "quince" not in html and "agent_demo" not in html
        assert root.get_by_role("button", name="Edit message").count() == 0
        root.get_by_role("button", name="B is best").click()
        root.get_by_text("You preferred B").wait_for()
        titles = root.locator(".halo-arena-head .halo-title")
        expect(titles.filter(has_text=re.compile("^(plum|quince)$"))).to_have_count(2)
        names = titles.all_inner_texts()
        assert sorted(names) == ["plum", "quince"]
        assert printed(page, AT["votes"]) == str([names[1]])
        root.get_by_role("button", name="Export", exact=True).click()
        name, text = page.downloaded(root.get_by_role("button", name=f"{names[1]}: JSON", exact=True).click)
        assert name.endswith(f"{names[1]}.json")
        assert json.loads(text)["turns"][0]["vote"]["outcome"] == "won"
        root.get_by_role("button", name="New conversation").last.click()
        root.get_by_text("names hidden until the vote").wait_for()

    def in_the_middle(self, page: LabPage) -> None:
        """What happens while the arena's replies wait."""


@pytest.mark.browser
@pytest.mark.ci
class TestJupyterLab(InANotebook):
    """In JupyterLab, where more is shown, and shown again when the page is loaded again."""

    @pytest.fixture(scope="class")
    @classmethod
    def page(cls, lab_server: Lab) -> Iterator[LabPage]:
        """The page, in which no script throws."""
        yield from opened(lab_server)

    def in_the_middle(self, page: LabPage) -> None:
        """Load the page again."""
        page.reopen()

    def test_the_explorer_is_as_it_was_when_the_page_is_loaded_again(self, page: LabPage) -> None:
        """With what was searched for and selected. The arena's test has loaded the page again."""
        root = page.cell_output(AT["explore"]).locator(".halo-explorer")
        root.locator(".halo-counts", has_text="30 of 60 conversations").wait_for(timeout=30_000)
        expect(root.get_by_label("Search messages and replies")).to_have_value("open TICKET")
        root.get_by_role("button", name="Clear selection of 2").wait_for()
        page.screenshot("explorer-in-jupyterlab", cell=AT["explore"])
        page.screenshot("labelling-in-jupyterlab", cell=AT["label"])

    def test_an_output_widget_shows_a_reply_once(self, page: LabPage) -> None:
        """Also from a button."""
        within, button = AT["within"], AT["button"]
        page.run_cell(within)
        page.run_cell(button)
        page.cell_output(button).get_by_role("button", name="Ask").click()
        for cell in (within, button):
            page.wait_for_text(cell, "total")
            page.wait_for_text(cell, "create_ticket")  # a tree is painted after the text that follows it
            shown_once(page.cell_text(cell))

    def test_what_is_selected_stays_selected_while_a_reply_grows(self, page: LabPage) -> None:
        """In a cell."""
        cell = AT["wait"]
        page.hold()
        page.start_cell(cell)
        page.wait_for_text(cell, "Paragraph 10 has")
        first = page.cell_output(cell).locator(".halo-reply p").first
        first.select_text()
        page.let_go()
        page.wait_for_text(cell, "total")
        page.kernel_idle()
        assert page.page.evaluate("getSelection().toString()").strip() == first.inner_text()

    def test_a_result_is_legible(self, page: LabPage) -> None:
        """The progress bar, the table, the plot and a conversation: visible, in light and dark, and safe."""
        for name in ("result", "plot", "worst"):
            page.run_cell(AT[name], timeout=60)
        for words in (
            "40 conversations: 39 complete, 1 interrupted",
            "44/44",  # the bar, at its end
            " passed, ",
            "1 conversation got an error or no whole reply from the agent",
            "agent_demo",
            "<img src=x onerror=alert(1)>",
        ):
            page.wait_for_text(AT["result"], words)
        output = page.cell_output(AT["result"]).locator(".halo-evaluation")
        output.locator("summary", has_text="By tag").click()
        output.locator("table").nth(1).wait_for()
        plot = page.cell_output(AT["plot"]).locator("img")
        expect(plot).to_have_js_property("complete", True)
        assert plot.evaluate("each => each.naturalWidth") > 400
        page.wait_for_text(AT["worst"], "Hello")
        try:
            for scheme in ("Light", "Dark"):
                page.set_theme(f"JupyterLab {scheme}")
                page.screenshot(f"evaluation-{scheme.lower()}", cell=AT["result"])
                contrasts = page.page.evaluate(CONTRASTS, ".halo-evaluation")
                assert len(contrasts) >= 3
                assert {name: round(ratio, 2) for name, ratio in contrasts.items() if ratio < 4.5} == {}
                page.screenshot(f"evaluation-plot-{scheme.lower()}", cell=AT["plot"])
        finally:
            page.set_theme("JupyterLab Light")

    def test_a_saved_conversation_is_shown_where_nothing_runs(self, page: LabPage) -> None:
        """Hidden beside the live panel; shown by nbconvert."""
        from nbconvert import HTMLExporter

        from .harness.pages import ARTEFACTS

        page.run_cell(AT["agent"])
        page.run_cell(AT["panel"])
        output = page.cell_output(AT["panel"])
        panel = PanelPage(page, output)
        panel.ask("code")
        panel.ask("said last", "You said: said last")
        static = output.locator(".halo-static")
        panel.until(lambda: "said last" in str(static.text_content()), "the static copy's update")
        expect(static).to_be_hidden()
        page.save()
        exported = page.path.with_suffix(".html")
        exported.write_text(HTMLExporter().from_filename(str(page.path))[0], encoding="utf-8")
        browser = page.page.context.browser
        assert browser is not None
        context = browser.new_context(java_script_enabled=False)
        try:
            context.set_offline(True)
            alone = context.new_page()
            alone.goto(exported.as_uri(), wait_until="domcontentloaded")
            alone.get_by_text("You said: said last").wait_for()
            alone.get_by_text("Halo session docs").wait_for()
            alone.screenshot(path=ARTEFACTS / "panel-nbconvert.png")
        finally:
            context.close()
            exported.unlink()

    def test_each_widget_has_a_copy_when_its_kernel_is_gone(self, page: LabPage) -> None:
        """The explorer an overview, the panel its conversation; the same cell continues with the labels."""
        page.reopen(new_kernel=True)
        explorer = page.cell_output(AT["explore"])
        explorer.locator(".halo-evaluation", has_text="60 conversations: 60 complete").wait_for()
        panel = page.cell_output(AT["panel"])
        panel.locator(".halo-static").get_by_text("You said: said last").wait_for()
        page.run_cell(AT["label"])
        labeller = page.cell_output(AT["label"]).locator(".halo-labeller")
        expect(labeller.locator(".halo-progress-words")).to_have_text("3 of 6 labelled")
        expect(explorer.locator(".halo-explorer")).to_have_count(0)
        assert "model not found" not in panel.inner_text()
        assert "Loading widget" not in panel.inner_text()
        page.screenshot("panel-reopened", cell=AT["panel"])

    def test_replies_are_shown_where_nothing_is_trusted(self, page: LabPage) -> None:
        """The panel's conversation, and columns, in which nothing hostile is done."""
        page.reopen(trusted=False)
        panel = page.cell_output(AT["panel"])
        panel.locator(".halo-static").get_by_text("You said: said last").wait_for()
        page.screenshot("panel-reopened-untrusted", cell=AT["panel"])
        page.cell_output(AT["configs"]).locator(".halo-column").nth(1).wait_for()
        side_by_side(page)


@pytest.mark.browser
class TestNotebook7(InANotebook):
    """In Notebook 7, which handles keys before the page of a widget does."""

    @pytest.fixture(scope="class")
    @classmethod
    def page(cls, notebook7_server: Lab) -> Iterator[LabPage]:
        """The page, in which no script throws."""
        yield from opened(notebook7_server)

    def test_a_reply_with_an_action(self, page: LabPage) -> None:
        """Text, trees and the status line."""
        cell = AT["tracking"]
        page.run_cell(AT["demo"])
        page.run_cell(cell)
        page.wait_for_text(cell, "2 actions")
        output = page.cell_output(cell)
        expect(output.locator(".jp-RenderedJSON").nth(1)).to_contain_text("action 2: navigate")
        expect(output.locator(".halo-reply")).to_have_count(2)

    def test_columns_do_nothing_where_they_are_not_trusted(self, page: LabPage) -> None:
        """Saved, and changed by another program."""
        page.reopen(trusted=False)
        page.cell_output(AT["configs"]).locator(".halo-column").nth(1).wait_for()
        side_by_side(page)


@pytest.mark.browser
class TestVoila:
    """In a page without code."""

    @pytest.fixture(scope="class")
    @classmethod
    def voila(cls) -> Iterator[VoilaPage]:
        """A page on a Voila server of its own."""
        from .harness.voila import Voila, VoilaPage

        with Voila() as server, VoilaPage(server) as page:
            page.open_notebook([ASK, BUTTON, AGENT, SHOW])
            yield page
            assert page.page_errors == []

    def test_an_output_widget_shows_a_reply_once(self, voila: VoilaPage) -> None:
        """Output widgets ignore updates there, too."""
        voila.page.get_by_role("button", name="Ask").click()
        voila.page.get_by_text("total").wait_for()
        voila.page.get_by_text("create_ticket").first.wait_for()
        shown_once(voila.page.inner_text("#rendered_cells"))

    def test_a_panel_talks_to_its_kernel(self, voila: VoilaPage) -> None:
        """And keeps a draft when the page is loaded again."""
        from .harness.pages import ARTEFACTS

        panel = PanelPage(voila)
        panel.ask("actions", "After.")
        panel.ask("hello from Voila", "You said: hello from Voila")
        assert voila.axe(".halo-panel") == []
        ARTEFACTS.mkdir(exist_ok=True)
        voila.page.screenshot(path=ARTEFACTS / "panel-voila.png")
        panel.box.fill("a draft")
        voila.page.reload()  # with a new kernel
        panel = PanelPage(voila)
        expect(panel.box).to_have_value("a draft")


@pytest.mark.kernel
def test_a_terminal_gets_the_overview_of_a_result(kernel: Kernel) -> None:
    """Each output of the explorer has a text, and the second one the table as HTML."""
    shown = [output["data"] for output in kernel.run(EXPLORE).outputs if "data" in output]
    assert shown[0]["text/plain"] == "ResultExplorer(60 conversations)"
    assert "60 conversations: 60 complete" in shown[1]["text/plain"]
    assert "halo-evaluation" in shown[1]["text/html"] and "<script" not in shown[1]["text/html"]


@pytest.mark.kernel
def test_a_terminal_gets_one_line_of_a_labeller(kernel: Kernel, tmp_path: Path) -> None:
    """It names the way from code, and the rows."""
    kernel.run(f"import os\nos.chdir({str(tmp_path)!r})")
    kernel.run(EVALUATE)
    shown = [output["data"] for output in kernel.run(LABEL).outputs if "data" in output]
    assert shown[0]["text/plain"] == "LabelPanel(0 of 6 labels by 'ada')"
    assert shown[1]["text/plain"].startswith(
        "Labelling needs a notebook that shows widgets. From code, result."
    )
