"""Answers from a recording in place of an agent: ``HaloClient(transport=Replay(path))``. Its promises:

- A replay gives the client what the network gave it then: the same statuses, bytes, chunks, breaks and
  times. It needs no key and connects to nothing.
- The same messages in the same order get the same replies, each time.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import re
import threading
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args
from urllib.parse import quote, urlsplit

from ..client.transports.protocol import BrokeOff, Clock, Incoming, NotConnected, Silent, Unreadable
from ..errors import ReplyInterrupted, UsageError
from ..stream import JSON, MAX_DOCUMENT_NESTING, decode_json
from .format import Chunks, RecordedExchange, part, read_recording

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from ..client.exchange import AsyncReplyStream
    from ..client.transports.protocol import Outgoing
    from ..reply import Reply

REPLAY_HOST = "https://replay.invalid"
"""The host of a replay's base URL. Nobody can have it, so that no id of a recorded conversation goes to a
service, and no id of a service into a replay."""
WAITS = "waits for %halo step"
"""The state of a turn that is replayed by steps and has come to the end of one."""

Pace: TypeAlias = Literal["own", "fast", "step"]
"""At the recording's own pace, without waiting, or one step at a time."""

_ERRORS = {kind.__name__: kind for kind in (NotConnected, Silent, BrokeOff, Unreadable)}
_BREAK = re.compile(
    rb"(?P<action>\x1e__ACTION__[^\x1e]*\x1e)|\x1e__ACTIONS__[^\x1e]*\x1e|(?P<blank>\n(?:[ \t\r]*\n)+)|\Z"
)
_FENCE = re.compile(rb"^[ \t>]*(?:```|~~~)", re.MULTILINE)


class Replay:
    """A transport that serves a recording. Which exchange answers a request:

    1. Only exchanges with the same message count.
    2. Those of the same conversation come first: without a session id, those that began one.
    3. Then those whose other fields differ least.
    4. An exchange that its reader stopped is served only if there is no other.
    5. Then the one that was served least often, in the order of the file: the n-th request gets the n-th
       reply, and after the last comes the first again.

    A recorded 403 that was retried with a fresh user token is skipped; the retry's answer is served. The
    times of a reply are those of the recording, at any pace.

    Args:
        pace: ``own``, as it was; ``fast``, without waiting; ``step``: the reply waits for `step` after each
            paragraph and action, if somebody can let it continue (in a `%%halo` cell and a panel;
            elsewhere see `AsyncReplyStream.attended`), and has its own pace otherwise.

    Attributes:
        exchanges: what the recording holds.
        waiting: what waits for a step.

    Raises:
        UsageError: naming the file and the line, when this is not a recording.

    >>> import tempfile
    >>> from halo_notebook import HaloClient, Recorder
    >>> path = Path(tempfile.mkdtemp()) / "hello.jsonl"
    >>> body, chunks = {"message": "Hello"}, ((0.3, b"Hi "), (0.4, b"there."))
    >>> Recorder(path).keep(RecordedExchange("/chat/stream", body, 200, {}, 0.2, chunks, "whole", 0.5))
    >>> with HaloClient(transport=Replay(path, pace="fast")) as client:
    ...     reply = client.ask("Hello")
    >>> reply.text, reply.first_text_s, reply.elapsed_s
    ('Hi there.', 0.3, 0.5)
    """

    offline = True

    def __init__(self, path: str | Path, *, pace: Pace = "own") -> None:
        if pace not in get_args(Pace):
            raise UsageError(
                f"The pace must be one of {', '.join(get_args(Pace))}, not {pace!r}. Nothing was changed."
            )
        try:
            self.path = Path(path).expanduser()
        except (RuntimeError, TypeError) as error:  # a user without a home; not a path
            why = f"This path does not exist ({error})"
            raise UsageError(f"{why}. Nothing was changed; give another.") from None
        self.pace: Pace = pace
        self.exchanges = read_recording(self.path)
        if not self.exchanges:
            raise UsageError(f"{self.path.name!r} holds no exchange yet. Nothing was changed; record one.")
        demo = all(each.source == "demo agent" for each in self.exchanges)
        self.source = f"replay of {self.path.name}{' (demo agent)' if demo else ''}"
        self.base_url = f"{REPLAY_HOST}/{quote(self.path.name, safe='', errors='replace')}"
        self._messages = [_normalized(each.message) for each in self.exchanges]
        self._conversations = _conversations(self.exchanges)
        self._served: Counter[int] = Counter()  # by their place in the file
        self._lock = threading.Lock()
        self.waiting: set[Play] = set()

    def step(self, reply: Reply | None = None) -> int:
        """Let each waiting turn, or that of `reply`, have its next step; return how many. From any thread."""
        waiting = [play for play in tuple(self.waiting) if reply is None or play.reply is reply]
        for play in waiting:
            play.go_on()
        return len(waiting)

    def waits(self, reply: Reply) -> bool:
        """Whether the turn of `reply` waits for its next step."""
        return any(play.reply is reply for play in tuple(self.waiting))

    def run_on(self) -> None:
        """End the steps: the turns that wait, and all others, continue at their own pace."""
        self.pace = "own" if self.pace == "step" else self.pace
        self.step()

    async def send(self, outgoing: Outgoing) -> Incoming:
        """Answer as it is recorded."""
        try:
            body = decode_json(outgoing.body.decode(), MAX_DOCUMENT_NESTING)
            message = part(body, "message", str)
        except ValueError:
            raise UsageError("A replay answers only chat requests. Nothing was sent.") from None
        assert isinstance(body, dict), "it has a message"
        exchange = self._next(urlsplit(outgoing.url).path, message, body)
        if exchange.may_have_arrived:
            outgoing.leaves()
            outgoing.has_left()
        return await Play(self, exchange, outgoing.turn).answer()

    async def aclose(self) -> None:
        """There is nothing to close."""

    def _next(self, path: str, message: str, body: dict[str, JSON]) -> RecordedExchange:
        """The exchange to serve for a request; it counts as served."""
        normalized = _normalized(message)
        same = [
            number
            for number, each in enumerate(self.exchanges)
            if self._messages[number] == normalized and path.endswith(each.path)
        ]
        if not same:
            raise self._missing(message)
        sent_id = body.get("session_id")

        def rank(number: int) -> tuple[bool, int, bool, int, int]:
            each = self.exchanges[number]
            continues = (
                sent_id in (each.sent_id, self._conversations[number]) if sent_id else not each.sent_id
            )
            compared = {*body, *each.body} - {"message", "session_id", "user_token"}
            differing = sum(body.get(name) != each.body.get(name) for name in compared)
            return not continues, differing, each.was_cut_short, self._served[number], number

        with self._lock:
            number = min(same, key=rank)
            self._served[number] += 1
            while self.exchanges[number].status == 403 and (retry := _retry(self.exchanges, number)):
                number = retry
                self._served[number] += 1
        return self.exchanges[number]

    def _missing(self, message: str) -> UsageError:
        from ..display.text import one_line

        said = one_line(message, 60)
        recorded = dict(zip(self._messages, self.exchanges, strict=True))
        if each := recorded.get(_normalized(message)):
            how = "as a stream" if each.path == "/chat/stream" else "in one piece"
            return UsageError(
                f"{said!r} is in {self.path.name!r} {how} only. Nothing was sent; ask for it in that way."
            )
        starts = [text[:200] for text in recorded]
        close = difflib.get_close_matches(_normalized(message)[:200], starts, n=3, cutoff=0.5)
        named = [*close, *(text for text in recorded if text[:200] not in close)][:3]
        more = f" and {len(recorded) - len(named):,} more" if len(recorded) > len(named) else ""
        return UsageError(
            f"{said!r} is not in the recording {self.path.name!r}. Nothing was sent; it holds "
            f"{', '.join(repr(one_line(text, 60)) for text in named)}{more}."
        )


def _normalized(message: str) -> str:
    """A message as it is compared: neither white space nor how accents are encoded matters."""
    return unicodedata.normalize("NFC", " ".join(message.split()))


def _retry(exchanges: Sequence[RecordedExchange], number: int) -> int | None:
    """The place of the exchange in which the client sent the same turn again; None when it did not."""
    one = exchanges[number]
    for later, other in enumerate(exchanges[number + 1 :], number + 1):
        if (other.path, other.message, other.sent_id) == (one.path, one.message, one.sent_id):
            return later if other.tries == one.tries + 1 else None
    return None


def _conversations(exchanges: Sequence[RecordedExchange]) -> list[str | None]:
    """The conversation of each exchange. An exchange without an id belongs to the conversation that the next
    one with its message began, so that it is served where that conversation is begun again."""
    found: list[str | None] = []
    began: dict[str, str | None] = {}
    for each in reversed(exchanges):
        found.append(each.session_id or began.get(each.message))
        if each.sent_id is None:
            began[each.message] = found[-1]
    return found[::-1]


class Play(Clock):
    """One exchange being replayed: its answer, and the clock that its times are taken from."""

    def __init__(self, replay: Replay, exchange: RecordedExchange, turn: AsyncReplyStream) -> None:
        super().__init__()
        self.reply = turn.reply
        self._turn, self._replay, self._exchange = turn, replay, exchange
        self._at_s = self._due_s = 0.0
        self._go_on: Callable[[], object] = lambda: None

    def now_s(self) -> float:
        return min(max(self._at_s, super().now_s()), self._due_s)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds if self._replay.pace == "own" else 0)

    async def answer(self) -> Incoming:
        """Wait until the answer's head is due."""
        exchange = self._exchange
        self._turn.clock = self
        if exchange.status is None:
            await self._until(exchange.ended_at_s)
            raise self._end()
        await self._until(exchange.head_at_s)
        headers = {name.lower(): value for name, value in exchange.headers.items()}
        return Incoming(exchange.status, headers, self._chunks)

    async def _chunks(self) -> AsyncIterator[bytes]:
        exchange = self._exchange
        by_steps = self._replay.pace == "step" and self._turn.attended
        ends = _step_ends(exchange) if by_steps else []
        for at_s, data, step_begins in _divided(exchange.chunks, ends):
            if step_begins and self._replay.pace == "step":
                await self._next_step()
                self.set_to(at_s)
            await self._until(at_s)
            yield data
        await self._until(exchange.ended_at_s)
        if exchange.how == "broken" or exchange.was_cut_short:
            raise self._end()

    def _end(self) -> Exception:
        if self._exchange.how == "broken":
            return _ERRORS.get(self._exchange.error, BrokeOff)(self._exchange.why)
        return ReplyInterrupted(
            "The recording of this reply ends here: it was stopped when it was recorded. The text "
            "received so far and the session are kept; record it again to have the rest."
        )

    async def _until(self, at_s: float) -> None:
        self._due_s = at_s
        await asyncio.sleep(0 if self._replay.pace == "fast" else max(0.0, at_s - super().now_s()))
        self._at_s = at_s

    async def _next_step(self) -> None:
        loop, gate = asyncio.get_running_loop(), asyncio.Event()
        self._go_on = lambda: loop.call_soon_threadsafe(gate.set)
        self._replay.waiting.add(self)
        self.reply.set_state(WAITS)
        try:
            await gate.wait()
        finally:
            self._replay.waiting.discard(self)
        self.reply.set_state("streaming")

    def go_on(self) -> None:
        """Begin the next step, from any thread; from now on the turn does not wait."""
        self._replay.waiting.discard(self)
        with contextlib.suppress(RuntimeError):  # the loop has ended, and the turn with it
            self._go_on()


def _step_ends(exchange: RecordedExchange) -> list[int]:
    """The places in the answer's bytes at which a step ends: exactly after a paragraph or an action.

    A code block is not divided, and something is still to be shown after the last place.
    """
    if exchange.status != 200 or exchange.path != "/chat/stream":
        return []
    data = b"".join(chunk for _, chunk in exchange.chunks)
    ends: list[int] = []
    begun, in_code = False, False  # whether words have come since the last end
    start = shown = 0  # where the text at hand begins, and how far something is to be seen
    for match in _BREAK.finditer(data):
        text = data[start : match.start()]
        in_code ^= len(_FENCE.findall(text)) % 2 == 1
        if text.strip():
            begun, shown = True, match.start()
        if acted := match["action"] is not None:
            shown = match.end()
        start = match.end()
        if acted or (match["blank"] is not None and begun and not in_code):
            ends.append(match.end())
            begun = False
    return [end for end in ends if end < shown]


def _divided(chunks: Chunks, ends: Sequence[int]) -> Iterator[tuple[float, bytes, bool]]:
    """The chunks, divided at the ends of steps too. With each, whether a step begins with it."""
    begins, start = set(ends), 0
    for at_s, data in chunks:
        stop = start + len(data)
        cuts = [start, *ends[bisect_right(ends, start) : bisect_left(ends, stop)], stop]
        for here, there in pairwise(cuts):
            if here < there:
                yield at_s, data[here - start : there - start], here in begins
        start = stop
