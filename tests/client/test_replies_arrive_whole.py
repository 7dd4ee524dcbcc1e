"""A reply has all that was sent, as it arrives, whatever ends it."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from halo_notebook import AsyncHaloClient, HaloClient, errors
from halo_notebook.stream import Action, ActionSummary, TextDelta, encode

from .clients import KEY, answering, replying

if TYPE_CHECKING:
    from halo_notebook.demo import DemoAgent


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


def test_actions_hold_each_payload_once() -> None:
    """What arrived and what only the summary held, in order; True is not 1."""
    summary = ActionSummary([{"n": 1}, {"n": True}, {"n": 1}, {"n": 1}, {"n": 2.0}])
    with replying(Action({"n": 1}), Action({"n": 1}), summary) as client:
        reply = client.ask("Hello")
    assert repr(reply.actions) == "[{'n': 1}, {'n': 1}, {'n': True}, {'n': 1}, {'n': 2.0}]"
    assert len(reply.action_events) == 2


def test_chat_answers_in_one_piece(client: HaloClient) -> None:
    """The other endpoint gives the text, the ids and its own JSON."""
    reply = client.chat("My name is Ada")
    assert "Ada" in reply.text
    assert isinstance(reply.raw, dict) and reply.raw["session_id"] == reply.session_id
    assert (reply.status, reply.agent_id) == ("complete", "agent_demo")


@pytest.mark.parametrize("field", ["response", "message", "text", "reply", "content"])
def test_chat_takes_the_text_from_whichever_field_has_it(field: str) -> None:
    """The field's name is not documented; the raw answer is kept. Lone surrogates are replaced."""
    reply = answering(200, content=b'{"%s": "a\\ud800b", "more": [1]}' % field.encode()).chat("Hello")
    assert (reply.text, reply.raw) == ("a\ufffdb", {field: "a\ufffdb", "more": [1]})


@pytest.mark.parametrize("body", [b"[1]", b"<html>", b"", b"[" * 100_000, b'{"response": "a", "n": NaN}'])
def test_a_chat_answer_that_is_not_an_object_fails_and_is_kept(body: bytes) -> None:
    """What came is on the reply, whatever it is. NaN is not JSON, as in a stream."""
    with pytest.raises(errors.ReplyUnreadable, match="not a JSON object") as caught:
        answering(200, content=body).chat("Hello")
    assert caught.value.reply is not None
    assert caught.value.reply.text == body.decode()


def test_a_reply_that_is_left_early_is_stopped_and_kept(client: HaloClient) -> None:
    """Leaving the context closes the connection; the text received so far stays."""
    with client.stream("Write a long answer") as events:
        next(iter(events))
    assert events.reply.status == "stopped" and events.reply.text
    assert events.reply.elapsed_s is not None


def test_an_interrupt_stops_the_reply_at_once(agent: DemoAgent) -> None:
    """Ctrl-C ends the wait within a second, and the next message goes through."""
    client = HaloClient(KEY, base_url=agent.url)
    stream = client.stream("/fault stall")
    main = threading.get_ident()
    timer = threading.Timer(0.5, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt), stream as events:
        list(events)
    timer.join()
    assert stream.reply.status == "stopped" and "stalls" in stream.reply.text
    assert client.ask("Hello").status == "complete"


@pytest.mark.anyio
async def test_async_events(agent: DemoAgent) -> None:
    """The async client gives the same events on the caller's own loop."""
    async with AsyncHaloClient(KEY, base_url=agent.url) as client:
        async with client.stream("Open a ticket") as events:
            kinds = {type(event) async for event in events}
        assert {TextDelta, Action, ActionSummary} <= kinds
        replies = await asyncio.gather(*(client.ask(f"My name is N{i}") for i in range(20)))
        assert [f"N{i}" in reply.text for i, reply in enumerate(replies)] == [True] * 20
        assert (await client.chat("Hello")).status == "complete"


@pytest.mark.anyio
async def test_async_cancellation_closes_the_connection(agent: DemoAgent) -> None:
    """A cancelled task leaves a stopped reply with its text."""
    client = AsyncHaloClient(KEY, base_url=agent.url)
    task = asyncio.create_task(client.ask("/fault stall"))
    while client.last is None or not client.last.text:  # noqa: ASYNC110  # a reply has nothing to await
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.last.status == "stopped" and "stalls" in client.last.text


def test_times_leave_out_connecting(agent: DemoAgent) -> None:
    """The clock starts when the request is written, not when a connection is asked for."""

    class SlowConnection(httpx.AsyncHTTPTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await asyncio.sleep(0.5)
            return await super().handle_async_request(request)

    with HaloClient(KEY, base_url=agent.url, transport=SlowConnection()) as client:
        reply = client.ask("Hello")
    assert reply.elapsed_s is not None and reply.elapsed_s < 0.5


def test_a_cut_record_is_on_the_reply(client: HaloClient) -> None:
    """A record that the connection cut is reported as truncated, not shown as text."""
    stream = client.stream("/fault cut record")
    with pytest.raises(errors.ReplyInterrupted), stream:
        stream.to_end()
    assert [record.reason for record in stream.reply.malformed] == ["truncated"]
    assert "\x1e" not in stream.reply.text


@pytest.mark.anyio
async def test_a_stream_that_is_left_keeps_an_open_record() -> None:
    """A record that was open when the caller left is on the reply before the context ends."""
    with replying(b"text\x1e__ACTION__{", 3600.0) as client:
        async with client.aio.stream("Hello") as events:
            await anext(aiter(events))
        assert events.reply.status == "stopped"
        assert [record.reason for record in events.reply.malformed] == ["truncated"]
        with pytest.raises(errors.UsageError, match="opened before"):
            await events.__aenter__()
        await client.aio.aclose()


@pytest.mark.anyio
async def test_an_error_belongs_to_its_own_stream(agent: DemoAgent) -> None:
    """Whichever is open around it was stopped, not failed."""
    async with AsyncHaloClient(KEY, base_url=agent.url) as client:
        one, two = client.stream("Hello"), client.stream("/error 401")
        with pytest.raises(errors.AuthenticationError) as caught:
            async with one, two:
                pass
    assert (one.reply.status, two.reply.status) == ("stopped", "failed")
    assert caught.value.reply is two.reply


@pytest.mark.anyio
async def test_a_stream_is_read_inside_with(client: HaloClient, agent: DemoAgent) -> None:
    """Reading one that is not open says how, at once."""
    with pytest.raises(errors.UsageError, match=r"write 'with client\.stream"):
        next(iter(client.stream("Hello")))
    with pytest.raises(errors.UsageError, match="'async with'"):
        await anext(aiter(client.aio.stream("Hello")))
    with pytest.raises(errors.UsageError, match="'async with'"):
        await client.aio.stream("Hello").to_end()
    assert not agent.requests


@pytest.mark.parametrize("place", ["header", "chat"])
@pytest.mark.parametrize("bad", ["\x1b[31mred", "x" * 1001, ""])
def test_an_unusable_id_is_not_kept(place: str, bad: str) -> None:
    """It would be shown, kept and sent back."""
    if place == "header":
        headers = [(b"X-Session-Id", bad.encode()), (b"X-Agent-Id", b"a_1")]
        reply = answering(200, text="Hi", headers=headers).ask("Hello")
    else:
        reply = answering(200, json={"response": "Hi", "session_id": bad, "agent_id": "a_1"}).chat("Hello")
    assert (reply.session_id, reply.agent_id) == (None, "a_1")
    assert "\x1b" not in repr(reply)


def test_encoded_streams_come_back_through_real_http() -> None:
    """A record of a megabyte, beside text in several scripts, through a socket."""
    payload: Any = {"rows": [{"n": n, "s": "żółw 🐢"} for n in range(20_000)]}
    data = encode(TextDelta("日本")) + encode(Action(payload)) + encode(TextDelta("終"))
    with replying(*(data[i : i + 1000] for i in range(0, len(data), 1000))) as client:
        reply = client.ask("Hello")
    assert reply.text == "日本終" and reply.actions == [payload]
