"""The README is true: its code runs, its links lead somewhere, its errors are the real ones."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from markdown_it import MarkdownIt

from halo_notebook import HaloClient, Replay, errors, evaluate
from halo_notebook.demo import DEMO_KEY, DemoAgent
from halo_notebook.evaluation.journal import Journal

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md")
} | {
    path.relative_to(ROOT).as_posix(): "\n\n".join(
        cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"
    )
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
}
# What a shell is told, by what runs it in CI.
SHELL = {
    "make demo": "tests/docs/test_demo_command.py",
    "make test": "this run",
    "python -m pip install .": ".ci/run, wheel",
    "python -m pip install '.[inspect]'": "make test, as a part of '.[test]'",
    "inspect eval task.py --model halo/default -M mode=voice": "below",
}


def blocks() -> list[tuple[str, str]]:
    """The README's code: what each block is, and its text."""
    return [
        (token.info, token.content)
        for token in MarkdownIt().parse(README)
        if token.type in ("fence", "code_block")
    ]


@pytest.fixture
def settings(agent: DemoAgent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An agent that the settings name, and an empty folder to work in."""
    monkeypatch.setenv("HALO_API_KEY", DEMO_KEY)
    monkeypatch.setenv("HALO_BASE_URL", agent.url)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_each_block_says_what_it_is() -> None:
    """So that none is left out of what follows."""
    assert {info.partition(" ")[0] for info, _ in blocks()} == {"sh", "python", "ipython"}
    lines = [line for info, text in blocks() if info == "sh" for line in text.splitlines()]
    assert {line.partition("  #")[0].strip() for line in lines} == set(SHELL)


@pytest.mark.kernel
def test_its_cells_run_one_after_the_other(agent: DemoAgent) -> None:
    """As a reader would run them, in one notebook from top to bottom."""
    from ..harness.kernels import Kernel

    settings = {"HALO_API_KEY": DEMO_KEY, "HALO_BASE_URL": agent.url}
    with Kernel(settings) as kernel:
        for info, text in blocks():
            if info in ("python", "ipython"):
                result = kernel.run(text, timeout=60)
                assert result.status == "ok", f"{text}\n{result.ename}: {result.evalue}"
    assert len(agent.requests) > 20


def test_its_eval_runs(settings: Path, agent: DemoAgent) -> None:
    """The file and the command of its section on inspect_ai."""
    (source,) = (text for info, text in blocks() if info == "python file=task.py")
    (settings / "task.py").write_text(source)
    (line,) = (line for line in SHELL if line.startswith("inspect eval"))
    command = [str(Path(sys.executable).with_name("inspect")), *shlex.split(line)[1:], "--display", "plain"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [request.body["mode"] for request in agent.requests] == ["voice"]


# --- Links ------------------------------------------------------------------------------


def links(text: str) -> Iterator[str]:
    """Where a text's links and pictures lead."""
    for token in MarkdownIt().parse(text):
        for child in token.children or []:
            for name in ("href", "src"):
                if target := child.attrGet(name):
                    yield str(target)


def anchors(text: str) -> set[str]:
    """The names of a text's headings, as GitHub gives them."""
    tokens = MarkdownIt().parse(text)
    titles = [tokens[at + 1].content for at, token in enumerate(tokens) if token.type == "heading_open"]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", TEXTS)
def test_its_links_lead_somewhere(name: str) -> None:
    """Every file and heading that is linked to is there; elsewhere only to https."""
    for link in links(TEXTS[name]):
        target, _, anchor = link.partition("#")
        if target.startswith("https://"):
            continue
        path = (ROOT / name).parent / unquote(target) if target else ROOT / name
        assert path.exists(), link
        if anchor:
            assert anchor in anchors(TEXTS[path.relative_to(ROOT).as_posix()]), link


def test_the_repositorys_address_stands_in_one_place() -> None:
    """A placeholder, until there is one."""
    found = [name for name, text in TEXTS.items() for _ in re.findall("OWNER", text)]
    assert found == ["README.md"]
    assert README.rstrip().endswith("HEAD?labpath=notebooks%2F01-first-reply.ipynb")


# --- Errors -----------------------------------------------------------------------------


def played(fault: str) -> Callable[[DemoAgent, Path], object]:
    def ask(agent: DemoAgent, folder: Path) -> object:
        agent.faults.append(fault)
        return HaloClient(DEMO_KEY, base_url=agent.url, silence_timeout_s=0.5, max_retries=0).ask("Hello")

    return ask


def two_writers(agent: DemoAgent, folder: Path) -> object:
    journal = Journal(folder / "evaluation.jsonl")
    try:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        return evaluate(["Hello"], configs=configs, path=journal.path, progress=False)
    finally:
        journal.close()


def ask_at(url: str, message: str = "Hello", key: str = DEMO_KEY) -> Callable[[DemoAgent, Path], object]:
    return lambda agent, folder: HaloClient(key, base_url=url or agent.url, max_retries=0).ask(message)


RECORDING = ROOT / "notebooks/recordings/support.jsonl"
# How each of the README's lines comes about.
PROVOKED: dict[str, Callable[[DemoAgent, Path], object]] = {
    "There is no API key.": ask_at("", key=""),
    "An identity secret (ha_secret_…) was given as the API key.": ask_at("", key="ha_secret_x"),
    "Halo refused the key (401": played("401"),
    "Halo refused the user (403": played("403"),
    "There is no Halo API at the base URL (404": played("404"),
    "Plain http would send the key unencrypted": ask_at("http://halo.example/api/sdk"),
    "No connection to": ask_at("http://127.0.0.1:1/api/sdk"),
    "Halo takes no more requests just now (429": played("429"),
    "The agent was silent for": played("stall"),
    "The connection broke off before the reply had ended": played("cut text"),
    "The answer is declared as text/html": played("content type"),
    "The message has 10,001 characters": ask_at("", message="x" * 10_001),
    "Another evaluation is writing": two_writers,
    "is not in the recording": lambda agent, folder: HaloClient(transport=Replay(RECORDING)).ask(
        "What else?"
    ),
}


def test_its_table_of_errors_is_whole() -> None:
    """Each line of it is provoked below, and none is left out."""
    table = README.partition("### Troubleshooting")[2].partition("\n\nIPython")[0]
    assert re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE) == list(PROVOKED)


@pytest.mark.parametrize("line", PROVOKED)
def test_its_errors_are_the_real_ones(
    line: str, agent: DemoAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the table quotes is in the line that a reader meets."""
    monkeypatch.delenv("HALO_API_KEY", raising=False)
    with pytest.raises(errors.HaloError) as caught:
        PROVOKED[line](agent, tmp_path)
    assert line in str(caught.value)
