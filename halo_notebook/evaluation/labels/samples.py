"""Samples of replies to be labelled: drawn by chance, and the same again for the same seed.

- Each verdict of a check has as many replies in the sample, if it has so many, whatever its share of all.
- Among the replies with a verdict, each has the same chance. Configurations, tags and values of metadata by
  which a sample is drawn have about their shares in it.
- A larger sample contains the smaller one, and what is labelled already is not asked again.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from operator import index
from typing import TYPE_CHECKING, Any

from ...errors import InvalidRequest
from ..file.label_lines import Stratum
from ..outcomes import COMPLETE
from ..sending.plan import count
from ..tables.by_case import TAG, groups_of
from .labelling import Row, rows_of, verdict_of

if TYPE_CHECKING:
    from ..file.state import RunState

_CONFIG = "config"


@dataclass(frozen=True)
class Sample:
    """Replies to be labelled, in an order that tells nothing, and the strata from which they were drawn."""

    rows: tuple[Row, ...]
    strata: tuple[Stratum, ...]
    of_conversations: bool  # whether the checks by which it was drawn judge whole conversations


def draw(state: RunState, n: int, by: str | Sequence[str] | None = None, seed: int = 0) -> Sample:
    """A sample of `n` replies, or of all if there are fewer, see `Evaluation.label`.

    Raises `InvalidRequest`.
    """
    wanted = count("n", n)
    try:
        start = index(seed)
    except TypeError:
        raise InvalidRequest(f"seed must be a whole number, not {seed!r}. Nothing was drawn.") from None
    checks, groups = _names(state, by)
    cells: defaultdict[tuple[bool, ...], list[Row]] = defaultdict(list)
    for row in rows_of(state):
        found = [verdict_of(row, check) for check in checks]
        if row.state.status == COMPLETE and None not in found:
            cells[tuple(map(bool, found))].append(row)
    if not cells:
        what = f"{checks[0]!r} has not judged any reply" if checks else "no reply is complete"
        raise InvalidRequest(f"There is nothing to label: {what}. Nothing was drawn.")
    strata, rows = [], []
    sizes = _shared(wanted, {verdicts: len(of_cell) for verdicts, of_cell in cells.items()})
    for verdicts in sorted(cells):
        drawn = _in_order(cells[verdicts], groups, start)[: sizes[verdicts]]
        rows += drawn
        places = tuple((row.conversation.key, row.turn) for row in drawn)
        strata.append(Stratum(len(cells[verdicts]), places))
    rows.sort(key=lambda row: _chances(row, start)[2])
    of_conversations = any(state.checks[check].of_conversation for check in checks)
    return Sample(tuple(rows), tuple(strata), of_conversations)


def _names(state: RunState, by: Any) -> tuple[list[str], list[str]]:
    """The checks, and what else there is to draw by."""
    names = [] if by is None else [by] if isinstance(by, str) else by
    known = [*state.checks, _CONFIG, TAG]
    known += dict.fromkeys(name for each in state.conversations.values() for name in each.case.metadata)
    if not isinstance(names, Sequence) or any(name not in known for name in names):
        raise InvalidRequest(
            f"by must be the name of a check, or a list of names, not {by!r}. Nothing was drawn; names are "
            f"{', '.join(known)}."
        )
    names = dict.fromkeys(names)
    return [name for name in names if name in state.checks], [
        name for name in names if name not in state.checks
    ]


def _shared(n: int, sizes: dict[tuple[bool, ...], int]) -> dict[tuple[bool, ...], int]:
    """As many for each; what one does not have is left for the others."""
    shares = {}
    for place, cell in enumerate(sorted(sizes, key=lambda each: (sizes[each], each))):
        shares[cell] = min(sizes[cell], n // (len(sizes) - place))
        n -= shares[cell]
    return shares


def _in_order(rows: Sequence[Row], groups: Sequence[str], seed: int) -> list[Row]:
    """The rows by chance, so that in each beginning of the list groups have about their shares."""
    by_group: defaultdict[tuple[tuple[str, ...], ...], list[Row]] = defaultdict(list)
    for row in rows:
        by_group[tuple(_group(row, name) for name in groups)].append(row)
    ranked: list[tuple[float, int, Row]] = []
    for of_group in by_group.values():
        of_group.sort(key=lambda row: _chances(row, seed)[0])
        for place, row in enumerate(of_group):
            # By chance within its part of the group, so that a single row is not always in the middle.
            first, second, _ = _chances(row, seed)
            ranked.append(((place + second / 2**64) / len(of_group), first, row))
    return [row for _, _, row in sorted(ranked, key=lambda each: each[:2])]


def _group(row: Row, name: str) -> tuple[str, ...]:
    return (row.conversation.config,) if name == _CONFIG else tuple(groups_of(row.conversation.case, name))


def _chances(row: Row, seed: int) -> tuple[int, int, int]:
    """Three numbers below 2**64 by chance, always the same for a row."""
    found = hashlib.sha256(f"{seed} {row.conversation.key} {row.turn}".encode("utf-8", "replace")).digest()
    first, second, third = (int.from_bytes(found[at : at + 8], "big") for at in (0, 8, 16))
    return first, second, third
