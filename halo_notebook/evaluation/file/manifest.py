"""What a run is about, as its file says it: the cases, who is asked, and how often.

A file has several runs. The latest `run`, `plan` and `checks` lines count, and a `case` line is written once.
User tokens are not written: a case is the same whoever sends it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...client.settings import is_loopback
from ..cases.case import Case, CaseTurn, Conversation, digest, keyed
from ..cases.user_functions import CaseUser
from .lines import FORMAT

if TYPE_CHECKING:
    from ...client.aio import AsyncHaloClient
    from ...stream import JSON
    from ..judging.checks import Judge

DEMO = "demo agent"


@dataclass(frozen=True, slots=True)
class Target:
    """Who is asked under a configuration.

    Attributes:
        url: the base URL.
        source: who answers there, if not Halo, such as ``demo agent``; otherwise empty.
        key: a digest of all that decides who answers; empty in a file of an earlier version.
    """

    url: str
    source: str = ""
    key: str = ""

    @property
    def shown_source(self) -> str:
        """Who answers, as tables show it; empty for Halo."""
        return self.source or ("on this machine" if is_loopback(self.url) else "")

    def to_dict(self) -> dict[str, JSON]:
        return {"url": self.url, "source": self.source, "target": self.key}


def target_of(client: AsyncHaloClient, fields: Mapping[str, Any], place: str) -> Target:
    """Whom a client asks with these request fields; `place` is what they are called in an error."""
    address, *others = client.identity
    # The kernel's own demo agent has another port in each kernel, and is the same agent.
    identity = [DEMO if client.source == DEMO else address, *others]
    return Target(client.base_url, client.source, digest([identity, keyed(fields, place)]))


def conversations(
    cases: Sequence[Case], case_keys: Sequence[str], targets: Mapping[str, Target], repeats: int
) -> list[Conversation]:
    """All conversations, in the order in which they start: configurations take turns.

    `case_keys` are the cases' content keys, as the file has them.
    """
    copies: Counter[str] = Counter()
    made = []
    for repeat in range(1, repeats + 1):
        for case, case_key in zip(cases, case_keys, strict=True):
            for name, target in targets.items():
                content = digest([case_key, target.key, repeat])
                copies[content] += 1  # two cases, or two configurations, may be the same
                made.append(Conversation(f"{content}-{copies[content]}", case, name, repeat))
    return made


def run_line(at: str, targets: Mapping[str, Target], repeats: int) -> dict[str, JSON]:
    configs: dict[str, JSON] = {name: target.to_dict() for name, target in targets.items()}
    return {"kind": "run", "format": FORMAT, "at": at, "repeats": repeats, "configs": configs}


def case_line(case: Case, case_key: str) -> dict[str, JSON]:
    """A case as a line, whose `key` is a digest of all that it holds."""
    turns: list[JSON] = [
        {"message": turn.message, "expect": turn.expect, "fields": keyed(turn.fields, f"Case {case.id!r}")}
        for turn in case.turns
    ]
    content: dict[str, JSON] = {"id": case.id, "content": case_key, "turns": turns, "expect": case.expect}
    content |= {"tags": list(case.tags), "metadata": case.metadata}
    if user := case.user:
        said: dict[str, JSON] = {"version": user.version, "goal": user.goal, "max_turns": user.max_turns}
        content["user"] = said | {"expect": user.expect, "fields": keyed(user.fields, f"Case {case.id!r}")}
    return {"kind": "case", "key": digest(content), **content}


def given_key(check: Judge, conversation: Conversation, turn: int, *, is_last: bool = False) -> str:
    """A digest of what a check sees beside the conversation itself; empty for nothing.

    A verdict does not count any more when the case expects something else. `is_last`: see `Case.expected`.
    """
    case = conversation.case
    given: dict[str, JSON] = {}
    if "expect" in check.arguments and (expected := case.expected(turn, is_last=is_last)) is not None:
        given["expect"] = expected
    if "case" in check.arguments:
        given["case"] = case_line(case, "")["key"]
    if "config" in check.arguments:
        given["config"] = conversation.config
    return digest(given) if given else ""


def counts(
    line: Mapping[str, Any],
    check: Judge,
    conversation: Conversation,
    last_turn: Callable[[Conversation], int | None],
) -> bool:
    """Whether a stored verdict is about what the check sees now.

    One on a conversation with a user does not count any more when the conversation has gone on.
    """
    has_user = conversation.case.user is not None
    is_last = has_user and last_turn(conversation) == line["turn"]
    if has_user and check.of_conversation and not is_last:
        return False
    return bool(line["given"] == given_key(check, conversation, line["turn"], is_last=is_last))


def case_of(line: Mapping[str, Any]) -> Case:
    """The case of a line that has been checked."""
    turns = tuple(CaseTurn(**turn) for turn in line["turns"])
    user = CaseUser(None, **line["user"]) if "user" in line else None
    return Case(line["id"], turns, line["expect"], tuple(line["tags"]), line["metadata"], user)


class Recorded:
    """What a file says so far about its runs; of a case, the byte at which its line begins."""

    def __init__(self) -> None:
        self.cases: dict[str, int] = {}
        self.plan: list[str] | None = None  # the keys of the cases, in order; None in an earlier version
        self.targets: dict[str, Target] = {}
        self.repeats = 1
        self.checks: list[dict[str, Any]] = []  # name, version, arguments, of_conversation

    def take(self, line: Mapping[str, Any], at: int) -> None:
        """Take in a line that begins at that byte."""
        match line["kind"]:
            case "run":
                self.repeats = line.get("repeats", 1)
                self.targets = {
                    name: Target(config["url"], config["source"], config["target"])
                    if isinstance(config, dict)
                    else Target(config)
                    for name, config in line.get("configs", {}).items()
                }
            case "case":
                self.cases[line["key"]] = at
            case "plan":
                self.plan = line["cases"]
            case "checks":
                self.checks = line["checks"]

    def new_lines(self, cases: Sequence[Case], case_keys: Sequence[str]) -> Iterator[dict[str, JSON]]:
        """The lines that a file needs before a run of these cases, besides its `run` line."""
        plan: list[JSON] = []
        written = set(self.cases)
        for case, case_key in zip(cases, case_keys, strict=True):
            line = case_line(case, case_key)
            key = str(line["key"])
            plan.append(key)
            if key not in written:
                written.add(key)
                yield line
        if plan != self.plan:
            yield {"kind": "plan", "cases": plan}
