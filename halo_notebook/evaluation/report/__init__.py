"""An evaluation to look at: in a notebook, as a plot, as one file for a colleague."""
