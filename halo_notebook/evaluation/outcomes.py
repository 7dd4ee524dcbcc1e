"""What became of a turn of an evaluation, and whose failure it was."""

from __future__ import annotations

COMPLETE, FAILED, INTERRUPTED = "complete", "failed", "interrupted"
# Whose failure it is that a turn is not complete. Only the agent's own says something about the agent; after
# the others the result is missing.
AGENT = "agent"  # the whole message had left; it answered with an error, was silent, or broke the reply off
LIMIT = "limit"  # 429, or 503 with Retry-After, until the run gave up
NETWORK = "network"  # no connection, or ours broke; and whatever else kept the message from being sent
REFUSED = "refused"  # our own request, key or base URL is wrong
STOPPED = "stopped"  # our Stop, a kill, or a worker that died
CAUSES = ("", AGENT, LIMIT, NETWORK, STOPPED, REFUSED)
