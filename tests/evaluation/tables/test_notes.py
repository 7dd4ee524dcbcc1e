"""The notes of a result: what is incomplete and why, what was not judged, which replies are old."""

from __future__ import annotations

import gc
import json
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import HaloClient, Reply
from halo_notebook.checks import contains
from halo_notebook.demo import DEMO_KEY, DemoAgent

from ..agents import in_two_parts, messages, ok, sent, states, stopping_once

if TYPE_CHECKING:
    from ..conftest import Run


NOT_WHOLE = "got an error or no whole reply from the agent"
BROKE_OFF = (
    f"1 conversation {NOT_WHOLE} (The connection broke off before the reply had ended). It counts as failed. "
    "1 may have reached the agent: if sending twice is safe, rerun with resume='interrupted'."
)
MISSING = "They count as missing, and the figures leave them out"
REFUSED = (
    "3 conversations failed because Halo refused the request (Halo refused the key (401: Missing or "
    f"invalid API key (the fault '401' was asked for))). {MISSING}. Fix what the error names. Run the same "
    "call again."
)


# --- What is incomplete -----------------------------------------------------------------


@pytest.mark.usefixtures("given_up_early")
@pytest.mark.parametrize(
    ("faults", "note"),
    [
        (["cut text"], BROKE_OFF),
        (["500", "502"], f"2 conversations {NOT_WHOLE} (The service failed (500: Internal server error "),
        (["401", "401", "403"], REFUSED),
        (["429 retry-after 0"] * 2, "1 conversation ended at the rate limit (Rate limit reached (429: "),
    ],
    ids=["broken off", "errors", "refused", "limit"],
)
def test_each_cause_has_a_note(faults: list[str], note: str, agent: DemoAgent, run: Run, kept: Path) -> None:
    """With the number of conversations, the first error, whether they count, and what to do."""
    agent.faults += faults
    result = run(messages(5), [ok], concurrency=1, path=kept)
    [found] = result.notes()
    assert found.startswith(note)
    assert "as missing, and the figures leave" in found or len(result.failures()) == int(found[0]) <= 2
    assert result.df["cause"].nunique() == 2


def test_several_causes_have_a_note_each(agent: DemoAgent, run: Run, kept: Path) -> None:
    """Also a user token that could not be had; what the next call sends is told from what it does not."""

    def no_token() -> str:
        raise OSError("no token today")

    agent.faults += ["401", "cut text", "500"]
    cases: list[Any] = [*messages(3), {"message": "Hi", "user_id": "u", "user_token": no_token}]
    result = run([*cases, {"turns": ["one", "/fault 401"]}], concurrency=1, path=kept)
    broken, refused, no_way = result.notes()
    assert broken.startswith(f"2 conversations {NOT_WHOLE}")
    assert "2 may have reached the agent" in broken
    assert refused.startswith("2 conversations failed because Halo refused the request")
    assert refused.endswith(
        "Run the same call again. 1 may have reached the agent: if sending twice is safe, rerun with "
        "resume='interrupted'."
    )
    assert no_way.startswith("1 conversation did not get through (The user_token callable raised OSError)")


def test_a_stop_leaves_what_broke_off_and_what_did_not_start(run: Run, kept: Path) -> None:
    """They are missing: none is a failure, and none lowers a rate."""
    with DemoAgent(first_byte_s=0, reply=in_two_parts(0.05)) as slow:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=slow.url)}
        result = run(messages(9), [stopping_once()], configs=configs, concurrency=2, path=kept)
    result.rescore([ok])
    cut, waiting = states(result).count("interrupted"), states(result).count("not run")
    first, *others = result.notes()
    assert first == "It was stopped before all messages were sent; the same call resumes it."
    assert others[-1] == f"{waiting} conversations did not start. {MISSING}. Run the same call again."
    assert len(others) == 1 + bool(cut) and result.failures().empty and result.worst().empty
    if cut:
        assert re.match(r"\d conversations? broke off when the run ended\. .* as missing, ", others[0])
    assert {cause for cause in result.df["cause"] if cause} <= {"stopped"}
    assert result.df["ok"].count() == states(result).count("complete") and result.df["ok"].all()


@pytest.mark.parametrize(
    ("faults", "checks"),
    [([], [stopping_once()]), (["401"], []), (["cut text", "401"], []), (["500"], [])],
    ids=["stopped", "refused", "cut and refused", "an error"],
)
def test_the_notes_name_the_file_of_a_result_without_a_path(
    faults: list[str], checks: list[Any], agent: DemoAgent, run: Run
) -> None:
    """The same call without it would send every message again. The file outlasts the result."""
    agent.faults += faults
    result = run(messages(9), checks, concurrency=1)
    rows, before = list(result.rows()), len(agent.requests)
    told = [note for note in result.notes() if "call" in note or "rerun" in note]
    assert told and all(f"with path={str(result.path)!r}" in note for note in told)
    path = str(result.path)
    del result
    gc.collect()
    assert len(run(messages(9), path=path)) == 9
    waited = [row["message"] for row in rows if row["status"] in ("not run", "failed")]
    assert sorted(sent(agent)[before:]) == waited


@pytest.mark.parametrize("checks", [[], [ok], [ok, lambda conversation: True]], ids=len)
def test_a_stop_of_the_judging_only_says_so(checks: list[Any], run: Run, kept: Path) -> None:
    """All messages had been sent. When everything is judged, nothing is said about the stop."""
    run(messages(3), path=kept)
    stopped = run(messages(3), [*checks, stopping_once()], path=kept)
    assert stopped.interrupted and set(states(stopped)) == {"complete"}
    first, *others = stopped.notes()
    assert first == "It was stopped before all replies were judged; the same call resumes it."
    assert others and all("has not judged 3 turns yet" in note for note in others)
    assert stopped.rescore().interrupted and stopped.notes() == []


# --- Which cases went worst -------------------------------------------------------------


def test_the_worst_cases_failed_the_most_of_their_conversations(agent: DemoAgent, run: Run) -> None:
    """Missing ones do not count, and a case that passed is not there, however slow it was."""
    seen: dict[str, int] = {}

    def sometimes(reply: Reply, expect: Any, message: str) -> bool:
        seen[message] = seen.get(message, 0) + (reply.status == "complete")
        return seen[message] > int(expect)

    agent.faults += ["401"] * 2
    cases = [{"id": f"case {at}", "message": f"message {at}", "expect": at} for at in (1, 2, 0, 3)]
    result = run(cases, [sometimes], repeats=4, concurrency=1)
    worst = result.worst()
    assert worst[["case", "failed", "runs"]].to_numpy().tolist() == [
        ["case 3", 3, 4],
        ["case 2", 2, 3],
        ["case 1", 1, 3],
    ]
    assert worst["message"].tolist() == ["message 3", "message 2", "message 1"]
    assert worst["expect"].tolist() == [3, 2, 1] and set(worst["why"]) == {"failed sometimes"}
    assert len(result.failures()) == 6 and "case 0" not in set(result.failures()["case"])
    assert result.worst(2)["case"].tolist() == ["case 3", "case 2"]
    assert run(["Hello"], [ok]).worst().empty


def test_an_earlier_turn_of_a_missing_conversation_is_not_among_the_worst(agent: DemoAgent, run: Run) -> None:
    """As in the rates; the row that failed is still a failure."""
    result = run([{"turns": ["one", "/fault 401"], "expect": "x"}], [contains("zzz")], repeats=2)
    assert result.df["status"].tolist() == ["complete", "failed"] * 2
    assert len(result.failures()) == 2 and result.worst().empty
    assert result.passed("contains(zzz)") == {"demo": {"1": [None, None]}}


def test_the_agents_own_failures_need_no_check(agent: DemoAgent, run: Run) -> None:
    """A reply that it broke off is a failure, a refused key is not."""
    agent.faults += ["cut text", "401"]
    result = run(messages(3), concurrency=1)
    assert result.failures()["case"].tolist() == result.worst()["case"].tolist() == ["1"]
    assert result.worst()["why"].iloc[0].startswith("interrupted: The connection broke off")


# --- What was not judged ----------------------------------------------------------------


def test_a_check_that_could_not_judge_some_cases_says_so(run: Run) -> None:
    """With its first error, and of how many cases it has a verdict."""

    def judge(reply: Reply, message: str) -> bool:
        if int(message.split()[1]) % 2:
            raise TimeoutError("LLM timeout")
        return True

    result = run(messages(20), [judge], concurrency=1)
    [note] = result.notes()
    assert note == (
        "Check 'judge' could not judge 10 turns (first error: TimeoutError: LLM timeout); rescore() tries "
        "again. It has a verdict for 10 of 20 cases."
    )
    assert result.df["judge note"][1] == "TimeoutError: LLM timeout" and result.df["judge"].isna().sum() == 10


def test_a_check_of_conversations_judges_only_their_ends(run: Run) -> None:
    """The other turns are not missing a verdict."""

    def long(conversation: Any) -> bool:
        return len(conversation) == 2

    result = run([["one", "two"], "three"], [long])
    assert result.notes() == []
    assert result.df["long"].tolist() == [None, True, False] or result.df["long"].isna().tolist() == [
        True,
        False,
        False,
    ]

    def breaks(conversation: Any) -> bool:
        raise ValueError("no")

    [note] = run([["one", "two"], "three"], [breaks]).notes()
    assert note.startswith("Check 'breaks' could not judge 2 turns (first error: ValueError: no)")


# --- Which replies are old --------------------------------------------------------------


def dated(kept: Path, day: str, **changes: str) -> None:
    """Let the turns in a file have begun at that time, and change other parts of their replies."""
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    for line in lines:
        if line["kind"] == "turn":
            line["reply"] |= {"started_at": day, **changes}
    kept.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


@pytest.fixture
def at_place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets the local time zone."""

    def place(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield place
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("zone", "times"),
    [
        ("UTC", ("2025-01-03T23:30:00+00:00", "2025-01-03")),
        ("Asia/Tokyo", ("2025-01-03T23:30:00+00:00", "2025-01-04")),
        ("America/New_York", ("2025-01-04T03:30:00+00:00", "2025-01-03")),
        ("UTC", ("2025-01-04T01:30:00+02:00", "2025-01-03")),
    ],
)
def test_replies_of_another_day_have_a_note(
    zone: str, times: tuple[str, str], run: Run, kept: Path, at_place: Callable[[str], None]
) -> None:
    """By the local date; the next call says how many of the replies they are."""
    begun, day = times
    run(messages(10), path=kept)
    dated(kept, begun)
    at_place(zone)
    result = run(messages(12), path=kept)
    assert result.notes() == [f"10 of 12 replies are from {day}."]
    assert result.df["started_at"][0] == datetime.fromisoformat(begun)
    assert run(messages(1), path=kept).notes() == [f"1 of 1 replies is from {day}."]


def test_replies_of_several_days_have_one_note(run: Run, kept: Path) -> None:
    """The first and the last day."""
    run(messages(1), path=kept)
    dated(kept, "2025-01-03T12:00:00+00:00")
    other = kept.with_name("other.jsonl")
    run(messages(2), path=other)
    dated(other, "2025-02-01T12:00:00+00:00")
    kept.write_text(kept.read_text() + other.read_text().partition("\n")[2])
    assert run(messages(3), path=kept).notes() == ["2 of 3 replies are from 2025-01-03 to 2025-02-01."]
    assert run(messages(3), path=kept.with_name("new.jsonl")).notes() == []


def test_an_agent_that_changed_meanwhile_has_its_days(run: Run, kept: Path) -> None:
    """Two agents on one day have none."""
    yesterday = datetime.now(UTC) - timedelta(days=365)
    run(messages(3), path=kept)
    dated(kept, yesterday.isoformat(), agent_id="agent_old")
    days = [yesterday.astimezone().date(), datetime.now().astimezone().date()]
    notes = run(messages(5), path=kept).notes()
    assert notes == [
        f"More than one agent answered as 'demo': agent_old (3, {days[0]}), agent_demo (2, {days[1]}).",
        f"3 of 5 replies are from {days[0]}.",
    ]
    dated(kept, datetime.now(UTC).isoformat())
    kept.write_text(kept.read_text().replace("agent_old", "agent_b", 2).replace("agent_demo", "agent_a"))
    [note] = run(messages(5), path=kept).notes()
    assert re.fullmatch(r"More than one agent answered as 'demo': agent_\w+ \(\d\), agent_\w+ \(\d\).*", note)
