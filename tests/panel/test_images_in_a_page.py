"""A person adds images to a message: by pasting, dropping or picking files."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from playwright.sync_api import expect

from ..harness.contrast import CONTRASTS
from ..harness.host_page import HOSTS, HostPage
from ..harness.images import HOSTILE_NAME, file, give
from ..harness.pages import ARTEFACTS
from ..harness.panel_page import PanelPage
from .test_other_pages import turns

pytestmark = pytest.mark.browser

# A picture with a content that the browser cannot make small.
LARGE = """
async () => {
  const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 400 });
  const paint = canvas.getContext('2d');
  for (let at = 0; at < 4000; at++) {
    paint.fillStyle = `hsl(${at * 47 % 360} 70% ${30 + at % 50}%)`;
    paint.fillRect(at * 137 % 640, at * 71 % 400, 30, 20);
  }
  return canvas.toDataURL('image/png').split(',')[1];
}
"""


class TestImages:
    """One page for all."""

    @pytest.fixture
    def panel(self, host_page: HostPage) -> PanelPage:
        """A new panel without a draft."""
        return self.fresh(host_page, "Colab light")

    @staticmethod
    def fresh(host_page: HostPage, host: str, *turns: Any) -> PanelPage:
        """A panel without a draft on a page of that kind."""
        host_page.open(HOSTS[host])
        host_page.page.evaluate("sessionStorage.clear()")
        host_page.page.reload()
        host_page.start(HOSTS[host], *turns)
        return PanelPage(host_page)

    @staticmethod
    def names(panel: PanelPage, count: int) -> list[str]:
        """The names of the images in the row, once there are so many."""
        images = panel.root.get_by_role("group", name="Images to send").get_by_role("img")
        panel.until(lambda: images.count() == count, f"{count} images")
        return [str(each.get_attribute("alt")) for each in images.all()]

    def test_images_are_pasted_dropped_and_picked(self, panel: PanelPage, host_page: HostPage) -> None:
        """Each has a preview with its name, and a button that removes it."""
        assert give(panel.box, "paste", file("pasted.png"))
        self.names(panel, 1)
        assert give(panel.log, "dragover", file("x.png"))
        expect(panel.root).to_have_class(re.compile("halo-dropping"))
        assert give(
            panel.log,
            "drop",
            file(
                "dropped.gif",
                b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\1\0\1\0\0\2\2D\1\0;",
                "image/gif",
            ),
        )
        self.names(panel, 2)
        expect(panel.root).not_to_have_class(re.compile("halo-dropping"))
        with host_page.page.expect_file_chooser() as chooser:
            panel.button("Add images").click()
        chooser.value.set_files([file("picked 1.png"), file("picked 2.png")])
        assert self.names(panel, 4) == ["pasted.png", "dropped.gif", "picked 1.png", "picked 2.png"]
        panel.button("Remove picked 1.png").press("Enter")
        assert self.names(panel, 3) == ["pasted.png", "dropped.gif", "picked 2.png"]
        expect(panel.box).to_be_focused()

    def test_text_is_pasted_as_text(self, panel: PanelPage) -> None:
        """Also from a spreadsheet, which puts a picture beside it; nothing is taken without a file."""
        assert not give(panel.box, "paste", file("cells.png"), text="a\tb")
        assert not give(panel.box, "paste", text="text")
        assert not give(panel.log, "dragover", text="text")
        give(panel.box, "paste", file("a picture.png"))
        assert self.names(panel, 1) == ["a picture.png"]

    def test_what_cannot_be_added_is_said_in_a_line(self, panel: PanelPage, host_page: HostPage) -> None:
        """A wrong type, a file that is not what its type says, too large, too many; hostile names as text."""
        files = [
            file("notes.pdf", b"%PDF-1.7", "application/pdf"),
            file(HOSTILE_NAME, b"<svg onload=alert(1) />", "image/svg+xml"),
            file("fake.png", b"<script>window.__halo_pwned=1</script>"),
        ]
        for each in files:
            give(panel.box, "drop", each)
        panel.until(lambda: panel.root.locator(".halo-notice").count() == 3, "three lines")
        told = panel.root.locator(".halo-notices").inner_text()
        assert "“notes.pdf” is not a PNG, JPEG, GIF, WebP or BMP image. It was not added." in told
        assert "\\u202egnp.png” is not a PNG" in told
        assert "“fake.png” could not be read as an image. It was not added." in told
        give(panel.box, "drop", file("big.png"), more=10_100_000)
        notices = panel.root.locator(".halo-notices")
        notices.get_by_text("“big.png” has 10.1 MB; an image may have 10.0 MB").wait_for()
        picker = panel.root.locator("input[type=file][multiple]")
        picker.set_input_files([file(f"{number}.png") for number in range(12)])
        notices.get_by_text("A message may have 10 images. “10.png” and 1 more was not added.").wait_for()
        assert len(self.names(panel, 10)) == 10

    def test_images_go_with_the_message(self, panel: PanelPage, host_page: HostPage) -> None:
        """Not without a text; the message waits until the kernel has them, and shows them."""
        large = host_page.page.evaluate(LARGE)
        give(panel.box, "paste", file(HOSTILE_NAME, base64.b64decode(large)))
        [name] = self.names(panel, 1)
        assert name.endswith("\\u202egnp.png")
        expect(panel.button("Send")).to_be_disabled()
        panel.root.get_by_text("Write a message to send with the image").wait_for()
        ARTEFACTS.mkdir(exist_ok=True)
        panel.root.screenshot(path=ARTEFACTS / "panel-image-added.png")
        panel.box.fill("What is this?")
        panel.box.press("Enter")
        panel.waiting.get_by_text("sending the image").wait_for()
        expect(panel.waiting.get_by_role("img")).to_have_attribute("alt", name)
        assert self.names(panel, 0) == []
        uploaded = host_page.sent("upload")[0]
        assert uploaded["buffer"] == len(base64.b64decode(large)) and host_page.sent("send") == []
        host_page.answer_all("upload")
        host_page.answer("image")
        [message] = host_page.sent("send")
        assert message["images"] == [host_page.sent("image")[0]["id"]]
        host_page.tell("answer", cid=message["cid"], error="The message is too long.")
        panel.button("Edit", panel.waiting).click()
        assert self.names(panel, 1) == [name]

    def test_images_are_there_after_a_reload(self, panel: PanelPage, host_page: HostPage) -> None:
        """The kernel has them still; what it had not yet got is gone."""
        give(panel.box, "paste", file("one.png"))
        self.names(panel, 1)
        host_page.answer_all("upload")
        host_page.answer("image")
        give(panel.box, "paste", file("two.png"))
        self.names(panel, 2)
        host_page.page.reload()
        host_page.start(HOSTS["Colab light"])
        assert self.names(PanelPage(host_page), 1) == ["one.png"]

    @pytest.mark.parametrize("host", ["Colab light", "VS Code Dark High Contrast"])
    def test_sent_images_are_shown_small(self, host_page: HostPage, host: str) -> None:
        """From data: URLs of images only; everything else is named as text, at 320 pixels, too."""
        large = f"data:image/png;base64,{host_page.page.evaluate(LARGE)}"
        images: list[dict[str, Any]] = [{"name": "wide.png", "about": "PNG, 1 KB", "url": large}]
        unsafe = ("https://example.com/a.png", "data:image/svg+xml;base64,PHN2Zy8+", "javascript:alert(1)")
        images += [{"name": HOSTILE_NAME + "x" * 80, "about": "PNG, 8.0 MB", "url": url} for url in unsafe]
        done = {**turns()[0], "images": images}
        panel = self.fresh(host_page, host, done)
        host_page.tell(
            "queue",
            epoch=1,
            seq=2,
            queue=[
                {
                    "cid": "q",
                    "text": "Waits",
                    "held": True,
                    "images": images[:1],
                    "pictures": ["p1"],
                    "error": "",
                }
            ],
        )
        panel.root.evaluate("root => { root.style.width = '320px'; }")
        shown = panel.root.get_by_role("img")
        shown.nth(1).wait_for()
        assert [each.get_attribute("src") for each in shown.all()] == [large, large]
        assert shown.first.evaluate("one => one.offsetWidth") <= 162
        expect(panel.turn(1).get_by_text(HOSTILE_NAME[:20])).to_have_count(3)
        host_page.painted()
        assert panel.root.evaluate("root => root.scrollWidth <= root.clientWidth")
        contrasts = host_page.page.evaluate(CONTRASTS, ".halo-panel")
        assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}
        panel.turn(1).scroll_into_view_if_needed()
        panel.log.evaluate("log => { log.scrollTop = 0; }")
        host_page.page.screenshot(path=ARTEFACTS / f"panel-images-{host.split(maxsplit=1)[0]}.png")
        panel.button("Edit message", panel.turn(1)).press("Enter")
        panel.turn(1).get_by_role("group", name="Edit message").get_by_role("img").wait_for()
        panel.page.keyboard.press("Escape")
        panel.button("Remove", panel.waiting).click()
        host_page.answer("unqueue")
        assert self.names(panel, 1) == ["wide.png"]
