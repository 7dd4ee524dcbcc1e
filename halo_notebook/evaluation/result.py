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

import contextlib
import heapq
import threading
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..checks import Check, Judge, Score, as_score, checked_checks
from ..concurrency import loop as bridge
from ..display.text import one_line
from ..display.words import counted
from ..errors import InvalidRequest
from ..reply import Reply, reply_from
from .journal import line_at, located_lines
from .sender import COMPLETE, FAILED, INTERRUPTED

if TYPE_CHECKING:
    import pandas as pd

    from ..stream import JSON
    from .cases import Case
    from .intervals import Comparison, TimeComparison
    from .report import Plot

ALL_TAGS = "(all)"
BUSY = 0.2
"""What a busy process may add to the agent's times, as a share of them, before it has to be said."""
SKIPPED, NOT_RUN = "skipped", "not run"


@dataclass(frozen=True, slots=True)
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

    def _repr_html_(self) -> str:
        from .report import comparison_table

        return comparison_table(self)


@dataclass(slots=True)
class _Turn:
    """What is held in memory of a turn: what the figures are made of, and no text."""

    status: str
    first_text_s: float | None = None
    elapsed_s: float | None = None
    agent_id: str | None = None
    scores: dict[str, Score] = field(default_factory=dict)


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
        checks: Mapping[str, Judge],
        configs: Mapping[str, str],
    ) -> None:
        self.path = path
        self.interrupted = False
        self._conversations = {conversation.key: conversation for conversation in conversations}
        self._checks = dict(checks)
        self._configs = dict(configs)  # and who answers, where it is not a service elsewhere
        self._turns: dict[str, dict[int, _Turn]] = {}  # of what has been sent, by key and place
        self._tally: Counter[bool | None] = Counter()
        self._lag_s = 0.0
        self._lock = threading.Lock()  # one thread asks, another judges

    # --- How it grows: for who runs it ---

    def take(self, lines: Iterable[Mapping[str, Any]]) -> None:
        """Take in what a file says of these conversations."""
        for line in lines:
            key, turn, kind = line.get("key"), line.get("turn"), line.get("kind")
            if kind == "lag":
                self._lag_s = float(line.get("p90_s") or 0)
            elif key in self._conversations and isinstance(turn, int):
                with self._lock:
                    self._take_one(str(kind), str(key), turn, line)

    def _take_one(self, kind: str, key: str, place: int, line: Mapping[str, Any]) -> None:
        turns = self._turns.setdefault(key, {})
        match kind:
            case "sent":
                if place == 0:
                    # Its conversation is begun, or begun anew: what an earlier one came to is past.
                    for turn in turns.values():
                        self._tally.subtract(self._passed(turn.status, each) for each in turn.scores.values())
                    turns.clear()
                turns[place] = _Turn(INTERRUPTED)  # until it is known to have ended in another way
            case "refused":
                turns.pop(place, None)
            case "turn":
                reply = line.get("reply") or {}
                turns[place] = _Turn(
                    str(line.get("status")),
                    reply.get("first_text_s"),
                    reply.get("elapsed_s"),
                    reply.get("agent_id"),
                )

    def unfinished(self, *, interrupted: bool = False) -> list[Conversation]:
        """Those to be had: not begun, or ended by a message that certainly was not taken.

        One with a turn that may have reached the agent is among them only when `interrupted` is
        asked for; one that is whole never is.
        """
        found = []
        for conversation in self._conversations.values():
            status, place = self._cut_at(conversation)
            begins = status in (NOT_RUN, FAILED) and place == 0
            if begins or (interrupted and status != COMPLETE):
                found.append(conversation)
        return found

    def _status(self, conversation: Conversation, place: int) -> str:
        """What became of a turn."""
        turns = self._turns.get(conversation.key, {})
        if place in turns:
            return turns[place].status
        before = [turns[earlier].status if earlier in turns else NOT_RUN for earlier in range(place)]
        return SKIPPED if any(status not in (COMPLETE, NOT_RUN) for status in before) else NOT_RUN

    def _cut_at(self, conversation: Conversation) -> tuple[str, int]:
        """What became of the first turn that is not complete, and its place; else ``complete``."""
        for place in range(len(conversation.case.turns)):
            status = self._status(conversation, place)
            if status != COMPLETE:
                return status, place
        return COMPLETE, len(conversation.case.turns)

    def _state(self, conversation: Conversation) -> str:
        """What has become of a conversation so far."""
        status, place = self._cut_at(conversation)
        # Its process ended between two turns, of which the first has reached the agent.
        return INTERRUPTED if status == NOT_RUN and place else status

    def judge_reply(self, key: str, turn: int, reply: Reply, expect: JSON) -> None:
        """Hold a turn's reply to each check, from sync code."""
        for name, check in self._checks.items():
            try:
                verdict = bridge.resolve(check(reply, expect))
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
            score = _NoVerdict(None, note=one_line(f"{type(error).__name__}: {error}"))
        with self._lock:
            held = self._turns.get(key, {}).get(turn)
            if held is not None:
                held.scores[name] = score
                self._tally[self._passed(held.status, score)] += 1

    def kept_replies(self) -> Iterator[tuple[str, int, Reply, JSON]]:
        """Each turn that has ended: its conversation's key, its place, its reply, what is expected of it."""
        for line in self._lines():
            key, place = line["key"], line["turn"]
            yield key, place, reply_from(line["reply"]), self._conversations[key].case.expected(place)

    def clear_scores(self) -> None:
        """Take all verdicts back, to judge anew."""
        with self._lock:
            self._tally.clear()
            for turns in self._turns.values():
                for turn in turns.values():
                    turn.scores = {}

    def tally(self) -> str:
        """Passes and failures so far, in a few words."""
        return f"{self._tally[True]:,} passed, {self._tally[False]:,} failed"

    # --- Rows ---

    def rows(self) -> Iterator[dict[str, Any]]:
        """A row per case × configuration × repeat × turn, asked or not, as plain values.

        They are read from the file one by one; what is not taken out of them takes no memory.
        """
        with contextlib.closing(self._reader()) as read:
            for conversation in self._conversations.values():
                for place, asked in enumerate(conversation.case.turns):
                    line = read.send((conversation.key, place)) or {}
                    reply = line.get("reply", {})
                    status = self._status(conversation, place)
                    turn = self._turns.get(conversation.key, {}).get(place)
                    row: dict[str, Any] = {
                        "case": conversation.case.id,
                        "config": conversation.config,
                        "repeat": conversation.repeat,
                        "turn": place + 1,
                        "tags": list(conversation.case.tags),
                        "status": status,
                        "message": asked.message,
                        "text": reply.get("text"),
                        "actions": reply.get("actions"),
                        "session_id": reply.get("session_id"),
                        "agent_id": reply.get("agent_id"),
                        "first_text_s": reply.get("first_text_s"),
                        "elapsed_s": reply.get("elapsed_s"),
                        "queue_wait_s": line.get("queue_wait_s"),
                        "retries": reply.get("retries"),
                        "error": reply.get("error") or None,
                    }
                    for name in self._checks:
                        score = turn.scores.get(name) if turn else None
                        row[name] = self._passed(status, score)
                        row[f"{name} note"] = score.note if score else ""
                    yield row

    @staticmethod
    def _passed(status: str, score: Score | None) -> bool | None:
        """Whether a turn passes; None where nothing can be said.

        One that did not come to its end passes nothing, unless the check has nothing to say of such
        a turn in any case; one that was not begun has no result yet.
        """
        if status == NOT_RUN:
            return None
        says_nothing = score is not None and score.passed is None and not isinstance(score, _NoVerdict)
        if status != COMPLETE:
            return None if says_nothing else False
        return score.passed if score else None

    @property
    def df(self) -> pd.DataFrame:
        """The rows as a pandas DataFrame."""
        import pandas as pd

        return pd.DataFrame(list(self.rows()))

    def failures(self) -> pd.DataFrame:
        """The rows that did not pass every check that judged them, or did not come to their end."""
        import pandas as pd

        rows = list(self.rows())
        failed = [row["status"] != NOT_RUN and bool(self.why(row)) for row in rows]
        return pd.DataFrame(rows)[failed]

    def worst(self, count: int = 5) -> pd.DataFrame:
        """The cases to look at first: of each the row that went worst, with why, by its number in `df`.

        Those that did not come to their end, then those that failed the most checks, then the slowest.
        `bad` says how many of the case's rows were no success, and of how many.
        """
        import pandas as pd

        worst: dict[str, tuple[tuple[bool, int, float], dict[str, Any]]] = {}
        bad: Counter[str] = Counter()
        rows: Counter[str] = Counter()
        for number, row in enumerate(self.rows()):
            if row["status"] in (SKIPPED, NOT_RUN):
                continue  # what kept it from being asked is another row
            case, failed = row["case"], sum(row[name] is False for name in self._checks)
            rows[case] += 1
            bad[case] += bool(self.why(row))
            rank = (row["status"] != COMPLETE, failed, row["elapsed_s"] or 0.0)
            if case not in worst or rank > worst[case][0]:
                shown = {"row": number, **{name: row[name] for name in ("case", "config", "repeat", "turn")}}
                shown["why"] = self.why(row) or "among the slowest"
                shown["text"] = one_line(row["text"] or "", 120)
                worst[case] = rank, {**shown, "elapsed_s": row["elapsed_s"]}
        chosen = [row for _, row in heapq.nlargest(count, worst.values(), key=lambda ranked: ranked[0])]
        columns = ["row", "case", "config", "repeat", "turn", "why", "text", "elapsed_s"]
        frame = pd.DataFrame(chosen, columns=columns).set_index("row")
        frame.insert(4, "bad", [f"{bad[case]} of {rows[case]}" for case in frame["case"]])
        return frame

    def why(self, row: Mapping[str, Any]) -> str:
        """Why a row of `rows` is no success, in a line; empty when it is one."""
        if row["status"] != COMPLETE:
            # Of an error what failed; what to do about it stands in the row.
            what = (row["error"] or "").partition(". ")[0].rstrip(".")
            return f"{row['status']}: {what}" if what else str(row["status"])
        failed = [name for name in self._checks if row[name] is False]
        noted = [f"{name} ({row[f'{name} note']})" if row[f"{name} note"] else name for name in failed]
        return f"failed {', '.join(noted)}" if noted else ""

    def passed(self, check: str, tag: str | None = None) -> dict[str, dict[str, list[bool | None]]]:
        """Configuration → case → passes, one a repeat, of the turns that the check judged.

        A conversation passes when each of its judged turns does; one that did not come to its
        end does not, and one that was not begun has None.

        Args:
            check: its name.
            tag: for the cases with this tag alone.
        """
        if check not in self._checks:
            raise InvalidRequest(
                f"There is no check {check!r}; there are {', '.join(self._checks) or 'none'}."
            )
        result: dict[str, dict[str, list[bool | None]]] = {name: {} for name in self._configs}
        for conversation in self._tagged(tag):
            if self._state(conversation) == NOT_RUN:
                result[conversation.config].setdefault(conversation.case.id, []).append(None)
                continue
            turns = self._turns.get(conversation.key, {})
            found = [
                self._passed(
                    self._status(conversation, place),
                    turns[place].scores.get(check) if place in turns else None,
                )
                for place in range(len(conversation.case.turns))
            ]
            judged = [passes for passes in found if passes is not None]
            if judged:
                by_case = result[conversation.config].setdefault(conversation.case.id, [])
                by_case.append(all(judged))
        return result

    def times(self, name: str, tag: str | None = None) -> dict[str, dict[str, list[float]]]:
        """Configuration → case → seconds, of the turns that came to their end; none for a case without.

        Args:
            name: ``first_text_s`` or ``elapsed_s``.
            tag: for the cases with this tag alone.
        """
        result: dict[str, dict[str, list[float]]] = {config: {} for config in self._configs}
        for conversation in self._tagged(tag):
            held = result[conversation.config].setdefault(conversation.case.id, [])
            for turn in self._turns.get(conversation.key, {}).values():
                value = turn.first_text_s if name == "first_text_s" else turn.elapsed_s
                if turn.status == COMPLETE and value is not None:
                    held.append(value)
        return result

    def _tagged(self, tag: str | None) -> list[Conversation]:
        return [each for each in self._conversations.values() if tag is None or tag in each.case.tags]

    # --- What it comes to ---

    def summary(self, *, by_tag: bool = False) -> pd.DataFrame:
        """A row per configuration: how its turns ended, each check's pass rate with its interval, times.

        Args:
            by_tag: a row per configuration and tag; a case with two tags counts in both.
        """
        import pandas as pd

        tags = [tag for each in self._conversations.values() for tag in each.case.tags]
        groups = [None, *dict.fromkeys(tags)] if by_tag else [None]
        rows = {
            (config, ALL_TAGS if tag is None else tag): self._summed_up(config, tag)
            for config in self._configs
            for tag in groups
        }
        index = pd.MultiIndex.from_tuples(list(rows), names=["config", "tag"])
        frame = pd.DataFrame(list(rows.values()), index=index)
        return frame if by_tag else frame.droplevel("tag")

    def _summed_up(self, config: str, tag: str | None) -> dict[str, Any]:
        from .intervals import pass_rate, quantiles

        conversations = [each for each in self._tagged(tag) if each.config == config]
        places = [(each, place) for each in conversations for place in range(len(each.case.turns))]
        counts = Counter(self._status(conversation, place) for conversation, place in places)
        row: dict[str, Any] = {
            "cases": len({each.case.id for each in conversations}),
            "turns": len(places),
            **{status: counts[status] for status in (COMPLETE, FAILED, INTERRUPTED)},
            "not asked": counts[SKIPPED] + counts[NOT_RUN],
        }
        for check in self._checks:
            row[check] = pass_rate(self.passed(check, tag)[config])
        for name in ("first_text_s", "elapsed_s"):
            values = [value for times in self.times(name, tag)[config].values() for value in times]
            row[f"{name} p50"], row[f"{name} p95"] = quantiles(values, (0.5, 0.95))
        agents = ", ".join(sorted(self._agents(conversations)))
        row["agents"] = f"{agents} ({source})" if agents and (source := self._configs[config]) else agents
        return row

    def _agents(self, conversations: Iterable[Conversation]) -> Counter[str]:
        """Who answered, and how often."""
        turns = (turn for each in conversations for turn in self._turns.get(each.key, {}).values())
        return Counter(turn.agent_id for turn in turns if turn.agent_id)

    def notes(self) -> list[str]:
        """What a reader of the summary must know, a line each; mostly nothing."""
        notes = []
        if self.interrupted:
            notes.append("It was stopped before all had been asked; the same call goes on from here.")
        cut = [self._cut_at(each) for each in self._conversations.values()]
        open_ended = sum(status == INTERRUPTED or (place > 0 and status != COMPLETE) for status, place in cut)
        if open_ended:
            notes.append(
                f"{counted(open_ended, 'conversation')} may have reached the agent and did not come "
                "to an end; not asked again by itself, and counted as no pass. Where asking again does no "
                "harm, resume='interrupted' does so."
            )
        for config in self._configs:
            agents = self._agents(each for each in self._conversations.values() if each.config == config)
            if len(agents) > 1:
                shown = ", ".join(f"{agent} ({count})" for agent, count in agents.most_common(5))
                notes.append(f"More than one agent answered as {config!r}: {one_line(shown)}.")
        ended = [turn for turns in self._turns.values() for turn in turns.values() if turn.status == COMPLETE]
        for name in self._checks:
            broken = sum(isinstance(turn.scores.get(name), _NoVerdict) for turn in ended)
            if broken:
                notes.append(f"{name} could not judge {counted(broken, 'turn')}; they count neither way.")
            unjudged = sum(name not in turn.scores for turn in ended)
            if unjudged:
                notes.append(f"{name} has not judged {counted(unjudged, 'turn')} yet; rescore() does.")
        times = sorted(turn.first_text_s for turn in ended if turn.first_text_s is not None)
        if times and self._lag_s > BUSY * times[len(times) // 2]:
            notes.append(
                f"The sending side was the bottleneck: what had arrived waited {self._lag_s:.3f} s (p90) to "
                "be read, and the times are longer than the agent's by as much. Lower the concurrency, or "
                "judge afterwards with rescore()."
            )
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
            times = self.times(name)
            result[name] = compare_times(times[a], times[b])
        return result

    def rescore(self, checks: Sequence[Check] | Mapping[str, Check] | Check | None = None) -> Evaluation:
        """Judge the replies anew, in place of what was found before; nobody is asked. Returns itself.

        Args:
            checks: None for those that it has.
        """
        if checks is not None:
            self._checks = checked_checks(checks)
        self.clear_scores()
        if self._checks:
            for kept in self.kept_replies():
                self.judge_reply(*kept)
        return self

    # --- How it looks ---

    def show(self, row: int) -> None:
        """Show the conversation of that row of `df` as it would show in a cell."""
        from IPython.display import publish_display_data

        from ..display.bundles import reply_bundle, turn_bundle
        from ..display.words import status_words

        for message, reply in self.conversation(row):
            bundle = reply_bundle(reply.text, reply.actions, status_words(reply))
            publish_display_data(data=turn_bundle(message, bundle))

    def conversation(self, row: int) -> list[tuple[str, Reply]]:
        """The turns of that row's conversation that were had: what was said, and the reply."""
        firsts = [each for each in self._conversations.values() for _ in each.case.turns]
        try:
            chosen = firsts[row]
        except IndexError:
            raise InvalidRequest(f"There is no row {row}; there are {len(firsts):,}, from 0.") from None
        return self._turns_had(chosen)

    def conversations(self) -> Iterator[tuple[Conversation, list[tuple[str, Reply]]]]:
        """Each conversation, with its turns that were had, read from the file one by one."""
        with contextlib.closing(self._reader()) as read:
            for conversation in self._conversations.values():
                yield conversation, self._turns_had(conversation, read)

    def _turns_had(
        self, conversation: Conversation, read: Generator[Any, tuple[str, int], None] | None = None
    ) -> list[tuple[str, Reply]]:
        reader = read or self._reader()
        lines = [reader.send((conversation.key, place)) for place in range(len(conversation.case.turns))]
        return [
            (turn.message, reply_from(line["reply"]))
            for turn, line in zip(conversation.case.turns, lines, strict=True)
            if line
        ]

    def plot(self) -> Plot:
        """Each check's pass rate with its interval, and how the times are spread, by configuration."""
        from .report import plot

        return plot(self)

    def to_html(self, path: str | Path) -> Path:
        """Write all of it into one file that stands by itself, to send to a colleague; returns its path.

        It holds what was said, with stars for what was sent in confidence, no script, and loads nothing.

        Raises:
            UsageError: when it cannot be written.
        """
        from .report import write_page

        return write_page(self, Path(path).expanduser())

    @property
    def checks(self) -> list[str]:
        """The checks' names, in order."""
        return list(self._checks)

    @property
    def configs(self) -> list[str]:
        """The configurations' names, in order."""
        return list(self._configs)

    # --- What is on the disk ---

    def _places(self) -> dict[str, dict[int, int]]:
        """Where in the file each turn that counts begins, by key and place: the last line of each."""
        found: dict[str, dict[int, int]] = {}
        for at, line in located_lines(self.path):
            key, place = str(line.get("key")), line.get("turn")
            if line.get("kind") == "sent" and place == 0:
                found[key] = {}  # begun anew: what an earlier conversation came to is past
            elif line.get("kind") == "turn" and place in self._turns.get(key, {}):
                found.setdefault(key, {})[int(place)] = at
        return found

    def _lines(self) -> Iterator[dict[str, Any]]:
        """The lines of the turns that count, in the file's order."""
        with self.path.open("rb") as file:
            for at in sorted(at for turns in self._places().values() for at in turns.values()):
                yield line_at(file, at)

    def _reader(self) -> Generator[dict[str, Any] | None, tuple[str, int], None]:
        """Send it a conversation's key and a place; it gives that turn's line, or None. Close it."""

        def read() -> Generator[dict[str, Any] | None, tuple[str, int], None]:
            places = self._places()
            with self.path.open("rb") as file:
                line = None
                while True:
                    key, place = yield line
                    at = places.get(key, {}).get(place)
                    line = None if at is None else line_at(file, at)

        reader = read()
        next(reader)
        return reader

    def __len__(self) -> int:
        return len(self._conversations)

    def __repr__(self) -> str:
        states = Counter(map(self._state, self._conversations.values()))
        shown = ", ".join(f"{count:,} {state}" for state, count in states.most_common())
        return f"Evaluation({counted(len(self), 'conversation')}: {shown or 'none'})"

    def _repr_html_(self) -> str:
        from .report import overview

        return overview(self)


class _NoVerdict(Score):
    """A check failed to judge."""
