"""Configurations: names, and which agent answers under each and with which request fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeAlias

from ...client.aio import AsyncHaloClient
from ...client.request import checked_request, image_urls
from ...client.secrets import hide_token
from ...client.sync import HaloClient
from ...display.text import one_line, whole_text
from ...errors import InvalidRequest

MAX_NAME_CHARS = 80
Config: TypeAlias = "Mapping[str, Any] | HaloClient | AsyncHaloClient | None"


class _WrongFields(Exception):
    """The request fields of a configuration are not what the API takes."""


class Target(NamedTuple):
    """Where the messages of a configuration go.

    Attributes:
        client: its own, or None for the kernel's.
        fields: the request fields that go with each message.
    """

    client: HaloClient | AsyncHaloClient | None
    fields: dict[str, Any]


def hidden_tokens(configs: Any) -> Any:
    """The configurations that a user gave, their user tokens as `Secret`, so that no frame shows them."""
    if not isinstance(configs, Mapping):
        return configs
    hidden = {name: dict(each) if isinstance(each, Mapping) else each for name, each in configs.items()}
    for fields in hidden.values():
        hide_token(fields)
    return hidden


def read_configs(configs: Any) -> dict[str, Target]:
    """The target of each configuration of a dict that a user gave, its user token as a `Secret`.

    Raises:
        InvalidRequest: naming the configuration that makes no sense.
    """
    if not isinstance(configs, Mapping):
        raise InvalidRequest(
            f"configs is {type(configs).__name__}. Nothing was sent; give a dict, from names to request "
            "fields or clients."
        )
    configs = hidden_tokens(configs)
    targets: dict[str, Target] = {}
    for number, (given, config) in enumerate(configs.items(), 1):
        name = whole_text(str(given))
        if name in targets:
            raise InvalidRequest(
                f"Two configurations are called {name!r}. Nothing was sent; give one another name."
            )
        try:
            targets[name] = _target(name, config)
        except _WrongFields as error:
            place = f"Configuration {name!r} ({number} of {len(configs)})"
            raise InvalidRequest(f"{place}: {error}") from None
    return targets


def check_names(names: Iterable[str]) -> None:
    """Raise `InvalidRequest` for a name that could not stand above a column."""
    for name in names:
        if not name.strip() or len(name) > MAX_NAME_CHARS:
            raise InvalidRequest(
                f"{one_line(repr(name), 100)} is not the name of a configuration: it needs 1 to "
                f"{MAX_NAME_CHARS} characters. Nothing was sent."
            )


def _target(name: str, config: Config) -> Target:
    fields: dict[Any, Any] = dict(config) if isinstance(config, Mapping) else {"client": config}
    for own in ("message", "session_id"):
        if own in fields:
            raise InvalidRequest(
                f"Configuration {name!r} has a {own}. Nothing was sent; each conversation has its own."
            )
    if odd := [key for key in fields if not isinstance(key, str)]:
        raise InvalidRequest(
            f"Configuration {name!r} has the key {odd[0]!r}. Nothing was sent; the keys are names of request "
            "fields."
        )
    client: Any = fields.pop("client", None)
    if not isinstance(client, HaloClient | AsyncHaloClient | None):
        has = "has a client that is" if isinstance(config, Mapping) else "is"
        raise InvalidRequest(
            f"Configuration {name!r} {has} {type(client).__name__}. Nothing was sent; give request fields or "
            "a HaloClient."
        )
    try:
        if fields.get("images") is not None:  # drawn once: a figure may change later
            fields["images"] = image_urls(fields["images"])
        checked_request("Hello", fields, {})
    except InvalidRequest as error:
        raise _WrongFields(error) from None
    return Target(client, fields)
