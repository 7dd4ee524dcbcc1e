"""Gates for CI: a requirement passes or fails in one line, and a result without runs never passes."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from halo_notebook import Evaluation, HaloClient, Reply, TextDelta, errors
from halo_notebook.demo import DEMO_KEY, DemoAgent

from ..agents import messages, ok

if TYPE_CHECKING:
    from halo_notebook.demo import Step
    from halo_notebook.stream import JSON

    from ..conftest import Run


def passing(*numbers: int) -> Callable[[Reply, Any, Any], bool]:
    """A check that fails for the messages of these numbers."""

    def check(reply: Reply, message: str) -> bool:
        return int(message.rpartition(" ")[2]) not in numbers

    check.version = repr(numbers)  # type: ignore[attr-defined]
    return check  # type: ignore[return-value]


def with_rate(run: Run, failed: int, of: int = 50, **settings: Any) -> Evaluation:
    return run(messages(of), {"check": passing(*range(failed))}, concurrency=30, **settings)


# --- A rate -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failed", "at_least", "passes", "passes_sure"),
    [
        (0, 0.8, True, True),
        (5, 0.8, True, False),  # 90% [79–96%]
        (9, 0.8, True, False),
        (20, 0.8, False, False),  # 60% [46–72%]
        (20, 0.7, True, False),
        (50, 0.01, True, False),
        (50, 0.1, False, False),
        (50, 0, True, True),
        (1, 1, False, False),  # one failure proves that it is not 100%
        (0, 1, True, False),  # 50 of 50 do not prove it
    ],
)
def test_a_rate_is_required_by_its_interval(
    failed: int, at_least: float, passes: bool, passes_sure: bool, run: Run
) -> None:
    """It fails only if it is certainly below; with `sure` it passes only if it is certainly not."""
    result = with_rate(run, failed)
    for sure, expected in ((False, passes), (True, passes_sure)):
        if expected:
            result.require("check", at_least, sure=sure)
        else:
            with pytest.raises(errors.RequirementFailed) as raised:
                result.require("check", at_least=at_least, sure=sure)
            why = "is not certainly above" if sure else "is certainly below"
            assert why in str(raised.value) and "\n" not in str(raised.value)
            assert f"{(50 - failed) / 50:.0%}" in str(raised.value) and "50 cases" in str(raised.value)


def test_a_failed_requirement_is_an_assertion_in_one_line(run: Run) -> None:
    """For pytest it is a failed test; a cell shows it without a traceback."""
    with pytest.raises(AssertionError) as raised:
        with_rate(run, 40).require("check", at_least=0.8)
    assert isinstance(raised.value, errors.HaloError)
    [line] = raised.value._render_traceback_()
    assert line.startswith(
        "RequirementFailed: Check 'check' must pass in at least 80% of the cases, but 'demo'"
    )


def test_each_configuration_has_to_pass(client: HaloClient, run: Run) -> None:
    """Or the one that is named; all that fail are in the line."""

    def check(reply: Reply, config: str) -> bool:
        return config == "good"

    configs = dict.fromkeys(("good", "bad", "worse"), client)
    result = run(messages(10), [check], configs=configs)
    result.require("check", at_least=0.9, config="good")
    with pytest.raises(errors.RequirementFailed, match=r"'bad' is certainly below: .*; 'worse' is certainly"):
        result.require("check", at_least=0.9)
    with pytest.raises(
        errors.InvalidRequest, match=r"No configuration named 'best'\. Configurations: good, bad"
    ):
        result.require("check", at_least=0.9, config="best")


@pytest.mark.parametrize("at_least", [80, -0.1, math.nan, True, None, "0.8"])
def test_a_share_that_makes_no_sense_is_refused(at_least: Any, run: Run) -> None:
    """It would pass or fail whatever the agent does."""
    result = run(["message 1"], {"check": passing()})
    with pytest.raises(errors.InvalidRequest, match="must be from 0 to 1"):
        result.require("check", at_least=at_least)
    with pytest.raises(errors.InvalidRequest, match="must be from 0 to 1"):
        result.require_no_worse(result, "check", margin=at_least)
    with pytest.raises(errors.InvalidRequest, match="No check named 'nope'"):
        result.require("nope", at_least=0.8)


def nothing_to_say(reply: Reply) -> None:
    return None


def breaks(reply: Reply) -> bool:
    raise TimeoutError("LLM timeout")


@pytest.mark.parametrize(
    ("checks", "faults"),
    [([nothing_to_say], []), ([breaks], []), ([ok], ["401"] * 3)],
    ids=["nothing to say", "could not judge", "refused"],
)
def test_an_evaluation_without_results_never_passes(
    checks: Any, faults: list[str], agent: DemoAgent, run: Run, tmp_path: Path
) -> None:
    """Whatever is required, and in the JUnit file."""
    agent.faults.extend(faults)
    [name] = [check.__name__ for check in checks]
    result = run(["one", "two", "three"], checks, concurrency=1)
    for sure in (False, True):
        with pytest.raises(errors.RequirementFailed, match="'demo' has no result, 0 of 3 cases"):
            result.require(name, at_least=0, sure=sure)
    with pytest.raises(errors.RequirementFailed):
        result.require_no_worse(result, name, margin=1)
    suites = read(result.to_junit(tmp_path / "junit.xml"))
    assert [error.attrib["message"] for error in suites.iter("error")] == ["No conversation has a result"]
    assert len(suites.findall(".//skipped")) == 3


# --- A baseline -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failed", "margin", "passes"),
    [
        ((0, 0), 0.05, True),
        ((10, 10), 0.05, True),
        ((10, 0), 0.05, True),
        ((10, 12), 0.05, False),  # 2 points lower, and perhaps more than 5
        ((10, 12), 0.15, True),
        ((0, 30), 0.05, False),
        ((0, 30), 0.5, True),
    ],
)
def test_no_worse_than_a_baseline_has_to_be_certain(
    failed: tuple[int, int], margin: float, passes: bool, run: Run, kept: Path
) -> None:
    """By pairs of cases with the same content; the baseline is a result or a file."""
    before = with_rate(run, failed[0], 100, path=kept)
    now = run(
        [{"id": f"case {number}", "message": f"message {number}"} for number in reversed(range(100))],
        {"check": passing(*range(failed[1]))},
        concurrency=30,
    )
    for baseline in (before, kept, str(kept)):
        if passes:
            now.require_no_worse(baseline, "check", margin=margin)
        else:
            with pytest.raises(errors.RequirementFailed, match=r"'demo' may be worse by more than") as raised:
                now.require_no_worse(baseline, "check", margin=margin)
            assert "100 cases" in str(raised.value) and "\n" not in str(raised.value)


def test_few_cases_or_none_in_common_prove_nothing(client: HaloClient, run: Run) -> None:
    """So they do not pass; configurations belong together by name, or where each side has one."""
    before = run(messages(3), {"check": passing()})
    for now in (before, run(["other 1", "other 2"], {"check": passing()})):
        with pytest.raises(errors.RequirementFailed, match="may be worse"):
            now.require_no_worse(before, "check")
    now = run(messages(60), {"check": passing()}, configs={"new": client}, concurrency=30)
    now.require_no_worse(now, "check")
    with pytest.raises(errors.RequirementFailed, match=r"'new' may be worse .* 3 cases \(too few cases; 57"):
        now.require_no_worse(before, "check")
    both = run(messages(60), {"check": passing()}, configs={"new": client, "other": client}, concurrency=30)
    both.require_no_worse(now, "check", config="new")
    for first, second, where in ((both, now, "this result"), (now, both, "the baseline")):
        with pytest.raises(
            errors.RequirementFailed,
            match=rf"'other' is only in {where} \(to leave it out, choose another with config=\)",
        ) as raised:
            first.require_no_worse(second, "check")
        assert "may be worse" not in str(raised.value)
    with pytest.raises(
        errors.InvalidRequest, match=r"No configuration named 'third' is in both results \(new; "
    ):
        both.require_no_worse(now, "check", config="third")


# --- JUnit ------------------------------------------------------------------------------


def read(path: Path) -> ET.Element:
    return ET.parse(path).getroot()  # noqa: S314  # our own


def hostile(request: dict[str, JSON]) -> Iterator[Step]:
    yield TextDelta("\x00\x1b[31m]]> <b>&amp; \ufffe \U0001f600 " + str(request["message"]))


def test_junit_has_a_test_case_per_conversation(
    run: Run, agent: DemoAgent, client: HaloClient, tmp_path: Path
) -> None:
    """What failed, what is missing, and how long it took; whatever the texts are, it is XML."""
    agent.faults.extend(["401", "cut text"])
    cases = [
        {"id": "refused", "message": "message 8"},
        {"id": "cut", "message": "message 9"},
        {"id": "a<&\"'\x02b", "message": "message 1"},
        {"id": "two", "turns": ["message 2", "message 1"]},
        {"id": "good", "message": "message 3"},
    ]
    with DemoAgent(first_byte_s=0, chunk_s=0, reply=hostile) as other:
        second = HaloClient(DEMO_KEY, base_url=other.url)
        check = {"check]]>": passing(1)}
        result = run(cases, check, configs={"chat": client, "<i>": second}, concurrency=1, repeats=2)
    path = result.to_junit(str(tmp_path / "junit.xml"))
    assert path == tmp_path / "junit.xml"
    chat, other_suite = read(path)
    assert chat.attrib == {"name": "chat", "tests": "10", "failures": "5", "errors": "0", "skipped": "1"}
    assert other_suite.attrib["name"] == "<i>" and other_suite.attrib["failures"] == "4"
    by_name = {case.attrib["name"]: case for case in chat}
    assert list(by_name)[:5] == ["refused", "cut", "a<&\"'\ufffdb", "two", "good"]
    took = result.df.query("config == 'chat' and case == 'good' and repeat == 1")["elapsed_s"].item()
    assert "two [2]" in by_name and by_name["good"].attrib["time"] == f"{took:.3f}"
    refused, cut, failed = (by_name[name][0] for name in ("refused", "cut", "two"))
    assert refused.tag == "skipped" and refused.attrib["message"].startswith("failed: ")
    assert cut.tag == "failure" and cut.attrib["message"].startswith("turn 1: interrupted: ")
    assert failed.attrib["message"] == "turn 2: failed check]]>" and failed.text is not None
    assert failed.text.startswith("> message 2\n") and "> message 1" in failed.text
    assert len(by_name["good"]) == 0
    assert not list(tmp_path.glob(".*.part"))
    with pytest.raises(errors.UsageError, match="could not be written"):
        result.to_junit(tmp_path / "none" / "junit.xml")


# --- Where gates run --------------------------------------------------------------------

IN_PYTEST = """\
import pytest
from halo_notebook import Evaluation

@pytest.fixture(scope="session")
def result():
    return Evaluation.open({path!r})

@pytest.mark.parametrize("at_least", [0.1, 0.9])
def test_rate(result, at_least):
    result.require("check", at_least=at_least)
"""


def test_a_gate_fails_a_test(run: Run, kept: Path, tmp_path: Path) -> None:
    """As a failure with one line, and not as an error."""
    with_rate(run, 30, path=kept)
    file = tmp_path / "test_agent.py"
    file.write_text(IN_PYTEST.format(path=str(kept)))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}"]
    done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1 and "1 failed, 1 passed" in done.stdout
    assert "'demo' is certainly below: 40% [28–54%], 50 cases" in done.stdout
