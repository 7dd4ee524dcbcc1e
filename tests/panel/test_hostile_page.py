"""An agent that attacks the page of a panel."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

from ..harness import hostile
from ..harness.panel_page import PanelPage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from halo_notebook.stream import JSON

    from ..harness.lab import LabPage

pytestmark = [pytest.mark.browser, pytest.mark.ci]

HOSTILE_AGENT = f"""\
import json, sys, time
sys.path.insert(0, {str(Path(hostile.__file__).parent)!r})
import hostile
from halo_notebook import Action, ChatPanel, DemoAgent, HaloClient, TextDelta, current_session
from halo_notebook.demo import DEMO_KEY

def reply(request):
    kind, rest = request["message"].split(" ", 1)
    if kind == "text":
        for at, name in enumerate(rest.split()):
            if at:
                yield Action({{"type": "between"}})  # a text after it is one of its own
            yield TextDelta(hostile.TEXTS[name])
    elif kind == "payload":
        for name in rest.split():
            yield Action(hostile.PAYLOADS[name])
    else:
        yield TextDelta("You said so.")

agent = DemoAgent(reply=reply, first_byte_s=0).start()
panel = ChatPanel(client=HaloClient(DEMO_KEY, base_url=agent.url), height="600px")
panel
"""


def grouped(samples: Mapping[str, JSON]) -> list[str]:
    """The names of samples to show in one reply: a large one alone, small ones eight at a time."""
    small = [name for name, sample in samples.items() if len(str(sample)) < 1_000]
    groups = [" ".join(small[at : at + 8]) for at in range(0, len(small), 8)]
    return [*groups, *(name for name in samples if name not in small)]


TEXTS, PAYLOADS = grouped(hostile.TEXTS), grouped(hostile.PAYLOADS)
CARDS = len(hostile.PAYLOADS) + sum(names.count(" ") for names in TEXTS)
HOSTILE_TURNS = f"""\
def go(kind, names):
    for name in names:
        reply = panel.ask(kind + " " + name).result()
        # The server drops more than a megabyte a second. A payload goes out twice, a large one in part.
        time.sleep(min(len(json.dumps(reply.to_dict())), 700_000) / 350_000)

go("text", {TEXTS!r})
go("payload", {PAYLOADS!r})
together = "\\n\\n".join(text[:2_000] for text in hostile.TEXTS.values() if text.strip())
go("message", [together[start:start + 9_000] for start in range(0, len(together), 9_000)])
current_session('<img src=x onerror="window.__halo_pwned=1">')
panel.send(dict(kind="notice", text='<img src=x onerror="window.__halo_pwned=1">'))
print(len(panel.session.turns))
"""
UNSAFE = """
root => [...root.querySelectorAll('*')]
  .filter(one => one.matches('script, iframe, object, embed, link, meta, base, img, video, audio')
    || [...one.attributes].some(({ name, value }) => name.startsWith('on')
      || name.startsWith('data-commandlinker') || /^\\s*(javascript|vbscript|data):/i.test(value)))
  .map(one => one.outerHTML.slice(0, 200))
"""


@pytest.mark.timeout(300)
def test_no_sample_does_anything(lab: LabPage) -> None:
    """Texts, payloads, keys, labels, messages, session names: no script, no request, nothing but text."""
    strangers: list[str] = []
    own = (lab.lab.url, "data:", "blob:", "about:")
    lab.page.on(
        "request",
        lambda request: strangers.append(request.url) if not request.url.startswith(own) else None,
    )
    lab.open_notebook([HOSTILE_AGENT, HOSTILE_TURNS])
    lab.run_cell(0)
    panel = PanelPage(lab, lab.cell_output(0))
    lab.run_cell(1, timeout=200)
    assert lab.printed(1).strip().isdigit(), "nothing but the number of turns is printed"
    count = int(lab.printed(1))
    assert count > len(TEXTS) + len(PAYLOADS)
    panel.ended(panel.turn(count))
    while (earlier := panel.button(re.compile("Show earlier"))).is_visible():
        before = panel.turns.count()
        earlier.click()
        panel.until(lambda: panel.turns.count() > before, "earlier turns")  # noqa: B023
    expect(panel.turns).to_have_count(count)
    expect(panel.root.locator(".halo-action")).to_have_count(CARDS)
    for card in panel.root.get_by_role("button", name="Expand all").all():
        card.evaluate("button => button.click()")
    panel.button(re.compile("^Session")).click()
    lab.painted()
    assert lab.page.evaluate("() => [window.__halo_pwned, ({}).polluted]") == [None, None]
    assert strangers == []
    assert (lab.page_errors, lab.dialogs, lab.browser_dialogs) == ([], [], [])
    assert panel.root.evaluate(UNSAFE) == []
    # No character that reorders text or hides in it is on the page, but what a person typed.
    shown: str = panel.root.evaluate(
        "root => [...root.querySelectorAll('.halo-reply, .halo-tree, .halo-action, .halo-menu')]"
        ".map(one => one.textContent).join('')"
    )
    assert re.findall("[\u202a-\u202e\u2066-\u2069\x00-\x08\x0b-\x1f\x7f-\x9f]", shown) == []
