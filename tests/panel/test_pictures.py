"""Images in messages: added by the page in parts, checked by their content, shown small and safe."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from halo_notebook import errors
from halo_notebook.panel import pictures, uploads
from halo_notebook.panel.pictures import (
    MAX_IMAGE_BYTES,
    MAX_SHOWN_CHARS,
    MAX_TURN_CHARS,
    image_views,
    safe_url,
)
from halo_notebook.panel.uploads import Uploads
from halo_notebook.panel.views import MAX_STATIC_BYTES, static_html

from ..harness.images import png, url_of

if TYPE_CHECKING:
    import threading

    from halo_notebook import ChatPanel
    from halo_notebook.demo import DemoAgent

    from .conftest import Message, Wire


def add(page: Wire, name: str, data: bytes, id_: str = "p1", thumbnail: str = "") -> Message:
    """Add an image as the page does; the kernel's answer."""
    which = page.upload(data)
    return page.ask("image", which=which, id=id_, name=name, thumbnail=thumbnail)


def test_an_image_is_sent_with_its_message_and_shown_in_its_turn(
    panel: ChatPanel, page: Wire, agent: DemoAgent
) -> None:
    """It comes in parts; its name, its kind and its size are shown, and it stays with the turn."""
    large = png(noise=bytes(range(256)) * 4_000)
    thumbnail = url_of(png(3))
    page_upload = page.upload(large, part_bytes=300_000)
    assert "error" not in page.ask(
        "image", which=page_upload, id="p1", name="a shot.png", thumbnail=thumbnail
    )
    assert "error" not in add(page, "small.gif", b"GIF89a\1\0\1\0", "p2")
    assert "error" not in page.ask("send", text="Look", images=["p1", "p2"])
    [turn] = page.turns(1)
    assert agent.requests[0].body["images"] == [url_of(large), url_of(b"GIF89a\1\0\1\0", "image/gif")]
    shown = [
        {"name": "a shot.png", "about": "PNG, 1.0 MB", "url": thumbnail},
        {"name": "small.gif", "about": "GIF, 1 KB", "url": url_of(b"GIF89a\1\0\1\0", "image/gif")},
    ]
    assert turn["images"] == page.of("begin")[0]["turn"]["images"] == shown
    page.ask("again", key="t1")
    assert page.turns(2)[1]["images"] == shown
    page.ask("edit", key="t1", text="Look again")
    page.wait(lambda: len(agent.requests) == 3)
    assert agent.requests[2].body["images"] == agent.requests[0].body["images"]


def test_a_message_that_waits_shows_its_images_and_can_be_taken_back(
    panel: ChatPanel, page: Wire, release: threading.Event, agent: DemoAgent
) -> None:
    """The page gets the ids with which it can send them again; they replace the images of the panel."""
    panel.fields["images"] = ["https://example.com/always.png"]
    page.send("first")
    page.wait(lambda: panel.session.turns and panel.session.turns[0].reply.text)
    add(page, "one.png", png())
    page.ask("send", text="second", images=["p1"], cid="c2")
    [waiting] = page.wait(lambda: [each for each in page.queue() if each["cid"] == "c2"])
    assert waiting["pictures"] == ["p1"] and waiting["images"][0]["name"] == "one.png"
    assert "error" not in page.ask("unqueue", which="c2")
    assert "error" not in page.ask("send", text="second again", images=["p1"])
    release.set()
    page.turns(2)
    sent = [request.body["images"] for request in agent.requests]
    assert sent == [["https://example.com/always.png"], [url_of(png())]]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("drawing.svg", b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>"),
        ("fake.png", b"<script>alert(1)</script>"),
        ("<img src=x onerror=alert(1)>.png", b"\x89PNG"),
        ("empty.png", b""),
        ("notes.pdf", b"%PDF-1.7"),
    ],
)
def test_a_file_is_known_by_its_content(
    name: str, data: bytes, panel: ChatPanel, page: Wire, agent: DemoAgent
) -> None:
    """Whatever its name says; what is not an image is refused in one line and cannot be sent."""
    assert add(page, name, data)["error"] == (
        f"{name!r} is not a PNG, JPEG, GIF, WebP or BMP image. It was not added."
    )
    assert "does not have an image any more" in page.ask("send", text="Look", images=["p1"])["error"]
    assert not agent.requests and panel.session.turns == []


def test_images_beyond_the_limits_are_refused(page: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too large, too many, of another page, or of the wrong type."""
    monkeypatch.setattr(pictures, "MAX_IMAGE_BYTES", 2_000_000)
    assert add(page, "big.png", png(noise=b"x" * 2_100_000))["error"] == (
        "'big.png' has 2.1 MB; an image may have 2.0 MB. It was not added."
    )
    assert MAX_IMAGE_BYTES == 10_000_000
    wrong: list[Any] = [["p1"] * 11, "p1", {"p1": 1}, [3], ["p1"], None]
    for images in wrong:
        assert page.ask("send", text="Look", images=images)["error"]
    assert page.queue() == []


def test_old_images_are_forgotten(page: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """A panel keeps so many images, and so many bytes of them."""
    monkeypatch.setattr(pictures, "_MAX_KEPT", 2)
    for number in range(3):
        add(page, f"{number}.png", png(number + 1), f"p{number}")
    assert "add it again" in page.ask("send", text="Look", images=["p0"])["error"]
    monkeypatch.setattr(pictures, "_MAX_KEPT_CHARS", 9_500)
    add(page, "large.png", png(noise=b"x" * 7_000), "p3")
    assert "add it again" in page.ask("send", text="Look", images=["p2"])["error"]
    assert "error" not in page.ask("send", text="Look", images=["p3"])


def test_a_part_whose_buffer_is_lost_is_sent_as_text(page: Wire, agent: DemoAgent) -> None:
    """Some front ends drop the buffers of messages: the kernel asks for the part again."""
    data = png(7)
    sent: dict[str, Any] = {"which": "u", "part": 0, "parts": 1, "bytes": len(data)}
    assert page.ask("upload", **sent)["as_text"] is True
    assert page.ask("upload", **sent, buffers=[data[:-1]])["as_text"] is True
    assert "as_text" not in page.ask("upload", **sent, base64=base64.b64encode(data).decode())
    assert "error" not in page.ask("image", which="u", id="p1", name="a.png", thumbnail="")
    page.ask("send", text="Look", images=["p1"])
    page.turns(1)
    assert agent.requests[0].body["images"] == [url_of(data)]
    assert page.ask("upload", **sent, base64="no base64")["error"]


def test_an_upload_is_whole_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts come in order and once; a file may begin again; one that was given up makes room."""
    files = Uploads()
    files.add("a", 0, 3, b"1")
    files.add("b", 0, 1, b"")
    wrong: list[tuple[Any, Any]] = [(2, 3), (0.5, 3), (1, 2), (1, None), ("1", 3), (-1, 3)]
    for part, parts in wrong:
        with pytest.raises(errors.UsageError, match="lost on its way"):
            files.add("a", part, parts, b"x")
    with pytest.raises(errors.UsageError, match="lost on its way"):
        files.take("a")
    files.add("a", 0, 3, b"1")
    files.add("a", 0, 2, b"one ")
    files.add("a", 1, 2, b"two")
    assert (files.take("a"), files.take("b")) == (b"one two", b"")
    monkeypatch.setattr(uploads, "MAX_BYTES", 5)
    files.add("given up", 0, 2, b"1234")
    files.add("c", 0, 2, b"56")
    with pytest.raises(errors.UsageError, match="lost on its way"):
        files.take("given up")
    with pytest.raises(errors.UsageError, match="more than"):
        files.add("c", 1, 2, b"7890")
    with pytest.raises(errors.UsageError, match="lost on its way"):
        files.add("c", 1, 2, b"7")


@pytest.mark.parametrize(
    ("image", "name"),
    [
        ("https://example.com/<b>a.png", "https://example.com/<b>a.png"),
        ("javascript:alert(1)", "javascript:alert(1)"),
        ("data:text/html;base64,PHNjcmlwdD4=", "data:text/html;base64,PHNjcmlwdD4="),
        ("data:image/svg+xml;base64,PHN2Zy8+", "data:image/svg+xml;base64,PHN2Zy8+"),
        ("data:image/png;base64,PHN2Zy8+", "image"),
        ("data:image/png;base64,not base64!", "image"),
        ("data:image/png,x", "data:image/png,x"),
        (url_of(b"BM" + b"\0" * 12 + b"\x28\0\0\0", "image/bmp"), "image"),
        (5, ""),
        (None, ""),
    ],
)
def test_only_checked_images_have_a_url_in_the_page(image: Any, name: str) -> None:
    """Addresses, other types and damaged ones are named only; a wrong type is replaced by the real one."""
    [view] = image_views([image])
    assert view["name"] == name and view["url"] == ""  # type: ignore[index,call-overload]
    assert safe_url(url_of(png(), "text/html")) == url_of(png())
    assert image_views({"a": 1}) == image_views(None) == image_views("https://example.com") == []


def test_images_take_little_room_in_messages_and_copies(panel: ChatPanel, page: Wire, client: Any) -> None:
    """Large ones are named only, many share a bound, and the static copy only counts them."""
    big, small = url_of(png(noise=b"\0" * MAX_SHOWN_CHARS)), url_of(png(noise=b"\1" * 30_000))
    panel.session.ask(client, "Look", images=[big, *[small] * 30])
    [view] = page.turns(1)
    assert view["images"][0]["url"] == ""
    assert sum(len(each["url"]) for each in view["images"]) <= MAX_TURN_CHARS
    assert view["images"][1]["url"] == small and view["images"][-1]["url"] == ""
    turn = panel.session.turns[0]
    assert len(json.dumps(view)) < MAX_TURN_CHARS + 10_000
    html = static_html(panel.session, [(turn, view)], "now")
    assert "31 images" in html and "base64" not in html and len(html) < MAX_STATIC_BYTES


def test_a_figure_is_drawn_when_it_is_given_to_ask(panel: ChatPanel, agent: DemoAgent) -> None:
    """It may change before the message is sent; what is not an image is refused at once."""
    panel.ask("Look", images=[png(), memoryview(png(2))]).result(10)
    assert agent.requests[0].body["images"] == [url_of(png()), url_of(png(2))]
    with pytest.raises(errors.InvalidRequest, match=r"images\[0\] is not an image"):
        panel.ask("Look", images=[b"<svg/>"])
    assert len(panel.session.turns) == 1
