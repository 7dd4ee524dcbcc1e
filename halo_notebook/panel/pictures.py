"""The images of messages: those that a page has added, and what a page shows of those that are sent.

What a page shows is made here from bytes that begin as a PNG, JPEG, GIF or WebP does. An image that is not
small is shown as the thumbnail that the page made when it was added, or is only named. No address is loaded.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..client.request import image_kind, image_url
from ..display.text import one_line
from ..errors import InvalidRequest, UsageError

if TYPE_CHECKING:
    from ..stream import JSON

MAX_IMAGES = 10
"""In one message from a page. The API documents no limit."""
MAX_IMAGE_BYTES = 10_000_000
"""Of an image that a page adds. The API documents no limit."""
MAX_SHOWN_CHARS = 64_000
"""Of an image or a thumbnail as a data: URL in the page."""
MAX_TURN_CHARS = 160_000
"""Of all images of a turn: the turns of a conversation share a message to the page."""
_MAX_KEPT = 40
_MAX_KEPT_CHARS = 200_000_000
_MAX_REMEMBERED = 500
_SHOWN_KINDS = ("image/png", "image/jpeg", "image/gif", "image/webp")
_MAX_NAME_CHARS = 120

_remembered: dict[str, tuple[str, str]] = {}
"""Name and thumbnail of the images that pages of this process have added, by the digest of what is sent."""


@dataclass(frozen=True)
class Picture:
    """An image that a page has added.

    Attributes:
        id: the page's.
        name: of its file.
        url: what is sent: a ``data:`` URL.
    """

    id: str
    name: str
    url: str


class Pictures:
    """The images that one panel's page has added and may send; the oldest ones are forgotten."""

    def __init__(self) -> None:
        self._kept: dict[str, Picture] = {}

    def add(self, id: str, name: str, data: bytes, thumbnail: str) -> None:  # noqa: A002  # as the page calls it
        """Keep an image. Raises `UsageError` if it is too large, or its content is not an image."""
        name = one_line(name, _MAX_NAME_CHARS)
        if len(data) > MAX_IMAGE_BYTES:
            too_large = f"{name!r} has {_size(len(data))}; an image may have {_size(MAX_IMAGE_BYTES)}"
            raise UsageError(f"{too_large}. It was not added.")
        try:
            url = image_url(data)
        except InvalidRequest:
            raise UsageError(
                f"{name!r} is not a PNG, JPEG, GIF, WebP or BMP image. It was not added."
            ) from None
        self._kept[id] = Picture(id, name, url)
        _remembered[_digest(url)] = name, safe_url(thumbnail)
        if len(_remembered) > _MAX_REMEMBERED:
            del _remembered[next(iter(_remembered))]
        while (
            len(self._kept) > _MAX_KEPT
            or sum(len(each.url) for each in self._kept.values()) > _MAX_KEPT_CHARS
        ):
            del self._kept[next(iter(self._kept))]

    def get(self, ids: Any) -> list[Picture]:
        """The images of a message from the page. Raises `UsageError`."""
        if not isinstance(ids, list) or len(ids) > MAX_IMAGES:
            raise UsageError(f"A message from the panel may have {MAX_IMAGES} images. Nothing was sent.")
        found = [self._kept.get(id_) for id_ in ids if isinstance(id_, str)]
        pictures = [picture for picture in found if picture is not None]
        if len(pictures) < len(ids):
            raise UsageError("The kernel does not have an image any more. Nothing was sent; add it again.")
        return pictures


def image_views(images: Any) -> list[JSON]:
    """What a page shows of the images of a request: ``name``, ``about`` and a safe ``url`` or nothing."""
    if not isinstance(images, Sequence) or isinstance(images, str):
        return []
    views: list[JSON] = []
    room = MAX_TURN_CHARS
    for image in images:
        text = image if isinstance(image, str) else ""
        kind, comma, data = text.partition(",")
        found = re.fullmatch(r"data:image/([a-z]{3,4});base64", kind)
        if not (found and comma):
            views.append(
                {"name": one_line(text, _MAX_NAME_CHARS), "about": "image by its address", "url": ""}
            )
            continue
        name, thumbnail = _remembered.get(_digest(text), ("", ""))
        url = safe_url(text) if len(text) <= MAX_SHOWN_CHARS else thumbnail
        url = url if len(url) <= room else ""
        room -= len(url)
        about = f"{found[1].upper()}, {_size(len(data) * 3 // 4)}"
        views.append({"name": name or "image", "about": about, "url": url})
    return views


def safe_url(url: str) -> str:
    """A small image, as a ``data:`` URL made from its bytes; empty for what not every browser shows."""
    if len(url) > MAX_SHOWN_CHARS:
        return ""
    try:
        data = base64.b64decode(url.partition(";base64,")[2], validate=True)
    except (binascii.Error, ValueError):
        return ""
    kind = image_kind(data)
    return f"data:{kind};base64,{base64.b64encode(data).decode()}" if kind in _SHOWN_KINDS else ""


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{max(1, count // 1000):,} KB"


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode("utf-8", "replace")).hexdigest()
