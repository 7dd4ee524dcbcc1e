"""The file of an evaluation, and what is known from it."""
