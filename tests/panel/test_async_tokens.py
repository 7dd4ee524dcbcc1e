"""An async user_token runs on the kernel's loop, whoever waits for the turn, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ..harness.cells import LOAD_FAST
from ..harness.kernels import Kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel
PANEL = """\
import asyncio, threading
from halo_notebook import ChatPanel
event = asyncio.Event()  # of the kernel's loop
calls = []
async def token():
    calls.append(threading.current_thread() is threading.main_thread())
    asyncio.get_running_loop().call_later(0.05, event.set)
    await event.wait()
    return 'a.b.c'
panel = ChatPanel(session)
panel.fields = {'user_id': 'u_1', 'user_token': token}
"""
WAITS = {
    "result": "print(panel.ask('Hello').result(20).status)",
    "two results": "both = [panel.ask('a'), panel.ask('b')]\nprint(both[1].result(20).status)",
    "await": "print((await panel.ask('Hello')).status)",
    "thread": ("reply = await asyncio.to_thread(lambda: panel.ask('Hello').result(20))\nprint(reply.status)"),
    "magic": (
        "sent = panel.ask('Hello')\nget_ipython().run_cell_magic('halo', '-s ' + session, 'Hello')\n"
        "print(sent.result(20).status)"
    ),
    "turn": (
        "from halo_notebook import current_client\nsent = panel.ask('Hello')\n"
        "panel.session.ask(current_client(), 'Hello')\nprint(sent.result(20).status)"
    ),
    "callback": (
        "def again(reply):\n    remove()\n    print(panel.ask('again').result(20).status)\n"
        "remove = panel.on_reply(again)\nawait panel.ask('Hello')\nawait asyncio.sleep(0.5)"
    ),
}


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """One kernel for all tests, each with a panel and a session of its own."""
    with Kernel() as running:
        running.run(LOAD_FAST)
        yield running


@pytest.mark.parametrize("kind", WAITS)
def test_a_turn_with_an_async_user_token_ends(kernel: Kernel, kind: str) -> None:
    """On the kernel's thread, with the objects of its loop; and the kernel goes on."""
    setup = kernel.run(f"session = {kind.replace(' ', '-')!r}\n{PANEL}")
    assert setup.status == "ok", setup.evalue
    cell = kernel.run(WAITS[kind], timeout=40)
    assert cell.status == "ok", cell.evalue
    assert cell.stdout.endswith("complete\n")
    assert kernel.run("print(calls[0], len(set(calls)))").stdout == "True 1\n"
    assert kernel.run("await asyncio.sleep(0.01); print('idle')").stdout == "idle\n"
