"""What a result says and shows: every turn counts, every rate has an interval, and nothing is sent again."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from halo_notebook import Action, HaloClient, Reply, TextDelta, errors
from halo_notebook.checks import action, contains
from halo_notebook.demo import DEMO_KEY, DemoAgent, Step
from halo_notebook.evaluation import Evaluation
from halo_notebook.evaluation.file.state import RunState

from ...harness.hostile import PAYLOADS, TEXTS
from ...harness.pages import ARTEFACTS, BrowserPage

if TYPE_CHECKING:
    from halo_notebook.stream import JSON

    from ..conftest import Run

CASES: list[Any] = [
    {"id": "memory", "turns": ["My name is Ada", "What is my name?"], "expect": "Ada", "tags": ["memory"]},
    {"id": "ticket", "turns": ["Open a ticket"], "expect": "ticket", "tags": ["actions", "support"]},
    {"id": "<b>bold</b>", "turns": ["Say <i>hi</i>"], "expect": "nothing of it", "tags": ["support"]},
]


@pytest.fixture
def result(agent: DemoAgent, client: HaloClient, run: Run) -> Evaluation:
    """Two configurations, one of them with a conversation that was cut off."""
    agent.faults.append("cut text")
    checks = {"contains": contains(), "acts": action("create_ticket")}
    configs = {"chat": client, "voice": {"client": client, "mode": "voice"}}
    return run(CASES, checks, configs=configs, repeats=2, concurrency=1)


def text_of(html: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html))


# --- What it says -----------------------------------------------------------------------


def test_the_summary_drops_nothing(result: Evaluation) -> None:
    """Each configuration's turns by how they ended, its pass rate with an interval, times, agents."""
    summary = result.summary()
    figures = summary[["cases", "turns", "complete", "interrupted", "not asked"]]
    assert figures.loc["chat"].tolist() == [3, 8, 6, 1, 1]
    assert figures.loc["voice"].tolist() == [3, 8, 8, 0, 0]
    chat = summary.loc["chat"]
    assert chat["contains n"] == 3 and chat["contains low"] <= chat["contains"] <= chat["contains high"]
    assert summary["agents"]["voice"] == "agent_demo (on this machine)"
    assert summary["elapsed_s p50"]["voice"] > 0 and summary["elapsed_s p95"].isna().all()
    assert len(result.df) == len(list(result.rows())) == 16
    failed = result.failures()
    # Not the turn after the one that was cut off, which was not sent.
    assert len(failed) == 11 and set(failed["case"]) == {"memory", "<b>bold</b>"}


def test_tags_group_the_summary(result: Evaluation) -> None:
    """A case with two tags counts in both; all tags together come first."""
    voice = result.summary(by_tag=True).loc["voice"]
    assert list(voice.index) == ["(all)", "memory", "actions", "support"]
    assert (list(voice["cases"]), list(voice["turns"])) == ([3, 1, 1, 2], [8, 4, 2, 4])
    assert voice["contains"]["support"] == 0.5
    assert result.passed("contains", tag="memory")["voice"] == {"memory": [True, True]}


@pytest.mark.parametrize("wrong", [["x"], {"x": 1}, 1.5, slice(0, 1)], ids=str)
def test_an_argument_of_another_type_is_refused(wrong: Any, result: Evaluation) -> None:
    """In one line that says what is wrong."""
    uses: list[Callable[[Any], Any]] = [
        lambda each: result.summary(by=each),
        lambda each: result.compare(by=each),
        result.show,
        result.conversation,
        result.worst,
        result.passed,
        result.flaky,
        result.compare,
    ]
    for use in uses:
        with pytest.raises(errors.InvalidRequest, match=r"^(by|Row|count|No) [^\n]*\.$"):
            use(wrong)


@pytest.mark.parametrize("by", ["topic", "tag", ["tag"]])
def test_two_groupings_at_once_are_refused(by: Any, result: Evaluation) -> None:
    """One of them would be left out without a word."""
    for use in (result.summary, result.compare):
        with pytest.raises(errors.InvalidRequest, match="two groupings"):
            use(by_tag=True, by=by)


def test_a_comparison_has_a_line_for_each_check_and_time(result: Evaluation) -> None:
    """With its note; in a cell, median and p95 have rows of their own."""
    compared = result.compare("chat", "voice")
    assert list(compared) == ["contains", "acts", "first_text_s", "elapsed_s"]
    lines = repr(compared).split("\n")
    assert re.match(r"contains +[+-]\d+ points .* 3 cases \(too few cases\)$", lines[0])
    assert lines[4:] == [
        "Differences are voice minus chat, paired by case, with 95 % intervals.",
        "The 2 p-values are adjusted together, by Holm's method.",
    ]
    html = compared._repr_html_()
    shown = text_of(html)
    assert re.search(r"contains [+-]\d+ points \[.*?\] , adjusted p = 1 , 3 cases too few cases", shown)
    assert '<span style="white-space:nowrap">p = 1</span>' in html, "a line does not end within it"
    assert "first text, median" in shown and "whole reply, p95" in shown
    with pytest.raises(errors.InvalidRequest, match="No configuration named 'c'"):
        result.compare("chat", "c")


def test_a_check_that_raises_neither_passes_nor_fails(run: Run) -> None:
    """The result says how often it failed to judge, and how; the run continues, whatever it raises."""

    def breaks(reply: Reply) -> bool:
        raise KeyError("nope")

    def leaves(reply: Reply) -> bool:
        raise GeneratorExit

    checks: dict[str, Any] = {"breaks": breaks, "leaves": leaves, "odd": lambda reply: "yes"}
    result = run(["one"], checks)
    row = next(result.rows())
    assert (row["breaks"], row["breaks note"]) == (None, "KeyError: 'nope'")
    assert (row["leaves"], row["leaves note"]) == (None, "GeneratorExit")
    assert row["odd"] is None and "a bool, a number from 0 to 1 or a Score" in row["odd note"]
    assert result.passed("breaks") == {"demo": {"1": [None]}}
    why = (
        "Check 'breaks' could not judge 1 turn (first error: KeyError: 'nope'); rescore() tries again. "
        "It has a verdict for 0 of 1 case."
    )
    assert why in result.notes()


def test_a_cut_reply_passes_no_check(agent: DemoAgent, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Even if its text would have; one with nothing to say has no verdict. The progress bar says the same."""
    agent.faults.append("cut text")
    result = run(["one"], [contains("This reply"), contains()], progress=True)
    assert "1/1" in (bar := capsys.readouterr().err) and "0 passed, 1 failed" in bar
    assert result.passed("contains(This reply)") == {"demo": {"1": [False]}}
    assert result.passed("contains") == {"demo": {"1": []}}


def test_rescoring_sends_nothing(agent: DemoAgent, run: Run) -> None:
    """The replies are on the disk, with their actions and times."""
    result = run(["Open a ticket"], [contains("ticket")])
    result.rescore({"acted": action("create_ticket"), "slow": lambda reply: reply.elapsed_s > 100})
    assert result.passed("acted") == {"demo": {"1": [True]}}
    assert result.passed("slow") == {"demo": {"1": [False]}}
    assert len(agent.requests) == 1
    with pytest.raises(errors.InvalidRequest, match=r"No check named 'contains.*Checks: acted, slow\."):
        result.passed("contains(ticket)")


def test_two_agents_under_one_configuration_get_a_note(run: Run, kept: Path) -> None:
    """Their replies cannot be compared as one configuration's."""
    run(["one"], path=kept)
    kept.write_text(kept.read_text().replace('"agent_id":"agent_demo"', '"agent_id":"agent_other"'))
    result = run(["one", "two"], path=kept)
    assert any("More than one agent answered as 'demo'" in note for note in result.notes())


# --- What it shows ----------------------------------------------------------------------


def test_a_cell_shows_rates_times_agents_and_the_worst_cases(result: Evaluation) -> None:
    """Each rate with its interval, and the notes."""
    shown = text_of(result._repr_html_())
    for words in (
        "12 conversations: 11 complete, 1 interrupted",
        "⚠ 1 conversation got an error or no whole reply from the agent (The connection broke off before",
        "agent_demo",
        "interrupted: The connection broke off before the reply had ended",
        "&lt;b&gt;bold&lt;/b&gt;",
        "failed contains (without &#x27;nothing of it&#x27;)",
        "By tag",
    ):
        assert words in shown
    assert re.search(r"chat 3 1 1 \d+% \[\d+–>?\d+%\]", shown)
    assert re.search(r"p50, p95 .* \d\.\d\d s", shown)
    assert "nan" not in shown.lower().split()


def test_the_worst_come_first(result: Evaluation) -> None:
    """By the share of their conversations that failed; each case once, and none that always passed."""
    worst = result.worst()
    assert worst[["case", "failed", "runs"]].to_numpy().tolist() == [["memory", 4, 4], ["<b>bold</b>", 4, 4]]
    assert worst["why"].iloc[0].startswith("interrupted: The connection broke off")
    assert worst[["message", "expect", "why"]].iloc[1].tolist() == [
        *("Say <i>hi</i>", "nothing of it"),
        "failed contains (without 'nothing of it'), acts (0 other actions)",
    ]
    rows = list(result.rows())
    for number, row in worst.iterrows():
        assert (rows[number]["case"], rows[number]["turn"]) == (row["case"], row["turn"])
    assert len(result.worst(1)) == 1
    said = [message for message, _ in result.conversation(worst.index[1])]
    assert said == ["Say <i>hi</i>"]
    with pytest.raises(
        errors.InvalidRequest, match=r"Row 999 does not exist\. The result has 16 rows, numbered from 0"
    ):
        result.conversation(999)


def test_a_plot_shows_without_network_or_script(result: Evaluation) -> None:
    """It is a picture, with every configuration and check; its chart can be changed."""
    plot = result.plot()
    assert plot._repr_png_().startswith(b"\x89PNG")
    svg = plot.svg()
    for words in ("contains", "acts", "chat", "voice", "first text", "whole reply"):
        assert f">{words}<" in svg
    assert plot.chart.to_dict()["hconcat"]
    empty = Evaluation(RunState(result.path, [], {}, {"chat": ""}))
    with pytest.raises(errors.UsageError, match="nothing to plot"):
        empty.plot()


def test_the_file_is_self_contained(result: Evaluation, tmp_path: Path) -> None:
    """It has every conversation with its verdicts, the table and the picture, and no script."""
    path = result.to_html(tmp_path / "for a colleague.html")
    html = path.read_text(encoding="utf-8")
    assert html.count('<details class="conversation">') == 12
    assert "Nice to meet you" in html and "create_ticket" in html and "This reply will be cut" in html
    assert "✗ interrupted: The connection broke off before the reply had ended" in html
    assert "&lt;b&gt;bold&lt;/b&gt;" in html and "<b>bold</b>" not in html and DEMO_KEY not in html
    assert not re.search(r"<script|\son\w+=|src=\"(?!data:)|<link|@import|url\(", html)
    assert "default-src 'none'" in html
    assert list(tmp_path.iterdir()) == [path]  # and no part of a page beside it
    with pytest.raises(errors.UsageError, match="could not be written"):
        result.to_html(tmp_path / "nowhere" / "x.html")


def test_a_report_replaces_only_a_file(result: Evaluation, tmp_path: Path) -> None:
    """A device such as /dev/null stays one, and so does a link, whose file is written."""
    pipe, link, file = tmp_path / "pipe.html", tmp_path / "link.html", tmp_path / "there" / "file.html"
    os.mkfifo(pipe)
    file.parent.mkdir()
    file.write_text("an old report")
    link.symlink_to(file)
    for write in (result.to_html, result.to_junit):
        for place in (pipe, file.parent):
            with pytest.raises(errors.UsageError, match=r"could not be written \(it is not a file\)"):
                write(place)
        write(link)
        assert pipe.is_fifo() and link.is_symlink() and file.stat().st_size > 100
    assert [*file.parent.iterdir()] == [file]


def test_an_evaluation_without_replies_shows_too(agent: DemoAgent, run: Run, tmp_path: Path) -> None:
    """It has no checks, and no reply came."""
    agent.faults.append("401")
    result = run(["one"])
    shown = text_of(result._repr_html_())
    assert "1 conversation: 1 failed" in shown
    assert "failed because Halo refused the request (Halo refused the key (401: " in shown
    assert "– failed: Halo refused the key" in result.to_html(tmp_path / "x.html").read_text()


def hostile_reply(request: dict[str, JSON]) -> Iterator[Step]:
    name = str(request["message"])
    yield TextDelta(TEXTS.get(name, name))
    yield from [Action(payload) for payload in [PAYLOADS.get(name)] if payload is not None]


@pytest.mark.browser
@pytest.mark.ci
def test_a_hostile_agent_does_nothing_in_the_file(run: Run, tmp_path: Path) -> None:
    """Of all hostile samples, opened in a browser, none runs and none loads anything."""
    with DemoAgent(first_byte_s=0, reply=hostile_reply) as agent:
        configs = {"<script>alert(1)</script>": HaloClient(DEMO_KEY, base_url=agent.url)}
        names = list(dict.fromkeys([*TEXTS, *PAYLOADS]))
        cases = [{"id": f"<img src=x onerror=alert(1)>{name}", "turns": [name]} for name in names]
        checks = {"<img src=x onerror=alert(1)>": contains("zzz")}
        result = run(cases, checks, configs=configs)
    path = result.to_html(tmp_path / "page.html")
    address = "http://127.0.0.1/page.html"  # Firefox reports no request of a page that is a file
    with BrowserPage() as browser:
        asked: list[str] = []
        browser.page.on("request", lambda request: asked.append(request.url))
        browser.page.route(address, lambda route: route.fulfill(path=path, content_type="text/html"))
        browser.page.goto(address)
        browser.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        browser.painted()
        assert browser.page.evaluate("[window.__halo_pwned, document.scripts.length]") == [None, 0]
        assert browser.browser_dialogs == []
        # A refused load would be here. Firefox reports that of an icon, which Chromium does not try.
        reported = [*browser.page_errors, *browser.console_errors]
        assert [error for error in reported if "/favicon.ico" not in error] == []
        assert browser.page.locator("details.conversation").count() == len(names)
        assert [url for url in asked if not url.startswith("data:")] == [address]


@pytest.mark.ci
@pytest.mark.browser
@pytest.mark.parametrize("width", [1280, 320])
def test_the_file_reads_well(result: Evaluation, tmp_path: Path, width: int) -> None:
    """In light and dark, on a narrow screen too: axe-core finds nothing, and the page is not too wide."""
    path = result.to_html(tmp_path / "page.html")
    ARTEFACTS.mkdir(exist_ok=True)
    schemes: list[Literal["light", "dark"]] = ["light", "dark"]
    with BrowserPage(size=(width, 900)) as browser:
        browser.page.goto(path.as_uri())
        for number in (0, 4):
            conversation = browser.page.locator("details.conversation").nth(number)
            conversation.evaluate("each => { each.open = true; }")
        for scheme in schemes:
            browser.page.emulate_media(color_scheme=scheme)
            assert browser.axe("body") == []
            browser.page.screenshot(path=ARTEFACTS / f"evaluation-file-{scheme}-{width}.png", full_page=True)
        assert browser.page.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.page.locator("img").evaluate("each => each.naturalWidth") > 100
