"""Which agent answers in this kernel (Halo, a recording or the demo agent), and its sessions.

Both are kept on the shell, so a turn made in a cell or in a panel goes to the same agent, is recorded, and
shows in both.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .client.settings import configured, setting
from .client.sync import HaloClient
from .concurrency.loop import IN_BROWSER
from .errors import UsageError
from .session import Session, SessionRegister

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .demo.server import DemoAgent
    from .recording.recorder import Recorder
    from .recording.replay import Pace, Replay


class Connection:
    """The agent that answers, by the settings at the moment when a client is asked for.

    Attributes:
        demo: the running demo agent, or None.
        demo_wanted: what `%halo demo` and `%halo connect` have set; None to use the demo agent as long as
            no setting names an agent.
        recorder: records what passes, or None.
        replay: answers in place of an agent, or None.
    """

    def __init__(self) -> None:
        self.demo: DemoAgent | None = None
        self.demo_wanted: bool | None = None
        self.recorder: Recorder | None = None
        self.replay: Replay | None = None
        self._last: tuple[dict[str, Any], HaloClient] | None = None  # with its settings
        self._demo_transport: Any = None
        self._lock = threading.Lock()  # panels use it on the I/O thread

    def client(self, silence_timeout_s: float | None = None) -> HaloClient:
        """The client for the settings as they are now; the same one as long as they do not change.

        Raises:
            ConfigError: when a setting is missing or unsafe.
        """
        settings = self._target() | {name: setting(name) for name in ("user_id", "agent_id")}
        for name in ("connect_timeout_s", "silence_timeout_s"):
            settings[name] = configured(name)
        if silence_timeout_s is not None:
            settings["silence_timeout_s"] = silence_timeout_s
        # Without the magics nothing is configured, and the client has defaults of its own.
        settings = {name: value for name, value in settings.items() if value is not None}
        with self._lock:
            if self._last is None or self._last[0] != settings:
                self._last = settings, HaloClient(**settings)
            return self._last[1]

    def _target(self) -> dict[str, Any]:
        """The settings that say which agent is used."""
        if self.replay is not None:
            return {"transport": self.replay}
        target = {"user_token": setting("user_token"), "record": self.recorder}
        if self.uses_demo:
            from .demo.protocol import DEMO_KEY

            target |= {"base_url": self.start_demo(), "transport": self._demo_transport}
            return {**target, "api_key": DEMO_KEY, "source": "demo agent"}
        return {**target, "api_key": setting("api_key"), "base_url": setting("base_url")}

    @property
    def uses_demo(self) -> bool:
        """Whether the demo agent is the one that answers."""
        if self.replay is not None:
            return False
        if self.demo_wanted is None:
            return setting("api_key") is None and setting("base_url") is None
        return self.demo_wanted

    @property
    def source(self) -> str:
        """Who answers, if not Halo: ``demo agent`` or ``replay of FILE``; else empty."""
        if self.replay is not None:
            return self.replay.source
        return "demo agent" if self.uses_demo else ""

    def start_recording(self, path: str | Path) -> Recorder:
        """Record what passes from now on. Raises `UsageError` for a bad file, and during a replay."""
        from .recording.recorder import Recorder

        if self.replay is not None:
            raise UsageError(
                f"{self.replay.path.name!r} is being replayed, and a replay is not recorded. Nothing was "
                "changed; run %halo replay stop first."
            )
        recorder, kept = Recorder(path), self.recorder
        if kept is None or (kept.path, kept.count) != (recorder.path, recorder.count):
            self.recorder = kept = recorder
        return kept

    def start_replay(self, path: str | Path, pace: Pace = "own") -> Replay:
        """Let that recording answer from now on, from its beginning, and end a recording.

        Raises:
            UsageError: when it is not a recording; nothing is changed then.
        """
        from .recording.replay import Replay

        replay = Replay(path, pace=pace)
        self.stop_replay()
        self.recorder, self.replay = None, replay
        return replay

    def stop_replay(self) -> None:
        """Let an agent answer again. A turn that the replay is serving is served to its end."""
        replay, self.replay = self.replay, None
        if replay is not None:
            replay.run_on()

    def start_demo(self) -> str:
        """Start the demo agent unless it runs, and return its base URL."""
        from .demo.server import DemoAgent

        with self._lock:
            if self.demo is None:
                demo = DemoAgent()
                if IN_BROWSER:
                    from .demo.inprocess import DemoTransport

                    self._demo_transport = DemoTransport(demo)
                else:
                    demo.start()
                self.demo = demo
            return str((self._demo_transport or self.demo).url)

    def stop_demo(self) -> None:
        """Stop the demo agent if it runs."""
        with self._lock:
            demo, self.demo = self.demo, None
        if demo is not None:
            demo.stop()


def kernel_state(shell: InteractiveShell | None) -> tuple[Connection, SessionRegister]:
    """The connection and the sessions of `shell`; without a shell, new ones."""
    if shell is None:
        return Connection(), SessionRegister()
    kept = vars(shell)
    # setdefault, since two threads may come here at the same time.
    return (
        kept.setdefault("_halo_connection", Connection()),
        kept.setdefault("_halo_sessions", SessionRegister()),
    )


def current_client() -> HaloClient:
    """The client that `%%halo` and the panels of this kernel use: Halo's, or the demo agent's.

    Outside IPython there is no demo agent: the settings must name an agent.

    Raises:
        ConfigError: when a setting is missing or unsafe.
    """
    shell = current_shell()
    return HaloClient() if shell is None else kernel_state(shell)[0].client()


def current_session(name: str | None = None) -> Session:
    """The session of this kernel with that name, created if there is none; the current one for None."""
    return kernel_state(current_shell())[1].get(name)


def current_shell() -> InteractiveShell | None:
    """The shell in which somebody works; None in a script."""
    ipython = sys.modules.get("IPython")  # where it is not loaded there is no shell
    shell = ipython.get_ipython() if ipython else None
    # To display something in a script, IPython makes a shell of its base class. Nobody works in that.
    if ipython and type(shell) is ipython.InteractiveShell and "_halo_connection" not in vars(shell):
        return None
    return shell
