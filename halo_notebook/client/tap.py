"""What keeps an exchange while it passes, such as a `Recorder`: it changes nothing of it."""

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
        secrets: what goes with it in confidence.
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
    """One exchange while it passes."""

    def head(self, incoming: Incoming) -> None:
        """The answer's head has arrived."""
        ...

    def chunk(self, data: bytes) -> None:
        """A part of the answer's body has arrived; it is decoded."""
        ...

    def end(self, error: BaseException | None) -> None:
        """The exchange has ended: with this error, or as it should. Only the first call counts."""
        ...


class Tap(Protocol):
    """Keeps what passes between a client and its agent."""

    def begin(self, sent: Sent) -> Passing:
        """A request is about to be sent."""
        ...
