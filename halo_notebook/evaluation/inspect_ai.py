"""A Halo agent as a model of inspect_ai: `model="halo/<agent id>"`.

- A list of messages is a conversation. Its first `generate` starts a session, which the assistant's message
  names under ``metadata["halo"]``; a later `generate` with that message continues the session and sends only
  what came after. Messages that belong to no session are sent as `conversation_history`. A session that has
  continued elsewhere is refused: it knows more than the messages say.
- What cannot be sent as it is meant (a system message, tools, audio) is an error, and nothing is sent; a
  setting that Halo does not know (temperature) is ignored, with a warning.
- A message that may have arrived is not sent again, whatever inspect makes of the error. inspect retries
  only what certainly was not taken.
- The key and the user token are in no log.

It does not know samples: a reply from inspect's cache belongs to an earlier session, which is then continued,
and `retry_on_error` restarts a failed conversation. inspect_ai finds the provider by its entry point.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import functools
import json
import logging
import random
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from inspect_ai._util.error import PrerequisiteError
from inspect_ai.log import transcript
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelCall,
    ModelOutput,
    RetryDecision,
    modelapi,
)

from ..client.aio import AsyncHaloClient
from ..client.failures import MAY_HAVE_ARRIVED
from ..client.request import RequestFields
from ..client.settings import no_key, setting
from ..display.wording import what_is_kept
from ..errors import ConfigError, HaloError, ReplyInterrupted, UsageError
from .sending.sender import MAX_WAIT_S

if TYPE_CHECKING:
    from inspect_ai.tool import ToolChoice, ToolInfo
    from tenacity import RetryCallState

    from ..client.exchange import AsyncReplyStream
    from ..reply import Reply
    from ..stream import JSON

DEFAULT_AGENT = "default"  # the agent of HALO_AGENT_ID, or the one that Halo chooses
STREAMS_PER_CLIENT = 10  # more open streams on one of httpx's clients distort the times that it measures
METADATA_KEY = "halo"
MAX_LOGGED_NESTING = 100  # deeper values are logged as JSON text: inspect cannot write about 250 levels

_CLIENT_SETTINGS = ("user_id", "user_token", "connect_timeout_s", "silence_timeout_s", "max_record_bytes")
_AGENT_ID = "name the agent in the model, as halo/<agent id>."
_NO_MODEL_ARG = {"agent_id": _AGENT_ID, "session_id": "each list of messages is a conversation of its own."}
_NOT_IN_METADATA = {
    "agent_id": _AGENT_ID,
    "session_id": "it is read from the assistant's message.",
    "user_token": "it would be in inspect's log; set HALO_USER_TOKEN.",
}
_UNSENDABLE = {
    "system": "Halo's API takes no system message. Nothing was sent; leave it out of the task. What the "
    "agent should know about its user can be sent as context, in the user message's metadata.",
    "tool": "The messages contain the result of a tool, and Halo's agent uses only its own tools. Nothing "
    "was sent; leave it out of the task.",
}
# The settings that inspect itself uses; the rest of a GenerateConfig is meant for the model.
_OF_INSPECT = {
    *("adaptive_connections", "attempt_timeout", "cache", "fail_on_refusal", "max_connections", "timeout"),
    *("max_retries", "max_tool_output", "reasoning_history", "stream_idle_timeout", "system_message"),
}
_BACKOFF_S = 0.5
_MAX_BACKOFF_S = 60.0

_log = logging.getLogger(__name__)

# The list of messages whose newest may have arrived, without a complete reply. inspect retries with the same
# list, in the same context; a new call of `generate` has a list of its own.
_failed: ContextVar[object] = ContextVar("halo_failed", default=None)


class NotSetUp(PrerequisiteError, ConfigError):
    """A `ConfigError` that inspect's command shows as its one line, without a traceback."""


@modelapi(name="halo")
class HaloModelAPI(ModelAPI):
    """The agent that a model's name stands for, and the last turn of each conversation with it."""

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, ["HALO_API_KEY"], config or GenerateConfig())
        try:
            settings, self._fields = _read_settings(model_name, self.api_key, model_args)
            self._new_client = functools.partial(AsyncHaloClient, self.api_key, base_url=base_url, **settings)
            self._client = client = self._new_client()
            client.prepare("Hello", **cast("Any", self._fields))  # a wrong field is reported now
        except HaloError as error:
            raise NotSetUp(str(error)) from None
        self.base_url = client.base_url  # the cached replies of different services are not mixed
        self._has_been_reached = False
        self._streams = {client: 0}  # how many each client has open
        self._turns: dict[str, int] = {}  # by session: the last turn that it may know
        self._warned: set[str] = set()

    def should_retry(self, ex: Exception) -> RetryDecision:
        if not isinstance(ex, HaloError) or ex.again_s is None or ex.again_s > MAX_WAIT_S:
            return RetryDecision.no()
        if ex.arrived == "refused":
            return RetryDecision.rate_limit(ex.again_s or None)
        # If no message has ever reached it, the address is wrong or no server is there.
        return RetryDecision.transient() if self._has_been_reached else RetryDecision.no()

    def retry_wait(self) -> Any:
        return _wait_s

    def collapse_user_messages(self) -> bool:
        return True  # Halo takes one message at a time

    def connection_key(self) -> str:
        return f"{self.base_url}:{hash(self._client.settings.api_key)}"

    def _warn_once(self, text: str) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _log.warning(text)

    async def generate(
        self,
        input: list[ChatMessage],  # noqa: A002  # inspect's name
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> tuple[ModelOutput, ModelCall]:
        """Send what is new in the messages; return the reply, and the call as inspect logs it."""
        if tools:
            raise UsageError(
                "Halo's agent uses its own tools and takes no others. Nothing was sent; leave the tools "
                "out of the task. What the agent did is in its message's metadata."
            )
        given = config.model_dump(exclude_none=True)
        ignored = [name for name in given.keys() - _OF_INSPECT if given[name] is not False]
        if ignored:
            self._warn_once(f"Halo has no setting for {', '.join(sorted(ignored))}: ignored.")
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise UsageError(
                "The Halo provider needs asyncio, and inspect does not run on it. Nothing was sent; unset "
                "INSPECT_ASYNC_BACKEND."
            ) from None
        if _failed.get() is input:
            raise ReplyInterrupted(
                "No complete reply came within attempt_timeout, after which inspect retries. The message may "
                "have arrived and was not sent again; give no attempt_timeout, or a longer one."
            )
        if self._new_client().settings != self._client.settings:
            raise UsageError(
                "The key, the base URL or another Halo setting has changed since inspect created this model, "
                "which it keeps by name. Nothing was sent; give get_model(…, memoize=False) as the model."
            )
        newest = _newest(input)
        with self._least_busy() as client:
            stream = client.stream(newest.message, **cast("Any", {**self._fields, **newest.fields}))
            self._take_turn(newest)
            try:
                await _read(stream)
            except BaseException as error:
                refused = isinstance(error, HaloError) and error.arrived == "refused"
                self._has_been_reached |= refused or stream.reply.may_have_arrived
                if stream.reply.may_have_arrived:
                    _failed.set(input)
                elif newest.session_id:
                    self._turns[newest.session_id] = newest.turn - 1
                _log_incomplete(stream.reply, newest.turn)
                raise
        self._has_been_reached = True
        if stream.reply.session_id:
            self._turns[stream.reply.session_id] = newest.turn
        return self._output(stream, newest.turn), _call(client, stream)

    def _take_turn(self, newest: _Newest) -> None:
        """Take the session's next turn; no other call can take it, even while it runs."""
        if newest.session_id is None:
            return
        so_far = self._turns.get(newest.session_id, 0)
        if so_far > newest.turn - 1:
            raise UsageError(
                f"The session is at turn {so_far}, and these messages continue from turn {newest.turn - 1}: "
                "the agent knows more than they say. Nothing was sent; start a new conversation to branch "
                "off or to try again."
            )
        self._turns[newest.session_id] = newest.turn

    @contextlib.contextmanager
    def _least_busy(self) -> Iterator[AsyncHaloClient]:
        """A client with few open streams: many on one distort its times."""
        client = min(self._streams, key=self._streams.__getitem__)
        if self._streams[client] >= STREAMS_PER_CLIENT:
            client = client.copy()
        self._streams[client] = self._streams.get(client, 0) + 1
        try:
            yield client
        finally:
            self._streams[client] -= 1

    def _output(self, stream: AsyncReplyStream, turn: int) -> ModelOutput:
        reply = stream.reply
        wanted = stream.request.body.get("agent_id")
        if wanted and reply.agent_id not in (None, wanted):
            self._warn_once(f"The message was for the agent {wanted!r}, and {reply.agent_id!r} answered.")
        model = reply.agent_id or self.model_name
        message = ChatMessageAssistant(
            content=reply.text, model=model, source="generate", metadata={METADATA_KEY: _about(reply, turn)}
        )
        return ModelOutput(model=model, choices=[ChatCompletionChoice(message=message, stop_reason="stop")])


halo = HaloModelAPI


def _wait_s(state: RetryCallState) -> float:
    """How long inspect waits before it retries."""
    error = state.outcome.exception() if state.outcome else None
    backoff_s = min(_BACKOFF_S * 2.0 ** min(state.attempt_number - 1, 10), _MAX_BACKOFF_S)
    asked_s = error.again_s or 0.0 if isinstance(error, HaloError) else 0.0
    # Messages that were refused together must not come back together.
    return max(backoff_s, asked_s) + random.uniform(0, backoff_s / 2)  # noqa: S311


def _read_settings(
    name: str, api_key: str | None, model_args: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The client's settings, and the fields that go with each message."""
    if not name.strip():
        raise ConfigError(
            "The model names no agent. Nothing was sent; write halo/<agent id>, or "
            f"halo/{DEFAULT_AGENT} for the one that Halo chooses."
        )
    if setting("api_key", api_key) is None:
        raise no_key()
    known = {*_CLIENT_SETTINGS, *RequestFields.__annotations__} - _NO_MODEL_ARG.keys()
    for arg, value in model_args.items():
        if arg in _NO_MODEL_ARG:
            raise ConfigError(f"{arg} is not a model arg. Nothing was sent; {_NO_MODEL_ARG[arg]}")
        if arg not in known:
            close = difflib.get_close_matches(arg, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"allowed: {', '.join(sorted(known))}."
            raise ConfigError(f"Unknown model arg {arg!r}. Nothing was sent; {hint}")
        if arg == "user_token" and isinstance(value, str):
            raise ConfigError(
                "A user_token in a model arg would be in inspect's log. Nothing was sent; set "
                "HALO_USER_TOKEN, or give a callable that returns one."
            )
    fields = dict(model_args)
    settings = {name: fields.pop(name) for name in _CLIENT_SETTINGS if name in fields}
    # inspect retries, as the user has set it, and all samples slow down together.
    settings |= {"max_retries": 0, "agent_id": None if name == DEFAULT_AGENT else name}
    return settings, fields


# --- Messages ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Newest:
    """The message to send."""

    message: str
    fields: dict[str, Any]  # of this message only, with the session or the history
    session_id: str | None  # None for a new session
    turn: int  # in the session, from 1


def _newest(messages: Sequence[ChatMessage]) -> _Newest:
    for message in messages:
        if message.role in _UNSENDABLE:
            raise UsageError(_UNSENDABLE[message.role])
    if not messages or messages[-1].role != "user":
        raise UsageError("The messages do not end with a user's. Nothing was sent; append one.")
    *before, newest = messages
    session_id, turn, known = None, 0, 0
    for place, message in enumerate(before, 1):
        about = _ours(message)
        if message.role == "assistant" and isinstance(about.get("session_id"), str):
            turns = about.get("turn")
            session_id, turn, known = about["session_id"], turns if isinstance(turns, int) else 0, place
    unknown = before[known:]
    fields = _ours(newest)
    for name, why in _NOT_IN_METADATA.items():
        if name in fields:
            raise UsageError(f"{name} cannot be in a message's metadata. Nothing was sent; {why}")
    if session_id is not None:
        if unknown:
            raise UsageError(
                "There are messages between the agent's last reply and the newest message, and its session "
                "does not hold them. Nothing was sent; end each turn with the agent's own reply."
            )
        fields["session_id"] = session_id
    elif unknown:
        history = [{"role": message.role, "content": _text(message)} for message in unknown]
        fields["conversation_history"] = [*(fields.get("conversation_history") or []), *history]
    if images := _images(newest):
        fields["images"] = [*(fields.get("images") or []), *images]
    return _Newest(newest.text, fields, session_id, turn + 1)


def _ours(message: ChatMessage) -> dict[str, Any]:
    ours = (message.metadata or {}).get(METADATA_KEY, {})
    if not isinstance(ours, Mapping):
        raise UsageError(
            f"A message's metadata has {type(ours).__name__} under {METADATA_KEY!r}. Nothing was sent; give "
            "a dict of request fields there."
        )
    return dict(ours)


def _text(message: ChatMessage) -> str:
    """The text of an earlier message."""
    if _images(message):
        raise UsageError(
            "There is an image in an earlier message, and Halo's conversation history takes only text. "
            "Nothing was sent; put the image in the newest message."
        )
    return message.text


def _images(message: ChatMessage) -> list[str]:
    images = []
    for content in [] if isinstance(message.content, str) else message.content:
        if content.type == "image":
            images.append(content.image)
        elif content.type != "text":
            raise UsageError(
                f"A message has content of the type {content.type!r}, and Halo takes text and images. "
                "Nothing was sent; leave it out."
            )
    return images


# --- Replies ----------------------------------------------------------------------------


async def _read(stream: AsyncReplyStream) -> None:
    """Read the reply to its end. Raises only this package's errors."""
    try:
        async with stream as events:
            async for _ in events:
                pass
    except HaloError as error:
        # The frames below hold the user token, and inspect may log them with their variables.
        raise error.with_traceback(None) from None
    except Exception as error:
        # inspect_ai treats some exception types as transient network errors and would resend the message.
        if stream.reply.status != "complete":
            raise ReplyInterrupted(
                f"The exchange failed ({type(error).__name__}). {what_is_kept(stream.reply)}. "
                f"{MAY_HAVE_ARRIVED}."
            ) from error


def _about(reply: Reply, turn: int) -> dict[str, JSON]:
    """What a message's metadata says about the reply."""
    return {
        "session_id": reply.session_id,
        "agent_id": reply.agent_id,
        "turn": turn,
        "actions": _loggable(reply.actions),
        "malformed": len(reply.malformed),
        "first_text_s": reply.first_text_s,
        "elapsed_s": reply.elapsed_s,
    }


def _call(client: AsyncHaloClient, stream: AsyncReplyStream) -> ModelCall:
    """The exchange as inspect logs it, without secrets."""
    whole = stream.reply.to_dict()
    whole.pop("actions")  # they are in the events
    return ModelCall.create(
        client.dry_run(stream.request)["body"], _loggable(whole), time=stream.reply.elapsed_s
    )


def _log_incomplete(reply: Reply, turn: int) -> None:
    """Keep the received part of a failed reply in the sample's transcript."""
    if reply.session_id or reply.text or reply.actions or reply.malformed:
        said: dict[str, JSON] = {"status": reply.status, "error": reply.error, "text": reply.text}
        transcript().info({**said, **_about(reply, turn)}, source=METADATA_KEY)


def _loggable(value: JSON, levels: int = MAX_LOGGED_NESTING) -> JSON:
    """`value` with what is nested too deep for inspect's log as JSON text."""
    if not isinstance(value, (list, dict)):
        return value
    if levels == 0:
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list):
        return [_loggable(item, levels - 1) for item in value]
    return {key: _loggable(item, levels - 1) for key, item in value.items()}
