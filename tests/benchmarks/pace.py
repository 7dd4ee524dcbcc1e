"""How long an evaluation takes with a server that limits its rate, or that is away for a while."""

from __future__ import annotations

import threading
import time
from functools import partial

from ..evaluation.limited import Limited, fixed, sliding
from .figures import Bound, Figure

LIMIT, WINDOW_S, MESSAGES = 60, 10.0, 120
AWAY_S, SENT_BEFORE, ALL = 12.0, 100, 400
REPLY_S = 0.05
CONCURRENCY = 30


def eval_pace() -> list[Figure]:
    """Against the ideal: what the server's limit, or its absence, takes alone."""
    against, bound = "the ideal time", Bound(2, of_ratio=True)
    figures = [
        Figure(
            f"evaluate: {MESSAGES} messages, {LIMIT} per {WINDOW_S:.0f} s ({name} window)",
            "s",
            [_took_s(Limited(takes(LIMIT, WINDOW_S)), MESSAGES)],
            [WINDOW_S],
            against,
            bound,
        )
        for name, takes in (("fixed", fixed), ("sliding", sliding))
    ]
    server = Limited(delay_s=REPLY_S)
    outage = threading.Thread(target=partial(_leave_and_return, server))
    outage.start()
    took_s = _took_s(server, ALL)
    outage.join()
    ideal_s = AWAY_S + ALL * REPLY_S / CONCURRENCY
    name = f"evaluate: {ALL} messages, the server away for {AWAY_S:.0f} s"
    return [*figures, Figure(name, "s", [took_s], [ideal_s], against, bound)]


def _leave_and_return(server: Limited) -> None:
    while len(server.taken) < SENT_BEFORE:
        time.sleep(0.005)
    server.go_away()
    time.sleep(AWAY_S)
    server.listen()


def _took_s(server: Limited, count: int) -> float:
    from halo_notebook import HaloClient, evaluate
    from halo_notebook.demo import DEMO_KEY

    messages = [f"Is this number {number}?" for number in range(count)]
    with server:
        configs = {"demo": HaloClient(DEMO_KEY, base_url=server.url)}
        began = time.monotonic()
        evaluate(messages, configs=configs, concurrency=CONCURRENCY, progress=False)
        return time.monotonic() - began
