"""Recordings: what is kept of an exchange and what never is, and what a replay makes of it."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from halo_notebook import AsyncHaloClient, HaloClient, Reply, errors, evaluate
from halo_notebook.checks import contains
from halo_notebook.client.transports.protocol import Outgoing
from halo_notebook.demo import DEMO_KEY, DemoAgent, Step, sign_user_token
from halo_notebook.kernel import Connection
from halo_notebook.recording import recorder as recording
from halo_notebook.recording.recorder import FORMAT, WAITS, Exchange, Recorder, Replay, read_recording
from halo_notebook.stream import JSON, Action, ActionSummary, TextDelta, encode

from ..harness.faults import FAULTS, Fault

if TYPE_CHECKING:
    from halo_notebook.client.sync import ReplyStream

    from ..harness.kernels import CellResult, Kernel

KEY = "ab_live_" + "k3y" * 8
SECRET = "ha_secret_" + "s3cret" * 4
SUPPORT = Path(__file__).parents[2] / "notebooks" / "recordings" / "support.jsonl"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "BASE_URL", "USER_ID", "USER_TOKEN", "AGENT_ID"):
        monkeypatch.delenv(f"HALO_{name}", raising=False)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "demo.jsonl"


def said(
    message: str,
    *chunks: str | bytes,
    sent: str | None = None,
    session: str | None = "sess_1",
    status: int = 200,
    how: recording.How = "whole",
    path: str = "/chat/stream",
    tries: int = 1,
    headers: dict[str, str] | None = None,
    error: str = "",
    **fields: JSON,
) -> Exchange:
    """An exchange in which `message` got `chunks`, one each tenth of a second."""
    body: dict[str, JSON] = {"message": message, **({"session_id": sent} if sent else {}), **fields}
    data = [chunk.encode() if isinstance(chunk, str) else chunk for chunk in chunks]
    given = {"Content-Type": "text/plain; charset=utf-8", **({"X-Session-Id": session} if session else {})}
    return Exchange(
        path=path,
        body=body,
        status=status,
        headers=given if headers is None else headers,
        head_at_s=0.1,
        chunks=tuple(((number + 2) / 10, chunk) for number, chunk in enumerate(data)),
        how=how,
        ended_at_s=(len(data) + 2) / 10,
        tries=tries,
        error=error,
    )


def recorded(path: Path, *exchanges: Exchange) -> Path:
    recorder = Recorder(path)
    for exchange in exchanges:
        recorder.keep(exchange)
    assert not recorder.error
    return path


def replaying(path: Path, pace: recording.Pace = "fast", **settings: Any) -> HaloClient:
    return HaloClient(transport=Replay(path, pace=pace), **settings)


def asked(client: HaloClient, message: str, **fields: Any) -> tuple[Reply, errors.HaloError | None]:
    """The reply to a message, and what it ended with."""
    stream = client.stream(message, **fields)
    try:
        with stream as events:
            list(events)
    except errors.HaloError as error:
        return stream.reply, error
    return stream.reply, None


# --- What is recorded is what is replayed ---


def test_a_reply_is_replayed_as_it_came(path: Path) -> None:
    """The same bytes in the same chunks: text, actions with their places, summary, ids and times."""
    with DemoAgent(first_byte_s=0.02, chunk_s=0.001) as agent:
        then = HaloClient(DEMO_KEY, base_url=agent.url, record=Recorder(path)).ask(
            "How do I set up event tracking?", user_id="u_1", context={"plan": "team"}
        )
    now = replaying(path).ask("How do I set up event tracking?")
    assert then.status == "complete" and len(then.actions) == 2
    assert (now.text, now.summary, now.session_id, now.agent_id) == (
        then.text,
        then.summary,
        then.session_id,
        then.agent_id,
    )
    assert [(each.payload, each.offset) for each in now.action_events] == [
        (each.payload, each.offset) for each in then.action_events
    ]
    assert [each.at_s for each in now.action_events] == pytest.approx(
        [each.at_s for each in then.action_events], abs=0.02
    )
    assert (now.first_text_s, now.elapsed_s) == pytest.approx((then.first_text_s, then.elapsed_s), abs=0.02)
    (exchange,) = read_recording(path)
    assert exchange.body == then_body("How do I set up event tracking?")
    assert len(exchange.chunks) > 50, "the agent's chunks, not one"


def then_body(message: str) -> dict[str, JSON]:
    return {"message": message, "user_id": "u_1", "context": {"plan": {"label": "plan", "value": "team"}}}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_is_replayed_as_it_was(fault: Fault, agent: DemoAgent, path: Path) -> None:
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


def test_an_agent_that_was_not_there(path: Path) -> None:
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


def test_on_a_loop_of_the_callers(agent: DemoAgent, path: Path) -> None:
    """The async client records and replays on any loop, several turns at a time."""

    async def texts(client: AsyncHaloClient) -> list[str]:
        async with client:
            replies = await asyncio.gather(*[client.ask(f"My name is Ada {n}") for n in range(5)])
        return [reply.text for reply in replies]

    then = asyncio.run(texts(AsyncHaloClient(KEY, base_url=agent.url, record=Recorder(path))))
    assert asyncio.run(texts(AsyncHaloClient(transport=Replay(path, pace="fast")))) == then
    assert len(set(then)) == 5


def test_a_transport_of_the_callers_is_recorded(path: Path) -> None:
    """The recorder stands before whatever carries the requests."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text="from a mock"))
    assert HaloClient(KEY, transport=transport, record=Recorder(path)).ask("Hello").text == "from a mock"
    assert replaying(path).ask("Hello").text == "from a mock"


@given(
    st.lists(st.binary(max_size=12), max_size=8),
    st.sampled_from(["whole", "broken", "stopped"]),
    st.text(min_size=1, max_size=20).filter(str.strip),
)
def test_any_bytes_can_be_kept(chunks: list[bytes], how: recording.How, message: str) -> None:
    """What is written is read again as it was, whatever the bytes and wherever they were cut."""
    exchange = said(message, *chunks, how=how, error="ReadError" if how == "broken" else "")
    line = json.loads(json.dumps(exchange.to_line(), ensure_ascii=False))
    assert Exchange.from_line(line) == exchange


# --- Pace ---


def test_the_paces(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its own pace a reply takes the recorded time; fast it waits for nothing. Both say the same times."""
    recorded(path, said("Hello", "a", "b", "c"))
    now = 100.0
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        waits.append(round(seconds, 3))

    clock = SimpleNamespace(perf_counter=lambda: now)
    monkeypatch.setattr("halo_notebook.client.transports.protocol.time", clock)
    monkeypatch.setattr(recording, "asyncio", SimpleNamespace(sleep=sleep))
    own = replaying(path, "own").ask("Hello")
    assert waits == [0.1, 0.1, 0.1, 0.1, 0.1]
    waits.clear()
    fast = replaying(path, "fast").ask("Hello")
    assert set(waits) == {0}
    assert (own.first_text_s, own.elapsed_s) == (fast.first_text_s, fast.elapsed_s) == (0.2, 0.5)


def test_a_retry_is_not_waited_for_when_fast(path: Path) -> None:
    """The half hour that the server asked for then was waited for then."""
    recorded(
        path,
        said("Hello", status=429, session=None, headers={"Retry-After": "50"}),
        said("Hello", "at last", tries=2),
    )
    reply = replaying(path).ask("Hello")
    assert (reply.text, reply.retries, reply.status) == ("at last", 1, "complete")


# --- Which reply a message gets ---


def texts(client: HaloClient, *messages: str, session: str | None = None) -> list[str]:
    """The replies of a conversation, which goes on under the id that it is given."""
    said = []
    for message in messages:
        reply = client.ask(message, session_id=session)
        session = reply.session_id
        said.append(reply.text)
    return said


def test_the_nth_time_gets_the_nth_reply_and_then_the_first(path: Path) -> None:
    """Also in the same conversation, so that a second Run All shows the same again."""
    turns = [said("Go on", "one", sent=None), *(said("Go on", n, sent="sess_1") for n in ("two", "three"))]
    client = replaying(recorded(path, *turns))
    assert texts(client, *["Go on"] * 3) == ["one", "two", "three"]
    assert texts(client, *["Go on"] * 3, session="sess_1") == ["one", "two", "three"]


def test_a_conversation_goes_on_as_its_own(path: Path) -> None:
    """Two that began alike are told apart by the id that each was given."""
    client = replaying(
        recorded(
            path,
            said("Hello", "hello from a", session="a"),
            said("Hello", "hello from b", session="b"),
            said("Who?", "b", sent="b", session="b"),
            said("Who?", "a", sent="a", session="a"),
        )
    )
    assert texts(client, "Hello", "Who?") == ["hello from a", "a"]
    assert texts(client, "Hello", "Who?") == ["hello from b", "b"]
    assert texts(client, "Hello", "Who?", session="a") == ["hello from a", "a"], "Run All once more"


def test_what_is_not_quite_the_same_is_answered_all_the_same(path: Path) -> None:
    """Another session, other context, a user id and other white space are no reason to fail."""
    client = replaying(recorded(path, said("Who\nam I?", "Ada", sent="sess_1", user_id="u_1")))
    reply = client.ask(" Who am  I? ", session_id="other", user_id="u_2", context={"plan": "team"})
    assert (reply.text, reply.session_id) == ("Ada", "sess_1")


def test_fields_decide_where_several_have_the_message(path: Path) -> None:
    """The one whose other fields are most alike answers, however often it is asked."""
    client = replaying(
        recorded(
            path,
            said("Hi", "chat", user_id="u_1", mode="chat"),
            said("Hi", "voice", user_id="u_1", mode="voice"),
        )
    )
    assert [client.ask("Hi", mode=mode).text for mode in ("voice", "voice", "chat")] == [
        "voice",
        "voice",
        "chat",
    ]


def test_a_turn_that_failed_and_was_asked_again(path: Path) -> None:
    """The failure comes first, as then; the same again in the next round."""
    client = replaying(
        recorded(
            path,
            said("Hi", b'{"error": "no"}', status=500, session=None, headers={}),
            said("Hi", "hello"),
        )
    )
    for session in (None, "sess_1"):
        assert isinstance(asked(client, "Hi", session_id=session)[1], errors.ServerError)
        assert asked(client, "Hi", session_id=session)[0].text == "hello"


def test_what_is_not_recorded_is_one_clear_line(path: Path) -> None:
    """It names what is there, the nearest first, and was not sent."""
    messages = ("My name is Ada", "Open a ticket", "What is my name?", "Bye\x1b[31m<script>")
    client = replaying(recorded(path, *(said(message, "x") for message in messages)))
    reply, error = asked(client, "What's my name")
    assert isinstance(error, errors.UsageError)
    assert str(error) == (
        "\"What's my name\" is not in the recording 'demo.jsonl'. Nothing was sent; it holds "
        "'What is my name?', 'My name is Ada', 'Open a ticket' and 1 more."
    )
    assert (reply.status, reply.may_have_arrived) == ("failed", False)
    assert "\x1b" not in str(asked(client, "Bye")[1])


# --- Without a key, without a network ---


def test_nothing_is_connected_to_and_nothing_is_asked_for(
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


def test_what_a_fresh_token_mended_is_replayed_as_mended(path: Path) -> None:
    """Without a token there is none to be refreshed: the 403 in between is passed over."""
    tokens = iter([sign_user_token("ha_secret_of_another", "u_1"), sign_user_token(SECRET, "u_1")])
    with DemoAgent(first_byte_s=0, chunk_s=0, identity_secret=SECRET) as agent:
        client = HaloClient(
            KEY, base_url=agent.url, user_id="u_1", user_token=lambda: next(tokens), record=Recorder(path)
        )
        then = client.ask("My name is Ada")
    assert [each.status for each in read_recording(path)] == [403, 200]
    for _ in range(2):
        assert replaying(path).ask("My name is Ada").text == then.text


def test_the_badge_says_what_was_recorded(agent: DemoAgent, path: Path, tmp_path: Path) -> None:
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


# --- No secret is written ---


def echoing(*steps: Step) -> Callable[[dict[str, JSON]], list[Step]]:
    return lambda request: list(steps)


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_secret_that_is_said_back_is_masked(size: int, path: Path) -> None:
    """Wherever it stands and however it is cut; nothing else changes, and each chunk has its length."""
    token = sign_user_token(SECRET, "u_1")
    text = f"Your key is {KEY}, and again {KEY}. Token:"
    reply = text.encode() + encode(Action({"type": "tell", "token": token, KEY: 1}))
    steps = [reply[start : start + size] for start in range(0, len(reply), size)]
    with DemoAgent(first_byte_s=0, reply=echoing(*steps)) as agent:
        client = HaloClient(KEY, base_url=agent.url, record=Recorder(path))
        then = client.ask(f"Is {KEY} it?", user_token=token, context={"plan": KEY})
    held = path.read_text()
    assert KEY in then.text and then.actions
    assert KEY not in held and token not in held and KEY[:20] not in held
    (exchange,) = read_recording(path)
    assert exchange.body["user_token"] == "set"
    assert b"".join(data for _, data in exchange.chunks).decode() == (
        reply.decode().replace(KEY, "*" * len(KEY)).replace(token, "*" * len(token))
    )
    assert sum(len(data) for _, data in exchange.chunks) == len(reply)


def test_a_secret_that_is_cut_off_is_masked(path: Path) -> None:
    """A reply that ends in the midst of a key holds no part of it that is worth something."""
    with DemoAgent(first_byte_s=0, reply=echoing(b"Your key is ", KEY[:25].encode())) as agent:
        HaloClient(KEY, base_url=agent.url, record=Recorder(path)).ask("Hello")
    assert KEY[:12] not in path.read_text()
    assert b"".join(data for _, data in read_recording(path)[0].chunks) == b"Your key is " + b"*" * 25


def test_a_secret_in_a_compressed_reply_is_masked(path: Path) -> None:
    """A compression that nobody asked for is undone in the recording; a broken one is broken as it was."""
    packed = gzip.compress(f"Your key is {KEY}.".encode())
    answers = [packed, packed[:30] + b"garbage" + packed[30:]]

    async def given(data: bytes) -> AsyncIterator[bytes]:
        for start in range(0, len(data), 10):
            yield data[start : start + 10]

    transport = httpx.MockTransport(
        lambda request: httpx.Response(
            200, headers={"Content-Encoding": "gzip"}, content=given(answers.pop(0))
        )
    )
    client = HaloClient(KEY, transport=transport, record=Recorder(path))
    assert KEY in client.ask("Hello").text
    _, then = asked(client, "Hello")
    assert KEY not in path.read_text()
    replay = replaying(path)
    assert replay.ask("Hello").text == f"Your key is {'*' * len(KEY)}."
    _, now = asked(replay, "Hello")
    assert isinstance(then, errors.ReplyUnreadable) and type(now) is type(then)


def test_a_short_secret_spoils_no_line(path: Path) -> None:
    """A token of one letter is masked in what was said, not in the recording's own words and bytes."""
    with DemoAgent(first_byte_s=0, reply=echoing("a\xe9t".encode()[:2], "a\xe9t".encode()[2:])) as agent:
        HaloClient(KEY, base_url=agent.url, record=Recorder(path)).ask("at", user_token="a")
    (exchange,) = read_recording(path)
    assert (exchange.message, b"".join(data for _, data in exchange.chunks).decode()) == ("*t", "*ét")


# --- How a recording comes about ---


def test_what_the_reader_stops_is_kept_as_stopped(path: Path) -> None:
    """What had come is in the recording; it is served where there is no other, and says why it ends."""
    stall = threading.Event()

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        yield TextDelta("The beginning.")
        while not stall.is_set():
            yield 0.01
        yield TextDelta(" The end.")

    with DemoAgent(first_byte_s=0, reply=reply) as agent:
        client = HaloClient(KEY, base_url=agent.url, record=Recorder(path))
        with client.stream("Hello") as events:
            next(iter(events))
        now, error = asked(replaying(path), "Hello")
        assert isinstance(error, errors.ReplyInterrupted)
        assert "The recording of this reply ends here" in str(error)
        assert (now.text, now.status) == ("The beginning.", "failed")
        stall.set()
        assert client.ask("Hello").text == "The beginning. The end."
    for _ in range(2):
        assert replaying(path).ask("Hello").text == "The beginning. The end."


def test_a_killed_process_leaves_whole_lines(path: Path) -> None:
    """What had ended is there and can be gone on with; what was under way is not."""
    code = (
        "import sys\n"
        "from halo_notebook import HaloClient, Recorder\n"
        "client = HaloClient('ab_live_x', base_url=sys.argv[1], record=Recorder(sys.argv[2]))\n"
        "client.ask('My name is Ada')\n"
        "client.ask('Hello')\n"
        "with client.stream('/fault stall') as events:\n"
        "    print(next(iter(events)).text, flush=True)\n"
        "    list(events)\n"
    )
    with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
        process = subprocess.Popen(
            [sys.executable, "-c", code, agent.url, str(path)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        assert "stalls" in process.stdout.readline()
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert [each.message for each in read_recording(path)] == ["My name is Ada", "Hello"]
        recorder = Recorder(path)
        assert recorder.count == 2
        HaloClient(KEY, base_url=agent.url, record=recorder).ask("Markdown")
    assert [each.message for each in read_recording(path)] == ["My name is Ada", "Hello", "Markdown"]


@pytest.mark.parametrize(("tail", "held"), [('{"at": "2026', 1), ("", 1), (None, 2)])
def test_a_torn_line_is_passed_over(tail: str | None, held: int, path: Path) -> None:
    """One that a full disk or a power cut left; what comes later is not lost with it."""
    recorded(path, said("one", "1"))
    if tail is None:  # a line that lacks nothing but its end
        tail = json.dumps(said("two", "2").to_line())
    with path.open("a", encoding="utf-8") as file:
        file.write(tail)
    assert len(read_recording(path)) == held
    recorded(path, said("three", "3"))
    assert [each.message for each in read_recording(path)] == ["one", "two", "three"][:held] + (
        [] if held == 3 else ["three"]
    )


@pytest.mark.parametrize("content", ["notes\n", '{"a": 1}\n', "[]\n", "\n", "\x00\xff"])
def test_a_file_that_is_no_recording_is_left_alone(content: str, path: Path) -> None:
    """Nothing is added to it, nor is it replayed."""
    path.write_text(content, encoding="latin-1")
    for use in (Recorder, Replay):
        with pytest.raises(errors.UsageError, match=r"'demo\.jsonl' is no recording: line 1 "):
            use(path)
    assert path.read_text(encoding="latin-1") == content


def test_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    """Said at once, before anything is sent."""
    for place in (tmp_path, tmp_path / "missing" / "demo.jsonl", "nul\x00", "~nobody-of-that-name/x"):
        with pytest.raises(errors.UsageError, match=r"could not be (written|read)"):
            Recorder(place)


def test_a_recording_that_fails_later_costs_no_reply(agent: DemoAgent, tmp_path: Path) -> None:
    """The reply is whole, and the recorder says what it lacks."""
    folder = tmp_path / "gone"
    folder.mkdir()
    recorder = Recorder(folder / "demo.jsonl")
    shutil.rmtree(folder)
    assert HaloClient(KEY, base_url=agent.url, record=recorder).ask("Hello").status == "complete"
    assert (recorder.count, recorder.lost) == (0, 1)
    assert "'demo.jsonl' lacks a reply, which could not be written (No such file" in recorder.error


def test_several_turns_at_a_time(agent: DemoAgent, path: Path) -> None:
    """Their lines do not mix."""
    client = HaloClient(KEY, base_url=agent.url, record=Recorder(path))
    threads = [threading.Thread(target=client.ask, args=(f"My name is A{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.message for each in read_recording(path)) == [f"My name is A{n}" for n in range(8)]


# --- A recording from outside ---


def changed(**parts: Any) -> str:
    """A good line with some of its parts changed; ``…`` takes one out."""
    line: dict[str, Any] = said("Hello", "hi").to_line()
    for place, value in parts.items():
        *way, name = place.split("__")
        inner = line
        for key in way:
            inner = inner[key]
        if value is ...:
            del inner[name]
        else:
            inner[name] = value
    return json.dumps(line)


HOSTILE = {
    "no JSON": "{oops}",
    "script": "<script>window.__halo_pwned='x'</script>",
    "not an object": "[1, 2]",
    "NaN": '{"at": NaN}',
    "nested too deep": "[" * 100_000,
    "blank": " ",
    "no request": changed(request=...),
    "no message": changed(request__body={}),
    "blank message": changed(request__body={"message": " "}),
    "message no text": changed(request__body={"message": 1}),
    "body no object": changed(request__body="Hello"),
    "path no path": changed(request__path="chat"),
    "no answer and whole": changed(response=None),
    "answer no object": changed(response=[]),
    "status a text": changed(response__status="200"),
    "status a bool": changed(response__status=True),
    "status beyond": changed(response__status=1000),
    "status of no end": changed(response__status=101),
    "header no text": changed(response__headers={"X-Session-Id": 1}),
    "headers a list": changed(response__headers=[["X-Session-Id", "1"]]),
    "no chunks": changed(chunks=...),
    "chunks an object": changed(chunks={}),
    "chunk a text": changed(chunks=["hi"]),
    "chunk of three": changed(chunks=[[0.2, "hi", 1]]),
    "chunk a number": changed(chunks=[[0.2, 1]]),
    "bad base64": changed(chunks=[[0.2, {"base64": "!"}]]),
    "time a text": changed(chunks=[["0.2", "hi"]]),
    "time before": changed(chunks=[[-1, "hi"]]),
    "time beyond": changed(chunks=[[1e300, "hi"]]),
    "time endless": changed(chunks=[[10**400, "hi"]]),
    "a number beyond": '{"at": 1e999}',
    "times backwards": changed(chunks=[[0.25, "h"], [0.2, "i"]]),
    "no end": changed(ended=...),
    "end of no kind": changed(ended__how="__class__"),
    "try a text": changed(**{"try": "1"}),
    "error no text": changed(ended__error=1),
    "may_have_arrived no bool": changed(ended__may_have_arrived="no"),
    "silence no time": changed(ended__silence_s="long"),
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_a_line_that_is_not_as_it_should_be(line: str, path: Path) -> None:
    """One line names the file, the line and what is wrong with it, and holds nothing of what stands there."""
    recorded(path, said("Hello", "hi"))
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    with pytest.raises(errors.UsageError) as caught:
        Replay(path)
    assert str(caught.value).startswith("'demo.jsonl' cannot be replayed: line 3 is not as it should be (")
    assert "Nothing was changed" in str(caught.value) and "\n" not in str(caught.value)
    assert "script" not in str(caught.value)


def test_recordings_of_other_versions(path: Path) -> None:
    """A later format is refused, with its number; so is a file without any."""
    path.write_text(f'{{"halo_recording": {FORMAT + 1}}}\n')
    with pytest.raises(errors.UsageError, match=r"'demo\.jsonl' was recorded by a later version .*format 2"):
        Replay(path)
    for head in ('{"halo_recording": 0}', '{"halo_recording": true}', '{"halo_recording": "1"}'):
        path.write_text(f"{head}\n")
        with pytest.raises(errors.UsageError, match="line 1 is not as it should be"):
            Replay(path)


def test_a_recording_of_nothing_or_of_too_much(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one answers nothing, a huge one is not read, and what is no file is not either."""
    Recorder(path)
    with pytest.raises(errors.UsageError, match="holds no exchange yet"):
        Replay(path)
    with pytest.raises(errors.UsageError, match="could not be read"):
        Replay(path.parent)
    with pytest.raises(errors.UsageError, match=r"could not be read \(No such file"):
        Replay(path.parent / "missing")
    with pytest.raises(errors.UsageError, match="A pace is own, fast, step"):
        Replay(path, pace=cast(Any, "slow"))
    monkeypatch.setattr(recording, "MAX_FILE_BYTES", 10)
    with pytest.raises(errors.UsageError, match="a recording may have 10"):
        Replay(path)


def test_what_a_recording_adds_is_not_followed(path: Path) -> None:
    """Headers that no client reads and exceptions that no transport raises have no effect."""
    line = json.loads(changed(response__headers={"Location": "https://evil.example", "X-Agent-Id": "a"}))
    line["ended"] |= {"how": "broken", "error": "SystemExit", "why": "\x1b[31mboo"}
    path.write_text(f'{{"halo_recording": 1}}\n{json.dumps(line)}\n')
    (exchange,) = read_recording(path)
    assert exchange.headers == {"X-Agent-Id": "a"}
    reply, error = asked(replaying(path), "Hello")
    assert isinstance(error, errors.ReplyInterrupted) and "\x1b" not in str(error)
    assert reply.text == "hi"


def test_only_chat_is_answered(path: Path) -> None:
    """A request of another kind gets a line, not a traceback of this package's."""
    transport = Replay(recorded(path, said("Hello", "hi")))

    async def got() -> None:
        def outgoing(path: str, body: bytes) -> Outgoing:
            return Outgoing(f"https://x{path}", {}, body, connect_s=1, silence_s=1)

        answer = await transport.send(outgoing("/chat/stream", b'{"message": "Hello"}'))
        assert [chunk async for chunk in answer.chunks()] == [b"hi"]
        await transport.send(outgoing("/config", b""))

    with pytest.raises(errors.UsageError, match="answers chat requests alone"):
        asyncio.run(got())


# --- Steps ---


class Watched:
    """An attended turn of a replay by steps, read on a thread of its own."""

    def __init__(self, replay: Replay, message: str, **settings: Any) -> None:
        self.replay = replay
        self.stream: ReplyStream = HaloClient(transport=replay, **settings).stream(message)
        self.stream.attended = True
        self._changed = threading.Event()
        self.stream.reply.watchers.add(lambda _: self._changed.set())
        self.stream.open()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with self.stream as events:
            list(events)
        self._changed.set()

    @property
    def text(self) -> str:
        return self.stream.reply.text

    def wait(self) -> None:
        """Until it waits for a step, or has ended."""
        while not self.replay.waits(self.stream.reply) and self.stream.reply.status == "streaming":
            assert self._changed.wait(10), self.stream.state
            self._changed.clear()

    def end(self) -> None:
        self._thread.join(10)
        assert not self._thread.is_alive()


STEPS = (
    "# Title\n",
    "\nFirst ",
    "paragraph.\n",
    "\n```\nx = 1\n\ny",
    " = 2\n```\n\nLook",
    ": ",
    encode(Action({"type": "go"})).decode()[:10],
    encode(Action({"type": "go"})).decode()[10:] + "there",
    "\n\n",
    encode(ActionSummary([{"type": "go"}])).decode(),
)


def test_a_step_is_a_paragraph_or_an_action(path: Path) -> None:
    """The first comes by itself; the turn says that it waits, and what follows comes when it is let out."""
    replay = Replay(recorded(path, said("Hello", *STEPS)), pace="step")
    turn = Watched(replay, "Hello")
    seen = []
    while True:
        turn.wait()
        seen.append((turn.text, len(turn.stream.reply.actions)))
        if turn.stream.reply.status != "streaming":
            break
        assert turn.stream.state == WAITS
        assert replay.step() == 1
    turn.end()
    assert seen == [
        ("# Title\n\n", 0),
        ("# Title\n\nFirst paragraph.\n\n", 0),
        ("# Title\n\nFirst paragraph.\n\n```\nx = 1\n\ny = 2\n```\n\n", 0),
        ("# Title\n\nFirst paragraph.\n\n```\nx = 1\n\ny = 2\n```\n\nLook: ", 1),
        ("# Title\n\nFirst paragraph.\n\n```\nx = 1\n\ny = 2\n```\n\nLook: there\n\n", 1),
    ]
    assert (turn.stream.reply.status, turn.stream.reply.elapsed_s) == ("complete", 1.2)
    assert replay.step() == 0, "nobody waits any more"


def test_no_silence_is_too_long_for_a_presenter(path: Path) -> None:
    """The time in which a reply waits for its step is none of the agent's."""
    replay = Replay(recorded(path, said("Hello", "One.\n\n", "Two.")), pace="step")
    turn = Watched(replay, "Hello", silence_timeout_s=0.05)
    turn.wait()
    with pytest.raises(TimeoutError):
        asyncio.run(asyncio.wait_for(asyncio.Event().wait(), 0.3))
    assert replay.waits(turn.stream.reply)
    replay.step()
    turn.end()
    assert (turn.text, turn.stream.reply.elapsed_s) == ("One.\n\nTwo.", 0.4)


def test_a_turn_that_waits_can_be_stopped(path: Path) -> None:
    """It keeps what was let out, and is not waited for any more."""
    replay = Replay(recorded(path, said("Hello", "One.\n\n", "Two.")), pace="step")
    turn = Watched(replay, "Hello")
    turn.wait()
    turn.stream.ask_to_stop()
    turn.end()
    assert (turn.text, turn.stream.reply.status) == ("One.\n\n", "stopped")
    assert replay.step() == 0


def test_the_end_of_a_replay_lets_all_go_on(path: Path) -> None:
    """No turn is left to wait for a step that nobody can give it."""
    connection = Connection()
    replay = connection.start_replay(recorded(path, said("Hello", "One.\n\n", "Two.\n\n", "Three.")), "step")
    turns = [Watched(replay, "Hello"), Watched(replay, "Hello")]
    for turn in turns:
        turn.wait()
    connection.stop_replay()
    for turn in turns:
        turn.end()
        assert turn.text == "One.\n\nTwo.\n\nThree."


def test_each_turn_can_be_stepped_alone(path: Path) -> None:
    """A cell lets its own reply go on, and no other's."""
    replay = Replay(recorded(path, said("Hello", "One.\n\n", "Two.")), pace="step")
    one, other = Watched(replay, "Hello"), Watched(replay, "Hello")
    one.wait()
    other.wait()
    assert replay.step(one.stream.reply) == 1
    one.end()
    assert replay.waits(other.stream.reply)
    assert replay.step() == 1
    other.end()


def test_a_turn_that_nobody_attends_to_does_not_wait(path: Path) -> None:
    """An evaluation, or a program's own call, would wait for ever."""
    client = replaying(recorded(path, said("Hello", "One.\n\n", "Two.")), "step")
    assert client.ask("Hello").text == "One.\n\nTwo."


@given(st.text(alphabet="ab\n `\x1e", max_size=60), st.integers(1, 5))
def test_steps_lose_nothing(text: str, size: int) -> None:
    """Wherever the chunks are cut: the same bytes at the same times, and each step shows something."""
    exchange = said("Hello", *(text[start : start + size] for start in range(0, len(text), size)))
    pieces = list(recording._cut(exchange.chunks, recording._step_ends(exchange)))
    by_time: dict[float, bytes] = {}
    steps = [b""]
    for at_s, data, begins in pieces:
        by_time[at_s] = by_time.get(at_s, b"") + data
        steps += [b""] if begins else []
        steps[-1] += data
    assert list(by_time.items()) == list(exchange.chunks)
    assert all(step.strip() for step in steps) or not text.strip()
    assert all(step.replace(b" ", b"").endswith(b"\n\n") for step in steps[:-1])


# --- Evaluation ---


def test_an_evaluation_over_a_replay_is_the_same_each_time(path: Path) -> None:
    """Replies, verdicts and times: those of the recording."""
    cases: Any = [["My name is Ada", "What is my name?"], "Open a ticket"]
    with DemoAgent(first_byte_s=0.01, chunk_s=0.001) as agent:
        client = HaloClient(DEMO_KEY, base_url=agent.url, record=Recorder(path))
        then = evaluate(cases, [contains("Ada")], configs={"a": client}, repeats=2, progress=False)
    columns = ("status", "text", "contains(Ada)", "first_text_s", "elapsed_s", "session_id")

    def rows() -> list[dict[str, Any]]:
        client = replaying(path)
        result = evaluate(
            cases, [contains("Ada")], configs={"a": client}, repeats=2, concurrency=1, progress=False
        )
        assert result.passed("contains(Ada)") == then.passed("contains(Ada)")
        return [{name: row.get(name) for name in columns} for row in result.rows()]

    first = rows()
    assert first == rows()
    assert [row["status"] for row in first] == ["complete"] * 6
    assert all(row["first_text_s"] > 0 for row in first)


# --- In a real kernel ---

LOAD = "%load_ext halo_notebook"
TRACKING = "How do I set up event tracking?"
WATCH = (
    "import sys\n"
    "used = []\n"
    "sys.addaudithook(lambda event, arguments: used.append(event) if event in "
    "('socket.connect', 'socket.bind', 'socket.getaddrinfo', 'socket.sendto') else None)"
)


def plain(result: CellResult) -> str:
    return "\n".join(data.get("text/plain", "") for data in result.displays)


def shown(result: CellResult) -> list[str]:
    """What a cell shows, without its status line and without a notice."""
    return [data["text/plain"] for data in result.displays if not data["text/plain"].startswith("[No HALO")][
        :-1
    ]


def printed(kernel: Kernel, expression: str) -> str:
    return kernel.run(f"print({expression})").stdout.strip()


@pytest.mark.kernel
def test_a_recorded_demo_is_replayed_in_a_new_kernel(kernel: Kernel) -> None:
    """No key, no demo agent, no network; the same is shown, by Run All as often as one likes, and says so."""
    cells = [f"%%halo\n{TRACKING}", "%%halo\nMy name is Ada", "%%halo\nWhat is my name?"]
    kernel.run(LOAD)
    assert "Recording to 'demo.jsonl'." in kernel.run("%halo record demo.jsonl").stdout
    then = kernel.run_all(cells)
    assert "record   'demo.jsonl', 3 exchanges" in kernel.run("%halo").stdout
    assert "'demo.jsonl', 3 exchanges" in kernel.run("%halo record stop").stdout
    session_id = printed(kernel, "_halo.session_id")

    kernel.restart()
    kernel.run(WATCH)
    kernel.run(LOAD)
    answer = kernel.run("%halo replay demo.jsonl --fast").stdout
    assert "'demo.jsonl' (3 exchanges) answers from now on, without waiting." in answer
    for _ in range(2):
        now = kernel.run_all(cells)
        assert [cell.status for cell in now] == ["ok"] * 3
        assert [shown(cell) for cell in now] == [shown(cell) for cell in then]
        assert all("No HALO_API_KEY" not in plain(cell) for cell in now)
        assert (
            now[0]
            .displays[-1]["text/plain"]
            .startswith(
                "[replay of demo.jsonl (demo agent) · agent agent_demo · session default · first text 0."
            )
        )
        assert "font-weight:bold" in now[0].displays[-1]["text/html"], "the badge is framed"
        about = now[0].outputs[-1]["metadata"]["halo"]
        assert (about["source"], about["session_id"]) == ("replay of demo.jsonl (demo agent)", session_id)
    assert "target   replay of demo.jsonl (demo agent), without waiting" in kernel.run("%halo").stdout
    assert '"pace": "fast"' in plain(kernel.run("%halo status"))
    assert "replay of demo.jsonl (demo agent)" in plain(kernel.run("%halo history"))
    assert printed(kernel, "used, get_ipython()._halo_connection.demo") == "[] None"
    missing = kernel.run("%%halo\nWhat else?")
    assert (missing.ename, len(missing.traceback)) == ("UsageError", 1)
    assert "'What else?' is not in the recording 'demo.jsonl'. Nothing was sent" in missing.evalue
    assert "The replay has ended" in kernel.run("%halo replay stop").stdout
    assert "demo agent" in plain(kernel.run("%%halo\nHello"))
    assert printed(kernel, "_halo.session_id") != session_id, "no recorded id goes to an agent"


@pytest.mark.kernel
def test_a_panel_records_and_replays(kernel: Kernel) -> None:
    """The same connection: its turns are recorded, and answered by a replay, step by step if so wanted."""
    kernel.run(
        f"{LOAD}\nfrom halo_notebook import ChatPanel\npanel = ChatPanel('docs')\n%halo record demo.jsonl"
    )
    assert printed(kernel, f"panel.ask({TRACKING!r}).result().status") == "complete"
    kernel.run("%halo replay demo.jsonl --step")
    kernel.run(f"sent = panel.ask({TRACKING!r})")

    def told(kind: str) -> list[dict[str, Any]]:
        contents = [
            message.content["data"].get("content") or {}
            for message in kernel.messages
            if message.msg_type == "comm_msg"
        ]
        return [content for content in contents if content.get("kind") == kind]

    def waits() -> bool:
        return any(message.get("state") == WAITS for message in told("frame") + told("beat"))

    kernel.wait_until(waits, "the panel to say what it waits for")
    assert printed(kernel, "panel.status") == WAITS
    assert "busy" not in printed(kernel, "sent.done()")
    kernel.run(
        "import time\nreplay = get_ipython()._halo_connection.replay\n"
        "waits = lambda: replay.waits(panel.session.turns[-1].reply)"
    )
    for _ in range(30):
        if printed(kernel, "sent.done()") == "True":
            break
        assert kernel.run("%halo step").status == "ok"
        kernel.run("while not (sent.done() or waits()): time.sleep(0.01)")
    kernel.wait_until(lambda: len(told("turn")) == 2, "the end of the turn")
    live, replayed = (message["turn"] for message in told("turn"))
    assert (live["source"], replayed["source"]) == ("demo agent", "replay of demo.jsonl (demo agent)")
    assert (replayed["items"], replayed["first_text_s"]) == (
        live["items"],
        pytest.approx(live["first_text_s"], abs=0.05),
    )
    assert "No turn waits for a step just now." in kernel.run("%halo step").stdout


@pytest.mark.kernel
def test_a_cell_asks_the_presenter_for_each_step(kernel: Kernel) -> None:
    """Enter lets the next step out; Stop ends it; a front end that cannot ask says so."""
    kernel.run(LOAD)
    kernel.run(f"%halo record demo.jsonl\n%halo ask {TRACKING}\n%halo replay demo.jsonl --step")
    running = kernel.start(f"%%halo\n{TRACKING}", stdin=True)
    texts_shown, trees = [], []
    for number in range(1, 10):
        if not (prompt := running.until_asked(number)):
            break
        assert prompt == "Enter: the next step "
        texts_shown.append("".join(output.get("data", {}).get("text/html", "") for output in running.outputs))
        trees.append(sum("application/json" in output.get("data", {}) for output in running.outputs))
        kernel.type_in("")
    result = running.result()
    assert result.status == "ok", result.evalue
    assert len({*texts_shown}) == len(texts_shown) and "four steps" in texts_shown[1], "each step shows more"
    assert trees[0] == 0 and trees[-1] == 2, "the actions wait for the end of the list that they came in"
    assert "2 actions" in plain(result) and "like a story" in plain(result)

    running = kernel.start(f"%%halo\n{TRACKING}", stdin=True)
    assert running.until_asked(1)
    kernel.interrupt()
    stopped = running.result(5)
    assert (stopped.ename, len(stopped.traceback)) == ("ReplyStopped", 1)
    assert "four steps" in plain(stopped) and "like a story" not in plain(stopped)

    silent = kernel.run(f"%%halo\n{TRACKING}")
    assert (silent.ename, len(silent.traceback)) == ("UsageError", 1)
    assert "this front end cannot ask for it" in silent.evalue


@pytest.mark.kernel
def test_recording_and_replaying_in_turn(kernel: Kernel) -> None:
    """Each command says what it has done; what cannot be changes nothing."""
    kernel.run(LOAD)

    def refused(line: str, words: str) -> None:
        result = kernel.run(line)
        assert (result.ename, len(result.traceback)) == ("UsageError", 1), line
        assert words in result.evalue and "Nothing" in result.evalue, result.evalue

    refused("%halo record", "Usage: %halo record FILE|stop")
    refused("%halo record stop", "Nothing is being recorded")
    refused("%halo replay", "Usage: %halo replay FILE|stop")
    refused("%halo replay a.jsonl --slow", "Usage: %halo replay FILE|stop [--fast | --step]")
    refused("%halo replay a.jsonl b.jsonl", "Usage: %halo replay FILE|stop [--fast | --step]")
    refused("%halo replay stop", "Nothing is being replayed")
    refused("%halo replay a.jsonl", "'a.jsonl' could not be read")
    refused("%halo step", "No replay runs step by step")
    kernel.run("from pathlib import Path; Path('notes.txt').write_text('mine')")
    refused("%halo record notes.txt", "'notes.txt' is no recording")
    assert printed(kernel, "Path('notes.txt').read_text()") == "mine"

    kernel.run("%halo record 'a b.jsonl'\nimport os; os.mkdir('sub'); os.chdir('sub')\n%halo ask Hello")
    kernel.run("os.chdir('..')\n%halo record 'a b.jsonl'")
    assert printed(kernel, "get_ipython()._halo_connection.recorder.count") == "1"
    replaying = kernel.run("%halo replay 'a b.jsonl' --fast").stdout
    assert "The recording has ended: 'a b.jsonl', 1 exchange." in replaying
    refused("%halo record c.jsonl", "'a b.jsonl' is being replayed")
    assert "after the 1 exchange there" in kernel.run("%halo demo start\n%halo record 'a b.jsonl'").stdout
    assert "replay of a b.jsonl" in plain(kernel.run("%halo replay 'a b.jsonl'\n%halo ask Hello"))
    kernel.run("%config HaloMagics.api_key = 'ab_live_x'\n%halo connect http://127.0.0.1:9")
    assert "target   http://127.0.0.1:9" in kernel.run("%halo").stdout
    kernel.run("%halo replay 'a b.jsonl' --fast")
    assert kernel.run("%unload_ext halo_notebook").status == "ok"
    assert printed(kernel, "get_ipython()._halo_connection.replay") == "None"


@pytest.mark.kernel
def test_what_is_interrupted_is_in_the_recording(kernel: Kernel) -> None:
    """Stop ends the cell, and the recording has what had come."""
    kernel.run(f"{LOAD}\n%halo record demo.jsonl\n%halo ask Hello")
    running = kernel.start("%%halo\n/fault stall")
    running.wait_for(lambda cell: "stalls" in str(cell.outputs), "the text")
    kernel.interrupt()
    assert running.result(5).ename == "ReplyStopped"
    assert "2 exchanges" in kernel.run("%halo record stop").stdout
    result = kernel.run("%halo replay demo.jsonl --fast\n%halo ask /fault stall")
    assert result.ename == "ReplyInterrupted"
    assert "it was stopped when it was recorded" in result.evalue and "stalls" in plain(result)


@pytest.mark.kernel
def test_a_disk_that_fails_is_said_in_the_cell(kernel: Kernel) -> None:
    """The reply is whole; a line below it says that it is not in the recording."""
    kernel.run(
        f"{LOAD}\nimport os, shutil\nos.mkdir('gone')\n%halo record gone/demo.jsonl\nshutil.rmtree('gone')"
    )
    result = kernel.run("%%halo\nHello")
    assert result.status == "ok"
    assert "'demo.jsonl' lacks a reply, which could not be written" in result.displays[-1]["text/plain"]
    assert "lacks a reply" in kernel.run("%halo record stop").stdout


# --- The tutorials' recording ---


def test_the_tutorials_recording() -> None:
    """It is small, whole, and its conversation can be had from it."""
    assert SUPPORT.stat().st_size < 60_000
    assert all(each.how == "whole" and each.status == 200 for each in read_recording(SUPPORT))
    client = replaying(SUPPORT)
    assert client.source == "replay of support.jsonl (demo agent)"
    replies = texts(client, TRACKING, "My name is Ada", "Open a ticket", "What is my name?")
    assert "Ada" in replies[-1]
