"""A user token is requested when it is needed, and an expired one is not sent."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from halo_notebook import AsyncHaloClient, HaloClient, errors
from halo_notebook.demo import DemoAgent, sign_user_token

from .clients import KEY, SECRET, token

SIGNED = sign_user_token(SECRET, "u_1")


@pytest.fixture
def strict_agent() -> Iterator[DemoAgent]:
    with DemoAgent(first_byte_s=0, chunk_s=0, identity_secret=SECRET) as running:
        yield running


def client_of(agent: DemoAgent, user_token: Any) -> HaloClient:
    return HaloClient(KEY, base_url=agent.url, user_id="u_1", user_token=user_token)


def test_a_callable_is_called_when_there_is_no_token(
    strict_agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, and again only when the token has expired."""
    asked = []

    def fresh() -> str:
        asked.append(threading.get_ident())
        return sign_user_token(SECRET, "u_1", expires_in_s=3600 if len(asked) > 1 else 60)

    client = client_of(strict_agent, fresh)
    assert [client.ask("Hello").status for _ in range(2)] == ["complete"] * 2
    assert asked == [threading.get_ident()], "on the caller's thread, once"
    later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: later)
    assert [client.ask("Hello").status for _ in range(2)] == ["complete"] * 2
    assert len(asked) == 2
    assert len(strict_agent.requests) == 4, "an expired token is not sent"


def test_a_callable_is_called_once_after_a_403(strict_agent: DemoAgent) -> None:
    """A refused token is replaced once, a second refusal is the error; sync code gets a coroutine's token."""
    wrong = sign_user_token("another secret", "u_1")
    tokens = iter([wrong, SIGNED, wrong, wrong])

    async def fresh() -> str:
        await asyncio.sleep(0.01)
        return next(tokens)

    assert client_of(strict_agent, fresh).ask("Hello").status == "complete"
    assert len(strict_agent.requests) == 2
    with pytest.raises(errors.IdentityError):
        client_of(strict_agent, lambda: next(tokens)).ask("Hello")
    assert (len(strict_agent.requests), list(tokens)) == (4, [])


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.anyio
async def test_a_callable_works_from_async_code(kind: str, strict_agent: DemoAgent) -> None:
    """Many turns at once ask it once; a blocking one does not hold up the loop."""
    asked = []

    def fresh() -> str:
        asked.append(threading.get_ident())
        return SIGNED

    async def fresh_async() -> str:
        return fresh()

    source = fresh if kind == "sync" else fresh_async
    async with client_of(strict_agent, source).aio as client:
        replies = await asyncio.gather(*(client.ask("Hello") for _ in range(5)))
    assert [reply.status for reply in replies] == ["complete"] * 5
    assert len(asked) == 1
    assert (asked[0] == threading.get_ident()) is (kind == "async")


def test_one_client_works_in_threads_with_loops_of_their_own(strict_agent: DemoAgent) -> None:
    """A token callable is asked under a lock that belongs to each loop."""
    client = AsyncHaloClient(KEY, base_url=strict_agent.url, user_id="u_1", user_token=lambda: SIGNED)

    async def several() -> list[str]:
        return [reply.status for reply in await asyncio.gather(*(client.ask("Hello") for _ in range(3)))]

    with ThreadPoolExecutor(4) as threads:
        statuses = [future.result() for future in [threads.submit(asyncio.run, several()) for _ in range(4)]]
    assert statuses == [["complete"] * 3] * 4


def raising(error: Exception) -> str:
    raise error


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (
            token(1),
            r"^By this computer's clock the user token has expired\. Nothing was sent; check the clock",
        ),
        (lambda: None, "returned NoneType"),
        (lambda: "", "returned str"),
        (lambda: token(1), "a token that has expired by this computer's clock. .*; check the clock"),
        (lambda: token(time.time() - 25 * 3600), "a token that has expired"),
        (lambda: raising(ValueError("signed with " + SECRET)), "raised ValueError"),
        (lambda: raising(StopIteration()), "raised StopIteration"),
        (lambda: SECRET, "identity secret"),
    ],
    ids=["expired string", "none", "empty", "expired", "yesterday's", "raises", "exhausted", "secret"],
)
def test_a_source_that_gives_no_token_is_named_without_its_secrets(
    source: Any, words: str, strict_agent: DemoAgent
) -> None:
    """The line says what the callable did, or asks for a fresh string; nothing was sent."""
    with pytest.raises(errors.ConfigError, match=words) as caught:
        client_of(strict_agent, source).ask("Hello")
    assert SECRET not in str(caught.value)
    assert not strict_agent.requests


@pytest.mark.parametrize("ahead_s", [300, 3600, 12 * 3600, -3600])
def test_a_token_that_was_just_made_is_sent_though_the_clock_is_wrong(ahead_s: int, agent: DemoAgent) -> None:
    """The server's clock counts: this computer's may be ahead, by a time zone too."""
    made: list[str] = []

    def fresh() -> str:
        made.append(token(time.time() - ahead_s + 60))
        return made[-1]

    client = client_of(agent, fresh)
    for _ in range(2):
        client.ask("Hello")
        assert agent.requests[-1].body["user_token"] == made[-1]
    assert len(made) == (2 if ahead_s > 0 else 1), "one that seems to have expired is not sent twice"


def test_each_callable_gives_its_own_users_token(agent: DemoAgent) -> None:
    """What one returned is not sent for another's user."""
    client = client_of(agent, None)
    client.ask("Hello", user_id="u_1", user_token=lambda: "token-1")
    client.ask("Hello", user_id="u_2", user_token=lambda: "token-2")
    assert [request.body["user_token"] for request in agent.requests] == ["token-1", "token-2"]


def test_two_open_streams_of_one_thread_both_get_a_token(agent: DemoAgent) -> None:
    """Neither waits for the thread that is busy with the other."""
    client = client_of(agent, lambda: "token")
    first, second = client.stream("Hello"), client.stream("Hello")
    first.open()
    second.open()
    for stream in (second, first):
        with stream:
            assert stream.to_end().status == "complete"


@pytest.mark.parametrize(
    "text", ["opaque", "a.b.c", "a.eyJleHAiOiAieCJ9.c", "..", "a.W10.c", "a.eyJleHAiOiB0cnVlfQ.c"]
)
def test_a_token_that_cannot_be_read_is_sent(text: str, agent: DemoAgent) -> None:
    """Only a token that is known to have expired is held back."""
    assert client_of(agent, text).ask("Hello").status == "complete"
    assert agent.requests[-1].body["user_token"] == text


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("x")])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_callable_that_ends_python_ends_its_turn_only(
    error: BaseException, is_async: bool, agent: DemoAgent
) -> None:
    """The I/O thread lives on, and the next turn works."""

    def user_token() -> str:
        raise error

    async def later() -> str:
        raise error

    client = HaloClient(KEY, base_url=agent.url, user_token=later if is_async else user_token)
    with pytest.raises((errors.ConfigError, KeyboardInterrupt)):
        client.ask("Hello")
    assert HaloClient(KEY, base_url=agent.url).ask("Hello").status == "complete"
