"""`%halo` and `%%halo`: the settings, the options, and what they call.

The magics hold what belongs to the kernel: the settings, the register of sessions and the
connection to the agent. `commands` runs the line commands; `cell` shows a reply while it arrives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from IPython.core.error import StdinNotImplementedError
from IPython.core.inputtransformer2 import EscapedCommand
from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments
from traitlets import Bool, Float, TraitType, Unicode

from ..client.request import image_url
from ..client.secrets import Secret, checked_key, checked_token
from ..client.settings import CONNECT_TIMEOUT_S, SILENCE_TIMEOUT_S
from ..concurrency.interrupts import LINGER_S, InterruptInbox
from ..errors import ConfigError, ReplyStopped, UsageError
from ..kernel import kernel_state
from .commands import commands_help, run_command
from .files import named_file
from .front_end import in_kernel, in_notebook, shows_json_as_tree, takes_updates
from .options import Once, did_you_mean, read_options
from .output import show_json, show_line
from .template import expand

if TYPE_CHECKING:
    import argparse
    from contextlib import AbstractContextManager

    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    from ..client.sync import HaloClient, ReplyStream
    from ..reply import Reply
    from ..session import Session


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

    priority = 1  # before IPython's own help transformer, which has 5

    @classmethod
    def find(cls, tokens_by_line: list[list[Any]]) -> _AskLine | None:
        for line in tokens_by_line:
            first = next((token for token in line if token.string.strip()), None)
            if first and re.match(r"%halo\s+ask\s.*\?\s*$", first.line[first.start[1] :]):
                return cls(first.start)
        return None


_CONTEXT_HELP = "variable to send as context: an entry {label, value}, a value, or a DataFrame; repeatable"
_VARIABLES = {"fields": "custom_fields", "history": "conversation_history", "behavior": "behavior_context"}
"""The options that name a variable, and the fields that its value is sent in."""
_CONFIGS_HELP = "variable (a dict of configurations); each answers in its column, and _halo is a dict"
_IMAGE_HELP = "image to send: a file, a URL, or a variable that holds one; repeatable"


@magics_class
class HaloMagics(Magics):
    """`%halo`, `%%halo` and their settings.

    A setting made here overrides the environment variable HALO_… of the same name:
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
        # They hang on the shell, so that a reloaded extension finds them again.
        self.connection, self.sessions = kernel_state(shell)
        self.demo_announced = False
        self.parser: argparse.ArgumentParser = type(self).halo.parser
        self.help_text = str(type(self).halo.__doc__)

    def update_config(self, config: Config) -> None:
        """Take secrets from `%config` out of the config object, which IPython stores, prints and copies.

        (The copy of a method would also belong to a copied object.)
        """
        own = config.get(type(self).__name__, {})
        for name, trait in self.traits(config=True).items():
            if isinstance(trait, _SecretTrait) and name in own:
                setattr(self, name, own.pop(name))
        super().update_config(config)

    @classmethod
    def load(cls, shell: InteractiveShell) -> HaloMagics:
        """Register the magics with `shell`, or return the ones that are registered."""
        magics = shell.magics_manager.registry.get(cls.__name__)
        if magics is None:
            magics = cls(shell)
            shell.register_magics(magics)
            shell.input_transformer_manager.token_transformers.append(_AskLine)
            cast("list[Any]", shell.configurables).append(magics)  # typed as a list of shells
        return cast(HaloMagics, magics)

    @classmethod
    def unload(cls, shell: InteractiveShell) -> None:
        """Remove the magics from `shell`, and stop the demo agent, the replay and the recording."""
        magics = shell.magics_manager.registry.pop(cls.__name__, None)
        if magics is not None:
            magics.connection.stop_demo()
            magics.connection.stop_replay()
            magics.connection.recorder = magics.connection.demo_wanted = None
            transformers = shell.input_transformer_manager.token_transformers
            # By name, because a reloaded class is a different object.
            transformers[:] = [each for each in transformers if each.__name__ != _AskLine.__name__]
            shell.configurables[:] = [each for each in shell.configurables if each is not magics]
            for kind in ("line", "cell"):
                shell.magics_manager.magics[kind].pop("halo", None)

    @no_var_expand  # else IPython would expand single braces
    @magic_arguments()
    @argument("-s", "--session", metavar="NAME", action=Once, help="session to continue; created if new")
    @argument("--new", action="store_true", help="start a new conversation in that session")
    @argument("-a", "--agent", dest="agent_id", metavar="ID", action=Once, help="agent that answers")
    @argument("-u", "--user", dest="user_id", metavar="ID", action=Once, help="user id to send")
    @argument("--company", dest="company_id", metavar="ID", action=Once, help="company id to send")
    @argument("-m", "--mode", metavar="MODE", action=Once, help="chat, voice, video or livehelp")
    @argument("-c", "--context", metavar="VAR", action="append", help=_CONTEXT_HELP)
    @argument("-f", "--fields", metavar="VAR", action=Once, help="variable (a dict) sent as custom fields")
    @argument("--history", metavar="VAR", action=Once, help="variable (a list) sent as conversation history")
    @argument("--behavior", metavar="VAR", action=Once, help="variable (a string) sent as behavior context")
    @argument("-i", "--image", metavar="PATH|URL|VAR", action="append", help=_IMAGE_HELP)
    @argument("-o", "--out", metavar="NAME", action=Once, help="variable for the reply; _halo holds the last")
    @argument("--configs", metavar="VAR", action=Once, help=_CONFIGS_HELP)
    @argument("--no-stream", action="store_true", help="request the whole reply at once")
    @argument("--timeout", metavar="S", action=Once, type=float, help="seconds of silence until failure")
    @argument("--dry-run", action="store_true", help="show the request, secrets as 'set', and send nothing")
    @argument("--raw", action="store_true", help="send {{ … }} as typed, without evaluating it")
    @line_cell_magic
    def halo(self, line: str, cell: str | None = None) -> None:
        """Send the cell to a Halo agent and show its reply as it arrives.

        `{{ expression }}` in the cell, or in a line command, is replaced by its value from the notebook.
        """
        if cell is None:
            run_command(self, line)
        else:
            self.send(cell, line)

    # --- A message ---

    def send(self, prompt: str, line: str) -> None:
        """Send `prompt` with the options of a `%%halo` line, and show its reply while it arrives."""
        options = read_options(self.parser, line)
        message = prompt.strip("\n") if options.raw else self.expanded(prompt.strip("\n"))
        fields = self._fields(options)
        if options.configs is not None:
            from .side_by_side import ask_each

            ask_each(self, message, fields, options, self._variable(options.configs, "--configs"))
            return
        client = self.client(options.timeout)
        if options.dry_run:
            if not options.new and options.session in (None, *self.sessions):
                self.sessions.get(options.session).continue_with(fields, client.base_url)
            path = "/chat" if options.no_stream else "/chat/stream"
            request = client.dry_run(client.prepare(message, **fields), path)
            show_json(self.shell, request, "request, not sent")
            return
        if options.new:
            client.prepare(message, **fields)  # an invalid request must not start a conversation
            self.sessions.new(options.session)
        session = self.sessions.get(options.session)
        with self.inbox() as inbox:
            self.note_start(session)
            turn = session.turn(client, message, whole=options.no_stream, inbox=inbox, **fields)
            self._show_turn(turn, session, client.source, options.out)

    @contextmanager
    def inbox(self) -> Iterator[InterruptInbox]:
        """Where the cell waits for its turn and its reply, with a line on what could not be recorded."""
        recorder = self.connection.recorder
        lost = recorder.lost if recorder else 0
        with InterruptInbox(linger_s=LINGER_S if in_kernel(self.shell) else 0.0) as inbox:
            try:
                yield inbox
            except KeyboardInterrupt:
                raise ReplyStopped(
                    "Stopped while another turn of this session was running. The message was not sent and "
                    "the session is kept; run the cell again."
                ) from None
            finally:
                if recorder is not None and recorder.lost > lost:
                    show_line(self.shell, recorder.error)

    def note_start(self, session: Session) -> None:
        """Say what the next message of `session` waits for, and what it starts."""
        if session.busy:
            show_line(self.shell, f"waiting for another turn of session {session.name!r} to end …")
        if note := session.start_note():
            show_line(self.shell, f"this message starts {note}")

    def _show_turn(
        self, turn: AbstractContextManager[ReplyStream], session: Session, source: str, out: str | None
    ) -> None:
        # Heavy, and needed only for a reply.
        from ..display.pacer import Pacer
        from .cell import Screen, follow
        from .screens.notebook import NotebookScreen
        from .screens.terminal import TerminalScreen

        with turn as stream:
            reply = stream.reply
            self.shell.user_ns["_halo"] = reply
            if out:
                self.shell.user_ns[out] = reply
            pacer = Pacer()
            screen: Screen = TerminalScreen(reply)
            if in_notebook(self.shell):
                about = partial(session.about, reply, source=source)
                screen = NotebookScreen(
                    reply,
                    pacer,
                    about,
                    images=self.show_images,
                    updates=takes_updates(self.shell),
                    as_json=shows_json_as_tree(self.shell),
                )
            stream.exchange.attended = True
            ask_for_step = partial(self.ask_for_step, reply)
            follow(stream, screen, pacer, when_shown=ask_for_step, source=source, session=session.name)

    def expanded(self, text: str) -> str:
        """`text` with each `{{ expression }}` replaced by its value from the notebook."""
        spaces = self.shell.user_global_ns, self.shell.user_ns
        return expand(text, lambda code: eval(code, *spaces))  # noqa: S307

    def _fields(self, options: argparse.Namespace) -> Any:
        fields = {name: getattr(options, name) for name in ("agent_id", "user_id", "company_id", "mode")}
        for option, name in _VARIABLES.items():
            if (variable := getattr(options, option)) is not None:
                fields[name] = self._variable(variable, f"--{option}")
        if options.context:
            fields["context"] = {name: self._variable(name, "--context") for name in options.context}
        if options.image:
            fields["images"] = [image_url(self._image(word)) for word in options.image]
        return fields

    def _variable(self, name: str, option: str) -> Any:
        try:
            return self.shell.user_ns[name]
        except KeyError:
            own = (
                self.shell.user_ns.keys() - self.shell.user_ns_hidden.keys()
            )  # not IPython's `open` and `exit`
            raise UsageError(
                f"No variable named {name!r} for {option}. Nothing was sent; "
                + did_you_mean(name, sorted(own), "define it first.")
            ) from None

    def _image(self, word: str) -> Any:
        image = self.shell.user_ns.get(word, word)
        if not isinstance(image, str) or re.match(r"(?!file:)[a-z]+:(//|image/)", image, re.IGNORECASE):
            return image
        return named_file(image)

    # --- The agent that answers ---

    def client(self, timeout_s: float | None = None) -> HaloClient:
        """The client for the current settings."""
        client = self.connection.client(timeout_s)
        if self.connection.uses_demo:
            if not self.demo_announced and self.connection.demo_wanted is None:
                show_line(
                    self.shell,
                    "No HALO_API_KEY is set, so the demo agent answers: scripted, on this machine. "
                    "%halo connect asks for a key.",
                )
            self.demo_announced = True
        return client

    def ask_for_step(self, reply: Reply) -> None:
        """Ask for Enter when the replay that answers this cell has paused at a step."""
        replay = self.connection.replay
        if replay is None or not replay.waits(reply):
            return
        try:
            input("Enter: the next step ")
        except (StdinNotImplementedError, EOFError):
            raise UsageError(
                "A replay with --step waits for Enter, and this front end cannot ask for it. The text "
                "received so far and the session are kept; use a panel and %halo step, or run %halo replay "
                "without --step."
            ) from None
        replay.step(reply)


# An option that is added later must not change what an abbreviation means.
HaloMagics.halo.parser.allow_abbrev = False
# The parser's own text is laid out for a documentation page.
_OPTIONS_HELP = HaloMagics.halo.parser.format_help().removeprefix("::\n\n")
HaloMagics.halo.__doc__ = f"{_OPTIONS_HELP.replace('%halo', '%%halo', 1)}\n{commands_help()}\n"
