"""No frame under an error of this package shows the key or a user token among its local variables."""

from __future__ import annotations

import asyncio
import io
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import httpx
import pytest

from halo_notebook import AsyncHaloClient, HaloClient, Session, errors, evaluate
from halo_notebook.client.transports.aiohttp import AiohttpTransport
from halo_notebook.evaluation.sending.configs import read_configs

from .clients import KEY, SECRET, answering, token

if TYPE_CHECKING:
    from halo_notebook.demo import DemoAgent

TOKEN = token(None)
EXPIRED = token(1.0)
SECRETS = (KEY, TOKEN, EXPIRED, SECRET)
UNREACHABLE = "http://127.0.0.1:9/api"


def shown(error: BaseException) -> str:
    """The error as rich and pytest show it with `show_locals`."""
    from rich.console import Console
    from rich.traceback import Traceback

    plain = traceback.TracebackException.from_exception(error, capture_locals=True)
    file = io.StringIO()
    rich = Traceback.from_exception(
        type(error),
        error,
        error.__traceback__,
        show_locals=True,
        locals_max_string=10_000,
    )
    Console(file=file, width=500).print(rich)
    return "".join(plain.format()) + file.getvalue()


async def _fresh() -> str:
    return EXPIRED


async def _raises() -> str:
    raise ValueError(f"not signed: {TOKEN}")


def _evaluated(agent: DemoAgent) -> None:
    async def ask() -> None:
        transport = AiohttpTransport(UNREACHABLE)
        async with AsyncHaloClient(KEY, base_url=UNREACHABLE, transport=transport, max_retries=0) as client:
            await client.ask("Hi", user_token=TOKEN)

    asyncio.run(ask())


def _failed_with_500(agent: DemoAgent) -> None:
    agent.faults.append("500")
    HaloClient(KEY, base_url=agent.url).ask("Hi", user_token=TOKEN)


def _broken(agent: DemoAgent) -> None:
    agent.faults.append("cut in text")
    HaloClient(KEY, base_url=agent.url).ask("Hi", user_token=TOKEN)


def _not_connected(agent: DemoAgent) -> None:
    HaloClient(KEY, base_url=UNREACHABLE, max_retries=0).ask("Hi", user_token=TOKEN)


CASES: dict[str, Callable[[DemoAgent], object]] = {
    "no connection": lambda agent: HaloClient(KEY, base_url=UNREACHABLE, max_retries=0).ask(
        "Hi", user_token=TOKEN
    ),
    "no connection, aiohttp": _evaluated,
    "500": _failed_with_500,
    "broken off": _broken,
    "own transport": lambda agent: answering(500, text=f"no {KEY} {TOKEN}").chat("Hi", user_token=TOKEN),
    "a session's turn": lambda agent: Session("s").ask(
        HaloClient(KEY, base_url=UNREACHABLE, max_retries=0), "Hi", user_token=TOKEN
    ),
    "bad field": lambda agent: HaloClient(KEY).ask("Hi", user_token=TOKEN, mode="x"),
    "bad setting": lambda agent: HaloClient(KEY, user_token=TOKEN, max_retries=-1),
    "identity secret as key": lambda agent: HaloClient(f'"{SECRET}"'),
    "identity secret as token": lambda agent: HaloClient(KEY).ask("Hi", user_token=SECRET),
    "expired": lambda agent: HaloClient(KEY, base_url=agent.url, user_token=EXPIRED).ask("Hi"),
    "a field's wrong name": lambda agent: HaloClient(KEY).ask("Hi", user_tokn=TOKEN),  # type: ignore[call-arg]
    "another wrong name": lambda agent: HaloClient(KEY).stream("Hi", jwt=TOKEN),  # type: ignore[call-arg]
    "a key as a field": lambda agent: HaloClient(KEY).ask("Hi", api_key=KEY),  # type: ignore[call-arg]
    "bytes": lambda agent: cast("Any", HaloClient)(KEY.encode()).ask("Hi", user_token=f"{TOKEN} x".encode()),
    "a configuration": lambda agent: evaluate(
        ["Hi"], configs={"a": {"user_token": TOKEN, "user_id": 3}}, progress=False
    ),
    "configurations of an arena": lambda agent: read_configs({"a": {"user_token": TOKEN, "mode": "x"}}),
    "a callable that raises": lambda agent: HaloClient(KEY, base_url=agent.url, user_token=_raises).ask("Hi"),
    "callable": lambda agent: HaloClient(KEY, base_url=agent.url, user_token=_fresh).ask("Hi"),
}


@pytest.mark.parametrize("fail", CASES.values(), ids=CASES)
def test_no_frame_shows_a_secret(fail: Callable[[DemoAgent], Any], agent: DemoAgent) -> None:
    """With the local variables of each frame, and those of the error's causes."""
    with pytest.raises(errors.HaloError) as caught:
        fail(agent)
    text = shown(caught.value)
    assert type(caught.value).__name__ in text
    for secret in SECRETS:
        assert secret not in text, text[max(text.find(secret) - 300, 0) :][:400]


def test_the_environment_is_not_shown_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in HALO_API_KEY that is refused."""
    monkeypatch.setenv("HALO_API_KEY", f"export X={KEY}")
    with pytest.raises(errors.ConfigError, match="copy it again") as caught:
        HaloClient()
    assert KEY not in shown(caught.value)


def test_an_httpx_error_keeps_its_lines() -> None:
    """The causes are still there, with the places that raised them."""
    with pytest.raises(errors.ConnectionFailed) as caught:
        HaloClient(KEY, base_url=UNREACHABLE, max_retries=0).ask("Hi")
    cause = caught.value.__cause__
    assert cause is not None and isinstance(cause.__cause__, httpx.ConnectError)
    assert traceback.extract_tb(cause.__cause__.__traceback__)
