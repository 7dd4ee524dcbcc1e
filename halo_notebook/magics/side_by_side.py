"""`%%halo --configs`: one message to several configurations, whose replies stand side by side.

Each configuration has a session of its own, ``SESSION/NAME``. If one fails, the others continue, and the cell
fails at the end with one line.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ..display.text import one_line
from ..display.wording import counted, status_words
from ..errors import HaloError, InvalidRequest, ReplyStopped, UsageError
from ..evaluation.sending.configs import check_names, read_configs
from .cell import stopped, watch
from .front_end import in_notebook, takes_updates
from .output import show_json

if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractContextManager

    from IPython.core.interactiveshell import InteractiveShell

    from ..client.client import Client
    from ..client.sync import HaloClient, ReplyStream
    from ..concurrency.interrupts import InterruptInbox
    from ..reply import Reply
    from ..session import Session, SessionRegister
    from ..stream import JSON
    from .screens.columns import Columns

MAX_CONFIGS = 12
"""More columns could not be read; an evaluation takes any number."""


class MagicsContext(Protocol):
    """What this uses of the magics."""

    shell: InteractiveShell
    sessions: SessionRegister
    show_images: bool

    def client(self, timeout_s: float | None = None) -> HaloClient:
        """The client for the current settings."""

    def inbox(self) -> AbstractContextManager[InterruptInbox]:
        """Where the cell waits."""

    def note_start(self, session: Session) -> None:
        """Say what the next message of a session waits for, and what it starts."""

    def ask_for_step(self, reply: Reply) -> None:
        """Ask for Enter when a replay has paused at a step of the reply."""


class _Asked(NamedTuple):
    client: Client
    fields: Any
    session_name: str


def ask_each(
    magics: MagicsContext, message: str, fields: dict[str, Any], options: argparse.Namespace, configs: Any
) -> None:
    """Send `message` to each of `configs`, and show the replies while they arrive.

    Raises:
        InvalidRequest, UsageError: before anything is sent, when a configuration makes no sense.
        HaloError: at the end, when a reply failed or was stopped.
    """
    asked = _read(magics, fields, options, configs)
    for one in asked.values():
        one.client.prepare(message, **one.fields)  # nothing is sent before all requests are valid
    if options.dry_run:
        _show_requests(magics, message, asked, options)
        return
    if options.new:
        for one in asked.values():
            magics.sessions.new(one.session_name)
    sessions = {name: magics.sessions.get(one.session_name) for name, one in asked.items()}
    with magics.inbox() as inbox, ExitStack() as stack:
        streams: dict[str, ReplyStream] = {}
        for name, (client, given, _) in asked.items():
            magics.note_start(sessions[name])
            turn = sessions[name].turn(client, message, whole=options.no_stream, inbox=inbox, **given)
            streams[name] = stack.enter_context(turn)
        replies = {name: stream.reply for name, stream in streams.items()}
        magics.shell.user_ns["_halo"] = replies
        if options.out:
            magics.shell.user_ns[options.out] = replies
        sources = {name: one.client.source for name, one in asked.items()}
        _show(magics, streams, sessions, sources)


def _read(
    magics: MagicsContext, fields: dict[str, Any], options: argparse.Namespace, configs: Any
) -> dict[str, _Asked]:
    targets = read_configs(configs)
    if not 0 < len(targets) <= MAX_CONFIGS:
        raise InvalidRequest(
            f"--configs {options.configs} has {counted(len(targets), 'configuration')}. Nothing was sent; "
            f"give 1 to {MAX_CONFIGS}, or use evaluate."
        )
    check_names(targets)
    given = {name: value for name, value in fields.items() if value is not None}
    base = magics.sessions.current.name if options.session is None else options.session
    asked: dict[str, _Asked] = {}
    for name, target in targets.items():
        if doubled := given.keys() & target.fields.keys():
            raise UsageError(
                f"Configuration {name!r} and the options both give {min(doubled)}. Nothing was sent; leave "
                "one of them out."
            )
        if target.client is not None and options.timeout is not None:
            raise UsageError(
                f"Configuration {name!r} has a client, whose silence_timeout_s counts. Nothing was sent; "
                "leave out --timeout."
            )
        client = magics.client(options.timeout) if target.client is None else target.client
        asked[name] = _Asked(client, given | target.fields, f"{base}/{name}")
    return asked


def _show_requests(
    magics: MagicsContext, message: str, asked: dict[str, _Asked], options: argparse.Namespace
) -> None:
    requests: dict[str, JSON] = {}
    for name, (client, fields, session_name) in asked.items():
        if not options.new and session_name in magics.sessions:
            magics.sessions.get(session_name).continue_with(fields, client.base_url)
        path = "/chat" if options.no_stream else "/chat/stream"
        requests[name] = client.dry_run(client.prepare(message, **fields), path)
    show_json(magics.shell, requests, "requests, not sent")


def _show(
    magics: MagicsContext,
    streams: dict[str, ReplyStream],
    sessions: dict[str, Session],
    sources: dict[str, str],
) -> None:
    # Heavy, and needed only for replies.
    from ..display.pacer import Pacer
    from .screens.columns import NotebookColumns, TerminalColumns

    replies = {name: stream.reply for name, stream in streams.items()}

    def words(name: str) -> list[str]:
        return status_words(replies[name], source=sources[name], session=sessions[name].name)

    def metadata() -> dict[str, JSON]:
        about: dict[str, JSON] = {}
        about |= {name: sessions[name].about(reply, source=sources[name]) for name, reply in replies.items()}
        statuses = {reply.status for reply in replies.values()}
        status = next((each for each in ("stopped", "failed") if each in statuses), "complete")
        return {"status": status, "configs": about}

    def ask_for_steps() -> None:
        for reply in replies.values():
            magics.ask_for_step(reply)

    pacer = Pacer()
    screen: Columns = TerminalColumns(replies, words)
    if in_notebook(magics.shell):
        updates = takes_updates(magics.shell)
        screen = NotebookColumns(replies, pacer, words, metadata, images=magics.show_images, updates=updates)
    for stream in streams.values():
        stream.exchange.attended = True
    interrupted = False
    errors: list[HaloError] = []
    try:
        errors = watch(list(streams.values()), pacer, screen.begin, screen.paint, ask_for_steps)
    except KeyboardInterrupt:
        interrupted = True
    finally:
        for stream in streams.values():
            stream.ask_to_stop()
        for stream in streams.values():
            stream.stop()
        screen.finish()
    if interrupted or next(iter(streams.values())).inbox.stopped:
        raise _stopped(replies)
    errors += [stopped(stream) for stream in streams.values() if stream.reply.status == "stopped"]
    if errors:
        raise _failed(errors, replies)


def _stopped(replies: dict[str, Reply]) -> HaloError:
    left = any(reply.may_have_arrived for reply in replies.values())
    what = "had left, so the agents may still act on it" if left else "had not been sent"
    error = ReplyStopped(f"Stopped. The replies so far and the sessions are kept; the message {what}.")
    error.arrived = "maybe" if left else "no"
    return error


def _failed(errors: list[HaloError], replies: dict[str, Reply]) -> HaloError:
    """One error for all that failed, of their kind if they have the same."""
    kinds = {type(error) for error in errors}
    ended = [name for name, reply in replies.items() if reply.status != "complete"]
    names = ", ".join(repr(one_line(name, 40)) for name in ended)
    others = "The replies of the others are kept in _halo. " if len(ended) < len(replies) else ""
    kind = kinds.pop() if len(kinds) == 1 else HaloError
    made = kind(f"{names} did not complete. {others}First error: {errors[0]}")
    made.arrived = "maybe" if any(error.arrived == "maybe" for error in errors) else errors[0].arrived
    return made
