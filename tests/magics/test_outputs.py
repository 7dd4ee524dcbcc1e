"""A reply becomes outputs that only grow: each final but the last, few bytes, and never too many."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from halo_notebook.display.pacer import Pacer
from halo_notebook.display.timeline import Timeline
from halo_notebook.magics.screens.notebook import MAX_OUTPUTS, OUTPUT_BYTES, NotebookScreen
from halo_notebook.panel.follower import MAX_BYTES_PER_S, MIN_INTERVAL_S
from halo_notebook.panel.views import Frames, turn_view
from halo_notebook.reply import Reply
from halo_notebook.session import Turn
from halo_notebook.stream import Action, ActionSummary, Event, TextDelta


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Cell:
    """A cell's outputs as a front end keeps them; only the last one with a given id may change."""

    def __init__(self) -> None:
        self.outputs: list[dict[str, Any]] = []
        self.ids: list[str | None] = []
        self.updated: list[int] = []
        self.bytes = 0

    def publish(self, *, data: Any, metadata: Any, transient: Any = None, update: bool = False) -> None:
        display_id = (transient or {}).get("display_id")
        self.bytes += len(json.dumps([data, metadata, transient], ensure_ascii=False).encode())
        output = {"data": data, "metadata": metadata}
        if update:
            at = self.ids.index(display_id)
            self.updated.append(at)
            self.outputs[at] = output
        else:
            assert display_id is None or display_id not in self.ids
            self.outputs.append(output)
            self.ids.append(display_id)

    def labels(self) -> list[str]:
        """The words of each output, of an action only its label."""
        htmls = [output["data"]["text/html"] for output in self.outputs]
        return [" ".join(re.sub("<[^>]+>", " ", html).split()).split(" : ")[0] for html in htmls]


@pytest.fixture
def cell(monkeypatch: pytest.MonkeyPatch) -> Cell:
    cell = Cell()
    monkeypatch.setattr("halo_notebook.magics.screens.notebook.publish_display_data", cell.publish)
    return cell


def receive(
    reply: Reply, events: list[Event], pause_s: float, pacer: Pacer, paint: Callable[[], None]
) -> None:
    """Add an event to a reply every `pause_s`, painting when the pacer says."""
    clock = pacer.clock
    assert isinstance(clock, Clock)
    for event in events:
        clock.now += pause_s
        reply.add(event, clock.now - 100)
        if pacer.wait_s() == 0:
            paint()
    reply.elapsed_s, reply.status = clock.now - 100, "complete"


def in_a_cell(events: list[Event], pause_s: float = 1.0) -> None:
    """Show a reply in the cell that the fixture watches."""
    reply, pacer = Reply(), Pacer(Clock())
    screen = NotebookScreen(reply, pacer, lambda: {"session": "default"})
    screen.begin("connecting")
    receive(reply, events, pause_s, pacer, lambda: screen.paint("streaming"))
    screen.finish(["1.00 s"])


def words(text: str) -> list[Event]:
    return [TextDelta(word) for word in re.findall(r"\S+\s*|\s+", text)]


def go(number: int) -> Action:
    return Action({"type": "go", "number": number})


def test_an_action_stands_where_it_arrived(cell: Cell) -> None:
    """A text output, the action's output, the next text output, below a space; the status line last."""
    in_a_cell([*words("One.\n\n"), go(1), *words("Two, "), go(2), *words("three.\n\nFour.")])
    assert cell.labels() == ["One.", "action 1: go", "Two, three.", "action 2: go", "Four.", "1.00 s"]
    texts = [output["data"]["text/plain"] for output in cell.outputs[::2]]
    assert texts == ["One.\n\n", "Two, three.\n\n", "Four."]
    htmls = [output["data"]["text/html"] for output in cell.outputs]
    assert [';margin-top:8px"' in html for html in htmls] == [False, False, True, False, True, False]
    assert cell.outputs[1]["metadata"] == {"application/json": {"root": "action 1: go"}}
    abouts = [output["metadata"].get("halo") for output in cell.outputs]
    assert abouts == [None] * 5 + [{"session": "default"}]


def test_only_the_last_output_is_updated_while_text_arrives(cell: Cell) -> None:
    """So what is selected in a finished one stays selected, and nobody sees a text twice."""
    paragraph = "Some *words* of a paragraph, of which there are many.\n\n"
    in_a_cell([*words(paragraph * 100), go(1), *words(paragraph * 100)], pause_s=0.1)
    assert cell.updated == sorted(cell.updated), "never one above the last that was updated"
    texts = [output["data"] for output in cell.outputs if "application/json" not in output["data"]][:-1]
    assert len(texts) >= 4
    assert all(OUTPUT_BYTES <= len(text["text/html"]) < 2 * OUTPUT_BYTES for text in texts[:2])
    assert "".join(text["text/plain"] for text in texts) == paragraph * 200
    assert " ".join(cell.labels()).count("Some words of a paragraph") == 200


SUMMARY = ActionSummary([{"type": "go", "number": 0}, {"type": "late"}])
AT_ONCE = [*(go(number) for number in range(5)), TextDelta("Text\n\n"), SUMMARY]


@pytest.mark.parametrize(
    ("events", "pause_s", "shown"),
    [
        ([go(1), *words("Text")], 1, ["action 1: go", "Text"]),
        ([], 1, ["no text"]),
        (AT_ONCE, 0, ["actions 1–5", "Text", "action 6: late"]),
    ],
)
def test_there_are_as_few_outputs_as_can_be(
    cell: Cell, events: list[Event], pause_s: float, shown: list[str]
) -> None:
    """What comes first takes the place of the state; a burst of actions is one tree; none is shown twice."""
    in_a_cell(events, pause_s)
    assert cell.labels() == [*shown, "1.00 s"]


def test_a_link_that_is_defined_late_updates_its_output_once(cell: Cell) -> None:
    """At the end, and no other output."""
    link = words("[1]: https://a.example\n")
    in_a_cell([*words("See [it][1].\n\n"), go(1), *words("More.\n\n"), go(2), *link])
    assert 'href="https://a.example"' in cell.outputs[0]["data"]["text/html"]
    assert cell.outputs[0]["data"]["text/plain"] == "See [it][1].\n\n"
    assert cell.updated[-1] == 0
    assert Counter(cell.updated)[2] <= 2


@pytest.mark.parametrize("pause_s", [0, 1])
def test_a_cell_has_few_outputs(cell: Cell, pause_s: float) -> None:
    """JupyterLab hides those after the fiftieth: the rest of the text and of the actions are in two."""
    events: list[Event] = []
    for number in range(100):
        events += [TextDelta(f"Paragraph {number}.\n\n"), go(number)]
    in_a_cell(events, pause_s)
    assert len(cell.outputs) <= MAX_OUTPUTS + 3
    assert cell.labels()[-1] == "1.00 s"
    texts = " ".join(cell.labels())
    assert [int(number) for number in re.findall(r"Paragraph (\d+)\.", texts)] == list(range(100))
    trees = [tree for output in cell.outputs if (tree := output["data"].get("application/json"))]
    payloads = [payload for tree in trees for payload in (tree if isinstance(tree, list) else [tree])]
    assert [payload["number"] for payload in payloads] == list(range(100))


def test_a_huge_reply_has_few_outputs(cell: Cell) -> None:
    """Outputs get larger as there are more of them, and of too much text a part is left out, with a note."""
    in_a_cell([TextDelta("A paragraph of many words. " * 20 + "\n\n") for _ in range(600)], pause_s=0.5)
    assert 15 < len(cell.outputs) <= MAX_OUTPUTS
    assert "characters are not shown here; reply.text has the full text" in cell.labels()[-2]
    assert len(json.dumps(cell.outputs)) < 3_000_000


PROSE = """## Part

The *first* point is `made` here, **and** backed by [a source](https://docs.example.com).

- one item
- another, the longer one

"""


@pytest.mark.parametrize("part", [PROSE, "one paragraph of many words that never ends, "], ids=len)
def test_a_long_reply_costs_few_bytes(cell: Cell, part: str, record_property: Any) -> None:
    """20,000 characters in 2,000 chunks over 10 s: at most 0.4 MB in a cell and 0.17 MB in a panel."""
    text = (part * 500)[:20_000]
    events: list[Event] = [TextDelta(text[at : at + 10]) for at in range(0, len(text), 10)]
    in_a_cell(events, 10 / len(events))
    record_property("cell_bytes", cell.bytes)
    assert 50_000 < cell.bytes <= 400_000
    assert len(cell.updated) > 50, "it is seen to grow"

    reply, pacer = Reply(), Pacer(Clock(), interval_s=MIN_INTERVAL_S, bytes_per_s=MAX_BYTES_PER_S)
    frames = Frames(Timeline(reply))
    sent: list[str] = []

    def paint() -> None:
        about = {"kind": "frame", "epoch": "e" * 12, "seq": len(sent), "key": "t1", "state": "streaming"}
        sent.append(json.dumps({**about, **frames.frame()}, ensure_ascii=False))
        pacer.spent(since=pacer.clock(), size=len(sent[-1]))

    receive(reply, events, 10 / len(events), pacer, paint)
    turn = Turn({"message": "Hello"}, reply)
    sent.append(json.dumps(turn_view(turn, 1, frames), ensure_ascii=False))
    panel_bytes = len("".join(sent).encode())
    record_property("panel_bytes", panel_bytes)
    assert panel_bytes <= 150_000
    assert len(sent) > 100
