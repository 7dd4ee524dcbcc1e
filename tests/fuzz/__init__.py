"""Inputs that no one thought of, against what is promised for all of them."""
