"""Secrets: the key and the user token are held as `Secret`, so that they show nowhere, and are checked."""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
from typing import Any, NoReturn

from ..errors import ConfigError

BLANK = (
    "\x00-\x20\x7f-\xa0\xad\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f"
    "\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Invisible characters, for a pattern: control characters, white space, and all that a font may ignore."""
_AROUND = rf"[{BLANK}\\'\"`´‘’‚‛“”„‟«»‹›′″]+"  # an env file keeps its quotes
_WRAPPING = re.compile(rf"\A{_AROUND}|{_AROUND}\Z")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, 2.1
_SECRETS_NAME = re.compile("tok|key|jwt|secret|auth|bearer", re.IGNORECASE)
_IDENTITY = "ha_secret_"


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


def hidden(value: Any) -> Any:
    """A key or token as a `Secret`, not checked yet, so that no frame of a traceback shows it."""
    if isinstance(value, bytes):  # as some libraries return a JWT
        value = value.decode("ascii", "replace")
    return Secret(value) if isinstance(value, str) and value.strip() else value


def hide_token(fields: Any) -> None:
    """Replace the user token among a request's fields, also under a wrong name, by a `Secret`."""
    if isinstance(fields, dict):
        for name in [name for name in fields if isinstance(name, str) and _SECRETS_NAME.search(name)]:
            fields[name] = hidden(fields[name])


def checked_key(key: object) -> Secret:
    """Return the widget key as a `Secret`. Raises `ConfigError` if it cannot be one."""
    key = hidden(key)
    if not isinstance(key, Secret):
        raise not_sent(f"The API key must be a string, not {type(key).__name__}")
    return _checked(key, "API key", "the API key")


def checked_token(token: str | Secret) -> Secret:
    """Return a user token as a `Secret`. Raises `ConfigError` if it cannot be one."""
    return _checked(hidden(token), "user token", "a user token")


def _checked(secret: Secret, name: str, place: str) -> Secret:
    """The secret without blanks and quotes around it."""
    secret = Secret(_WRAPPING.sub("", secret.reveal()))
    if _holds_identity_secret(secret):
        raise not_sent(
            f"An identity secret (ha_secret_…) was given as {place}. It signs user tokens and must never "
            "leave a backend, so it is not used",
            "set the widget key (ab_live_…), and replace this secret if the notebook was shared",
        )
    if not _TOKEN.fullmatch(secret.reveal()):
        raise not_sent(
            f"The {name} contains a blank or another character that no {name} has", "copy it again"
        )
    return secret


def _holds_identity_secret(secret: Secret) -> bool:
    """Whether the value is or contains an identity secret, also with characters in between or in base64."""
    texts = [secret.reveal()]
    for part in re.split(r"[^A-Za-z0-9+/_-]+", secret.reveal()):
        with contextlib.suppress(binascii.Error, ValueError):
            texts.append(
                base64.urlsafe_b64decode(part.replace("+", "-").replace("/", "_") + "==").decode("latin-1")
            )
    return any(_IDENTITY in re.sub(r"[^a-z0-9_]", "", text.lower()) for text in texts)
