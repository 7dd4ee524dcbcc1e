"""`%halo` and `%%halo`: arguments in, calls out.

The magics hold what belongs to the kernel: the settings, the register of sessions and the
demo agent. They decide nothing about the wire, a conversation or what is shown.
"""

from __future__ import annotations

import argparse
import difflib
import getpass  # by its module: a kernel replaces the function while a cell runs
import keyword
import re
import shlex
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from IPython.core.error import StdinNotImplementedError
from IPython.core.error import UsageError as IPythonUsageError
from IPython.core.inputtransformer2 import EscapedCommand
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments
from IPython.display import display, publish_display_data
from traitlets import Bool, Float, TraitType, Unicode

from ..client.exchange import CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S
from ..client.request import image_url
from ..client.settings import Secret, checked_base_url, checked_key, checked_token, setting
from ..concurrency.loop import resolve
from ..errors import ConfigError, UsageError
from ..kernel import shared_by
from ..reply import counted
from .template import expand

if TYPE_CHECKING:
    from types import CodeType

    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    from ..client.exchange import HaloClient
    from ..recording.recorder import Pace, Recorder
    from ..reply import Reply
    from ..stream import JSON

COMMANDS = {
    "ask": "ask TEXT               send TEXT, as %%halo sends its cell",
    "panel": "panel [NAME]           show a chat panel on a session",
    "sessions": "sessions               list the sessions of this kernel",
    "new": "new [NAME]             start a new conversation; the old one is kept as NAME-1",
    "use": "use NAME               make NAME the session that turns go to",
    "resume": "resume ID [NAME]       continue the conversation with that session id",
    "history": "history [NAME]         show a session's turns",
    "export": "export FILE [NAME]     write a session to FILE (.md or .json)",
    "connect": "connect [BASE_URL]     use Halo; asks for the key when none is set",
    "demo": "demo start|stop        use the demo agent, or stop it",
    "record": "record FILE|stop       keep what is said from now on in FILE, or end that",
    "replay": "replay FILE|stop       answer from a recording; --fast without waiting, --step by steps",
    "step": "step                   let a replay by steps go on, where a turn waits for it",
    "status": "status                 where things stand, in full; secrets as 'set'",
    "help": "help                   this text",
}


_PACES = {"own": "at its own pace", "fast": "without waiting", "step": "by steps"}


class _SecretTrait(TraitType[Any, Any]):
    """A setting that shows as 'set' wherever it is printed."""

    def __init__(self, check: Callable[[str], Secret], meaning: str) -> None:
        super().__init__(default_value=None, allow_none=True, help=meaning)
        self.check = check

    def validate(self, obj: Any, value: Any) -> Any:
        if value is None or isinstance(value, Secret) or callable(value):
            return value
        if isinstance(value, str):
            return self.check(value) if value.strip() else None
        raise ConfigError(f"{self.name} must be a string. Nothing was changed.")


class _AskLine(EscapedCommand):
    """Keeps ``%halo ask …?`` a message: IPython takes a line's last '?' for a call for help."""

    priority = 1  # before that reading, which has 5

    @classmethod
    def find(cls, tokens_by_line: list[list[Any]]) -> _AskLine | None:
        for line in tokens_by_line:
            first = next((token for token in line if token.string.strip()), None)
            if first and re.match(r"%halo\s+ask\s.*\?\s*$", first.line[first.start[1] :]):
                return cls(first.start)
        return None


class _Once(argparse.Action):
    """Refuses an option that is given twice: the last one winning would surprise."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: Any = None
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option} is given twice")
        setattr(namespace, self.dest, values)


@magics_class
class HaloMagics(Magics):
    """`%halo`, `%%halo` and their settings.

    A setting given here goes before the environment's HALO_… variable of the same name:
    ``%config HaloMagics.user_id = "u_1"``.
    """

    api_key = _SecretTrait(checked_key, "widget key (ab_live_…); shows as 'set'").tag(config=True)
    base_url = Unicode(None, allow_none=True, help="https address of the API").tag(config=True)
    user_id = Unicode(None, allow_none=True, help="the user's id in your system").tag(config=True)
    user_token = _SecretTrait(
        checked_token, "a JWT for user_id, or a callable that returns one; shows as 'set'"
    ).tag(config=True)
    agent_id = Unicode(None, allow_none=True, help="pins one agent").tag(config=True)
    connect_timeout_s = Float(CONNECT_TIMEOUT_S, help="seconds to wait for a connection").tag(config=True)
    silence_timeout_s = Float(SILENCE_TIMEOUT_S, help="seconds of silence before a reply fails").tag(
        config=True
    )
    show_images = Bool(
        False, help="show remote images in replies; an image's address can carry data out"
    ).tag(config=True)

    shell: InteractiveShell  # never None here: `load` gives it

    def __init__(self, shell: InteractiveShell) -> None:
        super().__init__(shell, parent=shell)
        # On the shell, so that a reloaded extension goes on with them.
        self.connection, self.sessions = shared_by(shell)
        self._demo_announced = False

    def update_config(self, config: Config) -> None:
        """Take in settings from `%config`.

        Secrets are set here and not left in the config, which is kept, printed and copied: a copy
        of a method would be another object's.
        """
        own = config.get(type(self).__name__, {})
        for name, trait in self.traits(config=True).items():
            if isinstance(trait, _SecretTrait) and name in own:
                setattr(self, name, own.pop(name))
        super().update_config(config)

    @classmethod
    def load(cls, shell: InteractiveShell) -> HaloMagics:
        """Register the magics with `shell`, or return those it has."""
        magics = shell.magics_manager.registry.get(cls.__name__)
        if magics is None:
            magics = cls(shell)
            shell.register_magics(magics)
            shell.input_transformer_manager.token_transformers.append(_AskLine)
            cast("list[Any]", shell.configurables).append(magics)  # typed as holding shells alone
        return cast(HaloMagics, magics)

    @classmethod
    def unload(cls, shell: InteractiveShell) -> None:
        """Take the magics out of `shell`, and stop the demo agent, a replay and a recording."""
        magics = shell.magics_manager.registry.pop(cls.__name__, None)
        if magics is not None:
            magics.connection.stop_demo()
            magics.connection.stop_replay()
            magics.connection.recorder = magics.connection.demo_wanted = None
            transformers = shell.input_transformer_manager.token_transformers
            # By name: a class that was reloaded is not the one that was added.
            transformers[:] = [each for each in transformers if each.__name__ != _AskLine.__name__]
            shell.configurables[:] = [each for each in shell.configurables if each is not magics]
            for kind in ("line", "cell"):
                shell.magics_manager.magics[kind].pop("halo", None)

    @no_var_expand  # IPython would take single braces for its own
    @magic_arguments()
    @argument("-s", "--session", metavar="NAME", action=_Once, help="session to go on with; made when new")
    @argument("--new", action="store_true", help="start a new conversation in that session")
    @argument("-a", "--agent", metavar="ID", action=_Once, help="agent to answer")
    @argument("-u", "--user", metavar="ID", action=_Once, help="user id to send")
    @argument("--company", metavar="ID", action=_Once, help="company id to send")
    @argument("-m", "--mode", metavar="MODE", action=_Once, help="chat, voice, video or livehelp")
    @argument(
        "-c",
        "--context",
        metavar="VAR",
        action="append",
        help="variable to send as context: an entry {label, value}, a value, or a DataFrame; repeatable",
    )
    @argument(
        "-f", "--fields", metavar="VAR", action=_Once, help="variable (a dict) to send as custom fields"
    )
    @argument(
        "--history", metavar="VAR", action=_Once, help="variable (a list) to send as conversation history"
    )
    @argument(
        "--behavior", metavar="VAR", action=_Once, help="variable (a string) to send as behavior context"
    )
    @argument(
        "-i",
        "--image",
        metavar="PATH|URL|VAR",
        action="append",
        help="image to send: a file, a URL, or a variable that holds one; repeatable",
    )
    @argument(
        "-o", "--out", metavar="NAME", action=_Once, help="variable to put the reply in; _halo holds the last"
    )
    @argument("--no-stream", action="store_true", help="ask for the reply in one piece")
    @argument(
        "--timeout", metavar="S", action=_Once, type=float, help="seconds of silence before the reply fails"
    )
    @argument(
        "--dry-run", action="store_true", help="show the exact request, secrets as 'set', and send nothing"
    )
    @argument("--raw", action="store_true", help="send {{ … }} as typed, not its value")
    @line_cell_magic
    def halo(self, line: str, cell: str | None = None) -> None:
        """Send the cell to a Halo agent and show its reply as it arrives.

        `{{ expression }}` in the cell is replaced by its value from the notebook.
        """
        if cell is None:
            self._command(line)
        else:
            self._send(cell, self._options(line))

    # --- A message ---

    def _options(self, line: str) -> argparse.Namespace:
        parser = type(self).halo.parser
        try:
            options, unknown = parser.parse_known_args(_words(line))
        except (IPythonUsageError, ValueError) as error:
            raise UsageError(f"%%halo: {error}. Nothing was sent; %halo help lists the options.") from None
        if unknown:
            raise UsageError(
                f"%%halo has no option {unknown[0]!r}. Nothing was sent; "
                + _did_you_mean(unknown[0], _option_names(parser), "%halo help lists the options.")
            )
        if options.session is not None and not options.session.strip():
            raise UsageError("--session needs a name. Nothing was sent; give one.")
        if options.out is not None and (not options.out.isidentifier() or keyword.iskeyword(options.out)):
            raise UsageError(f"--out {options.out!r} is no variable name. Nothing was sent; give another.")
        return cast(argparse.Namespace, options)

    def _send(self, prompt: str, options: argparse.Namespace) -> None:
        from .cell import NotebookScreen, Pacer, TerminalScreen, follow  # heavy: needed for a reply only

        message = prompt.strip("\n")
        if not options.raw:
            message = expand(message, self._value)
        fields = self._fields(options)
        client, source = self._client(options.timeout)
        recorder = self.connection.recorder
        lost = recorder.lost if recorder else 0
        if options.dry_run:
            if not options.new and options.session in (None, *self.sessions):
                fields["session_id"] = self.sessions.get(options.session).id_for(client.base_url)
            path = "/chat" if options.no_stream else "/chat/stream"
            self._show_json(client.dry_run(client.prepare(message, **fields), path), "request, not sent")
            return
        if options.new:
            client.prepare(message, **fields)  # a request that is refused starts no conversation
            self.sessions.new(options.session)
        session = self.sessions.get(options.session)
        with session.turn(client, message, whole=options.no_stream, **fields) as stream:
            reply = stream.reply
            self.shell.user_ns["_halo"] = reply
            if options.out:
                self.shell.user_ns[options.out] = reply
            pacer = Pacer()
            screen = (
                NotebookScreen(
                    reply, pacer, lambda: session.about(reply, source=source), images=self.show_images
                )
                if self._in_notebook
                else TerminalScreen(reply)
            )
            stream.attended = True
            try:
                follow(
                    stream,
                    screen,
                    pacer,
                    when_shown=lambda: self._ask_for_step(reply),
                    source=source,
                    session=session.name,
                )
            finally:
                if recorder is not None and recorder.lost > lost:
                    self._show_line(recorder.error)

    def _fields(self, options: argparse.Namespace) -> Any:
        fields: dict[str, Any] = {
            "agent_id": options.agent,
            "user_id": options.user,
            "company_id": options.company,
            "mode": options.mode,
        }
        for option, name in (
            ("fields", "custom_fields"),
            ("history", "conversation_history"),
            ("behavior", "behavior_context"),
        ):
            if (variable := getattr(options, option)) is not None:
                fields[name] = self._variable(variable, f"--{option}")
        if options.context:
            fields["context"] = {name: self._variable(name, "--context") for name in options.context}
        if options.image:
            fields["images"] = [image_url(self._image(word)) for word in options.image]
        return fields

    def _value(self, code: CodeType) -> Any:
        """The value of the user's own code in the notebook; what it gives may be awaitable."""
        return resolve(eval(code, self.shell.user_global_ns, self.shell.user_ns))  # noqa: S307

    def _variable(self, name: str, option: str) -> Any:
        try:
            return self.shell.user_ns[name]
        except KeyError:
            raise UsageError(
                f"There is no variable {name!r} for {option}. Nothing was sent; "
                + _did_you_mean(name, self.shell.user_ns, "define it first.")
            ) from None

    def _image(self, word: str) -> Any:
        image = self.shell.user_ns.get(word, word)
        is_path = isinstance(image, str) and "://" not in image and not image.startswith("data:")
        return Path(image) if is_path else image

    # --- The agent that answers ---

    def _client(self, timeout_s: float | None = None) -> tuple[HaloClient, str]:
        """The client for the settings as they are now, and who answers where that is not Halo."""
        client, source = self.connection.client(timeout_s)
        if self.connection.uses_demo:
            self._announce_demo()
        return client, source

    def _announce_demo(self) -> None:
        if not self._demo_announced and self.connection.demo_wanted is None:
            self._show_line(
                "No HALO_API_KEY is set, so the demo agent answers: scripted, on this machine. "
                "%halo connect asks for a key."
            )
        self._demo_announced = True

    # --- Line commands ---

    def _command(self, line: str) -> None:
        word, rest = [*line.split(maxsplit=1), "", ""][:2]
        word, rest = word.lower() or "where", rest.strip()
        if word in ("-h", "--help"):
            word = "help"
        if word != "where" and word not in COMMANDS:
            raise UsageError(
                f"%halo has no command {word!r}. Nothing was sent; "
                + _did_you_mean(word, COMMANDS, f"the commands are {', '.join(COMMANDS)}.")
            )
        getattr(self, f"_do_{word}")(rest)

    def _do_where(self, rest: str) -> None:
        try:
            client, source = self._client()
            target = client.base_url if not source else f"{source}, {client.base_url}"
            if self.connection.replay is not None:
                target = f"{source}, {_PACES[self.connection.replay.pace]}"
        except ConfigError as error:  # to say where things stand is no reason to fail
            target = f"none: {error}"
        session = self.sessions.current
        print(f"target   {target}")
        if (recorder := self.connection.recorder) is not None:
            print(f"record   {_recorded(recorder)}")
        print(f"agent    {_shown(session.agent_id) or 'not named yet'}")
        turns = len(session.turns)
        print(
            f"session  {_shown(session.name)}: {_shown(session.session_id) or 'no id yet'}, "
            f"{turns} turn{'' if turns == 1 else 's'}"
        )

    def _do_ask(self, rest: str) -> None:
        word = rest.split(maxsplit=1)[0] if rest else ""
        names = _option_names(type(self).halo.parser)
        if word.partition("=")[0] in names or (re.match(r"-[a-z]", word) and word[:2] in names):
            raise UsageError("%halo ask takes no options. Nothing was sent; use them with %%halo.")
        self._send(rest, self._options(""))

    def _do_panel(self, rest: str) -> None:
        name = self._at_most_one("panel", rest)
        if not self._in_notebook:
            raise UsageError("A panel needs a notebook. Nothing was changed; %halo ask works here.")
        from ..panel.widget import ChatPanel  # heavy: needed for a panel only

        display(ChatPanel(self.sessions.current.name if name is None else name))

    def _do_sessions(self, rest: str) -> None:
        self._no_arguments("sessions", rest)
        rows = [("", "name", "session id", "agent", "turns")]
        for name in self.sessions:
            session = self.sessions[name]
            mark = "*" if session is self.sessions.current else ""
            rows.append(
                (
                    mark,
                    _shown(name),
                    _shown(session.session_id) or "-",
                    _shown(session.agent_id) or "-",
                    str(len(session.turns)),
                )
            )
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            print("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())

    def _do_new(self, rest: str) -> None:
        name = self._at_most_one("new", rest)
        held = {each: self.sessions[each] for each in self.sessions}
        session = self.sessions.new(name)
        self.sessions.use(session.name)
        old = held.get(session.name)
        kept = f" The one before is kept as {old.name!r}." if old and old.name != session.name else ""
        print(f"Session {session.name!r} starts a new conversation.{kept}")

    def _do_use(self, rest: str) -> None:
        session = self.sessions.use(self._arguments("use", rest, 1, 1)[0])
        where = _shown(session.session_id) or "a new conversation"
        print(f"Turns go to session {session.name!r} now ({where}).")

    def _do_resume(self, rest: str) -> None:
        session_id, *name = self._arguments("resume", rest, 1, 2)
        client, _ = self._client()
        session = self.sessions.resume(session_id, *name, target=client.base_url)
        self.sessions.use(session.name)
        print(f"Session {session.name!r} goes on with {_shown(session_id)}.")

    def _do_history(self, rest: str) -> None:
        from ..display.bundles import reply_bundle, turn_bundle
        from ..reply import status_words

        name = self._at_most_one("history", rest)
        session = self.sessions.current if name is None else self.sessions[name]
        if not session.turns:
            print(f"Session {session.name!r} has no turns yet.")
        for turn in session.turns:
            reply, source = turn.reply, self.connection.source_of(turn.target)
            words = status_words(reply, source=source, session=session.name)
            bundle = turn_bundle(turn.message, reply_bundle(reply.text, reply.actions, words))
            self._show(bundle, {"halo": session.about(reply, source=source)})

    def _do_export(self, rest: str) -> None:
        file, *name = self._arguments("export", rest, 1, 2)
        session = self.sessions[name[0]] if name else self.sessions.current
        print(f"Wrote {session.export(file)}.")

    def _do_connect(self, rest: str) -> None:
        url = self._at_most_one("connect", rest)
        base_url = checked_base_url(url) if url is not None else self.base_url
        if setting("api_key") is None:
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
            self.api_key = key
        self.base_url = base_url
        self.connection.demo_wanted = False
        self.connection.stop_replay()
        self._do_where("")

    def _do_demo(self, rest: str) -> None:
        word = rest.lower()
        if word == "start":
            self.connection.demo_wanted = self._demo_announced = True
            self.connection.stop_replay()
            print(f"The demo agent answers at {self.connection.start_demo()[1]}.")
        elif word == "stop":
            self.connection.demo_wanted = False
            self.connection.stop_demo()
            print("The demo agent is stopped. %halo connect uses Halo; %halo demo start starts it again.")
        else:
            raise UsageError("It is %halo demo start or %halo demo stop. Nothing was changed.")

    # --- Recordings ---

    def _do_record(self, rest: str) -> None:
        file = self._arguments("record", rest, 1, 1)[0]
        recorder = self.connection.recorder
        if file.lower() == "stop":
            if recorder is None:
                raise UsageError("Nothing is being recorded. Nothing was changed; %halo record FILE begins.")
            self.connection.recorder = None
            print(f"The recording has ended: {_recorded(recorder)}.")
        else:
            recorder = self.connection.start_recording(file)
            after = f", after the {counted(recorder.count, 'exchange')} there" if recorder.count else ""
            print(f"Recording to {recorder.path.name!r}{after}. %halo record stop ends it.")

    def _do_replay(self, rest: str) -> None:
        words = self._arguments("replay", rest, 1, 2)
        paces = [word.removeprefix("--") for word in words if word in ("--fast", "--step")]
        files = [word for word in words if not word.startswith("--")]
        if len(files) != 1 or len(paces) + 1 != len(words):
            raise UsageError("It is %halo replay FILE, with --fast or --step, or not. Nothing was changed.")
        if files[0].lower() == "stop":
            if paces or self.connection.replay is None:
                raise UsageError("Nothing is being replayed. Nothing was changed; %halo replay FILE begins.")
            self.connection.stop_replay()
            print("The replay has ended. %halo says who answers now.")
            return
        recorder = self.connection.recorder
        replay = self.connection.start_replay(files[0], cast("Pace", paces[0] if paces else "own"))
        if recorder is not None:
            print(f"The recording has ended: {_recorded(recorder)}.")
        held = f"{replay.path.name!r} ({counted(len(replay.exchanges), 'exchange')})"
        print(f"From now on {held} answers, {_PACES[replay.pace]}. %halo replay stop ends it.")

    def _do_step(self, rest: str) -> None:
        self._no_arguments("step", rest)
        replay = self.connection.replay
        if replay is None or replay.pace != "step":
            raise UsageError(
                "Nothing is replayed by steps. Nothing was changed; run %halo replay FILE --step."
            )
        if not replay.step():
            print("No turn waits for a step just now.")

    def _ask_for_step(self, reply: Reply) -> None:
        """Wait for the presenter when the reply in this cell waits for its next step."""
        replay = self.connection.replay
        if replay is None or not replay.waits(reply):
            return
        try:
            input("Enter: the next step ")
        except (StdinNotImplementedError, EOFError):
            raise UsageError(
                "A replay by steps waits for Enter, and this front end cannot ask for it. What had arrived "
                "and the session are kept; use a panel and %halo step, or run %halo replay without --step."
            ) from None
        replay.step(reply)

    def _do_status(self, rest: str) -> None:
        self._no_arguments("status", rest)
        state: dict[str, JSON] = {"current_session": self.sessions.current.name}
        state["sessions"] = {name: self.sessions[name].summary() for name in self.sessions}
        try:
            client, state["source"] = self._client()
            state["client"] = client.debug()
        except ConfigError as error:
            state["client"] = str(error)
        if (recorder := self.connection.recorder) is not None:
            state["recording"] = {
                "file": str(recorder.path),
                "exchanges": recorder.count,
                "lost": recorder.lost,
                "error": recorder.error,
            }
        if (replay := self.connection.replay) is not None:
            state["replay"] = {
                "file": str(replay.path),
                "exchanges": len(replay.exchanges),
                "pace": replay.pace,
            }
        self._show_json(state, "halo status")

    def _do_help(self, rest: str) -> None:
        print(_help_text())

    def _show_json(self, value: JSON, label: str) -> None:
        from ..display.bundles import json_bundle

        self._show(json_bundle(value, label), {"application/json": {"root": label, "expanded": True}})

    def _show_line(self, text: str) -> None:
        from ..display.bundles import status_bundle

        self._show(status_bundle([text]))

    def _show(self, bundle: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
        if self._in_notebook:
            publish_display_data(data=bundle, metadata=metadata or {})
        else:
            print(bundle["text/plain"])

    @property
    def _in_notebook(self) -> bool:
        """Whether a front end shows outputs; a terminal has its text alone."""
        return getattr(self.shell, "kernel", None) is not None

    def _arguments(self, command: str, rest: str, least: int, most: int) -> list[str]:
        form = COMMANDS[command].split("  ")[0]
        try:
            words = _words(rest)
        except ValueError as error:
            raise UsageError(f"{error}. It is %halo {form}. Nothing was changed.") from None
        if not least <= len(words) <= most or not all(word.strip() for word in words):
            raise UsageError(f"It is %halo {form}. Nothing was changed.")
        return words

    def _at_most_one(self, command: str, rest: str) -> str | None:
        words = self._arguments(command, rest, 0, 1)
        return words[0] if words else None

    def _no_arguments(self, command: str, rest: str) -> None:
        self._arguments(command, rest, 0, 0)


def _help_text() -> str:
    """What `%halo help` prints and `%%halo?` shows."""
    # The parser's own text is laid out for a documentation page.
    options = HaloMagics.halo.parser.format_help().removeprefix("::\n\n").replace("%halo", "%%halo", 1)
    commands = textwrap.indent("\n".join(COMMANDS.values()), "  %halo ")
    return f"{options}\nline commands:\n  %halo {'':<22} where things stand\n{commands}\n"


HaloMagics.halo.parser.allow_abbrev = False  # an option that comes later must not change what one means
HaloMagics.halo.__doc__ = _help_text()


def _option_names(parser: argparse.ArgumentParser) -> list[str]:
    return list(parser._option_string_actions)  # argparse has no public list of them


def _did_you_mean(word: str, known: Mapping[str, Any] | list[str], otherwise: str) -> str:
    # Without their dashes: two options are not alike for both having them.
    names = {name.lstrip("-"): name for name in known if not name.startswith("_")}
    close = difflib.get_close_matches(word.lstrip("-"), names, n=1)
    return f"did you mean {names[close[0]]!r}?" if close else otherwise


def _words(line: str) -> list[str]:
    """The words of a magic's line; quotes hold one together. A backslash is as typed, for paths.

    Raises:
        ValueError: when a quote is not closed.
    """
    lexer = shlex.shlex(line, posix=True, punctuation_chars=False)
    lexer.whitespace_split, lexer.escape, lexer.commenters = True, "", ""
    return list(lexer)


def _recorded(recorder: Recorder) -> str:
    """A recording in a line: its file, what it holds, and what it lacks."""
    lacks = f"; {recorder.error}" if recorder.error else ""
    return f"{recorder.path.name!r}, {counted(recorder.count, 'exchange')}{lacks}"


def _shown(text: str | None) -> str:
    """A name or id as it may be printed: ids come from the server."""
    from ..display.text import one_line

    return one_line(text or "", 60)
