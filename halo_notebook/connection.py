"""Which agent answers in this kernel: Halo, or the demo agent while nothing names another.

The magics and the chat panel share one `Connection` and one register of sessions, which hang
on the shell, so that a turn made in either goes to the same agent and shows in both. It does
not know what is asked, nor how a reply is shown.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from . import threads
from .client import HaloClient
from .session import Session, SessionRegister
from .settings import Secret, configured, setting

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from .demo import DemoAgent


class Connection:
    """The agent that answers, by the settings as they are when it is asked for.

    Attributes:
        demo: the running demo agent, or None.
        demo_wanted: True or False as `%halo demo` and `%halo connect` say; None: as long as
            nothing names another agent.
        demo_urls: of this kernel's demo agents, one after the other.
    """

    def __init__(self) -> None:
        self.demo: DemoAgent | None = None
        self.demo_wanted: bool | None = None
        self.demo_urls: set[str] = set()
        self._made: tuple[dict[str, Any], HaloClient] | None = None  # for which settings
        self._demo_transport: Any = None
        self._lock = threads.Lock()  # panels ask on threads of their own

    def client(self, silence_timeout_s: float | None = None) -> tuple[HaloClient, bool]:
        """The client for the settings as they are now, and whether it talks to the demo agent.

        Args:
            silence_timeout_s: in place of the setting.

        Raises:
            ConfigError: when a setting is missing or unsafe.
        """
        demo = self.uses_demo
        key, url = self.start_demo() if demo else (setting("api_key"), setting("base_url"))
        settings: dict[str, Any] = {
            "api_key": key,
            "base_url": url,
            "user_id": setting("user_id"),
            "user_token": setting("user_token"),
            "agent_id": setting("agent_id"),
            "connect_timeout_s": configured("connect_timeout_s"),
            "silence_timeout_s": (
                configured("silence_timeout_s") if silence_timeout_s is None else silence_timeout_s
            ),
        }
        if demo and threads.IN_BROWSER:
            settings["transport"] = self._demo_transport
        # Without the magics nothing is configured, and the client has times of its own.
        settings = {name: value for name, value in settings.items() if value is not None}
        with self._lock:
            if self._made is None or self._made[0] != settings:
                self._made = (settings, HaloClient(**settings))
            return self._made[1], demo

    @property
    def uses_demo(self) -> bool:
        """Whether the demo agent is the one that answers."""
        if self.demo_wanted is not None:
            return self.demo_wanted
        return setting("api_key") is None and setting("base_url") is None

    def start_demo(self) -> tuple[Secret, str]:
        """Start the demo agent unless it runs; its key and its base URL."""
        from .demo import DEMO_KEY, DemoAgent

        with self._lock:
            if self.demo is None:
                self.demo = DemoAgent()
                if threads.IN_BROWSER:
                    from .demo_transport import DemoTransport

                    self._demo_transport = DemoTransport(self.demo)
                else:
                    self.demo.start()
                self.demo_urls.add(self.demo.url)
            return Secret(DEMO_KEY), self.demo.url

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
    return HaloClient() if shell is None else shared_by(shell)[0].client()[0]


def current_session(name: str | None = None) -> Session:
    """A session of this kernel, as `%halo sessions` lists them; made when there is none of that name.

    Args:
        name: None for the one that messages go to.
    """
    return shared_by(_shell())[1].get(name)


def _shell() -> InteractiveShell | None:
    ipython = sys.modules.get("IPython")  # where it is not loaded there is no shell
    return ipython.get_ipython() if ipython else None
