"""A file is found under the name that a terminal, a file manager or another system gives it."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest

from halo_notebook.magics.files import named_file
from halo_notebook.magics.options import words

SCREENSHOT = "Screenshot 2025-04-26 at 4.42.48\u202fPM.png"
DECOMPOSED = unicodedata.normalize("NFD", "Überblick é.png")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (SCREENSHOT, DECOMPOSED, "a b.png", "two\u00a0x.png", "two\u2009x.png", "it's (1).png"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder\u00a0of mine").mkdir()
    (tmp_path / "folder\u00a0of mine" / "c.png").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        (SCREENSHOT, SCREENSHOT),
        (SCREENSHOT.replace("\u202f", " "), SCREENSHOT),
        (SCREENSHOT.replace("\u202f", "\u00a0"), SCREENSHOT),
        (unicodedata.normalize("NFC", DECOMPOSED), DECOMPOSED),
        ("a\u00a0b.png", "a b.png"),
        ("a  b.png", "a b.png"),
        ("\u202aa b.png", "a b.png"),  # as Windows Explorer copies a path
        ("'a b.png'", "a b.png"),
        ('"a b.png" ', "a b.png"),
        (r"it\'s\ \(1\).png", "it's (1).png"),
        ("~/a b.png", "a b.png"),
        ("./folder of mine/c.png", "folder\u00a0of mine/c.png"),
        ("FOLDER/a\u200bb.png", None),
        ("two x.png", None),  # two files differ in their blank only
        ("a\0b.png", None),
        ("~nobody-of-that-name/a.png", None),
        ("", None),
    ],
)
def test_the_one_file_that_looks_like_the_name_is_meant(folder: Path, typed: str, name: str | None) -> None:
    """Otherwise the name stays as it was typed."""
    found = named_file(typed)
    if name is None:
        assert str(found) == (typed or ".")
    else:
        assert (Path.cwd() / found).samefile(folder / name)
    if name and not typed.startswith(("~", "./")):
        absolute = str(folder / typed) if typed[0] not in "'\"" else f"'{folder / name}'"
        assert named_file(absolute).samefile(folder / name)


@pytest.mark.parametrize("name", [SCREENSHOT, DECOMPOSED, "a b.png", "it's (1).png"])
def test_a_file_url_is_a_path(folder: Path, name: str) -> None:
    """As a browser or a file manager copies it."""
    url = (folder / name).as_uri()
    for typed in (url, url.replace("file://", "file://localhost"), url.replace("file://", "FILE:")):
        assert named_file(typed).samefile(folder / name)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (r"-i a\ b.png -o x", ["-i", "a b.png", "-o", "x"]),
        (r"-i it\'s\ \(1\).png", ["-i", r"it's \(1\).png"]),
        (r"-i C:\cats\one.png --image='C:\my cats\'", ["-i", r"C:\cats\one.png", "--image=C:\\my cats\\"]),
        ("""'it is' "it's" a''b ''""", ["it is", "it's", "ab", ""]),
        ("-i 4.42\u202fPM.png\t-i\u00a0x\n", ["-i", "4.42\u202fPM.png", "-i\u00a0x"]),
    ],
)
@pytest.mark.skipif(os.sep != "/", reason="a backslash divides a path there")
def test_a_backslash_holds_a_word_together(line: str, found: list[str]) -> None:
    """Before a blank and before a quote, as a terminal writes a file that is dropped on it."""
    assert words(line) == found
