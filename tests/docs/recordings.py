"""Records the conversation that the tutorials replay: ``python -m tests.docs.recordings``."""

from __future__ import annotations

from pathlib import Path

from halo_notebook import HaloClient, Recorder, Session
from halo_notebook.demo import DEMO_KEY, DemoAgent

RECORDINGS = Path(__file__).parents[2] / "notebooks" / "recordings"
CONVERSATION = ("How do I set up event tracking?", "My name is Ada", "Open a ticket", "What is my name?")


def main() -> None:
    """Record one conversation with the demo agent at its usual pace."""
    path = RECORDINGS / "support.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    session = Session()
    with DemoAgent() as agent:
        client = HaloClient(DEMO_KEY, base_url=agent.url, record=Recorder(path), source="demo agent")
        for message in CONVERSATION:
            session.ask(client, message)


if __name__ == "__main__":
    main()
