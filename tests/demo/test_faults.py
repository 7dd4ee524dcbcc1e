"""Each fault of the demo agent comes once from the queue, or when a message asks for it.

The client's tests show what a reply with a fault contains and how it ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from halo_notebook.demo.faults import FAULTS

from .over_http import ask, error_of

if TYPE_CHECKING:
    import httpx

    from halo_notebook.demo import DemoAgent

STATUSES = [name for name in FAULTS if name[:3].isdigit()]


@pytest.mark.parametrize("name", [*STATUSES, "429 retry-after 3"])
def test_status(agent: DemoAgent, http: httpx.Client, name: str) -> None:
    """A fault that is a status comes once from the queue, and each time that a message asks for it."""
    agent.faults.append(name)
    for message in ("hi", f"/fault {name}", f" /ERROR  {name.upper()}\n"):
        response = ask(http, message)
        assert response.status_code == int(name[:3])
        is_page = response.headers["content-type"] == "text/html"
        assert is_page == (name == "502")
        assert name in (response.text if is_page else error_of(response))
        wanted = {"429 retry-after 3": "3", "429 retry-after": "1", "503 retry-after": "1"}.get(name)
        assert response.headers.get("retry-after") == wanted
    assert ask(http, "hi").status_code == 200


@pytest.mark.parametrize("name", ["", "nothing", "418", "500 retry-after", "429 retry-after soon"])
def test_unknown_fault_is_refused(agent: DemoAgent, http: httpx.Client, name: str) -> None:
    """The answer is a 400 that lists the faults."""
    agent.faults.append(f"{name} ")
    for response in (ask(http, "hi"), ask(http, f"/fault {name}")):
        assert response.status_code == 400
        assert ", ".join(FAULTS) in error_of(response)


def test_each_chat_request_takes_one_fault(agent: DemoAgent, http: httpx.Client) -> None:
    """In order; other requests take none. The reply has the ids of its request."""
    agent.faults.extend(["500", "404", "empty"])
    http.post("/nowhere")
    replies = [ask(http, "hi", session_id="s1", agent_id="a1") for _ in range(4)]
    assert [reply.status_code for reply in replies] == [500, 404, 200, 200]
    assert (replies[2].headers["x-session-id"], replies[2].headers["x-agent-id"]) == ("s1", "a1")
    agent.faults.extend(["429", "empty"])
    assert http.post("/chat", json={"message": "hi"}).status_code == 429
    assert ask(http, "").headers["x-session-id"].startswith("sess_")
