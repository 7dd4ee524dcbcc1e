"""Where a reply in a cell is shown: a notebook or a terminal."""
