"""The command `python -m halo_notebook.demo`: serve the demo agent until Ctrl-C."""

from __future__ import annotations

import argparse
import errno
import sys
import time
from collections.abc import Sequence

from .protocol import DEMO_KEY
from .server import DemoAgent


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the demo agent until Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m halo_notebook.demo", description="Serve the scripted demo agent on 127.0.0.1."
    )
    for name, default, meaning in (
        ("--port", 8765, "where to listen; 0 takes a free port"),
        ("--first-byte-s", 0.15, "seconds until the first byte of an answer"),
        ("--chunk-s", 0.03, "seconds between chunks"),
    ):
        parser.add_argument(name, type=type(default), default=default, help=f"{meaning} (default: {default})")
    options = parser.parse_args(argv)
    if not 0 <= options.port <= 65535:
        parser.error("a port is a number from 0 to 65535")
    agent = DemoAgent(port=options.port, first_byte_s=options.first_byte_s, chunk_s=options.chunk_s)
    try:
        agent.start()
        sys.stdout.write(
            f"The demo agent listens on {agent.url}\n\n"
            "Set these where your notebook runs, then load the extension:\n\n"
            f"    HALO_BASE_URL={agent.url}\n"
            f"    HALO_API_KEY={DEMO_KEY}\n\n"
            "Ctrl-C stops it.\n"
        )
        sys.stdout.flush()
        while True:
            time.sleep(3600)  # on Windows, Ctrl-C would not end a wait on a lock
    except KeyboardInterrupt:
        return 0
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        why = "is in use" if in_use else f"is not available ({error.strerror})"
        sys.stderr.write(f"Port {options.port} {why}: choose another with --port N, or --port 0.\n")
        return 1
    finally:
        agent.stop()


if __name__ == "__main__":
    sys.exit(main())
