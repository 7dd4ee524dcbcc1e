"""What loading the package costs a notebook that is just being opened."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial

from .figures import WITH_BYTE_CODE, Bound, Figure, compared, in_turns

TURNS = 5

_SHELL = "from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell.instance()"
_KERNEL = f"{_SHELL}; import ipykernel.kernelapp, ipykernel.ipkernel, ipykernel.zmqshell"
_LOAD = "shell.run_line_magic('load_ext', 'halo_notebook')"
_HTTPX = "import httpx"
_TIMED = """
import time
{before}
at = time.perf_counter()
{timed}
print(time.perf_counter() - at)
"""


def load() -> list[Figure]:
    """`%load_ext` and a bare import, each in an interpreter of its own, against httpx's import."""
    programs = {
        (before, timed): _TIMED.format(before=before, timed=timed)
        for before, timed in (
            (_SHELL, _LOAD),
            (_SHELL, _HTTPX),
            (_KERNEL, _LOAD),
            (_KERNEL, _HTTPX),
            ("", "import halo_notebook"),
            ("", _HTTPX),
        )
    }
    for program in programs.values():  # once unmeasured: byte code is written, files get into the cache
        _run(program)
    measures = [partial(_run, program) for program in programs.values()]
    times = dict(zip(programs, in_turns(measures, TURNS), strict=True))
    bound = Bound(1.5, of_ratio=True)
    loaded, alone = times[_SHELL, _LOAD], times["", _HTTPX]
    return [
        compared(
            "load: %load_ext, IPython there",
            loaded,
            "ms",
            times[_SHELL, _HTTPX],
            "import httpx, IPython there",
            bound=bound,
        ),
        compared("load: %load_ext, IPython there", loaded, "ms", alone, "import httpx, nothing there"),
        # A kernel has imported asyncio before, which IPython alone has not.
        compared(
            "load: %load_ext, ipykernel there",
            times[_KERNEL, _LOAD],
            "ms",
            times[_KERNEL, _HTTPX],
            "import httpx, ipykernel there",
            bound=bound,
        ),
        compared(
            "load: import halo_notebook",
            times["", "import halo_notebook"],
            "ms",
            alone,
            "import httpx, nothing there",
        ),
    ]


def _run(program: str) -> float:
    """The milliseconds that the program prints, which it gives in seconds."""
    env = {**os.environ, **WITH_BYTE_CODE}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=env
    )
    return float(done.stdout.split()[-1]) * 1000
