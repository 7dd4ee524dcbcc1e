"""One request: the API's fields, checked against its documented limits before anything is sent.

What the API leaves open is left open here: ids are opaque, and a context entry may have any type.
"""

from __future__ import annotations

import base64
import difflib
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TypedDict, cast
from uuid import UUID

from ..display.text import one_line, short_repr
from ..errors import InvalidRequest
from ..stream import MAX_NESTING, NestedTooDeep, is_deeper
from .secrets import Secret, checked_token

if TYPE_CHECKING:
    from ..stream import JSON
    from .user_tokens import TokenSource, UserToken

MAX_MESSAGE_CHARS = 10_000
MAX_CUSTOM_FIELDS_CHARS = 10_000
MAX_HISTORY_ITEMS = 50
MAX_BEHAVIOR_CHARS = 5_000
MODES = ("chat", "voice", "video", "livehelp")

_check_json = json.JSONEncoder(allow_nan=False).encode
_sorted_json = json.JSONEncoder(sort_keys=True).encode
_FRAMES = {("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "Table"), ("pyarrow", "RecordBatch")}
# Columns, tables and values of other libraries, and the method that gives them as Python has them.
_CONVERTED = {
    ("pandas", "Index"): "tolist",
    ("pandas", "ExtensionArray"): "tolist",
    ("polars", "DataFrame"): "to_dicts",
    ("polars", "Series"): "to_list",
    ("pyarrow", "Table"): "to_pylist",
    ("pyarrow", "RecordBatch"): "to_pylist",
    ("pyarrow", "Array"): "to_pylist",
    ("pyarrow", "ChunkedArray"): "to_pylist",
    ("pyarrow", "Scalar"): "as_py",
}


class RequestFields(TypedDict, total=False):
    """The request's fields besides the message. None means absent.

    user_id: the user's id in the caller's system; absent or ``"anonymous"`` for nobody.
    user_token: a JWT for that user, or a callable (sync or async) that returns one.
    session_id: continues a conversation; opaque.
    company_id: used when the user has no linked company.
    mode: ``chat`` (the default), ``voice``, ``video`` or ``livehelp``.
    context: key → ``{"label", "type", "value"}``, or any JSON value or DataFrame, labelled with its key.
    custom_fields: user traits; at most 10,000 characters as JSON.
    conversation_history: at most 50 items with `role` (or `speaker`) and `content` (or `text`).
    behavior_context: at most 5,000 characters.
    agent_id: pins one agent.
    images: a list of http(s) or ``data:`` URLs, bytes of images, a `pathlib.Path` to one, or what a notebook
        shows as a PNG, such as a PIL image or a matplotlib figure.
    """

    user_id: str | None
    user_token: UserToken | None
    session_id: str | None
    company_id: str | None
    mode: str | None
    context: Mapping[str, Any] | None
    custom_fields: Mapping[str, Any] | None
    conversation_history: Sequence[Mapping[str, Any]] | None
    behavior_context: str | None
    agent_id: str | None
    images: Sequence[Any] | None


def _invalid(what: str, todo: str = "") -> InvalidRequest:
    return InvalidRequest(f"{what}. Nothing was sent{todo and '; '}{todo}.")


def context_entry(key: str, value: Any) -> dict[str, JSON]:
    """Return `value` as an entry of the request's context.

    A mapping with `label` and `value` is an entry already. A DataFrame of pandas or polars, or a pyarrow
    table, becomes a ``list`` of its rows; any other value is labelled with its key.
    """
    place = f"context[{short_repr(key)}]"
    if isinstance(value, Mapping) and {"label", "value"} <= value.keys() <= {"label", "type", "value"}:
        entry = {**value, "value": plain_json(value["value"], place)}
        if not all(isinstance(entry.get(name, ""), str) for name in ("label", "type")):
            raise _invalid(f"{place} needs its label and type as strings", "fix that entry")
        return cast("dict[str, JSON]", entry)
    rows = plain_json(value, place)
    if _kinds(value) & _FRAMES:
        return {"label": key, "type": "list", "value": rows}
    return {"label": key, "value": rows}


def plain_json(value: Any, place: str) -> JSON:
    """Return `value` as plain JSON, without loss, and the same in every process.

    Args:
        value: JSON values; mappings and sequences of them; sets, which become sorted lists; dates, times,
            time spans, UUIDs, paths, enumerations and decimals, which become text or their value;
            dataclasses; values of numpy and pandas; DataFrames and columns of pandas, polars and pyarrow. A
            DataFrame becomes a list of its rows, with a named index as columns; a Series with a plain index
            becomes a list, another one an object. Missing values in them become null.
        place: what the value is called in an error.

    Raises:
        InvalidRequest: naming `place`, and the key or column in it, when a part has no JSON form.
    """
    if value is None or type(value) in (str, bool):  # most of what an evaluation holds
        return cast("JSON", value)
    if type(value) is dict and not value:
        return {}
    try:
        plain = _plain(value)
        if is_deeper(MAX_NESTING, plain, _check_json(plain)):  # an export of it could not be read
            raise NestedTooDeep(f"it is nested deeper than {MAX_NESTING} levels")
    except (TypeError, ValueError, RecursionError) as error:
        why = f"it is nested deeper than {MAX_NESTING} levels" if isinstance(error, RecursionError) else error
        raise _invalid(f"{place} cannot be sent as JSON ({why})", "fix that value") from None
    return plain


def _plain(value: Any, *, missing: bool = False) -> JSON:
    """`value` as JSON; with `missing`, NaN and NaT become null instead of an error."""
    match value:
        case None | bool() | str():
            return value
        case Enum():
            return _plain(value.value, missing=missing)
        case int():
            return int(value)
        case float() if math.isfinite(value):
            return float(value)
        case Decimal() if value.is_finite():
            return str(value)
        case float() | Decimal():
            if missing and "nan" in str(value).lower():
                return None
            raise TypeError(f"{value} has no JSON form")
        case UUID() | PurePath() | timedelta():
            return str(value)
        case date() | time():
            return None if type(value).__name__ == "NaTType" else value.isoformat()
        case Mapping():
            return _plain_object(value.items(), missing)
        case list() | tuple() | range():
            return [_plain(item, missing=missing) for item in value]
        case Set():
            # In an order that does not depend on the process, as a set's own does.
            return sorted((_plain(item, missing=missing) for item in value), key=_sorted_json)
    if is_dataclass(value) and not isinstance(value, type):
        return _plain_object(((each.name, getattr(value, each.name)) for each in fields(value)), missing)
    kinds = _kinds(value)
    if ("pandas", "DataFrame") in kinds:
        if not value.columns.is_unique:
            raise TypeError("its column names are not unique")
        # An index of plain numbers says nothing; names and dates do.
        index = value.index
        is_data = index.dtype.kind not in "iu" or any(name is not None for name in index.names)
        frame = value.reset_index() if is_data else value
        return [_plain_object(row.items(), missing=True) for row in frame.to_dict(orient="records")]
    if ("pandas", "Series") in kinds:
        if list(value.index) == list(range(len(value))):
            return _plain(value.tolist(), missing=True)
        return _plain_object(value.items(), missing=True)
    if kinds & {("pandas", "NAType"), ("pandas", "NaTType")}:
        return None
    if kinds & {("pandas", "Period"), ("pandas", "Interval")}:
        return str(value)
    if kinds & {("numpy", "datetime64"), ("numpy", "timedelta64")}:
        return None if str(value) == "NaT" else str(value)
    if ("numpy", "ndarray") in kinds:
        # `tolist` would turn dates into numbers.
        return _plain(list(value) if value.dtype.kind in "mM" else value.tolist(), missing=missing)
    if ("numpy", "generic") in kinds and not isinstance(value.item(), type(value)):
        return _plain(value.item(), missing=missing)
    names = getattr(value, "column_names", ()) if kinds & _FRAMES else ()
    if len(set(names)) < len(names):
        raise TypeError("its column names are not unique")
    if kind := next(iter(kinds & _CONVERTED.keys()), None):
        return _plain(getattr(value, _CONVERTED[kind])(), missing=True)
    known = [name for name in ("to_pandas", "toPandas", "collect", "compute") if hasattr(type(value), name)]
    todo = f"; give its .{known[0]}()" if known else ""
    raise TypeError(f"{type(value).__name__} has no JSON form{todo}")


def _plain_object(items: Iterable[tuple[Any, Any]], missing: bool) -> JSON:
    plain: dict[str, JSON] = {}
    for key, value in items:
        name = key if isinstance(key, str) else str(_plain_key(key))
        if name in plain:
            raise TypeError(f"two of its keys are {short_repr(name)} as text")
        try:
            plain[name] = _plain(value, missing=missing)
        except TypeError as error:
            raise TypeError(f"{short_repr(name)}: {error}") from None
    return plain


def _plain_key(key: Any) -> Any:
    return tuple(map(_plain_key, key)) if isinstance(key, tuple) else _plain(key, missing=True)


def _kinds(value: Any) -> set[tuple[str, str]]:
    """The library and name of each class of `value`, without importing pandas or numpy."""
    return {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(value).__mro__}


@dataclass(frozen=True)
class Request:
    """One checked request. `body` is what is sent, without the user token."""

    body: dict[str, JSON]
    user_token: TokenSource | None

    @property
    def message(self) -> str:
        """The message as sent."""
        return str(self.body["message"])

    @property
    def shown(self) -> dict[str, JSON]:
        """The request as JSON, its user token as 'set'."""
        return self.body if self.user_token is None else {**self.body, "user_token": "set"}


def checked_request(message: Any, fields: Mapping[str, Any], defaults: Mapping[str, Any]) -> Request:
    """Return the request to send; `defaults` are sent for fields that are not given, or are None.

    Raises:
        InvalidRequest: when the message or a field is not what the API takes.
    """
    known = RequestFields.__annotations__
    for name in fields:
        if name not in known:
            raise _unknown("field", name, known, "the fields are")
    if not (message is None or isinstance(message, str)):
        raise _invalid(f"The message must be a string, not {type(message).__name__}")
    if message is None or not message.strip():
        raise _invalid("The message is empty", "write one")
    _check_length("The message", len(message), MAX_MESSAGE_CHARS)
    given = {name: value for name, value in (*defaults.items(), *fields.items()) if value is not None}
    token = given.pop("user_token", None)
    if isinstance(token, (str, Secret)):
        is_given = isinstance(token, Secret) or token.strip()
        token = checked_token(token) if is_given else defaults.get("user_token")
    elif not (token is None or callable(token)):
        raise _invalid("user_token must be a string or a callable")
    checked = {name: _FIELD_CHECKS[name](name, value) for name, value in given.items()}
    return Request({"message": message, **checked}, token)


def _unknown(what: str, name: Any, known: Iterable[str], the_known_are: str) -> InvalidRequest:
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"{the_known_are} {', '.join(known)}."
    return InvalidRequest(f"Unknown {what} {short_repr(name)}. Nothing was sent; {hint}")


def _check_length(what: str, length: int, limit: int, unit: str = "characters") -> None:
    if length > limit:
        raise _invalid(f"{what} has {length:,} {unit}; the API takes {limit:,}", "shorten it")


def _string(name: str, value: Any, limit: int | None = None) -> JSON:
    if not isinstance(value, str):
        raise _invalid(f"{name} must be a string, not {type(value).__name__}")
    if not value:
        raise _invalid(f"{name} is empty", "give one, or leave it out")
    _check_length(name, len(value), limit or len(value))
    return value


def _mode(name: str, value: Any) -> JSON:
    if value not in MODES:
        raise _unknown(name, value, MODES, "use one of")
    return str(value)


def _mapping(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _invalid(f"{name} must be a dict with string keys")
    return value


def _context(name: str, value: Any) -> JSON:
    return {key: context_entry(key, entry) for key, entry in _mapping(name, value).items()}


def _custom_fields(name: str, value: Any) -> JSON:
    traits = plain_json(_mapping(name, value), name)
    length = len(json.dumps(traits, ensure_ascii=False, separators=(",", ":")))
    _check_length("custom_fields as JSON", length, MAX_CUSTOM_FIELDS_CHARS)
    return traits


def _history(name: str, value: Any) -> JSON:
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        raise _invalid(f"{name} must be a list of dicts")
    _check_length(name, len(value), MAX_HISTORY_ITEMS, "items")
    for number, item in enumerate(value):
        if not (
            isinstance(item, Mapping)
            and isinstance(item.get("role", item.get("speaker")), str)
            and isinstance(item.get("content", item.get("text")), str)
        ):
            raise _invalid(
                f"{name}[{number}] needs 'role' (or 'speaker') and 'content' (or 'text') as strings",
                "fix that item",
            )
    return plain_json(list(value), name)


_IMAGE_STARTS = {
    "image/png": rb"\x89PNG\r\n\x1a\n",
    "image/jpeg": rb"\xff\xd8\xff",
    "image/gif": rb"GIF8[79]a",
    "image/webp": rb"RIFF.{4}WEBPVP8[ LX]",
    # The size of the second header is one of seven; two letters would be the start of a text, too.
    "image/bmp": rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}",
}
_LONGEST_START_BYTES = 32

# The modes of PIL images that PNG does not have, and those in which they look the same.
_PIL_MODES = {
    **dict.fromkeys(("CMYK", "HSV", "LAB", "RGBX", "YCbCr"), "RGB"),
    **dict.fromkeys(("PA", "RGBa"), "RGBA"),
    "La": "LA",
}


def image_kind(data: bytes) -> str | None:
    """The MIME type of an image, by how its bytes begin; None for anything else."""
    return next((kind for kind, start in _IMAGE_STARTS.items() if re.match(start, data, re.DOTALL)), None)


def image_url(image: Any, place: str = "this value") -> str:
    """Return an image as a URL that can be sent.

    Args:
        image: an http(s) or ``data:`` URL; the bytes of an image; a `pathlib.Path` to one; or an object that
            a notebook shows as a PNG (PIL, matplotlib, `IPython.display.Image`).
        place: what the image is called in an error.

    Raises:
        InvalidRequest: for anything else, so that no other file is sent by mistake.
    """
    url = image if isinstance(image, str) else getattr(image, "url", None)
    if isinstance(url, str) and url.lower().startswith(("http://", "https://", "data:image/")):
        return url
    data, name = _image_bytes(image, place)
    kind = image_kind(data)
    if kind is None:
        raise _invalid(f"{name} is not an image (PNG, JPEG, GIF, WebP or BMP)", "give an image or its URL")
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _image_bytes(image: Any, place: str) -> tuple[bytes, str]:
    if isinstance(image, Path):
        try:
            with image.expanduser().open("rb") as opened:
                start = opened.read(_LONGEST_START_BYTES)
                # Another file may be endless, as /dev/zero is, or larger than the memory.
                return start + opened.read() if image_kind(start) else start, repr(str(image))
        except (OSError, ValueError, RuntimeError) as error:  # not a path; a user without a home
            why = getattr(error, "strerror", None) or error
            raise _invalid(f"The image {str(image)!r} could not be read ({why})", "check the path") from None
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image), place
    is_pil = ("PIL", "Image") in _kinds(image)
    if is_pil and 0 in image.size:
        width, height = image.size
        raise _invalid(f"{place} has no pixels ({width} × {height})", "give another image")
    try:
        image = image.convert(_PIL_MODES[image.mode]) if is_pil and image.mode in _PIL_MODES else image
        figure: Any = image if hasattr(image, "savefig") else getattr(image, "figure", None)
        if hasattr(figure, "savefig"):  # matplotlib's, or that of its axes
            file = io.BytesIO()
            figure.savefig(file, format="png")
            return file.getvalue(), place
        image_data = getattr(image, "data", None)
        png = image._repr_png_() if hasattr(image, "_repr_png_") else None
    except Exception as error:  # noqa: BLE001  # another library's code may raise anything
        why = f"{type(error).__name__}: {one_line(str(error))}"
        raise _invalid(f"{place} could not be drawn as a PNG ({why})", "give its bytes") from None
    if is_pil and png is None:
        raise _invalid(
            f"{place} has the mode {image.mode!r} of PIL, which cannot be drawn as a PNG",
            "scale its values to 0…255 and give image.convert('RGB')",
        )
    found = image_data if isinstance(image_data, bytes) else png
    return found if isinstance(found, bytes) else b"", place


def image_urls(images: Any) -> list[str]:
    """Return the images of a request as URLs; see `RequestFields`.

    Raises:
        InvalidRequest: naming the item that is not an image.
    """
    if isinstance(images, (str, bytes, bytearray, memoryview)) or not isinstance(images, Sequence):
        raise _invalid("images must be a list of images and URLs", "put a single one in [ ]")
    return [_list_item(f"images[{number}]", image) for number, image in enumerate(images)]


def _list_item(place: str, image: Any) -> str:
    if isinstance(image, str) and not image.lower().startswith(("http://", "https://", "data:")):
        raise _invalid(f"{place} must be an http(s) or data: URL", "for a file, give a pathlib.Path")
    return image if isinstance(image, str) else image_url(image, place)


def _images(name: str, value: Any) -> JSON:
    return [*image_urls(value)]


_FIELD_CHECKS: dict[str, Callable[[str, Any], JSON]] = {
    "user_id": _string,
    "session_id": _string,
    "company_id": _string,
    "mode": _mode,
    "context": _context,
    "custom_fields": _custom_fields,
    "conversation_history": _history,
    "behavior_context": partial(_string, limit=MAX_BEHAVIOR_CHARS),
    "agent_id": _string,
    "images": _images,
}
