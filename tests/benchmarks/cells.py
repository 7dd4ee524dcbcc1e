"""What a cell shows and when: a real kernel, a real server, and messages as a front end gets them.

The agent runs in this process and the cell in the kernel's; both go by the machine's own
monotonic clock. A time counts from just before the agent hands its chunk to the socket, so it
is never shorter than what a user sees. Each baseline is a cell in the same kernel that does
the job with httpx and IPython alone.
"""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

from halo_notebook.demo import DEMO_KEY, DemoAgent, Step
from halo_notebook.stream import JSON, Action, TextDelta
from tests.harness.kernels import CellResult, Kernel, Message

from .figures import WITH_BYTE_CODE, Bound, Figure, compared, in_turns

CHUNKS = 2_000
CHUNK_CHARACTERS = 10
STREAM_S = 4.0
ACTIONS = 2_000
MIXED_STEPS = 500
MIXED_S = 2.5
TURNS = 3
FIRST_TEXT_TURNS = 9
COLD_KERNELS = 5
FIRST_WORD, LAST_WORD = "Firstword", "Lastword"

_REQUEST = """
import httpx, json
from IPython.display import JSON, Markdown, display
request = dict(json={{"message": {message!r}}}, headers={{"Authorization": "Bearer {key}"}})
with httpx.stream("POST", {url!r}, **request) as response:
{body}
"""
_MARKDOWN_EACH_CHUNK = """\
    text, handle = "", display(Markdown(""), display_id=True)
    for chunk in response.iter_text():
        text += chunk
        handle.update(Markdown(text))
"""
# Nothing but actions comes here, so this reads them.
_JSON_EACH_ACTION = """\
    import re
    rest = ""
    for chunk in response.iter_text():
        rest += chunk
        while record := re.match("\\x1e__ACTION__([^\\x1e]*)\\x1e", rest):
            rest = rest[record.end():]
            display(JSON(json.loads(record[1])))
"""
# Without `flush` ipykernel holds printed text for up to 0.2 s.
_PRINT_EACH_CHUNK = """\
    for chunk in response.iter_text():
        print(chunk, flush=True)
"""


def cell_paced() -> list[Figure]:
    """A reply at an agent's pace: what is published for it, and how far behind its end."""

    def measured(cell: CellResult) -> tuple[float, ...]:
        shown = _displays(cell.messages)
        return len(shown), sum(map(size_of, shown)) / 1e6, _ms(cell, LAST_WORD, agent.last_at)

    with Agent() as agent, _KernelWithMagic(agent) as kernel:
        ours, naive = in_turns(
            [
                lambda: measured(kernel.ask("paced")),
                lambda: measured(kernel.ask_naively("paced", _MARKDOWN_EACH_CHUNK)),
            ],
            TURNS,
        )
    columns = (
        ("displays", "", Bound(80)),
        ("published", "MB", Bound(0.8)),
        ("last text after the end", "ms", None),
    )
    what = f"cell paced, {CHUNKS:,} chunks in {STREAM_S:g} s"
    return compared(what, columns, ours, naive, "Markdown update per chunk")


def cell_burst() -> list[Figure]:
    """A reply, then actions, as fast as they come: nothing lost, and no flood of messages."""

    def measured(cell: CellResult) -> tuple[float, ...]:
        return _busiest_second(cell.messages), sum(map(size_of, _displays(cell.messages))) / 1e6

    columns = (("messages in the busiest 1 s", "", Bound(25)), ("published", "MB", None))
    figures, cells = [], {}
    with Agent() as agent, _KernelWithMagic(agent) as kernel:
        for message, what, body, against in (
            ("burst", f"{CHUNKS:,} chunks", _MARKDOWN_EACH_CHUNK, "Markdown update per chunk"),
            ("actions", f"{ACTIONS:,} actions", _JSON_EACH_ACTION, "JSON display per action"),
        ):
            cells[message], naive = in_turns(
                [partial(kernel.ask, message), partial(kernel.ask_naively, message, body)], TURNS
            )
            figures += compared(
                f"cell burst, {what}", columns, map(measured, cells[message]), map(measured, naive), against
            )
        mixed = [kernel.ask("both") for _ in range(TURNS)]
    what = f"cell, {MIXED_STEPS:,} texts and actions in {MIXED_S:g} s"
    busiest = [_busiest_second(cell.messages) for cell in mixed]
    figures.append(Figure(f"{what}: messages in the busiest 1 s", "", busiest, bound=Bound(25)))
    actions = cells["actions"]
    for name, counts in (
        ("cell burst, chunks: words lost", [_words_lost(cell, reply_text()) for cell in cells["burst"]]),
        ("cell burst, actions: not shown exactly once", [_actions_amiss(cell, ACTIONS) for cell in actions]),
        (f"{what}: not shown exactly once", [_actions_amiss(cell, MIXED_STEPS) for cell in mixed]),
    ):
        figures.append(Figure(name, "", counts, bound=Bound(0), worst=True))
    outputs = [len(_payload_outputs(cell)) for cell in actions]
    return [*figures, Figure("cell burst, actions: outputs that show them", "", outputs)]


def first_text() -> list[Figure]:
    """From the first byte's being sent to the first message that holds it."""

    def with_magic(kernel: _KernelWithMagic) -> float:
        return _ms(kernel.ask("first"), FIRST_WORD, agent.first_at)

    def with_print(kernel: _KernelWithMagic) -> float:
        return _ms(kernel.ask_naively("first", _PRINT_EACH_CHUNK), FIRST_WORD, agent.first_at)

    def cold(measure: Callable[[_KernelWithMagic], float]) -> float:
        with _KernelWithMagic(agent) as kernel:
            return measure(kernel)

    measures = (with_magic, with_print)
    with Agent() as agent:
        with _KernelWithMagic(agent) as kernel:
            for measure in measures:
                measure(kernel)
            warm = in_turns([partial(measure, kernel) for measure in measures], FIRST_TEXT_TURNS)
        first = in_turns([partial(cold, measure) for measure in measures], COLD_KERNELS)
    return [
        Figure(f"first text: {what}", "ms", ours, printed, "print of httpx's first chunk", Bound(30))
        for what, (ours, printed) in (("warm, a later turn", warm), ("cold, the kernel's first turn", first))
    ]


# --- The agent and the kernel ---------------------------------------------------------------


class Agent(DemoAgent):
    """A demo agent whose reply the message names; it notes when it sends its first and last chunk."""

    def __init__(self) -> None:
        super().__init__(reply=self._timed_steps, first_byte_s=0)
        self.first_at = self.last_at = 0.0

    def _timed_steps(self, body: dict[str, JSON]) -> Iterator[Step]:
        # The first step is asked for before the answer's head is sent, so it is not the text.
        yield 0.0
        self.first_at = 0.0
        for step in _steps(str(body["message"])):
            if not isinstance(step, (int, float)):
                self.last_at = time.monotonic()
                self.first_at = self.first_at or self.last_at
            yield step


def _steps(message: str) -> Iterator[Step]:
    match message:
        case "paced" | "burst":
            text = reply_text()
            for at in range(0, len(text), CHUNK_CHARACTERS):
                yield TextDelta(text[at : at + CHUNK_CHARACTERS])
                if message == "paced":
                    yield STREAM_S / CHUNKS
        case "actions":
            for number in range(ACTIONS):
                yield Action({"type": "step", "number": number})
        case "both":
            for number in range(MIXED_STEPS):
                yield TextDelta(f"word{number} ")
                yield MIXED_S / MIXED_STEPS / 2
                yield Action({"type": "step", "number": number})
                yield MIXED_S / MIXED_STEPS / 2
            yield TextDelta(LAST_WORD)
        case "first":
            yield TextDelta(f"{FIRST_WORD} of a reply")
            yield 0.1
            yield TextDelta(" and its rest.")
        case _:
            raise ValueError(message)


def reply_text() -> str:
    """20,000 characters of Markdown that end in a word of their own."""
    size, end = CHUNKS * CHUNK_CHARACTERS, f"\n\n{LAST_WORD}"
    text, number = "", 0
    while len(text) < size:
        number += 1
        text += (
            f"## Part {number}\n\nThe *first* point of part {number} is `made` here, **and** it is backed by "
            f"[a source](https://docs.example.com/{number}).\n\n- one item\n- another, the longer one\n\n"
        )
    # Cut in a word at worst, never in a sign of Markdown's: x stands for what is left.
    whole = text[: text.rindex("## Part", 0, size - len(end))]
    return whole + "x" * (size - len(end) - len(whole)) + end


class _KernelWithMagic(Kernel):
    """A fresh kernel that has the package loaded and knows the agent."""

    def __init__(self, agent: Agent) -> None:
        super().__init__(env={"HALO_API_KEY": DEMO_KEY, "HALO_BASE_URL": agent.url, **WITH_BYTE_CODE})
        self._url = f"{agent.url}/chat/stream"
        run(self, "%load_ext halo_notebook")

    def ask(self, message: str) -> CellResult:
        """As a user does."""
        return run(self, f"%%halo --new\n{message}")

    def ask_naively(self, message: str, body: str) -> CellResult:
        """With httpx and IPython alone; `body` reads the response."""
        return run(self, _REQUEST.format(url=self._url, message=message, key=DEMO_KEY, body=body))


def run(kernel: Kernel, code: str) -> CellResult:
    """Run a cell, which must not fail."""
    result = kernel.run(code, timeout=120)
    if result.status != "ok":
        raise RuntimeError(f"the cell failed: {result.ename}: {result.evalue}")
    return result


# --- What the messages say --------------------------------------------------------------------


def _displays(messages: list[Message]) -> list[Message]:
    return [message for message in messages if message.msg_type in {"display_data", "update_display_data"}]


def size_of(message: Message) -> int:
    """The bytes of what a message holds, as JSON."""
    return len(json.dumps(message.content, ensure_ascii=False).encode())


def _ms(cell: CellResult, word: str, since: float) -> float:
    """Milliseconds from `since` to the arrival of the first output that holds `word`."""
    for message in cell.messages:
        if message.msg_type in {"display_data", "update_display_data", "stream"} and word in json.dumps(
            message.content
        ):
            return (message.at - since) * 1000
    raise RuntimeError(f"no output holds {word!r}")


def _busiest_second(messages: list[Message]) -> int:
    """The most messages, of any type, that arrived within one second."""
    times = [message.at for message in messages]
    return max(sum(start <= at < start + 1 for at in times) for start in times)


def _words_lost(cell: CellResult, sent: str) -> int:
    """Words of the reply that the finished outputs lack, as plain text or as HTML."""
    plain = "\n".join(data.get("text/plain", "") for data in cell.displays)
    html = "\n".join(data.get("text/html", "") for data in cell.displays)
    plain_lost = Counter(sent.split()) - Counter(plain.split())
    read = re.sub(r"\(https:[^)]*\)", "", sent)
    html_lost = Counter(re.findall(r"\w+", read)) - Counter(re.findall(r"\w+", re.sub(r"<[^>]*>", " ", html)))
    return plain_lost.total() + html_lost.total()


def _payload_outputs(cell: CellResult) -> list[list[JSON]]:
    """The payloads of each output that shows some: a group is a list."""
    shown = [data["application/json"] for data in cell.displays if "application/json" in data]
    return [payload if isinstance(payload, list) else [payload] for payload in shown]


def _actions_amiss(cell: CellResult, count: int) -> int:
    """How many actions are shown never, more than once, or were never sent."""
    shown = Counter(json.dumps(payload) for payloads in _payload_outputs(cell) for payload in payloads)
    sent = Counter(json.dumps({"type": "step", "number": number}) for number in range(count))
    return ((sent - shown) + (shown - sent)).total()
