"""The client against a real server: what is sent, what is kept, what is never sent twice."""

from __future__ import annotations

import asyncio
import base64
import copy
import inspect
import json
import logging
import math
import pickle
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

from halo_notebook import AsyncHaloClient, HaloClient, Reply, errors
from halo_notebook.client.failures import TRANSPORT_ERRORS
from halo_notebook.client.request import MAX_MESSAGE_CHARS, context_entry, image_url
from halo_notebook.client.secrets import checked_key
from halo_notebook.client.transports.network import mapped
from halo_notebook.client.transports.protocol import NotConnected, Outgoing, TransportError
from halo_notebook.demo import DEMO_KEY, DemoAgent, sign_user_token
from halo_notebook.stream import Action, ActionSummary, MalformedRecord, TextDelta, encode

from ..harness.faults import FAULTS, Fault

KEY = "ab_live_" + "k3y" * 8
SECRET = "ha_secret_" + "s3cret" * 4


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "BASE_URL", "USER_ID", "USER_TOKEN"):
        monkeypatch.delenv(f"HALO_{name}", raising=False)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def agent() -> Iterator[DemoAgent]:
    with DemoAgent(first_byte_s=0, chunk_s=0) as running:
        yield running


@pytest.fixture
def client(agent: DemoAgent) -> Iterator[HaloClient]:
    with HaloClient(KEY, base_url=agent.url, silence_timeout_s=1) as connected:
        yield connected


def token(exp: float | None) -> str:
    """An unsigned JWT: the client reads its claims and checks no signature."""
    claims = {"user_id": "u_1"} | ({} if exp is None else {"exp": exp})
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{middle}.c2lnbmF0dXJl"


# --- A reply ---


def test_a_reply_has_all_that_was_sent(client: HaloClient, agent: DemoAgent) -> None:
    """Text, actions, ids and times of a streamed reply."""
    reply = client.ask("How do I set up event tracking?")
    assert reply.status == "complete"
    assert "event tracking" in reply.text.lower()
    assert [event.payload for event in reply.action_events] == reply.actions == reply.summary
    assert reply.session_id and reply.session_id.startswith("sess_")
    assert reply.agent_id == "agent_demo"
    assert reply.first_text_s is not None and reply.elapsed_s is not None
    assert 0 <= reply.first_text_s <= reply.action_events[0].at_s <= reply.elapsed_s
    assert 0 < reply.action_events[0].offset <= len(reply.text)
    assert reply.malformed == [] and reply.error == "" and reply.retries == 0
    assert json.loads(json.dumps(reply.to_dict()))["text"] == reply.text
    assert len(agent.requests) == 1


def test_events_come_as_they_arrive() -> None:
    """The first text is there while the agent is still writing the rest."""
    release = threading.Event()

    def steps(_: Any) -> Iterator[Any]:
        yield TextDelta("first")
        while not release.is_set():
            yield 0.02
        yield TextDelta(" second")

    with DemoAgent(reply=steps, first_byte_s=0) as agent, HaloClient(KEY, base_url=agent.url) as client:
        with client.stream("Hello") as events:
            assert next(iter(events)) == TextDelta("first")
            assert (events.reply.status, events.reply.text) == ("streaming", "first")
            release.set()
            assert [event for event in events if isinstance(event, TextDelta)] == [TextDelta(" second")]
        assert events.reply.text == "first second"
        assert events.reply.status == "complete"


def test_actions_hold_each_payload_once() -> None:
    """What arrived and what only the summary held, in order; True is not 1."""

    def steps(_: Any) -> list[Any]:
        return [
            Action({"n": 1}),
            Action({"n": 1}),
            ActionSummary([{"n": 1}, {"n": True}, {"n": 1}, {"n": 1}, {"n": 2.0}]),
        ]

    with DemoAgent(reply=steps, first_byte_s=0) as agent, HaloClient(KEY, base_url=agent.url) as client:
        reply = client.ask("Hello")
    assert repr(reply.actions) == "[{'n': 1}, {'n': 1}, {'n': True}, {'n': 1}, {'n': 2.0}]"
    assert len(reply.action_events) == 2


def test_a_session_goes_on(client: HaloClient) -> None:
    """The id that the server gave continues the conversation."""
    first = client.ask("My name is Zelda")
    assert "Zelda" in client.ask("What is my name?", session_id=first.session_id).text
    assert "Zelda" not in client.ask("What is my name?").text


def test_chat_answers_in_one_piece(client: HaloClient) -> None:
    """The other endpoint gives the text, the ids and its own JSON."""
    reply = client.chat("My name is Ada")
    assert "Ada" in reply.text
    assert isinstance(reply.raw, dict) and reply.raw["session_id"] == reply.session_id
    assert reply.agent_id == "agent_demo"
    assert reply.status == "complete"


@pytest.mark.parametrize("field", ["response", "message", "text", "reply", "content"])
def test_chat_takes_the_text_from_whichever_field_has_it(field: str) -> None:
    """The field's name is not documented; the raw answer is kept."""
    answer = {field: "Hi", "more": [1]}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json=answer))
    reply = HaloClient(KEY, transport=transport).chat("Hello")
    assert (reply.text, reply.raw) == ("Hi", answer)


@pytest.mark.parametrize("body", [b"[1]", b"<html>", b"", b"[" * 100_000])
def test_a_chat_answer_that_is_no_object_fails_and_is_kept(body: bytes) -> None:
    """What came is on the reply, whatever it is."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=body))
    with pytest.raises(errors.ReplyUnreadable, match="not a JSON object") as caught:
        HaloClient(KEY, transport=transport).chat("Hello")
    assert caught.value.reply is not None
    assert caught.value.reply.text == body.decode()


def test_a_reply_that_is_left_early_is_stopped_and_kept(client: HaloClient) -> None:
    """Leaving the context closes the connection; what had arrived stays."""
    with client.stream("Write a long answer") as events:
        for _ in events:
            break
    assert events.reply.status == "stopped"
    assert events.reply.text
    assert events.reply.elapsed_s is not None


def test_an_interrupt_stops_the_reply_at_once(agent: DemoAgent) -> None:
    """Ctrl-C ends the wait within a second, and the next message goes through."""
    client = HaloClient(KEY, base_url=agent.url)
    stream = client.stream("/fault stall")
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.5, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt), stream as events:
        list(events)
    timer.join()
    assert stream.reply.status == "stopped"
    assert "stalls" in stream.reply.text
    assert client.ask("Hello").status == "complete"


@pytest.mark.anyio
async def test_async_events() -> None:
    """The async client gives the same events on the caller's own loop."""
    with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
        async with AsyncHaloClient(KEY, base_url=agent.url) as client:
            async with client.stream("Open a ticket") as events:
                kinds = {type(event) async for event in events}
            assert {TextDelta, Action, ActionSummary} <= kinds
            replies = await asyncio.gather(*(client.ask(f"My name is N{i}") for i in range(20)))
            assert [f"N{i}" in reply.text for i, reply in enumerate(replies)] == [True] * 20
            assert (await client.chat("Hello")).status == "complete"


@pytest.mark.anyio
async def test_async_cancellation_closes_the_connection() -> None:
    """A cancelled task leaves a stopped reply with its text."""
    with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
        client = AsyncHaloClient(KEY, base_url=agent.url)
        stream = client.stream("/fault stall")

        async def read() -> None:
            async with stream as events:
                async for _ in events:
                    pass

        task = asyncio.create_task(read())
        while not stream.reply.text:  # noqa: ASYNC110  # a reply has nothing to await
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert stream.reply.status == "stopped"
        assert "stalls" in stream.reply.text


def test_one_client_works_on_several_loops(agent: DemoAgent) -> None:
    """An async client that was used on a loop that has ended goes on with the next."""
    client = AsyncHaloClient(KEY, base_url=agent.url)
    for _ in range(2):
        assert asyncio.run(client.ask("Hello")).status == "complete"


def test_times_leave_out_connecting(agent: DemoAgent) -> None:
    """The clock starts when the request is written, not when a connection is asked for."""

    class SlowConnection(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(0.5)
            return await super().handle_async_request(request)

    with HaloClient(KEY, base_url=agent.url, transport=SlowConnection()) as client:
        reply = client.ask("Hello")
    assert reply.elapsed_s is not None and reply.elapsed_s < 0.5


# --- Faults ---


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(fault: Fault, client: HaloClient, agent: DemoAgent) -> None:
    """Each fault gives one clear line, keeps what came and sends one request where one is allowed."""
    agent.faults.extend([fault.name] * 3)
    stream = client.stream("Hello", session_id="sess_1_kept")
    if fault.error is None:
        with stream as events:
            list(events)
        assert stream.reply.status == "complete"
    else:
        with pytest.raises(fault.error) as caught, stream as events:
            list(events)
        line = str(caught.value)
        assert type(caught.value) is fault.error
        assert "\n" not in line and len(line) < 400
        assert all(words in line for words in fault.words), line
        assert KEY not in line
        assert caught.value.reply is stream.reply
        assert (stream.reply.status, stream.reply.error) == ("failed", line)
        assert caught.value._render_traceback_() == [f"{fault.error.__name__}: {line}"]
    assert fault.text in stream.reply.text
    assert len(agent.requests) == fault.sent
    assert stream.reply.retries == fault.sent - 1
    agent.faults.clear()
    assert client.ask("Hello").status == "complete"


def test_a_cut_record_is_on_the_reply(client: HaloClient, agent: DemoAgent) -> None:
    """A record that the connection cut is reported as truncated, not shown as text."""
    agent.faults.append("cut record")
    with pytest.raises(errors.ReplyInterrupted) as caught:
        client.ask("Hello")
    assert caught.value.reply is not None
    assert [record.reason for record in caught.value.reply.malformed] == ["truncated"]
    assert "\x1e" not in caught.value.reply.text


def test_connection_refused_is_tried_again_and_then_said() -> None:
    """Nothing arrived, so it may be tried again; then the line says that nothing was sent."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    client = HaloClient(KEY, base_url=f"http://127.0.0.1:{port}")
    stream = client.stream("Hello")
    with pytest.raises(errors.ConnectionFailed, match="The message was not sent") as caught, stream:
        pass
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert stream.reply.retries == 2


def test_a_refused_connection_is_made_good(agent: DemoAgent) -> None:
    """A server that comes up between two tries gets the message, once."""
    port = int(agent.url.split(":")[2].split("/")[0])
    agent.stop()
    late = DemoAgent(port=port, first_byte_s=0, chunk_s=0)
    timer = threading.Timer(0.3, late.start)
    timer.start()
    try:
        reply = HaloClient(KEY, base_url=f"http://127.0.0.1:{port}/api/sdk").ask("Hello")
        assert reply.retries >= 1
        assert len(late.requests) == 1
    finally:
        timer.join()
        late.stop()


def test_a_429_that_passes_is_not_an_error(client: HaloClient, agent: DemoAgent) -> None:
    """The message was not taken, so it is sent again after the time asked for."""
    agent.faults.append("429 retry-after 1")
    started = time.monotonic()
    reply = client.ask("Hello")
    assert reply.status == "complete" and reply.retries == 1
    assert time.monotonic() - started >= 1
    assert len(agent.requests) == 2


@pytest.mark.parametrize(
    "value",
    [
        "soon",
        "-1",
        "",
        "1e3",
        "9" * 30,
        "Mon, 32 Foo 2020 00:00:00 GMT",
        "Mon, 99999999999999999999 Jan 2020 00:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +99999999999999",
    ],
)
def test_a_503_with_a_retry_after_that_says_nothing_is_not_sent_again(value: str) -> None:
    """Only a time that can be read is a promise that the message was not taken."""
    sent = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(503, headers={"Retry-After": value})

    with pytest.raises(errors.ServerError):
        HaloClient(KEY, transport=httpx.MockTransport(answer)).ask("Hello")
    assert len(sent) == 1


def test_retry_after_may_be_a_date() -> None:
    """An HTTP date in the past means at once."""
    answers = iter([httpx.Response(503, headers={"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}), None])

    def answer(request: httpx.Request) -> httpx.Response:
        return next(answers) or httpx.Response(200, text="Hi")

    assert HaloClient(KEY, transport=httpx.MockTransport(answer)).ask("Hello").text == "Hi"


def test_every_httpx_error_is_mapped() -> None:
    """A new exception in httpx is one of the four of a transport, by its own name or by its parent's."""
    roots = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, httpx.CookieConflict)
    known = [value for value in vars(httpx).values() if inspect.isclass(value) and issubclass(value, roots)]
    outgoing = Outgoing("https://x", {}, b"", connect_s=1, silence_s=1)
    not_sent = set()
    for kind in known:
        error = kind.__new__(kind)
        Exception.__init__(error, "why")
        assert type(mapped(error, outgoing)) in TRANSPORT_ERRORS, kind
        if isinstance(mapped(error, outgoing), NotConnected):
            not_sent.add(kind)
    assert not_sent == {
        httpx.ConnectError,
        httpx.ConnectTimeout,
        httpx.InvalidURL,
        httpx.PoolTimeout,
        httpx.ProxyError,
        httpx.UnsupportedProtocol,
    }
    assert isinstance(mapped(httpx.ReadError("x"), outgoing, left=False), NotConnected)


def test_every_error_of_a_transport_is_one_of_ours() -> None:
    """The one table is complete."""
    assert TRANSPORT_ERRORS.keys() == set(TransportError.__subclasses__())


@pytest.mark.parametrize(
    ("raised", "expected", "sent"),
    [
        (httpx.ConnectTimeout("t"), errors.ConnectionFailed, 3),
        (httpx.ConnectError("c"), errors.ConnectionFailed, 3),
        (httpx.PoolTimeout("p"), errors.ConnectionFailed, 3),
        (httpx.ReadTimeout("r"), errors.ReplyTimeout, 1),
        (httpx.WriteTimeout("w"), errors.ReplyTimeout, 1),
        (httpx.WriteError("w"), errors.ReplyInterrupted, 1),
        (httpx.RemoteProtocolError("r"), errors.ReplyInterrupted, 1),
        (RuntimeError("a transport of the caller's own"), errors.ReplyInterrupted, 1),
    ],
    ids=lambda value: getattr(type(value), "__name__", str(value)),
)
def test_what_may_have_arrived_is_sent_once(
    raised: Exception, expected: type[errors.HaloError], sent: int
) -> None:
    """Only an exchange that ended before the message could leave is tried again."""
    count = 0

    def fail(request: httpx.Request) -> httpx.Response:
        nonlocal count
        count += 1
        raise raised

    with pytest.raises(expected):
        HaloClient(KEY, transport=httpx.MockTransport(fail)).ask("Hello")
    assert count == sent


@pytest.mark.parametrize(
    ("name", "value"), [("ALL_PROXY", "foo://127.0.0.1"), ("SSL_CERT_FILE", "/nonexistent/certificates")]
)
def test_a_network_that_cannot_be_set_up_is_one_line(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An odd proxy or certificate in the environment is a setting, not a crash."""
    monkeypatch.setenv(name, value)
    stream = HaloClient(KEY).stream("Hello")
    with pytest.raises(errors.ConfigError, match="network could not be set up"), stream:
        pass
    assert stream.reply.status == "failed"


def test_an_error_body_that_drips_does_not_hold_up_its_error() -> None:
    """What came of it in a few seconds is enough: the status says what has to be said."""

    class Dripping(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b"x"
                await asyncio.sleep(0.1)

    transport = httpx.MockTransport(lambda _: httpx.Response(401, stream=Dripping()))
    started = time.monotonic()
    with pytest.raises(errors.AuthenticationError):
        HaloClient(KEY, transport=transport).ask("Hello")
    assert time.monotonic() - started < 30


@pytest.mark.anyio
async def test_a_stream_that_is_left_has_all_that_it_held() -> None:
    """A record that was open when the caller left is on the reply before the context ends."""

    def steps(_: Any) -> list[Any]:
        return [b"text\x1e__ACTION__{", 3600.0]

    with DemoAgent(reply=steps, first_byte_s=0) as agent:
        async with AsyncHaloClient(KEY, base_url=agent.url) as client:
            async with client.stream("Hello") as events:
                async for _ in events:
                    break
            assert events.reply.status == "stopped"
            assert [record.reason for record in events.reply.malformed] == ["truncated"]
            with pytest.raises(errors.UsageError, match="opened before"):
                await events.__aenter__()
        assert len(agent.requests) == 1


@pytest.mark.anyio
async def test_one_streams_error_is_not_anothers() -> None:
    """Whichever is open around it was stopped, not failed."""
    with DemoAgent(first_byte_s=0, chunk_s=0) as agent:
        async with AsyncHaloClient(KEY, base_url=agent.url) as client:
            one, two = client.stream("Hello"), client.stream("/error 401")
            with pytest.raises(errors.AuthenticationError) as caught:
                async with one, two:
                    pass
    assert (one.reply.status, two.reply.status) == ("stopped", "failed")
    assert caught.value.reply is two.reply


def test_no_proxy_sees_what_goes_to_this_machine(agent: DemoAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment is not asked for loopback addresses."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert HaloClient(KEY, base_url=agent.url).ask("Hello").status == "complete"


# --- The request ---


def test_all_fields_are_sent_as_given(client: HaloClient, agent: DemoAgent) -> None:
    """Each documented field reaches the server under its own name."""
    fields: dict[str, Any] = {
        "user_id": "u_1",
        "user_token": token(None),
        "session_id": "sess_1_a",
        "company_id": "c_1",
        "mode": "voice",
        "context": {"plan": {"label": "Plan", "type": "status", "value": "pro"}, "seats": 3},
        "custom_fields": {"role": "admin"},
        "conversation_history": [{"role": "user", "content": "Hi"}, {"speaker": "agent", "text": "Hello"}],
        "behavior_context": "looked at /billing",
        "agent_id": "agent_x",
        "images": ["https://example.com/a.png"],
    }
    client.ask("Hello", **fields)
    sent = agent.requests[-1].body
    expected = fields | {"message": "Hello"}
    expected["context"] = {**fields["context"], "seats": {"label": "seats", "value": 3}}
    assert sent == expected
    assert agent.requests[-1].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("message", "fields", "words"),
    [
        ("", {}, "message is empty"),
        (" \n", {}, "message is empty"),
        ("x" * (MAX_MESSAGE_CHARS + 1), {}, "10,001 characters; the API takes 10,000"),
        ("Hi", {"mode": "chta"}, "did you mean 'chat'"),
        ("Hi", {"user_name": "u"}, "no field 'user_name'"),
        ("Hi", {"sesion_id": "s"}, "did you mean 'session_id'"),
        ("Hi", {"user_id": 7}, "user_id must be a string"),
        ("Hi", {"session_id": ""}, "session_id is empty"),
        ("Hi", {"custom_fields": {"a": "x" * 10_000}}, "the API takes 10,000"),
        ("Hi", {"custom_fields": {"a": float("nan")}}, "cannot be sent as JSON"),
        ("Hi", {"custom_fields": [1]}, "must be a dict"),
        ("Hi", {"conversation_history": [{"role": "user", "content": ""}] * 51}, "51 items"),
        ("Hi", {"conversation_history": [{"role": "user"}]}, r"conversation_history\[0\] needs"),
        ("Hi", {"conversation_history": "Hi"}, "must be a list"),
        ("Hi", {"behavior_context": "x" * 5_001}, "5,001 characters"),
        ("Hi", {"context": {"a": {"label": 1, "value": 2}}}, "label and type as strings"),
        ("Hi", {"context": {"a": object()}}, "object has no JSON form"),
        ("Hi", {"images": ["file:///etc/passwd"]}, r"images\[0\] is not"),
        ("Hi", {"images": "https://example.com"}, "must be a list"),
        ("Hi", {"user_token": 3}, "string or a callable"),
    ],
)
def test_what_the_api_does_not_take_is_not_sent(
    message: str, fields: dict[str, Any], words: str, client: HaloClient, agent: DemoAgent
) -> None:
    """Limits are checked before anything is sent, and the line says so."""
    with pytest.raises(errors.InvalidRequest, match=words) as caught:
        client.ask(message, **fields)
    assert "Nothing was sent" in str(caught.value)
    assert not agent.requests


def test_limits_are_met_exactly(client: HaloClient) -> None:
    """What is just within the limits is sent; None is as good as absent."""
    fields: dict[str, Any] = {
        "custom_fields": {"a": "x" * (10_000 - len('{"a":""}'))},
        "conversation_history": [{"role": "user", "content": "x"}] * 50,
        "behavior_context": "x" * 5_000,
        "mode": None,
    }
    assert client.ask("é" * MAX_MESSAGE_CHARS, **fields).status == "complete"


def test_a_dataframe_becomes_a_list_of_its_rows() -> None:
    """Missing values become null and dates ISO text."""
    frame = pd.DataFrame({"n": [1, None], "day": pd.to_datetime(["2026-01-02", None])})
    entry = context_entry("orders", frame)
    assert entry["label"] == "orders" and entry["type"] == "list"
    rows: Any = entry["value"]
    assert rows[0]["n"] == 1 and rows[0]["day"].startswith("2026-01-02")
    assert rows[1] == {"n": None, "day": None}
    nested = context_entry("k", {"label": "Orders", "value": frame})
    assert nested["value"] == rows
    assert context_entry("s", pd.Series([1, 2])) == {"label": "s", "value": [1, 2]}
    assert context_entry("n", frame["n"].max())["value"] == 1


def test_numbers_from_pandas_and_numpy_are_exact() -> None:
    """A p-value is not rounded to zero, and neither is a total."""
    small, many = 4.2e-12, 0.12345678901234567
    frame = pd.DataFrame({"p": [small, many], "i": [2**60, 1]})
    assert context_entry("k", frame)["value"] == [{"p": small, "i": 2**60}, {"p": many, "i": 1}]
    assert context_entry("k", np.array([[small], [many]]))["value"] == [[small], [many]]
    assert context_entry("k", pd.Series([small], index=["a"]))["value"] == {"a": small}


def test_an_index_that_says_something_is_sent() -> None:
    """A group's name is a column of its row; bare row numbers are left out."""
    frame = pd.DataFrame({"plan": ["a", "b", "a"], "x": [1, 2, 3]})
    grouped = context_entry("k", frame.groupby("plan").sum())["value"]
    assert grouped == [{"plan": "a", "x": 4}, {"plan": "b", "x": 2}]
    assert context_entry("k", frame[frame.x > 1])["value"] == [{"plan": "b", "x": 2}, {"plan": "a", "x": 3}]
    assert context_entry("k", frame.x.describe().to_frame())["value"][0] == {"index": "count", "x": 3.0}  # type: ignore[index]


@dataclass
class Plan:
    name: str
    seats: int


class Size(Enum):
    LARGE = "L"


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Plan("pro", 3), {"name": "pro", "seats": 3}),
        (Size.LARGE, "L"),
        (Decimal("1.10"), "1.10"),
        (date(2026, 1, 2), "2026-01-02"),
        (np.datetime64("2024-01-02T00:00:00.000000001"), "2024-01-02T00:00:00.000000001"),
        (np.array(["2024-01-02"], dtype="datetime64[ns]"), ["2024-01-02T00:00:00.000000000"]),
        (pd.NaT, None),
        (np.bool_(True), True),
        ({1: "a", (1, 2): "b"}, {"1": "a", "(1, 2)": "b"}),
        (range(3), [0, 1, 2]),
        (Path("a"), "a"),
    ],
)
def test_values_of_a_notebook_have_a_json_form(value: Any, plain: Any) -> None:
    """What people keep in notebooks is sent as what it says."""
    assert context_entry("k", value)["value"] == plain


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({1: 2, "1": 3}, "two of its keys are '1'"),
        (pd.DataFrame({"a": [math.inf]}), "not JSON compliant"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "column names are not unique"),
        (pd.DataFrame({"a": [object()]}), "object has no JSON form"),
        (b"bytes", "bytes has no JSON form"),
        (np.timedelta64(1, "s"), "no JSON form"),
    ],
    ids=["keys", "infinity", "columns", "objects", "bytes", "duration"],
)
def test_what_would_be_lost_is_refused(value: Any, words: str) -> None:
    """Nothing is dropped or changed in silence."""
    with pytest.raises(errors.InvalidRequest, match=words):
        context_entry("k", value)


PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8


def test_images_become_data_urls(tmp_path: Any) -> None:
    """Files, bytes and what a notebook shows as a PNG; no other file is sent by mistake."""
    picture = tmp_path / "a.png"
    picture.write_bytes(PNG)
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    assert image_url(picture) == image_url(PNG) == url
    assert image_url("https://example.com/a") == "https://example.com/a"

    class Shown:
        def _repr_png_(self) -> bytes:
            return PNG

    assert image_url(Shown()) == url
    assert image_url(b"\xff\xd8\xff\xe0").startswith("data:image/jpeg")
    assert image_url(b"RIFF0000WEBPVP8 ").startswith("data:image/webp")
    key = tmp_path / "id_rsa"
    key.write_text("private")
    for value in (key, b"private", object(), "not a url"):
        with pytest.raises(errors.InvalidRequest, match="is not an image"):
            image_url(value)
    with pytest.raises(errors.InvalidRequest, match="could not be read"):
        image_url(tmp_path / "absent.png")


def test_a_stream_is_read_inside_with(client: HaloClient, agent: DemoAgent) -> None:
    """Reading one that is not open says how, at once."""
    with pytest.raises(errors.UsageError, match=r"write 'with client\.stream"):
        next(iter(client.stream("Hello")))
    assert not agent.requests


@pytest.mark.anyio
async def test_an_async_stream_is_read_inside_with() -> None:
    """The same for async code."""
    stream = AsyncHaloClient(KEY).stream("Hello")
    with pytest.raises(errors.UsageError, match="'async with'"):
        await anext(aiter(stream))


def test_errors_can_be_sent_between_processes(client: HaloClient, agent: DemoAgent) -> None:
    """With all that is known about them."""
    agent.faults.append("429 retry-after 90")
    with pytest.raises(errors.RateLimited) as caught:
        client.ask("Hello")
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301  # made in the line itself
    assert str(again) == str(caught.value)
    assert (again.status_code, again.retry_after_s) == (429, 90.0)
    assert again.reply.status == "failed"


def test_an_interrupt_knows_whether_the_message_left() -> None:
    """Not while a refused message waits for its next try, nor before a connection is there."""
    with DemoAgent(first_byte_s=0) as agent:
        agent.faults.append("503 retry-after 30")
        stream = HaloClient(KEY, base_url=agent.url).stream("Hello")
        stream.open()
        while "trying again" not in stream.state:
            assert stream.next_event(0.05) is None
        assert not stream.may_have_arrived
        stream.stop()
        stream = HaloClient(KEY, base_url=agent.url).stream("/fault stall first")
        stream.open()
        while "waiting" not in stream.state:
            assert stream.next_event(0.05) is None
        assert stream.may_have_arrived
        stream.stop()
        assert stream.reply.status == "stopped"


@pytest.mark.parametrize("place", ["header", "chat"])
@pytest.mark.parametrize("bad", ["\x1b[31mred", "x" * 1001, ""])
def test_an_id_that_can_be_none_is_not_kept(place: str, bad: str) -> None:
    """It would be shown, kept and sent back."""

    def answer(request: httpx.Request) -> httpx.Response:
        if place == "header":
            return httpx.Response(
                200, text="Hi", headers=[(b"X-Session-Id", bad.encode()), (b"X-Agent-Id", b"a_1")]
            )
        return httpx.Response(200, json={"response": "Hi", "session_id": bad, "agent_id": "a_1"})

    client = HaloClient(KEY, transport=httpx.MockTransport(answer))
    reply = client.ask("Hello") if place == "header" else client.chat("Hello")
    assert (reply.session_id, reply.agent_id) == (None, "a_1")
    assert "\x1b" not in repr(reply)


def test_a_chat_answer_can_be_sent_on() -> None:
    """Lone surrogates are replaced and NaN is no JSON, as in a stream."""
    bodies = iter([b'{"response": "a\\ud800b"}', b'{"response": "a", "n": NaN}'])
    client = HaloClient(
        KEY, transport=httpx.MockTransport(lambda _: httpx.Response(200, content=next(bodies)))
    )
    assert client.chat("Hello").text == "a�b"
    with pytest.raises(errors.ReplyUnreadable):
        client.chat("Hello")


# --- Settings and secrets ---


def test_settings_come_from_the_argument_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument goes before the environment's variable."""
    monkeypatch.setenv("HALO_API_KEY", KEY)
    monkeypatch.setenv("HALO_BASE_URL", "https://halo.example.com/api/")
    monkeypatch.setenv("HALO_USER_ID", "u_env")
    monkeypatch.setenv("HALO_USER_TOKEN", token(None))
    assert HaloClient().debug()["base_url"] == "https://halo.example.com/api"
    assert HaloClient().debug()["user_id"] == "u_env"
    assert HaloClient().debug()["user_token"] == "set"
    assert HaloClient(base_url="http://localhost:1", user_id="u_arg").debug()["user_id"] == "u_arg"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"api_key": ""}, "no API key.*HALO_API_KEY"),
        ({"api_key": SECRET}, "identity secret"),
        ({"api_key": "ab_live_a b"}, "copy it anew"),
        ({"api_key": "ab_live_\x00"}, "copy it anew"),
        ({"user_token": SECRET}, "identity secret"),
        ({"user_token": 3}, "string or a callable"),
        ({"base_url": "http://api.example.com"}, "Plain http.*api.example.com"),
        ({"base_url": "http://127.0.0.1.example.com"}, "Plain http"),
        ({"base_url": "ftp://example.com"}, "not an http or https address"),
        ({"base_url": "example.com"}, "not an http or https address"),
        ({"base_url": "https://[::1"}, "not an http or https address"),
        ({"base_url": "https://u:p4ss@example.com"}, "without them"),
        ({"base_url": "https://example.com?key=p4ss"}, "without them"),
        ({"base_url": "https://example.com?"}, "without them"),
        ({"base_url": "https://example.com\t/x"}, "not an http or https address"),
        ({"base_url": 5}, "not an http or https address"),
        ({"api_key": b"ab_live_p4ss"}, "must be a string, not bytes"),
        ({"max_retries": "2"}, "whole number from 0"),
        ({"max_record_bytes": 0}, "whole number from 1"),
        ({"connect_timeout_s": 0}, "above 0"),
        ({"silence_timeout_s": float("nan")}, "above 0"),
    ],
)
def test_unsafe_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    """Each is one line that says what is wrong, and holds no secret."""
    with pytest.raises(errors.ConfigError, match=words) as caught:
        HaloClient(**({"api_key": KEY} | settings))
    assert SECRET not in str(caught.value) and "p4ss" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["http://localhost:1", "http://127.8.0.1", "http://[::1]:80", "https://example.com"]
)
def test_safe_addresses_are_taken(url: str) -> None:
    """https anywhere, plain http to this machine."""
    assert HaloClient(KEY, base_url=url).base_url == url


def test_secrets_appear_nowhere(agent: DemoAgent, caplog: pytest.LogCaptureFixture) -> None:
    """Not in a repr, a snapshot, a dry run, a reply, an error, a header of ours or a log."""
    user_token = token(None)
    caplog.set_level(logging.DEBUG)

    def echo(_: Any) -> list[Any]:
        return [TextDelta("ok")]

    with DemoAgent(reply=echo, first_byte_s=0) as server:
        client = HaloClient(KEY, base_url=server.url, user_token=user_token, user_id="u_1")
        stream = client.stream("Hello")
        with stream:
            list(stream)
        shown = [
            repr(client),
            repr(vars(client)),
            repr(vars(client.aio.endpoint)),
            repr(client.aio.settings),
            repr(stream.request),
            repr(vars(stream._stream.exchange)),
            json.dumps(client.debug()),
            json.dumps(client.dry_run(client.prepare("Hello"))),
            json.dumps(stream.reply.to_dict()),
            caplog.text,
        ]
        assert server.requests[-1].body["user_token"] == user_token
    for text in shown:
        assert KEY not in text and user_token not in text, text


@pytest.mark.parametrize("place", ["error", "docs_url"])
def test_a_server_that_repeats_the_key_does_not_spread_it(place: str) -> None:
    """A server's own words are cleaned of what was sent to it."""
    body = {"error": "Bad", place: f"https://x/{KEY} is bad\x1b[31m\nreally"}
    transport = httpx.MockTransport(lambda request: httpx.Response(400, json=body))
    with pytest.raises(errors.BadRequest) as caught:
        HaloClient(KEY, transport=transport).ask("Hello")
    words = f"{caught.value} {caught.value.detail} {caught.value.docs_url}"
    assert KEY not in words and "\x1b" not in words and "\n" not in words
    assert "•••" in words


@pytest.mark.parametrize("detail", ["y" * (300 - len(KEY)) + KEY, KEY[:5] + "\x07" + KEY[5:]])
def test_a_key_is_masked_before_the_line_is_cut(detail: str) -> None:
    """Neither the limit nor a control character in it lets a part of the key through."""
    transport = httpx.MockTransport(lambda request: httpx.Response(400, json={"error": detail + "zzz"}))
    with pytest.raises(errors.BadRequest) as caught:
        HaloClient(KEY, transport=transport).ask("Hello")
    assert KEY[:10] not in str(caught.value)
    assert "•••" in str(caught.value)
    declared = {"Content-Type": f"text/html; k={KEY}"}
    transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=declared))
    with pytest.raises(errors.ReplyUnreadable) as unreadable:
        HaloClient(KEY, transport=transport).ask("Hello")
    assert KEY[:10] not in str(unreadable.value)


def test_a_secret_is_not_written_down() -> None:
    """A pickle of the client would hold the key."""
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(checked_key(KEY))
    assert copy.deepcopy(checked_key(KEY)) == checked_key(KEY)


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_token_is_none(blank: str, agent: DemoAgent) -> None:
    """Clearing a setting is not setting it to nothing."""
    client = HaloClient(KEY, base_url=agent.url, user_token=blank)
    assert client.debug()["user_token"] == "unset"
    client.ask("Hello", user_token=blank)
    assert "user_token" not in agent.requests[-1].body


def test_debug_says_what_is_set(agent: DemoAgent) -> None:
    """One snapshot that can be shared."""
    client = HaloClient(KEY, base_url=agent.url, user_token=lambda: "t", user_id="u_1")
    client.ask("Hello")
    state = client.debug()
    assert (state["api_key"], state["user_token"], state["user_token_is_callable"]) == ("set", "set", True)
    assert state["last_status"] == "complete" and state["last_agent_id"] == "agent_demo"
    assert HaloClient(KEY).debug()["user_token"] == "unset"


# --- User tokens ---


@pytest.fixture
def strict_agent() -> Iterator[DemoAgent]:
    with DemoAgent(first_byte_s=0, chunk_s=0, identity_secret=SECRET) as running:
        yield running


def test_a_callable_is_asked_when_there_is_no_token(
    strict_agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and again only when the token has expired."""
    asked = []

    def fresh() -> str:
        asked.append(threading.get_ident())
        return sign_user_token(SECRET, "u_1", expires_in_s=3600 if len(asked) > 1 else 60)

    client = HaloClient(KEY, base_url=strict_agent.url, user_id="u_1", user_token=fresh)
    assert client.ask("Hello").status == "complete"
    assert client.ask("Hello").status == "complete"
    assert asked == [threading.get_ident()], "on the caller's thread, once"
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert client.ask("Hello").status == "complete"
    assert client.ask("Hello").status == "complete"
    assert len(asked) == 2
    assert len(strict_agent.requests) == 4, "an expired token is not sent"


def test_a_callable_is_asked_once_after_a_403(strict_agent: DemoAgent) -> None:
    """A refused token is replaced once; a second refusal is the error."""
    tokens = iter([sign_user_token("another secret", "u_1"), sign_user_token(SECRET, "u_1")])
    client = HaloClient(KEY, base_url=strict_agent.url, user_id="u_1", user_token=lambda: next(tokens))
    assert client.ask("Hello").status == "complete"
    assert len(strict_agent.requests) == 2

    asked = []

    def wrong() -> str:
        asked.append(1)
        return sign_user_token("another secret", "u_1")

    strict_agent.requests.clear()
    client = HaloClient(KEY, base_url=strict_agent.url, user_id="u_1", user_token=wrong)
    with pytest.raises(errors.IdentityError):
        client.ask("Hello")
    assert (len(strict_agent.requests), len(asked)) == (2, 2)


def test_an_async_callable_works_from_sync_code(strict_agent: DemoAgent) -> None:
    """A user's coroutine is awaited for a sync call."""

    async def fresh() -> str:
        await asyncio.sleep(0.01)
        return sign_user_token(SECRET, "u_1")

    client = HaloClient(KEY, base_url=strict_agent.url, user_id="u_1", user_token=fresh)
    assert client.ask("Hello").status == "complete"


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.anyio
async def test_a_callable_works_from_async_code(kind: str) -> None:
    """Many turns at once ask it once; a blocking one does not hold up the loop."""
    asked = []

    def fresh() -> str:
        asked.append(threading.get_ident())
        return sign_user_token(SECRET, "u_1")

    async def fresh_async() -> str:
        return fresh()

    with DemoAgent(first_byte_s=0, chunk_s=0, identity_secret=SECRET) as agent:
        source = fresh if kind == "sync" else fresh_async
        async with AsyncHaloClient(KEY, base_url=agent.url, user_id="u_1", user_token=source) as client:
            replies = await asyncio.gather(*(client.ask("Hello") for _ in range(5)))
        assert [reply.status for reply in replies] == ["complete"] * 5
        assert len(asked) == 1
        assert (asked[0] == threading.get_ident()) is (kind == "async")


def test_one_client_works_in_threads_with_loops_of_their_own(strict_agent: DemoAgent) -> None:
    """A token callable is asked under a lock that belongs to each loop."""
    fresh = sign_user_token(SECRET, "u_1")
    client = AsyncHaloClient(KEY, base_url=strict_agent.url, user_id="u_1", user_token=lambda: fresh)

    async def several() -> list[str]:
        return [reply.status for reply in await asyncio.gather(*(client.ask("Hello") for _ in range(3)))]

    with ThreadPoolExecutor(4) as threads:
        statuses = [future.result() for future in [threads.submit(asyncio.run, several()) for _ in range(4)]]
    assert statuses == [["complete"] * 3] * 4


def test_an_expired_token_is_not_sent(strict_agent: DemoAgent) -> None:
    """A string cannot be made fresh, so the line asks for another."""
    client = HaloClient(KEY, base_url=strict_agent.url, user_id="u_1", user_token=token(time.time() - 1))
    with pytest.raises(errors.ConfigError, match=r"has expired\. Nothing was sent"):
        client.ask("Hello")
    assert not strict_agent.requests


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "returned NoneType"),
        ("", "returned str"),
        (token(1), "has expired"),
        (ValueError("signed with " + SECRET), "raised ValueError"),
        (StopIteration(), "raised StopIteration"),
        (SECRET, "identity secret"),
    ],
    ids=["none", "empty", "expired", "raises", "exhausted", "secret"],
)
def test_a_callable_that_fails_is_named_without_its_secrets(
    answer: Any, words: str, strict_agent: DemoAgent
) -> None:
    """The line says what the callable did; nothing was sent."""

    def fresh() -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    client = HaloClient(KEY, base_url=strict_agent.url, user_id="u_1", user_token=fresh)
    with pytest.raises(errors.ConfigError, match=words) as caught:
        client.ask("Hello")
    assert SECRET not in str(caught.value)
    assert not strict_agent.requests


def test_each_callable_gives_its_own_users_token(agent: DemoAgent) -> None:
    """What one returned is not sent for another's user."""
    client = HaloClient(KEY, base_url=agent.url)
    client.ask("Hello", user_id="u_1", user_token=lambda: "token-1")
    client.ask("Hello", user_id="u_2", user_token=lambda: "token-2")
    assert [request.body["user_token"] for request in agent.requests] == ["token-1", "token-2"]


def test_two_open_streams_of_one_thread_both_get_a_token(agent: DemoAgent) -> None:
    """Neither waits for the thread that is busy with the other."""
    client = HaloClient(KEY, base_url=agent.url, user_id="u_1", user_token=lambda: "token")
    first, second = client.stream("Hello"), client.stream("Hello")
    first.open()
    second.open()
    for stream in (second, first):
        with stream as events:
            list(events)
        assert stream.reply.status == "complete"


@pytest.mark.parametrize(
    "text", ["opaque", "a.b.c", "a.eyJleHAiOiAieCJ9.c", "..", "a.W10.c", "a.eyJleHAiOiB0cnVlfQ.c"]
)
def test_a_token_that_cannot_be_read_is_sent(text: str, agent: DemoAgent) -> None:
    """Only a token that is known to have expired is held back."""
    client = HaloClient(KEY, base_url=agent.url, user_id="u_1", user_token=text)
    assert client.ask("Hello").status == "complete"
    assert agent.requests[-1].body["user_token"] == text


# --- The reply as a value ---


def test_text_can_be_followed_while_it_grows() -> None:
    """`text_since` gives each piece once, however often `text` is read between."""
    reply = Reply()
    seen, part = "", 0
    for number in range(50):
        reply.add(TextDelta(f"{number} "), at_s=0.1)
        if number % 3 == 0:
            assert reply.text.endswith(f"{number} ")
            more, part = reply.text_since(part)
            seen += more
    seen += reply.text_since(part)[0]
    assert seen == reply.text == "".join(f"{number} " for number in range(50))


def test_a_million_deltas_are_joined_once() -> None:
    """Adding is cheap and reading joins: a long reply in tiny chunks costs what its text costs."""
    reply = Reply()
    for _ in range(200_000):
        reply.add(TextDelta("ab"), at_s=0.1)
    assert len(reply.text) == 400_000
    assert reply.text is reply.text, "read twice, joined once"


def test_malformed_records_are_kept() -> None:
    """They are on the reply and in its JSON, and are not shown as text."""
    reply = Reply()
    record = MalformedRecord("{", "json")
    reply.add(record, at_s=0.1)
    assert reply.malformed == [record] and reply.text == ""
    assert reply.to_dict()["malformed"] == [{"raw": "{", "reason": "json"}]


def test_a_reply_shows_itself_safely(client: HaloClient) -> None:
    """Its rich display is the safe HTML of its text and actions, with plain text beside."""

    def steps(_: Any) -> list[Any]:
        return [TextDelta("<img src=x onerror=alert(1)> **bold**"), Action({"<b>": "<script>"})]

    with DemoAgent(reply=steps, first_byte_s=0) as agent:
        reply = HaloClient(KEY, base_url=agent.url).ask("Hello")
    bundle = reply._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert "<img" not in bundle["text/html"] and "<script" not in bundle["text/html"]
    assert "<strong>bold</strong>" in bundle["text/html"]
    assert "**bold**" in bundle["text/plain"]


def test_encoded_streams_come_back_through_real_http() -> None:
    """A record of a megabyte, beside text in several scripts, through a socket."""
    payload: Any = {"rows": [{"n": n, "s": "żółw 🐢"} for n in range(20_000)]}

    def steps(_: Any) -> list[Any]:
        data = encode(TextDelta("日本")) + encode(Action(payload)) + encode(TextDelta("終"))
        return [data[i : i + 1000] for i in range(0, len(data), 1000)]

    with DemoAgent(reply=steps, first_byte_s=0) as agent:
        reply = HaloClient(DEMO_KEY, base_url=agent.url).ask("Hello")
    assert reply.text == "日本終" and reply.actions == [payload]
