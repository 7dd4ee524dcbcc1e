"""An evaluation to look at: in a cell, as a plot, as one file."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

from halo_notebook import HaloClient, errors
from halo_notebook.checks import action, contains
from halo_notebook.demo import DEMO_KEY, DemoAgent, Step
from halo_notebook.evaluation import Evaluation
from halo_notebook.evaluation.state import RunState
from halo_notebook.stream import JSON, Action, TextDelta

from ..harness.contrast import CONTRASTS
from ..harness.hostile import PAYLOADS, TEXTS
from ..harness.pages import ARTEFACTS, BrowserPage

if TYPE_CHECKING:
    from ..harness.lab import LabPage
    from .conftest import Run

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


def test_a_cell_shows_rates_times_agents_and_the_worst_cases(result: Evaluation) -> None:
    """Each rate with its interval, and the notes."""
    shown = text_of(result._repr_html_())
    assert "12 conversations: 11 complete, 1 interrupted" in shown
    assert "⚠ 1 conversation was interrupted after its message may have been sent" in shown
    assert re.search(r"chat 3 1 1 \d+% \[\d+–>?\d+%\]", shown)
    assert re.search(r"\d\.\d\d s · \d\.\d\d s", shown) and "agent_demo" in shown
    assert "interrupted: The connection broke off before the reply had ended" in shown
    assert (
        "&lt;b&gt;bold&lt;/b&gt;" in shown and "failed contains (without &#x27;nothing of it&#x27;)" in shown
    )
    assert "By tag" in shown
    assert "nan" not in shown.lower().split()


def test_tags_group_the_summary(result: Evaluation) -> None:
    """A case with two tags counts in both; all tags together come first."""
    summary = result.summary(by_tag=True)
    assert list(summary.loc["voice"].index) == ["(all)", "memory", "actions", "support"]
    assert list(summary.loc["voice"]["cases"]) == [3, 1, 1, 2]
    assert list(summary.loc["voice"]["turns"]) == [8, 4, 2, 4]
    assert summary.loc["voice", "support"]["contains"].estimate == 0.5
    assert result.passed("contains", tag="memory")["voice"] == {"memory": [True, True]}


def test_a_comparison_is_a_table(result: Evaluation) -> None:
    """A row per check and per time, with its note."""
    shown = text_of(result.compare("chat", "voice")._repr_html_())
    assert re.search(r"contains [+-]\d+ points \[.*?\], p = 1, 3 cases too few cases", shown)
    assert "first text, median" in shown and "whole reply, p95" in shown


def test_the_worst_come_first(result: Evaluation) -> None:
    """Incomplete cases, then those that failed the most, then the slowest; each case once."""
    worst = result.worst()
    assert list(worst["case"]) == ["memory", "<b>bold</b>", "ticket"]
    assert worst["why"].iloc[0].startswith("interrupted: The connection broke off")
    assert worst["bad"].iloc[1] == "4 of 4"
    assert worst["why"].iloc[1] == "failed contains (without 'nothing of it'), acts (0 other actions)"
    assert worst["why"].iloc[2] == "among the slowest" and worst["bad"].iloc[2] == "0 of 4"
    rows = list(result.rows())
    for number, row in worst.iterrows():
        assert (rows[number]["case"], rows[number]["turn"]) == (row["case"], row["turn"])
    assert len(result.worst(1)) == 1
    said = [message for message, _ in result.conversation(worst.index[1])]
    assert said == ["Say <i>hi</i>"]
    with pytest.raises(errors.InvalidRequest, match="There is no row 999; there are 16, from 0"):
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
    assert "&lt;b&gt;bold&lt;/b&gt;" in html and "<b>bold</b>" not in html
    assert not re.search(r"<script|\son\w+=|src=\"(?!data:)|<link|@import|url\(", html)
    assert "default-src 'none'" in html
    assert DEMO_KEY not in html
    assert list(tmp_path.iterdir()) == [path]  # and no part of a page beside it
    with pytest.raises(errors.UsageError, match="could not be written"):
        result.to_html(tmp_path / "nowhere" / "x.html")


def test_an_evaluation_without_replies_shows_too(agent: DemoAgent, run: Run, tmp_path: Path) -> None:
    """It has no checks, and no reply came."""
    agent.faults.append("401")
    result = run(["one"])
    shown = text_of(result._repr_html_())
    assert "1 conversation: 1 failed" in shown
    assert "failed: Halo refused the key (401: " in shown
    assert "✗ failed: Halo refused the key" in result.to_html(tmp_path / "x.html").read_text()


def hostile_reply(request: dict[str, JSON]) -> Iterator[Step]:
    name = str(request["message"])
    yield TextDelta(TEXTS.get(name, name))
    yield from [Action(payload) for payload in [PAYLOADS.get(name)] if payload is not None]


@pytest.mark.browser
def test_a_hostile_agent_does_nothing_in_the_file(run: Run, tmp_path: Path) -> None:
    """Of all hostile samples, opened in a browser, none runs and none loads anything."""
    with DemoAgent(first_byte_s=0, reply=hostile_reply) as agent:
        configs = {"<script>alert(1)</script>": HaloClient(DEMO_KEY, base_url=agent.url)}
        names = list(dict.fromkeys([*TEXTS, *PAYLOADS]))
        cases = [{"id": f"<img src=x onerror=alert(1)>{name}", "turns": [name]} for name in names]
        checks = {"<img src=x onerror=alert(1)>": contains("zzz")}
        result = run(cases, checks, configs=configs)
    path = result.to_html(tmp_path / "page.html")
    with BrowserPage() as browser:
        asked: list[str] = []
        browser.page.on("request", lambda request: asked.append(request.url))
        browser.page.goto(path.as_uri())
        browser.page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
        browser.page.wait_for_timeout(500)
        assert browser.page.evaluate("[window.__halo_pwned, document.scripts.length]") == [None, 0]
        assert browser.browser_dialogs == [] and browser.page_errors == []
        assert browser.console_errors == []  # a refused load would be here
        assert browser.page.locator("details.conversation").count() == len(names)
        assert [url for url in asked if not url.startswith("data:")] == [path.as_uri()]


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 320])
def test_the_file_reads_well(
    result: Evaluation, tmp_path: Path, scheme: Literal["light", "dark"], width: int
) -> None:
    """In light and dark, on a narrow screen too: axe-core finds nothing, and the page is not too wide."""
    path = result.to_html(tmp_path / "page.html")
    with BrowserPage(size=(width, 900)) as browser:
        browser.page.emulate_media(color_scheme=scheme)
        browser.page.goto(path.as_uri())
        browser.page.locator("details.conversation").nth(0).evaluate("each => { each.open = true; }")
        browser.page.locator("details.conversation").nth(4).evaluate("each => { each.open = true; }")
        assert browser.axe("body") == []
        assert browser.page.evaluate("document.documentElement.scrollWidth") <= width
        assert browser.page.locator("img").evaluate("each => each.naturalWidth") > 100
        ARTEFACTS.mkdir(exist_ok=True)
        browser.page.screenshot(path=ARTEFACTS / f"evaluation-file-{scheme}-{width}.png", full_page=True)


CELLS = {
    "run": """\
from halo_notebook import DemoAgent, HaloClient, evaluate
from halo_notebook.checks import action, contains
from halo_notebook.demo import DEMO_KEY
agent = DemoAgent(first_byte_s=0.05, chunk_s=0.005).start()
agent.faults.append("cut text")
client = HaloClient(DEMO_KEY, base_url=agent.url)
result = evaluate(
    [
        {"id": "memory", "turns": ["I am Ada", "What is my name?"], "expect": "Ada", "tags": ["memory"]},
        {"id": "<img src=x onerror=alert(1)>", "turns": ["Hello"], "expect": "nothing of it"},
        *[{"id": f"help {number}", "turns": ["How do I set up event tracking?"]} for number in range(8)],
    ],
    {"contains": contains(), "links": action("link")},
    configs={"chat": client, "voice": {"client": client, "mode": "voice"}},
    repeats=2,
)
result""",
    "plot": "result.plot()",
    "show": "result.show(int(result.worst().index[1]))",
    "failures": "result.failures()[['case', 'config', 'status']].head(2)",
}


@pytest.mark.browser
def test_a_notebook_shows_it(lab: LabPage) -> None:
    """The progress bar, the table, the plot and a conversation: visible, in light and dark, and safe."""
    at = {name: index for index, name in enumerate(CELLS)}
    lab.open_notebook(list(CELLS.values()))
    lab.run_all()
    lab.wait_for_text(at["run"], "40 conversations: 39 complete, 1 interrupted")
    shown = lab.cell_text(at["run"]).replace("\u2007", " ")
    assert "44/44" in shown and " passed, " in shown  # the bar, at its end
    assert (
        "1 conversation was interrupted after its message may have been sent" in shown
        and "agent_demo" in shown
    )
    assert "<img src=x onerror=alert(1)>" in shown
    output = lab.cell_output(at["run"]).locator(".halo-evaluation")
    output.locator("summary", has_text="By tag").click()
    assert output.locator("table").nth(1).is_visible()
    picture = lab.cell_output(at["plot"]).locator("img")
    assert picture.evaluate("each => each.naturalWidth") > 400
    lab.wait_for_text(at["show"], "Hello")
    try:
        for theme in ("JupyterLab Light", "JupyterLab Dark"):
            lab.set_theme(theme)
            lab.screenshot(f"evaluation-{theme.rpartition(' ')[2].lower()}", cell=at["run"])
            contrasts = lab.page.evaluate(CONTRASTS, ".halo-evaluation")
            assert len(contrasts) >= 3
            assert {name: round(ratio, 2) for name, ratio in contrasts.items() if ratio < 4.5} == {}
            lab.screenshot(f"evaluation-plot-{theme.rpartition(' ')[2].lower()}", cell=at["plot"])
    finally:
        lab.set_theme("JupyterLab Light")
    assert lab.browser_dialogs == [] and lab.page_errors == []
