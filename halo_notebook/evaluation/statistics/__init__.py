"""Rates, times and differences, with intervals that claim no more than the cases support."""
