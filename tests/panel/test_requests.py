"""What a page may ask for: sessions, ratings, exports, earlier turns; and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import Session, errors
from halo_notebook.evaluation import read_cases
from halo_notebook.panel.page_requests import MAX_NOTE_CHARS
from halo_notebook.panel.state import MAX_SNAPSHOT_BYTES, MAX_SNAPSHOT_TURNS
from halo_notebook.stream import TextDelta

if TYPE_CHECKING:
    from halo_notebook import ChatPanel, HaloClient
    from halo_notebook.demo import DemoAgent
    from halo_notebook.session import SessionRegister

    from .conftest import Message, Wire


def test_switching_shows_all_of_the_other_session(panel: ChatPanel, page: Wire) -> None:
    """A new epoch begins with a snapshot; the menu lists every session of the kernel."""
    panel.ask("My name is Ada").result(10)
    page.turns(1)
    page.ask("switch", name=" second ")
    snapshot = page.of("snapshot")[-1]
    assert (panel.session_name, snapshot["session"], snapshot["turns"]) == ("second", "second", [])
    assert {"name": "docs", "turns": 1} in snapshot["sessions"]
    page.ask("switch", name="docs")
    assert [turn["asked"] for turn in page.of("snapshot")[-1]["turns"]] == ["My name is Ada"]
    assert "at most 100" in page.ask("switch", name="x" * 101)["error"]
    assert "at most 100" in page.ask("switch", name="\n")["error"]


def test_a_new_conversation_keeps_the_old_one(
    panel: ChatPanel, page: Wire, register: SessionRegister
) -> None:
    """As NAME-1, whether the page or a cell starts it."""
    panel.ask("My name is Ada").result(10)
    page.ask("new")
    assert panel.session.turns == [] and panel.session_name == "docs"
    assert "have not told me" in panel.ask("What is my name?").result(10).text
    register.new("docs")
    page.wait(lambda: {"name": "docs-2", "turns": 1} in page.of("snapshot")[-1]["sessions"])
    snapshot = page.of("snapshot")[-1]
    assert snapshot["turns"] == []
    assert {"name": "docs", "turns": 0} in snapshot["sessions"]
    assert {"name": "docs-1", "turns": 1} in snapshot["sessions"]


def test_a_turn_is_rated(panel: ChatPanel, page: Wire) -> None:
    """The rating is on the turn in the kernel, on every page and in the export."""
    panel.ask("Hello").result(10)
    page.turns(1)
    assert "error" not in page.ask("rate", key="t1", value="down", note="Too *short*." + "x" * 5_000)
    rating = panel.session.turns[0].rating
    assert rating is not None
    assert rating.value == "down" and len(rating.note) == MAX_NOTE_CHARS
    page.wait(lambda: (page.of("turn")[-1]["turn"]["rating"] or {}).get("value") == "down")
    panel.session.rate(panel.session.turns[0], "up", "Good.")
    page.wait(lambda: page.of("turn")[-1]["turn"]["rating"] == {"value": "up", "note": "Good."})
    exported = json.loads(page.ask("export", format="json")["text"])
    assert exported["turns"][0]["rating"] == {"value": "up", "note": "Good."}
    markdown = page.ask("export", format="markdown")
    assert markdown["name"] == "docs.md" and "*(rated up)*\n\nGood." in markdown["text"]
    page.ask("rate", key="t1", value="", note="")
    assert panel.session.turns[0].rating is None
    assert "error" in page.ask("rate", key="t1", value="sideways", note="")
    assert "error" in page.ask("rate", key="t9", value="up", note="")


def test_a_turn_is_kept_as_a_test_case(
    open_panel: Callable[..., Wire], client: HaloClient, tmp_path: Path
) -> None:
    """The conversation up to it, with its rating, what is expected and tags; once."""
    path = tmp_path / "cases.jsonl"
    page = open_panel(client=client, cases=path)
    page.panel.fields["context"] = {"plan": "team"}
    for message in ("My name is Ada", "What is my name?", "Goodbye"):
        page.panel.ask(message).result(10)
    page.turns(3)
    page.ask("rate", key="t2", value="down", note="Too long")
    answer = page.ask("keep", key="t2", expect="Ada", tags=["memory", "a b"])
    assert answer["kept"].startswith("Kept in 'cases.jsonl' as 'what-is-my-name-")
    assert "has this case already" in page.ask("keep", key="t2", expect="", tags=[])["kept"]
    assert "(2 cases)" in page.ask("keep", key="t1", expect="", tags=[])["kept"]
    case, other = read_cases(path)
    assert [turn.message for turn in case.turns] == ["My name is Ada", "What is my name?"]
    assert case.turns[0].fields == {"context": {"plan": {"label": "plan", "value": "team"}}}
    assert (case.expect, case.tags, other.expect) == ("Ada", ("memory", "a b"), None)
    assert case.metadata == {"rating": "down", "rating_note": "Too long"}


def test_the_panel_names_a_missing_package(
    open_panel: Callable[..., Wire], client: HaloClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In its line, with the command that installs it; nothing is written."""
    page = open_panel(client=client, cases=tmp_path / "cases.jsonl")
    page.panel.ask("Hello").result(10)
    page.turns(1)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    error = page.ask("keep", key="t1", expect="", tags=[])["error"]
    assert "needs the package filelock. Nothing was written; run python -m pip install 'halo-" in error
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_kept_is_said(
    open_panel: Callable[..., Wire], client: HaloClient, tmp_path: Path
) -> None:
    """In one line, and the file stays as it is."""
    path = tmp_path / "cases.jsonl"
    path.write_text("My notes\n")
    page = open_panel(client=client, cases=str(path))
    page.panel.ask("Hello").result(10)
    page.turns(1)
    assert "is not a file of cases" in page.ask("keep", key="t1", expect="", tags=[])["error"]
    wrong: list[Message] = [{"key": "t9"}, {"tags": "x"}, {"tags": [1]}, {"expect": 3}]
    for each in wrong:
        assert page.ask(**{"kind": "keep", "key": "t1", "expect": "", "tags": [], **each})["error"]
    assert path.read_text() == "My notes\n"
    for cases in (" ", 3, None, "cases", Path("cases.csv")):
        with pytest.raises(errors.UsageError, match=r"cases must be the path of a \.jsonl file"):
            open_panel(client=client, cases=cases)


def test_a_session_from_a_file_says_that_it_starts_anew(
    open_panel: Callable[..., Wire], client: HaloClient, register: SessionRegister, tmp_path: Path
) -> None:
    """Before the next message, and at its turn; the one after it continues that conversation."""
    session = Session()
    session.ask(client, "My name is Ada")
    register.add(Session.load(session.export(tmp_path / "talk.json")), "talk")
    page = open_panel("talk", client=client)
    snapshot = page.of("snapshot")[-1]
    note = "a new conversation for the agent, which gets 2 earlier messages as its history"
    assert snapshot["start_note"] == note
    assert [turn["asked"] for turn in snapshot["turns"]] == ["My name is Ada"]
    page.send("And now?")
    told = "a new conversation for the agent, which got 2 earlier messages as its history"
    assert page.turns(1)[0]["start_note"] == page.of("begin")[-1]["turn"]["start_note"] == told
    page.send("And then?")
    assert page.turns(2)[-1]["start_note"] == ""
    assert page.of("start")[-1]["start_note"] == ""
    page.ask("sync")
    assert page.of("snapshot")[-1]["start_note"] == ""


def test_a_large_export_comes_in_parts(panel: ChatPanel, page: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page asks for one after the other; together they are the whole, as it was at first."""
    panel.ask("My name is Ada").result(10)
    whole = page.ask("export", format="markdown")
    assert whole["parts"] == 1
    monkeypatch.setattr("halo_notebook.panel.page_requests.EXPORT_PART_CHARS", 50)
    parts = [page.ask("export", format="markdown")]
    panel.ask("What is my name?").result(10)
    while len(parts) < parts[0]["parts"]:
        parts.append(page.ask("export", format="markdown", part=len(parts)))
    assert len(parts) > 2
    assert "".join(part["text"] for part in parts) == whole["text"]
    for part in (99, -1, "x", True, None):
        assert part is True or "error" in page.ask("export", format="markdown", part=part)


def test_views_that_export_at_once_get_what_they_asked_for(
    panel: ChatPanel, page: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another format, of another session, after one that was aborted: each its own parts."""
    monkeypatch.setattr("halo_notebook.panel.page_requests.EXPORT_PART_CHARS", 50)
    panel.ask("My name is Ada").result(10)
    docs = panel.session
    whole = {"markdown": docs.to_markdown(), "json": docs.to_json()}
    parts: dict[str, list[Message]] = {"markdown": [], "json": []}
    for format_, got in parts.items():
        got.append(page.ask("export", format=format_, part=0, which=format_))
    for number in range(6):  # aborted
        page.ask("export", format="json", part=0, which=f"view {number}")
    page.ask("switch", name="other")
    other = page.ask("export", format="markdown", part=0, which="other")
    for _ in range(1, parts["json"][0]["parts"]):
        for format_, got in parts.items():
            if len(got) < got[0]["parts"]:
                got.append(page.ask("export", format=format_, part=len(got), which=format_))
        assert other["name"] == "other.md"
    for format_, got in parts.items():
        assert "".join(part["text"] for part in got) == whole[format_]
        assert {part["name"] for part in got} == {f"docs.{'md' if format_ == 'markdown' else 'json'}"}


def test_a_long_conversation_comes_in_parts(
    panel: ChatPanel, page: Wire, agent: DemoAgent, client: HaloClient
) -> None:
    """A snapshot holds the last turns and fits a message; asking for earlier ones leads to the first."""
    agent._reply = lambda request: [TextDelta("word " * 4_000)]
    for number in range(100):
        panel.session.ask(client, f"Message {number}")
    page.turns(100)
    page.ask("sync")
    snapshot = page.of("snapshot")[-1]
    assert len(json.dumps(snapshot)) < MAX_SNAPSHOT_BYTES + 50_000
    numbers = [turn["number"] for turn in snapshot["turns"]]
    assert numbers == list(range(101 - len(numbers), 101)) and len(numbers) <= MAX_SNAPSHOT_TURNS
    assert snapshot["earlier"] == 100 - len(numbers)
    while numbers[0] > 1:
        answer = page.ask("earlier", before=numbers[0])
        assert answer["turns"] and answer["before"] == numbers[0]
        numbers = [turn["number"] for turn in answer["turns"]] + numbers
        assert answer["earlier"] == numbers[0] - 1
    assert numbers == list(range(1, 101))


@pytest.mark.parametrize(
    "request_",
    [
        {"kind": "nothing of that name"},
        {"kind": "send"},
        {"kind": "send", "text": " "},
        {"kind": "send", "text": 3},
        {"kind": "rate", "key": "t0", "value": "up", "note": ""},
        {"kind": "again", "key": "t²"},
        {"kind": "earlier"},
        {"kind": "release", "which": "x"},
        {"kind": "switch", "name": ""},
        {"kind": "edit", "key": "t1", "text": "x"},
    ],
)
def test_invalid_requests_are_answered_with_an_error(request_: Message, panel: ChatPanel, page: Wire) -> None:
    """Of one line, and nothing changes."""
    assert page.ask(**request_)["error"]
    assert panel.session.turns == [] and panel.session_name == "docs"


def test_malformed_requests_are_ignored(panel: ChatPanel, page: Wire) -> None:
    """A page of another version may send anything."""
    page.ask("sync")
    before = len(page.messages)
    samples: list[Any] = [None, [], "text", {}, {"kind": "send", "cid": 3, "text": "x"}]
    for content in samples:
        page.request(content)
    page.ask("sync")  # comes after them
    assert len(page.messages) == before + 2


def test_sessions_are_found_by_what_was_said_in_them(
    page: Wire, register: SessionRegister, client: HaloClient, agent: DemoAgent
) -> None:
    """In messages and replies, whatever the case, with the place; without a text, by their first message."""
    agent._reply = lambda request: [TextDelta(f"The straße\n\nof {'x' * 300} {request['message']}!")]
    register.get("one").ask(client, "About invoices \u202e<b>")
    register.get("one").ask(client, "And refunds")
    register.get("two").ask(client, "Zürich 🙂")
    found = page.ask("find", text="INVOICE")["found"]
    assert [each["name"] for each in found] == ["one"]
    assert found[0]["place"].startswith("About invoices") and "\u202e" not in found[0]["place"]
    assert [each["name"] for each in page.ask("find", text="STRASSE")["found"]] == ["one", "two"]
    [one] = page.ask("find", text="zürich 🙂!")["found"]
    assert one["name"] == "two" and len(one["place"]) <= 91
    assert one["place"].startswith("…xxx") and one["place"].endswith("x Zürich 🙂!")
    firsts = {each["name"]: each["place"] for each in page.ask("find", text="")["found"]}
    assert set(firsts) == {"one", "two"} and firsts["two"] == "Zürich 🙂"
    assert page.ask("find", text="nowhere")["found"] == []
    assert page.ask("find", text=3)["error"]


def test_an_exported_session_is_opened_beside_the_others(
    panel: ChatPanel, page: Wire, client: HaloClient, register: SessionRegister, tmp_path: Path
) -> None:
    """Under the name of its file, or a free one; no other session changes."""
    old = Session()
    old.ask(client, "My name is Ada")
    data = old.export(tmp_path / "x.json").read_bytes()
    panel.ask("Hello").result(10)
    given = {
        "docs.json": "docs (2)",
        "docs.JSON": "docs (3)",
        "a\u202e\nb.json": "a b",
        ".json": "default (2)",
    }
    for file_name, name in given.items():
        assert "error" not in page.ask("open", which=page.upload(data, part_bytes=400), name=file_name)
        assert panel.session_name == name
        assert [turn.message for turn in panel.session.turns] == ["My name is Ada"]
    assert page.of("snapshot")[-1]["start_note"].startswith("a new conversation for the agent, which gets 2")
    assert [turn.message for turn in register["docs"].turns] == ["Hello"]
    assert "Ada" in panel.ask("What is my name?").result(10).text


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is not JSON"),
        (b"\xff\xfe", "it is not JSON"),
        (b"[]", "'turns' is missing"),
        (b'{"turns": [], "halo_session": 99, "name": "x"}', "later version"),
        (b'{"turns": [{"request": {"message": ""}}], "name": "x"}', "turn 1"),
        pytest.param(b"[" * 100_000, "nested", id="deep"),
        (b'{"halo_recording": 1}', "is not an exported session"),
    ],
)
def test_a_file_that_is_not_an_export_opens_nothing(
    data: bytes, why: str, panel: ChatPanel, page: Wire, register: SessionRegister
) -> None:
    """One line names the file and what is wrong."""
    name = '<img src=x onerror="alert(1)">\u202e.json'
    before = list(register)
    error = page.ask("open", which=page.upload(data), name=name)["error"]
    assert why in error and "\n" not in error and "\u202e" not in error and "Nothing was changed" in error
    assert list(register) == before and panel.session_name == "docs"
    assert "lost on its way" in page.ask("open", which="unknown", name=name)["error"]
