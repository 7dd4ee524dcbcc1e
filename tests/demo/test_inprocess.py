"""The demo agent in the same process answers as its server does."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

import pytest

from halo_notebook import HaloClient, Reply
from halo_notebook.demo import DEMO_KEY, DemoAgent
from halo_notebook.demo.faults import FAULTS
from halo_notebook.demo.inprocess import DemoTransport
from halo_notebook.errors import HaloError

if TYPE_CHECKING:
    from halo_notebook.demo import Step
    from halo_notebook.stream import JSON

MESSAGES = ["Show me Markdown", "Open a ticket", "How do I set up event tracking?"]


def outcome(client: HaloClient, message: str) -> tuple[Reply, str, str]:
    """The reply, and the name and text of the error."""
    try:
        return client.ask(message), "", ""
    except HaloError as error:
        return cast("Reply", error.reply), type(error).__name__, str(error)


@pytest.mark.parametrize("message", [*MESSAGES, *(f"/fault {name}" for name in FAULTS)])
def test_answers_are_those_of_the_server(agent: DemoAgent, message: str) -> None:
    """Text, actions, status, headers and error are those that come over a connection."""
    # Only these two are silent; any other may take long on a busy machine.
    silence_s = 0.2 if message.startswith("/fault stall") else 20
    settings: dict[str, Any] = {"silence_timeout_s": silence_s, "max_retries": 0}
    here_agent = DemoAgent(first_byte_s=0, chunk_s=0)
    here = DemoTransport(here_agent)
    with (
        HaloClient(DEMO_KEY, base_url=agent.url, **settings) as over_http,
        HaloClient(DEMO_KEY, base_url=here.url, transport=here, **settings) as in_process,
    ):
        reply, *error = outcome(in_process, message)
        expected, *expected_error = outcome(over_http, message)
    assert error == expected_error
    text, expected_text = (re.sub(r"sess_\w+", "ID", each.text) for each in (reply, expected))
    assert (text, reply.actions, reply.status) == (expected_text, expected.actions, expected.status)
    assert (reply.agent_id, bool(reply.session_id)) == (expected.agent_id, bool(expected.session_id))
    recorded, expected_recorded = (list(each.requests)[-1] for each in (here_agent, agent))
    assert (recorded.path, recorded.body) == (expected_recorded.path, expected_recorded.body)
    assert recorded.headers["authorization"] == "set"


def test_custom_reply_is_passed_on_step_by_step() -> None:
    """A caller's reply arrives in steps, and ends when the client stops reading."""

    def reply(request: dict[str, JSON]) -> list[Step]:
        return [b"one", 60, b"two"]

    transport = DemoTransport(DemoAgent(first_byte_s=0, reply=reply))
    with (
        HaloClient(DEMO_KEY, base_url=transport.url, transport=transport) as client,
        client.stream("hi") as events,
    ):
        for _ in events:
            break
    assert (events.reply.status, events.reply.text) == ("stopped", "one")
