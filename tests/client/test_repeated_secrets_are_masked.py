"""A secret that an agent repeats is masked before anything keeps or shows it, however it is written."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from halo_notebook.client.masking import MASK, Mask
from halo_notebook.client.secrets import Secret
from halo_notebook.stream import StreamParser, TextDelta

from .clients import KEY, answering, in_turn, replying, token

TOKEN = token(None)
SHOWN_KEY, SHOWN_TOKEN = "ab_live_" + MASK, TOKEN[:8] + MASK
RECORD = b'\x1e__ACTION__{"type": "open"}\x1e'
INVISIBLE = {
    "NUL": "\0",
    "bell": "\x07",
    "line end": "\n",
    "blank": " ",
    "no-break blank": "\xa0",
    "soft hyphen": "\xad",
    "zero-width space": "\u200b",
    "zero-width joiners": "\u200d\u2060" * 3,
    "right-to-left override": "\u202e",
    "isolate": "\u2066",
    "variation selector": "\ufe0f",
    "later variation selector": "\U000e0101",
    "tag": "\U000e0041",
    "byte order mark": "\ufeff",
    "Hangul filler": "\u3164",
    "Markdown's backslash": "\\",
}


def masked(data: bytes, *, in_one_piece: bool = False) -> str:
    """What is left of an answer, which is the same however it is divided."""

    def divided(size: int) -> bytes:
        mask = Mask([Secret(KEY), Secret(TOKEN)], in_one_piece=in_one_piece)
        pieces = [mask.feed(data[at : at + size]) for at in range(0, len(data), size)]
        return b"".join([*pieces, mask.close()])

    whole = divided(len(data))
    assert all(divided(size) == whole for size in (1, 2, 3, 5, 7, 20))
    return whole.decode()


@pytest.mark.parametrize("between", INVISIBLE.values(), ids=INVISIBLE)
@pytest.mark.parametrize("secret", [KEY, TOKEN], ids=["key", "token"])
def test_what_shows_nothing_hides_no_secret(secret: str, between: str) -> None:
    """In text; in a payload's keys and values, as they are and as JSON's escapes."""
    written = between.join(secret)
    shown = between.join(secret[:8]) + between + MASK
    assert masked(f"It is {written}, yes".encode()) == f"It is {shown}, yes"
    for ascii_only in (False, True):
        payload = json.dumps({written: [written]}, ensure_ascii=ascii_only)
        left = masked(payload.encode(), in_one_piece=True)
        assert left.count(MASK) == 2
        ((key, (value,)),) = json.loads(left).items()
        assert key == value and key.rpartition(MASK)[0].rstrip(between) == between.join(secret[:8])


@pytest.mark.parametrize(
    ("reply", "left"),
    [
        (f"{KEY}{KEY} {TOKEN}", f"{SHOWN_KEY}{SHOWN_KEY} {SHOWN_TOKEN}"),
        (f"cut {KEY[:20]}", f"cut {SHOWN_KEY}"),
        (f"cut {TOKEN[:40]}", f"cut {SHOWN_TOKEN}"),
        (f"cut {KEY[:8]}", f"cut {KEY[:8]}"),
        (f"a JWT begins with {TOKEN[:15]}", f"a JWT begins with {TOKEN[:15]}"),
        (f"{KEY[:-1]} is another", f"{KEY[:-1]} is another"),
        (f"\\u00{KEY}", f"\\u00{SHOWN_KEY}"),
        ("C:\\new\\u00", "C:\\new\\u00"),
    ],
)
def test_text_keeps_all_but_the_secret(reply: str, left: str) -> None:
    """A secret that the end cuts is masked as far as it came; what only begins like one is not."""
    assert masked(reply.encode()) == left


@pytest.mark.parametrize("at", [3, 8, 12, len(KEY) - 1])
def test_a_record_within_a_secret_does_not_divide_it(at: int) -> None:
    """Neither half stands in the text."""
    parser = StreamParser()
    left = masked(KEY[:at].encode() + RECORD + RECORD + KEY[at:].encode() + b" end")
    text = "".join(event.text for event in parser.feed(left.encode()) if isinstance(event, TextDelta))
    assert text.replace(MASK, "") == "ab_live_ end"
    assert left.count(RECORD.decode()) == 2


def test_a_payload_with_escapes_and_a_malformed_record() -> None:
    """Each letter as an escape; a record that is not JSON; one that is cut."""
    escaped = "".join(f"\\u{ord(char):04X}" for char in KEY)
    left = masked(f'\x1e__ACTION__{{"a": "{escaped}"}}\x1e'.encode())
    assert StreamParser().feed(left.encode())[0].payload == {"a": SHOWN_KEY}  # type: ignore[union-attr]
    assert masked(f"\x1e__ACTION__no {KEY}\x1e!".encode()) == f"\x1e__ACTION__no {SHOWN_KEY}\x1e!"
    assert masked(f'\x1e__ACTIONS__["{KEY[:20]}'.encode()) == f'\x1e__ACTIONS__["{SHOWN_KEY}'


def test_bytes_without_a_secret_pass_unchanged() -> None:
    """Also those that are no UTF-8, and what only looks like the start of a tag."""
    data = b"\xff\xfe \xe2\x80 a\x1eb \x1e__ACTIO c \x1e__ACTION__{\x1e \x1e__ACTIONS__"
    mask = Mask([Secret(KEY)])
    assert mask.feed(data) + mask.close() == data


def test_what_cannot_become_a_secret_is_not_held_back() -> None:
    """Text is passed on as it arrives; an endless row of invisible characters is not kept in memory."""
    mask = Mask([Secret(KEY)])
    assert [mask.feed(each) for each in (b"The", b" ab_live_", b"x")] == [b"The", b" ab_live_", b"x"]
    assert mask.feed(KEY[:20].encode()) == b"ab_live_"
    given = [mask.feed("\u200b".encode() * 1000) for _ in range(100)]
    assert sum(map(len, given)) > 200_000
    assert mask.feed(KEY[20:].encode()) + mask.close() == MASK.encode()


def test_everything_received_is_masked() -> None:
    """Text, payloads, malformed records, ids; what was received before an error, too."""
    payload = f'{{"{KEY}": "{KEY}"}}'
    reply = f"It is {KEY}.\x1e__ACTION__{payload}\x1e\x1e__ACTION__{KEY[:25]}"
    with replying(reply.encode()) as client:
        then = client.ask("Hello")
    assert then.text == f"It is {SHOWN_KEY}." and then.actions == [{SHOWN_KEY: SHOWN_KEY}]
    assert then.malformed[0].raw == SHOWN_KEY
    headers = {"X-Session-Id": f"s\u200b{KEY}".encode(), "X-Agent-Id": KEY}
    then = answering(200, headers=headers, text="Hello").ask("Hello")
    assert (then.session_id, then.agent_id) == (None, None)


def test_an_answer_in_one_piece_is_masked() -> None:
    """In all of its fields, and where it is not JSON."""
    answer: dict[str, Any] = {"response": f"It is {KEY}", "session_id": KEY, "more": {KEY: [TOKEN]}}
    client, _ = in_turn(httpx.Response(200, json=answer))
    reply = client.chat("Hello", user_token=TOKEN)
    assert reply.text == f"It is {SHOWN_KEY}" and reply.session_id is None
    assert reply.raw == {"response": reply.text, "session_id": SHOWN_KEY, "more": {SHOWN_KEY: [SHOWN_TOKEN]}}


def test_a_token_of_an_earlier_turn_is_masked() -> None:
    """An agent remembers what it was told."""
    client, _ = in_turn(httpx.Response(200, text="Hello"), httpx.Response(200, text=f"It was {TOKEN}"))
    client.ask("Hello", user_token=TOKEN)
    assert client.ask("Which token?").text == f"It was {SHOWN_TOKEN}"
