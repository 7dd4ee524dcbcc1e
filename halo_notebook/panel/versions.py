"""The versions of a message: a session, and those that branch off it with another message in its place.

Each version is a session of its own. Two sessions are the same up to the turn at which one of them, or both,
have branched off.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..session import Session, SessionRegister
    from ..stream import JSON


def add_version(register: SessionRegister, branch: Session) -> Session:
    """Register a session that branches off another, under the first one's name and a number."""
    is_free = branch.name not in register
    return register.add(branch, branch.name if is_free else free_name(register, branch.root.name, first=2))


def free_name(register: SessionRegister, name: str, first: int = 1) -> str:
    """A name that no session has: `name` itself, or with a number from `first`; 1 is not written."""
    numbered = (f"{name} ({number})" if number > 1 else name for number in count(first))
    return next(each for each in numbered if each not in register)


def versions_of(register: SessionRegister, session: Session) -> dict[str, JSON]:
    """The versions of each message of `session` that has several.

    Returns:
        by the turn's number from 1, as text: ``names``, those of the sessions to switch to, in the order in
        which their messages were sent, and ``at``, the place of `session` among them. A message that waits to
        be sent counts as the turn that it will be.
    """
    family = [each for each in map(register.get, register) if each.root is session.root]
    found: dict[str, JSON] = {}
    for place in sorted({each.copied for each in family if each.edited}):
        if not _has(session, place):
            continue
        alike = [
            each
            for each in family
            if _has(each, place) and (place == 0 or _owner(each, place - 1) is _owner(session, place - 1))
        ]
        owners = sorted({_owner(each, place) for each in alike}, key=lambda owner: _sent_at(owner, place))
        if len(owners) > 1:
            at = owners.index(_owner(session, place))
            names: list[JSON] = [owner.name for owner in owners]
            names[at] = session.name
            found[str(place + 1)] = {"names": names, "at": at}
    return found


def _owner(session: Session, place: int) -> Session:
    """The session in which the turn at `place` was sent: `session`, or the one from which it is a copy."""
    while session.edited and session.edited.session and place < session.copied:
        session = session.edited.session
    return session


def _has(session: Session, place: int) -> bool:
    return place < len(session.turns) or (session.edited is not None and place == session.copied)


def _sent_at(session: Session, place: int) -> tuple[bool, float]:
    """Sorts what is not sent yet behind what is."""
    if place >= len(session.turns):
        return True, 0.0
    return False, session.turns[place].reply.started_at.timestamp()
