"""Which agent answers in this kernel: Halo, a recording, or the demo agent while nothing names another.

The magics and the chat panel share one `Connection` and one register of sessions, which hang
on the shell, so that a turn made in either goes to the same agent and shows in both, is recorded
or comes from a recording in both. It does not know what is asked, nor how a reply is shown.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .client.secrets import Secret
from .client.settings import configured, setting
from .client.sync import HaloClient
from .concurrency import threads
from .errors import UsageError
from .session import Session, SessionRegister

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .demo.server import DemoAgent
    from .recording.recorder import Pace, Recorder, Replay


class Connection:
    """The agent that answers, by the settings as they are when it is asked for.

    Attributes:
        demo: the running demo agent, or None.
        demo_wanted: True or False as `%halo demo` and `%halo connect` say; None: as long as
            nothing names another agent.
        recorder: keeps what passes, or None.
        replay: answers in place of an agent, or None.
    """

    def __init__(self) -> None:
        self.demo: DemoAgent | None = None
        self.demo_wanted: bool | None = None
        self.recorder: Recorder | None = None
        self.replay: Replay | None = None
        self._made: tuple[dict[str, Any], HaloClient] | None = None  # for which settings
        self._demo_transport: Any = None
        self._lock = threads.Lock()  # panels ask on threads of their own

    def client(self, silence_timeout_s: float | None = None) -> HaloClient:
        """The client for the settings as they are now.

        Args:
            silence_timeout_s: in place of the setting.

        Raises:
            ConfigError: when a setting is missing or unsafe.
        """
        settings: dict[str, Any] = {
            **self._target(),
            "user_id": setting("user_id"),
            "agent_id": setting("agent_id"),
            "connect_timeout_s": configured("connect_timeout_s"),
            "silence_timeout_s": (
                configured("silence_timeout_s") if silence_timeout_s is None else silence_timeout_s
            ),
        }
        # Without the magics nothing is configured, and the client has times of its own.
        settings = {name: value for name, value in settings.items() if value is not None}
        with self._lock:
            if self._made is None or self._made[0] != settings:
                self._made = (settings, HaloClient(**settings))
            return self._made[1]

    def _target(self) -> dict[str, Any]:
        """The settings that say who is asked."""
        if self.replay is not None:
            return {"transport": self.replay}
        demo = self.uses_demo
        key, url = self.start_demo() if demo else (setting("api_key"), setting("base_url"))
        return {
            "api_key": key,
            "base_url": url,
            "transport": self._demo_transport if demo else None,
            "user_token": setting("user_token"),
            "record": self.recorder,
            "source": "demo agent" if demo else None,
        }

    @property
    def uses_demo(self) -> bool:
        """Whether the demo agent is the one that answers."""
        if self.replay is not None:
            return False
        if self.demo_wanted is not None:
            return self.demo_wanted
        return setting("api_key") is None and setting("base_url") is None

    @property
    def source(self) -> str:
        """Who answers where that is not Halo: ``demo agent``, ``replay of FILE``; else empty.

        Raises:
            ConfigError: when a setting is unsafe.
        """
        if self.replay is not None:
            return self.replay.source
        return "demo agent" if self.uses_demo else ""

    def start_recording(self, path: str | Path) -> Recorder:
        """Keep what passes from now on in that file.

        Raises:
            UsageError: when it cannot be used, or when a recording is replayed.
        """
        from .recording.recorder import Recorder

        if self.replay is not None:
            raise UsageError(
                f"{self.replay.path.name!r} is being replayed, and a replay is not recorded. Nothing was "
                "changed; run %halo replay stop first."
            )
        if self.recorder is None or not self.recorder.keeps(path):
            self.recorder = Recorder(path)
        return self.recorder

    def start_replay(self, path: str | Path, pace: Pace = "own") -> Replay:
        """Have that recording answer from now on, from its beginning, and record no more.

        Raises:
            UsageError: when it is none; the one that answered before goes on then.
        """
        from .recording.recorder import Replay

        replay = Replay(path, pace=pace)
        self.stop_replay()
        self.recorder, self.replay = None, replay
        return replay

    def stop_replay(self) -> None:
        """Have an agent answer again. What a replay is in the midst of comes to its end."""
        replay, self.replay = self.replay, None
        if replay is not None:
            replay.run_on()

    def start_demo(self) -> tuple[Secret, str]:
        """Start the demo agent unless it runs; its key and its base URL."""
        from .demo.protocol import DEMO_KEY
        from .demo.server import DemoAgent

        with self._lock:
            if self.demo is None:
                demo = DemoAgent()
                if threads.IN_BROWSER:
                    from .demo.inprocess import DemoTransport

                    self._demo_transport = DemoTransport(demo)
                else:
                    demo.start()
                self.demo = demo
            return Secret(DEMO_KEY), (self._demo_transport or self.demo).url

    def stop_demo(self) -> None:
        """Stop the demo agent if it runs."""
        with self._lock:
            demo, self.demo = self.demo, None
        if demo is not None:
            demo.stop()


def shared_by(shell: InteractiveShell | None) -> tuple[Connection, SessionRegister]:
    """What the magics and the panels of `shell` share; something of one's own without a shell."""
    if shell is None:
        return Connection(), SessionRegister()
    held = vars(shell)
    # setdefault: whoever comes second on another thread has the first one's.
    return (
        held.setdefault("_halo_connection", Connection()),
        held.setdefault("_halo_sessions", SessionRegister()),
    )


def current_client() -> HaloClient:
    """The client that `%%halo` and the panels of this kernel use: Halo's, or the demo agent's.

    Outside IPython there is no demo agent unless it is asked for: the settings say whom it talks to.

    Raises:
        ConfigError: when a setting is missing or unsafe.
    """
    shell = _shell()
    return HaloClient() if shell is None else shared_by(shell)[0].client()


def current_session(name: str | None = None) -> Session:
    """A session of this kernel, as `%halo sessions` lists them; made when there is none of that name.

    Args:
        name: None for the one that messages go to.
    """
    return shared_by(_shell())[1].get(name)


def _shell() -> InteractiveShell | None:
    ipython = sys.modules.get("IPython")  # where it is not loaded there is no shell
    return ipython.get_ipython() if ipython else None
