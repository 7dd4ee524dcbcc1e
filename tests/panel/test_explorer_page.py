"""The explorer in a page, used as a person uses it: by pointer, by keyboard, in any theme and width."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from halo_notebook import Action, DemoAgent, HaloClient, TextDelta
from halo_notebook.demo import DEMO_KEY
from halo_notebook.evaluation import Evaluation, evaluate

from ..harness import hostile
from ..harness.contrast import CONTRASTS
from ..harness.explorer_page import ExplorerPage
from ..harness.host_page import HOSTS
from .test_hostile_page import UNSAFE

if TYPE_CHECKING:
    from pathlib import Path

    from halo_notebook.demo import Step
    from halo_notebook.stream import JSON

pytestmark = pytest.mark.browser

SAMPLE = "<img src=x onerror=\"window.__halo_pwned='{}'\"><script>window.__halo_pwned='{}'</script>\u202e$x$"
# What stands out of the explorer, but for what scrolls in itself.
TOO_WIDE = """
root => [...root.querySelectorAll('*')]
  .filter(one => !one.closest('pre, .halo-wide, .halo-tree, svg, .halo-grid, .halo-unseen')
    && one.getBoundingClientRect().right > root.getBoundingClientRect().right + 1)
  .map(one => one.outerHTML.slice(0, 100))
"""


def bad(name: str) -> str:
    return SAMPLE.format(name, name)


def reply(config: str, request: dict[str, JSON]) -> Iterator[Step]:
    message = str(request["message"])
    kind, _, name = message.partition(" ")
    if kind == "text":
        yield TextDelta(hostile.TEXTS[name])
    elif kind == "payload":
        yield Action(hostile.PAYLOADS[name])
    else:
        yield TextDelta(f"**{config}** says: {message} is fine.\n\n```\ncode\n```\n")
        yield Action({"type": "note", "from": config})


CHECKS = {"short": lambda reply: len(reply.text) < 45, "fine": lambda reply: "fine" in reply.text}


def made(cases: list[object], checks: Any, path: Path, configs: tuple[str, ...]) -> Evaluation:
    with ExitStack() as stack:
        clients = {}
        for config in configs:
            agent = DemoAgent(reply=partial(reply, config), first_byte_s=0, chunk_s=0)
            url = stack.enter_context(agent).url
            clients[config] = stack.enter_context(HaloClient(DEMO_KEY, base_url=url))
        return evaluate(cases, checks, configs=clients, path=path, progress=False, concurrency=40)


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


class TestExplorer:
    """One page with 400 conversations."""

    @pytest.fixture(scope="class")
    @classmethod
    def result(cls, tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
        cases: list[object] = [
            {
                "id": f"case {n}",
                "message": f"Question {n}",
                "tags": ["even"] if n % 2 == 0 else ["odd"],
                "level": n % 3,
            }
            for n in range(199)
        ]
        cases.append({"id": "long", "turns": ["First", "Second"], "tags": ["odd"], "expect": "fine"})
        return made(cases, CHECKS, tmp_path_factory.mktemp("explorer") / "result.jsonl", ("old", "new"))

    @pytest.fixture(scope="class")
    @classmethod
    def page(cls, result: Evaluation, patch: pytest.MonkeyPatch) -> Iterator[ExplorerPage]:
        with ExplorerPage(size=(1280, 900)) as page:
            page.explore(result.explore(), patch)
            yield page
            assert (page.page_errors, page.browser_dialogs) == ([], [])

    @pytest.fixture(autouse=True)
    def all_shown(self, page: ExplorerPage) -> Iterator[None]:
        """Each test starts with all conversations, none selected and none open."""
        yield
        page.painted()
        if page.pane.is_visible():
            page.pane.press("Escape")
        if page.button("Clear").is_visible():
            page.button("Clear").click()
        page.found("400 conversations")
        page.painted()
        if page.button("Clear selection", exact=False).is_visible():
            page.button("Clear selection", exact=False).click()

    def test_only_the_rows_in_view_are_on_the_page(self, page: ExplorerPage) -> None:
        """Others are asked for when they come into view; the number of all is told."""
        expect(page.grid).to_have_attribute("aria-rowcount", "401")
        assert page.rows.count() < 60
        page.grid.evaluate("grid => { grid.scrollTop = grid.scrollHeight; }")
        page.rows.filter(has_text="long").first.wait_for()
        assert page.rows.count() < 60 and sum(page.bytes["rows"]) < 100_000
        expect(page.rows.last).to_have_attribute("aria-rowindex", "401")

    def test_words_and_filters_find_conversations(self, page: ExplorerPage) -> None:
        """Both at once; the program gets the rows of what is found, and of what is selected."""
        page.search.fill("QUESTION 12")
        page.found("24 of 400 conversations")
        page.button("Tag").click()
        page.root.get_by_role("checkbox", name="odd").check()
        page.page.keyboard.press("Escape")
        page.found("10 of 400 conversations")
        assert set(page.explorer.filtered["tags"].map(str)) == {"['odd']"}
        page.root.get_by_role("checkbox", name="Select all that were found").check()
        page.button("Clear selection of 10").wait_for()
        assert page.explorer.selected.index.equals(page.explorer.filtered.index.sort_values())
        page.search.fill("nothing like that")
        page.found("0 of 400 conversations")
        assert len(page.explorer.selected) == 10

    def test_columns_sort(self, page: ExplorerPage) -> None:
        """Up, down and not, and the heading says so."""
        head = page.grid.get_by_role("columnheader", name="level")
        for order, first in (("ascending", "0"), ("descending", "2"), ("none", "0")):
            head.get_by_role("button").click()
            page.grid.locator(f"[aria-sort={order}] >> text=level").wait_for()
            page.rows.first.filter(has_text=re.compile(f"{first}$")).wait_for()

    def test_it_can_be_used_by_keyboard_only(self, page: ExplorerPage) -> None:
        """Arrows move, Space selects, Enter opens beside the table, Esc goes back to it."""
        page.grid.focus()
        for key in ("Home", "ArrowDown", "ArrowDown", "ArrowUp", " ", "Enter"):
            page.page.keyboard.press(key)
        page.pane.get_by_role("heading", name="case 0").wait_for()
        expect(page.pane).to_contain_text("new")
        row = page.grid.locator("[aria-selected=true][aria-current=true][aria-rowindex='3']")
        expect(page.grid).to_have_attribute("aria-activedescendant", str(row.get_attribute("id")))
        page.page.keyboard.press("Escape")
        page.page.keyboard.press("End")
        expect(page.grid.locator(".halo-active")).to_contain_text("long")
        page.page.keyboard.press("Enter")
        page.pane.get_by_role("heading", name="long").wait_for()
        expect(page.pane.locator("article")).to_have_count(2)
        focus_within = "pane => pane.contains(document.activeElement)"
        page.until(lambda: page.pane.evaluate(focus_within), "the focus in the conversation")
        page.page.keyboard.press("Escape")
        expect(page.grid).to_be_focused()
        expect(page.pane).to_be_hidden()

    def test_a_conversation_shows_verdicts_actions_and_what_was_expected(self, page: ExplorerPage) -> None:
        """Beside the table; Next and Previous go through what is found."""
        page.search.fill("second")
        page.found("2 of 400 conversations")
        page.rows.first.click()
        page.pane.get_by_role("heading", name="long").wait_for()
        text = page.pane.inner_text()
        assert "old · repeat 1 · complete" in text and "Expected: fine" in text
        expect(page.pane.get_by_role("tree")).to_have_count(2)
        assert page.pane.get_by_label("Verdicts on the conversation").inner_text().split() == [
            *("✓", "passed", "short", "✓", "passed", "fine")
        ]
        page.button("Next").click()
        page.pane.get_by_text("new · repeat 1 · complete", exact=False).wait_for()
        page.button("Previous").click()
        page.pane.get_by_text("old · repeat 1 · complete", exact=False).wait_for()

    def test_configurations_are_compared_side_by_side(self, page: ExplorerPage) -> None:
        """What differs is marked; the replies as the agent formatted them are a click away."""
        page.rows.nth(1).click()
        page.button("Compare configurations").click()
        sides = page.root.locator(".halo-side")
        sides.nth(1).wait_for()
        assert [side.locator("mark").all_inner_texts() for side in sides.all()] == [
            ["old", "old"],
            ["new", "new"],
        ]
        first, second = (side.bounding_box() for side in sides.all())
        assert first and second and first["y"] == second["y"] and first["x"] < second["x"]
        assert page.axe(".halo-panel") == []
        page.button("Mark differences").click()
        expect(page.root.locator(".halo-side .halo-block strong")).to_have_text(["old", "new"])
        page.button("Compare configurations").click()
        page.grid.wait_for()

    def test_new_verdicts_show_at_once(self, page: ExplorerPage, result: Evaluation) -> None:
        """After `rescore` the table has the new checks."""
        for checks in ({"loud": lambda reply: False}, CHECKS):
            result.rescore(checks)
            page.pass_on()
            page.grid.get_by_role("columnheader", name=next(iter(checks))).wait_for()

    @pytest.mark.parametrize("width", [1280, 336])
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_is_legible(self, page: ExplorerPage, width: int, scheme: str) -> None:
        """axe-core finds nothing, each text has a contrast of 4.5 to 1, and nothing is cut off."""
        page.page.set_viewport_size({"width": width, "height": 900})
        background = "#111" if scheme == "dark" else "#fff"
        page.page.evaluate("colour => { document.body.style.background = colour; }", background)
        try:
            page.until(lambda: page.scheme() == scheme, scheme)
            page.rows.nth(2).click()
            page.pane.locator("article").first.wait_for()
            for _ in range(2):
                page.painted()
                assert page.axe(".halo-panel") == []
                contrasts = page.page.evaluate(CONTRASTS, ".halo-panel")
                assert {name: round(ratio, 2) for name, ratio in contrasts.items() if ratio < 4.5} == {}
                assert page.root.evaluate(TOO_WIDE) == []
                page.screenshot(f"explorer-{scheme}-{width}")
                if page.button("All conversations").is_visible():
                    page.button("All conversations").click()
        finally:
            page.page.set_viewport_size({"width": 1280, "height": 900})
            page.page.evaluate("document.body.style.background = ''")
            page.page.keyboard.press("Escape")


@pytest.mark.ci
class TestHostile:
    """Everything that a file may say is hostile."""

    @pytest.fixture(scope="class")
    @classmethod
    def page(
        cls, tmp_path_factory: pytest.TempPathFactory, patch: pytest.MonkeyPatch
    ) -> Iterator[ExplorerPage]:
        texts = [f"text {name}" for name in hostile.TEXTS]
        payloads = [f"payload {name}" for name in hostile.PAYLOADS if name != "huge"]
        cases: list[object] = [
            {
                "id": bad("id"),
                "message": bad("message"),
                "tags": [bad("tag"), "b"],
                "expect": bad("expect"),
                "metadata": {bad("name"): bad("value")},
            },
            {"id": "b", "message": "b", "metadata": {bad("name"): "b"}},
            *({"id": f"{bad('id')} {n}", "turns": texts[n : n + 12]} for n in range(0, len(texts), 12)),
            *({"id": f"{bad('id')} p{n}", "turns": payloads[n : n + 6]} for n in range(0, len(payloads), 6)),
        ]
        path = tmp_path_factory.mktemp("hostile") / "result.jsonl"
        checks = {bad("check"): lambda reply: (False, bad("note"))[0]}
        result = made(cases, checks, path, (bad("config a"), bad("config b")))
        with ExplorerPage(size=(1280, 900)) as page:
            page.explore(result.explore(), patch)
            yield page

    @pytest.mark.timeout(200)
    def test_no_sample_does_anything(self, page: ExplorerPage) -> None:
        """Names, tags, metadata, notes, replies and payloads: no script, no request, nothing but text."""
        for name in ("Configuration", "Tag"):
            page.button(name).click()
            page.page.keyboard.press("Escape")
        seen = 0
        for row in range(0, len(page.explorer._list.runs), 2):
            page.open_row(row)
            while (more := page.button("Show further turns", exact=False)).is_visible():
                before = page.pane.locator("article").count()
                more.click()
                page.until(lambda: page.pane.locator("article").count() > before, "more turns")  # noqa: B023
            seen += page.pane.locator("article").count()
            assert page.root.evaluate(UNSAFE) == []
        assert seen == len(hostile.TEXTS) + len(hostile.PAYLOADS) + 2 - ("huge" in hostile.PAYLOADS)
        page.open_row(0)
        page.button("Compare configurations").click()
        page.root.locator(".halo-side").nth(1).wait_for()
        assert page.root.evaluate(UNSAFE) == []
        assert page.page.evaluate("() => [window.__halo_pwned, ({}).polluted]") == [None, None]
        assert page.asked_others == []
        assert (page.page_errors, page.browser_dialogs) == ([], [])
        shown = str(page.root.text_content())
        assert re.findall("[\u202a-\u202e\u2066-\u2069]", shown) == []


class TestHosts:
    """The explorer in the pages of other front ends."""

    @pytest.mark.parametrize(
        "name", ["VS Code Dark High Contrast", "marimo dark", "a light page on a dark system"]
    )
    def test_it_is_light_or_dark_as_the_page_is(
        self, name: str, tmp_path: Path, patch: pytest.MonkeyPatch
    ) -> None:
        """Also in a shadow tree, and where the system's scheme is another one."""
        result = made(["Hello"], {}, tmp_path / "result.jsonl", ("one",))
        with ExplorerPage(size=(1000, 800)) as page:
            page.explore(result.explore(), patch, HOSTS[name])
            page.until(lambda: page.scheme() == HOSTS[name].scheme, HOSTS[name].scheme)
