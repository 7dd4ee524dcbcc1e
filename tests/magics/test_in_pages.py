"""A reply in a real JupyterLab and a real Voila: in an output widget, and while the reader selects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from halo_notebook.display.bundles import reply_bundle
from halo_notebook.reply import Reply
from halo_notebook.stream import TextDelta

if TYPE_CHECKING:
    from ..harness.lab import LabPage
    from ..harness.voila import VoilaPage

pytestmark = pytest.mark.browser
AGENT = """\
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
WITHIN = "out = ipywidgets.Output()\ndisplay(out)\nwith out: ask('Hello')"
BUTTON = """\
asked = ipywidgets.Output()
button = ipywidgets.Button(description="Ask")
button.on_click(asked.capture()(lambda _: ask("Hello")))
display(button, asked)
"""


def shown_once(text: str) -> None:
    """The reply is in the text, once and in order."""
    at = [text.find(f"Paragraph {number} has") for number in range(20)]
    assert -1 not in at and at == sorted(at)
    assert text.count("Paragraph 7 has") == text.count("The end.") == text.count("total") == 1
    assert "create_ticket" in text and "connecting" not in text


@pytest.mark.ci
def test_in_jupyterlab(lab: LabPage) -> None:
    """An output widget shows a reply once, also from a button; in a cell, a selection stays meanwhile.

    Code fits a narrow column.
    """
    lab.open_notebook([AGENT, WITHIN, BUTTON, "%halo ask wait"])
    for cell in range(3):
        lab.run_cell(cell)
    lab.wait_for_text(1, "total")
    lab.wait_for_text(1, "create_ticket")  # a tree is painted after the text that follows it
    shown_once(lab.cell_text(1))
    lab.cell_output(2).get_by_role("button", name="Ask").click()
    lab.wait_for_text(2, "total")
    lab.wait_for_text(2, "create_ticket")
    shown_once(lab.cell_text(2))

    lab.start_cell(3)
    lab.wait_for_text(3, "Paragraph 10 has")
    first = lab.cell_output(3).locator(".halo-reply p").first
    first.select_text()
    lab.let_go()
    lab.wait_for_text(3, "total")
    lab.kernel_idle()
    assert lab.page.evaluate("getSelection().toString()").strip() == first.inner_text()
    assert lab.page_errors == []

    # VS Code's page has no styles of its own for code.
    for code in ("```sh\n{}\n```", "- item\n\n  ```\n  {}\n  ```", "`{}`", "{}"):
        reply = Reply()
        reply.add(TextDelta("Run this:\n\n" + code.format("a-long-command" * 40)), 0.1)
        html = reply_bundle(reply, ["total"])["text/html"]
        lab.page.set_content(f'<div style="width:300px">{html}</div>')
        assert lab.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), code


def test_in_voila(voila: VoilaPage) -> None:
    """Output widgets ignore updates there, too."""
    voila.open_notebook([AGENT, BUTTON])
    voila.page.get_by_role("button", name="Ask").click()
    voila.page.get_by_text("total").wait_for()
    voila.page.get_by_text("create_ticket").first.wait_for()
    shown_once(voila.page.inner_text("#rendered_cells"))


PAIR = """\
%load_ext halo_notebook
import os
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


@pytest.mark.ci
def test_configurations_in_jupyterlab(lab: LabPage) -> None:
    """Two columns stream side by side."""
    side_by_side(lab)


@pytest.mark.ci
def test_configurations_in_notebook7(notebook7: LabPage) -> None:
    """As in JupyterLab."""
    side_by_side(notebook7)


def side_by_side(page: LabPage) -> None:
    """One column ends while the other waits; hostile names and replies do nothing, also when reopened."""
    page.open_notebook([PAIR, "%%halo --configs pair\nHello"])
    page.run_cell(0)
    page.start_cell(1)
    page.wait_for_text(1, "and the end.")
    columns = page.cell_output(1).locator(".halo-column")
    expect(columns).to_have_count(2)
    assert "and the end." not in columns.nth(1).inner_text()
    page.let_go()
    page.kernel_idle()
    page.wait_for_text(1, "session default/<img src=x onerror=window.hit=1>")

    def check() -> None:
        first, second = (columns.nth(number).bounding_box() for number in (0, 1))
        assert first and second and abs(first["y"] - second["y"]) < 2 and first["x"] < second["x"]
        assert columns.nth(1).inner_text().startswith("<img src=x onerror=window.hit=1>\n")
        assert columns.locator("img").count() == 0 and page.page.evaluate("window.hit") is None
        assert page.page_errors == []

    check()
    page.save()
    page.reopen(trusted=False)
    columns.nth(1).wait_for()
    check()
