"""Exchanges recorded in a file and replayed from one."""
