"""Checks applied to replies: what a check may take and return, its name, and the loop that it runs on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from halo_notebook.checks import Score, action, check_name, contains, faster_than
from halo_notebook.errors import InvalidRequest
from halo_notebook.evaluation import aevaluate
from halo_notebook.evaluation.judging import as_score, judge_of, named_checks
from halo_notebook.reply import Reply

from .agents import ok

if TYPE_CHECKING:
    from pathlib import Path

    from halo_notebook import HaloClient
    from halo_notebook.stream import JSON

    from ..harness.kernels import Kernel
    from .conftest import Run


@pytest.mark.parametrize(
    ("verdict", "score"),
    [
        (True, Score(True, 1.0)),
        (False, Score(False, 0.0)),
        (0.5, Score(True, 0.5, "score 0.5")),
        (0.49, Score(False, 0.49, "score 0.49")),
        (1, Score(True, 1.0, "score 1")),
        (None, Score(None)),
        (Score(False, 0.2, "why"), Score(False, 0.2, "why")),
        (np.bool_(True), Score(True, 1.0)),
        (np.float32(0.25), Score(False, 0.25, "score 0.25")),
    ],
)
def test_what_a_check_may_return(verdict: Any, score: Score) -> None:
    """A bool, a number from 0 to 1, a Score, or nothing."""
    assert as_score(verdict) == score


@pytest.mark.parametrize("verdict", ["yes", float("nan"), [True], object(), 85, -0.1])
def test_what_a_check_may_not_return(verdict: Any) -> None:
    """It is neither a pass nor a fail."""
    with pytest.raises(TypeError, match="a bool, a number from 0 to 1 or a Score"):
        as_score(verdict)


def test_a_check_may_take_what_is_expected() -> None:
    """As its second argument, required or called `expect`; another default is its own."""

    def two(reply: Reply, wanted: str) -> bool:
        return wanted == "x"

    def named(reply: Reply, expect: JSON = None) -> bool:
        return expect == "x"

    def own(reply: Reply, limit: int = 3) -> bool:
        return limit == 3

    for check in (ok, two, named, own):
        assert judge_of(check)(Reply(), "x") is True


def test_checks_have_names() -> None:
    """Their own, or those of a dict; two of one name are refused."""
    assert list(named_checks([contains("a"), contains("b"), len])) == ["contains(a)", "contains(b)", "len"]
    assert list(named_checks({"short": len})) == ["short"]
    assert list(named_checks(len)) == ["len"]
    assert check_name(action("go", a=1)) == "action(go, a=1)"
    assert check_name(faster_than(total_s=2)) == "faster_than(total_s=2)"
    with pytest.raises(InvalidRequest, match="Two checks are called 'contains'"):
        named_checks([contains(), contains()])


def test_async_checks_run_on_the_callers_loop(client: HaloClient, kept: Path, run: Run) -> None:
    """In `aevaluate` also for stored replies, as it may use its objects; `evaluate` awaits them, too."""

    async def judged() -> dict[str, Any]:
        here = asyncio.get_running_loop()
        waiting = asyncio.Event()
        here.call_later(0.05, waiting.set)

        async def check(reply: Reply) -> Score:
            await waiting.wait()
            return Score(asyncio.get_running_loop() is here, 1.0)

        checks, configs = {"here": check}, {"demo": client}
        result = await aevaluate(["one", "two"], checks, configs=configs, path=kept, progress=False)
        return result.passed("here")

    assert [asyncio.run(judged()) for _ in range(2)] == [{"demo": {"1": [True], "2": [True]}}] * 2

    async def plain(reply: Reply) -> bool:
        await asyncio.sleep(0)
        return True

    assert run(["one"], [plain]).passed("plain") == {"demo": {"1": [True]}}


@pytest.mark.kernel
def test_async_checks_in_a_notebook_run_on_its_loop(kernel: Kernel) -> None:
    """A check may use objects of the kernel's loop in `evaluate`, and Run All continues."""
    kernel.run(
        "import asyncio\nfrom halo_notebook import DemoAgent, HaloClient, aevaluate, evaluate\n"
        "from halo_notebook.demo import DEMO_KEY\n"
        "agent = DemoAgent(first_byte_s=0, chunk_s=0).start()\n"
        "configs = {'demo': HaloClient(DEMO_KEY, base_url=agent.url)}\n"
        "future = asyncio.get_running_loop().create_future()\nfuture.set_result(True)\n"
        "async def check(reply):\n    await asyncio.sleep(0)\n    return await future"
    )
    call = "evaluate(['one'], [check], configs=configs, progress=False)"
    cells = [f"print({call}.passed('check'))", f"print((await a{call}).passed('check'))"]
    assert [each.stdout for each in kernel.run_all(cells)] == ["{'demo': {'1': [True]}}\n"] * 2
