"""What an evaluation of many cases costs, and whether its times are the agent's.

Each run is a process of its own, and so is the demo agent: what is measured shares no
interpreter with what answers.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from .figures import WITH_BYTE_CODE, Bound, Figure, compared, in_turns

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
import json, resource, sys, time
from halo_notebook.demo import DEMO_KEY

url, count, concurrency = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
messages = [f"Is this number {{number}}?" for number in range(count)]
{program}
assert len(first_texts) == count
first_texts.sort()
print(json.dumps({{
    "a second": count / took,
    "p95": first_texts[int(0.95 * count)],
    "MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}}))
"""


def eval_throughput() -> list[Figure]:
    """10,000 cases, judged and kept on the disk, against a bare loop that posts the same requests."""
    with _agent(0, 0) as url:
        run = partial(_measured, url=url, cases=CASES, concurrency=32)
        ours, bare = in_turns([partial(run, _OURS), partial(run, _BARE)], MANY_TURNS)
        few = [_measured(_OURS, url=url, cases=FEW, concurrency=32) for _ in range(MANY_TURNS)]
    return [
        compared(
            f"evaluate: {CASES:,} cases",
            [each["a second"] for each in ours],
            "/s",
            [each["a second"] for each in bare],
            "an aiohttp loop with the same requests",
            bound=Bound(0.7, of_ratio=True, at_least=True),
        ),
        compared(
            f"evaluate: memory at {CASES:,} cases",
            [each["MB"] for each in ours],
            "MB",
            [each["MB"] for each in few],
            f"{FEW:,} cases",
            bound=Bound(1.5, of_ratio=True),
        ),
    ]


def eval_first_text() -> list[Figure]:
    """The time to the first text that 100 streams at once report, against the true one."""
    with _agent(FIRST_BYTE_S, 0.03) as url:
        run = partial(_measured, url=url, cases=10 * STREAMS, concurrency=STREAMS)
        ours, bare = in_turns([partial(run, _OURS), partial(run, _BARE)], TURNS)
    true_ms = [1000 * FIRST_BYTE_S] * TURNS
    return [
        compared(
            f"evaluate: p95 of the first text, {STREAMS} streams",
            [1000 * each["p95"] for each in ours],
            "ms",
            true_ms,
            "what the agent waits",
            bound=Bound(1.3, of_ratio=True),
        ),
        compared(
            f"aiohttp: p95 of the first text, {STREAMS} streams",
            [1000 * each["p95"] for each in bare],
            "ms",
            true_ms,
            "what the agent waits",
        ),
    ]


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


def _measured(program: str, *, url: str, cases: int, concurrency: int) -> dict[str, float]:
    """What one run of the program found: messages a second, p95 of the first text in s, peak memory in MB."""
    done = subprocess.run(
        [sys.executable, "-c", _RUN.format(program=program), url, str(cases), str(concurrency)],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **WITH_BYTE_CODE},
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured
