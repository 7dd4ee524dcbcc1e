"""Pictures as files, and how a page gets them: pasted or dropped."""

from __future__ import annotations

import base64
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import FilePayload, Locator

HOSTILE_NAME = '"><img src=x onerror="window.__halo_pwned=1">\u202egnp.png'
# Paste or drop files, as the browser reports it; whether the page has left it to the browser.
GIVE = """
(node, [kind, files, text, more]) => {
  const data = new DataTransfer();
  for (const { name, type, base64 } of files) {
    const bytes = Uint8Array.from(atob(base64), c => c.charCodeAt(0));
    data.items.add(new File([bytes, new Uint8Array(more)], name, { type }));
  }
  if (text) data.setData('text/plain', text);
  const how = { bubbles: true, cancelable: true };
  const event = kind === 'paste' ? new ClipboardEvent(kind, how)
    : new DragEvent(kind, { ...how, dataTransfer: data });
  // Firefox gives an event that a script makes no files.
  if (kind === 'paste') Object.defineProperty(event, 'clipboardData', { value: data });
  return node.dispatchEvent(event);
}
"""


def png(width: int = 1, noise: bytes = b"") -> bytes:
    """A white picture of one row; `noise` makes it larger."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)),
        (b"tEXt", b"Comment\0" + noise),
        (b"IDAT", zlib.compress(b"\0" + b"\xff" * width)),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def url_of(data: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def file(name: str, data: bytes = b"", kind: str = "image/png") -> FilePayload:
    return {"name": name, "mimeType": kind, "buffer": data or png(4)}


def give(place: Locator, kind: str, *files: FilePayload, text: str = "", more: int = 0) -> bool:
    """Paste or drop files there, with so many `more` bytes; whether the page has taken them."""
    given = [
        {"name": each["name"], "type": each["mimeType"], "base64": base64.b64encode(each["buffer"]).decode()}
        for each in files
    ]
    return not place.evaluate(GIVE, [kind, given, text, more])
