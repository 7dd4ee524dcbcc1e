"""User tokens: a string is sent as it is until it has expired, a callable is asked when a token is needed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias
from weakref import WeakValueDictionary

from ..concurrency.usercode import Home, UserCodeError
from ..errors import ConfigError
from .secrets import Secret, checked_token, hidden

UserToken: TypeAlias = str | Callable[[], "str | Awaitable[str]"]
TokenSource: TypeAlias = Secret | Callable[[], "str | Awaitable[str]"]
"""A user token as a client holds it."""
CallUser: TypeAlias = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Calls a user's callable from async code and awaits what it returns."""
_CLOCK_OFF_S = 24 * 3600.0
"""A token that was just made is sent though it seems to have expired by less: this computer's clock may be
wrong by a time zone, and the server's counts."""


async def call_in_thread(function: Callable[[], Any]) -> Any:
    """Call a user's callable on a thread, since it may block, and await what it returns."""
    return await Home(asyncio.get_running_loop()).call_in_thread(function)


class UserTokens:
    """The token that a client's callable returned last. One client may be used on several loops."""

    def __init__(self) -> None:
        self._last: tuple[TokenSource, Secret] | None = None  # with the callable that returned it
        # A lock keeps its loop, and is kept only by the turns that use it.
        self._locks: WeakValueDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = WeakValueDictionary()

    async def get(
        self, source: TokenSource, call: CallUser = call_in_thread, refused: Secret | None = None
    ) -> Secret:
        """Return the token to send; `call` calls a callable, and `refused` is the token to replace.

        Raises:
            ConfigError: when the token has expired, or when the callable returns none.
        """
        if isinstance(source, Secret):
            if _has_expired(source):
                raise ConfigError(
                    "By this computer's clock the user token has expired. Nothing was sent; check the "
                    "clock, and give a fresh token or a callable that returns fresh ones."
                )
            return source
        # Many turns may find it expired at the same time; one of them requests another. There is no lock
        # where the callable runs on the thread that reads the turn, which may be busy with another turn.
        lock = self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock())
        async with lock if call is call_in_thread else contextlib.nullcontext():
            token = self._last[1] if self._last and self._last[0] == source else None
            if token is None or token == refused or _has_expired(token):
                token = await _fresh_token(source, call)
                self._last = (source, token)
            return token


async def _fresh_token(source: Callable[[], str | Awaitable[str]], call: CallUser) -> Secret:
    failed = ""
    try:
        value = hidden(await call(source))
    except UserCodeError as raised:
        failed = type(raised.error).__name__
    if failed:  # out here, without what was raised: code that signs tokens may put a secret in its text
        raise _not_taken(f"raised {failed}")
    if not isinstance(value, Secret):
        raise _not_taken(f"returned {type(value).__name__} instead of a token")
    token = checked_token(value)
    if _has_expired(token, by_s=_CLOCK_OFF_S):
        raise _not_taken(
            "returned a token that has expired by this computer's clock",
            "check the clock, or let it return a fresh one",
        )
    return token


def _not_taken(did: str, todo: str = "fix the callable") -> ConfigError:
    return ConfigError(f"The user_token callable {did}. The message was not taken; {todo} and run again.")


def _has_expired(token: Secret, *, by_s: float = 0.0) -> bool:
    """Whether the token is a JWT whose `exp` has passed `by_s` ago; False for one that cannot be read."""
    try:
        claims = token.reveal().split(".")[1]
        expires = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["exp"]
        return not isinstance(expires, bool) and float(expires) + by_s <= time.time()
    except (ValueError, LookupError, TypeError, RecursionError, OverflowError):
        return False
