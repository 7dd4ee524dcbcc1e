"""The package in a browser, without a server: the JupyterLite site that `make lite` makes."""

from __future__ import annotations

import importlib.util
import json
import runpy
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook.demo import DemoAgent
from halo_notebook.demo.inprocess import DemoTransport
from halo_notebook.display import markdown as render
from halo_notebook.display import markdown_to_html

from .harness.hostile import TEXTS

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from .harness.lite import LitePage, Secure, Site


ROOT = Path(__file__).parents[1]
NOTEBOOKS = [
    ROOT / "notebooks" / name for name in runpy.run_path(str(ROOT / "notebooks/lite/build.py"))["NOTEBOOKS"]
]


@pytest.fixture(scope="module")
def lite_site() -> Iterator[Site]:
    """The site, on a port."""
    from .harness.lite import Site

    with Site() as site:
        yield site


@pytest.fixture
def lite(lite_site: Site) -> Iterator[LitePage]:
    """A page on it, with a browser profile of its own."""
    from .harness.lite import LitePage

    with LitePage(lite_site) as page:
        yield page


@pytest.fixture
def secure() -> Iterator[Secure]:
    """The demo agent on https, for pages of any origin."""
    from .harness.lite import Secure

    with Secure(DemoTransport(DemoAgent(first_byte_s=0.05, chunk_s=0.05))) as running:
        yield running


@pytest.mark.browser
def test_the_notebooks_run_without_a_server(lite: LitePage) -> None:
    """Each cell succeeds with the demo agent in the page, and no other host is asked for anything."""
    # One after the other in one kernel: a page takes its time to start another.
    together, *others = [json.loads(path.read_text()) for path in NOTEBOOKS]
    together["cells"] += [cell for notebook in others for cell in notebook["cells"]]
    lite.open_notebook(together)
    lite.run_all(timeout=100)
    for cell in lite.notebook()["cells"]:
        outputs = cell.get("outputs", [])
        assert not [output for output in outputs if output["output_type"] == "error"]
        if "".join(cell["source"]).startswith(("%%halo", "%halo ask")):
            told = [output["metadata"]["halo"] for output in outputs if "halo" in output.get("metadata", {})]
            assert [reply["status"] for reply in told] == ["complete"]
    assert lite.strangers == []
    assert lite.page_errors == []


@pytest.mark.browser
def test_a_panel_works_without_a_server(lite: LitePage) -> None:
    """Turns stream in while the kernel is free, can be stopped, and are the session's."""
    lite.open_notebook(
        [
            "from halo_notebook import ChatPanel\npanel = ChatPanel()\npanel",
            "%load_ext halo_notebook",
            "%halo ask What is my name?",
            "print([turn.reply.status for turn in panel.session.turns])",
        ]
    )
    page = lite.page
    page.evaluate("() => harness.startCell(0)")
    panel = page.locator(".halo-panel")
    box = panel.get_by_role("textbox", name="Message", exact=True)

    def say(text: str) -> None:
        box.fill(text)
        box.press("Enter")

    def turn(number: int) -> Locator:
        return panel.locator(f"article[aria-label='Turn {number}']")

    say("Write a long answer")
    turn(1).locator(".halo-reply p").first.wait_for()
    panel.get_by_role("button", name="Stop", exact=True).first.click()
    turn(1).get_by_text("stopped", exact=True).wait_for()
    say("My name is Ada")
    turn(2).locator(".halo-reply", has_text="Nice to meet you, Ada").wait_for()
    for cell in (1, 2, 3):
        page.evaluate("cell => harness.startCell(cell)", cell)
    lite.wait_until_idle()
    turn(3).locator(".halo-reply", has_text="Your name is Ada").wait_for()
    assert lite.printed(3) == "['stopped', 'complete', 'complete']\n"
    assert lite.page_errors == []


@pytest.mark.browser
def test_fetch_streams_keeps_the_session_and_sends_once(lite: LitePage, secure: Secure) -> None:
    """A service on another origin is reached, its reply comes piece by piece, and its ids are read.

    Chromium's own second try of a request that a kept connection lost does not reach the agent.
    """
    lite.open_notebook(
        [
            f"""
from halo_notebook import AsyncHaloClient, HaloClient
from halo_notebook.session import Session
settings = {{"api_key": "ab_live_x", "base_url": "{secure.url}/api/sdk"}}
session = Session("s")
session.ask(HaloClient(**settings), "My name is Ada")
print("Ada" in session.ask(HaloClient(**settings), "What is my name?").text, session.agent_id)""",
            """
reply = await AsyncHaloClient(**settings).ask("Show me Markdown")
print(reply.status, reply.elapsed_s - reply.first_text_s > 0.2)""",
            """
with HaloClient(**settings).stream("Write a long answer") as events:
    for event in events:
        break
print(events.reply.status)""",
            """
async def token():
    return "a.b.c"
print(HaloClient(**settings, user_token=token, user_id="ada").ask("help").status)""",
            """
client = HaloClient(**settings)
for message in ("help", "/fault close", "help", "/fault close"):
    try:
        print(client.ask(message).status)
    except Exception as error:
        print(type(error).__name__)""",
        ]
    )
    lite.run_all(timeout=90)
    assert [lite.printed(cell) for cell in range(5)] == [
        "True agent_demo\n",
        "complete True\n",
        "stopped\n",
        "complete\n",
        "complete\nReplyInterrupted\ncomplete\nReplyInterrupted\n",
    ]
    asked = [json.loads(body)["message"] for body in secure.bodies]
    assert len(asked) == 9
    assert asked[-4:] == ["help", "/fault close"] * 2


class Parts(HTMLParser):
    """HTML without what may differ: blanks in styles, and the order of attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.parts: list[object] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "style" in values:
            values["style"] = values["style"].replace(" ", "")
        self.parts.append((tag, values))

    def handle_endtag(self, tag: str) -> None:
        self.parts.append(tag)

    def handle_data(self, data: str) -> None:
        self.parts.append(("text", data))


@pytest.fixture
def stand_in() -> Any:
    """The site's nh3."""
    spec = importlib.util.spec_from_file_location("halo_lite_nh3", ROOT / "notebooks/lite/nh3/nh3.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", TEXTS)
def test_the_sites_sanitiser_lets_nothing_through(name: str, stand_in: Any) -> None:
    """Nothing is left in a hostile text, as HTML or as Markdown, that nh3 itself would not leave there."""
    cleaner = stand_in.Cleaner(**render.CLEANER_SETTINGS)
    raw = TEXTS[name].encode("utf-8", "replace").decode()  # nh3 itself takes no lone surrogate
    for html in (raw, markdown_to_html(TEXTS[name])):
        clean = cleaner.clean(html)
        assert Parts(render.CLEANER.clean(clean)).parts == Parts(clean).parts
