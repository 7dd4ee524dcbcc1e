"""Checks, applied to replies."""
