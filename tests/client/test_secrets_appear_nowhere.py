"""Settings are checked, and no secret appears in a repr, an error or a log."""

from __future__ import annotations

import base64
import copy
import json
import logging
import pickle
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import HaloClient, errors
from halo_notebook.client.secrets import checked_key

from .clients import KEY, SECRET, answering, token

if TYPE_CHECKING:
    from halo_notebook.demo import DemoAgent


def test_settings_come_from_the_argument_then_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument goes before the environment's variable."""
    environment = {
        "API_KEY": KEY,
        "BASE_URL": "https://x.com/api/",
        "USER_ID": "u_env",
        "USER_TOKEN": "a.b.c",
    }
    for name, value in environment.items():
        monkeypatch.setenv(f"HALO_{name}", value)
    state = HaloClient().debug()
    assert (state["base_url"], state["user_id"], state["user_token"]) == ("https://x.com/api", "u_env", "set")
    assert HaloClient(base_url="http://localhost:1", user_id="u_arg").debug()["user_id"] == "u_arg"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"api_key": ""}, "no API key.*HALO_API_KEY"),
        ({"api_key": SECRET}, "identity secret"),
        ({"api_key": "ab_live_a b"}, "copy it again"),
        ({"api_key": "ab_live_\x00x"}, "copy it again"),
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
        ({"api_key": 5}, "must be a string, not int"),
        ({"api_key": "ab_live_p4ss\u00e9".encode()}, "contains a blank or another character"),
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


TOKEN = token(None)
WRAPPINGS = ["{}", '"{}"', "'{}'", "“{}”", " \"'{}'\" ", "«{}»", "\ufeff{}\u200b", '\\"{}\\"', "`{}`\n"]


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_quotes_around_a_secret_are_taken_off(
    wrapping: str, agent: DemoAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An env file keeps its quotes. An identity secret is refused, however it is wrapped."""
    monkeypatch.setenv("HALO_API_KEY", wrapping.format(KEY))
    client = HaloClient(base_url=agent.url)
    client.ask("Hello", user_token=wrapping.format(TOKEN))
    assert client.settings.api_key.reveal() == KEY
    assert agent.requests[-1].body["user_token"] == TOKEN
    monkeypatch.setenv("HALO_API_KEY", wrapping.format(SECRET))
    monkeypatch.setenv("HALO_USER_TOKEN", wrapping.format(SECRET))
    for key in (None, KEY):
        with pytest.raises(errors.ConfigError, match="identity secret"):
            HaloClient(key)


@pytest.mark.parametrize(
    "given",
    [
        f"export HALO_API_KEY={KEY}",
        f"HALO_API_KEY={KEY}",
        f"Bearer {KEY}",
        f'{{"key": "{KEY}"}}',
        f"{KEY[:9]}'{KEY[9:]}",
        f"{KEY[:9]}\u200b{KEY[9:]}",
        '""',
    ],
)
def test_what_is_no_secret_is_refused(given: str, client: HaloClient, agent: DemoAgent) -> None:
    """In one line, for a key and a user token, and nothing is sent."""
    with pytest.raises(errors.ConfigError, match=r"API key contains.*copy it again"):
        HaloClient(given)
    with pytest.raises(errors.ConfigError, match=r"user token contains.*copy it again"):
        client.ask("Hello", user_token=lambda: given)
    assert not agent.requests


@pytest.mark.parametrize(
    "given",
    [
        f"export X={SECRET}",
        f"Bearer {SECRET}",
        SECRET.upper(),
        "\u200b".join(SECRET),
        "'".join(SECRET),
        f"ab_live_{SECRET}",
        base64.b64encode(SECRET.encode()).decode(),
        f"e30.{base64.urlsafe_b64encode(SECRET.encode()).decode()}.e30",
    ],
)
def test_an_identity_secret_never_leaves(given: str, client: HaloClient, agent: DemoAgent) -> None:
    """Neither as a key nor as a user token, also from a callable."""
    with pytest.raises(errors.ConfigError, match="identity secret"):
        HaloClient(given)
    for user_token in (given, lambda: given):
        with pytest.raises(errors.ConfigError, match="identity secret"):
            client.ask("Hello", user_token=user_token)
    assert not agent.requests


def test_secrets_appear_nowhere(agent: DemoAgent, caplog: pytest.LogCaptureFixture) -> None:
    """Not in a repr, a snapshot, a dry run, a reply, an error, a header of ours or a log."""
    user_token = token(None)
    caplog.set_level(logging.DEBUG)
    client = HaloClient(KEY, base_url=agent.url, user_token=user_token, user_id="u_1")
    with client.stream("Hello") as stream:
        stream.to_end()
    assert agent.requests[-1].body["user_token"] == user_token
    values = [client, vars(client), client.settings, stream.request, vars(stream.exchange)]
    written = [client.debug(), client.dry_run(client.prepare("Hello")), stream.reply.to_dict()]
    for text in [*map(repr, values), *map(json.dumps, written), caplog.text]:
        assert KEY not in text and user_token not in text, text


LEAK = f"https://x/{KEY} is bad\x1b[31m\nreally"


@pytest.mark.parametrize(
    "answer",
    [
        {"json": {"error": LEAK}},
        {"json": {"error": "Bad", "docs_url": LEAK}},
        # Neither the limit nor a control character in it lets a part of the key through.
        {"json": {"error": "y" * (300 - len(KEY)) + KEY + "zzz"}},
        {"json": {"error": KEY[:5] + "\x07" + KEY[5:] + "zzz"}},
        {"status_code": 200, "headers": {"Content-Type": f"text/html; k={KEY}"}},
    ],
    ids=["error", "docs_url", "cut", "control character", "content type"],
)
def test_a_server_that_repeats_the_key_does_not_spread_it(answer: dict[str, Any]) -> None:
    """A server's own words are cleaned of what was sent to it."""
    with pytest.raises(errors.HaloError) as caught:
        answering(**({"status_code": 400} | answer)).ask("Hello")
    words = f"{caught.value} {vars(caught.value)}"
    assert KEY[:10] not in words and "\x1b" not in words and "\n" not in words
    assert "•••" in words


def test_a_secret_cannot_be_pickled() -> None:
    """A pickle of the client would hold the key."""
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(checked_key(KEY))
    assert copy.deepcopy(checked_key(KEY)) == checked_key(KEY)


@pytest.mark.parametrize("blank", ["", "  "])
def test_a_blank_token_is_none(blank: str, client: HaloClient, agent: DemoAgent) -> None:
    """Clearing a setting is not setting it to nothing."""
    assert HaloClient(KEY, user_token=blank).debug()["user_token"] == "unset"
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
