"""What a page may know of a column while the names are hidden.

It lists what is let through, so that what is added later does not tell the name. A page never gets the name
of a column's session, the list of sessions, or other versions of a message: an arena has columns instead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from ..stream import JSON
    from .views import View

HIDDEN = "The reason is shown after the vote."
_SEQUENCED = ("kind", "epoch", "seq")
_TURN = ("key", "number", "asked", "items", "open", "cut", "status", "text", "again", "cid")
_SNAPSHOT = (*_SEQUENCED, "earlier")
_FRAME = (*_SEQUENCED, "key", "keep", "open")
_ANSWER = ("kind", "cid", "earlier", "before")


def named(content: View, label: str) -> View | None:
    """A message about a column whose name is shown; None if the page does not need it."""
    content = {**content}
    if "session" in content:
        content["session"] = label
    if "sessions" in content:
        content |= {"sessions": [], "versions": None}
    return None if content.get("kind") == "notice" else content


def blinded(content: View, label: str) -> View | None:
    """A message about a column whose name is hidden; None if the page must not get it."""
    match content.get("kind"):
        case "snapshot":
            hidden: View = {"session": label, "sessions": [], "versions": None, "agent": None, "source": ""}
            live = content["live"]
            return {
                **_only(content, _SNAPSHOT),
                **hidden,
                "turns": [_turn(turn) for turn in _list(content["turns"])],
                "live": None if live is None else _turn(live),
                "queue": _queue(content["queue"]),
            }
        case "begin" | "turn":
            return {**_only(content, _SEQUENCED), "turn": _turn(content["turn"])}
        case "frame":
            timed = {name: [_untimed(item) for item in _list(content[name])] for name in ("items", "waiting")}
            return {**_only(content, _FRAME), **timed, "state": _state(content["state"])}
        case "beat":
            return {**_only(content, _SEQUENCED), "state": _state(content["state"])}
        case "queue":
            return {**_only(content, _SEQUENCED), "queue": _queue(content["queue"])}
        case "sessions":
            return {**_only(content, _SEQUENCED), "sessions": [], "versions": None}
        case "start":
            return {**_only(content, _SEQUENCED), "start_note": ""}  # a history is a configuration's own
        case "answer":
            answer = _only(content, _ANSWER)
            if "turns" in content:
                answer["turns"] = [_turn(turn) for turn in _list(content["turns"])]
            if "error" in content:
                answer["error"] = f"That was refused. {HIDDEN}"
            return answer
        case "views":
            return _only(content, ("kind",))
        case _:
            return None


def _only(content: View, names: tuple[str, ...]) -> View:
    return {name: content[name] for name in names if name in content}


def _list(value: JSON) -> list[Any]:
    return cast("list[Any]", value)


def _turn(turn: Any) -> View:
    hidden: View = {"agent": None, "source": "", "started_at": "", "words": [], "rating": None}
    hidden["error"] = f"The reply did not complete. {HIDDEN}" if turn.get("error") else ""
    if "state" in turn:
        hidden["state"] = _state(turn["state"])
    timed = {name: [_untimed(item) for item in turn[name]] for name in ("items", "waiting") if name in turn}
    return {**_only(turn, _TURN), **hidden, **timed}


def _untimed(item: Any) -> JSON:
    """An item of a reply, or an action, without the time at which it arrived."""
    if "action" in item:
        return {"action": _untimed(item["action"])}
    return {**item, "at_s": None} if "at_s" in item else cast("JSON", item)


def _state(state: JSON) -> str:
    return "streaming" if state == "streaming" else "waiting for first text"


def _queue(queue: JSON) -> list[JSON]:
    return [{**each, "error": each["error"] and f"Not sent. {HIDDEN}"} for each in _list(queue)]
