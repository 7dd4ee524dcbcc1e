"""What an evaluation of many cases costs, and whether its times are the agent's.

Each run is a process of its own, and so is the demo agent: what is measured shares no
interpreter with what answers.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from .figures import Bound, Figure, in_turns, printed_by

CASES = 10_000
FEW = 1_000
STREAMS = 100
FIRST_BYTE_S = 0.15
TURNS = 3
MANY_TURNS = 7
"""Where two processes share a machine with two cores, single ratios differ by a third."""

_BARE = """
import asyncio, aiohttp

async def main(first_texts):
    todo = iter(messages)

    async def work(session):
        for message in todo:
            began = time.perf_counter()
            headers = {"Authorization": "Bearer " + DEMO_KEY}
            body = {"message": message}
            async with session.post(url + "/chat/stream", json=body, headers=headers) as answer:
                first = None
                async for chunk in answer.content.iter_any():
                    first = first or time.perf_counter() - began
                first_texts.append(first)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work(session))

first_texts = []
at = time.perf_counter()
asyncio.run(main(first_texts))
took = time.perf_counter() - at
"""

# What either side imports is loaded before the clock starts.
_OURS = """
import halo_notebook.client.transports.aiohttp
from halo_notebook import HaloClient, evaluate
from halo_notebook.checks import contains

configs = {"demo": HaloClient(DEMO_KEY, base_url=url)}
at = time.perf_counter()
result = evaluate(messages, [contains("demo")], configs=configs, concurrency=concurrency, progress=False)
took = time.perf_counter() - at
first_texts = [each for by_case in result.times("first_text_s")["demo"].values() for each in by_case]
"""

_RUN = """
import json, re, sys, time
from halo_notebook.demo import DEMO_KEY

url, count, concurrency = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
messages = [f"Is this number {{number}}?" for number in range(count)]
{program}
assert len(first_texts) == count
first_texts.sort()
print(json.dumps({{
    "a second": count / took,
    "p95 ms": 1000 * first_texts[int(0.95 * count)],
    # Not getrusage: its maximum includes that of the process that started this one.
    "MB": int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024,
}}))
"""


def eval_throughput() -> list[Figure]:
    """10,000 cases, judged and kept on the disk, against a bare loop that posts the same requests."""
    with _agent(0, 0) as url:
        ours, bare = in_turns([partial(_run, each, url, CASES, 32) for each in (_OURS, _BARE)], MANY_TURNS)
        few = [_run(_OURS, url, FEW, 32) for _ in range(MANY_TURNS)]
    against = "an aiohttp loop with the same requests"
    bound = Bound(0.8, of_ratio=True, at_least=True)
    name = f"{CASES:,} cases"
    return [
        Figure(f"evaluate: {name}", "/s", _each(ours, "a second"), _each(bare, "a second"), against, bound),
        Figure(
            f"evaluate: memory at {name}",
            "MB",
            _each(ours, "MB"),
            _each(few, "MB"),
            f"{FEW:,} cases",
            Bound(1.5, of_ratio=True),
        ),
    ]


def eval_first_text() -> list[Figure]:
    """The time to the first text that 100 streams at once report, against the true one."""
    with _agent(FIRST_BYTE_S, 0.03) as url:
        run = [partial(_run, each, url, 10 * STREAMS, STREAMS) for each in (_OURS, _BARE)]
        ours, bare = in_turns(run, TURNS)
    true_ms = [1000 * FIRST_BYTE_S] * TURNS
    return [
        Figure(
            f"{what}: p95 of the first text, {STREAMS} streams",
            "ms",
            _each(runs, "p95 ms"),
            true_ms,
            "what the agent waits",
            bound,
        )
        for what, runs, bound in (("evaluate", ours, Bound(1.3, of_ratio=True)), ("aiohttp", bare, None))
    ]


def _run(program: str, url: str, cases: int, concurrency: int) -> dict[str, float]:
    """What one run of the program found: messages a second, p95 of the first text, peak memory in MB."""
    found: dict[str, float] = printed_by(_RUN.format(program=program), url, cases, concurrency)
    return found


def _each(runs: list[dict[str, float]], what: str) -> list[float]:
    return [run[what] for run in runs]


@contextmanager
def _agent(first_byte_s: float, chunk_s: float) -> Iterator[str]:
    """A demo agent in a process of its own; its base URL."""
    command = [sys.executable, "-m", "halo_notebook.demo", "--port", "0"]
    command += ["--first-byte-s", str(first_byte_s), "--chunk-s", str(chunk_s)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+/api/sdk", process.stdout.readline())
        assert found is not None
        yield found.group()
    finally:
        process.terminate()
        process.wait(10)
