"""Recordings that a test writes itself, and clients that replay them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from halo_notebook import HaloClient, Reply, errors
from halo_notebook.recording.format import How, RecordedExchange
from halo_notebook.recording.recorder import Recorder
from halo_notebook.recording.replay import Pace, Replay

if TYPE_CHECKING:
    from halo_notebook.stream import JSON

KEY = "ab_live_" + "k3y" * 8
SECRET = "ha_secret_" + "s3cret" * 4


def said(
    message: str,
    *chunks: str | bytes,
    sent: str | None = None,
    session: str | None = "sess_1",
    status: int = 200,
    how: How = "whole",
    path: str = "/chat/stream",
    tries: int = 1,
    headers: dict[str, str] | None = None,
    error: str = "",
    **fields: JSON,
) -> RecordedExchange:
    """An exchange in which `message` got `chunks`, one each tenth of a second."""
    body: dict[str, JSON] = {"message": message, **({"session_id": sent} if sent else {}), **fields}
    data = [chunk.encode() if isinstance(chunk, str) else chunk for chunk in chunks]
    given = {"Content-Type": "text/plain; charset=utf-8", **({"X-Session-Id": session} if session else {})}
    return RecordedExchange(
        path=path,
        body=body,
        status=status,
        headers=given if headers is None else headers,
        head_at_s=0.1,
        chunks=tuple(((number + 2) / 10, chunk) for number, chunk in enumerate(data)),
        how=how,
        ended_at_s=(len(data) + 2) / 10,
        tries=tries,
        error=error,
    )


def recorded(path: Path, *exchanges: RecordedExchange) -> Path:
    recorder = Recorder(path)
    for exchange in exchanges:
        recorder.keep(exchange)
    assert not recorder.error
    return path


def replaying(path: Path, pace: Pace = "fast", **settings: Any) -> HaloClient:
    return HaloClient(transport=Replay(path, pace=pace), **settings)


def asked(client: HaloClient, message: str, **fields: Any) -> tuple[Reply, errors.HaloError | None]:
    """The reply to a message, and what it ended with."""
    stream = client.stream(message, **fields)
    try:
        with stream as events:
            list(events)
    except errors.HaloError as error:
        return stream.reply, error
    return stream.reply, None


def texts(client: HaloClient, *messages: str, session: str | None = None) -> list[str]:
    """The replies of a conversation, continued under the id that the server gives."""
    said = []
    for message in messages:
        reply = client.ask(message, session_id=session)
        session = reply.session_id
        said.append(reply.text)
    return said
