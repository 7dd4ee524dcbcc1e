"""What loading the package costs a notebook that is just being opened."""

from __future__ import annotations

from functools import partial

from .figures import Bound, Figure, in_turns, printed_by

TURNS = 5

_SHELL = "from IPython.core.interactiveshell import InteractiveShell; shell = InteractiveShell.instance()"
_KERNEL = f"{_SHELL}; import ipykernel.kernelapp, ipykernel.ipkernel, ipykernel.zmqshell"
_LOAD = "shell.run_line_magic('load_ext', 'halo_notebook')"
_IMPORT = "import halo_notebook"
_HTTPX = "import httpx"
_TIMED = """
import time
{before}
at = time.perf_counter()
{timed}
print((time.perf_counter() - at) * 1000)
"""


def load() -> list[Figure]:
    """`%load_ext` and a bare import, each in an interpreter of its own, against httpx's import."""
    cases = [(before, timed) for before in (_SHELL, _KERNEL) for timed in (_LOAD, _HTTPX)]
    cases += [("", _IMPORT), ("", _HTTPX)]
    measures = [partial(printed_by, _TIMED.format(before=before, timed=timed)) for before, timed in cases]
    for measure in measures:  # once unmeasured: byte code is written, files get into the cache
        measure()
    times: dict[tuple[str, str], list[float]] = dict(zip(cases, in_turns(measures, TURNS), strict=True))
    limit = Bound(1.5, of_ratio=True)
    return [
        Figure(f"load: {what}", "ms", times[ours], times[httpx], f"import httpx, {there} there", bound)
        for what, ours, httpx, there, bound in (
            ("%load_ext, IPython there", (_SHELL, _LOAD), (_SHELL, _HTTPX), "IPython", limit),
            ("%load_ext, IPython there", (_SHELL, _LOAD), ("", _HTTPX), "nothing", None),
            # A kernel has imported asyncio before, which IPython alone has not.
            ("%load_ext, ipykernel there", (_KERNEL, _LOAD), (_KERNEL, _HTTPX), "ipykernel", limit),
            ("import halo_notebook", ("", _IMPORT), ("", _HTTPX), "nothing", None),
        )
    ]
