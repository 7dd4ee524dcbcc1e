"""Configurations and results compared, and gates."""
