"""What an evaluation will send: everything that it was given, checked before anything is sent."""

from __future__ import annotations

import importlib.util
import weakref
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from numbers import Integral
from typing import TYPE_CHECKING, Any, TypeAlias

from ..client.aio import AsyncHaloClient
from ..client.settings import is_loopback
from ..client.sync import HaloClient
from ..errors import InvalidRequest, UsageError
from ..kernel import current_client
from .cases import CaseSource, Conversation, check_apart, digest, keyed, read_cases
from .journal import Journal
from .judging import Checks, check_expectations, named_checks
from .lines import FORMAT
from .places import absolute, temporary_file
from .state import RunState

if TYPE_CHECKING:
    from pathlib import Path

    from ..stream import JSON

Config: TypeAlias = "Mapping[str, Any] | HaloClient | AsyncHaloClient | None"


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
    ) -> None:
        check_installed("An evaluation", "eval", "aiohttp", "filelock", "pandas", "scipy", "tqdm")
        self.repeats, self.concurrency = _count("repeats", repeats), _count("concurrency", concurrency)
        if rate_limit is not None and not rate_limit > 0:
            raise InvalidRequest(f"rate_limit must be above 0, not {rate_limit!r}. Nothing was sent.")
        self.rate_limit = rate_limit
        self.cases = read_cases(cases)
        if not isinstance(configs, Mapping | None):
            raise InvalidRequest(
                f"configs is {type(configs).__name__}. Nothing was sent; give a dict, from names to request "
                "fields or clients."
            )
        named = {str(name): config for name, config in (configs or {"default": None}).items()}
        self.clients: dict[str, AsyncHaloClient] = {}
        self.fields: dict[str, dict[str, Any]] = {}
        for name, config in named.items():
            client, fields = self.clients[name], self.fields[name] = _target(name, config)
            for turn in (turn for case in self.cases for turn in case.turns):
                client.prepare(turn.message, **{**fields, **turn.fields})
        self.checks = named_checks(checks)
        check_apart(self.checks, self.cases)
        check_expectations(self.checks, self.cases)

    def conversations(self) -> list[Conversation]:
        """All conversations, in the order in which they start: configurations take turns."""
        copies: Counter[str] = Counter()
        made = []
        case_keys = [case.content_key for case in self.cases]
        target_keys = {
            name: digest([self.clients[name].identity, keyed(fields, f"Configuration {name!r}")])
            for name, fields in self.fields.items()
        }
        for repeat in range(1, self.repeats + 1):
            for case, case_key in zip(self.cases, case_keys, strict=True):
                for name, target_key in target_keys.items():
                    content = digest([case_key, target_key, repeat])
                    copies[content] += 1  # two cases, or two configurations, may be the same
                    made.append(Conversation(f"{content}-{copies[content]}", case, name, repeat))
        return made


def _target(name: str, config: Config) -> tuple[AsyncHaloClient, dict[str, Any]]:
    fields = dict(config) if isinstance(config, Mapping) else {"client": config}
    for own in ("message", "session_id"):
        if own in fields:
            raise InvalidRequest(
                f"Configuration {name!r} has a {own}. Nothing was sent; each conversation has its own."
            )
    client: Any = fields.pop("client", None)
    if client is None:
        client = current_client()
    if not isinstance(client, HaloClient | AsyncHaloClient):
        has = "has a client that is" if isinstance(config, Mapping) else "is"
        raise InvalidRequest(
            f"Configuration {name!r} {has} {type(client).__name__}. Nothing was sent; give request fields or "
            "a HaloClient."
        )
    return client.aio if isinstance(client, HaloClient) else client, fields


def open_run(plan: Plan, path: str | Path | None, *, resume: bool | str) -> tuple[RunState, Journal]:
    """The state as the file knows it, and the file to continue in; raises as `evaluate` does."""
    if resume not in (True, False, "interrupted"):
        wanted = "True, False or 'interrupted'"
        raise InvalidRequest(f"resume must be {wanted}, not {resume!r}. Nothing was sent.")
    file, remove = temporary_file() if path is None else (absolute(path), None)
    journal = Journal(file)
    try:
        if not resume and file.stat().st_size:
            raise InvalidRequest(
                f"{file.name!r} holds an evaluation. Nothing was sent; resume it (resume=True), or give "
                "another path."
            )
        sources = {
            name: client.source or ("on this machine" if is_loopback(client.base_url) else "")
            for name, client in plan.clients.items()
        }
        state = RunState(file, plan.conversations(), plan.checks, sources)
        if remove is not None:
            weakref.finalize(state, remove)
        state.load()
        addresses: dict[str, JSON] = {name: client.base_url for name, client in plan.clients.items()}
        journal.append({"kind": "run", "format": FORMAT, "at": now(), "configs": addresses})
    except BaseException:
        journal.close()
        raise
    return state, journal


def check_installed(what: str, extra: str, *names: str) -> None:
    """Name a missing package now, and not after everything has been sent."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UsageError(
                f"{what} needs the package {name}. Nothing was sent; run "
                f"python -m pip install 'halo-notebook[{extra}]' where the kernel runs."
            )


def _count(name: str, value: Any) -> int:
    if not isinstance(value, Integral) or int(value) < 1:
        raise InvalidRequest(f"{name} must be a whole number from 1, not {value!r}. Nothing was sent.")
    return int(value)


def now() -> str:
    """The time, as lines of the file have it."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
