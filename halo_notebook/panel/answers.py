"""What a page gets for its request: what the handler of that kind returns, or one line on what failed."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ..concurrency.loop import IN_BROWSER
from ..errors import HaloError, UsageError

if TYPE_CHECKING:
    from .views import View

H = TypeVar("H")
T = TypeVar("T")

_log = logging.getLogger(__name__)


async def answer_to(
    request: Mapping[str, Any], handlers: Mapping[str, H], call: Callable[[H], Any]
) -> View | None:
    """What `call` returns for the handler of that kind of request; it may be async. Raises nothing."""
    try:
        handler = handlers.get(str(request.get("kind")))
        if handler is None:
            raise UsageError("This version does not know what the page asks for. Reload the page.")
        answer = call(handler)
        if inspect.isawaitable(answer):
            answer = await answer
    except HaloError as error:
        return {"error": str(error)}
    except Exception as error:  # noqa: BLE001  # the page waits for an answer, whatever went wrong
        _log.error("A page's request failed", exc_info=error)
        return {"error": f"That failed in the kernel ({type(error).__name__})."}
    return cast("View | None", answer)


async def one_by_one(lock: asyncio.Lock, function: Callable[..., T], *args: Any) -> T:
    """Call the function after the calls before it, on a thread of its own where there are threads."""
    async with lock:
        return function(*args) if IN_BROWSER else await asyncio.to_thread(function, *args)
