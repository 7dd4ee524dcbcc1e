"""What has become of each turn of an evaluation: its figures in memory, its reply in the file.

- A line changes the state in the same way when it is written and when it is read again later.
- Lines that come twice or out of order change nothing: each belongs to a round (a start of its conversation)
  and a try, of which the later ones count, and a complete turn stays complete.
- A turn holds no text, but the position of its line in the file. Whatever became of it, it is in every count.
- Verdicts are in the file, too, by turn, check and version of the check. The latest of them counts.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import sys
import threading
import weakref
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ...checks import NoVerdict, Score
from ...errors import UsageError
from ..outcomes import AGENT, COMPLETE, FAILED, INTERRUPTED, NETWORK, STOPPED
from .journal import Journal
from .label_lines import Labels
from .lines import line_at, located_lines
from .manifest import Recorded, counts, given_key
from .users_messages import UsersMessages

if TYPE_CHECKING:
    from ...stream import JSON
    from ..cases.case import CaseTurn, Conversation
    from ..judging.checks import Judge
    from ..judging.concurrent_checks import Ended
    from .manifest import Target
    from .users_messages import End

SKIPPED, NOT_RUN = "skipped", "not run"
NO_REPLY = "no complete reply"  # the end of a conversation with a user, beside those that the user decides
USER = "user"  # a cause beside those of `sender`: the function that says the messages failed
_STAGES = ("sent", "refused", "turn")


@dataclass(slots=True)
class TurnState:
    """What is held in memory of a turn."""

    status: str
    at: int | None = None  # the byte of the file at which its line begins, once it has ended
    order: int = 0  # the try, times the number of stages, and the stage to which it has come
    first_text_s: float | None = None
    elapsed_s: float | None = None
    agent_id: str | None = None
    cause: str = ""  # why it is not complete, see `sender`; empty also while that is not known
    started_at: datetime | None = None  # in UTC
    scores: dict[str, Score] = field(default_factory=dict)

    def passes(self, check: str) -> bool | None:
        """Whether it passes a check; None where nothing can be said, and where the result is missing.

        A turn that the agent did not complete does not pass, unless the check has nothing to say about it in
        any case.
        """
        score = self.scores.get(check)
        if self.status == COMPLETE:
            return score.passed if score else None
        says_nothing = score is not None and score.passed is None and not isinstance(score, NoVerdict)
        return None if says_nothing or self.missing else False

    def score(self, check: str) -> float | None:
        """A check's score from 0 to 1; 0 for a turn that fails it because the agent did not complete it."""
        if self.status != COMPLETE:
            return 0.0 if self.passes(check) is False else None
        return self.scores[check].value if check in self.scores else None

    @property
    def missing(self) -> bool:
        """Whether it is incomplete, and that says nothing about the agent."""
        return self.status != COMPLETE and self.cause != AGENT


class RunState:
    """The conversations of an evaluation, and what has become of their turns so far."""

    def __init__(
        self,
        path: Path,
        conversations: Iterable[Conversation],
        checks: Mapping[str, Judge],
        sources: Mapping[str, str],
        targets: Mapping[str, Target] | None = None,
    ) -> None:
        self.path = path
        self.conversations = {conversation.key: conversation for conversation in conversations}
        self.checks = dict(checks)
        self.sources = dict(sources)  # configuration → who answers; empty for Halo
        self.targets = dict(targets or {})
        self.recorded = Recorded()
        self.others: Counter[Target] = Counter()  # complete replies of those who are not asked now
        self.removal: weakref.finalize[..., Any] | None = None  # of a temporary file
        self.interrupted = False
        self.unwritten = ""  # why new verdicts are not in the file
        self.changes = 0  # grows when turns, verdicts or labels change
        self.when_changed: list[Callable[[], None]] = []  # called when verdicts or labels have changed
        self.connections: int | None = None  # as many can be open, since this process has too many files
        self.lag_s = 0.0  # how long data waited before it was read (p90)
        self.cut_lines: list[int] = []  # the numbers of the file's lines that were cut short by a crash
        self.labels = Labels()
        self._turns: dict[str, dict[int, TurnState]] = {}  # by the conversation's key and the turn's number
        self._rounds: dict[str, int] = {}  # how often a conversation was started
        self._tally: Counter[bool | None] = Counter()
        # The bytes at which the lines of verdicts begin, by check and version: 8 bytes a verdict.
        self._verdicts: dict[tuple[str, str], array[int]] = {}
        self._said = UsersMessages()
        self._journal: Journal | None = None
        self._lock = threading.Lock()  # one thread sends, another judges
        self._original: RunState | None = None

    @property
    def checks_of_agent(self) -> list[str]:
        """The names of the checks whose failures are the agent's."""
        return [name for name, check in self.checks.items() if not check.of_user]

    # --- How it changes ---

    def load(self) -> None:
        """Take in every line of the file. Raises `UsageError`, naming a line that makes no sense."""
        early = []  # verdicts that stand before the line of their turn
        for at, line in located_lines(self.path, self.cut_lines):
            self.take(line, at)
            if line["kind"] == "verdict" and not self._take_verdict(line):
                early.append(line)
        for line in early:
            self._take_verdict(line, later=False)
        self._count_verdicts()

    def take(self, line: Mapping[str, Any], at: int | None = None) -> None:
        """Take in a line that begins at the byte `at` of the file."""
        kind, key, number = line["kind"], line.get("key"), line.get("turn", -1)
        if kind == "lag":
            self.lag_s = max(line["p90_s"], 0.0)
        elif kind == "verdict":
            places = self._verdicts.setdefault((line["check"], line["version"]), array("Q"))
            places.append(at or 0)
            return
        elif kind in ("label", "sample"):
            self.labels.take(line)
            self.changes += 1
            return
        elif at is not None:
            self.recorded.take(line, at)
            if kind == "turn" and key not in self.conversations and line["status"] == COMPLETE:
                self._count_other(line)
        conversation = self.conversations.get(key) if isinstance(key, str) else None
        if conversation is None:
            return
        key = conversation.key
        if kind in ("message", "end"):
            with self._lock:
                self._said.take(line, at or 0, conversation)
                if kind == "message":
                    _go_on(self._turns.get(key, {}).get(number - 1), self.checks)
                self.changes += 1
            return
        if not 0 <= number < self._said.count(conversation):
            return
        with self._lock:
            # Lines of an earlier version have neither round nor try: their order in the file counts.
            round_, order = line.get("round", 0), line.get("try", 0) * len(_STAGES) + _STAGES.index(kind)
            turns = self._turns.setdefault(key, {})
            if round_ > self._rounds.get(key, 0) and not (turns and self.outcome(conversation) == COMPLETE):
                for turn in turns.values():
                    self._tally.subtract(map(turn.passes, turn.scores))
                turns.clear()
                self._rounds[key] = round_
            known = turns.get(number)
            if round_ != self._rounds.get(key, 0) or (known is not None and known.status == COMPLETE):
                return
            if known is not None and order <= known.order and not (kind == "sent" and "try" not in line):
                return
            match kind:
                case "sent":
                    # Until it has ended in another way, which a process that was killed does not see.
                    turns[number] = TurnState(INTERRUPTED, order=order, cause=STOPPED)
                case "refused":
                    turns[number] = TurnState(NOT_RUN, order=order)
                case "turn":
                    names = ("first_text_s", "elapsed_s", "agent_id")
                    figures: dict[str, Any] = {name: line["reply"][name] for name in names}
                    figures["agent_id"] = figures["agent_id"] and sys.intern(figures["agent_id"])
                    begun = datetime.fromisoformat(line["reply"]["started_at"])
                    begun = begun.astimezone(UTC) if begun.tzinfo else begun.replace(tzinfo=UTC)
                    figures |= {"cause": _cause(line), "started_at": begun}
                    turns[number] = TurnState(line["status"], at, order, **figures)

    def _count_other(self, line: Mapping[str, Any]) -> None:
        """Count a reply that is not used, if it is from somebody who is not asked now."""
        target = self.recorded.targets.get(str(line.get("config")))
        if target is None or not self.targets:
            return
        known = {each.key if target.key else each.url for each in self.targets.values()}
        if (target.key or target.url) not in known:
            self.others[target] += 1

    def keep(self, ended: Ended, scores: Mapping[str, Score]) -> None:
        """Keep what checks found about a turn's reply, also in the file while it is open for that."""
        key, number = ended.key, ended.turn
        with self._lock:
            turn = self._turns.get(key, {}).get(number)
            if turn is None:
                return
            self._tally.subtract(map(turn.passes, turn.scores.keys() & scores.keys()))
            turn.scores = {**turn.scores, **scores}  # another thread may read those before
            self.changes += 1
            self._tally.update(map(turn.passes, scores))
            place: dict[str, JSON] = {"key": key, "turn": number, "round": self._rounds.get(key, 0)}
        for name, score in scores.items():
            check = self.checks[name]
            given = given_key(check, self.conversations[key], number, is_last=ended.seen.is_last)
            about: dict[str, JSON] = {"check": name, "version": check.version, "given": given}
            found: dict[str, JSON] = {"passed": score.passed, "value": score.value, "note": score.note}
            found["judged"] = not isinstance(score, NoVerdict)
            self._write({"kind": "verdict", **place, **about, **found})

    def _write(self, line: dict[str, JSON]) -> None:
        if self._journal is not None:
            self.take(line, self._journal.append(line))

    @contextlib.contextmanager
    def writing(self, journal: Journal) -> Iterator[None]:
        """Add new verdicts to this journal, and close it at the end."""
        self._journal = journal
        try:
            with contextlib.closing(journal):
                self._write_checks()
                yield
        finally:
            self._journal = None

    def _write_checks(self) -> None:
        """Write which checks count now, where the file says otherwise."""
        checks: list[JSON] = [
            {
                "name": name,
                "version": each.version,
                "arguments": [*sorted(each.arguments)],
                "of_conversation": each.of_conversation,
                **({"of_user": True} if each.of_user else {}),
            }
            for name, each in self.checks.items()
        ]
        if checks and checks != self.recorded.checks:  # a run without checks leaves those that there are
            self._write({"kind": "checks", "checks": checks})

    def use(self, checks: Mapping[str, Judge]) -> None:
        """Judge with these checks from now on; verdicts that the file has for them count."""
        self.checks = dict(checks)
        self._forget_verdicts()
        found = (self._verdicts.get((name, each.version), ()) for name, each in self.checks.items())
        if places := sorted(chain.from_iterable(found)):
            with self.opened() as file:
                for at in places:
                    self._take_verdict(line_at(file, at, "verdict"))
        self._count_verdicts()

    def _forget_verdicts(self) -> None:
        with self._lock:
            self.changes += 1
            self._tally.clear()
            for turns in self._turns.values():
                for turn in turns.values():
                    turn.scores = {}

    def _take_verdict(self, line: Mapping[str, Any], *, later: bool = True) -> bool:
        """Give a turn a verdict, and return whether there is that turn.

        It counts if it is of this version of the check, which saw the same case, and in place of another only
        if it is `later`.
        """
        name, key = line["check"], line["key"]
        check = self.checks.get(name)
        if check is None or check.version != line["version"]:
            return True
        turn = self._turns.get(key, {}).get(line["turn"])
        if turn is None or turn.at is None or line.get("round", 0) != self._rounds.get(key, 0):
            return False
        conversation = self.conversations[key]
        if not counts(line, check, conversation, self.last_turn):
            return True
        if later or name not in turn.scores:
            kind = Score if line["judged"] else NoVerdict
            turn.scores = {**turn.scores, name: kind(line["passed"], line["value"], line["note"])}
        return True

    def _count_verdicts(self) -> None:
        self.changes += 1
        for turns in self._turns.values():
            for turn in turns.values():
                self._tally.update(map(turn.passes, turn.scores))

    @contextlib.contextmanager
    def rescoring(self, checks: Mapping[str, Judge] | None = None, *, again: bool = False) -> Iterator[None]:
        """Judge with `checks` (None: the same), with the file open to add verdicts to it.

        With `again`, all of the turns are `unjudged`.

        Where it cannot be written, they are kept in memory only, and `unwritten` says why. Raises
        `UsageError` when it cannot be read.
        """
        with self.opened():  # a journal would create a file that is not there
            pass
        if checks is not None:
            self.use(checks)
        if again:
            self._forget_verdicts()
        self.unwritten = ""
        try:
            journal = Journal(self.path)
        except UsageError as error:
            self.unwritten = str(error).partition(". ")[0]
            yield
            return
        try:
            with self.writing(journal):
                yield
        except UsageError as error:
            if journal.error is not error:
                raise
            self.unwritten = str(error).partition(". ")[0]
            size = self.path.stat().st_size
            for which, places in self._verdicts.items():
                self._verdicts[which] = array("Q", (at for at in places if at < size))

    def kept_path(self) -> Path:
        """The file; a temporary one now stays until this process ends."""
        if self.removal and (detached := self.removal.detach()):
            atexit.register(detached[1])
        return self.path

    def copied(self) -> RunState:
        """A copy that is judged on its own, of the same file."""
        made = copy.copy(self)
        made.checks, made._tally = dict(self.checks), Counter(self._tally)
        made._turns = {
            key: {number: replace(turn) for number, turn in turns.items()}
            for key, turns in self._turns.items()
        }
        made._verdicts = {which: array("Q", places) for which, places in self._verdicts.items()}
        made.labels = self.labels.copied()
        made.when_changed = []
        made._original = self  # with which a temporary file is removed
        return made

    # --- What is known ---

    def turns(self, conversation: Conversation) -> list[TurnState]:
        """The turns of a conversation in order, sent or not.

        If its user may still say something, there is one more, which has no message yet.
        """
        sent = self._turns.get(conversation.key, {})
        found: list[TurnState] = []
        for number in range(self._said.count(conversation)):
            goes_on = not found or found[-1].status in (COMPLETE, NOT_RUN)
            found.append(sent.get(number) or TurnState(NOT_RUN if goes_on else SKIPPED))
        if conversation.case.user is not None and (not found or found[-1].status == COMPLETE):
            end = self.end(conversation)
            if end is None or end.failed or not found:
                found.append(TurnState(NOT_RUN, cause=USER if end else ""))
        return found

    def end(self, conversation: Conversation) -> End | None:
        """How its user ended a conversation, if that was the end; a failed user may still go on."""
        return self._said.end(conversation)

    def expected(self, conversation: Conversation, turn: int) -> JSON:
        """What is expected of that turn's reply, see `Case.expected`."""
        is_last = conversation.case.user is not None and self.last_turn(conversation) == turn
        return conversation.case.expected(turn, is_last=is_last)

    def end_reason(self, conversation: Conversation) -> str:
        """Why a conversation with a user has ended, in a few words; empty while it may go on."""
        if end := self.end(conversation):
            return end.reason
        status, _ = self.first_incomplete(conversation)
        return NO_REPLY if conversation.case.user and status in (FAILED, INTERRUPTED) else ""

    def unanswered(self, conversation: Conversation) -> int | None:
        """The number of the turn whose reply waits for what the user says to it, if anything."""
        if conversation.case.user is None:
            return None
        known = self._said.count(conversation)
        return known - 1 if known and len(self.turns(conversation)) > known else None

    def case_turns(self, conversation: Conversation) -> list[CaseTurn]:
        """The messages of a conversation, sent or not, as far as they are known. Raises `UsageError`."""
        opening = list(conversation.case.turns)
        if self._said.count(conversation) == len(opening):
            return opening
        with self.opened() as file:
            return opening + self._said.read(conversation, file)

    def first_incomplete(self, conversation: Conversation) -> tuple[str, int]:
        """The status of the first turn that is not complete, and its number; else ``complete``."""
        if not self._turns.get(conversation.key):
            return NOT_RUN, 0
        turns = self.turns(conversation)
        incomplete = ((turn.status, number) for number, turn in enumerate(turns) if turn.status != COMPLETE)
        return next(incomplete, (COMPLETE, len(turns)))

    def outcome(self, conversation: Conversation) -> str:
        """What has become of a conversation so far."""
        status, number = self.first_incomplete(conversation)
        # The process ended between two turns, and the first of them has reached the agent.
        return INTERRUPTED if status == NOT_RUN and number else status

    def missing(self, conversation: Conversation) -> bool:
        """Whether its result is missing: it is incomplete, and not because of the agent."""
        status, number = self.first_incomplete(conversation)
        return status != COMPLETE and self.turns(conversation)[number].missing

    def unfinished(self, *, interrupted: bool = False) -> list[Conversation]:
        """Conversations still to run: not started, or ended by a message that certainly was not taken.

        With `interrupted` also those with a turn that may have reached the agent; never a complete one.
        """
        return [
            each
            for each in self.conversations.values()
            if self.resumes(each) or (interrupted and self.first_incomplete(each)[0] != COMPLETE)
        ]

    def resumes(self, conversation: Conversation) -> bool:
        """Whether a run sends a message of it, none of which can arrive twice.

        A conversation with a user is continued where it was cut short; any other only if it never began.
        """
        status, number = self.first_incomplete(conversation)
        return status in (NOT_RUN, FAILED) and (number == 0 or conversation.case.user is not None)

    def start(self, conversation: Conversation) -> tuple[int, int, int]:
        """Where a run starts or continues it: the round, the number of the turn, how often that was tried."""
        _, number = self.first_incomplete(conversation)
        if number and self.resumes(conversation):
            tried = self.turns(conversation)[number].order // len(_STAGES)
            return self._rounds.get(conversation.key, 0), number, tried
        return self._rounds.get(conversation.key, 0) + 1, 0, 0

    def tagged(self, tag: str | None) -> list[Conversation]:
        """The conversations of the cases with that tag, of all for None."""
        return [each for each in self.conversations.values() if tag is None or tag in each.case.tags]

    def tally(self) -> str:
        """Passes and failures so far, in a few words."""
        return f"{self._tally[True]:,} passed, {self._tally[False]:,} failed"

    # --- What is in the file ---

    @contextlib.contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """The file, to read its lines. Raises `UsageError`."""
        try:
            file = self.path.open("rb")
        except OSError as error:
            raise UsageError(
                f"The evaluation's file {str(self.path)!r} could not be read ({error.strerror}). Nothing was "
                "changed; put it back, or run again."
            ) from None
        with file:
            yield file

    def lines(self, conversation: Conversation, file: BinaryIO) -> list[dict[str, Any] | None]:
        """The line of each turn of a conversation, None for one without, from the open file."""
        return [None if turn.at is None else line_at(file, turn.at) for turn in self.turns(conversation)]

    def last_turn(self, conversation: Conversation) -> int | None:
        """The number of the turn that has ended the conversation; None while it may go on."""
        status, number = self.first_incomplete(conversation)
        if status == COMPLETE:
            return number - 1
        return None if status == NOT_RUN else number


def _go_on(turn: TurnState | None, checks: Mapping[str, Judge]) -> None:
    """Forget what was found about the conversation at this turn: it was the last, of a lower limit."""
    if turn is not None:
        turn.scores = {name: each for name, each in turn.scores.items() if not checks[name].of_conversation}


def _cause(line: Mapping[str, Any]) -> str:
    """Why a turn is not complete; lines of an earlier version do not say so in one word."""
    if line["status"] == COMPLETE:
        return ""
    if line.get("cause"):
        return str(line["cause"])
    if line["status"] == FAILED:
        return NETWORK
    return AGENT if line["reply"]["status"] == "failed" else STOPPED
