"""A conversation in a file, as `Session.export` writes it.

It comes from outside: a file that does not have this form is refused as a whole.

    {"halo_session": 1, "name", "session_id", "agent_id", "target", "turns": [
     {"request", "reply", "rating": {"value", "note"} | null, "target", "source", "may_have_arrived",
      "vote": {"round", "config", "configs", "outcome", "winner", "blind", "at"} | null}, …]}

An export of an earlier version has no `halo_session`, and its turns lack the last four.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any, cast

from ..client.request import checked_request
from ..display.text import one_line
from ..errors import InvalidRequest, UsageError
from ..reply import check_reply
from ..stream import JSON, MAX_DOCUMENT_NESTING, NestedTooDeep, decode_json
from .format import part, read_whole

FORMAT = 1
_MAX_NAME_CHARS = 100  # of a session, as in a panel
_MAX_LINE_CHARS = 1_000
_TEXT_OR_NONE = (str, type(None))


def read_export(path: str | Path) -> dict[str, Any]:
    """The content of an export, checked and complete.

    Raises:
        UsageError: in one line that names the file, the turn and what is wrong with it.
    """
    try:
        file = Path(path).expanduser()
    except (RuntimeError, TypeError, ValueError) as error:  # a user without a home; not a path
        raise UsageError(f"This path does not exist ({error}). Nothing was changed; give another.") from None
    return checked_export(read_whole(file, "an exported session", "export a shorter one"), file.name)


def checked_export(data: bytes, name: str) -> dict[str, Any]:
    """The content of an export that was read from the file `name`; see `read_export`."""
    try:
        content = decode_json(data.decode("utf-8-sig"), MAX_DOCUMENT_NESTING)
    except NestedTooDeep:
        raise _refused(name, f"it is nested deeper than {MAX_DOCUMENT_NESTING} levels") from None
    except ValueError:
        raise _refused(name, "it is not JSON") from None
    try:
        turns = part(content, "turns", list)
        version = part(content, "halo_session", int, 1)
    except ValueError as error:
        raise _refused(name, str(error)) from None
    if version > FORMAT:
        raise UsageError(
            f"{name!r} was exported by a later version of this package (format {version}; this one "
            f"reads {FORMAT}). Nothing was changed; update the package."
        )
    try:
        if version < 1:
            raise ValueError("'halo_session' is not a format")
        whole: dict[str, Any] = {
            "name": one_line(part(content, "name", str), _MAX_NAME_CHARS),
            **{each: _line(content, each) for each in ("session_id", "agent_id", "target")},
        }
    except ValueError as error:
        raise _refused(name, str(error)) from None
    whole["turns"] = []
    for number, turn in enumerate(turns, 1):
        try:
            whole["turns"].append(_checked_turn(turn))
        except ValueError as error:
            raise _refused(name, f"turn {number:,}: {one_line(str(error))}") from None
    return whole


def _refused(name: str, why: str) -> UsageError:
    return UsageError(
        f"{name!r} is not an exported session ({why}). Nothing was changed; export it again as .json, "
        "or choose another file."
    )


def _checked_turn(turn: JSON) -> dict[str, Any]:
    """A turn of an export. Raises `ValueError`, which says what is wrong."""
    request, reply = part(turn, "request", dict), cast("dict[str, Any]", part(turn, "reply", dict))
    request = {name: value for name, value in request.items() if name != "user_token"}
    fields = {name: value for name, value in request.items() if name != "message"}
    try:
        checked_request(part(request, "message", str), fields, {})
    except InvalidRequest as error:  # it could be neither continued nor evaluated
        raise ValueError(str(error).partition(". Nothing was sent")[0]) from None
    check_reply(reply)
    offsets = [0, *(event["offset"] for event in reply["action_events"]), len(reply["text"])]
    if offsets != sorted(offsets):
        raise ValueError("its actions are not in the order of the text")
    rating = part(turn, "rating", (dict, type(None)))
    if rating is not None:
        rating = {name: part(rating, name, str) for name in ("value", "note")}
        if rating["value"] not in ("up", "down", ""):
            raise ValueError("'value' of the rating is not 'up', 'down' or empty")
    vote = part(turn, "vote", (dict, type(None)), None)
    ended = reply["status"] if reply["status"] != "streaming" else "stopped"
    seen = ended == "complete" or bool(reply["text"] or reply["action_events"])
    return {
        "request": request,
        "reply": {**reply, "status": ended, "error": one_line(reply["error"], _MAX_LINE_CHARS)},
        "rating": rating,
        "vote": None if vote is None else _checked_vote(vote),
        "target": one_line(part(turn, "target", str, ""), _MAX_LINE_CHARS),
        "source": one_line(part(turn, "source", str, ""), _MAX_NAME_CHARS),
        "may_have_arrived": part(turn, "may_have_arrived", bool, seen),
    }


def _checked_vote(vote: JSON) -> dict[str, Any]:
    """The vote on a turn. Raises `ValueError`."""
    checked: dict[str, Any] = {
        name: one_line(part(vote, name, str), _MAX_NAME_CHARS) for name in ("round", "config", "winner", "at")
    }
    datetime.fromisoformat(checked["at"])  # raises ValueError
    configs: Any = part(vote, "configs", list)
    if not all(isinstance(name, str) for name in configs):
        raise ValueError("'configs' of the vote are not names")
    outcome = part(vote, "outcome", str)
    if outcome not in ("won", "lost", "tie", "both bad"):
        raise ValueError("'outcome' of the vote is not 'won', 'lost', 'tie' or 'both bad'")
    names = tuple(one_line(name, _MAX_NAME_CHARS) for name in configs)
    return checked | {"configs": names, "outcome": outcome, "blind": part(vote, "blind", bool)}


def _line(content: JSON, name: str) -> str | None:
    value: Any = part(content, name, _TEXT_OR_NONE)
    return value if value is None else one_line(value, _MAX_LINE_CHARS)
