"""The line commands: `%halo sessions`, `%halo replay FILE` and the others, one function for each.

`COMMANDS` lists them in the order in which `%halo help` shows them.
"""

from __future__ import annotations

import getpass  # by its module: a kernel replaces the function while a cell runs
import os
import re
from collections.abc import Callable
from inspect import signature
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from IPython.core.error import StdinNotImplementedError
from IPython.display import display

from ..client.settings import checked_base_url, setting
from ..display.text import one_line
from ..display.wording import counted
from ..errors import ConfigError, UsageError
from .files import named_file
from .front_end import in_notebook
from .options import did_you_mean, option_names, words
from .output import say, show, show_json

if TYPE_CHECKING:
    import argparse

    from IPython.core.interactiveshell import InteractiveShell

    from ..client.sync import HaloClient
    from ..kernel import Connection
    from ..recording.recorder import Recorder
    from ..recording.replay import Pace
    from ..session import SessionRegister
    from ..stream import JSON

_FILE_END = re.compile(r"\.(jsonl?|md|csv)$", re.IGNORECASE)
_QUOTES_HINT = "A path or a name with spaces needs quotes. "
_PACES = {"own": "at its own pace", "fast": "without waiting", "step": "step by step"}


class CommandContext(Protocol):
    """What a command uses of the magics."""

    shell: InteractiveShell
    connection: Connection
    sessions: SessionRegister
    demo_announced: bool
    api_key: Any
    base_url: str | None
    parser: argparse.ArgumentParser
    help_text: str

    def client(self) -> HaloClient:
        """The client for the current settings."""

    def send(self, prompt: str, line: str) -> None:
        """Send a message and show its reply."""

    def expanded(self, text: str) -> str:
        """`text` with each `{{ expression }}` replaced by its value."""


def run_command(magics: CommandContext, line: str) -> None:
    """Run the command that a `%halo` line names; an empty line shows where things stand."""
    name, rest = [*line.split(maxsplit=1), "", ""][:2]
    name, rest = name.lower(), rest.strip()
    name = "help" if name in ("-h", "--help") else name
    if not name:
        where(magics)
        return
    if name not in COMMANDS:
        raise UsageError(
            f"%halo has no command {name!r}. Nothing was sent; "
            + did_you_mean(name, list(COMMANDS), f"the commands are {', '.join(COMMANDS)}.")
        )
    run = COMMANDS[name].run
    if name == "ask":  # a message is not divided into words
        run(magics, rest)
        return
    rest = magics.expanded(rest)
    try:
        given = words(rest)
        _check_quotes(magics, name, given)
        signature(run).bind(magics, *given)
    except ValueError as error:
        raise _wrong_usage(name, f"{error}. ") from None
    except TypeError:
        raise _wrong_usage(name, _QUOTES_HINT if len(given) > 1 else "") from None
    if not all(word.strip() for word in given):
        raise _wrong_usage(name)
    run(magics, *given)


def _check_quotes(magics: CommandContext, command: str, given: list[str]) -> None:
    """Raise `UsageError` where the words of a path without quotes would be read as a path and a name."""
    if "FILE" not in COMMANDS[command].form or not given:
        return
    if os.path.isfile(named_file(given[0])):  # noqa: PTH113  # Path's raises for a name that is too long
        return
    end = next((at for at, word in enumerate(given) if _FILE_END.search(word)), 0)  # 0 also for a whole name
    if end and given[end] not in magics.sessions:
        path = " ".join(given[: end + 1])
        quoted = f'"{path}"' if "'" in path else f"'{path}'"
        raise UsageError(
            f"A path with spaces needs quotes. Nothing was changed; run %halo {command} {quoted}."
        )


def where(magics: CommandContext) -> None:
    """Print which agent answers, and the current session."""
    try:
        client = magics.client()
        target = f"{client.source}, {client.base_url}" if client.source else client.base_url
        if magics.connection.replay is not None:
            target = f"{client.source}, {_PACES[magics.connection.replay.pace]}"
    except ConfigError as error:  # a wrong setting is part of the answer
        target = f"none: {error}"
    session = magics.sessions.current
    say(f"target   {target}")
    if (recorder := magics.connection.recorder) is not None:
        say(f"record   {_recorded(recorder)}")
    say(f"agent    {_shown(session.agent_id) or 'not named yet'}")
    say(
        f"session  {_shown(session.name)}: {_shown(session.session_id) or 'no id yet'}, "
        f"{counted(len(session.turns), 'turn')}"
    )
    if note := session.start_note():
        say(f"         the next message starts {note}")


def _ask(magics: CommandContext, text: str) -> None:
    word = text.split(maxsplit=1)[0] if text else ""
    names = option_names(magics.parser)
    if word.partition("=")[0] in names or (re.match(r"-[a-z]", word) and word[:2] in names):
        raise UsageError("%halo ask takes no options. Nothing was sent; use them with %%halo.")
    magics.send(text, "")


def _panel(magics: CommandContext, name: str | None = None) -> None:
    if not in_notebook(magics.shell):
        raise UsageError("A panel needs a notebook. Nothing was changed; %halo ask works here.")
    from ..panel.widget import ChatPanel  # heavy: needed for a panel only

    display(ChatPanel(magics.sessions.current.name if name is None else name))


def _sessions(magics: CommandContext) -> None:
    rows = [("", "name", "session id", "agent", "turns")]
    for name in magics.sessions:
        session = magics.sessions[name]
        mark = "*" if session is magics.sessions.current else ""
        ids = (_shown(session.session_id) or "-", _shown(session.agent_id) or "-")
        rows.append((mark, _shown(name), *ids, str(len(session.turns))))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        say("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())


def _new(magics: CommandContext, name: str | None = None) -> None:
    before = {each: magics.sessions[each] for each in magics.sessions}
    session = magics.sessions.new(name)
    magics.sessions.use(session.name)
    old = before.get(session.name)
    kept = f" The one before is kept as {old.name!r}." if old and old.name != session.name else ""
    say(f"Session {session.name!r} starts a new conversation.{kept}")


def _use(magics: CommandContext, name: str) -> None:
    session = magics.sessions.use(name)
    conversation = _shown(session.session_id) or "a new conversation"
    say(f"Turns now go to session {session.name!r} ({conversation}).")


def _resume(magics: CommandContext, session_id: str, name: str | None = None) -> None:
    session = magics.sessions.resume(session_id, name, target=magics.client().base_url)
    magics.sessions.use(session.name)
    say(f"Session {session.name!r} continues {_shown(session_id)}.")


def _history(magics: CommandContext, name: str | None = None) -> None:
    from ..display.bundles import reply_bundle, turn_bundle  # heavy
    from ..display.wording import status_words

    session = magics.sessions.current if name is None else magics.sessions[name]
    if not session.turns:
        say(f"Session {session.name!r} has no turns yet.")
    for turn in session.turns:
        reply = turn.reply
        line = status_words(reply, source=turn.source, session=session.name)
        bundle = turn_bundle(turn.masked_message, reply_bundle(reply, line))
        show(magics.shell, bundle, {"halo": session.about(reply, source=turn.source)})


def _export(magics: CommandContext, file: str, name: str | None = None) -> None:
    session = magics.sessions.current if name is None else magics.sessions[name]
    say(f"Wrote {session.export(file)}.")


def _open(magics: CommandContext, file: str, name: str | None = None) -> None:
    from ..session import Session

    path = named_file(file)
    before = list(magics.sessions)
    session = magics.sessions.add(Session.load(path), one_line(path.stem, 100) if name is None else name)
    magics.sessions.use(session.name)
    kept = [each for each in magics.sessions if each not in before and each != session.name]
    say(
        f"Opened {path.name!r} as session {session.name!r} ({counted(len(session.turns), 'turn')}). Its next "
        f"message starts {session.start_note()}. %halo history shows the turns."
        + "".join(f" The session that had this name is kept as {each!r}." for each in kept)
    )


def _keep(magics: CommandContext, file: str, name: str | None = None) -> None:
    from ..evaluation.cases.keeping import keep_case

    session = magics.sessions.current if name is None else magics.sessions[name]
    case = session.as_case()
    say(str(keep_case(case, named_file(file))))
    if case.metadata.get("resumed"):
        say("The case begins where the conversation was resumed: the messages before are not known here.")


def _connect(magics: CommandContext, url: str | None = None) -> None:
    base_url = checked_base_url(url) if url is not None else magics.base_url
    if setting("api_key") is None:
        magics.api_key = _typed_key()
    magics.base_url = base_url
    magics.connection.demo_wanted = False
    magics.connection.stop_replay()
    where(magics)


def _typed_key() -> str:
    try:
        key = getpass.getpass("Halo widget key (ab_live_…): ")
    except (StdinNotImplementedError, EOFError):
        raise ConfigError(
            "There is no API key, and this front end cannot ask for one. Nothing was changed; set "
            "HALO_API_KEY before the kernel starts."
        ) from None
    except KeyboardInterrupt:
        key = ""
    if not key.strip():
        raise ConfigError("No key was given. Nothing was changed; run %halo connect again.")
    return key


def _demo(magics: CommandContext, what: str) -> None:
    match what.lower():
        case "start":
            magics.connection.demo_wanted = magics.demo_announced = True
            magics.connection.stop_replay()
            say(f"The demo agent answers at {magics.connection.start_demo()}.")
        case "stop":
            magics.connection.demo_wanted = False
            magics.connection.stop_demo()
            say("The demo agent is stopped. %halo connect uses Halo; %halo demo start starts it again.")
        case _:
            raise _wrong_usage("demo")


def _record(magics: CommandContext, file: str) -> None:
    recorder = magics.connection.recorder
    if file.lower() == "stop":
        if recorder is None:
            raise UsageError("Nothing is being recorded. Nothing was changed; %halo record FILE starts it.")
        magics.connection.recorder = None
        say(f"The recording has ended: {_recorded(recorder)}.")
    else:
        recorder = magics.connection.start_recording(file)
        after = f", after the {counted(recorder.count, 'exchange')} there" if recorder.count else ""
        say(f"Recording to {recorder.path.name!r}{after}. %halo record stop ends it.")


def _replay(magics: CommandContext, *given: str) -> None:
    paces = [word.removeprefix("--") for word in given if word in ("--fast", "--step")]
    files = [word for word in given if not word.startswith("--")]
    if len(files) != 1 or len(paces) + 1 != len(given):
        raise _wrong_usage("replay", _QUOTES_HINT if len(files) > 1 else "")
    if files[0].lower() == "stop":
        if paces or magics.connection.replay is None:
            raise UsageError("Nothing is being replayed. Nothing was changed; %halo replay FILE starts it.")
        magics.connection.stop_replay()
        say("The replay has ended. %halo says which agent answers now.")
        return
    recorder = magics.connection.recorder
    replay = magics.connection.start_replay(named_file(files[0]), cast("Pace", paces[0] if paces else "own"))
    if recorder is not None:
        say(f"The recording has ended: {_recorded(recorder)}.")
    recording = f"{replay.path.name!r} ({counted(len(replay.exchanges), 'exchange')})"
    say(f"{recording} answers from now on, {_PACES[replay.pace]}. %halo replay stop ends it.")


def _step(magics: CommandContext) -> None:
    replay = magics.connection.replay
    if replay is None or replay.pace != "step":
        raise UsageError("No replay runs step by step. Nothing was changed; run %halo replay FILE --step.")
    if not replay.step():
        say("No turn waits for a step just now.")


def _status(magics: CommandContext) -> None:
    sessions = magics.sessions
    state: dict[str, JSON] = {"current_session": sessions.current.name}
    state["sessions"] = {name: sessions[name].summary() for name in sessions}
    try:
        client = magics.client()
        state |= {"source": client.source, "client": client.debug()}
    except ConfigError as error:
        state["client"] = str(error)
    if (recorder := magics.connection.recorder) is not None:
        file, count, lost = str(recorder.path), recorder.count, recorder.lost
        state["recording"] = {"file": file, "exchanges": count, "lost": lost, "error": recorder.error}
    if (replay := magics.connection.replay) is not None:
        file, exchanges = str(replay.path), len(replay.exchanges)
        state["replay"] = {"file": file, "exchanges": exchanges, "pace": replay.pace}
    show_json(magics.shell, state, "halo status")


def _help(magics: CommandContext, *_: str) -> None:
    say(magics.help_text)


class Command(NamedTuple):
    """A line command: its form in `%halo help`, what it does, and its function, which takes its words."""

    form: str
    meaning: str
    run: Callable[..., None]


COMMANDS = {
    "ask": Command("ask TEXT", "send TEXT, as %%halo sends its cell", _ask),
    "panel": Command("panel [NAME]", "show a chat panel on a session", _panel),
    "sessions": Command("sessions", "list the sessions of this kernel", _sessions),
    "new": Command("new [NAME]", "start a new conversation; the old one is kept as NAME-1", _new),
    "use": Command("use NAME", "make NAME the current session", _use),
    "resume": Command("resume ID [NAME]", "continue the conversation with that session id", _resume),
    "history": Command("history [NAME]", "show a session's turns", _history),
    "export": Command("export FILE [NAME]", "write a session to FILE (.md or .json)", _export),
    "open": Command("open FILE [NAME]", "open an exported session (.json), to show and continue it", _open),
    "keep": Command("keep FILE [NAME]", "add a session's conversation to a file of cases (.jsonl)", _keep),
    "connect": Command("connect [BASE_URL]", "use Halo; asks for the key when none is set", _connect),
    "demo": Command("demo start|stop", "use the demo agent, or stop it", _demo),
    "record": Command("record FILE|stop", "record all exchanges in FILE from now on, or stop", _record),
    "replay": Command(
        "replay FILE|stop [--fast | --step]", "answer from a recording: fast or step by step", _replay
    ),
    "step": Command("step", "let a replay with --step continue where a turn waits", _step),
    "status": Command("status", "show all settings and sessions; secrets show as 'set'", _status),
    "help": Command("help", "show this text", _help),
}


def commands_help() -> str:
    """The list of line commands for `%halo help`."""
    lines = [("", "show which agent answers, and the current session")]
    lines += [(command.form, command.meaning) for command in COMMANDS.values()]
    width = max(len(form) for form, _ in lines)
    shown = (f"  %halo {form:<{width}}  {meaning}" for form, meaning in lines)
    return "\n".join(["line commands:", *shown])


def _wrong_usage(command: str, why: str = "") -> UsageError:
    return UsageError(f"{why}Usage: %halo {COMMANDS[command].form}. Nothing was changed.")


def _recorded(recorder: Recorder) -> str:
    """A recording in a line: its file, how many exchanges it holds, and what it lacks."""
    lacks = f"; {recorder.error}" if recorder.error else ""
    return f"{recorder.path.name!r}, {counted(recorder.count, 'exchange')}{lacks}"


def _shown(text: str | None) -> str:
    """A name or id as it may be printed: ids come from the server."""
    return one_line(text or "", 60)
