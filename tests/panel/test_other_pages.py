"""The panel in pages of VS Code, Colab, marimo and others: it looks as the page does, and leaves it its keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from halo_notebook.panel.views import turn_view
from halo_notebook.panel.state import frames_of
from halo_notebook.session import Turn
from halo_notebook.stream import Action, TextDelta

from ..harness.contrast import CONTRASTS
from ..harness.host_page import HOSTS, HostPage
from ..harness.pages import ARTEFACTS
from ..harness.panel_page import PanelPage

pytestmark = pytest.mark.browser

TEXT = """\
# A heading

Some *text* with `code`, a [link](https://example.com) and a table:

| a | b |
|---|---|
| 1 | 2 |

> A quotation.

```python
def greet(name: str) -> str:  # says hello
    return f"Hello {name}" * 2
```
"""
PAYLOAD = {"type": "ticket", "title": "Cannot log in", "number": 17, "urgent": True, "tags": ["login", "web"]}


def turns() -> list[Any]:
    """A turn with a bit of everything, and a failed one."""
    from ..display.test_timeline import reply_of

    good = Turn({"message": "Open a ticket, please"}, reply_of(TEXT, Action(PAYLOAD)))
    bad = Turn({"message": "And again"}, reply_of("This is"))
    bad.reply.status, bad.reply.error, bad.reply.may_have_arrived = "failed", "The connection broke off.", True
    return [turn_view(turn, number, frames_of(turn)) for number, turn in enumerate([good, bad], 1)]


@pytest.fixture
def host_page() -> Iterator[HostPage]:
    """A page in which no script throws."""
    with HostPage(size=(900, 1100)) as page:
        yield page
        assert page.page_errors == []


@pytest.mark.parametrize("name", HOSTS)
def test_the_panel_is_light_or_dark_as_its_page_is(host_page: HostPage, name: str) -> None:
    """Whatever the system prefers; and all text can be read."""
    host = HOSTS[name]
    host_page.open(host, *turns())
    panel = PanelPage(host_page)
    panel.turn(2).wait_for()
    panel.button("Good reply", panel.turn(1)).click()
    panel.box.fill("A draft")
    host_page.page.wait_for_timeout(300)
    ARTEFACTS.mkdir(exist_ok=True)
    host_page.page.screenshot(path=ARTEFACTS / f"panel-{name.lower().replace(' ', '-')}.png")
    text, ground = panel.root.evaluate(
        "root => [getComputedStyle(root).color, getComputedStyle(root).backgroundColor]"
    )
    print(name, text, ground)
    contrasts = host_page.page.evaluate(CONTRASTS, ".halo-panel")
    assert len(contrasts) > 10
    assert {each: round(ratio, 2) for each, ratio in contrasts.items() if ratio < 4.5} == {}
    assert panel.root.evaluate("root => getComputedStyle(root).colorScheme") in (host.scheme, "normal", "light dark")
