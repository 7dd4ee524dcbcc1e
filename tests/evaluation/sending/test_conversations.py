"""Each case is a conversation of its own, with its configuration's agent and user, at one pace."""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import Action, HaloClient, TextDelta, current_client, errors
from halo_notebook.checks import contains
from halo_notebook.demo import DEMO_KEY, DemoAgent
from halo_notebook.evaluation import aevaluate, evaluate
from halo_notebook.evaluation.sending.conversations import MAX_UNJUDGED

from ..agents import messages, ok, sent, states, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from halo_notebook import Reply

    from ..conftest import Run

NOBODY = HaloClient(DEMO_KEY, base_url="http://127.0.0.1:1", connect_timeout_s=0.2)


def test_each_conversation_has_its_own_session(agent: DemoAgent, client: HaloClient, run: Run) -> None:
    """Its turns run in one session, in order; another repeat or configuration knows nothing of it."""
    case = {"id": "ada", "turns": ["My name is Ada", "What is my name?"], "expect": "Ada"}
    configs = {"a": client, "b": {"client": client, "mode": "voice"}}
    result = run([case, "What is my name?"], [contains()], configs=configs, repeats=2)
    rows = list(result.rows())
    assert len(rows) == len(agent.requests) == 2 * 2 * 3
    assert {row["status"] for row in rows} == {"complete"}
    sessions = {(row["case"], row["config"], row["repeat"], row["session_id"]) for row in rows}
    assert len(sessions) == len({row["session_id"] for row in rows}) == 8
    passed: dict[str, list[bool]] = {"ada": [True, True], "2": []}
    assert result.passed("contains") == {"a": passed, "b": passed}
    assert all("have not told me" in row["text"] for row in rows if row["case"] == "2")
    assert {request.body.get("mode") for request in agent.requests} == {None, "voice"}


@pytest.mark.parametrize(
    "settings", [{"api_key": "ab_live_other"}, {"agent_id": "agent_b"}, {"user_id": "u_2"}], ids=str
)
def test_replies_of_different_agents_and_users_are_not_mixed(
    settings: dict[str, Any], agent: DemoAgent, run: Run, kept: Path
) -> None:
    """A stored reply of one is never taken for the other's, in whatever order they are given."""

    def client(**settings: Any) -> HaloClient:
        return HaloClient(
            **{"api_key": DEMO_KEY, "agent_id": "agent_a", "user_id": "u_1", **settings}, base_url=agent.url
        )

    first = run(["one"], configs={"a": client()}, path=kept)
    configs = {"b": client(**settings), "a": client()}
    both = run(["one"], configs=configs, path=kept)
    assert len(agent.requests) == 2
    said = {row["config"]: row["session_id"] for row in both.rows()}
    assert said["a"] == next(first.rows())["session_id"] != said["b"]
    again = run(["one"], configs=dict(reversed(configs.items())), path=kept)
    assert {row["config"]: row["session_id"] for row in again.rows()} == said
    assert len(agent.requests) == 2


@pytest.mark.usefixtures("given_up_early")
def test_a_configuration_that_fails_does_not_end_the_others(client: HaloClient, run: Run) -> None:
    """Its rows say why, and its results are missing."""
    result = run(["one"], [ok], configs={"good": client, "none": NOBODY})
    assert result.passed("ok") == {"good": {"1": [True]}, "none": {"1": [None]}}
    assert "no connection" in list(result.rows())[1]["error"].lower()


def test_a_hundred_conversations_run_at_the_same_time(run: Run) -> None:
    """Each reply waits for the hundredth message."""

    def reply(request: dict[str, Any]) -> Any:
        while len(agent.requests) < 100:
            yield 0.01
        yield TextDelta("all are here")

    with DemoAgent(first_byte_s=0, reply=reply) as agent:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        result = run(messages(100), configs=configs, concurrency=100)
    assert {row["text"] for row in result.rows()} == {"all are here"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"repeats": 0}, "repeats must be"),
        ({"concurrency": 1.5}, "concurrency must be"),
        ({"rate_limit": 0}, "rate_limit must be"),
        ({"rate_limit": "60"}, "rate_limit must be a number above 0, not '60'"),
        ({"rate_limit": [60]}, "rate_limit must be a number above 0"),
        ({"resume": "all"}, "resume must be True, False or 'interrupted'"),
        ({"configs": {"x": 3}}, "Configuration 'x' is int"),
        ({"configs": {"x": {"session_id": "s"}}}, "has a session_id"),
        ({"configs": {"x": {"client": NOBODY, "modde": "chat"}}}, "Unknown field 'modde'"),
        ({"checks": {"x": 3}}, "'x' is not a function"),
        ({"checks": None}, "The checks are NoneType. Nothing was sent; give a function, or a list or dict"),
        ({"checks": 3}, "The checks are int"),
        ({"checks": "contains"}, "The checks are str"),
        ({"checks": ["contains"]}, "The check 'str' is not a function"),
        ({"checks": {"ok": ok, "text": bool}}, "A check cannot be called 'text'"),
        ({"checks": {"ok note": bool}}, "A check cannot be called 'ok note'"),
        ({"configs": [NOBODY]}, "configs is list"),
        ({"configs": {"x": {"client": "x"}}}, "has a client that is str"),
        ({"configs": {"x": {"client": NOBODY, "message": "m"}}}, "has a message"),
        ({"cases": None}, "The cases are NoneType"),
    ],
    ids=lambda each: str(each)[:30],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], words: str, run: Run) -> None:
    """Before anything is sent."""
    with pytest.raises(errors.InvalidRequest, match=words):
        run(**{"cases": ["one"], **arguments})


@pytest.mark.parametrize("call", [HaloClient, current_client, lambda: evaluate(["one"], progress=False)])
def test_without_a_kernel_a_missing_key_is_an_error(call: Callable[[], object]) -> None:
    """In a script the demo agent does not answer unasked: its figures would be taken for the agent's."""
    todo = "or, for the demo agent, run 'python -m halo_notebook.demo' in another terminal"
    with pytest.raises(errors.ConfigError, match=f"^There is no API key. .*{todo}") as caught:
        call()
    assert "\n" not in str(caught.value) and "%halo" not in str(caught.value)


IN_A_SCRIPT = """
from IPython.display import {name}
{call}
from halo_notebook import current_client, current_session, errors
try:
    current_client()
except errors.ConfigError as error:
    print(str(error)[:24], current_session() is current_session())
"""


@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("publish_display_data", "publish_display_data({'text/plain': ''})"),
        ("clear_output", "clear_output()"),
        ("display", "import IPython; IPython.core.interactiveshell.InteractiveShell.instance(); display()"),
    ],
)
def test_a_script_that_displays_something_has_no_kernel(name: str, call: str) -> None:
    """IPython makes a shell for it, in which the demo agent must not answer unasked either."""
    script = IN_A_SCRIPT.format(name=name, call=call)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "There is no API key. Not False"


def test_a_missing_package_is_named_at_once(
    agent: DemoAgent, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is sent, with the command that installs it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(errors.UsageError, match=r"needs the package aiohttp.*halo-notebook\[eval\]"):
        run(["one"])
    assert sent(agent) == []


def test_a_reply_that_holds_a_secret_is_masked(run: Run, kept: Path) -> None:
    """Key and user token are not in the file, the rows or the page, even if the agent repeats them."""

    def repeats_them(request: dict[str, Any]) -> Any:
        yield TextDelta("I know ab_live_confidential and ")
        yield TextDelta("a.b.confi")
        yield TextDelta("dential.")
        yield Action({"a.b.confidential": ["ab_live_confidential"]})

    with DemoAgent(first_byte_s=0, reply=repeats_them) as agent:
        client = HaloClient("ab_live_confidential", base_url=agent.url, user_token="a.b.confidential")
        told = run(["one"], configs={"demo": client}, path=kept)
    assert states(told) == ["complete"]
    assert "confidential" not in kept.read_text() + repr(told) + str(list(told.rows()))
    page = told.to_html(kept.with_name("page.html")).read_text()
    assert "confidential" not in page and "I know ab_live_•••" in page


# --- What judging does to sending ------------------------------------------------------


def test_slow_checks_hold_the_sending_back(agent: DemoAgent, run: Run) -> None:
    """Few replies wait for a check, however many cases there are, so memory stays flat."""
    sent_meanwhile: list[int] = []

    def slow(reply: Reply) -> bool:
        if not sent_meanwhile:
            # The first verdict takes until everything is sent that will be sent without it.
            wait_until(lambda: len(agent.requests) >= MAX_UNJUDGED)
            time.sleep(0.5)
            sent_meanwhile.append(len(agent.requests))
        return True

    result = run(messages(2 * MAX_UNJUDGED), [slow], concurrency=8)
    assert result.passed("slow")["demo"] == {f"{n + 1}": [True] for n in range(2 * MAX_UNJUDGED)}
    assert MAX_UNJUDGED <= sent_meanwhile[0] <= MAX_UNJUDGED + 8


def test_a_busy_process_gets_a_note(
    client: HaloClient, run: Run, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks that block the caller's loop make the times longer than the agent's, and the result says so."""
    monkeypatch.setattr("halo_notebook.evaluation.tables.notes.BUSY_S", 0.01)

    def busy(reply: Reply) -> bool:
        time.sleep(0.02)
        return True

    configs = {"demo": client}
    evaluated = aevaluate(messages(150), [busy], configs=configs, path=kept, progress=False)
    result = asyncio.run(evaluated)
    assert "This machine was too busy" in result.notes()[0]
    median = result.summary()["first_text_s p50"]["demo"]
    for lag_s, notes in ((0.1 * median, 0), (0.3 * median, 1)):
        with kept.open("a") as file:
            file.write(json.dumps({"kind": "lag", "p90_s": lag_s}) + "\n")
        assert len(run(messages(150), path=kept).notes()) == notes


@pytest.fixture
def unfrozen() -> Iterator[None]:
    """Without what the tests have set aside for the garbage collector."""
    gc.unfreeze()
    yield
    gc.freeze()


@pytest.mark.usefixtures("unfrozen")
def test_what_exists_before_a_run_is_not_searched_for_garbage(run: Run) -> None:
    """A long one, until its end, however it ends; what a program has set aside itself stays so."""
    frozen: list[int] = []

    def counts(reply: Reply) -> bool:
        if not frozen:  # to count takes long
            frozen.append(gc.get_freeze_count())
        return True

    def stops(reply: Reply) -> bool:
        raise KeyboardInterrupt

    run(messages(100), [counts])
    assert frozen.pop() == 0
    run(messages(101), [counts])
    assert frozen.pop() and gc.get_freeze_count() == 0
    assert run(messages(101), [stops]).interrupted and gc.get_freeze_count() == 0
    gc.freeze()
    run(messages(101), [counts])
    assert gc.get_freeze_count() > 0


@pytest.mark.usefixtures("unfrozen")
@pytest.mark.parametrize("most_new", [0, 700, 50_000], ids=["off", "the default", "more"])
def test_replies_that_wait_are_seldom_searched_for_garbage(run: Run, most_new: int) -> None:
    """In a long run. What a program has chosen is as before at its end, and stays if it is less work."""
    _, *others = before = gc.get_threshold()
    seen: list[int] = []

    def looks(reply: Reply) -> bool:
        seen.append(gc.get_threshold()[0])
        return True

    gc.set_threshold(most_new, *others)
    try:
        run(messages(100), [looks])
        run(messages(101), [looks])
        assert gc.get_threshold() == (most_new, *others)
    finally:
        gc.set_threshold(*before)
    assert set(seen[:100]) == {most_new}
    assert set(seen[100:]) == {20_000 if most_new == 700 else most_new}
