"""The package in a browser, without a server: the JupyterLite site that `make lite` makes."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from halo_notebook.demo import DemoAgent
from halo_notebook.demo.inprocess import DemoTransport

from .harness.images import file, give, png

if TYPE_CHECKING:
    from playwright.sync_api import Locator

    from .harness.lite import LitePage, Secure


ROOT = Path(__file__).parents[1]
NOTEBOOKS = [
    ROOT / "notebooks" / name for name in runpy.run_path(str(ROOT / "notebooks/lite/build.py"))["NOTEBOOKS"]
]
PANEL_CELLS = [
    # As in a browser without JSPI, where sync code cannot wait.
    """
import pyodide.ffi
from halo_notebook import ChatPanel
can_wait, pyodide.ffi.can_run_sync = pyodide.ffi.can_run_sync, lambda: False
panel = ChatPanel('talk')
panel""",
    "pyodide.ffi.can_run_sync = can_wait\n%load_ext halo_notebook\n%halo use talk",
    "%halo ask What is my name?",
    "print([turn.reply.status for turn in panel.session.turns])",
]
FETCH_CELLS = [
    """
from halo_notebook import AsyncHaloClient, HaloClient
from halo_notebook.session import Session
settings = {{"api_key": "ab_live_x", "base_url": "{url}/api/sdk"}}
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
REFUSED_CELL = """
from halo_notebook import HaloClient, ConfigError
from pyodide.code import run_js
unlike = [
    # As in Firefox: a request has no `duplex`, and its body becomes a text.
    "delete Request.prototype.duplex",
    # As in a browser that streams bodies of requests in a service worker only.
    "Object.defineProperty(Request.prototype, 'duplex', {{ get: () => undefined, configurable: true }})",
    # `duplex` is known, and the body is a text all the same.
    '''
    Object.defineProperty(Request.prototype, 'duplex', {{ get: () => 'half', configurable: true }});
    Request = class extends Request {{
      constructor(url, options) {{ super(url, {{ ...options, body: String(options.body) }}); }}
    }}''',
]
before = run_js("[Request, Object.getOwnPropertyDescriptor(Request.prototype, 'duplex')]")
for script in unlike:
    run_js(script)
    try:
        HaloClient("ab_live_x", base_url="{url}/api/sdk").ask("help")
    except ConfigError as error:
        print(error)
run_js('''([request, duplex]) => {{
  Request = request;
  if (duplex) Object.defineProperty(Request.prototype, 'duplex', duplex);
}}''')(before)
"""


@pytest.fixture(scope="module")
def secure() -> Iterator[Secure]:
    """The demo agent on https, for pages of any origin."""
    from .harness.lite import Secure

    with Secure(DemoTransport(DemoAgent(first_byte_s=0.05, chunk_s=0.05))) as running:
        yield running


@pytest.fixture(scope="module")
def lite(secure: Secure) -> Iterator[LitePage]:
    """A page on the site with the cells of all tests in one notebook, because starting Python takes long."""
    from .harness.lite import LitePage, Site
    from .harness.pages import notebook_of

    tutorials = [cell for path in NOTEBOOKS for cell in json.loads(path.read_text())["cells"]]
    fetching = [FETCH_CELLS[0].format(url=secure.url), *FETCH_CELLS[1:]]
    notebook = notebook_of([*PANEL_CELLS, *fetching, REFUSED_CELL.format(url=secure.url)])
    notebook["cells"] += tutorials
    with Site() as site, LitePage(site) as page:
        page.open_notebook(notebook)
        yield page


@pytest.mark.browser
def test_a_panel_works_without_a_server(lite: LitePage) -> None:
    """Turns stream while the kernel is free, can be stopped, and belong to the session; without JSPI, too."""
    lite.page.evaluate("() => harness.startCell(0)")
    panel = lite.page.locator(".halo-panel").first
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
    lite.run_cells(1, 2, 3)
    turn(3).locator(".halo-reply", has_text="Your name is Ada").wait_for()
    assert lite.printed(3) == "['stopped', 'complete', 'complete']\n"
    # A file reaches this kernel, too.
    give(box, "paste", file("a.png", png(noise=b"x" * 1_200_000)))
    panel.get_by_role("group", name="Images to send").get_by_role("img").wait_for()
    say("Goodbye")
    turn(4).locator(".halo-asked").get_by_role("img", name="a.png").wait_for()
    assert lite.page_errors == []


@pytest.mark.browser
@pytest.mark.chromium  # others cannot stream the body of a request
def test_fetch_streams_keeps_the_session_and_sends_once(lite: LitePage, secure: Secure) -> None:
    """A service on another origin is reached, its reply arrives in pieces, and its ids are read.

    Chromium repeats a request when a kept connection is lost; the repetition does not reach the agent.
    """
    first = len(PANEL_CELLS)
    numbers = range(first, first + len(FETCH_CELLS))
    lite.run_cells(*numbers, timeout=90)
    assert [lite.printed(cell) for cell in numbers] == [
        "True agent_demo\n",
        "complete True\n",
        "stopped\n",
        "complete\n",
        "complete\nReplyInterrupted\ncomplete\nReplyInterrupted\n",
    ]
    asked = [json.loads(body)["message"] for body in secure.bodies]
    assert len(asked) == 9
    assert asked[-4:] == ["help", "/fault close"] * 2


@pytest.mark.browser
def test_nothing_is_sent_by_a_browser_that_cannot_stream_a_body(lite: LitePage, secure: Secure) -> None:
    """Neither in Firefox nor where Chromium behaves like another browser: the error says what to do."""
    cell = len(PANEL_CELLS) + len(FETCH_CELLS)
    already = len(secure.bodies)
    lite.run_cells(cell)
    lines = lite.printed(cell).splitlines()
    assert len(lines) == 3
    assert all("Nothing was sent; open this page in Chrome or Edge." in line for line in lines)
    assert len(secure.bodies) == already


@pytest.mark.browser
def test_the_notebooks_run_without_a_server(lite: LitePage) -> None:
    """Each cell succeeds with the demo agent in the page, which asks no other host for anything."""
    first = len(PANEL_CELLS) + len(FETCH_CELLS) + 1
    kinds = [cell["cell_type"] for cell in lite.notebook()["cells"]]
    lite.run_cells(*(cell for cell in range(first, len(kinds)) if kinds[cell] == "code"), timeout=100)
    for cell in lite.notebook()["cells"][first:]:
        outputs = cell.get("outputs", [])
        assert not [output for output in outputs if output["output_type"] == "error"]
        if "".join(cell["source"]).startswith(("%%halo", "%halo ask")):
            replies = [
                output["metadata"]["halo"] for output in outputs if "halo" in output.get("metadata", {})
            ]
            assert [reply["status"] for reply in replies] == ["complete"]
    assert lite.strangers == []
    assert lite.page_errors == []
