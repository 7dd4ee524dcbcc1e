"""Labelling in a page, as a person does it: by keyboard and pointer, in any theme and width, and blind."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from halo_notebook import Action, DemoAgent, Evaluation, HaloClient, TextDelta, evaluate
from halo_notebook.demo import DEMO_KEY

from ..harness import hostile
from ..harness.explorer_page import ExplorerPage
from ..harness.host_page import HOSTS, Host
from ..harness.label_page import LabelPage
from ..harness.pages import ARTEFACTS
from .test_hostile_page import UNSAFE

if TYPE_CHECKING:
    from pathlib import Path

    from halo_notebook.demo import Step
    from halo_notebook.stream import JSON

pytestmark = pytest.mark.browser

BAD = "<img src=x onerror=\"window.__halo_pwned='label'\"><script>window.__halo_pwned='label'</script>"


def reply(request: dict[str, JSON]) -> Iterator[Step]:
    kind, _, name = str(request["message"]).partition(" ")
    if kind == "text":
        yield TextDelta(hostile.TEXTS[name])
    else:
        yield TextDelta(f"**Answer** to {request['message']}")
        yield Action({"type": "note"})


def secret_judge(reply: Any) -> bool:
    return len(reply.text) % 2 == 0


def made(cases: list[Any], path: Path) -> Evaluation:
    with (
        DemoAgent(reply=reply, first_byte_s=0, chunk_s=0) as agent,
        HaloClient(DEMO_KEY, base_url=agent.url) as client,
    ):
        return evaluate(cases, [secret_judge], configs={"hidden": client}, path=path, progress=False)


@pytest.fixture
def result(tmp_path: Path) -> Evaluation:
    cases: list[Any] = [{"message": f"Question {number}", "tags": ["billing"]} for number in range(20)]
    cases.append({"turns": ["First", "Second"], "tags": ["billing"]})
    return made(cases, tmp_path / "evaluation.jsonl")


@pytest.fixture
def page() -> Iterator[LabelPage]:
    with LabelPage() as page:
        yield page


def test_keys_label_one_reply_after_the_other(
    page: LabelPage, result: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pass, fail, unsure and a note; each is in the file when the next reply is shown. Back changes one."""
    page.start_labelling(result.label(6, by="secret_judge", author="ada"), monkeypatch)
    page.labelled(0, 6)
    text = page.root.inner_text()
    assert "Answer to" in text and "billing" in text
    # Nothing tells what the check found, or who answered.
    assert not re.search("secret_judge|hidden|passed|failed|✓|✗|demo", text)
    page.reply.focus()
    page.page.keyboard.press("p")
    page.labelled(1, 6)
    assert len(Evaluation.open(result.path).labels) == 1
    page.page.keyboard.press("n")
    page.page.keyboard.type("fails upon")  # its letters are keys outside of the note
    page.page.keyboard.press("Escape")
    page.page.keyboard.press("f")
    page.labelled(2, 6)
    expect(page.note).to_have_value("")
    page.page.keyboard.press("u")
    page.labelled(3, 6)
    page.page.keyboard.press("b")
    page.root.locator("[aria-pressed=true]", has_text="Unsure").wait_for()
    page.page.keyboard.press("b")
    page.root.locator("[aria-pressed=true]", has_text="Fail").wait_for()
    expect(page.note).to_have_value("fails upon")
    page.page.keyboard.press("p")
    page.root.locator("[aria-pressed=true]").wait_for(state="hidden")  # the next one has no label
    for done in (4, 5):
        page.page.keyboard.press("P")
        page.labelled(done, 6)
    page.button("Pass").click()
    page.root.get_by_text("All 6 replies are labelled.").wait_for()
    rows = result.label(6, by="secret_judge", author="ada").rows
    labels = Evaluation.open(result.path).labels.set_index("row").loc[rows]
    assert labels["label"].tolist() == ["pass", "pass", "unsure", "pass", "pass", "pass"]
    assert labels["note"].tolist() == ["", "fails upon", "", "", "", ""]


def test_it_continues_after_a_restart(
    page: LabelPage, result: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another kernel opens the file and shows the first reply without a label; a failure keeps the reply."""
    result.label_rows(dict.fromkeys(result.label(5).rows[:3], True))
    again = Evaluation.open(result.path)
    page.start_labelling(again.label(5), monkeypatch)
    page.labelled(3, 5)
    path = again.path
    moved = path.rename(path.with_name("elsewhere"))
    page.button("Fail").click()
    page.root.locator(".halo-notice", has_text="could not be read").wait_for()
    page.labelled(3, 5)
    moved.rename(path)
    page.button("Fail").click()
    page.labelled(4, 5)


@pytest.mark.parametrize("name", ["VS Code Dark High Contrast", "Colab light", "Colab dark", "marimo dark"])
def test_it_is_accessible_in_any_theme(
    name: str, page: LabelPage, result: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """axe-core finds nothing, and at a width of 320 px nothing stands out."""
    host: Host = HOSTS[name]
    panel = result.label(21)
    page.start_labelling(panel, monkeypatch, host)
    if not host.shadow:
        assert page.axe(".halo-labeller") == []
    page.page.set_viewport_size({"width": 320, "height": 640})
    for place in range(3):
        page.reply.focus()
        page.page.keyboard.press("u")
        page.labelled(place + 1, 21)
        page.painted()
        assert page.root.evaluate("root => root.scrollWidth <= root.clientWidth + 1")
        expect(page.button("Pass")).to_be_visible()
        expect(page.note).to_be_visible()
    ARTEFACTS.mkdir(exist_ok=True)
    page.page.screenshot(path=ARTEFACTS / f"labelling-{name.replace(' ', '-')}.png")


@pytest.mark.ci
def test_hostile_replies_notes_and_names_do_nothing(
    page: LabelPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts of the agent, tags, metadata and notes of others are text."""
    names = list(hostile.TEXTS)[::4]  # the explorer, which shows a reply in the same way, is shown all
    cases: list[Any] = [
        {"message": f"text {name}", "tags": [BAD], "metadata": {BAD: BAD}, "expect": BAD} for name in names
    ]
    result = made(cases, tmp_path / "hostile.jsonl")
    result.label_rows(dict.fromkeys(range(len(names)), False), notes={0: BAD}, author=BAD)
    page.start_labelling(result.label(len(names), author="ada"), monkeypatch)
    for done in range(len(names)):
        page.labelled(done, len(names))
        assert page.root.evaluate(UNSAFE) == []
        page.reply.focus()
        page.page.keyboard.press("f")
    page.root.get_by_text("replies are labelled").first.wait_for()
    assert page.page.evaluate("window.__halo_pwned") is None
    with ExplorerPage() as explorer:
        explorer.explore(result.explore(), monkeypatch)
        explorer.rows.first.click()
        explorer.pane.locator(".halo-verdicts", has_text=BAD).wait_for()
        assert explorer.root.evaluate(UNSAFE) == []
        assert explorer.page.evaluate("window.__halo_pwned") is None


def test_the_explorer_shows_the_queue_in_place_of_its_table(
    result: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blind: the table with the verdicts is hidden meanwhile. Keys label there, too."""
    with ExplorerPage() as page:
        page.explore(result.explore(), monkeypatch)
        page.button("Label replies").click()
        page.button("Both verdicts of secret_judge").click()
        shown = page.root.locator(".halo-labelling")
        shown.get_by_text("0 of 22 labelled").wait_for()
        expect(page.grid).to_be_hidden()
        assert "secret_judge" not in page.root.inner_text()
        assert page.axe(".halo-explorer") == []
        page.page.keyboard.press("f")  # the focus is there
        shown.get_by_text("1 of 22 labelled").wait_for()
        assert Evaluation.open(result.path).labels["label"].tolist() == ["fail"]
        page.button("All conversations").first.click()
        page.grid.wait_for()
        page.button("Label").click()
        page.root.get_by_role("checkbox", name="fail").check()
        page.found(f"1 of {len(result)} conversations")
        page.page.keyboard.press("Escape")
        page.grid.focus()
        page.page.keyboard.press("f")  # the table does not use this key
        page.button("Label replies").click()
        page.button("By chance").click()
        shown.get_by_text("1 of 22 labelled").wait_for()
        assert (page.page_errors, page.console_errors) == ([], [])
