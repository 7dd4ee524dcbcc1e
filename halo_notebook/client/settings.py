"""Where a setting comes from, and which settings are refused as unsafe.

The argument counts first, then `%config HaloMagics`, then the environment.
"""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .secrets import Secret, checked_key, checked_token, hidden, not_sent

if TYPE_CHECKING:
    from ..errors import ConfigError
    from .user_tokens import TokenSource

DEFAULT_BASE_URL = "https://api.haloagents.ai/api/sdk"
CONNECT_TIMEOUT_S = 10.0
SILENCE_TIMEOUT_S = 120.0
MAX_RETRIES = 2


@dataclass(frozen=True)
class ClientSettings:
    """The settings of a client, checked. Its repr shows no secret."""

    api_key: Secret
    base_url: str
    user_id: str | None
    user_token: TokenSource | None
    agent_id: str | None
    connect_timeout_s: float
    silence_timeout_s: float
    max_retries: int
    max_record_bytes: int
    source: str = ""


def is_loopback(url: str) -> bool:
    """Whether `url` names this machine, which is where plain http is allowed."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def checked_base_url(url: str) -> str:
    """Return `url` without a trailing slash. Raises `ConfigError`, which says what is unsafe."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    plain = url.isprintable() and " " not in url
    if parts.scheme not in ("http", "https") or not host or not plain:
        raise not_sent(
            "The base URL is not an http or https address",
            f"set HALO_BASE_URL to one such as {DEFAULT_BASE_URL}",
        )
    if parts.username or parts.password or "?" in url or "#" in url:
        raise not_sent(
            "The base URL contains a user, password, query or fragment", "set HALO_BASE_URL without them"
        )
    if parts.scheme == "http" and not is_loopback(url):
        raise not_sent(
            f"Plain http would send the key unencrypted to {host}",
            "use https (http is for this machine only, such as http://127.0.0.1:8000)",
        )
    return url.rstrip("/")


_SECRETS = {"api_key": checked_key, "user_token": checked_token}


def _magics() -> Any:
    """The `HaloMagics` of this kernel; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell.magics_manager.registry.get("HaloMagics") if shell else None


def configured(name: str) -> Any:
    """The value in `%config HaloMagics` of this kernel; None elsewhere."""
    return getattr(_magics(), name, None)


def no_key() -> ConfigError:
    """The error where no key is set; it says how to use the demo agent here."""
    demo = "run 'python -m halo_notebook.demo' in another terminal and set what it prints"
    demo = demo if _magics() is None else "run %halo demo start"
    return not_sent(
        "There is no API key",
        f"set HALO_API_KEY to a widget key (ab_live_…), or, for the demo agent, {demo}",
    )


def setting(name: str, argument: Any = None) -> Any:
    """The value of a setting: the argument, else `%config HaloMagics`, else HALO_<NAME>.

    A blank value counts as absent. A key or a token is returned as a `Secret`.
    """
    check = _SECRETS.get(name)
    if check is not None:
        argument = hidden(argument)
    for given in (argument, configured(name), os.environ.get(f"HALO_{name.upper()}")):
        value = given if check is None else hidden(given)
        del given  # no frame of an error holds it
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        return check(value) if check is not None and isinstance(value, Secret) else value
    return None


def checked_count(name: str, value: Any, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise not_sent(f"{name} must be a whole number from {least}, not {value!r}")
    return value


def checked_seconds(name: str, value: Any) -> float:
    if not (isinstance(value, (int, float)) and value > 0 and not math.isnan(value)):
        raise not_sent(f"{name} must be a number of seconds above 0, not {value!r}")
    return float(value)
