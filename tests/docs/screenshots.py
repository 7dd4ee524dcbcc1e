"""Takes the pictures of README and docs: ``python -m tests.docs.screenshots``."""

from __future__ import annotations

import shutil
from pathlib import Path

from ..harness.lab import Lab, LabPage

PICTURES = Path(__file__).parents[2] / "notebooks" / "images"
START = "%load_ext halo_notebook\n%halo demo start"
PANEL = """\
from halo_notebook import ChatPanel
panel = ChatPanel("ticket", title="Tidemark support", height="720px")
panel
"""
EVALUATION = """\
from halo_notebook import evaluate
from halo_notebook.checks import contains, faster_than

cases = [
    {"id": "tracking", "turns": ["How do I set up event tracking?"], "expect": "write key", "tags": ["docs"]},
    {"id": "memory", "turns": ["My name is Ada", "What is my name?"], "expect": "Ada", "tags": ["memory"]},
    {"id": "ticket", "turns": ["Open a ticket"], "expect": "within the hour", "tags": ["actions"]},
    *[{"id": f"greeting {number}", "turns": [f"Hello, {number}"], "expect": "demo"} for number in range(12)],
]
result = evaluate(
    cases, [contains(), faster_than(total_s=3)], configs={"chat": {}, "voice": {"mode": "voice"}}, repeats=3
)
result
"""
EXPLORER = "result.explore()"
ARENA = """\
from halo_notebook import ArenaPanel, DemoAgent, HaloClient, TextDelta
from halo_notebook.demo import DEMO_KEY

answer = "Open **Settings → Event tracking**, copy your write key, and install the snippet."
other = DemoAgent(reply=lambda request: [TextDelta(answer)]).start()
configs = {"detailed": {}, "short": {"client": HaloClient(DEMO_KEY, base_url=other.url)}}
ArenaPanel(configs, title="Which answer helps?", height="520px")
"""


def main() -> None:
    """Ask the demo agent in JupyterLab, by magic, panel and `evaluate`, and keep each cell's picture."""
    with Lab() as server, LabPage(server, size=(960, 900)) as page:
        page.open_notebook(
            [START, "%%halo\nHow do I set up event tracking?", PANEL, EVALUATION, EXPLORER, ARENA]
        )
        page.run_cell(0)
        page.run_cell(1)
        page.wait_for_text(1, "2 actions")
        shutil.copy(page.screenshot("readme-reply", cell=1), PICTURES / "reply.png")

        page.run_cell(2)
        panel = page.cell_output(2).locator(".halo-panel")
        box = panel.get_by_role("textbox", name="Message", exact=True)
        box.fill("Open a ticket")
        box.press("Enter")
        panel.locator("article[aria-label='Turn 1'] footer:not([hidden])").wait_for()
        panel.get_by_role("treeitem").filter(has_text="ticket").last.click()
        panel.get_by_role("log").evaluate("log => { log.scrollTop = 0; }")
        box.hover()
        shutil.copy(page.screenshot("readme-panel", cell=2), PICTURES / "panel.png")

        page.page.set_viewport_size({"width": 1240, "height": 900})
        page.run_cell(3, timeout=60)
        page.wait_for_text(3, "The cases to look at first")
        shutil.copy(page.screenshot("readme-evaluation", cell=3), PICTURES / "evaluation.png")

        page.run_cell(4)
        explorer = page.cell_output(4).locator(".halo-explorer")
        explorer.get_by_role("row", name="ticket").first.click()
        explorer.get_by_role("treeitem").filter(has_text="ticket").last.wait_for()
        shutil.copy(page.screenshot("docs-explorer", cell=4), PICTURES / "explorer.png")

        page.page.set_viewport_size({"width": 960, "height": 900})
        page.run_cell(5)
        arena = page.cell_output(5).locator(".halo-arena")
        box = arena.get_by_role("textbox", name="Message", exact=True)
        box.fill("How do I set up event tracking?")
        box.press("Enter")
        arena.get_by_role("button", name="A is best").wait_for()
        for log in arena.get_by_role("log").all():
            log.evaluate("log => { log.scrollTop = 0; }")
        box.hover()
        shutil.copy(page.screenshot("docs-arena", cell=5), PICTURES / "arena.png")


if __name__ == "__main__":
    main()
