"""The command: measures what is named, or all, and prints the table."""

from __future__ import annotations

import os
import platform
import sys
import time

from .cells import cell_burst, cell_paced, first_text
from .evaluation import eval_first_text, eval_throughput
from .figures import Figure, table
from .loading import load
from .pace import eval_pace
from .panel import panel_paced, panel_page
from .parsing import parser_bulk, parser_records, parser_tiny

PARSER = (parser_bulk, parser_tiny, parser_records)
CELL = (cell_paced, cell_burst, first_text)
MEASURES = (load, *PARSER, *CELL, panel_paced, panel_page, eval_throughput, eval_first_text, eval_pace)
BENCHMARKS = {measure.__name__.replace("_", "-"): measure for measure in MEASURES}


def main(names: list[str]) -> None:
    """Measure and print. Whether a bound was missed depends on the machine, too, so it is not an error."""
    if unknown := set(names) - set(BENCHMARKS):
        sys.exit(f"No benchmark named {min(unknown)!r}. Benchmarks: {', '.join(BENCHMARKS)}.")
    began = time.monotonic()
    figures: list[Figure] = []
    for name in names or BENCHMARKS:
        at = time.monotonic()
        print(f"{name} …", end=" ", file=sys.stderr, flush=True)
        figures += BENCHMARKS[name]()
        print(f"{time.monotonic() - at:.0f} s", file=sys.stderr)
    # A load above the number of cores: others were at work too.
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(
        f"{time.monotonic() - began:.0f} s in all; medians of n; a ratio is the median of the turns' ratios"
    )
    print(f"\n{table(figures)}")
    met = [figure.met for figure in figures if figure.met is not None]
    print(f"\n{met.count(False)} of {len(met)} bounds missed")


if __name__ == "__main__":
    main(sys.argv[1:])
