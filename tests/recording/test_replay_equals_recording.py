"""A replay gives what was recorded: bytes, chunks, times, statuses and errors, at any pace."""

from __future__ import annotations

import asyncio
import json
import socket
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from halo_notebook import AsyncHaloClient, HaloClient, errors, evaluate
from halo_notebook.checks import contains
from halo_notebook.demo import DEMO_KEY, DemoAgent
from halo_notebook.kernel import Connection
from halo_notebook.recording.format import How, RecordedExchange, read_recording
from halo_notebook.recording.recorder import Recorder
from halo_notebook.recording.replay import Replay

from ..harness.faults import FAULTS, Fault
from .recordings import KEY, SECRET, asked, recorded, replaying, said, texts


def test_a_reply_is_replayed_exactly(path: Path) -> None:
    """The same bytes in the same chunks: text, actions with their places, summary, ids and times."""
    with DemoAgent(first_byte_s=0.02, chunk_s=0.001) as agent:
        then = HaloClient(DEMO_KEY, base_url=agent.url, record=Recorder(path)).ask(
            "How do I set up event tracking?", user_id="u_1", context={"plan": "team"}
        )
    now = replaying(path).ask("How do I set up event tracking?")
    assert then.status == "complete" and len(then.actions) == 2
    for name in ("text", "actions", "summary", "session_id", "agent_id"):
        assert getattr(now, name) == getattr(then, name), name
    assert [each.offset for each in now.action_events] == [each.offset for each in then.action_events]
    (exchange,) = read_recording(path)
    # Never early; a busy machine is late.
    first_at_s, last_at_s = exchange.chunks[0][0], exchange.ended_at_s
    assert now.first_text_s is not None and first_at_s <= now.first_text_s < first_at_s + 5
    assert now.elapsed_s is not None and last_at_s <= now.elapsed_s < last_at_s + 5
    for each, before in zip(now.action_events, then.action_events, strict=True):
        assert first_at_s < each.at_s < before.at_s + 5
    assert exchange.body["context"] == {"plan": {"label": "plan", "value": "team"}}
    assert len(exchange.chunks) > 50, "the agent's chunks, not one"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_fault_is_replayed(fault: Fault, agent: DemoAgent, path: Path) -> None:
    """Each status, break and silence ends the reply with the same line, after the same number of tries."""
    with HaloClient(KEY, base_url=agent.url, silence_timeout_s=1, record=Recorder(path)) as client:
        agent.faults.extend([fault.name] * 3)
        then, then_error = asked(client, "Hello")
    assert len(read_recording(path)) == fault.sent
    now, now_error = asked(replaying(path), "Hello")
    assert type(then_error) is (type(None) if fault.error is None else fault.error)
    assert (type(now_error), str(now_error)) == (type(then_error), str(then_error))
    for name in ("status", "text", "actions", "malformed", "session_id", "retries", "may_have_arrived"):
        assert getattr(now, name) == getattr(then, name), name


def test_a_refused_connection_is_replayed(path: Path) -> None:
    """No connection then is none now: sent three times, and it certainly did not arrive."""
    client = HaloClient(KEY, base_url="http://127.0.0.1:9", record=Recorder(path))
    with pytest.raises(errors.ConnectionFailed):
        client.ask("Hello")
    assert [each.status for each in read_recording(path)] == [None] * 3
    reply, error = asked(replaying(path), "Hello")
    assert isinstance(error, errors.ConnectionFailed)
    assert (reply.may_have_arrived, reply.retries) == (False, 2)


def test_a_whole_answer(agent: DemoAgent, path: Path) -> None:
    """The endpoint that answers in one piece is recorded too, and each is asked for in its own way."""
    client = HaloClient(KEY, base_url=agent.url, record=Recorder(path))
    first = client.chat("My name is Ada")
    second = client.chat("What is my name?", session_id=first.session_id)
    replay = replaying(path)
    assert replay.chat("My name is Ada").raw == first.raw
    assert replay.chat("What is my name?", session_id=first.session_id).raw == second.raw
    with pytest.raises(errors.UsageError, match=r"is in 'demo\.jsonl' in one piece only"):
        replay.ask("My name is Ada")


def test_the_async_client_records_and_replays(agent: DemoAgent, path: Path) -> None:
    """The async client records and replays on any loop, several turns at a time."""

    async def texts(client: AsyncHaloClient) -> list[str]:
        async with client:
            replies = await asyncio.gather(*[client.ask(f"My name is Ada {n}") for n in range(5)])
        return [reply.text for reply in replies]

    then = asyncio.run(texts(AsyncHaloClient(KEY, base_url=agent.url, record=Recorder(path))))
    assert asyncio.run(texts(AsyncHaloClient(transport=Replay(path, pace="fast")))) == then
    assert len(set(then)) == 5


@given(
    st.lists(st.binary(max_size=12), max_size=8),
    st.sampled_from(["whole", "broken", "stopped"]),
    st.text(min_size=1, max_size=20).filter(str.strip),
)
def test_any_bytes_can_be_kept(chunks: list[bytes], how: How, message: str) -> None:
    """What is written is read again as it was, whatever the bytes and wherever they were cut."""
    exchange = said(message, *chunks, how=how, error="ReadError" if how == "broken" else "")
    line = json.loads(json.dumps(exchange.to_line(), ensure_ascii=False))
    assert RecordedExchange.from_line(line) == exchange


def test_the_paces(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its own pace a reply, or a retry, takes the recorded time; fast it waits for nothing."""
    refused = said("Hello", status=429, session=None, headers={"Retry-After": "50"})
    recorded(path, refused, said("Hello", "a", "b", "c", tries=2))
    now = 100.0
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        waits.append(round(seconds, 3))

    clock = SimpleNamespace(perf_counter=lambda: now)
    monkeypatch.setattr("halo_notebook.client.transports.protocol.time", clock)
    monkeypatch.setattr("halo_notebook.recording.replay.asyncio", SimpleNamespace(sleep=sleep))
    own = replaying(path, "own").ask("Hello")
    assert waits == [0.1, 0.1, 50, 0.1, 0.1, 0.1, 0.1, 0.1]
    waits.clear()
    fast = replaying(path, "fast").ask("Hello")
    assert set(waits) == {0}
    for reply in (own, fast):
        assert (reply.retries, reply.first_text_s, reply.elapsed_s) == (1, 0.2, 0.5)


def test_a_replay_connects_to_nothing_and_needs_no_settings(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No key, no token, no address, no socket: what the environment holds of them does no harm."""
    recorded(path, said("Hello", "hi"), said("Who?", status=403, session=None, headers={}))

    def refused(*arguments: object, **options: object) -> None:
        raise AssertionError("the network was used")

    for name in ("connect", "connect_ex", "bind", "listen", "sendto"):
        monkeypatch.setattr(socket.socket, name, refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setenv("HALO_API_KEY", SECRET)  # is refused wherever a key is used
    monkeypatch.setenv("HALO_BASE_URL", "ftp://nowhere")
    monkeypatch.setenv("HTTPS_PROXY", "socks9://nowhere")
    client = replaying(path, user_token=refused)
    assert client.ask("Hello", user_token=lambda: cast(str, refused())).text == "hi"
    with pytest.raises(errors.IdentityError):
        client.ask("Who?", user_token=lambda: cast(str, refused()))
    assert client.base_url == "https://replay.invalid/demo.jsonl"
    assert client.debug()["api_key"] == client.debug()["user_token"] == "unset"


def test_the_source_names_the_recording(agent: DemoAgent, path: Path, tmp_path: Path) -> None:
    """A replay names its file, and says so where the demo agent had answered."""
    connection = Connection()
    connection.demo, connection.demo_wanted = agent, True
    connection.start_recording(path)
    assert connection.client().ask("Hello").status == "complete"
    connection.start_replay(path, "fast")
    client = connection.client()
    assert client.source == connection.source == "replay of demo.jsonl (demo agent)"
    assert client.ask("Hello").status == "complete"
    assert len(read_recording(path)) == 1, "a replay is not recorded"
    odd = recorded(tmp_path / "a b%?#ö.jsonl", said("Hello", "hi"))
    assert replaying(odd).source == "replay of a b%?#ö.jsonl"


def test_an_evaluation_over_a_replay_is_the_same_each_time(path: Path) -> None:
    """Replies, verdicts and times: those of the recording."""
    ask = partial(
        evaluate, [["My name is Ada", "What is my name?"], "Open a ticket"], [contains("Ada")], repeats=2
    )
    with DemoAgent(first_byte_s=0.01, chunk_s=0.001) as agent:
        client = HaloClient(DEMO_KEY, base_url=agent.url, record=Recorder(path))
        then = ask(configs={"a": client}, progress=False)
    names = ("status", "text", "contains(Ada)", "first_text_s", "elapsed_s", "session_id")
    seen = []
    for _ in range(2):
        now = ask(configs={"a": replaying(path)}, concurrency=1, progress=False)
        assert now.passed("contains(Ada)") == then.passed("contains(Ada)")
        seen.append([{name: row.get(name) for name in names} for row in now.rows()])
    assert seen[0] == seen[1]
    assert [row["status"] for row in seen[0]] == ["complete"] * 6
    assert all(row["first_text_s"] for row in seen[0])


SUPPORT = Path(__file__).parents[2] / "notebooks" / "recordings" / "support.jsonl"


def test_the_tutorials_recording() -> None:
    """It is small and complete, and its conversation can be replayed."""
    assert SUPPORT.stat().st_size < 60_000
    assert all(each.how == "whole" and each.status == 200 for each in read_recording(SUPPORT))
    client = replaying(SUPPORT)
    assert client.source == "replay of support.jsonl (demo agent)"
    replies = texts(
        client, "How do I set up event tracking?", "My name is Ada", "Open a ticket", "What is my name?"
    )
    assert "Ada" in replies[-1]
