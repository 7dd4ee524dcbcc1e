"""Turns in a real kernel that are interrupted at random moments, once or several times.

`python -m tests.harness.interrupted 1000` says how many of so many ended otherwise than they should.
"""

from __future__ import annotations

import random
import sys
import time
from collections import Counter

from .cells import LOAD, evaluated, plain
from .kernels import CellResult, Kernel, WaitedTooLong

DEMO = """
from halo_notebook import DemoAgent, TextDelta, Action
magics = get_ipython().magics_manager.registry['HaloMagics']
def reply(request):
    for number in range(12):
        yield TextDelta(f'**word** {number} ')
        if number % 5 == 0: yield Action({'number': number})
        yield 0.01
magics.connection.demo = DemoAgent(first_byte_s=0.01, reply=reply).start()
magics.demo_announced = True
"""


def interrupt_turns(
    kernel: Kernel, turns: int, seed: int = 0, *, console: bool = False
) -> tuple[Counter[str], list[str]]:
    """Interrupt so many turns from their first output on, a third of them in their last milliseconds.

    With `console` every second one is asked for as by a console, such as qtconsole, which shows printed text.

    Returns:
        how many turns ended how, and what was wrong with those that ended otherwise.
    """
    chance = random.Random(seed)  # no secret
    kernel.run(f"{LOAD}\n{DEMO}")
    ends_s = sorted(_turn(kernel, [], console=False)[1] for _ in range(7))[3]
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for number in range(turns):
        at_s = ends_s + chance.uniform(-0.008, 0.004) if number % 3 == 0 else chance.uniform(0, ends_s)
        gaps_s = [
            chance.choice([0, 0.0002, 0.001, chance.uniform(0, 0.02)])
            for _ in range(chance.choice([0, 0, 1, 2, 3, 5]))
        ]
        try:
            by_console = console and number % 2 == 1
            result, _ = _turn(kernel, [at_s, *gaps_s], console=by_console)
        except WaitedTooLong as error:
            ended, problem = "no reply", str(error)[:200]
        else:
            status = evaluated(kernel, "_halo.status")
            ended, problem = f"{result.ename or 'ok'}, {status}", _problem(result, status, by_console)
        counts[ended] += 1
        if problem:
            wrong.append(f"turn {number}, interrupts {at_s:.4f} s of {ends_s:.4f} s {gaps_s}: {problem}")
    return counts, wrong


def _turn(kernel: Kernel, waits_s: list[float], *, console: bool) -> tuple[CellResult, float]:
    """One turn, interrupted after each of these waits; and how long it took from its first output on."""
    running = kernel.start("%%halo\nHello", console=console)
    running.wait_for(lambda cell: bool(cell.outputs), "the first output")
    since = time.perf_counter()
    for wait_s in waits_s:
        time.sleep(wait_s)
        kernel.interrupt()
    return running.result(3), time.perf_counter() - since


def _problem(result: CellResult, status: str, by_console: bool) -> str:
    """What is wrong with how a turn ended: it is stopped or complete, and a stop is one line."""
    if result.ename not in ("", "ReplyStopped"):
        return f"{result.ename} in the cell: {result.traceback[-3:]}"
    if result.ename and len(result.traceback) != 1:
        return f"a traceback of {len(result.traceback)} lines"
    if result.stderr or (result.stdout and not by_console):
        return f"printed: {result.stderr + result.stdout}"
    if status not in ("stopped", "complete") or (status == "stopped" and not result.ename):
        return f"the reply is {status}"
    shown = result.stdout + plain(result)
    return "" if "total" in shown else f"no status line in {shown[-200:]!r}"


if __name__ == "__main__":
    with Kernel() as kernel:
        ended, problems = interrupt_turns(kernel, int(sys.argv[1]), int(time.time()), console=True)
    print(*problems, sep="\n")  # noqa: T201
    print(dict(ended), f"{len(problems)} of {sys.argv[1]} wrong")  # noqa: T201
