"""Secrets: the key and the user token are held as `Secret`, so that they show nowhere, and are checked."""

from __future__ import annotations

from typing import NoReturn

from ..errors import ConfigError


class Secret:
    """A string that shows in no repr, format or traceback, only through `reveal`."""

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
        raise TypeError("a secret is not pickled: the file would contain it")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)


def not_sent(what: str, todo: str = "") -> ConfigError:
    """The error for a setting: what is wrong with it, and what to do."""
    return ConfigError(f"{what}. Nothing was sent{todo and '; '}{todo}.")


def checked_key(key: object) -> Secret:
    """Return the widget key as a `Secret`. Raises `ConfigError` if it cannot be one."""
    if isinstance(key, Secret):
        return key
    if not isinstance(key, str):
        raise not_sent(f"The API key must be a string, not {type(key).__name__}")
    key = key.strip()
    if not key:
        raise not_sent(
            "There is no API key",
            "set HALO_API_KEY to a widget key (ab_live_…), or use the demo agent, which needs none",
        )
    _refuse_identity_secret(key, "the API key")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise not_sent("The API key contains a blank or another character that no key has", "copy it again")
    return Secret(key)


def checked_token(token: str) -> Secret:
    token = token.strip()
    _refuse_identity_secret(token, "a user token")
    return Secret(token)


def _refuse_identity_secret(value: str, place: str) -> None:
    if value.startswith("ha_secret_"):
        raise not_sent(
            f"An identity secret (ha_secret_…) was given as {place}. It signs user tokens and must never "
            "leave a backend, so it is not used",
            "set the widget key (ab_live_…), and replace this secret if the notebook was shared",
        )
