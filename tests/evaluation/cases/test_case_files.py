"""Files of cases as editors and spreadsheets write them: read as meant, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from halo_notebook.errors import InvalidRequest
from halo_notebook.evaluation.cases.case import Case, CaseTurn, read_cases

ROWS = "id;message;tags\r\na;für, you;x\r\n"
WANTED = [Case("a", (CaseTurn("für, you"),), None, ("x",))]


def read(path: Path, content: bytes | str) -> list[Case]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_cases(path)


@pytest.mark.parametrize(
    "content",
    [
        ROWS,
        ROWS.replace(";", "\t"),
        ROWS.replace(";", "|"),
        ROWS.replace("für, you", '"für, you"').replace(";", ","),
        "sep=;\r\n" + ROWS,
        '"sep=\t"\r\n' + ROWS.replace(";", "\t"),
        ROWS.replace("\r\n", "\r"),
        ROWS.replace("\r\n", "\n\n \n"),
        ROWS.replace("tags", "tags;;").replace(";x", ";x;;") + ";;;;\r\n",
        ROWS.replace("id;message", '"id"; message '),
        "\ufeff" + ROWS,
        '\ufeff"id";"message";"tags"\r\n' + ROWS.partition("\r\n")[2],
        ROWS.encode("utf-16"),
        b"\xfe\xff" + ROWS.replace(";", "\t").encode("utf-16-be"),
        ROWS.encode("utf-32"),
    ],
    ids=range(15),
)
def test_spreadsheets_write_csv_in_many_ways(content: bytes | str, tmp_path: Path) -> None:
    """Separators, marks of encodings, line ends, empty cells and rows."""
    assert read(tmp_path / "cases.csv", content) == WANTED


OPEN = 'id,message\na,Hello\nb,"Where\n'


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (OPEN, "The row at line 3 of 'cases.csv' has an open quote"),
        (OPEN + "c,x\n" * 50_000, "The row at line 3 of 'cases.csv' has an open quote"),
        (OPEN + 'c,"x"\n', "The row at line 3 of 'cases.csv' has an open quote"),
        ("sep=,\n" + OPEN, "The row at line 4 of 'cases.csv' has an open quote"),
        ("id;say;expect\na;b;c\n", "Case 'a' has no turns (it has only 'say')"),
        ("ID,Message\na,b\n", "Unknown key 'ID'. Nothing was sent; did you mean 'id'?"),
        ("id,message\na,für\n".encode("cp1252"), "'cases.csv' is not UTF-8 (line 2)"),
        ("id,message\na,“x”\n".encode("cp1252"), "save it as UTF-8"),
        ("id,message\na,日本\n".encode("shift-jis"), "'cases.csv' is not UTF-8 (line 2)"),
        ("id,message\na,für\n".encode("utf-16")[:-1], "'cases.csv' is not UTF-16"),
        ("id,message\na,für\n".encode("utf-16-le"), "it is UTF-16 without its mark"),
        ("id,message\na,b\n".encode("utf-16-be"), "it is UTF-16 without its mark"),
        (b"id,message\na,x\0y\n", "a NUL character (line 2)"),
        (b"PK\x03\x04\x14\0\x06\0", "not a text"),
        ("id,message\na,Hello, you\n", "The row at line 2 of 'cases.csv' has a cell without a column"),
        ("id,message,\na,b,c\n", "a cell without a column"),
        ("id,message,message\na,b,c\n", "'cases.csv' has two columns called 'message'"),
        ("", "There are no cases"),
        ("id,message\n", "There are no cases"),
        ("\n \n,,\n", "There are no cases"),
        ('id,turns\na,"[""one"", "\n', "Case 'a': its turns are not JSON"),
        ("id,turns\na," + "[" * 100_000 + "\n", "Case 'a': its turns are not JSON"),
    ],
    ids=range(22),
)
def test_what_a_csv_file_lacks_is_said_in_one_line(content: bytes | str, words: str, tmp_path: Path) -> None:
    """With the row, the separator or the encoding, and nothing is sent."""
    with pytest.raises(InvalidRequest) as caught:
        read(tmp_path / "cases.csv", content)
    assert words in str(caught.value) and "Nothing was sent" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_lines_in_any_marked_encoding(ends: str, encoding: str, tmp_path: Path) -> None:
    """As CSV: with a byte order mark, and with the line ends of any system."""
    text = ends.join(['{"id": "a", "message": "für\u2028you"}', "", '"Hello"', ""])
    path = tmp_path / "cases.jsonl"
    assert [case.turns[0].message for case in read(path, text.encode(encoding))] == ["für\u2028you", "Hello"]


LINES = [
    *("null", "3", "[]", "{}", "[[]]", "true", "[null]", '{"turns": 3}', '{"turns": [3]}', '{"turns": [[]]}'),
    *('{"id": [1], "message": "x"}', '{"id": {}, "message": "x"}', '{"message": 5}', '{"message": {}}'),
    *('{"message": "x", "tags": {"a": 1}}', '{"message": "x", "tags": [[1]]}', "[" * 100_000),
    *('{"message": "x", "tags": "a"}', '{"message": "x", "tags": [true]}', '{"message": "x", "context": []}'),
    *('{"message": "x", "mode": {}}', '{"message": "x", "user_token": 5}', '{"message": "x", "images": [5]}'),
    *('{"message": "x", "expect": 1e999}', '{"message": "x", "expect": [NaN]}', '{"message": "x"', "\x00"),
    *('{"message": "x", "conversation_history": {}}', '{"": "x"}', '{"expect": ' + "1" * 5_000 + "}"),
]


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[:40])
def test_any_json_is_a_case_or_one_clear_error(line: str, tmp_path: Path) -> None:
    """Never a traceback, whatever stands where."""
    with pytest.raises(InvalidRequest, match=r"^[^\n]*Nothing was sent[^\n]*$"):
        read(tmp_path / "cases.jsonl", line)


@pytest.mark.parametrize("path", ["~nobody_here/cases.csv", "a\0b.csv", "x" * 300 + ".csv", "none.jsonl", ""])
def test_a_path_that_cannot_be_read_is_one_line(path: str) -> None:
    """A user without a home, a NUL, a name that is too long."""
    with pytest.raises(InvalidRequest, match="Nothing was sent"):
        read_cases(path)


def test_turns_in_a_cell_may_be_one_message(tmp_path: Path) -> None:
    """Only what begins like a list or an object is read as JSON."""
    cases = read(tmp_path / "cases.csv", "turns\nHello\n5\n" + json.dumps("x") + "\n")
    assert [case.turns[0].message for case in cases] == ["Hello", "5", "x"]
