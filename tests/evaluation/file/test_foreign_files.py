"""An evaluation's file from somebody else: a line is taken, skipped and counted, or named in one error."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from functools import partial
from itertools import cycle, permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import errors
from halo_notebook.evaluation import Evaluation
from halo_notebook.evaluation.file.state import RunState
from halo_notebook.evaluation.labels.queue import open_queue
from halo_notebook.evaluation.sending.plan import Plan

from ..agents import ok, sent, states

if TYPE_CHECKING:
    from halo_notebook import DemoAgent, HaloClient

    from ..conftest import Run

CASES: list[Any] = [{"id": "two", "turns": ["My name is Ada", "What is my name?"]}, "Open a ticket"]


@pytest.fixture
def lines(run: Run, kept: Path, agent: DemoAgent) -> list[dict[str, Any]]:
    """The lines of a finished evaluation of `CASES`, with a label; the agent has forgotten it."""
    result = run(CASES, [ok], path=kept, concurrency=1)
    open_queue(result._state, 2, "ok")
    result.label_rows({0: True}, notes={0: "good"})
    agent.requests.clear()
    return [json.loads(line) for line in kept.read_text().splitlines()]


def as_text(lines: list[Any]) -> str:
    written = (line if isinstance(line, str) else json.dumps(line, separators=(",", ":")) for line in lines)
    return "\n".join(written) + "\n"


def state_of(path: Path, client: HaloClient) -> RunState:
    """What is in the file, as `evaluate` reads it."""
    plan = Plan(CASES, [ok], {"demo": client}, 1, 1, None)
    state = RunState(path, plan.conversations(), plan.checks, {"demo": ""})
    state.load()
    return state


def opened(path: Path, client: HaloClient) -> Evaluation:
    return Evaluation(state_of(path, client))


def used(result: Evaluation) -> None:
    """Everything that reads the file."""
    assert len(result.labels) <= len(result.df)
    if "ok" in result._state.checks:
        assert repr(result.agreement("ok"))
    assert not result.summary().empty and isinstance(result.notes(), list)
    result.rescore([ok], again=True)
    rows = list(result.rows())
    assert len(rows) >= len(result)
    for _, reply in (turn for row in range(len(rows)) for turn in result.conversation(row)):
        assert reply.to_dict()


# --- Lines that come twice or out of order ----------------------------------------------


def test_a_finished_turn_stays_finished_in_any_order(
    lines: list[dict[str, Any]], run: Run, kept: Path, agent: DemoAgent
) -> None:
    """Doubled, reversed, shuffled: no message is sent, and the tables are the same."""
    head, *rest = lines
    orders = [
        rest + rest,
        rest[::-1],
        [line for line in rest for _ in range(3)],
        *(random.Random(seed).sample(rest * 2, 2 * len(rest)) for seed in range(20)),
        *([*rest, *(line for line in rest if line["kind"] == kind)] for kind in ("sent", "turn")),
        [*rest, *({"kind": "sent", "key": line["key"], "turn": 0} for line in rest if "turn" in line)],
        [
            *rest,
            *(
                {"kind": "refused", "key": line["key"], "turn": line["turn"]}
                for line in rest
                if "turn" in line
            ),
        ],
    ]
    texts = set()
    for order in orders:
        kept.write_text(as_text([head, *order]))
        result = run(CASES, path=kept)
        assert states(result) == ["complete"] * 3
        texts.add(tuple(row["text"] for row in result.rows()))
    assert sent(agent) == [] and len(texts) == 1


def test_what_may_have_arrived_stays_so_in_any_order(
    lines: list[dict[str, Any]], run: Run, kept: Path, agent: DemoAgent
) -> None:
    """A refused try, the next one, and no end: in each order of the lines it is not sent again."""
    sent_line = next(line for line in lines if line["kind"] == "sent")
    refused = {**sent_line, "kind": "refused"}
    again = {**sent_line, "try": 2}
    for order in permutations([sent_line, refused, again, refused]):
        kept.write_text(as_text([lines[0], *order]))
        assert states(run(CASES[:1], path=kept)) == ["interrupted", "skipped"]
    assert sent(agent) == []


def test_a_file_of_an_earlier_version_is_continued(
    lines: list[dict[str, Any]], run: Run, kept: Path, agent: DemoAgent
) -> None:
    """Its lines have neither round nor try: a refused message is sent, a later start counts."""
    old = [{name: value for name, value in line.items() if name not in ("round", "try")} for line in lines]
    kept.write_text(as_text(old))
    assert states(run(CASES, path=kept)) == ["complete"] * 3 and sent(agent) == []
    [first, *_] = [line for line in old if line["kind"] == "sent"]
    failed = next({**line, "status": "failed"} for line in old if line["kind"] == "turn")
    for rest, state in (
        ([first, {**first, "kind": "refused"}], "complete"),
        ([first, failed], "complete"),
        ([first, {**first, "kind": "refused"}, first], "interrupted"),
        ([first, failed, first], "interrupted"),
    ):
        kept.write_text(as_text([old[0], *rest]))
        agent.requests.clear()
        assert states(run(CASES[:1], path=kept))[0] == state
        assert len(agent.requests) == (2 if state == "complete" else 0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": "failed"}, ("network", True)),
        ({"status": "interrupted", "reply": {"status": "stopped"}}, ("stopped", True)),
        ({"status": "interrupted", "reply": {"status": "failed", "error": "It broke off"}}, ("agent", False)),
        ({"status": "failed", "cause": "limit"}, ("limit", True)),
        ({"status": "failed", "cause": "refused"}, ("refused", True)),
        ({"status": "interrupted", "cause": "agent"}, ("agent", False)),
        ({"status": "complete", "cause": ""}, ("", False)),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_turn_says_whose_failure_it_was(
    changes: dict[str, Any],
    expected: tuple[str, bool],
    lines: list[dict[str, Any]],
    client: HaloClient,
    kept: Path,
) -> None:
    """Its line does; for one of an earlier version it follows from how the reply ended."""
    *before, last = [line for line in lines if line["kind"] in ("run", "sent", "turn")]
    old = {name: value for name, value in last.items() if name != "cause"}
    kept.write_text(
        as_text([*before, {**old, **changes, "reply": {**last["reply"], **changes.get("reply", {})}}])
    )
    state = state_of(kept, client)
    two, ticket = state.conversations.values()
    turn = state.turns(ticket)[0]
    assert (turn.cause, turn.missing) == expected and state.missing(ticket) == turn.missing
    assert not state.missing(two) and turn.started_at is not None
    assert turn.started_at.isoformat(timespec="milliseconds") == last["reply"]["started_at"]


def test_a_conversation_without_its_last_reply_is_missing(
    lines: list[dict[str, Any]], client: HaloClient, kept: Path
) -> None:
    """One that was not started, one whose process was killed, in a turn or between two, and a refused one."""
    first, second = [
        [line for line in lines if line.get("turn") == turn and line["key"] == key]
        for key, turn in [(line["key"], line["turn"]) for line in lines if line["kind"] == "sent"][:2]
    ]
    refused = {**second[0], "kind": "refused"}
    for rest in ([], first[:1], first, [*first, second[0]], [*first, second[0], refused]):
        kept.write_text(as_text([lines[0], *rest]))
        state = state_of(kept, client)
        assert [state.missing(each) for each in state.conversations.values()] == [True, True]
    kept.write_text(as_text([lines[0], *first, *second]))
    state = state_of(kept, client)
    assert [state.missing(each) for each in state.conversations.values()] == [False, True]


def test_a_conversation_that_was_started_again_has_its_own_turns(
    run: Run, kept: Path, agent: DemoAgent
) -> None:
    """The lines of the first start, added again at the end, change nothing."""
    agent.faults.extend(["drip", "cut text"])
    run(CASES[:1], path=kept)
    before = kept.read_text().splitlines()[1:]
    run(CASES[:1], path=kept, resume="interrupted")
    after = kept.read_text()
    kept.write_text(after + as_text([line for line in before if '"kind":"lag"' not in line]))
    result = run(CASES[:1], path=kept)
    assert states(result) == ["complete"] * 2 and len({row["session_id"] for row in result.rows()}) == 1


# --- Lines that cannot be meant ----------------------------------------------------------

NOT_READ = r"'evaluation.jsonl' (holds no evaluation|cannot be shown)"
OTHERS: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    1e400,
    float("nan"),
    10**30,
    "",
    "x",
    "\ud800",
    [],
    ["x"],
    {},
    {"a": 1},
]
RAW = [
    *(
        "[" * 100_000,
        "[]",
        "5",
        "null",
        '"x"',
        "not JSON",
        "\x00x",
        '{"a":1}',
        '{"kind":null}',
        '{"kind":[]}',
        "{}",
    ),
    *(
        '{"kind":"other"}',
        '{"kind":"sent","key":[],"turn":0}',
        '{"kind":"lag","p90_s":"x"}',
        '{"kind":"lag"}',
    ),
    *(
        '{"kind":"run","format":3}',
        '{"kind":"run","format":2,"repeats":0}',
        '{"kind":"run","configs":{"a":1}}',
    ),
    *('{"kind":"run","configs":{"a":{"url":"x"}}}', '{"kind":"run","configs":{"a":"http://["}}'),
    *('{"kind":"case","key":"a"}', '{"kind":"plan","cases":[1]}', '{"kind":"plan"}', '{"kind":"checks"}'),
    *('{"kind":"checks","checks":[{"name":"a"}]}', '{"kind":"verdict","key":"a","turn":0,"check":"a"}'),
    *('{"kind":"sent","key":"a"}', '{"kind":"turn","key":"a","turn":0}'),
    *('{"kind":"sent","key":"a","turn":' + "1" * 30 + "}", '{"kind":"sent","key":"a","turn":true}'),
    *('{"kind":"sent","key":"a","turn":0,"round":"x"}', '{"kind":"sent","key":"a","turn":0,"try":-1}'),
    '{"kind":"sent" broken}',
]


@pytest.mark.parametrize("raw", RAW, ids=lambda raw: ascii(raw[:50]))
@pytest.mark.usefixtures("lines")
def test_a_line_that_cannot_be_meant_is_named(raw: str, run: Run, kept: Path, agent: DemoAgent) -> None:
    """One error with its number; nothing is sent, and the file can be used again."""
    before = kept.read_text()
    kept.write_text(before + raw + "\n")
    number = len(before.splitlines()) + 1
    with pytest.raises(
        errors.UsageError, match=rf"^Line {number} of 'evaluation.jsonl' is not .*Nothing was sent"
    ):
        run(CASES, path=kept)
    kept.write_text(before)
    assert states(run(CASES, path=kept)) == ["complete"] * 3 and sent(agent) == []


@pytest.mark.parametrize("alike", [("1", "2"), ("1", "3"), ("2", "3"), ("1", "2", "3")])
def test_two_cases_of_one_id_are_named(alike: tuple[str, ...], run: Run, kept: Path) -> None:
    """They would be merged into one; the error names the lines of both."""
    run(["one", "two", "three"], [ok], path=kept)
    lines = [json.loads(line) for line in kept.read_text().splitlines()]
    numbers = [at for at, line in enumerate(lines, 1) if line["kind"] == "case" and line["id"] in alike]
    for number in numbers:
        lines[number - 1]["id"] = "same"
    kept.write_text(as_text(lines))
    words = rf"^Line {numbers[1]} of .* \(its id 'same' is that of the case of line {numbers[0]}\)\. Nothing"
    with pytest.raises(errors.UsageError, match=words):
        Evaluation.open(kept)


def test_a_case_that_was_edited_keeps_its_id(run: Run, kept: Path) -> None:
    """Only the cases of the latest run are compared."""
    for message in ("one", "another", "a third"):
        run([{"id": "a", "message": message}, {"id": message, "message": "x"}], [ok], path=kept)
        result = Evaluation.open(kept)
        assert [row["message"] for row in result.rows()] == [message, "x"] and len(result) == 2


@pytest.mark.parametrize("places", [(0, 0), (0, 1, 0), (0, 1, 1, 0)])
def test_a_plan_that_lists_a_case_twice_is_named(
    places: tuple[int, ...], lines: list[dict[str, Any]], run: Run, kept: Path
) -> None:
    """To look at the file, and to continue it."""
    [plan] = [line for line in lines if line["kind"] == "plan"]
    plan["cases"] = [plan["cases"][place] for place in places]
    kept.write_text(as_text(lines))
    words = rf"^Line {lines.index(plan) + 1} of .* \('cases' names a case twice\)\. Nothing was sent"
    for read in (Evaluation.open, lambda path: run(CASES, path=path)):
        with pytest.raises(errors.UsageError, match=words):
            read(kept)


@pytest.mark.parametrize("repeats", [500_001, 10**9, 2**53 - 1])
def test_more_conversations_than_can_be_read_are_named(
    repeats: int, lines: list[dict[str, Any]], run: Run, kept: Path
) -> None:
    """The line is that of the latest run; a run with fewer repeats continues the file."""
    kept.write_text(as_text([*lines, {**lines[0], "repeats": repeats}]))
    words = rf"^Line {len(lines) + 1} of .* \({repeats:,} repeats, 2 cases and 1 configurations .* at most"
    with pytest.raises(errors.UsageError, match=words) as raised:
        Evaluation.open(kept)
    assert "\n" not in str(raised.value)
    assert states(run(CASES, path=kept)) == ["complete"] * 3


@pytest.mark.ci
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["turn", "run", "case", "plan", "checks", "verdict", "sample", "label"])
def test_every_value_of_every_line_may_be_anything(
    kind: str, lines: list[dict[str, Any]], client: HaloClient, kept: Path
) -> None:
    """It is taken, or is one error that names the line; whatever is taken can be shown."""

    def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        items = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        return [path, *(place for key, item in items for place in places(item, (*path, key)))]

    def changed(value: Any, path: tuple[Any, ...], other: Any) -> Any:
        if not path:
            return other
        copy = dict(value) if isinstance(value, dict) else list(value)
        if other is places and len(path) == 1:
            del copy[path[0]]  # missing
        else:
            copy[path[0]] = changed(value[path[0]], path[1:], other)
        return copy

    of_kind = [numbered for numbered in enumerate(lines) if numbered[1]["kind"] == kind]
    at, line = max(of_kind, key=lambda numbered: len(places(numbered[1])))
    choice = random.Random(7)
    both: list[Callable[[Path], Evaluation]] = [partial(opened, client=client), Evaluation.open]
    readers = cycle(both)
    taken = 0
    for place in [place for place in places(line) if place]:
        for other in [places, *choice.sample(OTHERS, 1 if kind == "turn" else 2)]:  # it has many places
            kept.write_text(as_text([*lines[:at], changed(line, place, other), *lines[at + 1 :]]))
            try:
                used(next(readers)(kept))
            except errors.UsageError as error:
                words = rf"Line {at + 1} of 'evaluation.jsonl' is not a line of .*\.$|{NOT_READ}"
                assert re.match(words, str(error))  # noqa: PT017  # which of both is what is asked
            else:
                taken += 1
    assert taken > (20 if kind == "turn" else 0)


def test_a_damaged_file_is_never_a_traceback(
    lines: list[dict[str, Any]], client: HaloClient, kept: Path
) -> None:
    """Bytes that are changed, cut or doubled anywhere."""
    whole = as_text(lines).encode()
    choice = random.Random(11)
    for _ in range(100):
        at = choice.randrange(len(whole))
        broken = choice.choice(
            [
                whole[:at],
                whole[:at] + bytes([choice.randrange(256)]) + whole[at + 1 :],
                whole[:at] + whole[at + choice.randrange(1, 40) :],
                whole[:at] + whole[max(0, at - 300) :],
                whole[:at] + b"\0" * 50 + whole[at:],
                whole[:at] + b"\n" + whole[at:],
            ]
        )
        for read in (partial(opened, client=client), Evaluation.open):
            kept.write_bytes(broken)
            try:
                used(result := read(kept))
                assert result._repr_html_()
            except errors.UsageError as error:
                assert "\n" not in str(error) and "Nothing was sent" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "end",
    ['{"kind":"turn","key":"a', '{"kin', "{", '{"kind":"turn","reply":{}', "\0\0\0\0", '{"kind":"turn","é'],
)
def test_a_line_that_was_cut_short_is_counted(end: str, lines: list[Any], run: Run, kept: Path) -> None:
    """By a crash, at any byte; the tables say so."""
    kept.write_bytes(as_text(lines).encode() + end.encode()[: len(end)])
    result = run(CASES, path=kept)
    assert states(result) == ["complete"] * 3
    noted = ["1 line of 'evaluation.jsonl', cut short by a crash, was skipped."]
    assert result.notes() == ([] if end.startswith("\0") else noted)


@pytest.mark.parametrize("place", [*range(6), "all"])
@pytest.mark.parametrize("between", ["", "\r", " ", "\r\r"])
def test_lines_that_were_joined_are_not_sent_again(
    place: Any, between: str, lines: list[Any], run: Run, kept: Path
) -> None:
    """An editor saved the file with other line ends, or without one; only a crash cuts a line short."""
    before = as_text(lines)
    ends = [found.start() for found in re.finditer("\n", before)][:-1]
    for at in reversed(ends if place == "all" else [ends[place % len(ends)]]):
        before = before[:at] + between + before[at + 1 :]
    kept.write_text(before, newline="")
    for read in (partial(run, CASES, path=kept), partial(Evaluation.open, kept)):
        with pytest.raises(errors.UsageError, match=r"it is several lines in one.*Nothing was sent"):
            read()
    assert kept.read_bytes() == before.encode()


@pytest.mark.parametrize(
    "wrap",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace("\n", "\n\n"),
        lambda text: text.replace('":', '": ').replace(',"', ', "'),
    ],
    ids=["byte order mark", "CRLF", "empty lines", "blanks"],
)
def test_a_file_that_an_editor_has_saved_is_read(
    wrap: Any, lines: list[Any], run: Run, kept: Path, agent: DemoAgent
) -> None:
    """It is continued, too."""
    kept.write_text(wrap(as_text(lines)), newline="")
    assert states(run([*CASES, "another"], path=kept)) == ["complete"] * 4
    assert sent(agent) == ["another"]


def test_a_file_that_changes_while_it_is_used_is_one_line(run: Run, kept: Path) -> None:
    """Moved, emptied, or written over by another program."""
    result = run(CASES, path=kept)
    whole = kept.read_bytes()
    for content in (
        b"",
        b"x" * len(whole),
        whole[5:],
        b"[" * len(whole),
        b'{"kind":"lag","p90_s":0}\n' * 500,
    ):
        kept.write_bytes(content)
        with pytest.raises(errors.UsageError, match=r"has changed since it was read"):
            _ = result.df
    kept.unlink()
    for use in (lambda: result.df, lambda: result.conversation(0), lambda: result.rescore([ok])):
        with pytest.raises(errors.UsageError, match=r"could not be read \(No such file"):
            use()
