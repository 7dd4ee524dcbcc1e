"""A panel in a real kernel: while a cell computes, beside %%halo, and without a widget."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..harness.kernels import Kernel
    from .conftest import Message


pytestmark = pytest.mark.kernel
PANEL = """\
import time, asyncio, threading
from halo_notebook import ChatPanel, DemoAgent, HaloClient, TextDelta
from halo_notebook.demo import DEMO_KEY

def reply(request):
    words = int(request["message"].split()[-1])
    for number in range(words):
        yield TextDelta(f"word{number} ")
        yield 0.02

agent = DemoAgent(first_byte_s=0, reply=reply).start()
panel = ChatPanel(client=HaloClient(DEMO_KEY, base_url=agent.url))
panel
"""


class KernelPage:
    """A panel's page, as far as the wire goes, on a real kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self._cids = itertools.count()
        cell = kernel.run(PANEL)
        assert cell.status == "ok", cell.evalue
        self.comm_id = next(
            message.content["comm_id"]
            for message in cell.messages
            if message.msg_type == "comm_open"
            and message.content["data"]["state"].get("_anywidget_id", "").endswith("ChatPanel")
        )

    def ask(self, kind: str, **content: Any) -> None:
        data = {"method": "custom", "content": {"kind": kind, "cid": str(next(self._cids)), **content}}
        self.kernel.send("comm_msg", {"comm_id": self.comm_id, "data": data}, wants_reply=False)

    def of(self, kind: str) -> list[tuple[float, Message]]:
        """When each message of that kind came, and what it was."""
        return [
            (message.at, content)
            for message in self.kernel.messages
            if message.msg_type == "comm_msg" and message.content["comm_id"] == self.comm_id
            if (content := message.content["data"].get("content", {})).get("kind") == kind
        ]

    def wait(self, kind: str, count: int = 1) -> list[tuple[float, Message]]:
        self.kernel.wait_until(lambda: len(self.of(kind)) >= count, f"{count} messages {kind!r}", 20)
        return self.of(kind)


def test_a_turn_streams_on_while_a_cell_computes(kernel: Kernel) -> None:
    """A turn that has begun continues; a request that arrives meanwhile is answered after the cell."""
    page = KernelPage(kernel)
    page.ask("send", text="words 100")
    page.wait("frame", 3)
    cell = kernel.start("print('computing', flush=True)\nwhile panel.busy: time.sleep(0.05)\ntime.sleep(1)")
    cell.wait_for_text("computing")
    began = time.monotonic()
    page.ask("send", text="words 2")
    page.wait("turn")
    ended_in_cell = not cell.done
    during = [at for at, _ in page.of("frame") if at > began]
    cell.result()
    assert ended_in_cell and len(during) > 3
    turns = page.wait("turn", 2)
    assert [turn["turn"]["asked"] for _, turn in turns] == ["words 100", "words 2"]
    assert turns[1][1]["turn"]["text"] == "word0 word1 "
    # A kernel's note of where to take the page's next message could be of a subshell that is gone. It is
    # there for a moment while the last of the turn's messages are sent.
    gone = kernel.run("while '_reply_subshell_id' in vars(panel.comm): time.sleep(0.01)\nprint('gone')")
    assert gone.stdout == "gone\n"


def test_the_panels_stop_ends_a_cells_turn(kernel: Kernel) -> None:
    """A program's `panel.stop()` from another thread: the cell fails as after an interrupt."""
    KernelPage(kernel)
    kernel.run(
        "%load_ext halo_notebook\n"
        "connection = get_ipython().magics_manager.registry['HaloMagics'].connection\n"
        "connection.demo, connection.demo_wanted = agent, True"
    )
    result = kernel.run(
        "threading.Timer(0.5, panel.stop).start()\nget_ipython().run_cell_magic('halo', '', 'words 500')"
    )
    assert (result.status, result.ename) == ("error", "ReplyStopped")
    assert "stopped" in str(result.displays[-1]["text/plain"])


def test_while_a_cell_awaits_the_panel_is_served(kernel: Kernel) -> None:
    """On ipykernel 7, Send and Stop work at once during an `await`; on 6 they wait for its end."""
    page = KernelPage(kernel)
    major = int(kernel.run("import ipykernel; print(ipykernel.version_info[0])").stdout)
    cell = kernel.start("print('awaiting', flush=True)\nawait asyncio.sleep(3)")
    cell.wait_for_text("awaiting")
    page.ask("send", text="words 500")
    if major < 7:
        cell.result()
    page.wait("frame", 3)
    page.ask("stop")
    assert page.wait("turn")[0][1]["turn"]["status"] == "stopped"
    assert cell.done == (major < 7)
    cell.result()


def test_widget_libraries_are_loaded_only_to_show_a_panel(kernel: Kernel) -> None:
    """`%halo panel NAME` shows one; before, no widget library is loaded."""
    kernel.run("%load_ext halo_notebook\n%halo demo start")
    assert kernel.run("import sys; print('anywidget' in sys.modules)").stdout == "False\n"
    cell = kernel.run("%halo panel billing")
    assert cell.status == "ok", cell.evalue
    assert "application/vnd.jupyter.widget-view+json" in cell.displays[0]
    assert cell.displays[0]["text/plain"] == "ChatPanel('billing', 0 turns)"
    assert "billing" in kernel.run("%halo sessions").stdout


CAPTURES = (
    "%%capture captured\n",
    "with capture_output() as captured:\n  ",
    "with __import__('IPython').utils.io.capture_output() as captured:\n  ",
)


def test_the_static_copy_goes_past_another_cells_capture(kernel: Kernel) -> None:
    """Its update is the notebook's; what is captured, by a magic or by a function, holds nothing of it."""
    kernel.run("from IPython.utils import io\nfrom IPython.utils.capture import capture_output")
    for words, capture in enumerate(CAPTURES, start=1):
        page, before = KernelPage(kernel), len(kernel.messages)
        cell = kernel.start(f"{capture}panel.ask('words {words}').result(20); time.sleep(1)")
        cell.result()
        page.wait("turn")
        updates = [
            message for message in kernel.messages[before:] if message.msg_type == "update_display_data"
        ]
        shown = " ".join(f"word{number}" for number in range(words))
        assert any(shown in str(update.content["data"]) for update in updates), capture
        assert kernel.run("print(len(captured.outputs))").stdout == "0\n"
