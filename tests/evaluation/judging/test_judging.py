"""Checks applied to replies: what a check may take and return, its name, and the loop that it runs on."""

from __future__ import annotations

import asyncio
import re
import time
import unittest
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from halo_notebook import DemoAgent, HaloClient, TextDelta
from halo_notebook.checks import (
    Check,
    NoVerdict,
    Score,
    action,
    check_name,
    contains,
    faster_than,
    judge,
    matches,
    no_action,
)
from halo_notebook.demo import DEMO_KEY
from halo_notebook.errors import InvalidRequest
from halo_notebook.evaluation import Evaluation, aevaluate, evaluate
from halo_notebook.evaluation.judging.checks import as_score, named_checks
from halo_notebook.reply import Reply

from ..agents import judged, messages, ok, sent, states

if TYPE_CHECKING:
    from pathlib import Path

    from halo_notebook.stream import JSON

    from ...harness.kernels import Kernel
    from ..conftest import Run


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


@pytest.mark.parametrize(
    ("given", "passed", "value", "note"),
    [
        ((np.bool_(True),), True, 1.0, ""),
        ((0.2,), False, 0.2, ""),
        ((np.float32(0.75), 0.5), True, 0.5, ""),
        ((None,), None, None, ""),
        ((None, np.array([0.25]), None), None, 0.25, ""),
        ((True, 1, ValueError("x")), True, 1.0, "x"),
        ((False, Decimal("0.5")), False, 0.5, ""),
    ],
)
def test_what_a_score_may_hold(
    given: tuple[Any, ...], passed: bool | None, value: float | None, note: str
) -> None:
    """Numpy's values, a number, and any note; a pass counts 1 and a fail 0."""
    score = Score(*given)
    assert (score.passed, score.value, score.note) == (passed, value, note)
    assert (type(score.passed), type(score.value)) == (type(passed), type(value))


@pytest.mark.parametrize(
    "given",
    [
        ("no",),
        ("",),
        (True, 5.0),
        (True, -0.1),
        (False, float("nan")),
        (True, "1"),
        ([True],),
        (7,),
        (True, []),
    ],
    ids=str,
)
def test_what_a_score_may_not_hold(given: tuple[Any, ...]) -> None:
    """It is refused when it is made; in a check, it is neither a pass nor a fail."""
    with pytest.raises((TypeError, ValueError), match="a number from 0 to 1, not"):
        Score(*given)
    [score] = judged(lambda reply: Score(*given)).values()
    assert isinstance(score, NoVerdict) and "a number from 0 to 1, not" in score.note


class InTest(unittest.TestCase):
    """Whose methods checks may use."""


def fails_plainly(reply: Reply) -> bool:
    assert reply.text
    return True


def fails_in_a_group(reply: Reply) -> None:
    raise ExceptionGroup("tasks", [ExceptionGroup("inner", [AssertionError("wrong")])])


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (fails_plainly, "assert ''"),
        (lambda reply: pytest.fail("wrong"), "wrong"),
        (lambda reply: InTest().fail("wrong"), "wrong"),
        (lambda reply: InTest().assertEqual(1, 2), "1 != 2"),  # noqa: PT009  # what users write
        (lambda reply: np.testing.assert_equal(1, 2), "Items are not equal"),
        (fails_in_a_group, "wrong"),
        (lambda reply: pytest.xfail("known"), "known"),
    ],
    ids=["assert", "pytest.fail", "unittest's fail", "assertEqual", "numpy", "groups", "pytest.xfail"],
)
def test_a_failed_assertion_is_a_fail(check: Check, words: str) -> None:
    """Sync and async, with its words as the note."""

    async def later(reply: Reply) -> Any:
        await asyncio.sleep(0)
        return check(reply)

    for score in judged({"now": check, "later": later}).values():
        assert (score.passed, score.value) == (False, 0.0) and words in score.note


def test_an_assertion_without_words_is_noted_by_its_line(run: Run) -> None:
    """Half of the replies fail, and so does half of the rate."""

    def right(reply: Reply) -> bool:
        if reply.text.endswith(("1", "3")):
            raise AssertionError
        return True

    with DemoAgent(first_byte_s=0, reply=lambda request: iter([TextDelta(str(request["message"]))])) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        result = run(["0", "1", "2", "3"], [right], configs=configs)
    assert result.passed("right") == {"demo": {"1": [True], "2": [False], "3": [True], "4": [False]}}
    assert list(result.failures()["right note"]) == ["raise AssertionError"] * 2
    assert result.summary()["right"]["demo"] == 0.5 and result.notes() == []


def asserts(reply: Reply) -> None:
    assert reply.text, "no text"


async def asserts_later(reply: Reply) -> None:
    await asyncio.sleep(0)
    np.testing.assert_equal(bool(reply.text), True, "no text")


def fails_in_a_branch(reply: Reply, expect: JSON = None) -> None:
    def unused() -> bool:
        return False

    if not reply.text:
        pytest.fail("no text")


def raises(reply: Reply) -> None:
    for text in ["", None]:
        if reply.text == text:
            raise AssertionError("no text")


class Asserts:
    """A check with a method that asserts."""

    def __call__(self, conversation: Any) -> None:
        """
        Its text stands further to the left than its code.
        """
        InTest().assertTrue(conversation[-1].reply.text, "no text")  # noqa: PT009  # what users write


@pytest.mark.parametrize("in_threads", [False, True])
def test_a_check_that_only_asserts_passes_at_its_end(run: Run, in_threads: bool) -> None:
    """It returns nothing, as a test does; what says nothing by returning None still says nothing."""

    def sees(reply: Reply) -> None:
        """It asserts nothing, and collects what it sees."""

    def silent(reply: Reply) -> None:
        return None

    checks: dict[str, Any] = {
        each.__name__: each for each in (asserts, asserts_later, fails_in_a_branch, raises)
    }
    checks |= {"object": Asserts(), "part": partial(asserts)}
    texts = iter(["text", "", "text", ""])
    with DemoAgent(first_byte_s=0, reply=lambda request: iter([TextDelta(next(texts))])) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        result = run(
            messages(4),
            checks | {"sees": sees, "silent": silent},
            configs=configs,
            check_threads=in_threads,
            concurrency=1,
        )
    for name in checks:
        assert result.passed(name) == {"demo": {"1": [True], "2": [False], "3": [True], "4": [False]}}, name
        assert result.summary()[name]["demo"] == 0.5
    assert result.passed("sees") == result.passed("silent") == {"demo": {case: [] for case in "1234"}}


def test_a_check_whose_file_has_changed_is_not_taken_for_another(tmp_path: Path) -> None:
    """What stands now where it stood may only assert; the check as it was loaded says nothing."""
    file = tmp_path / "checks_of_a_user.py"
    file.write_text("def silent(reply):\n    if reply:\n        pass\n")
    names: dict[str, Any] = {}
    exec(compile(file.read_text(), str(file), "exec"), names)  # noqa: S102  # as an import does
    file.write_text("def asserts(reply):\n    assert reply\n    assert reply.text\n")
    assert judged(names["silent"], Reply()) == {"silent": Score(None)}


def test_a_check_that_could_never_pass_is_refused(run: Run, agent: DemoAgent) -> None:
    """It asserts, and returns only None, which says nothing: nobody could know what its end means."""

    def plain(reply: Reply, expect: JSON) -> None:
        if expect is None:
            return
        assert str(expect) in reply.text

    async def later(reply: Reply, expect: JSON) -> Score | None:
        assert reply.text
        if expect is None:
            return None
        assert str(expect) in reply.text
        return None

    for check in (plain, later):
        with pytest.raises(InvalidRequest, match=r"could never pass\. Nothing was sent; let it return True"):
            run(["one"], [check])
    assert sent(agent) == []


def skips(error: Exception) -> Check:
    def check(reply: Reply) -> bool:
        raise error

    return check


@pytest.mark.parametrize(
    ("check", "note"),
    [
        (lambda reply: pytest.skip("later"), "later"),
        (skips(unittest.SkipTest("later")), "later"),
        (lambda reply: InTest().skipTest("later"), "later"),
    ],
    ids=["pytest", "SkipTest", "skipTest"],
)
def test_a_skipped_test_says_nothing(check: Check, note: str) -> None:
    """It is no failure of the check either."""
    [score] = judged(check).values()
    assert score == Score(None, note=note) and not isinstance(score, NoVerdict)


@pytest.mark.parametrize(
    "error", [KeyError("x"), MemoryError(), GeneratorExit(), asyncio.CancelledError("x")], ids=repr
)
def test_what_else_a_check_raises_is_its_own_failure(
    error: BaseException, agent: DemoAgent, run: Run
) -> None:
    """Every reply is in the file, and every message is sent."""

    def check(reply: Reply) -> bool:
        raise error

    result = run(["one", "two", "three"], [check], concurrency=1)
    assert states(result) == ["complete"] * 3 and len(agent.requests) == 3
    assert result.passed("check")["demo"] == {"1": [None], "2": [None], "3": [None]}
    assert "Check 'check' could not judge 3 turns" in result.notes()[0]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["evaluate", "aevaluate"])
def test_an_interrupt_in_a_check_ends_the_sending(
    asynchronous: bool, client: HaloClient, agent: DemoAgent, kept: Path
) -> None:
    """At once: what was sent is in the file, and the same call sends the rest."""

    def check(reply: Reply) -> bool:
        raise KeyboardInterrupt

    cases = messages(200)
    settings: Any = {"configs": {"demo": client}, "path": kept, "progress": False, "concurrency": 1}
    if asynchronous:
        result = asyncio.run(aevaluate(cases, [check], **settings))
    else:
        result = evaluate(cases, [check], **settings)
    time.sleep(0.1)
    assert result.interrupted and len(agent.requests) < 200
    rows = [row for row in result.rows() if row["status"] != "not run"]
    assert [row["message"] for row in rows] == sent(agent)
    again = evaluate(cases, **settings)
    assert len(sent(agent)) == 200 == len(set(sent(agent))) and "not run" not in states(again)


def test_a_check_receives_what_it_names() -> None:
    """In any order, by position or by name; the first positional argument is the reply."""

    def mixed(conversation: Any, any_name: Any = None, *, case: Any, repeat: int, message: str) -> bool:
        return any_name is None and (case.id, repeat, message, len(conversation)) == ("1", 1, "message 1", 2)

    def reordered(expect: JSON, reply: Reply) -> bool:
        return expect == "x" and reply.text == "two"

    def by_position(text: Any, expect: JSON, /, config: str = "", limit: int = 3) -> bool:
        return (text.text, expect, config, limit) == ("two", "x", "demo", 3)

    class Called:
        def __call__(self, reply: Reply, expect: JSON = None) -> bool:
            return expect == "x" and reply.text == "two"

        def method(self, said: Reply) -> bool:
            return said.text == "two"

    def anything(*given: Any, **named: Any) -> bool:
        return [each.text for each in given] == ["two"] and not named

    def bound(reply: Reply, config: str) -> bool:
        return config == "mine"

    checks: list[Any] = [mixed, reordered, by_position, Called(), Called().method, anything]
    checks += [partial(bound, config="mine"), lambda said, expect: expect == "x", bool]
    one, two = Reply(), Reply()
    two.add(TextDelta("two"), 0.1)
    for number, check in enumerate(checks):
        [score] = judged(check, one, two, expect="x").values()
        assert score == Score(True), number


def test_a_check_of_the_conversation_is_called_at_its_end(run: Run) -> None:
    """Once, when it names the conversation and not the reply; its verdict stands at the last turn."""

    def said(conversation: Any, expect: JSON) -> Score:
        return Score(expect == "Ada", note=" ".join(turn.message for turn in conversation))

    def so_far(reply: Reply, conversation: Any) -> bool:
        return conversation[-1].reply is reply

    result = run([{"turns": ["My name is Ada", "Who?"], "expect": "Ada"}, "three"], [said, so_far])
    assert [(row["said"], row["said note"]) for row in result.rows()] == [
        (None, ""),
        (True, "My name is Ada Who?"),
        (False, "three"),
    ]
    assert [row["so_far"] for row in result.rescore().rows()] == [True] * 3
    assert [row["said"] for row in result.rows()] == [None, True, False]


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (contains, "'contains' makes a check. Nothing was sent; call it"),
        (no_action, "'no_action' makes a check"),
        (partial(partial(contains)), "'partial' makes a check"),
        (type("Short", (), {"__call__": ok}), "'Short' makes a check"),
        (lambda reply, wanted: True, "has an argument 'wanted'. Nothing was sent; a check may name reply"),
        (lambda reply, *, limit: True, "has an argument 'limit'"),
        (lambda output, reply: True, "has an argument 'output'"),
        (lambda: True, "takes no argument. Nothing was sent"),
        (lambda **named: True, "takes no argument. Nothing was sent"),
    ],
    ids=lambda each: each[:30] if isinstance(each, str) else type(each).__name__,
)
def test_a_check_that_cannot_be_called_is_refused(check: Any, words: str, run: Run, agent: DemoAgent) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidRequest, match=re.escape(words)):
        run(["one"], [check])
    assert sent(agent) == []


@pytest.mark.parametrize("expect", [True, {}, {"a": 1}, [], "", ["x", ""], [["x"]], [None, "x"], [False]])
def test_an_expectation_that_a_check_cannot_use_is_refused(expect: JSON, run: Run, agent: DemoAgent) -> None:
    """Before anything is sent, naming the case; never is it passed over."""
    cases = ["one", {"id": "odd", "turns": [{"message": "two", "expect": expect}, "three"]}]
    with pytest.raises(InvalidRequest, match=r"Case 'odd': contains\(\) looks for .* Nothing was sent; fix"):
        run(cases, [contains()])
    assert sent(agent) == []
    assert run(cases, [contains("x")]).passed("contains(x)") == {"demo": {"1": [False], "odd": [False]}}


def test_checks_have_names() -> None:
    """Their own, or those of a dict; two of one name are refused."""
    assert list(named_checks([contains("a"), contains("b"), len])) == ["contains(a)", "contains(b)", "len"]
    assert list(named_checks({"short": len})) == ["short"]
    assert list(named_checks(len)) == ["len"]
    assert check_name(action("go", a=1)) == "action(go, a=1)"
    assert check_name(faster_than(total_s=2)) == "faster_than(total_s=2)"
    with pytest.raises(InvalidRequest, match="Two checks are called 'contains'"):
        named_checks([contains(), contains()])


HALVES = ["\ud800", "a\udfff", "\udc00b"]


@pytest.mark.parametrize("half", HALVES, ids=ascii)
def test_half_of_a_character_in_a_name_or_a_note_is_a_question_mark(
    half: str, run: Run, client: HaloClient, kept: Path, tmp_path: Path
) -> None:
    """At once, as in the file: in a check's note and name, also a ready-made one's, and a configuration's."""
    checks = {half: lambda reply: Score(True, note=half)}
    result = run(["Hi"], checks, configs={half: client}, path=kept)
    name = half.encode("utf-8", "replace").decode()
    for each in (result, Evaluation.open(kept)):
        assert each.df[["config", f"{name} note"]].to_numpy().tolist() == [[name, name]]
        assert each.summary().index.tolist() == [name] and each.to_html(tmp_path / "x.html").exists()
    for check in (contains(half), matches(half), judge(str, "kind", name=half)):
        assert run(["Hi"], [check]).df[check_name(check)].size == 1


@pytest.mark.parametrize("names", [["\ud800", "\ud801"], ["?", "\udfff"], [1, "1"]], ids=ascii)
def test_names_that_become_the_same_are_refused(
    names: list[Any], run: Run, client: HaloClient, agent: DemoAgent
) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidRequest, match="Two checks are called"):
        run(["Hi"], dict.fromkeys(names, contains("x")))
    with pytest.raises(InvalidRequest, match="Two configurations are called"):
        run(["Hi"], configs=dict.fromkeys(names, client))
    assert sent(agent) == []


@pytest.mark.parametrize("number", [10**400, -(10**400), 2**64 + 1], ids=["large", "negative", "64 bits"])
def test_a_whole_number_of_any_size_is_looked_for_as_text(number: int, run: Run) -> None:
    """Whether it is expected or given; none is a score."""
    result = run([{"message": "Hi", "expect": number}], [contains()])
    assert result.passed("contains") == {"demo": {"1": [False]}}
    reply = Reply()
    reply.add(TextDelta(f"It is {number}."), at_s=0.1)
    assert contains(number)(reply).passed  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="a number from 0 to 1"):
        Score(True, number)


def test_a_number_of_too_many_digits_is_refused(run: Run, agent: DemoAgent) -> None:
    """It names the case, before anything is sent."""
    with pytest.raises(InvalidRequest, match="give it as a text"):
        contains(10**5000)
    with pytest.raises(InvalidRequest, match="Case 'a': expect"):
        run([{"id": "a", "message": "Hi", "expect": 10**5000}], [contains()])
    assert sent(agent) == []


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
