"""What became of a turn of an evaluation, and whose failure it was."""

from __future__ import annotations

import errno
from collections.abc import Set

from ..errors import HaloError, ReplyError, StatusError

COMPLETE, FAILED, INTERRUPTED = "complete", "failed", "interrupted"
# Whose failure it is that a turn is not complete. Only the agent's own says something about the agent; after
# the others the result is missing.
AGENT = "agent"  # the whole message had left; it answered with an error, was silent, or broke the reply off
LIMIT = "limit"  # 429, or 503 with Retry-After, until the run gave up
NETWORK = "network"  # no connection, or ours broke; and whatever else kept the message from being sent
REFUSED = "refused"  # our own request, key or base URL is wrong
STOPPED = "stopped"  # our Stop, a kill, or a worker that died
CAUSES = ("", AGENT, LIMIT, NETWORK, STOPPED, REFUSED)
_OUR_NETWORK = {
    *(errno.ENETDOWN, errno.ENETUNREACH, errno.ENETRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH),
    *(errno.ETIMEDOUT, errno.ECONNABORTED, errno.ENOBUFS),
}
_MAX_CAUSES = 20


def cause_of(error: HaloError, *, whole: bool) -> str:
    """Whose failure this error is; `whole`: whether the whole message had left.

    Who ended a connection in the middle of a reply is not always known: a reset or an end counts as the
    agent's, unless the system says that the network or the route is gone.
    """
    match error:
        case StatusError() if error.again_s is not None:
            return LIMIT
        case StatusError() if 300 <= error.status_code < 500:
            return REFUSED
        case StatusError():
            return AGENT
        case ReplyError() if whole and not has_errno(error, _OUR_NETWORK):
            return AGENT
    return NETWORK


def has_errno(error: BaseException, numbers: Set[int]) -> bool:
    """Whether one of its causes is an error of the system with such a number."""
    cause: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if isinstance(cause, OSError) and cause.errno in numbers:
            return True
        cause = cause and (cause.__cause__ or cause.__context__)
    return False
