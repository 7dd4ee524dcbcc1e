"""`show` shows the conversations of rows or of a case: below a heading, and several in columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from halo_notebook import HaloClient, TextDelta, errors
from halo_notebook.demo import DEMO_KEY, DemoAgent
from halo_notebook.evaluation import Evaluation, evaluate
from halo_notebook.evaluation.report import conversations

from ...harness.looks import FORBIDDEN

if TYPE_CHECKING:
    from halo_notebook.demo import Step
    from halo_notebook.stream import JSON

BAD = "<img src=x onerror=alert(1)>"


def reply(request: dict[str, JSON]) -> Iterator[Step]:
    yield TextDelta(f"{request.get('mode', 'chat')} **reply** to {request['message']}")


def long(reply: Any) -> bool:
    return len(reply.text) > 30


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    """Rows 0 and 1 are `one` as chat and voice, rows 2 to 5 the two turns of `BAD`."""
    with (
        DemoAgent(reply=reply, first_byte_s=0, chunk_s=0) as agent,
        HaloClient(DEMO_KEY, base_url=agent.url) as client,
    ):
        return evaluate(
            [{"id": "one", "message": "Hello"}, {"id": BAD, "turns": ["First", "A longer second one"]}],
            [long],
            configs={"chat": client, "voice": {"client": client, "mode": "voice"}},
            path=tmp_path_factory.mktemp("show") / "result.jsonl",
            progress=False,
        )


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The outputs."""
    outputs: list[dict[str, str]] = []

    def publish(data: dict[str, str]) -> None:
        outputs.append(data)

    monkeypatch.setattr("IPython.display.publish_display_data", publish)
    return outputs


def test_a_conversation_has_a_heading_and_its_turns(result: Evaluation, shown: list[dict[str, str]]) -> None:
    """The heading says case, configuration, repeat and verdicts; each turn has its verdicts and notes."""
    result.show(4)
    heading, first, second = shown
    assert heading["text/plain"] == f"{BAD}\nvoice · repeat 1 · complete · ✗ long"
    assert "First" in first["text/plain"] and first["text/plain"].endswith("✗ long")
    assert "<strong>reply</strong>" in second["text/html"] and second["text/plain"].endswith("✓ long")
    assert not any(FORBIDDEN.search(output["text/html"]) for output in shown)
    assert "&lt;img src=x" in heading["text/html"]


@pytest.mark.parametrize(
    ("chosen", "configs"),
    [
        ((0, 1), ["chat", "voice"]),
        (([1, 0],), ["voice", "chat"]),
        (("one",), ["chat", "voice"]),
        ((np.array([0, 1]),), ["chat", "voice"]),
        ((range(2),), ["chat", "voice"]),
        ((1, "one"), ["voice", "chat"]),
        (([np.int64(0)], 1), ["chat", "voice"]),
    ],
)
def test_several_are_shown_in_columns(
    result: Evaluation, shown: list[dict[str, str]], chosen: tuple[Any, ...], configs: list[str]
) -> None:
    """Rows in any collection, or the id of a case; each conversation once, in the order given."""
    result.show(*chosen)
    [output] = shown
    lines = output["text/plain"].split("\n")
    assert [line.split(" · ")[0] for line in lines if "repeat 1" in line] == configs
    assert [line.split(" ")[0] for line in lines if "reply" in line] == configs
    assert output["text/html"].count("<h4") == 2 and "flex-wrap:wrap" in output["text/html"]


def test_an_index_of_df_is_a_collection_of_rows(result: Evaluation, shown: list[dict[str, str]]) -> None:
    """`show(df[…].index)` shows what was found there."""
    df = result.df
    result.show(df[df["long"]].index)
    assert len(shown) == 1 and shown[0]["text/html"].count("<h4") == 2


@pytest.mark.parametrize(
    ("chosen", "error"),
    [
        ((6,), "Row 6 does not exist. The result has 6 rows, numbered from 0."),
        ((-1,), "Row -1 does not exist"),
        ((True,), "Row True does not exist"),
        ((1.5,), "Row 1.5 does not exist"),
        ((None,), "Row None does not exist"),
        ((b"one",), "Row b'one' does not exist"),
        (({"row": 1},), "Row {'row': 1} does not exist"),
        (([0, "x"],), "No case has the id 'x'. Give an id, or rows of df by number."),
        (("onne",), "No case has the id 'onne'; did you mean 'one'?"),
        (("",), "No case has the id ''"),
        ((), "Give rows of df by number, such as show(0, 2), or the id of a case."),
        (([],), "Give rows of df by number"),
    ],
)
def test_what_is_not_there_is_one_line(
    result: Evaluation, shown: list[dict[str, str]], chosen: tuple[Any, ...], error: str
) -> None:
    """An error names what is allowed, and nothing is shown."""
    with pytest.raises(errors.InvalidRequest) as raised:
        result.show(*chosen)
    assert error in str(raised.value) and "\n" not in str(raised.value) and shown == []


def test_what_does_not_fit_beside_each_other_is_shown_below(
    result: Evaluation, shown: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An output stays small enough for a message; of many conversations the first are shown, and a count."""
    monkeypatch.setattr(conversations, "MAX_OUTPUT_CHARS", 100)
    result.show("one")
    assert len(shown) == 4 and "flex" not in shown[0]["text/html"]
    shown.clear()
    monkeypatch.setattr(conversations, "MAX_COLUMNS", 1)
    result.show("one")
    assert len(shown) == 3 and shown[-1]["text/plain"] == "1 more conversation not shown."
