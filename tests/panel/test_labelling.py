"""Labelling without a page: what the panel answers, and what it says where there are no widgets."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from anywidget import AnyWidget

from halo_notebook import Action, DemoAgent, Evaluation, HaloClient, TextDelta, evaluate
from halo_notebook.concurrency.loop import spawn
from halo_notebook.demo import DEMO_KEY
from halo_notebook.panel import conversation_views

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from halo_notebook.demo import Step
    from halo_notebook.panel.label_panel import LabelPanel
    from halo_notebook.stream import JSON

Ask = Callable[..., dict[str, Any]]


def reply(request: dict[str, JSON]) -> Iterator[Step]:
    yield TextDelta(f"Answer to {request['message']}")
    yield Action({"type": "note"})


def polite(conversation: Any) -> bool:
    return len(conversation) == 1


def made(path: Path | None, checks: Any = ()) -> Evaluation:
    cases: list[Any] = [["First", "Second", "Third"], {"message": "One", "topic": "<b>", "expect": "Answer"}]
    with (
        DemoAgent(reply=reply, first_byte_s=0, chunk_s=0) as agent,
        HaloClient(DEMO_KEY, base_url=agent.url) as client,
    ):
        return evaluate(cases, checks, configs={"hidden": client}, path=path, progress=False)


@pytest.fixture
def result(tmp_path: Path) -> Evaluation:
    return made(tmp_path / "evaluation.jsonl", [polite])


@pytest.fixture
def panel(result: Evaluation) -> LabelPanel:
    return result.label(10, author="ada")


@pytest.fixture
def ask(panel: LabelPanel, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Put a request as the page does; returns the answer."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(AnyWidget, "send", lambda widget, content, buffers=None: told.append(content))

    def ask(kind: Any, **content: Any) -> dict[str, Any]:
        spawn(panel._handle({"kind": kind, "cid": "c1", **content})).result(10)
        [answer] = told
        told.clear()
        assert (answer.pop("kind"), answer.pop("cid")) == ("answer", "c1")
        return answer

    return ask


def test_a_reply_comes_with_the_conversation_before_it(ask: Ask, panel: LabelPanel) -> None:
    """Without the turns after it, and without what tells who answered, how fast and how well."""
    place = panel.rows.index(1)
    view = ask("item", at=place)
    assert [turn["message"] for turn in view["turns"]] == ["First", "Second"]
    assert (view["at"], view["total"], view["done"], view["label"], view["note"]) == (place, 4, 0, "", "")
    assert (view["about"], view["is_kept"]) == ("reply", True)
    assert not {"case", "config", "repeat", "status", "end", "verdicts", "total_s"} & view.keys()
    for turn in view["turns"]:
        assert turn["verdicts"] == [] and turn["view"]["agent"] is None
        assert [turn["view"][name] for name in ("started_at", "first_text_s", "elapsed_s")] == [
            "",
            None,
            None,
        ]
        assert turn["view"]["items"][-1]["action"]["at_s"] is None
    assert "hidden" not in str(view)
    view = ask("item", at=panel.rows.index(3))
    assert view["metadata"] == [["topic", "<b>"]] and view["turns"][0]["expect"] == "Answer"


def test_a_label_answers_with_the_next_reply(ask: Ask, result: Evaluation) -> None:
    """Until all are labelled; a reply that has a label comes with it."""
    assert ask("item", at=None)["at"] == 0
    for place, label in enumerate(["pass", "fail", "unsure", "pass"]):
        answer = ask("label", at=place, label=label, note=f"note {place}")
        assert (answer["at"], answer["done"]) == (place + 1 if place < 3 else None, place + 1)
        assert len(Evaluation.open(result.path).labels) == place + 1
    view = ask("item", at=1)
    assert (view["label"], view["note"], view["done"]) == ("fail", "note 1", 4)
    assert ask("label", at=1, label="pass", note="")["at"] is None


def test_a_long_conversation_comes_in_parts(
    ask: Ask, panel: LabelPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page asks for the other turns before the reply can be labelled."""
    monkeypatch.setattr(conversation_views, "MAX_BYTES", 10)
    place = panel.rows.index(2)
    numbers = [ask("item", at=place, **{"from": first})["next"] for first in range(3)]
    assert numbers == [1, 2, None]


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("label", {"at": 4, "label": "pass", "note": ""}),
        ("label", {"at": -1, "label": "pass", "note": ""}),
        ("label", {"at": True, "label": "pass", "note": ""}),
        ("label", {"at": 0, "label": "good", "note": ""}),
        ("label", {"at": 0, "label": ["pass"], "note": ""}),
        ("label", {"at": 0, "label": "pass", "note": None}),
        ("label", {"at": 0, "label": "pass", "note": "x" * 10_001}),
        ("label", {}),
        ("item", {"at": "0"}),
        ("item", {"at": 0, "from": -1}),
        ("item", {"at": 0, "from": "x"}),
        ("nothing", {}),
        (["label"], {"at": 0}),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_one_line(
    kind: Any, content: dict[str, Any], ask: Ask, result: Evaluation
) -> None:
    """The page gets an error, and nothing is labelled."""
    error = ask(kind, **content)["error"]
    assert error and "\n" not in error
    assert Evaluation.open(result.path).labels.empty
    assert ask("item", at=None)["at"] == 0


def test_a_check_of_conversations_asks_about_conversations(result: Evaluation) -> None:
    """The rows are the last turns."""
    panel = result.label(by="polite")
    assert sorted(panel.rows) == [2, 3]
    assert panel._requests.item({"at": 0})["about"] == "conversation"


def test_labels_of_a_temporary_file_are_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are deleted with the result."""
    assert made(None).label()._requests.item({"at": None})["is_kept"] is False


def test_without_widgets_one_line_names_the_way_from_code(
    result: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a terminal as text, and in a page as HTML; the rows are named."""
    shown: list[dict[str, Any]] = []

    def publish(data: dict[str, Any]) -> None:
        shown.append(data)

    monkeypatch.setattr("halo_notebook.panel.result_widget.publish_display_data", publish)
    panel = result.label(3, author="<b>")
    panel._ipython_display_()
    text = shown[-1]["text/plain"]
    rows = ", ".join(map(str, panel.rows))
    assert text.endswith(f"result.label_rows({{row: True, …}}) labels these rows: {rows}.")
    assert "needs a notebook that shows widgets" in shown[-1]["text/html"] and "\n" not in text
    assert repr(panel) == "LabelPanel(0 of 3 labels by '<b>')"
