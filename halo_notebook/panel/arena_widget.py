"""`ArenaPanel`: one text box, and the replies of several agents, whose names are hidden until the vote."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

import anywidget
from IPython.display import publish_display_data
from traitlets import Any as AnyTrait
from traitlets import Int, TraitError, Unicode

from ..concurrency.loop import spawn
from ..display.text import one_line, writable
from ..display.wording import counted
from ..errors import UsageError
from ..evaluation.sending.configs import read_configs
from ..kernel import current_shell, kernel_state
from . import arena
from .assets import bundle, styles
from .sending import send_to_page
from .state import publish_output
from .static_copy import static_class, static_copy

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

    from ..evaluation.sending.configs import Config
    from ..session import Session
    from .outbox import Sent


class ArenaPanel(anywidget.AnyWidget):
    """Sends each message to several configurations, and lets you vote which reply is best.

    The columns are in random order, and their names are hidden until the first vote of a conversation. A vote
    is about the last message. *New conversation* shuffles the columns and hides the names again. Making a
    panel starts a new conversation, too. Of each conversation the first vote counts in `preferences`: further
    ones are not blind, and depend on it.

    Args:
        configs: 2 to 6, as for `evaluate`: name → request fields that go with each message, or a client.
        blind: whether the names are hidden, and the columns shuffled.
        session: each configuration has the session ``SESSION/NAME``, which `%%halo` can use.
        title: shown at the top.
        height: a CSS length.
        placeholder: shown in the empty text box.

    Raises:
        InvalidRequest: naming the configuration that makes no sense.
        UsageError: when another argument has the wrong type.

    >>> from halo_notebook import HaloClient
    >>> from halo_notebook.demo import DEMO_KEY, DemoAgent
    >>> with DemoAgent(chunk_s=0) as agent, HaloClient(DEMO_KEY, base_url=agent.url) as client:
    ...     panel = ArenaPanel({"now": client, "voice": {"client": client, "mode": "voice"}})
    ...     replies = {name: sent.result() for name, sent in panel.ask("Hello").items()}
    >>> panel.vote("tie")
    >>> [reply.status for reply in replies.values()], panel.votes()["outcome"].tolist()
    (['complete', 'complete'], ['tie'])
    >>> panel.close()
    """

    _esm = bundle("arena/arena.js")
    _css = styles("arena/arena.css")

    title = Unicode(None, allow_none=True).tag(sync=True)
    height = Unicode("600px").tag(sync=True)
    placeholder = Unicode("Ask all agents").tag(sync=True)
    _columns = Int(2).tag(sync=True)
    _static_class = Unicode("").tag(sync=True)
    _snapshot = AnyTrait(None).tag(
        sync=True,
        to_json=lambda value, panel: panel._arena.snapshot() if hasattr(panel, "_arena") else None,
        from_json=lambda value, panel: None,
    )

    def __init__(
        self,
        configs: Mapping[str, Config],
        blind: bool = True,
        *,
        session: str = "arena",
        title: str | None = None,
        height: str = "600px",
        placeholder: str = "Ask all agents",
    ) -> None:
        name: object = session
        if not isinstance(name, str) or not name.strip():
            raise UsageError("session must be a name, such as 'arena'. Nothing was shown.")
        if not isinstance(blind, bool):
            raise UsageError(f"blind must be True or False, not {blind!r}. Nothing was shown.")
        targets = read_configs(configs)
        connection, register = kernel_state(current_shell())
        arena.check_targets(targets, connection)
        copy = static_class()
        try:
            super().__init__(
                title=title,
                height=height,
                placeholder=placeholder,
                _static_class=copy,
                _columns=len(targets),
                layout={"flex": "1 1 auto", "min_width": "0"},
            )
        except TraitError as error:
            raise UsageError(f"{one_line(str(error))} Nothing was shown; fix that argument.") from None
        self._arena = arena.Arena(
            targets,
            session,
            register,
            connection,
            blind=blind,
            send=lambda content: send_to_page(self, content),
            publish_copy=self._publish_copy,
        )
        self._unwatch_register = register.watchers.add(self._register_changed)
        self.on_msg(lambda widget, content, buffers: spawn(arena.handle(self._arena, content)))
        spawn(self._arena.follow())

    @property
    def sessions(self) -> dict[str, Session]:
        """The session of each configuration in the conversation that is shown."""
        return self._arena.sessions

    @property
    def busy(self) -> bool:
        """Whether a reply is awaited."""
        return self._arena.busy

    def ask(self, text: str) -> dict[str, Sent]:
        """Send `text` to all configurations, as if it had been typed.

        Returns:
            at once, by configuration, a handle: `result()` or `await` gives the reply.

        Raises:
            UsageError: when a reply is still awaited, the panel is closed or `text` is not a message.
            InvalidRequest: when one of the requests is not valid; nothing is sent then.
        """
        self._check_open("Nothing was sent")
        return self._arena.ask(text)

    def stop(self) -> None:
        """Stop all replies; the texts received so far are kept."""
        self._arena.stop()

    def vote(self, choice: str) -> None:
        """Vote on the replies to the last message, which shows the names.

        Args:
            choice: the letter of the best column or the name of its configuration, ``"tie"`` or
                ``"both bad"``.

        Raises:
            UsageError: for another choice, and when there is nothing to vote on.
        """
        self._check_open("Nothing was changed")
        self._arena.vote(choice, list(self._arena.columns))
        spawn(self._arena.reveal())

    def new(self) -> None:
        """Start a new conversation, with the columns in another random order."""
        self._check_open("Nothing was changed")
        self._arena.new()

    def votes(self) -> pd.DataFrame:
        """The votes of this kernel on these configurations, one row each, in the order of their times.

        Returns:
            a table with `time` (UTC), `message`, `columns` (the configurations from left to right), `winner`
            (missing for a tie and for both bad), `outcome` (``win``, ``tie`` or ``both bad``), `blind`
            (whether the names were hidden) and `counted` (whether it is the first vote of its conversation).
            Its `attrs["preferences"]` holds the rows of `preferences`.
        """
        from ..evaluation.labels.arena_votes import votes_frame

        return votes_frame(self._ballots(), list(self._arena.columns))

    def preferences(self) -> pd.DataFrame:
        """Which configuration is preferred: one row per pair, from the votes that count.

        Returns:
            a table with `a` and `b` (two configurations), `a wins`, `b wins`, `ties`, `both bad`, and, of the
            votes for one of the two: `prefer a` (the share of `a`) with its 95 % limits by Wilson, and `p`,
            the two-sided exact binomial test of an even chance. With more than two configurations, a vote
            for one says that it is better than each of the others.
        """
        from ..evaluation.labels.arena_votes import preferences_frame

        return preferences_frame(self._ballots(), list(self._arena.columns))

    def close(self) -> None:
        """Remove the panel from the page for good. The sessions and their turns continue."""
        state = getattr(self, "_arena", None)
        if state is None or state.closed:
            return
        state.tell("closed")
        if line := state.close():
            print(writable(line))  # noqa: T201  # the page is gone
        self._unwatch_register()
        super().close()

    def __repr__(self) -> str:
        return f"ArenaPanel({counted(len(self._arena.columns), 'configuration')})"

    def _ballots(self) -> Any:
        from ..evaluation.labels.arena_votes import ballots

        register, names = self._arena.register, {*self._arena.columns}
        return [
            ballot
            for ballot in ballots(register.get(each) for each in register)
            if names >= {*ballot.vote.configs}
        ]

    def _register_changed(self, name: str) -> None:
        spawn(self._arena.follow())

    def _check_open(self, outcome: str) -> None:
        if self._arena.closed:
            raise UsageError(f"This panel is closed. {outcome}; create another one.")

    def _ipython_display_(self) -> None:
        if self._arena.closed:
            print(repr(self), "is closed")  # noqa: T201  # what a display of it shows
            return
        shown: Any = self._repr_mimebundle_()
        publish_display_data(data=shown[0] if isinstance(shown, tuple) else shown)
        self._publish_copy(update=False)
        for column in self._arena.columns.values():
            column.has_static_copy = True

    def _publish_copy(self, *, update: bool = True) -> None:
        html = self._arena.static_html(f"{datetime.now().astimezone():%Y-%m-%d %H:%M}")
        data = {"text/html": static_copy(self._static_class, html), "text/plain": repr(self)}
        publish_output(self._static_class, data, update=update)
