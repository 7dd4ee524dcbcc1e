"""What an evaluation's file knows on its own: its cases and verdicts, read without cases, key or network."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import HaloClient, Reply, errors, evaluate
from halo_notebook.checks import Score, contains
from halo_notebook.demo import DEMO_KEY, DemoAgent
from halo_notebook.evaluation import Evaluation
from halo_notebook.evaluation.file.journal import Journal

from ..agents import in_two_parts, messages, ok, sent, states

if TYPE_CHECKING:
    from ..conftest import Run

CASES: list[Any] = [
    {"id": "memory", "turns": ["My name is Ada", "What is my name?"], "expect": "Ada", "tags": ["memory"]},
    {"id": "ticket", "message": "Open a ticket", "expect": "ticket", "topic": {"area": "support"}},
    {"id": "<b>bold</b>", "message": "Say <i>hi</i>", "expect": ["nothing", "of it"], "tags": ["a", "b"]},
]


class Counted:
    """A check that counts its calls, and fails to judge as long as `broken`."""

    def __init__(self, name: str = "counted") -> None:
        self.__name__ = name
        self.calls = 0
        self.broken = False
        self.version = "1"

    def __call__(self, reply: Reply) -> Score:
        self.calls += 1
        if self.broken:
            raise TimeoutError("LLM timeout")
        return Score("ticket" in reply.text, 0.75 if "ticket" in reply.text else 0.25, f"call {self.calls}")


def one_case_per_conversation(conversation: Any) -> bool:
    """A check of whole conversations."""
    return len(conversation) > 1


def lines_of(path: Path, kind: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, path.read_text().splitlines()) if line["kind"] == kind]


# --- Verdicts ---------------------------------------------------------------------------


def test_running_the_cell_again_calls_no_check_again(run: Run, kept: Path) -> None:
    """Passes, scores and notes are in the file; a new case is judged, and the tables are the same."""
    check = Counted()
    first = run(CASES, [check, one_case_per_conversation], path=kept)
    assert check.calls == 4
    again = run(CASES, [check, one_case_per_conversation], path=kept)
    assert check.calls == 4
    assert list(again.rows()) == list(first.rows())
    run([*CASES, "another"], [check, one_case_per_conversation], path=kept)
    assert check.calls == 5


def test_only_what_could_not_be_judged_is_judged_again(run: Run, kept: Path) -> None:
    """By the next run, and by `rescore`; with `again` each turn is."""
    check = Counted()
    check.broken = True
    result = run(CASES, [check], path=kept)
    assert check.calls == 4 and set(result.df["counted"].isna()) == {True}
    check.broken = False
    result = run(CASES, [check], path=kept)
    assert check.calls == 8 and result.passed("counted")["demo"]["ticket"] == [True]
    assert result.rescore().notes() == [] and check.calls == 8
    assert check.calls == 8 and result.rescore(again=True) is result and check.calls == 12
    assert Evaluation.open(kept).df["counted note"].tolist() == result.df["counted note"].tolist()


@pytest.mark.parametrize("change", ["version", "name", "reply"])
def test_a_verdict_belongs_to_a_check_its_version_and_a_reply(
    change: str, agent: DemoAgent, run: Run, kept: Path
) -> None:
    """A changed check judges again, and so does one whose reply was asked for again."""
    agent.faults.append("cut text" if change == "reply" else "drip")
    check = Counted()
    run(["one"], [check], path=kept)
    assert check.calls == 1
    if change == "version":
        check.version = "2"
    if change == "name":
        check.__name__ = "other"
    run(["one"], [check], path=kept, resume="interrupted")
    assert check.calls == 2
    run(["one"], [check], path=kept)
    assert check.calls == 2


def test_a_verdict_belongs_to_what_the_check_was_given(run: Run, kept: Path) -> None:
    """A case that expects something else is judged again, by the checks that see it; a renamed one is not."""
    calls: list[str] = []

    def expects(reply: Reply, expect: Any) -> bool:
        calls.append("expects")
        return bool(expect == "Ada")

    def whole(reply: Reply, case: Any, config: str) -> bool:
        calls.append("whole")
        return bool(case.id == "b") and config == "demo"

    def plain(reply: Reply) -> bool:
        calls.append("plain")
        return True

    checks = [expects, whole, plain, contains()]
    case: dict[str, Any] = {"id": "a", "message": "My name is Ada", "expect": "Ada", "tags": ["x"]}
    for change, called in (
        ({}, ["expects", "whole", "plain"]),
        ({}, []),
        ({"expect": "Bob"}, ["expects", "whole"]),
        ({"expect": None}, ["expects", "whole"]),
        ({"id": "b"}, ["whole"]),
        ({"tags": []}, ["whole"]),
        ({"topic": 1}, ["whole"]),
        ({}, []),
    ):
        calls.clear()
        result = run([case | change], checks, path=kept)
        assert calls == called
        expected = (case | change)["expect"]
        row = next(result.rows())
        assert row["expects"] is (expected == "Ada")
        assert row["contains"] is (None if expected is None else expected == "Ada")
        assert list(Evaluation.open(kept).rows()) == [row]


def test_other_checks_and_back_again_call_none_twice(run: Run, kept: Path) -> None:
    """Each verdict stays in the file, and the file says which checks count now."""
    check, other = Counted(), Counted("other")
    result = run(CASES, [check], path=kept)
    result.rescore([other]).rescore([check])
    assert (check.calls, other.calls) == (4, 4)
    assert list(Evaluation.open(kept).df.filter(like="counted")) == list(result.df.filter(like="counted"))
    result.rescore([check, other])
    assert (check.calls, other.calls) == (4, 4)
    assert run(CASES, path=kept).summary().filter(like="counted").empty  # without checks
    assert list(Evaluation.open(kept).summary().index) == ["demo"]
    assert Evaluation.open(kept).passed("other") == result.passed("other")


def test_verdicts_that_cannot_be_written_are_kept_in_memory(run: Run, kept: Path) -> None:
    """Such as while another process writes the file; the result says so."""
    check = Counted()
    result = run(CASES, [check], path=kept)
    before = kept.read_bytes()
    with contextlib.closing(Journal(kept)):
        result.rescore([Counted("other")])
    assert kept.read_bytes() == before and result.passed("other")["demo"]["ticket"] == [True]
    [note] = result.notes()
    assert note.startswith("New verdicts are kept in memory only: Another evaluation is writing")
    assert result.rescore(again=True).notes() == []  # now they are written
    assert Evaluation.open(kept).passed("other") == result.passed("other")


def test_verdicts_on_a_full_disk_are_kept_in_memory(run: Run, kept: Path) -> None:
    """The file keeps what it has, and later verdicts can be written."""
    check, other = Counted(), Counted("other")
    result = run(CASES, [check], path=kept)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (kept.stat().st_size + 10, limits[1]))  # for a part of a line
    try:
        result.rescore([other])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    [note] = result.notes()
    assert "could not be written (File too large)" in note
    assert result.passed("other")["demo"]["ticket"] == [True] and len(lines_of(kept, "verdict")) == 4
    assert result.rescore([check]).passed("counted")["demo"]["ticket"] == [True] and check.calls == 4
    result.rescore([other])
    assert other.calls == 8 and Evaluation.open(kept).passed("other") == result.passed("other")


def test_an_interrupted_judging_keeps_its_verdicts(run: Run, kept: Path) -> None:
    """The next `rescore` calls the check for the others only."""
    calls = []

    def stops(reply: Reply) -> bool:
        calls.append(reply)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return True

    result = run(CASES, [], path=kept)
    assert "Check 'stops' has not judged" in result.rescore([stops]).notes()[-1]
    assert len(lines_of(kept, "verdict")) == 2
    result.rescore()
    assert len(calls) == 3 + 2 and result.passed("stops")["demo"].keys() == {
        "memory",
        "ticket",
        "<b>bold</b>",
    }


KILLED = """\
import sys, time
from halo_notebook import HaloClient, evaluate
def slow(reply):
    print("judged", flush=True)
    time.sleep(0.05)
    return True
slow.version = "1"
client = HaloClient({key!r}, base_url={url!r})
cases = [f"message {{number}}" for number in range(40)]
evaluate(cases, [slow], configs={{"demo": client}}, path={path!r}, concurrency=4, progress=False)
"""


def test_verdicts_survive_a_kill(agent: DemoAgent, client: HaloClient, run: Run, kept: Path) -> None:
    """A check that was called before its process was killed is not called again for more than one reply."""
    code = KILLED.format(key=DEMO_KEY, url=agent.url, path=str(kept))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    for _ in range(15):
        process.stdout.readline()
    process.kill()
    called = 15 + process.stdout.read().count(b"judged")
    process.wait(20)
    process.stdout.close()
    calls = []

    def slow(reply: Reply) -> bool:
        calls.append(reply)
        return True

    slow.version = "1"  # type: ignore[attr-defined]
    result = run(messages(40), [slow], path=kept, resume="interrupted")
    assert 40 <= called + len(calls) <= 41 + 1
    assert result.df["slow"].all() and len(set(sent(agent))) == 40


# --- Opened without cases ---------------------------------------------------------------


def test_a_file_stands_alone(
    agent: DemoAgent, client: HaloClient, run: Run, kept: Path, tmp_path: Path
) -> None:
    """Everything works on the opened result as on the first one, after the agent is gone."""
    agent.faults.append("cut text")
    configs = {"chat": client, "voice": {"client": client, "mode": "voice"}}
    checks = {"contains": contains(), "counted": Counted(), "long": one_case_per_conversation}
    result = run(CASES, checks, configs=configs, repeats=2, concurrency=1, path=kept)
    agent.stop()
    opened = Evaluation.open(str(kept))
    assert list(opened.rows()) == list(result.rows())
    assert opened.df.equals(result.df) and opened.worst().equals(result.worst())
    assert opened.summary(by_tag=True).equals(result.summary(by_tag=True))
    assert str(opened.compare("chat", "voice")) == str(result.compare("chat", "voice"))
    assert opened.notes() == result.notes() and repr(opened) == repr(result)
    assert opened._repr_html_() == result._repr_html_()
    assert opened.plot().svg() and opened.to_html(tmp_path / "page.html").exists()
    assert [message for message, _ in opened.conversation(0)] == ["My name is Ada"]
    assert opened.rescore([contains("ticket")]).passed("contains(ticket)")["chat"]["ticket"] == [True, True]
    rows = list(opened.rows())
    assert {row["case"] for row in rows} == {"memory", "ticket", "<b>bold</b>"}
    assert [line["metadata"] for line in lines_of(kept, "case")] == [{}, {"topic": {"area": "support"}}, {}]


@pytest.mark.parametrize("seed", range(5))
def test_an_opened_file_is_the_result_whatever_happened(
    seed: int, agent: DemoAgent, client: HaloClient, run: Run, kept: Path
) -> None:
    """After several runs with other cases, checks and configurations, and faults of every kind."""
    choice = random.Random(seed)
    voice = {"client": client, "mode": "voice"}
    faults = ["cut text", "401", "503 retry-after 0", "drip", "500", "close"]
    for _ in range(4):
        agent.faults.clear()
        agent.faults.extend(choice.choices(faults, k=choice.randrange(6)))
        cases = [
            choice.choice(
                [f"m {number}", {"message": f"m {number}", "expect": choice.choice(["m", None])}, ["m", "n"]]
            )
            for number in range(choice.randrange(1, 7))
        ]
        checks = choice.choice([[contains()], [contains(), one_case_per_conversation], [ok, contains("m")]])
        configs = choice.choice([{"a": client}, {"a": client, "b": voice}, {"b": voice}])
        resume = choice.choice([True, "interrupted"])
        result = run(cases, checks, configs=configs, path=kept, repeats=choice.choice([1, 2]), resume=resume)
        if choice.random() < 0.3:
            result.rescore(checks, again=choice.random() < 0.5)
        opened = Evaluation.open(kept)
        assert list(opened.rows()) == list(result.rows())
        assert opened.summary().equals(result.summary()) and repr(opened) == repr(result)


def test_the_file_of_another_process_that_writes_it(run: Run, kept: Path) -> None:
    """It is read up to the line that is being written; the lock is not taken, and the writer goes on."""
    result = run(CASES, [ok], path=kept)
    whole = kept.read_bytes()
    last = len(whole.splitlines(keepends=True)[-1])
    with contextlib.closing(Journal(kept)):
        for cut in range(1, last + 1):
            kept.write_bytes(whole[:-cut])
            opened = Evaluation.open(kept)
            assert len(opened) == len(result) and "cut short" not in str(opened.notes())
        kept.write_bytes(whole)
        assert states(Evaluation.open(kept)) == states(result)
        with pytest.raises(errors.UsageError, match="Another evaluation is writing"):
            run(CASES, path=kept)


@pytest.mark.parametrize(
    ("cases", "turns"),
    [(["one"], 0), ([["one", "two"]], 1), ([["one", "two"]], 0)],
    ids=["sent", "between", "two"],
)
def test_what_has_no_end_in_the_file_may_still_be_running(
    cases: list[Any], turns: int, run: Run, kept: Path
) -> None:
    """So no note says that it broke off, as one does after a Stop in this process."""
    run(cases, path=kept)
    lines = kept.read_bytes().splitlines(keepends=True)
    ends = [at for at, line in enumerate(lines) if line.startswith(b'{"kind":"turn"')]
    kept.write_bytes(b"".join(lines[: ends[0] + turns]))
    opened = Evaluation.open(kept)
    [note] = opened.notes()
    assert note.startswith(
        "1 conversation began and did not end in the file: the run was stopped or killed, or "
    )
    assert "It counts as missing, and the figures leave it out. 1 may have reached the agent" in note


def test_a_running_evaluation_can_be_opened(run: Run, kept: Path) -> None:
    """Also many times; each time it has what had been written."""
    with DemoAgent(first_byte_s=0, reply=in_two_parts(0.05)) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        done = threading.Event()
        seen: list[int] = []

        def look() -> None:
            while not done.is_set():
                with contextlib.suppress(errors.UsageError):  # there is no file yet, or no case in it
                    seen.append(states(Evaluation.open(kept)).count("complete"))

        looking = threading.Thread(target=look)
        looking.start()
        result = run(messages(60), [ok], configs=configs, path=kept, concurrency=8)
        done.set()
        looking.join()
    assert states(result) == ["complete"] * 60
    assert seen == sorted(seen) and len(set(seen)) > 2


def test_checks_of_an_opened_file_are_known_by_their_verdicts(run: Run, kept: Path) -> None:
    """To judge again, `rescore` needs their code; with the same version it calls none."""
    check = Counted()
    run(CASES, [check], path=kept)
    opened = Evaluation.open(kept)
    with pytest.raises(errors.UsageError, match=r"holds the verdicts of its checks \(counted\)") as raised:
        opened.rescore()
    assert "\n" not in str(raised.value)
    assert opened.rescore([check]).passed("counted")["demo"]["ticket"] == [True] and check.calls == 4
    opened.rescore(again=True)
    assert check.calls == 8


# What the writer of a file has written first.
STARTED = '{"kind":"run","format":2,"configs":{"a":{"url":"http://x","source":"","target":"digest"}}}\n'


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "No evaluation file at"),
        ("", "holds no evaluation"),
        ('{"kind":"run","format":1}\n', "holds no evaluation"),
        ('{"kind":"run","format":1,"configs":{"a":"http://x"}}\n', "earlier version, and holds no cases"),
        (STARTED, r"holds no evaluation so far.*open it again if a run is starting"),
        (STARTED[: len(STARTED) // 2], r"holds no evaluation so far.*open it again"),
        ("my dear diary\n", "Line 1 of 'evaluation.jsonl' is not a line of an evaluation"),
        ('{"kind":"run","for', "holds no evaluation"),
    ],
)
def test_a_file_that_cannot_be_opened_is_one_line(content: str | None, why: str, kept: Path) -> None:
    """Nothing is created or changed."""
    if content is not None:
        kept.write_text(content)
    with pytest.raises(errors.UsageError, match=why) as raised:
        Evaluation.open(kept)
    assert "\n" not in str(raised.value) and "Nothing was sent" in str(raised.value)
    assert [each.read_text() for each in kept.parent.iterdir()] == ([] if content is None else [content])


def test_a_file_of_an_earlier_version_can_be_opened_after_a_run(
    run: Run, agent: DemoAgent, kept: Path
) -> None:
    """Which adds its cases, and sends nothing."""
    run(CASES, [ok], path=kept)
    new = [json.loads(line) for line in kept.read_text().splitlines()]
    old = [line for line in new if line["kind"] not in ("case", "plan", "checks", "verdict")]
    old[0] = {**old[0], "format": 1, "configs": {"demo": agent.url}}
    del old[0]["repeats"]
    for line in old:
        line.pop("cause", None)
    kept.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in old))
    agent.requests.clear()
    result = run(CASES, [ok], path=kept)
    assert states(result) == ["complete"] * 4 and sent(agent) == [] and result.notes() == []
    assert list(Evaluation.open(kept).rows()) == list(result.rows())


def test_a_file_that_an_earlier_version_wrote_is_continued(kept: Path) -> None:
    """Its replies are used, and what may have arrived is not sent; the agent that it names is long gone."""
    shutil.copy(Path(__file__).with_name("format_1.jsonl"), kept)
    with pytest.raises(errors.UsageError, match="earlier version, and holds no cases"):
        Evaluation.open(kept)
    memory = {"id": "memory", "turns": ["My name is Ada", "What is my name?"], "expect": "Ada"}
    configs = {"demo": HaloClient(DEMO_KEY, base_url="http://127.0.0.1:18765/api/sdk")}
    cases = ["one", memory, "Open a ticket"]
    result = evaluate(cases, [contains(), ok], configs=configs, path=kept, progress=False)
    assert states(result) == ["interrupted", *["complete"] * 3]
    assert [row["cause"] for row in result.rows()] == ["agent", "", "", ""]
    assert result.passed("ok")["demo"] == {"1": [False], "memory": [True], "3": [True]}
    assert list(Evaluation.open(kept).rows()) == list(result.rows())


def test_a_case_is_written_once_and_without_secrets(client: HaloClient, run: Run, kept: Path) -> None:
    """Whatever is run again; a user token says who sends it, and is renewed."""
    token = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoiYSJ9.c2VjcmV0LXNpZ25hdHVyZQ"
    case = {"message": "Hello", "user_id": "a", "user_token": token, "context": {"a": {"value": [1]}}}
    for _ in range(3):
        run([case, *CASES], path=kept, configs={"demo": client, "other": {"client": client, "mode": "voice"}})
    assert len(lines_of(kept, "case")) == 4 and len(lines_of(kept, "plan")) == 1
    assert token not in kept.read_text() and DEMO_KEY not in kept.read_text()
    run(CASES[:2], path=kept)
    assert len(lines_of(kept, "case")) == 4 and len(lines_of(kept, "plan")) == 2
    assert len(Evaluation.open(kept)) == 2  # the latest run counts


# --- Who is asked -----------------------------------------------------------------------


def others(result: Evaluation) -> list[str]:
    """The notes on replies that are not used."""
    return [note for note in result.notes() if "not used" in note]


IN_A_KERNEL = """\
from IPython.core.interactiveshell import InteractiveShell
from halo_notebook import evaluate
InteractiveShell.instance().run_line_magic("load_ext", "halo_notebook")
result = evaluate(["one", ["My name is Ada", "What is my name?"]], path={path!r}, progress=False)
print(result.notes())
"""


def test_the_kernels_own_demo_agent_is_the_same_in_each_kernel(kept: Path) -> None:
    """Its port is another one in each: the file is continued where it was."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HALO_")}
    for _ in range(2):
        code = IN_A_KERNEL.format(path=str(kept))
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
        )
        assert done.stdout.endswith("[]\n")
    urls = {line["configs"]["default"]["url"] for line in lines_of(kept, "run")}
    assert len(urls) == 2 and len(lines_of(kept, "sent")) == 3
    assert Evaluation.open(kept).summary()["agents"]["default"] == "agent_demo (demo agent)"


@pytest.mark.parametrize("change", ["address", "agent_id", "mode"])
def test_replies_of_another_target_are_counted(
    change: str, agent: DemoAgent, client: HaloClient, run: Run, kept: Path
) -> None:
    """They are not used, and the result says so; those of an edited case are not counted."""
    run(["edited", "one", "two"], path=kept)
    with DemoAgent(first_byte_s=0, chunk_s=0) as other:
        url = other.url if change == "address" else agent.url
        fields = {} if change == "address" else {change: "voice"}
        configs = {"demo": {"client": HaloClient(DEMO_KEY, base_url=url), **fields}}
        result = run(["one", "two", "three"], configs=configs, path=kept)
    assert states(result) == ["complete"] * 3
    [note] = others(result)
    assert note.startswith("3 replies in 'evaluation.jsonl' are from another agent, user or configuration")
    assert agent.url in note and note.endswith("they are not used.")
    assert others(Evaluation.open(kept)) == [note]
    assert others(run(["one"], path=kept, configs={"demo": client, "b": configs["demo"]})) == []
