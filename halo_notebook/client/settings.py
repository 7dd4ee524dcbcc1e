"""Where a setting comes from, and what is refused as unsafe.

Argument first, then `%config HaloMagics`, then the environment. The key and the user token
are held as `Secret`, which shows its value nowhere by itself.
"""

from __future__ import annotations

import os
import sys
from ipaddress import ip_address
from typing import Any, NoReturn
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError

DEFAULT_BASE_URL = "https://api.haloagents.ai/api/sdk"
REPLAY_HOST = "https://replay.invalid"
"""Where a recording answers: a host that by its name nobody has, so that no id of a recorded
conversation goes to a service, and none of a service's into a replay."""


class Secret:
    """A string that shows in no repr, format or traceback; `reveal` is the one way out."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "set"

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled: what is written down would hold it")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


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
    """Return `url` without a trailing slash, or raise `ConfigError` saying what is unsafe."""
    url = url.strip()
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    plain = url.isprintable() and " " not in url
    if parts.scheme not in ("http", "https") or not host or not plain:
        raise ConfigError(
            "The base URL is not an http or https address. Nothing was sent; "
            f"set HALO_BASE_URL to one such as {DEFAULT_BASE_URL}."
        )
    if parts.username or parts.password or "?" in url or "#" in url:
        raise ConfigError(
            "The base URL holds a user, password, query or fragment. Nothing was sent; "
            "set HALO_BASE_URL without them."
        )
    if parts.scheme == "http" and not is_loopback(url):
        raise ConfigError(
            f"Plain http would send the key unencrypted to {host}. Nothing was sent; use https "
            "(http is for this machine only, such as http://127.0.0.1:8000)."
        )
    return url.rstrip("/")


def replay_source(base_url: str) -> str:
    """Who answers at a replay's base URL, in words: ``replay of FILE``; empty for another URL."""
    if not base_url.startswith(f"{REPLAY_HOST}/"):
        return ""
    kind, _, name = base_url.removeprefix(f"{REPLAY_HOST}/").partition("/")
    return f"replay of {unquote(name)}{' (demo agent)' if kind == 'demo' else ''}"


def checked_key(key: object) -> Secret:
    """Return the widget key as a `Secret`, or raise `ConfigError` for what is none."""
    if isinstance(key, Secret):
        return key
    if not isinstance(key, str):
        raise ConfigError(f"The API key must be a string, not {type(key).__name__}. Nothing was sent.")
    key = key.strip()
    if not key:
        raise ConfigError(
            "There is no API key. Nothing was sent; set HALO_API_KEY to a widget key (ab_live_…), "
            "or use the demo agent, which needs none."
        )
    _refuse_identity_secret(key, "the API key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            "The API key has a blank or a character that no key has. Nothing was sent; copy it anew."
        )
    return Secret(key)


def checked_token(token: str) -> Secret:
    token = token.strip()
    _refuse_identity_secret(token, "a user token")
    return Secret(token)


def _refuse_identity_secret(value: str, place: str) -> None:
    if value.startswith("ha_secret_"):
        raise ConfigError(
            f"An identity secret (ha_secret_…) was given as {place}. It signs user tokens and must never "
            "leave a backend, so it is not used. Nothing was sent; set the widget key (ab_live_…), and "
            "replace this secret if the notebook was shared."
        )


_SECRETS = {"api_key": checked_key, "user_token": checked_token}


def configured(name: str) -> Any:
    """What `%config HaloMagics` says in this kernel; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    magics = shell.magics_manager.registry.get("HaloMagics") if shell else None
    return getattr(magics, name, None)


def setting(name: str, argument: Any = None) -> Any:
    """The value of a setting: the argument, else `%config HaloMagics`, else HALO_<NAME>.

    Blank is as good as absent. A key or token comes as a `Secret`.
    """
    for value in (argument, configured(name), os.environ.get(f"HALO_{name.upper()}")):
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        return _SECRETS[name](value) if name in _SECRETS and isinstance(value, str) else value
    return None
