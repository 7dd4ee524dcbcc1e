"""Makes the picture in the README anew: ``python -m tests.screenshots``."""

from __future__ import annotations

import shutil
from pathlib import Path

from .harness.lab import Lab, LabPage

PICTURE = Path(__file__).parents[1] / "notebooks" / "images" / "reply.png"


def main() -> None:
    """Ask the demo agent the first question in JupyterLab and keep the cell's picture."""
    with Lab() as server, LabPage(server, size=(960, 900)) as page:
        page.open_notebook(
            ["%load_ext halo_notebook\n%halo demo start", "%%halo\nHow do I set up event tracking?"]
        )
        page.run_cell(0)
        page.run_cell(1)
        page.wait_for_text(1, "2 actions")
        shutil.copy(page.screenshot("readme-reply", cell=1), PICTURE)


if __name__ == "__main__":
    main()
