"""What a user's callback shows stands under the cell that registered it, whichever cell has run since."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING

import pytest

from ..harness.cells import LOAD_FAST
from ..harness.kernels import Kernel

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.kernel
PANEL = "from halo_notebook import ChatPanel\npanel = ChatPanel(session)\n"
REGISTERED = {
    "print": (PANEL + "done = panel.on_reply(lambda reply: print('seen', reply.status))", "seen complete"),
    "display": (
        PANEL + "done = panel.on_reply(lambda reply: display({'text/plain': 'seen'}, raw=True))",
        "seen",
    ),
    "async": (
        (
            f"{PANEL}import asyncio\n"
            "async def callback(reply):\n    await asyncio.sleep(0.1)\n    print('seen', reply.status)\n"
            "done = panel.on_reply(callback)"
        ),
        "seen complete",
    ),
    "action": (
        PANEL + "done = panel.on_action(lambda event: print('seen', event.payload['type']))",
        "seen create",
    ),
    "token": (
        PANEL + "def token():\n    print('signing')\n    return 'a.b.c'\n"
        "panel.fields = {'user_id': 'u_1', 'user_token': token}",
        "signing",
    ),
    "async token": (
        PANEL + "async def token():\n    print('signing')\n    return 'a.b.c'\n"
        "panel.fields = {'user_id': 'u_1', 'user_token': token}",
        "signing",
    ),
}


ONE_PLACE = pytest.mark.skipif(
    version("ipykernel") < "7", reason="before ipykernel 7 all displays go to the cell that ran last"
)


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    """One kernel for all tests, each with a session of its own."""
    with Kernel() as running:
        running.run(LOAD_FAST)
        yield running


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[ONE_PLACE] if kind == "display" else []) for kind in REGISTERED]
)
def test_a_panels_callback(kernel: Kernel, kind: str) -> None:
    """Also when another cell has asked, and a third one has run."""
    cell, words = REGISTERED[kind]
    kernel.run(f"session = {kind!r}")
    registering = kernel.start(cell)
    registering.result()
    others = [kernel.start("sent = panel.ask('Open a ticket')"), kernel.start("print('last')")]
    for other in others:
        other.result()
    registering.wait_for_text(words)
    assert [other.text for other in others] == ["", "last\n"]


@pytest.mark.parametrize("check", ["def", "async def"])
def test_a_check_of_an_evaluation_in_the_background(kernel: Kernel, check: str) -> None:
    """It runs while other cells do, and prints under the cell that has begun it."""
    registering = kernel.start(
        "import asyncio\nfrom halo_notebook import aevaluate\n"
        f"{check} judged(reply):\n    print('seen', reply.status)\n    return True\n"
        "task = asyncio.ensure_future(aevaluate(['Hello'], [judged], progress=False))"
    )
    registering.result()
    other = kernel.start("await task; print('last')")
    other.result()
    registering.wait_for_text("seen complete")
    assert other.text == "last\n"
