"""A key, an identity secret and user tokens for tests."""

from __future__ import annotations

import base64
import json

KEY = "ab_live_" + "k3y" * 8


SECRET = "ha_secret_" + "s3cret" * 4


def token(exp: float | None) -> str:
    """An unsigned JWT: the client reads its claims and checks no signature."""
    claims = {"user_id": "u_1"} | ({} if exp is None else {"exp": exp})
    middle = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJIUzI1NiJ9.{middle}.c2lnbmF0dXJl"
