"""Follows a session, and sends what is new to the pages of all panels that show it.

What it promises:

- A reply is rendered once, at one pace and on the worker thread, however many panels show it. While no
  page shows one of them, it is not rendered until it ends.
- The first text is shown at once. While a turn is silent, the page gets a sign of life every `BEAT_S`.
- Callbacks get each action once, as it arrives, and each reply when it has ended.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

from ..concurrency.loop import in_worker, post, spawn
from ..display.pacer import Pacer
from ..reply import ActionEvent, Reply
from .state import Following, PanelState, frames_of, rendered

if TYPE_CHECKING:
    from ..session import Session, Turn
    from .views import Frames, View

MIN_INTERVAL_S = 0.06
MAX_BYTES_PER_S = 600_000
"""Deltas are small; the Jupyter server drops messages beyond 1 MB a second."""
BEAT_S = 2.0

_log = logging.getLogger(__name__)
_followed: dict[Session, Following] = {}
"""The sessions that panels show, for all of this process."""


async def show(state: PanelState, session: Session) -> None:
    """Show `session` in the panel from now on."""
    if state.closed or (state.epoch and session is state.session):
        return
    leave(state)
    if session not in _followed:
        is_first = session is state.session  # the panel has just been made
        _followed[session] = state.following if is_first else Following(session)
        spawn(_follow(_followed[session]))
    state.following, state.listens = _followed[session], False
    state.following.panels.append(state)
    state.epoch, state.seq = state.epoch + 1, 0
    await state.refresh()
    state.note_status()


def leave(state: PanelState) -> None:
    """Stop showing the session in the panel. The session itself is not changed."""
    following = state.following
    if state in following.panels:
        following.panels.remove(state)
        if not following.panels:
            del _followed[following.session]
            following.turns.set()
            following.step.set()


async def register_changed(state: PanelState) -> None:
    """Tell the page which sessions there are, and show the one that has its name now."""
    session, old = state.register.get(state.session_name), state.session
    unfinished = old.busy or state.waiting()
    state.note_sessions()
    if session is not old:
        await show(state, session)
        if unfinished:
            state.notice(f"The conversation before continues as {old.name!r}, with the messages that wait.")


async def turn_ended(session: Session, turn: Turn) -> None:
    """Wait until the pages have the whole of `turn` and the callbacks are on their way to their loop."""
    following = _followed.get(session)
    while following and following.panels and turn in session.turns[following.ended :]:
        await following.step.wait()
    await asyncio.sleep(0)  # `PanelState.call` needs one step of the loop


async def _follow(following: Following) -> None:
    """Follow one turn after the other, as long as a panel shows the session."""
    session = following.session
    unwatch = session.watchers.add(lambda turn: post(_changed, following, turn))
    while following.panels:
        following.turns.clear()
        if len(session.turns) > following.ended:
            try:
                await _follow_turn(following, session.turns[following.ended])
            except Exception:  # noqa: BLE001  # the conversation continues all the same
                _log.exception("A turn could not be shown")
            following.step.set()
            following.step = asyncio.Event()
        else:
            await following.turns.wait()
    unwatch()


def _changed(following: Following, turn: Turn) -> None:
    """A turn has begun, has ended or has been rated."""
    following.turns.set()
    for panel in following.panels:
        if turn in panel.ratings and panel.ratings[turn] != turn.rating:
            panel.emit_turn(following.session.turns.index(turn) + 1)
        panel.note_start()
        panel.note_status()


async def _follow_turn(following: Following, turn: Turn) -> None:
    reply, number = turn.reply, following.ended + 1
    news = following.news = asyncio.Event()
    over = asyncio.Event()
    frames = frames_of(turn)
    following.shown = frames.so_far()

    def heard(_: Reply) -> None:  # on any thread
        if reply.status != "streaming":
            post(over.set)
        if not news.is_set():
            post(news.set)

    unwatch = reply.watchers.add(heard)
    if reply.text or reply.action_events or reply.status != "streaming":
        heard(reply)
    try:
        for panel in following.panels:
            panel.emit("begin", turn=panel.live_view())
            panel.note_queue()
        await _until_ended(following, reply, frames, over)
        if following.panels:
            following.views[number] = await in_worker(rendered, turn, number, frames)
    finally:
        unwatch()
        following.shown, following.ended = None, number
    for panel in following.panels:
        _end(panel, reply, number)
    for panel in tuple(following.panels):
        if panel.has_static_copy and panel.viewed:
            await in_worker(panel.publish_static_copy)


async def _until_ended(following: Following, reply: Reply, frames: Frames, over: asyncio.Event) -> None:
    def render() -> tuple[View, View, int]:
        frame = frames.frame()
        return frame, frames.so_far(), len(json.dumps(frame, ensure_ascii=False))

    pacer = Pacer(interval_s=MIN_INTERVAL_S, bytes_per_s=MAX_BYTES_PER_S)
    painted_text = False
    while following.panels and not over.is_set():
        if not await _is_set(following.news, BEAT_S):
            for panel in following.panels:
                panel.tell("beat", epoch=panel.epoch, seq=panel.seq, state=reply.state)
            continue
        first_text = not painted_text and reply.first_text_s is not None
        if not first_text and await _is_set(over, pacer.wait_s()):
            return
        following.news.clear()
        painted_text = painted_text or first_text
        if any(panel.listens for panel in following.panels):
            since = pacer.clock()
            frame, following.shown, size = await in_worker(render)
            for panel in following.panels:
                panel.emit("frame", key=f"t{following.ended + 1}", state=reply.state, **frame)
            pacer.spent(since=since, size=size)
        for panel in following.panels:
            _act(panel, reply)
            panel.note_status()


async def _is_set(event: asyncio.Event, within_s: float) -> bool:
    """Wait for `event`, that long at most."""
    # Not by asyncio's timeout, which names a moment: Pyodide's loop raises for one that has just passed.
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.wait({waiting}, timeout=within_s)
    waiting.cancel()
    return event.is_set()


def _end(panel: PanelState, reply: Reply, number: int) -> None:
    """Tell a panel that a turn has ended."""
    _act(panel, reply)
    for payload in reply.summary_only:
        for callback in panel.on_action:
            panel.call(callback, ActionEvent(payload, reply.elapsed_s or 0.0, len(reply.text)))
    panel.emit_turn(number)
    panel.note_sessions()
    panel.note_status()
    for callback in panel.on_reply:
        panel.call(callback, reply)


def _act(panel: PanelState, reply: Reply) -> None:
    """Call the panel's callbacks for the actions that have arrived."""
    acted, panel.acted[reply] = panel.acted.get(reply, 0), len(reply.action_events)
    for event in reply.action_events[acted : panel.acted[reply]]:
        for callback in panel.on_action:
            panel.call(callback, event)
