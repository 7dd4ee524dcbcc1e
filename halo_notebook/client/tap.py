"""A tap: it keeps an exchange while it passes, as a `Recorder` does, and changes nothing in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..stream import JSON
    from .secrets import Secret
    from .transports.protocol import Incoming


@dataclass(frozen=True)
class Sent:
    """A request that is about to be sent.

    Attributes:
        path: below the base URL.
        body: the request's JSON without its secrets.
        tries: how often its turn has been sent, this time included.
        source: who answers, if not Halo.
        secrets: those that are sent with it.
        now_s: seconds since it was written.
        may_have_arrived: whether it, or a part of it, has left.
    """

    path: str
    body: dict[str, JSON]
    tries: int
    source: str
    secrets: Sequence[Secret] = field(repr=False)
    now_s: Callable[[], float]
    may_have_arrived: Callable[[], bool]


class Passing(Protocol):
    """One exchange while it passes. `end` is called with the error that ended it, or None for its regular
    end; only the first call counts."""

    def head(self, incoming: Incoming) -> None: ...

    def chunk(self, data: bytes) -> None: ...

    def end(self, error: BaseException | None) -> None: ...


class Tap(Protocol):
    """Keeps what passes between a client and its agent."""

    def begin(self, sent: Sent) -> Passing: ...
