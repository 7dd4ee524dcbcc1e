"""Text, actions and status lines as outputs: safe, labelled, and small enough to be shown."""

from __future__ import annotations

import json
import re

from halo_notebook.display.bundles import json_bundle, reply_bundle, status_bundle, turn_bundle
from halo_notebook.stream import Action

from ..harness.hostile import PAYLOADS
from ..harness.replies import reply_of


def test_a_payload_is_bundled_for_every_front_end() -> None:
    """JupyterLab's tree, HTML and plain text say the same."""
    bundle = json_bundle({"x": "<b>"}, "action 1")
    assert bundle["application/json"] == {"x": "<b>"}
    assert "&lt;b&gt;" in bundle["text/html"]
    assert bundle["text/plain"] == '[action 1]\n{\n  "x": "<b>"\n}'


def test_a_reply_is_bundled_with_its_actions_and_status() -> None:
    """One output holds the text, each action where it arrived under its label, and the status line."""
    reply = reply_of("*Hi*\n\n", Action({"type": "<b>"}), "Bye", Action({"n": 2}))
    bundle = reply_bundle(reply, ["failed", "<i>\n1 s"])
    order = "<em>Hi</em>.*action 1: &lt;b&gt;.*>Bye</p>.*action 2.*>failed</span> · <span.*&lt;i&gt; 1 s<"
    assert re.search(order, bundle["text/html"], re.DOTALL)
    text = '*Hi*\n\n[action 1: <b>]\n{\n  "type": "<b>"\n}\n\nBye\n\n[action 2]'
    assert bundle["text/plain"].startswith(text)
    assert bundle["text/plain"].endswith("[failed · <i> 1 s]")
    assert reply_bundle(reply_of(), ["no text"]) == status_bundle(["no text"])
    # What the user wrote is text, not Markdown.
    turn = turn_bundle("<b> *x*\n$y$", reply_bundle(reply_of("Hi"), []))
    assert "&lt;b&gt; *x*\n$y$</div>" in turn["text/html"]
    assert turn["text/plain"].startswith("> <b> *x*\n$y$\n\nHi")


def test_what_must_not_be_missed_is_framed() -> None:
    """'demo agent', 'stopped' and 'failed' stand out; the rest is quiet."""
    html = status_bundle(["demo agent", "agent agent_1", "failed"])["text/html"]
    assert html.count("border:") == 2
    assert "border" in html.split("demo agent")[0]
    assert "border" not in html.split("agent agent_1")[0].rpartition("<span")[2]


def test_all_of_one_output_fits_a_message() -> None:
    """The largest reply with the largest actions stays below what the Jupyter server drops."""
    large = PAYLOADS["long-quotes"]
    many = reply_bundle(reply_of(*[Action({"rows": ["x" * 400] * 400})] * 20), [])
    assert len(json.dumps(many, ensure_ascii=False).encode()) < 3_000_000
    for count in (20, 60):  # as many trees, or one of all
        bundle = reply_bundle(reply_of('"a"\n\n' * 100_000, *[Action(large)] * count), ["x" * 1_000] * 5)
        assert len(json.dumps(bundle, ensure_ascii=False).encode()) < 3_000_000
    assert "more actions are in the reply's .actions" in many["text/plain"]
    assert len(json.dumps(json_bundle(large, "root"), ensure_ascii=False).encode()) < 2_000_000
