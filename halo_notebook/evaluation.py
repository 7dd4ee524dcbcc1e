"""What came of an evaluation: every turn that was asked, what it was held to, and how sure that is.

What it promises:

- Nothing is dropped from a denominator: a turn that failed, was interrupted or was never sent is
  a row, and counts as no pass.
- What is said of a rate says how sure it is, with repeats of a case taken for what they are: not
  independent.
- It holds no reply in memory: they are read from the file when they are asked for.

It calls nobody: to judge anew, or to look at it another way, needs no agent.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import bridge
from .checks import Check, Score, as_score, call_check, checked_checks
from .errors import InvalidRequest
from .journal import read_lines
from .render import one_line
from .reply import ActionEvent, Reply, counted
from .stream import MalformedRecord, TextDelta

if TYPE_CHECKING:
    import pandas as pd

    from .cases import Case
    from .intervals import Comparison, TimeComparison
    from .stream import JSON

_AS_WRITTEN = (
    *("summary", "session_id", "agent_id", "status", "error"),
    *("first_text_s", "elapsed_s", "retries", "raw"),
)
COMPLETE, FAILED, INTERRUPTED, SKIPPED, NOT_RUN = "complete", "failed", "interrupted", "skipped", "not run"


def status_of(reply: Reply, *, refused: bool) -> str:
    """What became of a turn: ``complete``, ``failed`` (the message was not taken) or ``interrupted``."""
    if reply.status == "complete":
        return COMPLETE
    return FAILED if refused or not reply.may_have_arrived else INTERRUPTED


@dataclass(frozen=True)
class Conversation:
    """A case as it is asked once.

    Attributes:
        key: a digest of what is sent to whom, and which repeat it is.
        case: what is asked.
        config: the name of who is asked.
        repeat: from 1.
    """

    key: str
    case: Case
    config: str
    repeat: int


class Comparisons(dict[str, "Comparison | TimeComparison"]):
    """What is compared → how it differs; shows as a line each."""

    def __repr__(self) -> str:
        width = max(map(len, self), default=0)
        return "\n".join(f"{name:{width}}  {comparison}" for name, comparison in self.items())


class Evaluation:
    """What came of asking many cases.

    Attributes:
        path: the file that holds it.
        interrupted: whether it was stopped before all had been asked.
    """

    def __init__(
        self,
        path: Path,
        conversations: Sequence[Conversation],
        checks: Mapping[str, Check],
        configs: Sequence[str],
    ) -> None:
        self.path = path
        self.interrupted = False
        self._conversations = list(conversations)
        self._keys = {conversation.key for conversation in conversations}
        self._checks = dict(checks)
        self._configs = list(configs)
        self._scores: dict[tuple[str, int], dict[str, Score]] = {}
        self._broken: Counter[str] = Counter()  # how often each check could not judge
        self._sent: set[tuple[str, int]] = set()
        self._status: dict[tuple[str, int], str] = {}
        self._lock = threading.Lock()  # one thread asks, another judges

    # --- How it grows: for who runs it ---

    def take(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Take in what a file says of these conversations."""
        for line in lines:
            key, turn = line.get("key"), line.get("turn")
            if key in self._keys and isinstance(turn, int):
                with self._lock:
                    self._take_one(str(line.get("kind")), (str(key), turn), str(line.get("status")))

    def _take_one(self, kind: str, place: tuple[str, int], status: str) -> None:
        match kind:
            case "sent":
                if place[1] == 0:
                    # Its conversation is begun, or begun anew: what an earlier one came to is past.
                    self._forget(place[0])
                self._sent.add(place)
            case "refused":
                self._sent.discard(place)
            case "turn":
                self._sent.discard(place)
                self._status[place] = status

    def _forget(self, key: str) -> None:
        for held in (self._status, self._scores):
            for place in [place for place in held if place[0] == key]:
                del held[place]
        self._sent -= {place for place in self._sent if place[0] == key}

    def unfinished(self) -> list[Conversation]:
        """Those to be had: not begun, or ended by a message that certainly was not taken.

        One with a turn that may have reached the agent is not among them, nor one that is whole.
        """
        return [each for each in self._conversations if self._state(each) in (NOT_RUN, FAILED)]

    def _state(self, conversation: Conversation) -> str:
        """What has become of a conversation so far."""
        for turn in range(len(conversation.case.turns)):
            place = (conversation.key, turn)
            if place in self._sent:
                return INTERRUPTED
            status = self._status.get(place, NOT_RUN)
            if status != COMPLETE:
                # Between two turns the first of them has reached the agent: it is not begun anew.
                return INTERRUPTED if status == NOT_RUN and turn else status
        return COMPLETE

    def judge_reply(self, key: str, turn: int, reply: Reply, expect: JSON) -> None:
        """Hold a turn's reply to each check, from sync code."""
        for name, check in self._checks.items():
            try:
                verdict = bridge.resolve(call_check(check, reply, expect))
            except Exception as error:  # noqa: BLE001  # a user's own may raise anything
                verdict = error
            self.judge(key, turn, name, verdict)

    def judge(self, key: str, turn: int, name: str, verdict: Any) -> None:
        """Keep what a check gave for a turn, or the exception that it raised."""
        try:
            if isinstance(verdict, Exception):
                raise verdict
            score = as_score(verdict)
        except Exception as error:  # noqa: BLE001  # the check's own, of any kind
            score = Score(None, note=one_line(f"{type(error).__name__}: {error}"))
            self._broken[name] += 1
        with self._lock:
            self._scores.setdefault((key, turn), {})[name] = score

    def turns_left(self) -> int:
        """How many turns the unfinished conversations have."""
        return sum(len(each.case.turns) for each in self.unfinished())

    def tally(self) -> str:
        """Passes and failures so far, in a few words."""
        with self._lock:
            found = Counter(score.passed for scores in self._scores.values() for score in scores.values())
        broken = sum(self._broken.values())
        unsure = f", {broken} not judged" if broken else ""
        return f"{found[True]} passed, {found[False]} failed{unsure}"

    # --- Rows ---

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row per case × configuration × repeat × turn, asked or not, as plain values."""
        replies = self._replies()
        for conversation in self._conversations:
            broken = False
            for turn, asked in enumerate(conversation.case.turns):
                place = (conversation.key, turn)
                line = replies(place) if place in self._status else None
                status = self._status.get(place) or (
                    INTERRUPTED if place in self._sent else SKIPPED if broken else NOT_RUN
                )
                broken = broken or status != COMPLETE
                reply = (line or {}).get("reply", {})
                row: dict[str, Any] = {
                    "case": conversation.case.id,
                    "config": conversation.config,
                    "repeat": conversation.repeat,
                    "turn": turn + 1,
                    "tags": list(conversation.case.tags),
                    "status": status,
                    "say": asked.say,
                    "text": reply.get("text"),
                    "actions": reply.get("actions"),
                    "session_id": reply.get("session_id"),
                    "agent_id": reply.get("agent_id"),
                    "first_text_s": reply.get("first_text_s"),
                    "elapsed_s": reply.get("elapsed_s"),
                    "queue_wait_s": (line or {}).get("queue_wait_s"),
                    "retries": reply.get("retries"),
                    "error": reply.get("error") or None,
                }
                for name in self._checks:
                    score = self._scores.get(place, {}).get(name)
                    row[name] = self._passed(status, score)
                    row[f"{name} note"] = score.note if score else ""
                yield row

    @staticmethod
    def _passed(status: str, score: Score | None) -> bool | None:
        """A turn that did not come to its end passes nothing; what a check had nothing to say of is None."""
        if status != COMPLETE:
            return False
        return score.passed if score else None

    @property
    def df(self) -> pd.DataFrame:
        """The rows as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def failures(self) -> pd.DataFrame:
        """The rows that did not pass every check that judged them, or did not come to their end."""
        frame = self.df
        failed = (frame["status"] != COMPLETE) | (frame[list(self._checks)] == False).any(axis=1)  # noqa: E712
        return frame[failed]

    def passed(self, check: str) -> dict[str, dict[str, list[bool]]]:
        """Configuration → case → passes, one a repeat, of the turns that the check judged.

        A conversation passes when each of its judged turns does; one that did not come to its
        end does not.
        """
        if check not in self._checks:
            raise InvalidRequest(
                f"There is no check {check!r}; there are {', '.join(self._checks) or 'none'}."
            )
        result: dict[str, dict[str, list[bool]]] = {name: {} for name in self._configs}
        for conversation in self._conversations:
            places = [(conversation.key, turn) for turn in range(len(conversation.case.turns))]
            found = [
                self._passed(self._status.get(place, NOT_RUN), self._scores.get(place, {}).get(check))
                for place in places
            ]
            judged = [passes for passes in found if passes is not None]
            if judged:
                by_case = result[conversation.config].setdefault(conversation.case.id, [])
                by_case.append(all(judged))
        return result

    def _times(self, name: str) -> dict[str, dict[str, list[float]]]:
        """Configuration → case → seconds, of the turns that came to their end."""
        result: dict[str, dict[str, list[float]]] = {config: {} for config in self._configs}
        for row in self.rows():
            if row["status"] == COMPLETE and row[name] is not None:
                result[row["config"]].setdefault(row["case"], []).append(float(row[name]))
        return result

    # --- What it comes to ---

    def summary(self) -> pd.DataFrame:
        """A row per configuration: how its turns ended, each check's pass rate with its interval, times."""
        import pandas as pd

        from .intervals import pass_rate, quantiles

        frame = self.df
        rows = []
        for config in self._configs:
            part = frame[frame["config"] == config]
            counts = Counter(part["status"])
            row: dict[str, Any] = {
                "config": config,
                "cases": part["case"].nunique(),
                "turns": len(part),
                **{status: counts[status] for status in (COMPLETE, FAILED, INTERRUPTED)},
                "not asked": counts[SKIPPED] + counts[NOT_RUN],
            }
            for check in self._checks:
                row[check] = pass_rate(self.passed(check)[config])
            ended = part[part["status"] == COMPLETE]
            for name in ("first_text_s", "elapsed_s"):
                half, most = quantiles(list(ended[name].dropna()), (0.5, 0.95))
                row[f"{name} p50"], row[f"{name} p95"] = half, most
            row["agents"] = ", ".join(sorted(set(ended["agent_id"].dropna())))
            rows.append(row)
        return pd.DataFrame(rows).set_index("config")

    def notes(self) -> list[str]:
        """What a reader of the summary must know, a line each; mostly nothing."""
        notes = []
        states = Counter(map(self._state, self._conversations))
        if self.interrupted:
            notes.append("It was stopped before all had been asked; the same call goes on from here.")
        if states[INTERRUPTED]:
            notes.append(
                f"{counted(states[INTERRUPTED], 'conversation')} may have reached the agent and did not come "
                "to an end; not asked again by itself, and counted as no pass."
            )
        agents: dict[str, Counter[str]] = {config: Counter() for config in self._configs}
        for row in self.rows():
            if row["agent_id"]:
                agents[row["config"]][row["agent_id"]] += 1
        for config, answered in agents.items():
            if len(answered) > 1:
                shown = ", ".join(f"{agent} ({count})" for agent, count in answered.most_common(5))
                notes.append(f"More than one agent answered as {config!r}: {one_line(shown)}.")
        for name, count in self._broken.items():
            notes.append(f"{name} could not judge {counted(count, 'turn')}; they count neither way.")
        return notes

    def compare(self, a: str, b: str) -> Comparisons:
        """Two configurations, case by case: each check's pass rate, and the times in seconds.

        Differences are `b` less `a`. Each says how sure it is, and notes when there are too few
        cases to say anything.
        """
        from .intervals import compare_passes, compare_times

        for name in (a, b):
            if name not in self._configs:
                raise InvalidRequest(
                    f"There is no configuration {name!r}; there are {', '.join(self._configs)}."
                )
        result = Comparisons()
        for check in self._checks:
            passes = self.passed(check)
            result[check] = compare_passes(passes[a], passes[b])
        for name in ("first_text_s", "elapsed_s"):
            times = self._times(name)
            result[name] = compare_times(times[a], times[b])
        return result

    def rescore(self, checks: Sequence[Check] | Mapping[str, Check] | Check) -> Evaluation:
        """Judge the replies anew, by these checks; nobody is asked. Returns itself."""
        self._checks = checked_checks(checks)
        self._scores.clear()
        self._broken.clear()
        cases = {conversation.key: conversation.case for conversation in self._conversations}
        if self._checks:
            for place, line in self._lines():
                self.judge_reply(*place, reply_from(line["reply"]), cases[place[0]].expected(place[1]))
        return self

    def show(self, row: int) -> None:
        """Show the conversation of that row of `df` as it would show in a cell."""
        from IPython.display import publish_display_data

        from .outputs import reply_bundle, turn_bundle
        from .reply import status_words

        chosen = list(self.rows())[row]
        lines = dict(self._lines())
        conversation = next(
            each
            for each in self._conversations
            if (each.case.id, each.config, each.repeat)
            == (chosen["case"], chosen["config"], chosen["repeat"])
        )
        for turn, asked in enumerate(conversation.case.turns):
            line = lines.get((conversation.key, turn))
            if line is not None:
                reply = reply_from(line["reply"])
                bundle = reply_bundle(reply.text, reply.actions, status_words(reply))
                publish_display_data(data=turn_bundle(asked.say, bundle))

    # --- What is on the disk ---

    def _lines(self) -> Iterator[tuple[tuple[str, int], dict[str, Any]]]:
        """The turns that count, each once: the last line of each."""
        last: dict[tuple[str, int], dict[str, Any]] = {}
        for line in read_lines(self.path):
            place = (str(line.get("key")), line.get("turn"))
            if line.get("kind") == "turn" and place in self._status:
                last[place[0], int(place[1])] = line
        yield from last.items()

    def _replies(self) -> Any:
        lines = dict(self._lines())
        return lines.get

    def __len__(self) -> int:
        return len(self._conversations)

    def __repr__(self) -> str:
        states = Counter(map(self._state, self._conversations))
        shown = ", ".join(f"{count} {state}" for state, count in states.most_common())
        return f"Evaluation({counted(len(self), 'conversation')}: {shown or 'none'})"

    def _repr_html_(self) -> str:
        parts = [f"<p><strong>{escape(repr(self))}</strong> {escape(self.tally())}</p>"]
        summary = self.summary()
        parts.append(summary.map(_shown).to_html(escape=True))
        parts += [f"<p>⚠ {escape(note)}</p>" for note in self.notes()]
        return '<div class="halo-evaluation mathjax_ignore tex2jax_ignore">' + "\n".join(parts) + "</div>"


def _shown(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def reply_from(content: Mapping[str, Any]) -> Reply:
    """A reply as it was written down by `Reply.to_dict`."""
    reply = Reply()
    if content["text"]:
        reply.add(TextDelta(content["text"]), 0.0)
    reply.action_events = [ActionEvent(**event) for event in content["action_events"]]
    reply.malformed = [MalformedRecord(**record) for record in content["malformed"]]
    for name in (
        "summary",
        "session_id",
        "agent_id",
        "status",
        "error",
        "first_text_s",
        "elapsed_s",
        "retries",
        "raw",
    ):
        setattr(reply, name, content[name])
    reply.started_at = datetime.fromisoformat(content["started_at"])
    reply.state = ""
    return reply
