"""The words and options of a magic's line, and what to say about the ones that are not known."""

from __future__ import annotations

import argparse
import difflib
import keyword
import os
import re
from collections.abc import Mapping
from typing import Any

from IPython.core.error import UsageError as IPythonUsageError

from ..errors import UsageError

_ESCAPED = r"\\([ '\"])|" if os.sep == "/" else ""  # as a terminal writes a file that is dropped on it
_PIECE = re.compile(_ESCAPED + r"""'([^']*)'|"([^"]*)"|([^ \t\r\n])""")
"""A part of a word: an escaped character, a quoted text, or one character; that may be an unclosed quote."""


class Once(argparse.Action):
    """Refuses an option that is given twice: taking the last one would surprise."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: Any = None
    ) -> None:
        if getattr(namespace, self.dest) is not None:
            parser.error(f"{option} is given twice")
        setattr(namespace, self.dest, values)


def read_options(parser: argparse.ArgumentParser, line: str) -> argparse.Namespace:
    """Read the options of a `%%halo` line; a `UsageError` names one that is unknown or not valid."""
    try:
        options, unknown = parser.parse_known_args(words(line))
    except (IPythonUsageError, ValueError) as error:
        raise UsageError(f"%%halo: {error}. Nothing was sent; %halo help lists the options.") from None
    if unknown:
        raise UsageError(
            f"%%halo has no option {unknown[0]!r}. Nothing was sent; "
            + did_you_mean(unknown[0], option_names(parser), _options_hint(unknown[0]))
        )
    if options.session is not None and not options.session.strip():
        raise UsageError("--session needs a name. Nothing was sent; give one.")
    if options.out is not None and (not options.out.isidentifier() or keyword.iskeyword(options.out)):
        raise UsageError(f"--out {options.out!r} is not a variable name. Nothing was sent; use another name.")
    return options


def _options_hint(word: str) -> str:
    quotes = "" if word.startswith("-") else " A path or a name with spaces needs quotes."
    return f"%halo help lists the options.{quotes}"


def option_names(parser: argparse.ArgumentParser) -> list[str]:
    """The option strings of a parser, such as ``--session`` and ``-s``."""
    # argparse has no public list of them, but its help shows each at the start of a line.
    listed = re.findall(r"^  (-.+?)(?:  .*)?$", parser.format_help(), re.MULTILINE)
    return re.findall(r"--?[a-z][a-z-]*", " ".join(listed))


def did_you_mean(word: str, known: Mapping[str, Any] | list[str], otherwise: str) -> str:
    """``did you mean 'x'?`` when `word` resembles a known name, else `otherwise`."""
    # Without their dashes: two options are not alike because both have them.
    names = {name.lstrip("-"): name for name in known if not name.startswith("_")}
    close = difflib.get_close_matches(word.lstrip("-"), names, n=1, cutoff=0.7)
    return f"did you mean {names[close[0]]!r}?" if close else otherwise


def words(line: str) -> list[str]:
    r"""The words of a magic's line; quotes hold one together.

    So does a backslash before a blank or a quote; any other stays as typed, for paths. A quote that is not
    closed raises `ValueError`.

    >>> words(r"-i my\ cat.png -s 'a b' --out=C:\cats")
    ['-i', 'my cat.png', '-s', 'a b', '--out=C:\\cats']
    """
    found: list[str] = []
    end = -1  # of the last word
    for piece in _PIECE.finditer(line):
        text = next(group for group in piece.groups() if group is not None)
        if piece[0] in ("'", '"'):
            raise ValueError("No closing quotation")
        if piece.start() == end:
            found[-1] += text
        else:
            found.append(text)
        end = piece.end()
    return found
