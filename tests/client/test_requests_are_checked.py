"""A request is checked against the API's limits before anything is sent."""

from __future__ import annotations

import base64
import math
import re
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import SafeUUID

import numpy as np
import pandas as pd
import pytest
from IPython.display import Image

from halo_notebook import ActionEvent, HaloClient, errors
from halo_notebook.client.request import MAX_MESSAGE_CHARS, context_entry, image_url

from .clients import token

if TYPE_CHECKING:
    from halo_notebook.demo import DemoAgent


def test_all_fields_are_sent_as_given(client: HaloClient, agent: DemoAgent) -> None:
    """Each documented field reaches the server under its own name."""
    fields: dict[str, Any] = {
        "user_id": "u_1",
        "user_token": token(None),
        "session_id": "sess_1_a",
        "company_id": "c_1",
        "mode": "voice",
        "context": {"plan": {"label": "Plan", "type": "status", "value": "pro"}, "seats": 3},
        "custom_fields": {"role": "admin"},
        "conversation_history": [{"role": "user", "content": "Hi"}, {"speaker": "agent", "text": "Hello"}],
        "behavior_context": "looked at /billing",
        "agent_id": "agent_x",
        "images": ["https://example.com/a.png"],
    }
    client.ask("Hello", **fields)
    sent = agent.requests[-1].body
    expected = fields | {"message": "Hello"}
    expected["context"] = {**fields["context"], "seats": {"label": "seats", "value": 3}}
    assert sent == expected
    assert agent.requests[-1].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("message", "fields", "words"),
    [
        ("", {}, "message is empty"),
        (" \n", {}, "message is empty"),
        ("x" * (MAX_MESSAGE_CHARS + 1), {}, "10,001 characters; the API takes 10,000"),
        ("Hi", {"mode": "chta"}, "did you mean 'chat'"),
        ("Hi", {"user_name": "u"}, "Unknown field 'user_name'"),
        ("Hi", {"sesion_id": "s"}, "did you mean 'session_id'"),
        ("Hi", {"user_id": 7}, "user_id must be a string"),
        ("Hi", {"session_id": ""}, "session_id is empty"),
        ("Hi", {"custom_fields": {"a": "x" * 10_000}}, "the API takes 10,000"),
        ("Hi", {"custom_fields": {"a": float("nan")}}, "cannot be sent as JSON"),
        ("Hi", {"custom_fields": [1]}, "must be a dict"),
        ("Hi", {"conversation_history": [{"role": "user", "content": ""}] * 51}, "51 items"),
        ("Hi", {"conversation_history": [{"role": "user"}]}, r"conversation_history\[0\] needs"),
        ("Hi", {"conversation_history": "Hi"}, "must be a list"),
        ("Hi", {"behavior_context": "x" * 5_001}, "5,001 characters"),
        ("Hi", {"context": {"a": {"label": 1, "value": 2}}}, "label and type as strings"),
        ("Hi", {"context": {"a": object()}}, "object has no JSON form"),
        ("Hi", {"images": ["file:///etc/passwd"]}, r"images\[0\] must be"),
        ("Hi", {"images": "https://example.com"}, r"images must be a list .*; put a single one in \[ \]"),
        ("Hi", {"images": b"\x89PNG\r\n\x1a\n"}, "images must be a list"),
        ("Hi", {"images": 3}, "images must be a list"),
        ("Hi", {"images": ["a.png"]}, r"images\[0\] must be .*; for a file, give a pathlib\.Path"),
        ("Hi", {"images": ["https://example.com/a", 5]}, r"images\[1\] is not an image"),
        ("Hi", {"images": [b"<svg/>"]}, r"images\[0\] is not an image \(PNG, JPEG, GIF, WebP or BMP\)"),
        ("Hi", {"images": [None]}, r"images\[0\] is not an image"),
        ("Hi", {"user_token": 3}, "string or a callable"),
    ],
)
def test_a_request_beyond_the_limits_is_not_sent(
    message: str, fields: dict[str, Any], words: str, client: HaloClient, agent: DemoAgent
) -> None:
    """Limits are checked before anything is sent, and the line says so."""
    with pytest.raises(errors.InvalidRequest, match=words) as caught:
        client.ask(message, **fields)
    assert "Nothing was sent" in str(caught.value)
    assert not agent.requests


def test_limits_are_met_exactly(client: HaloClient) -> None:
    """What is just within the limits is sent; None is as good as absent."""
    fields: dict[str, Any] = {
        "custom_fields": {"a": "x" * (10_000 - len('{"a":""}'))},
        "conversation_history": [{"role": "user", "content": "x"}] * 50,
        "behavior_context": "x" * 5_000,
        "mode": None,
    }
    assert client.ask("é" * MAX_MESSAGE_CHARS, **fields).status == "complete"


FRAME = pd.DataFrame({"n": [1, None], "day": pd.to_datetime(["2026-01-02", None])})
ROWS = [{"n": 1, "day": "2026-01-02T00:00:00"}, {"n": None, "day": None}]
PLANS = pd.DataFrame({"plan": ["a", "b", "a"], "x": [1, 2, 3]})
SMALL, MANY = 4.2e-12, 0.12345678901234567


def test_a_dataframe_becomes_a_list_of_its_rows() -> None:
    """On its own it is an entry with that type; in an entry it is the value."""
    assert context_entry("orders", FRAME) == {"label": "orders", "type": "list", "value": ROWS}
    assert context_entry("k", {"label": "Orders", "value": FRAME}) == {"label": "Orders", "value": ROWS}
    assert context_entry("s", pd.Series([1, 2])) == {"label": "s", "value": [1, 2]}


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (ActionEvent([1], 0.5, 3), {"payload": [1], "at_s": 0.5, "offset": 3}),
        (SafeUUID.safe, 0),
        (Decimal("1.10"), "1.10"),
        (date(2026, 1, 2), "2026-01-02"),
        (np.datetime64("2024-01-02T00:00:00.000000001"), "2024-01-02T00:00:00.000000001"),
        (np.array(["2024-01-02"], dtype="datetime64[ns]"), ["2024-01-02T00:00:00.000000000"]),
        (pd.NaT, None),
        (np.bool_(True), True),
        ({1: "a", (1, 2): "b"}, {"1": "a", "(1, 2)": "b"}),
        (range(3), [0, 1, 2]),
        (Path("a"), "a"),
        (FRAME["n"].max(), 1),
        # A p-value is not rounded to zero, and neither is a total.
        (
            pd.DataFrame({"p": [SMALL, MANY], "i": [2**60, 1]}),
            [{"p": SMALL, "i": 2**60}, {"p": MANY, "i": 1}],
        ),
        (np.array([[SMALL], [MANY]]), [[SMALL], [MANY]]),
        (pd.Series([SMALL], index=["a"]), {"a": SMALL}),
        # A group's name is a column of its row; bare row numbers are left out.
        (PLANS.groupby("plan").sum(), [{"plan": "a", "x": 4}, {"plan": "b", "x": 2}]),
        (PLANS[PLANS.x > 1], [{"plan": "b", "x": 2}, {"plan": "a", "x": 3}]),
        (PLANS.x.describe().to_frame()[:1], [{"index": "count", "x": 3.0}]),
    ],
    ids=str,
)
def test_values_of_a_notebook_have_a_json_form(value: Any, plain: Any) -> None:
    """What people keep in notebooks is sent as what it says."""
    assert context_entry("k", value)["value"] == plain


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({1: 2, "1": 3}, "two of its keys are '1'"),
        (pd.DataFrame({"a": [math.inf]}), "'a': inf has no JSON form"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "column names are not unique"),
        (pd.DataFrame({"a": [object()]}), "object has no JSON form"),
        (b"bytes", "bytes has no JSON form"),
    ],
    ids=["keys", "infinity", "columns", "objects", "bytes"],
)
def test_what_would_be_lost_is_refused(value: Any, words: str) -> None:
    """Nothing is dropped or changed in silence."""
    with pytest.raises(errors.InvalidRequest, match=words):
        context_entry("k", value)


PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 8


@pytest.mark.parametrize("start", [b"", b"a text", b"GIF8 is an old format"])
def test_a_file_that_is_not_an_image_is_not_read(start: bytes, tmp_path: Path) -> None:
    """It may be larger than the memory; only one that begins as an image is read to its end."""
    large = tmp_path / "video.png"
    with large.open("wb") as file:
        file.write(start)
        file.truncate(2**36)
    with pytest.raises(errors.InvalidRequest, match="is not an image"):
        image_url(large)


def test_images_become_data_urls(tmp_path: Any) -> None:
    """Files, bytes and what a notebook shows as a PNG; no other file is sent by mistake."""
    picture, key = tmp_path / "a.png", tmp_path / "id_rsa"
    picture.write_bytes(PNG)
    key.write_text("private")
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    large = tmp_path / "large.png"
    large.write_bytes(PNG * 1000)
    assert image_url(large) == image_url(PNG * 1000)
    assert image_url(picture) == image_url(PNG) == image_url(Image(PNG)) == url
    assert image_url("https://example.com/a") == "https://example.com/a"
    assert image_url(b"\xff\xd8\xff\xe0").startswith("data:image/jpeg")
    assert image_url(b"RIFF0000WEBPVP8 ").startswith("data:image/webp")
    for value in (key, b"private", object(), "not a url"):
        with pytest.raises(errors.InvalidRequest, match="is not an image"):
            image_url(value)
    with pytest.raises(errors.InvalidRequest, match="could not be read"):
        image_url(tmp_path / "absent.png")


class Picture:
    """As PIL's images are: a notebook shows it as a PNG."""

    def __init__(self, png: object = PNG) -> None:
        self.png = png

    def _repr_png_(self) -> object:
        if isinstance(self.png, Exception):
            raise self.png
        return self.png


class PILImage:
    """As PIL's images are: those of some modes cannot be saved as a PNG."""

    def __init__(self, mode: str, size: tuple[int, int] = (3, 2)) -> None:
        self.mode = mode
        self.size = size

    def convert(self, mode: str) -> PILImage:
        return PILImage(mode, self.size)

    def _repr_png_(self) -> bytes | None:
        is_png = self.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") and 0 not in self.size
        return PNG + self.mode.encode() if is_png else None


PILImage.__module__, PILImage.__name__ = "PIL.Image", "Image"


class Figure:
    """As matplotlib's figures are: drawn when it is saved."""

    def __init__(self, png: bytes = PNG) -> None:
        self.png = png

    def savefig(self, file: Any, format: str) -> None:  # noqa: A002  # as matplotlib calls it
        file.write(self.png)


class Axes:
    """As matplotlib's, which a plot of pandas gives: they know their figure."""

    figure = Figure()


def test_images_of_a_request_are_what_a_magic_takes(tmp_path: Path, client: HaloClient) -> None:
    """PIL images, figures, bytes and paths, beside URLs; the request has only URLs."""
    (tmp_path / "a.png").write_bytes(PNG)
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    given = [
        Picture(),
        Figure(),
        Axes(),
        PNG,
        memoryview(PNG),
        tmp_path / "a.png",
        Image(PNG),
        "https://example.com/a",
    ]
    body = client.prepare("Hi", images=given).body
    assert body["images"] == [*[url] * 7, "https://example.com/a"]
    assert client.prepare("Hi", images=()).body["images"] == []
    assert client.prepare("Hi", images=None).body.get("images") is None
    bad = {
        "could not be drawn as a PNG (ValueError: not now)": ValueError("not\nnow"),
        "is not an image": None,
    }
    for words, png in bad.items():
        with pytest.raises(errors.InvalidRequest, match=re.escape(f"images[1] {words}")):
            client.prepare("Hi", images=[PNG, Picture(png)])


@pytest.mark.parametrize(
    ("mode", "sent"),
    [
        *[(mode, mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")],
        *[(mode, "RGB") for mode in ("CMYK", "LAB", "YCbCr", "HSV", "RGBX")],
        *[("PA", "RGBA"), ("RGBa", "RGBA"), ("La", "LA")],
    ],
)
def test_a_pil_image_is_sent_in_a_mode_of_png(mode: str, sent: str, client: HaloClient) -> None:
    """It is converted where it looks the same in such a mode."""
    url = "data:image/png;base64," + base64.b64encode(PNG + sent.encode()).decode()
    assert client.prepare("Hi", images=[PILImage(mode)]).body["images"] == [url]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (
            PILImage("F"),
            "images[0] has the mode 'F' of PIL, which cannot be drawn as a PNG. Nothing was sent; ",
        ),
        (PILImage("I"), "scale its values to 0…255 and give image.convert('RGB')."),
        (PILImage("I;16N"), "images[0] has the mode 'I;16N'"),
        (PILImage("RGB", (0, 0)), "images[0] has no pixels (0 × 0). Nothing was sent; give another image."),
        (PILImage("CMYK", (0, 5)), "has no pixels (0 × 5)"),
        (PILImage("F", (7, 0)), "has no pixels (7 × 0)"),
    ],
)
def test_a_pil_image_that_is_no_picture_is_named(image: PILImage, words: str, client: HaloClient) -> None:
    """By its mode or size, with what to do."""
    with pytest.raises(errors.InvalidRequest, match=re.escape(words)):
        client.prepare("Hi", images=[image])


@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (b"GIF87a\1\0\1\0", "gif"),
        (b"GIF89a\1\0\1\0", "gif"),
        (b"BM\x3a\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0", "bmp"),
        (b"RIFF\n\0\0\0WEBPVP8L", "webp"),
        (b"GIF8 is an old format", None),
        (b"GIF88a", None),
        (b"BMW sells cars, and this is a text about them", None),
        (b"RIFF\x24\0\0\0WAVEfmt ", None),
        (b"RIFF....WEBP is a format", None),
        (b"\x89PNG\n\x1a\n", None),
        (b"%PDF-1.7", None),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", None),
        (b"", None),
    ],
)
def test_an_image_is_known_by_its_whole_signature(start: bytes, kind: str | None) -> None:
    """A text that begins with a part of one is not sent."""
    if kind is None:
        with pytest.raises(errors.InvalidRequest, match="is not an image"):
            image_url(start)
    else:
        assert image_url(start).startswith(f"data:image/{kind};base64,")
