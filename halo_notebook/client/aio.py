"""The async client, which sends on the caller's own event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

from .client import Client
from .exchange import AsyncReplyStream
from .secrets import hide_token

if TYPE_CHECKING:
    from ..reply import Reply
    from .request import RequestFields


class AsyncHaloClient(Client):
    """Talks to a Halo agent from async code, on the caller's loop.

    >>> import asyncio
    >>> from halo_notebook import TextDelta
    >>> from halo_notebook.demo import DEMO_KEY, DemoAgent
    >>> async def first_words(url: str) -> str:
    ...     async with AsyncHaloClient(DEMO_KEY, base_url=url) as client:
    ...         async with client.stream("My name is Ada") as events:
    ...             return "".join([e.text async for e in events if isinstance(e, TextDelta)])[:16]
    >>> with DemoAgent(chunk_s=0) as agent:
    ...     asyncio.run(first_words(agent.url))
    'Nice to meet you'
    """

    def stream(self, message: str, **fields: Unpack[RequestFields]) -> AsyncReplyStream:
        """Send `message`, of at most 10,000 characters; the result is an async context manager.

        It iterates the events, and its `reply` grows as they arrive. For the fields see `RequestFields`.

        Raises:
            InvalidRequest: at once, when a field is not what the API takes.
            HaloError: on entering, when the message was not taken; while iterating, when the reply broke off.
        """
        hide_token(fields)
        return AsyncReplyStream(self, self.prepare(message, **fields))

    async def ask(self, message: str, **fields: Unpack[RequestFields]) -> Reply:
        """Send `message` and return the streamed reply once it has ended. See `stream`."""
        hide_token(fields)
        async with self.stream(message, **fields) as stream:
            return await stream.to_end()

    async def chat(self, message: str, **fields: Unpack[RequestFields]) -> Reply:
        """Send `message` to the endpoint that answers in one piece. See `stream`.

        The answer's JSON is kept on `Reply.raw`; its text is the first of the fields `response`, `message`,
        `text`, `reply` and `content` that is a string.

        Raises:
            ReplyUnreadable: when the answer is not a JSON object.
        """
        hide_token(fields)
        async with AsyncReplyStream(self, self.prepare(message, **fields), path="/chat") as stream:
            return await stream.to_end()

    async def __aenter__(self) -> AsyncHaloClient:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()
