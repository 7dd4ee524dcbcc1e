"""Conversations with a random user, cut short and resumed: the same words, and none of them twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import DemoAgent, Evaluation, HaloClient, UsageError
from halo_notebook.demo import DEMO_KEY
from halo_notebook.evaluation.file.lines import located_lines

from ..agents import in_two_parts, ok, sent, states, wait_until
from ..users import Turns, endless, ends, two

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from halo_notebook import Reply
    from halo_notebook.checks import JudgedTurn

    from ..conftest import Run

TURNS = 4


def random_user(conversation: Sequence[JudgedTurn]) -> str | None:
    """Whose messages are never the same."""
    return None if len(conversation) == TURNS else f"{len(conversation)} {random.random()}"


random_user.version = "1"  # type: ignore[attr-defined]

KILLED = """\
import random, time
from halo_notebook import HaloClient, evaluate

def user(conversation):
    time.sleep(random.random() * {thinks_s})
    return None if len(conversation) == {turns} else f"{{len(conversation)}} {{random.random()}}"

user.version = "1"
client = HaloClient({key!r}, base_url={url!r})
evaluate([user], configs={{"demo": client}}, repeats=12, path={path!r}, concurrency=4, progress=False)
"""


def said(path: Path) -> dict[str, list[str]]:
    """The messages of each conversation, as the file has them, in order."""
    found = defaultdict(list)
    for _, line in located_lines(path):
        if line["kind"] == "message":
            found[line["key"]].append(line["message"])
    return found


def check_resumed(result: Evaluation, agent: DemoAgent, before: dict[str, list[str]]) -> None:
    """What was said before is the beginning of what there is now; each message has arrived at most once."""
    assert len(set(sent(agent))) == len(sent(agent))
    after = said(result.path)
    assert all(after[key][: len(messages)] == messages for key, messages in before.items())
    sessions: dict[Any, list[str]] = defaultdict(list)
    for row in result.rows():
        if row["status"] == "complete":
            sessions[row["session_id"]].append(row["message"])
    arrived: dict[Any, list[str]] = defaultdict(list)
    for request in agent.requests:
        message = request.body["message"]
        row_session = next((key for key, messages in sessions.items() if message in messages), None)
        assert request.body.get("session_id") in (row_session, None) or row_session is None
        arrived[row_session].append(str(message))
    assert all(
        arrived[key] == messages for key, messages in sessions.items()
    )  # in their order, in one session


@pytest.mark.parametrize("thinks_s", [0, 0.2], ids=["in replies", "while users think"])
def test_after_a_kill_conversations_continue_with_the_same_messages(
    thinks_s: float, run: Run, kept: Path
) -> None:
    """Twice in a row: those that were cut between two messages go on in their session."""
    with DemoAgent(first_byte_s=0, reply=in_two_parts(0.05)) as agent:
        code = KILLED.format(thinks_s=thinks_s, turns=TURNS, key=DEMO_KEY, url=agent.url, path=str(kept))
        for _ in range(2):
            enough = len(agent.requests) + 9
            process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
            wait_until(lambda: len(agent.requests) >= enough)  # noqa: B023
            process.kill()
            process.wait(20)
        before = said(kept)
        assert before and len(sent(agent)) < 12 * TURNS
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        result = run([random_user], [ok], configs=configs, repeats=12, path=kept)
        check_resumed(result, agent, before)
        # At most the messages on their way at a kill are not sent again; the rest is complete.
        cut = [row for row in result.rows() if row["status"] == "interrupted"]
        assert len(cut) <= 8 and all(row["end_reason"] == "no complete reply" for row in cut)
        ended = [row["end_reason"] for row in result.rows() if row["end_reason"]]
        assert ended.count("ended") == 12 - len(cut)
        assert Evaluation.open(kept).df.equals(result.df)


def test_a_higher_limit_continues_conversations_that_had_too_many_turns(
    agent: DemoAgent, run: Run, kept: Path
) -> None:
    """In their sessions, with what was said. They are judged at the new end, whatever the limit is later."""

    def long(conversation: Turns) -> bool:
        return len(conversation) > 2

    def expected(reply: Reply, expect: object) -> bool | None:
        return None if expect is None else expect == "last"

    def limited(most: int) -> Evaluation:
        cases = [{"turns": ["Hi", endless], "max_turns": most, "expect": "last"}, {"turns": ["Hello", two]}]
        return run(cases, [ok, long, expected], path=kept, concurrency=1)

    assert ends(limited(2)) == ["too many turns", "ended"]
    assert sent(agent) == ["Hi", "message 1", "Hello", "two"]
    for most in (4, 4, 3, 2):
        result = limited(most)
        assert sent(agent)[4:] == ["message 2", "message 3"]
        assert ends(result) == ["too many turns", "ended"] and states(result) == ["complete"] * 6
        df = result.df[:4]
        assert df["session_id"].nunique() == 1 and df["ok"].tolist() == [True] * 4
        assert df["long"].isna().tolist() == df["expected"].isna().tolist() == [True, True, True, False]
        assert result.passed("long")["demo"] == {"1": [True], "2": [False]}
        assert Evaluation.open(kept).df.equals(result.df)


def test_after_interrupts_conversations_continue_with_the_same_messages(run: Run, kept: Path) -> None:
    """Some were in the middle of a reply, which may have arrived; the others are complete in the end."""
    with DemoAgent(first_byte_s=0, reply=in_two_parts(0.03)) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        before: dict[str, list[str]] = {}
        for _ in range(3):
            enough = len(agent.requests) + 8

            def interrupt(enough: int = enough) -> None:
                wait_until(lambda: len(agent.requests) >= enough)
                os.kill(os.getpid(), signal.SIGINT)

            threading.Thread(target=interrupt).start()
            result = run([random_user], configs=configs, repeats=12, path=kept, concurrency=3)
            assert result.interrupted
            check_resumed(result, agent, before)
            before = said(kept)
        result = run([random_user], configs=configs, repeats=12, path=kept)
        check_resumed(result, agent, before)
        assert not result.interrupted and "not run" not in states(result)


def test_resume_interrupted_sends_the_same_messages_again(agent: DemoAgent, run: Run, kept: Path) -> None:
    """In a fresh session, from the first one, and then what the user says to that."""
    agent.faults.extend(["drip", "cut text"])
    first = run([random_user], [ok], path=kept)
    assert states(first) == ["complete", "interrupted"]
    again = run([random_user], [ok], path=kept, resume="interrupted")
    assert states(again) == ["complete"] * TURNS and again.notes() == []
    assert sent(agent)[2:4] == sent(agent)[:2] and len(set(sent(agent))) == TURNS
    assert "session_id" not in agent.requests[2].body
    assert [row["message"] for row in again.rows()] == sent(agent)[2:]
    assert Evaluation.open(kept).df.equals(again.df)


def test_a_message_is_in_the_file_before_it_is_sent(run: Run, kept: Path) -> None:
    """As the agent gets it, the file has it, with the line that it was sent."""
    found: list[bool] = []

    def reply(request: Any) -> Any:
        lines = [line for _, line in located_lines(kept)]
        [message] = [line for line in lines if line.get("message") == request["message"]]
        found.append(any(line["kind"] == "sent" and line["turn"] == message["turn"] for line in lines))
        yield from ()

    with DemoAgent(first_byte_s=0, reply=reply) as agent:
        run([random_user], configs={"demo": HaloClient(DEMO_KEY, base_url=agent.url)}, path=kept)
    assert found == [True] * TURNS


@pytest.mark.parametrize("cut", ["message", "sent", "turn", "end"])
def test_a_file_that_ends_anywhere_is_continued(cut: str, agent: DemoAgent, run: Run, kept: Path) -> None:
    """After any of its lines: what may have arrived is not sent again, and all else goes on."""
    run([random_user], [ok], path=kept)
    data, lines = kept.read_bytes(), list(located_lines(kept))
    [at] = [at for at, line in lines if line["kind"] == cut and line["turn"] in (2, TURNS)]
    kept.write_bytes(data[:at] + data[at:].splitlines(keepends=True)[0])
    before = len(agent.requests)
    result = run([random_user], [ok], path=kept)
    assert result.passed("ok") == {"demo": {"1": [None if cut == "sent" else True]}}
    messages = [row["message"] for row in result.rows()]
    old = [line["message"] for _, line in lines if line["kind"] == "message"]
    again = sent(agent)[before:]
    match cut:
        case "message":
            assert messages[:3] == old[:3] and again == messages[2:]
        case "sent":
            assert messages == old[:3] and again == []
        case "turn":
            assert messages[:3] == old[:3] and again == messages[3:]
        case "end":
            assert messages == old and again == []


HOSTILE: list[tuple[dict[str, Any], str]] = [
    ({"message": ""}, "The message is empty"),
    ({"message": 3}, "The message must be a string"),
    ({"message": "x" * 10_001}, "The message has 10,001 characters"),
    ({"fields": {"session_id": "s"}}, "'fields' is"),
    ({"fields": {"user_token": "t"}}, "'fields' is"),
    ({"fields": {"images": ["file:///etc/passwd"]}}, "images[0] must be an http(s) or data: URL"),
    ({"fields": 3}, "'fields' is '3'"),
    ({"more": 3}, "an item needs"),
    ({"turn": -1}, "'turn' is '-1'"),
    ({"key": 3}, "'key' is '3'"),
]


@pytest.mark.parametrize(("change", "why"), HOSTILE, ids=[why for _, why in HOSTILE])
def test_a_message_of_a_file_is_checked(
    change: dict[str, Any], why: str, agent: DemoAgent, run: Run, kept: Path
) -> None:
    """It would be sent when the run is resumed; the error names its line."""
    run([random_user], path=kept)
    _rewrite(kept, "message", change)
    with pytest.raises(UsageError) as raised:
        run([random_user], path=kept)
    assert "is not a line of an evaluation" in str(raised.value) and why in str(raised.value)
    assert len(agent.requests) == TURNS


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("end", {"reason": "<b>won</b>"}),
        ("end", {"reason": 3}),
        ("end", {"note": None}),
        ("end", {"turn": 1.5}),
        ("case", {"user": {"version": "1"}}),
        ("case", {"user": 3}),
        ("case", {"user": {"version": "1", "goal": 3, "max_turns": 5, "expect": None, "fields": {}}}),
        ("case", {"user": {"version": "1", "goal": "", "max_turns": 0, "expect": None, "fields": {}}}),
    ],
)
def test_other_lines_about_users_are_checked(kind: str, change: dict[str, Any], run: Run, kept: Path) -> None:
    """Each is one error, which names the line."""
    run([random_user], path=kept)
    _rewrite(kept, kind, change)
    with pytest.raises(UsageError, match="is not a line of an evaluation"):
        Evaluation.open(kept)


def test_lines_that_contradict_each_other_send_nothing_twice(agent: DemoAgent, run: Run, kept: Path) -> None:
    """Messages that come twice, leave a gap or belong to another conversation are left out."""
    run([random_user], path=kept)
    text = kept.read_text()
    lines = text.splitlines(keepends=True)
    messages = [line for line in lines if line.startswith('{"kind":"message"')]
    odd = [
        messages[0],
        messages[0].replace('"turn":0', '"turn":9'),
        messages[1].replace('"key":"', '"key":"x'),
    ]
    kept.write_text(text + "".join(odd))
    result = run([random_user], path=kept)
    assert states(result) == ["complete"] * TURNS and len(agent.requests) == TURNS


def test_an_end_before_the_first_message_is_no_end(agent: DemoAgent, run: Run, kept: Path) -> None:
    """A file that says so is read, and its conversation begins."""
    run([random_user], path=kept)
    lines = kept.read_text().splitlines(keepends=True)
    end = next(line for line in lines if line.startswith('{"kind":"end"'))
    kinds = ('{"kind":"run"', '{"kind":"case"', '{"kind":"plan"')
    kept.write_text(
        "".join(line for line in lines if line.startswith(kinds)) + end.replace('"turn":4', '"turn":0')
    )
    stored = Evaluation.open(kept)
    assert states(stored) == ["not run"] and "1 not run" in str(stored)
    assert states(run([random_user], path=kept)) == ["complete"] * TURNS and len(agent.requests) == 2 * TURNS


def _rewrite(path: Path, kind: str, change: dict[str, Any]) -> None:
    """Change the first line of that kind."""
    import json

    lines = path.read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if json.loads(line)["kind"] == kind)
    lines[at] = json.dumps({**json.loads(lines[at]), **change}, separators=(",", ":"))
    path.write_text("\n".join(lines) + "\n")
