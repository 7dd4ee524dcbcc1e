"""A file that is not a recording is refused as a whole, with its line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from halo_notebook import errors
from halo_notebook.client.transports.protocol import Outgoing
from halo_notebook.recording.format import FORMAT, read_recording
from halo_notebook.recording.recorder import Recorder
from halo_notebook.recording.replay import Replay

from .recordings import asked, recorded, replaying, said


def changed(**parts: Any) -> str:
    """A good line with some of its parts changed; ``…`` takes one out."""
    line: dict[str, Any] = said("Hello", "hi").to_line()
    for place, value in parts.items():
        *way, name = place.split("__")
        inner = line
        for key in way:
            inner = inner[key]
        if value is ...:
            del inner[name]
        else:
            inner[name] = value
    return json.dumps(line)


INVALID = {
    "no JSON": "<script>window.__halo_pwned='x'</script>",
    "not an object": "[1, 2]",
    "NaN": '{"at": NaN}',
    "nested too deep": "[" * 100_000,
    "no request": changed(request=...),
    "no message": changed(request__body={}),
    "blank message": changed(request__body={"message": " "}),
    "body no object": changed(request__body="Hello"),
    "path no path": changed(request__path="chat"),
    "no answer and whole": changed(response=None),
    "answer no object": changed(response=[]),
    "status a bool": changed(response__status=True),
    "status beyond": changed(response__status=1000),
    "status of no end": changed(response__status=101),
    "header no text": changed(response__headers={"X-Session-Id": 1}),
    "chunks an object": changed(chunks={}),
    "chunk of three": changed(chunks=[[0.2, "hi", 1]]),
    "chunk a number": changed(chunks=[[0.2, 1]]),
    "bad base64": changed(chunks=[[0.2, {"base64": "!"}]]),
    "time a text": changed(chunks=[["0.2", "hi"]]),
    "time before": changed(response__at_s=-1),
    "time endless": changed(ended__at_s=10**400),
    "a number beyond": '{"at": 1e999}',
    "times backwards": changed(chunks=[[0.25, "h"], [0.2, "i"]]),
    "end of no kind": changed(ended__how="__class__"),
    "try a text": changed(**{"try": "1"}),
    "error no text": changed(ended__error=1),
    "may_have_arrived no bool": changed(ended__may_have_arrived="no"),
}


@pytest.mark.parametrize("line", INVALID.values(), ids=INVALID)
def test_an_invalid_line_is_refused(line: str, path: Path) -> None:
    """One line names the file, the line and what is wrong with it, and holds nothing of what stands there."""
    recorded(path, said("Hello", "hi"))
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    with pytest.raises(errors.UsageError) as caught:
        Replay(path)
    assert str(caught.value).startswith("'demo.jsonl' cannot be replayed: line 3 is not valid (")
    assert "Nothing was changed" in str(caught.value) and "\n" not in str(caught.value)
    assert "script" not in str(caught.value)


VERSIONS = [f'{{"halo_recording": {version}}}' for version in ("0", "true", '"1"', FORMAT + 1)]


@pytest.mark.parametrize("content", ["notes", '{"a": 1}', "[]", "", "\xff", *VERSIONS])
def test_a_file_that_is_not_a_recording_is_left_alone(content: str, path: Path) -> None:
    """Nothing is added to it, nor is it replayed, nor one of a later format, whose number is named."""
    path.write_text(f"{content}\n", encoding="latin-1")
    later = content == VERSIONS[-1]
    why = "was recorded by a later version .*format 2" if later else "is not a recording: line 1 "
    for use in (Recorder, Replay):
        with pytest.raises(errors.UsageError, match=rf"'demo\.jsonl' {why}"):
            use(path)
    assert path.read_text(encoding="latin-1") == f"{content}\n"


def test_an_empty_or_too_large_recording_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty recording answers nothing; a huge one, or a path that is not a file, is refused."""

    def refused(words: str, path: Path, pace: Any = "own") -> None:
        with pytest.raises(errors.UsageError, match=words):
            Replay(path, pace=pace)

    path.touch()
    refused("the file is empty", path)
    Recorder(path)
    refused("holds no exchange yet", path)
    refused("could not be read", path.parent)
    refused(r"could not be read \(No such file", path.parent / "missing")
    refused("The pace must be one of own, fast, step", path, "slow")
    monkeypatch.setattr("halo_notebook.recording.format.MAX_FILE_BYTES", 10)
    refused("a recording may have 10", path)


def test_unknown_headers_and_errors_have_no_effect(path: Path) -> None:
    """Headers that no client reads and exceptions that no transport raises have no effect."""
    line = json.loads(changed(response__headers={"Location": "https://evil.example", "X-Agent-Id": "a"}))
    line["ended"] |= {"how": "broken", "error": "SystemExit", "why": "\x1b[31mboo"}
    path.write_text(f'{{"halo_recording": 1}}\n{json.dumps(line)}\n')
    (exchange,) = read_recording(path)
    assert exchange.headers == {"X-Agent-Id": "a"}
    reply, error = asked(replaying(path), "Hello")
    assert isinstance(error, errors.ReplyInterrupted) and "\x1b" not in str(error)
    assert reply.text == "hi"


def test_only_chat_requests_are_answered(path: Path) -> None:
    """A request of another kind gets a line, not a traceback of this package's."""
    transport = Replay(recorded(path, said("Hello", "hi")))
    with pytest.raises(errors.UsageError, match="answers only chat requests"):
        asyncio.run(transport.send(Outgoing("https://x/config", {}, b"", connect_s=1, silence_s=1)))
