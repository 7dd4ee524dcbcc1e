"""What an evaluation will send: everything that it was given, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from ...client.sync import HaloClient
from ...errors import InvalidRequest, check_installed
from ...kernel import current_client
from ..cases.case import CaseSource, Conversation, check_apart, read_cases
from ..file.manifest import conversations, target_of
from ..judging.checks import Checks, check_expectations, named_checks
from .configs import Target, read_configs

if TYPE_CHECKING:
    from ...client.aio import AsyncHaloClient
    from .configs import Config


class Plan:
    """What an evaluation will send, and how fast; raises as `evaluate` does.

    Of each configuration it has the client in `clients`, and in `fields` what goes with each message.
    """

    def __init__(  # noqa: PLR0917  # what `evaluate` and `aevaluate` were given, in their order
        self,
        cases: CaseSource,
        checks: Checks,
        configs: Mapping[str, Config] | None,
        repeats: int,
        concurrency: int,
        rate_limit: float | None,
        check_concurrency: int | None = None,
    ) -> None:
        check_installed("An evaluation", "eval", "aiohttp", "filelock", "pandas", "scipy", "tqdm")
        self.repeats, self.concurrency = count("repeats", repeats), count("concurrency", concurrency)
        self.check_concurrency = count(
            "check_concurrency", concurrency if check_concurrency is None else check_concurrency
        )
        if rate_limit is not None and not _is_above_0(rate_limit):
            raise InvalidRequest(
                f"rate_limit must be a number above 0, not {rate_limit!r}. Nothing was sent."
            )
        self.rate_limit = rate_limit
        self.cases = read_cases(cases)
        self.clients: dict[str, AsyncHaloClient] = {}
        self.fields: dict[str, dict[str, Any]] = {}
        named = read_configs({} if configs is None else configs) or {"default": Target(None, {})}
        for name, (given, fields) in named.items():
            client = current_client() if given is None else given
            self.clients[name] = client = client.aio if isinstance(client, HaloClient) else client
            self.fields[name] = fields
            client.prepare("Hello", **fields)
            for case in self.cases:
                for turn in case.turns:
                    if turn.fields:  # the messages themselves were checked when the cases were read
                        client.prepare(turn.message, **{**fields, **turn.fields})
                if case.user:
                    client.prepare("Hello", **{**fields, **case.user.fields})
        self.checks = named_checks(checks)
        check_apart(self.checks, self.cases)
        check_expectations(self.checks, self.cases)

        self.case_keys = [case.content_key for case in self.cases]
        self.targets = {
            name: target_of(self.clients[name], fields, f"Configuration {name!r}")
            for name, fields in self.fields.items()
        }

    def conversations(self) -> list[Conversation]:
        """All conversations, in the order in which they start."""
        return conversations(self.cases, self.case_keys, self.targets, self.repeats)


def count(name: str, value: Any) -> int:
    """A whole number from 1. Raises `InvalidRequest`."""
    if not isinstance(value, Integral) or int(value) < 1:
        raise InvalidRequest(f"{name} must be a whole number from 1, not {value!r}. Nothing was sent.")
    return int(value)


def _is_above_0(value: Any) -> bool:
    return isinstance(value, Real) and float(value) > 0
