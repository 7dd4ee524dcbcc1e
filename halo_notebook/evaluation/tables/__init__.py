"""The figures of an evaluation, as tables."""
