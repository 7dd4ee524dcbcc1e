"""The command: measures what is named, or all, and prints the table."""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time

from .cells import cell_burst, cell_paced, first_text
from .evaluation import eval_first_text, eval_throughput
from .figures import Figure, table
from .loading import load
from .panel import panel_paced, panel_page
from .parsing import parser_bulk, parser_records, parser_tiny

BENCHMARKS = {
    measure.__name__.replace("_", "-"): measure
    for measures in (
        (load, parser_bulk, parser_tiny, parser_records),
        (cell_paced, cell_burst, first_text),
        (panel_paced, panel_page),
        (eval_throughput, eval_first_text),
    )
    for measure in measures
}


def main() -> int:
    """Measure and print; 1 with `--strict` when a bound was missed, else 0."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"all when none is given: {', '.join(BENCHMARKS)}"
    )
    parser.add_argument("--strict", action="store_true", help="fail when a bound is missed")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in BENCHMARKS]:
        parser.error(f"there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}")
    began = time.monotonic()
    figures: list[Figure] = []
    for name in options.names or BENCHMARKS:
        at = time.monotonic()
        print(f"{name} …", end=" ", file=sys.stderr, flush=True)
        figures += BENCHMARKS[name]()
        print(f"{time.monotonic() - at:.0f} s", file=sys.stderr)
    # A load above the number of cores: others were at work too.
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(
        f"{time.monotonic() - began:.0f} s in all; medians of n; a ratio is the median of the turns' ratios"
    )
    print()
    print(table(figures))
    missed = [figure.name for figure in figures if figure.met is False]
    print(f"\n{len(missed)} of {sum(figure.met is not None for figure in figures)} bounds missed")
    return 1 if missed and options.strict else 0


if __name__ == "__main__":
    sys.exit(main())
