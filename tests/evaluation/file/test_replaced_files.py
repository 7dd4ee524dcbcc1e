"""A report or an export never takes the place of an evaluation, a recording or a session of another kind."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import DemoAgent, Evaluation, HaloClient, Recorder, Session, errors
from halo_notebook.demo import DEMO_KEY, Step
from halo_notebook.evaluation.cases.keeping import keep_case
from halo_notebook.evaluation.file.journal import Journal
from halo_notebook.stream import JSON, TextDelta

from ..agents import ok, states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..conftest import Run

WRITERS = ["to_html", "to_junit"]


def named(kept: Path, name: str) -> Path:
    """Another name of the file at `kept`."""
    other = kept.with_name("other")
    match name:
        case "a link":
            other.symlink_to(kept)
        case "a hard link":
            os.link(kept, other)
        case "another spelling":
            other = kept.parent / ".." / kept.parent.name / kept.name
        case "relative":
            other = Path(kept.name)
        case _:
            other = kept
    return other


@pytest.mark.parametrize("name", ["itself", "a link", "a hard link", "another spelling", "relative"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_report_does_not_replace_its_own_evaluation(
    writer: str, name: str, run: Run, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under none of its names; the replies can still be read, and the folder is as it was."""
    monkeypatch.chdir(kept.parent)
    result = run(["one", "two"], [ok], path=kept)
    other = named(kept, name)
    before, folder = kept.read_bytes(), sorted(kept.parent.iterdir())
    with pytest.raises(errors.UsageError, match=r"^[^\n]*holds (this|an) evaluation\. It was not changed"):
        getattr(result, writer)(other)
    assert kept.read_bytes() == before and sorted(kept.parent.iterdir()) == folder
    assert states(result) == ["complete"] * 2


def test_a_report_does_not_replace_its_own_file_that_begins_otherwise(run: Run, kept: Path) -> None:
    """Somebody else's program has written its lines in another order."""
    run(["one"], [ok], path=kept)
    lines = kept.read_text().splitlines(keepends=True)
    kept.write_text("".join([*lines[1:], lines[0]]))
    before, result = kept.read_bytes(), Evaluation.open(kept)
    with pytest.raises(errors.UsageError, match="holds this evaluation"):
        result.to_html(kept)
    assert kept.read_bytes() == before and states(result) == ["complete"]


def recording(path: Path, client: HaloClient) -> None:
    with HaloClient(DEMO_KEY, base_url=client.base_url, record=Recorder(path)) as recorded:
        recorded.ask("Hello")


def session(path: Path, client: HaloClient) -> None:
    talk = Session()
    talk.ask(client, "Hello")
    talk.export(path.with_suffix(".json")).replace(path)


def reordered(path: Path, client: HaloClient) -> None:
    """The session as another program writes it."""
    session(path, client)
    path.write_text(json.dumps(json.loads(path.read_text()), sort_keys=True))


KINDS: dict[str, Any] = {"a recording": recording, "an exported session": session, "in its order": reordered}


@pytest.mark.parametrize("kind", ["another evaluation", *KINDS])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_report_replaces_no_other_file_of_this_package(
    writer: str, kind: str, run: Run, kept: Path, client: HaloClient
) -> None:
    """Only a report, and what it does not know."""
    other = kept.with_name("other.json")
    if kind in KINDS:
        KINDS[kind](other, client)
    else:
        run(["one"], path=other)
    result = run(["one", "two"], [ok], path=kept)
    before = other.read_bytes()
    with pytest.raises(errors.UsageError, match=r"holds an? \w+( \w+)?\. It was not changed"):
        getattr(result, writer)(other)
    assert other.read_bytes() == before
    for _ in range(2):
        getattr(result, writer)(other.with_name("report"))


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("content", ['{"message": "Hi"}\n', "message\nHi\n", "notes"])
def test_a_report_replaces_no_file_of_cases(writer: str, content: str, run: Run, kept: Path) -> None:
    """Nothing that may be one, by its name: it was collected by hand. An empty file is replaced."""
    result = run(["one"], [ok], path=kept)
    for name in ("cases.jsonl", "cases.CSV"):
        other = kept.with_name(name)
        other.write_text(content)
        with pytest.raises(errors.UsageError, match=r"may hold cases\. It was not changed"):
            getattr(result, writer)(other)
        assert other.read_text() == content
        other.write_text("")
        assert getattr(result, writer)(other).stat().st_size


@pytest.mark.parametrize("writer", WRITERS)
def test_a_report_does_not_replace_a_file_that_is_being_written(
    writer: str, run: Run, kept: Path, client: HaloClient
) -> None:
    """Neither one that is still empty, nor one in the middle of its run, which goes on."""
    result, other = run(["one"], [ok], path=kept), kept.with_name("other.jsonl")
    journal = Journal(other)
    with pytest.raises(errors.UsageError, match=r"is being written by an evaluation\. It was not changed"):
        getattr(result, writer)(other)
    assert other.read_bytes() == b""
    journal.close()
    refused = []

    def reply(request: dict[str, JSON]) -> Iterator[Step]:
        with pytest.raises(errors.UsageError, match="holds an evaluation") as raised:
            getattr(result, writer)(other)
        refused.append(str(raised.value))
        yield TextDelta("Done")

    with DemoAgent(first_byte_s=0, chunk_s=0, reply=reply) as agent:
        client = HaloClient(DEMO_KEY, base_url=agent.url)
        written = run(["one", "two", "three"], configs={"demo": client}, path=other)
    assert states(written) == ["complete"] * 3 and len(refused) == 3


def test_an_evaluation_that_begins_while_a_report_is_made_is_kept(
    run: Run, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The place is looked at again before it is replaced."""
    from halo_notebook.evaluation.report import html_page as page

    result, other = run(["one"], path=kept), kept.with_name("other.jsonl")
    write = page._write

    def slow(*given: Any) -> None:
        write(*given)
        begun = threading.Thread(target=run, args=(["one"],), kwargs={"path": other})
        begun.start()
        begun.join()

    monkeypatch.setattr(page, "_write", slow)
    with pytest.raises(errors.UsageError, match="holds an evaluation"):
        result.to_html(other)
    assert states(Evaluation.open(other)) == ["complete"]
    assert not other.with_name(".other.jsonl.part").exists()


@pytest.mark.parametrize("suffix", [".json", ".md"])
def test_an_export_replaces_only_an_export(suffix: str, run: Run, kept: Path, client: HaloClient) -> None:
    """A session that is exported again is replaced by a later state of it; as Markdown it is not JSON."""
    talk, place = Session(), kept.with_suffix(suffix)
    talk.ask(client, "Hello")
    assert talk.export(place) == talk.export(place)
    place.unlink()
    run(["one"], path=place)
    for write in (None, recording, *([session] if suffix == ".md" else [])):
        if write is not None:
            place.unlink()
            write(place, client)
        before = place.read_bytes()
        with pytest.raises(errors.UsageError, match=r"holds an? \w+( \w+)?\. It was not changed"):
            talk.export(place)
        assert place.read_bytes() == before


def test_a_recorder_and_a_file_of_cases_take_no_other_file(run: Run, kept: Path, client: HaloClient) -> None:
    """One line each, and the file is as it was."""
    talk = Session()
    talk.ask(client, "Hello")
    for write in (lambda: run(["one"], path=kept), lambda: session(kept, client)):
        kept.unlink(missing_ok=True)
        write()
        before = kept.read_bytes()
        with pytest.raises(errors.UsageError, match="is not a recording"):
            Recorder(kept)
        with pytest.raises(errors.UsageError, match="is not a file of cases"):
            keep_case(talk.as_case(), kept)
        assert kept.read_bytes() == before
