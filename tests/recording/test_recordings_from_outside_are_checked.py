"""A file that is not a recording is refused as a whole, with its line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

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


HOSTILE = {
    "no JSON": "{oops}",
    "script": "<script>window.__halo_pwned='x'</script>",
    "not an object": "[1, 2]",
    "NaN": '{"at": NaN}',
    "nested too deep": "[" * 100_000,
    "blank": " ",
    "no request": changed(request=...),
    "no message": changed(request__body={}),
    "blank message": changed(request__body={"message": " "}),
    "message no text": changed(request__body={"message": 1}),
    "body no object": changed(request__body="Hello"),
    "path no path": changed(request__path="chat"),
    "no answer and whole": changed(response=None),
    "answer no object": changed(response=[]),
    "status a text": changed(response__status="200"),
    "status a bool": changed(response__status=True),
    "status beyond": changed(response__status=1000),
    "status of no end": changed(response__status=101),
    "header no text": changed(response__headers={"X-Session-Id": 1}),
    "headers a list": changed(response__headers=[["X-Session-Id", "1"]]),
    "no chunks": changed(chunks=...),
    "chunks an object": changed(chunks={}),
    "chunk a text": changed(chunks=["hi"]),
    "chunk of three": changed(chunks=[[0.2, "hi", 1]]),
    "chunk a number": changed(chunks=[[0.2, 1]]),
    "bad base64": changed(chunks=[[0.2, {"base64": "!"}]]),
    "time a text": changed(chunks=[["0.2", "hi"]]),
    "time before": changed(chunks=[[-1, "hi"]]),
    "time beyond": changed(chunks=[[1e300, "hi"]]),
    "time endless": changed(chunks=[[10**400, "hi"]]),
    "a number beyond": '{"at": 1e999}',
    "times backwards": changed(chunks=[[0.25, "h"], [0.2, "i"]]),
    "no end": changed(ended=...),
    "end of no kind": changed(ended__how="__class__"),
    "try a text": changed(**{"try": "1"}),
    "error no text": changed(ended__error=1),
    "may_have_arrived no bool": changed(ended__may_have_arrived="no"),
}


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
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


def test_recordings_of_other_versions(path: Path) -> None:
    """A later format is refused, with its number; so is a file without any."""
    path.write_text(f'{{"halo_recording": {FORMAT + 1}}}\n')
    with pytest.raises(errors.UsageError, match=r"'demo\.jsonl' was recorded by a later version .*format 2"):
        Replay(path)
    for head in ('{"halo_recording": 0}', '{"halo_recording": true}', '{"halo_recording": "1"}'):
        path.write_text(f"{head}\n")
        with pytest.raises(errors.UsageError, match="line 1 is not valid"):
            Replay(path)


def test_an_empty_or_too_large_recording_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty recording answers nothing; a huge one, or a path that is not a file, is refused."""
    Recorder(path)
    with pytest.raises(errors.UsageError, match="holds no exchange yet"):
        Replay(path)
    with pytest.raises(errors.UsageError, match="could not be read"):
        Replay(path.parent)
    with pytest.raises(errors.UsageError, match=r"could not be read \(No such file"):
        Replay(path.parent / "missing")
    with pytest.raises(errors.UsageError, match="The pace must be one of own, fast, step"):
        Replay(path, pace=cast(Any, "slow"))
    monkeypatch.setattr("halo_notebook.recording.format.MAX_FILE_BYTES", 10)
    with pytest.raises(errors.UsageError, match="a recording may have 10"):
        Replay(path)


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

    async def got() -> None:
        def outgoing(path: str, body: bytes) -> Outgoing:
            return Outgoing(f"https://x{path}", {}, body, connect_s=1, silence_s=1)

        answer = await transport.send(outgoing("/chat/stream", b'{"message": "Hello"}'))
        assert [chunk async for chunk in answer.chunks()] == [b"hi"]
        await transport.send(outgoing("/config", b""))

    with pytest.raises(errors.UsageError, match="answers only chat requests"):
        asyncio.run(got())
