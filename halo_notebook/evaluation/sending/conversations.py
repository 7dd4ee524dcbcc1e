"""The conversations of an evaluation: sent a number of them at a time, and kept as they go.

- Each case × configuration × repeat is a conversation with a fresh session. Its turns run in order;
  conversations run side by side.
- What a user says is in the file before it is sent. A conversation that was cut short continues in its
  session with what its user has said.
- A turn is in the file before it is sent, and again, with its reply, when it has ended.
- A message that may have reached the agent is recorded as interrupted, and sent again only on demand.
  What certainly did not arrive is sent again: see `pace`.
- Times are the agent's: they count from when the message is written, not from when it could be.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Mapping
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

from ...checks import JudgedTurn
from ...client.masking import masked
from ...concurrency.usercode import UserCodeError, is_async
from ...display.text import one_line
from ...errors import InvalidRequest, RateLimited
from ..cases.case import CaseTurn
from ..cases.user_calls import UserCalls
from ..cases.user_functions import TOO_MANY_TURNS, USER_FAILED, ConversationEnd, checked_answer
from ..file.journal import now
from ..file.stored_turns import read_turns
from ..file.users_messages import said_turn
from ..judging.checks import seen_of, wanted
from ..judging.concurrent_checks import Ended, Jury, Keep
from ..outcomes import LIMIT, NETWORK, STOPPED
from ..report.progress import progress_bar
from .dask import ClusterSender, check_use
from .pace import Connections, Departure, Pace
from .resuming import open_run
from .sender import MAX_WAIT_S, LocalSender, Outcome

if TYPE_CHECKING:
    from pathlib import Path

    from distributed import Client as DaskClient

    from ...checks import Score
    from ...concurrency.interrupts import InterruptInbox
    from ...reply import Reply
    from ...stream import JSON
    from ..cases.case import Conversation
    from ..file.state import RunState
    from .plan import Plan

MAX_REFUSALS = 20
"""So often one message is sent to a server that takes others."""
# No more messages are sent while this many replies wait for the checks, which would fill the memory; or twice
# as many as are judged at a time.
MAX_UNJUDGED = 100


class Run:
    """The conversations to run, a number of them at a time; `on` a cluster, or in this process."""

    def __init__(self, plan: Plan, on: DaskClient | None) -> None:
        if on is not None:
            check_use(on, plan.clients, plan.concurrency)
        self._plan = plan
        self._on = on
        self._pace = Pace(plan.rate_limit)
        self._connections = Connections(plan.concurrency)
        self._ends_with: RateLimited | None = None
        self._sender: LocalSender | ClusterSender
        self._users = UserCalls()
        self._ended: asyncio.Queue[Ended | None] = asyncio.Queue()
        self._max_unjudged = max(MAX_UNJUDGED, 2 * plan.check_concurrency)
        self._given = 0  # replies to be judged, and how many of them have been, by another thread
        self._judged = 0

    @contextlib.contextmanager
    def opened(
        self, path: str | Path | None, inbox: InterruptInbox, *, resume: bool | str, progress: bool
    ) -> Iterator[RunState]:
        """Hold the file open and show a bar of turns, with passes and failures counted.

        A stop of the `inbox` meanwhile raises KeyboardInterrupt.
        """
        self._inbox = inbox
        self._state, self._journal = open_run(self._plan, path, inbox, resume=resume)
        with self._state.writing(self._journal):
            self._todo = deque(self._state.unfinished(interrupted=resume == "interrupted"))
            total = sum(each.case.most_turns - self._state.start(each)[1] for each in self._todo)
            with progress_bar(total, shown=progress) as self._bar:
                if inbox.stopped:
                    raise KeyboardInterrupt
                yield self._state

    def jury(self, keep: Keep, *, in_threads: bool, users: UserCalls | None = None) -> Jury:
        """Judges as many turns at a time as the plan says."""
        return Jury(keep, self._plan.check_concurrency, in_threads=in_threads, users=users)

    @property
    def async_users(self) -> UserCalls | None:
        """The calls of the cases' users, if one of them is async and needs the caller's loop."""
        functions = (each.case.user.function for each in self._todo if each.case.user)
        return self._users if any(function and is_async(function) for function in functions) else None

    async def ended(self) -> AsyncGenerator[Ended, None]:
        """Run the conversations on the running loop; yields each turn that has ended, to be judged."""
        running = asyncio.ensure_future(self._run())
        running.add_done_callback(lambda _: self._ended.put_nowait(None))
        try:
            while (ended := await self._ended.get()) is not None:
                yield ended
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def take(self, ended: Ended, scores: dict[str, Score]) -> None:
        """Keep what the checks found about a turn."""
        self._state.keep(ended, scores)
        self._judged += 1
        self._bar.set_postfix_str(self._state.tally(), refresh=False)
        self._bar.update(ended.settles)

    async def _run(self) -> None:
        plan, on = self._plan, self._on
        clients = plan.clients if self._todo else {}
        self._sender = LocalSender(clients) if on is None else ClusterSender(on, clients)
        error: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(plan.concurrency, len(self._todo))):
                    group.create_task(self._work())
        except BaseExceptionGroup as errors:
            error = errors.exceptions[0]  # they have the same cause, so one is enough to say what to do
        finally:
            lag_s = await self._sender.aclose()
            if lag_s is not None:
                self._add({"kind": "lag", "p90_s": lag_s})
        if (error := error or self._ends_with) is not None:
            raise error  # not above: IPython shows the whole of an error whose context is a group

    async def _work(self) -> None:
        while self._todo and not self._inbox.stopped:
            await self._converse(self._todo.popleft())

    async def _converse(self, conversation: Conversation) -> None:
        state = self._state
        round_, start, tried = state.start(conversation)
        turns = state.case_turns(conversation)
        said = read_turns(state, conversation)[:start] if start else []
        for number in count(start):
            asks_user = conversation.case.user is not None and number == len(turns)
            if asks_user and not await self._ask_user(conversation, turns, said):
                return
            if said and (number > start or asks_user):
                self._judge(conversation, said, is_last=number == len(turns))
            if number == len(turns):
                return
            # Polled: waking this for each reply would cost more than the polling, which is rare.
            while self._given - self._judged >= self._max_unjudged:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            fields = {**self._plan.fields[conversation.config], **turns[number].fields}
            fields["session_id"] = said[-1].reply.session_id if said else None
            place: dict[str, JSON] = {"key": conversation.key, "turn": number, "round": round_}
            reply = await self._send(
                conversation, place, turns[number].message, fields, tried if number == start else 0
            )
            if reply is None:
                return
            said.append(JudgedTurn(turns[number].message, reply))
            if reply.status != "complete":
                self._judge(conversation, said, is_last=True)
                return

    def _judge(self, conversation: Conversation, said: list[JudgedTurn], *, is_last: bool) -> None:
        """Have the last turn judged; after the last one no more will be sent."""
        number, most = len(said) - 1, conversation.case.most_turns
        seen = seen_of(conversation, said, is_last=is_last)
        missing = self._state.turns(conversation)[number].missing
        checks = {} if missing else wanted(self._state.checks, seen)
        self._given += 1
        settles = max(most - number, 1) if is_last else 1
        self._ended.put_nowait(Ended(conversation.key, number, seen, checks, settles))

    async def _ask_user(
        self, conversation: Conversation, turns: list[CaseTurn], said: list[JudgedTurn]
    ) -> bool:
        """Add what the user says next to `turns`, or nothing at the end; returns whether there was an answer.

        Either is recorded before anything is sent or judged.
        """
        place: dict[str, JSON] = {"key": conversation.key, "turn": len(turns)}
        try:
            answer = await self._answer(conversation, said)
        except (UserCodeError, InvalidRequest) as error:
            raised = error.error if isinstance(error, UserCodeError) else error
            if isinstance(raised, KeyboardInterrupt):
                self._inbox.stop()
            elif not self._inbox.stopped:  # otherwise it may have taken the stop for an error
                secrets = [self._plan.clients[conversation.config].settings.api_key]
                text = masked(str(raised if isinstance(raised, InvalidRequest) else error), secrets)
                note = one_line(text, 300)
                self._add({"kind": "end", **place, "reason": USER_FAILED, "note": note})
            return False
        if isinstance(answer, str):
            self._add({"kind": "end", **place, "reason": answer, "note": ""})
        else:
            self._add({"kind": "message", **place, "message": answer.message, "fields": answer.fields})
            turns.append(said_turn(conversation, answer.message, answer.fields))
        return True

    async def _answer(self, conversation: Conversation, said: list[JudgedTurn]) -> CaseTurn | str:
        """What the user says next, or the reason of the end. Raises what an unfit answer is, in one line."""
        user = conversation.case.user
        assert user is not None
        assert user.function is not None, "the plan has checked it"
        if len(said) >= user.max_turns:
            return TOO_MANY_TURNS
        said_now = await self._users.call(user.function, tuple(said))
        answer = await self._users.call(checked_answer, said_now)  # not here: it may draw a figure
        if isinstance(answer, ConversationEnd):
            if not said:
                raise InvalidRequest("it ended the conversation before its first message")
            return answer.value
        message, fields = answer
        # With those of the configuration, to find out now whether it can be sent.
        given = {**self._plan.fields[conversation.config], **user.fields, **fields}
        self._plan.clients[conversation.config].prepare(message, **given)
        return CaseTurn(message, fields=dict(fields))

    async def _send(
        self,
        conversation: Conversation,
        place: Mapping[str, JSON],
        message: str,
        fields: Mapping[str, Any],
        tried: int,
    ) -> Reply | None:
        """Send one turn, again only while it certainly did not arrive; None when the run ends before that.

        `tried`: how often earlier runs have tried it in this round.
        """
        ready, config = time.perf_counter(), conversation.config
        wait_s: float | None = 0.0
        for tries in count(1):
            if wait_s:
                await asyncio.sleep(wait_s)
            turn: dict[str, JSON] = {**place, "try": tried + tries}
            await self._sender.ready()
            async with self._connections:
                departure = await self._pace.leave()
                if departure is None or self._inbox.stopped:  # a check may go on after the stop
                    return None
                try:
                    # On the disk before it leaves: after any end it is known what may have arrived.
                    sent: dict[str, JSON] = {"kind": "sent", **turn, "at": now()}
                    self._state.take(sent)
                    await self._journal.confirmed(sent)
                except BaseException:
                    self._add({"kind": "refused", **turn})
                    raise
                queue_wait_s = time.perf_counter() - ready
                outcome = Outcome(taken=partial(self._pace.taken, departure))
                try:
                    await self._sender.send(outcome, config, message, fields, tries)
                finally:
                    wait_s = self._wait_s(outcome, departure, config, tries)
                    self._add(
                        {
                            "kind": "turn",
                            **turn,
                            "case": conversation.case.id,
                            "config": config,
                            "repeat": conversation.repeat,
                            "status": outcome.status,
                            "cause": outcome.cause,
                            "queue_wait_s": queue_wait_s,
                            "reply": outcome.reply.to_dict(),
                        }
                        if wait_s is None
                        else {"kind": "refused", **turn}
                    )
            if wait_s is None:
                return outcome.reply
        return None

    def _wait_s(self, outcome: Outcome, departure: Departure, config: str, tries: int) -> float | None:
        """Seconds until a message is sent again, beside the wait of all; None when it is not."""
        again_s = outcome.again_s
        if outcome.cause == LIMIT and again_s is not None:
            self._pace.refused(departure, again_s)
            if again_s > MAX_WAIT_S or self._pace.refused_s > MAX_WAIT_S:
                self._end(outcome, again_s)
            elif tries >= MAX_REFUSALS:
                return None
            return 0.0
        if outcome.cause in (NETWORK, STOPPED):
            self._pace.unsent(departure)
            if again_s is None or outcome.cause == STOPPED:
                return again_s
            retry_s = self._connections.failed(config, tries, too_many_files=outcome.too_many_files)
            if outcome.too_many_files:
                self._state.connections = self._connections.most
            return retry_s
        self._pace.taken(departure)
        self._connections.made(config)
        return None

    def _end(self, outcome: Outcome, asked_s: float) -> None:
        """Send no more messages. The run ends when the replies that are on their way have arrived."""
        self._todo.clear()
        self._pace.close()
        if asked_s > MAX_WAIT_S:
            why = f"asks to wait for {asked_s:,.0f} s, and a run waits for {MAX_WAIT_S:g} s at most"
        else:
            why = f"has refused every message for {self._pace.refused_s:.0f} s"
        what, _, _ = outcome.reply.error.partition(". ")
        self._ends_with = RateLimited(
            f"{what}. The server {why}. No more messages were sent, and the stored turns are kept; run the "
            f"same call later to resume, with path={str(self._state.kept_path())!r}."
        )

    def _add(self, line: dict[str, JSON]) -> None:
        self._state.take(line, self._journal.append(line))
