"""`%halo` and `%%halo`."""
