"""README and docs are true: their code runs, their links lead somewhere, their errors are the real ones."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock
from urllib.parse import unquote

import nbformat
import pytest
import trustme
from markdown_it import MarkdownIt

from halo_notebook import HaloClient, Replay, Session, errors, evaluate
from halo_notebook.demo import DEMO_KEY, DemoAgent
from halo_notebook.evaluation import read_cases
from halo_notebook.evaluation.cases.keeping import keep_case
from halo_notebook.evaluation.file.journal import Journal

from ..client.servers import server
from .tutorials import check_ran_well, executed

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in (*(ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "CHANGELOG")),
                 *sorted((ROOT / "docs").glob("*.md")))
}  # fmt: skip
TEXTS = PAGES | {
    path.relative_to(ROOT).as_posix(): "\n\n".join(
        cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"
    )
    for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
}
RUN = {"python", "ipython"}
NOT_CODE = {"mermaid", "text", "yaml"}
# Where CI runs the shell commands of README and docs, besides the targets of the Makefile.
SHELL = {
    "python -m pip install .": ".ci/run, wheel",
    'python -m pip install ".[lab,eval]"': "make demo",
    "jupyter lab notebooks": "tests/docs/test_demo_command.py, with a notebook to open",
    'python -m pip install ".[eval]"': "make test, as a part of '.[test]'",
    'python -m pip install ".[dask]"': "make test, as a part of '.[test]'",
    'python -m pip install ".[inspect]"': "make test, as a part of '.[test]'",
    "inspect eval task.py --model halo/default -M mode=voice": "tests/evaluation/test_inspect_setup.py",
    "papermill evaluation.ipynb evaluated.ipynb": "below, as a step of the workflow",
    "python -m halo_notebook.demo --port 8765": "tests/demo/test_command.py",
}


def blocks(page: str) -> list[tuple[str, str]]:
    """The code of a page: the info string and the text of each block."""
    tokens = MarkdownIt().parse(PAGES[page])
    return [(token.info, token.content) for token in tokens if token.type in ("fence", "code_block")]


def language(info: str) -> str:
    return info.partition(" ")[0]


def test_each_block_says_what_it_is() -> None:
    """So none is left out: a block is run here, its commands are run elsewhere in CI, or it is not code."""
    found = [(page, language(info), text) for page in PAGES for info, text in blocks(page)]
    assert {name for _, name, _ in found} <= RUN | NOT_CODE | {"sh"}
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    known = {*SHELL, ".ci/run", *(f"make {target}" for target in targets)}
    lines = {
        line.partition("  #")[0].strip()
        for _, name, text in found
        if name == "sh"
        for line in text.splitlines()
    }
    assert set(SHELL) <= lines <= known


@pytest.mark.kernel
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=() if page == "README.md" else pytest.mark.ci)
        for page in PAGES
        if RUN & {language(info) for info, _ in blocks(page)}
    ],
)
def test_its_cells_run_one_after_the_other(page: str) -> None:
    """A reader can paste them into one notebook, from top to bottom, without a key."""
    notebook = nbformat.v4.new_notebook()
    for info, text in blocks(page):
        if language(info) in RUN:
            tags = ["raises-exception"] if info.endswith(" raises") else []
            notebook.cells.append(nbformat.v4.new_code_cell(text, metadata={"tags": tags}))
    check_ran_well(executed(notebook, pauses=False))


@pytest.mark.kernel
@pytest.mark.ci
def test_its_gates_run(agent: DemoAgent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The notebook, the tests and the steps of the workflow; a rate that is too low fails each of them."""
    monkeypatch.setenv("HALO_API_KEY", DEMO_KEY)
    monkeypatch.setenv("HALO_BASE_URL", agent.url)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    of_page = {info.partition(" ")[2]: text for info, text in blocks("docs/evaluation.md")}
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(of_page["file=evaluation.ipynb"])])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, tmp_path / "evaluation.ipynb")
    (tmp_path / "test_agent.py").write_text(of_page["file=test_agent.py"])
    (workflow,) = (text for info, text in blocks("docs/evaluation.md") if info == "yaml")
    commands = re.findall(r"^ +- run: (?!.*pip install)(.+)$", workflow, re.MULTILINE)
    assert len(commands) == 2
    for status in (0, 1):
        if status:  # the agent's replies are another text now
            replies = (tmp_path / "ci.jsonl").read_text()
            (tmp_path / "ci.jsonl").write_text(replies.replace('"passed":true', '"passed":false'))
        for command in commands:
            done = subprocess.run(
                shlex.split(command), cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
            )
            assert done.returncode == status, done.stdout + done.stderr
            if status:
                assert "RequirementFailed: Check 'contains' must pass" in done.stdout + done.stderr
    assert len(agent.requests) == 9  # by the first notebook; the others found the replies and the verdicts


# --- Links ------------------------------------------------------------------------------


def links(text: str) -> Iterator[str]:
    """Where the links and pictures of a text lead."""
    for token in MarkdownIt().enable("table").parse(text):
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
    """Every file and heading that is linked to is there; other links are https, and none is a placeholder."""
    assert "OWNER" not in TEXTS[name]
    for link in links(TEXTS[name]):
        target, _, anchor = link.partition("#")
        if target.startswith("https://"):
            continue
        path = (ROOT / name).parent / unquote(target) if target else ROOT / name
        assert path.exists(), link
        if anchor:
            assert anchor in anchors(TEXTS[path.resolve().relative_to(ROOT).as_posix()]), link


def test_each_page_is_in_the_index() -> None:
    """A reader of docs/README.md finds all pages and tutorials, and the README is short."""
    assert len(PAGES["README.md"].splitlines()) <= 200
    pages = {page.removeprefix("docs/") for page in PAGES if page.startswith("docs/")} - {"README.md"}
    tutorials = {f"../{name}" for name in TEXTS.keys() - PAGES.keys()}
    assert pages | tutorials <= set(links(PAGES["docs/README.md"]))


# --- Errors -----------------------------------------------------------------------------


def ask(
    message: str = "Hello",
    *,
    url: str = "",
    key: str = DEMO_KEY,
    fault: str = "",
    user_token: str | None = None,
) -> Callable[[DemoAgent, Path], object]:
    def asked(agent: DemoAgent, folder: Path) -> object:
        agent.faults.extend(filter(None, [fault]))
        client = HaloClient(key, base_url=url or agent.url, silence_timeout_s=0.5, max_retries=0)
        return client.ask(message, user_token=user_token)

    return asked


def of_an_unknown_authority(agent: DemoAgent, folder: Path) -> object:
    with server(lambda _: None, trustme.CA().issue_cert("127.0.0.1")) as url:
        return ask(url=url)(agent, folder)


def without_certificates(agent: DemoAgent, folder: Path) -> object:
    with mock.patch.dict(os.environ, SSL_CERT_FILE=str(folder)):
        return ask(url="https://127.0.0.1:1/api/sdk")(agent, folder)


def two_writers(agent: DemoAgent, folder: Path) -> object:
    with contextlib.closing(Journal(folder / "evaluation.jsonl")) as journal:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
        return evaluate(["Hello"], configs=configs, path=journal.path, progress=False)


def cases_in(content: bytes) -> Callable[[DemoAgent, Path], object]:
    def read(agent: DemoAgent, folder: Path) -> object:
        (folder / "cases.csv").write_bytes(content)
        return read_cases(folder / "cases.csv")

    return read


def a_damaged_file(agent: DemoAgent, folder: Path) -> object:
    (folder / "evaluation.jsonl").write_text('{"kind":"run","format":1}\n[1, 2]\n')
    configs = {"demo": HaloClient(DEMO_KEY, base_url=agent.url)}
    return evaluate(["Hello"], configs=configs, path=folder / "evaluation.jsonl", progress=False)


def _file(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


RECORDING = ROOT / "notebooks/recordings/support.jsonl"
# How each message of the table in docs/troubleshooting.md comes about.
PROVOKED: dict[str, Callable[[DemoAgent, Path], object]] = {
    "There is no API key.": ask(key=""),
    "An identity secret (ha_secret_…) was given as the API key.": ask(key="ha_secret_x"),
    "Halo refused the key (401": ask(fault="401"),
    "Halo refused the user (403": ask(fault="403"),
    "There is no Halo API at the base URL (404": ask(fault="404"),
    "Plain http would send the key unencrypted": ask(url="http://halo.example/api/sdk"),
    "No connection to": ask(url="http://127.0.0.1:1/api/sdk"),
    "its certificate is not trusted": of_an_unknown_authority,
    "The network could not be set up": without_certificates,
    "By this computer's clock the user token has expired": ask(user_token="a.eyJleHAiOjF9.c"),
    "Rate limit reached (429": ask(fault="429"),
    "The agent was silent for": ask(fault="stall"),
    "The connection broke off before the reply had ended": ask(fault="cut text"),
    "The answer is declared as text/html": ask(fault="content type"),
    "The message has 10,001 characters": ask("x" * 10_001),
    "has an open quote": cases_in(b'message\n"Hello\n'),
    "is not UTF-8": cases_in("message\nGrüß Gott\n".encode("cp1252")),
    "is not a line of an evaluation": a_damaged_file,
    "Another evaluation is writing": two_writers,
    "is not an exported session": lambda _, folder: Session.load(_file(folder / "a.json", "{}")),
    "is not a file of cases": lambda _, folder: keep_case(
        read_cases(["Hello"])[0], _file(folder / "a.jsonl", "notes\n")
    ),
    "is not in the recording": lambda *_: HaloClient(transport=Replay(RECORDING)).ask("What else?"),
}


def test_its_table_of_errors_is_whole() -> None:
    """Each line of it is provoked below, and none is left out."""
    table = PAGES["docs/troubleshooting.md"].partition("## Error messages")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(.+?)` \|", table, re.MULTILINE) == list(PROVOKED)


@pytest.mark.parametrize("line", PROVOKED)
def test_its_errors_are_the_real_ones(line: str, agent: DemoAgent, tmp_path: Path) -> None:
    """The text that the table quotes is in the message that a reader sees."""
    with pytest.raises(errors.HaloError) as caught:
        PROVOKED[line](agent, tmp_path)
    assert line in str(caught.value)
