"""The chat panel: what a reply costs on the wire, and how quick the page is in a long conversation.

The wire is a real kernel's; every IOPub message counts from the sending to the end, whoever it
belongs to. The page is a real JupyterLab's in a real Chromium; its own clock measures it.
"""

from __future__ import annotations

import re
import statistics
import time

from halo_notebook.demo import DEMO_KEY
from tests.harness.kernels import Kernel, Message
from tests.harness.lab import Lab, LabPage

from .cells import CHUNKS, STREAM_S, Agent, run, size_of
from .figures import WITH_BYTE_CODE, Bound, Figure, compared, in_turns

TURNS = 3
FEW, MANY = 3, 300
WRITTEN = 9

_SET_UP = """\
import time
import ipywidgets
from halo_notebook import ChatPanel, HaloClient
client = HaloClient({key!r}, base_url={url!r})
panel = ChatPanel("measured", client=client)
plain = ipywidgets.HTML()
"""
_OURS = "panel.ask('paced').result()\ntime.sleep(0.3)"
_NAIVE = """\
text = ""
with client.stream("paced") as events:
    for event in events:
        text += event.text
        plain.value = f"<pre>{text}</pre>"
time.sleep(0.3)
"""


def panel_paced() -> list[Figure]:
    """A reply at an agent's pace: what goes to the page, against a widget's text set per chunk."""
    with Agent() as agent, Kernel(env=WITH_BYTE_CODE) as kernel:
        run(kernel, _SET_UP.format(key=DEMO_KEY, url=agent.url))
        ours, naive = in_turns([lambda: _wire(kernel, _OURS), lambda: _wire(kernel, _NAIVE)], TURNS)
    columns = (
        ("messages", "", Bound(100)),
        ("deltas", "KB", Bound(150)),
        ("the whole at the end", "KB", None),
    )
    what = f"panel paced, {CHUNKS:,} chunks in {STREAM_S:g} s"
    return compared(what, columns, ours, naive, "ipywidgets.HTML.value per chunk")


def _wire(kernel: Kernel, code: str) -> tuple[int, float, float]:
    """Every message of a turn; the kilobytes while it arrives, and those of its whole at the end."""
    began = time.monotonic()
    run(kernel, code)
    messages = [message for message in kernel.messages if message.at >= began]
    last = [message for message in messages if _is_whole(message)]
    whole = sum(map(size_of, last))
    return len(messages), (sum(map(size_of, messages)) - whole) / 1e3, whole / 1e3


def _is_whole(message: Message) -> bool:
    """Whether it holds the finished turn, for the panel or for the output that stands in for it."""
    data = message.content.get("data", {})
    return message.msg_type == "update_display_data" or data.get("content", {}).get("kind") == "turn"


_AGENT = """\
from halo_notebook import ChatPanel, DemoAgent, HaloClient, TextDelta
from halo_notebook.demo import DEMO_KEY

def reply(request):
    if request["message"].startswith("stream"):
        for number in range(200):
            yield TextDelta(f"word{number} " + ("\\n\\n" if number % 20 == 19 else ""))
            yield 0.015
    else:
        yield TextDelta("## Title\\n\\nSome *text*.\\n\\n- one\\n- two\\n\\n```python\\nx = 1\\n```\\n\\n"
                        "| a | b |\\n|---|---|\\n| 1 | 2 |\\n\\n" + "A paragraph of words. " * 20)

agent = DemoAgent(reply=reply, first_byte_s=0).start()
client = HaloClient(DEMO_KEY, base_url=agent.url)
panel = ChatPanel("measured", client=client)
for number in range(COUNT):
    panel.session.ask(client, f"Message {number}")
panel
"""
# Milliseconds from Enter until the message's bubble is in the page, and until it has been painted.
_WRITE = """
async text => {
  const panel = document.querySelector('.halo-panel');
  const box = panel.querySelector('textarea');
  const has = () => [...panel.querySelectorAll('.halo-bubble-text')].some(one => one.textContent === text);
  box.value = text;
  box.dispatchEvent(new Event('input', { bubbles: true }));
  const began = performance.now();
  box.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true, cancelable: true }));
  while (!has()) await new Promise(resolve => setTimeout(resolve));
  await new Promise(resolve => requestAnimationFrame(() => setTimeout(resolve)));
  return performance.now() - began;
}
"""
_WATCH_FRAMES = """
() => {
  window.longestFrame = 0;
  let last = performance.now();
  const look = now => {
    window.longestFrame = Math.max(window.longestFrame, now - last);
    last = now;
    window.watching = requestAnimationFrame(look);
  };
  window.watching = requestAnimationFrame(look);
}
"""


def panel_page() -> list[Figure]:
    """In a conversation of 300 turns, against one of three: from Enter to one's own words, and frames."""
    with Lab() as lab:
        few, many = (_in_a_conversation_of(lab, count) for count in (FEW, MANY))
    what = f"panel, {MANY} turns"
    against = f"the same with {FEW} turns"
    own_words = f"{what}: Enter to one's own words on the page"
    return [
        Figure(own_words, "ms", many[0], few[0], against, Bound(100)),
        Figure(f"{what}: longest frame of a reply", "ms", many[1], few[1], against, Bound(200)),
    ]


def _in_a_conversation_of(lab: Lab, count: int) -> tuple[list[float], list[float]]:
    with LabPage(lab) as page:
        page.open_notebook([_AGENT.replace("COUNT", str(count))])
        page.run_cell(0, timeout=120)
        panel = page.page.locator(".halo-panel")
        panel.wait_for()
        earlier = panel.get_by_role("button", name=re.compile("Show earlier"))
        turns = panel.locator("article")
        while earlier.is_visible():
            shown = turns.count()
            earlier.click()
            page.page.wait_for_function(
                "shown => document.querySelectorAll('.halo-panel article').length > shown", arg=shown
            )
        page.page.wait_for_timeout(1_000)
        written, frames = [], []
        for number in range(WRITTEN):
            streamed = number % 3 == 2
            page.page.evaluate(_WATCH_FRAMES)
            written.append(float(page.page.evaluate(_WRITE, f"{'stream' if streamed else 'say'} {number}")))
            turns.nth(count + number).locator("footer:not([hidden])").wait_for(state="attached")
            if streamed:
                frames.append(float(page.page.evaluate("() => longestFrame")))
            page.page.evaluate("() => cancelAnimationFrame(watching)")
    assert statistics.median(written) > 0
    return written, frames
