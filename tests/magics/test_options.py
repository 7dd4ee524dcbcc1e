"""The options of `%%halo` and the message itself: what is sent, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from halo_notebook.demo import DEMO_KEY

from ..harness.cells import evaluated, refused, sent

if TYPE_CHECKING:
    from ..harness.kernels import Kernel

pytestmark = pytest.mark.kernel


def test_options_reach_the_request(shared: Kernel) -> None:
    """Each option sends its field; variables come from the notebook."""
    shared.run(
        "import pandas as pd, numpy as np\n"
        "orders = pd.DataFrame({'n': [1, 2], 'paid': [True, None]})\n"
        "plan = {'label': 'Plan', 'type': 'status', 'value': 'pro'}\n"
        "seats = np.int64(3)\n"
        "traits = {'role': 'admin'}\n"
        "past = [{'role': 'user', 'content': 'Hi'}]\n"
        "did = 'looked at /billing'\n"
        "picture = b'\\x89PNG\\r\\n\\x1a\\n....'"
    )
    result = shared.run(
        "%%halo -s other -a agent_x -u u_1 --company c_1 -m voice -c orders -c plan --context seats "
        "-f traits --history past --behavior did -i picture -i https://example.com/a.png -o kept\nHello"
    )
    assert result.status == "ok", result.traceback
    body = sent(shared)
    assert body["agent_id"] == "agent_x"
    assert (body["user_id"], body["company_id"], body["mode"]) == ("u_1", "c_1", "voice")
    rows = [{"n": 1, "paid": True}, {"n": 2, "paid": None}]
    assert body["context"] == {
        "orders": {"label": "orders", "type": "list", "value": rows},
        "plan": {"label": "Plan", "type": "status", "value": "pro"},
        "seats": {"label": "seats", "value": 3},
    }
    assert body["custom_fields"] == {"role": "admin"}
    assert body["conversation_history"] == [{"role": "user", "content": "Hi"}]
    assert body["behavior_context"] == "looked at /billing"
    assert body["images"][0].startswith("data:image/png;base64,") and body["images"][1].startswith("https:")
    assert evaluated(shared, "kept is _halo and kept.agent_id") == "agent_x"


def test_an_image_file_is_sent(shared: Kernel, tmp_path: Path) -> None:
    """A path may hold blanks and backslashes; a file that is not an image is not sent."""
    picture = tmp_path / "a picture.png"
    picture.write_bytes(b"\x89PNG\r\n\x1a\n....")
    assert shared.run(f"%%halo -i '{picture}'\nLook").status == "ok"
    assert sent(shared)["images"][0].startswith("data:image/png;base64,")
    shared.run(f"shot = {str(picture)!r}")
    assert shared.run("%%halo -i shot\nLook").status == "ok"
    assert sent(shared)["images"][0].startswith("data:image/png;base64,")
    other = tmp_path / "key"
    other.write_text("private")
    refused(shared, f"%%halo -i {other}\nLook", "is not an image")
    refused(shared, "%%halo -i absent.png\nLook", "could not be read")


def test_a_dry_run_shows_the_exact_request_and_sends_nothing(fresh: Kernel) -> None:
    """Secrets show as 'set'."""
    fresh.run("magics.user_token = 'a.b.c'\nmagics.user_id = 'u_1'")
    result = fresh.run("%%halo --dry-run -m voice\nHello {{ 1 + 1 }}")
    assert result.status == "ok"
    request = result.displays[0]["application/json"]
    assert request["body"] == {"message": "Hello 2", "user_id": "u_1", "mode": "voice", "user_token": "set"}
    assert request["headers"]["Authorization"] == "Bearer set"
    assert request["url"].endswith("/chat/stream")
    assert evaluated(fresh, "len(magics.connection.demo.requests)") == 0
    assert "a.b.c" not in str(result.outputs) and DEMO_KEY not in str(result.outputs)


def test_expressions_in_the_cell(shared: Kernel) -> None:
    """Double braces are replaced, single ones left alone, --raw sends all as typed."""
    shared.run("plan = 'pro'")
    shared.run('%%halo\nOn {{ plan }}: {"a": {plan}} $plan')
    assert sent(shared)["message"] == 'On pro: {"a": {plan}} $plan'
    shared.run("%%halo --raw\nOn {{ plan }}")
    assert sent(shared)["message"] == "On {{ plan }}"
    shared.run("%halo ask On {{ plan }}, {plan} and $plan")
    assert sent(shared)["message"] == "On pro, {plan} and $plan"
    refused(shared, "%%halo\nOn {{ paln }}", "No variable named 'paln' for {{ paln }}")


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("%%halo --sesion x\nHello", "did you mean '--session'"),
        ("%%halo --sess x\nHello", "no option '--sess'"),
        ("%%halo -s a -s b\nHello", "given twice"),
        ("%%halo -s\nHello", "expected one argument"),
        ("%%halo extra\nHello", "no option 'extra'"),
        ("%%halo --timeout soon\nHello", "invalid float value"),
        ("%%halo --timeout 0\nHello", "above 0"),
        ("%%halo -s 'open\nHello", "No closing quotation"),
        ("%%halo -c orderz\nHello", "No variable named 'orderz'"),
        ("%%halo -m chta\nHello", "did you mean 'chat'"),
        ("%%halo -o 1x\nHello", "not a variable name"),
        ("%%halo -o class\nHello", "not a variable name"),
        ("%%halo\n \n", "message is empty"),
        ("%halo sesions", "did you mean 'sessions'"),
        ("%halo frobnicate", "the commands are ask, panel, sessions"),
        ("%halo ask", "message is empty"),
        ("%halo ask -s other Hello", "takes no options"),
        ("%halo use", "Usage: %halo use NAME"),
        ("%halo history nobody", "No session named 'nobody'"),
        ("%halo export notes.txt", "neither .md nor .json"),
        ("%halo demo", "Usage: %halo demo start|stop"),
        ("%halo new bob's", "No closing quotation"),
        ("%halo resume ''", "Usage: %halo resume ID [NAME]"),
        ("%%halo -s ''\nHello", "--session needs a name"),
        ("%halo ask --session=other Hello", "takes no options"),
        ("%halo ask -sother Hello", "takes no options"),
        ("%halo connect http://api.example.com", "Plain http"),
    ],
)
def test_what_is_not_understood_is_named(cell: str, words: str, shared: Kernel) -> None:
    """One line with what was meant, in a cell that fails; nothing is sent or changed."""
    refused(shared, cell, words)


TYPED = (
    "Is it?",
    "What's up?",
    'Say "hi"?',
    "x is y??",
    "f(x)?",
    "a = b?",
    "100% {sure} $x?",
    "ends in \\\\ no",
)


@pytest.mark.parametrize("text", TYPED)
def test_a_message_on_one_line_is_sent_as_typed(text: str, shared: Kernel) -> None:
    """Also one that ends in '?', which IPython would take for a call for help."""
    assert shared.run(f"%halo ask {text}").status == "ok"
    assert sent(shared)["message"] == text


def test_help_on_the_magic_is_still_help(shared: Kernel) -> None:
    """A '?' after the magic's name shows its documentation and sends nothing."""
    before = evaluated(shared, "len(magics.connection.demo.requests)")
    for code in ("%%halo?", "%halo?"):
        assert shared.run(code).status == "ok"
    shared.run("text = '''\n%halo ask Is this a string?\n'''")
    assert evaluated(shared, "text") == "\n%halo ask Is this a string?\n"
    assert evaluated(shared, "len(magics.connection.demo.requests)") == before
