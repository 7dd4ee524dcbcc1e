"""A panel in a page with the classes and variables of another front end; the test is its kernel.

The page knows no kernel: it notes what the panel sends, and `answer` and `tell` are what the panel gets.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

from halo_notebook.panel.assets import bundle, styles

from .pages import BrowserPage

ADDRESS = "http://page.example/notebooks/talk.ipynb"
PAGE = """
<!doctype html><html lang=en {html}><head><meta charset=utf-8><title>A page</title><style>{css}</style></head>
<body {body}><main><h1>A page</h1><div id=cell {cell}><div id=place></div></div></main></body></html>
"""
START = """
async ([esm, css, shadow, state]) => {
  const place = document.getElementById('place');
  const tree = shadow ? place.attachShadow({ mode: 'open' }) : document;
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  tree.adoptedStyleSheets = [...tree.adoptedStyleSheets, sheet];
  const listeners = {};
  window.sent = [];
  window.tell = message => listeners['msg:custom'].forEach(listener => listener(message));
  window.pressed = [];
  window.saved = [];
  window.addEventListener('keydown', event => {
    if (!event.composedPath().some(one => one.classList?.contains('halo-panel'))) pressed.push(event.key);
    if (event.key === 's') event.preventDefault();
  });
  // Both the key itself and what the panel makes of it.
  window.addEventListener('keydown', event => event.key === 's' && saved.push(event), true);
  const model = {
    get: name => state[name],
    set() {},
    on: (name, listener) => (listeners[name] ??= []).push(listener),
    off() {},
    send: (content, callbacks, buffers) => {
      sent.push({ ...content, buffer: buffers?.[0].byteLength });
      window.kernel?.(content).then(messages => messages.forEach(tell));
    },
    widget_manager: {},
  };
  const address = URL.createObjectURL(new Blob([esm], { type: 'text/javascript' }));
  const widget = (await import(address)).default();
  widget.initialize({ model });
  const el = document.createElement('div');
  (shadow ? tree : place).append(el);
  widget.render({ model, el });
}
"""
# A widget library's sheet has them for all pages, whatever their theme.
WIDGETS_CSS = """
:root { --jp-layout-color1: white; --jp-content-font-color1: rgba(0, 0, 0, 0.87); --jp-brand-color1: #1976d2;
  --jp-content-font-size1: 14px; --jp-mirror-editor-string-color: #ba2121; }
"""


@dataclass(frozen=True)
class Host:
    """A front end's page: the attributes of its elements, its style, and how the panel must look."""

    scheme: Literal["light", "dark"]
    html: str = ""
    body: str = ""
    cell: str = ""
    css: str = WIDGETS_CSS
    system: Literal["light", "dark"] = "light"
    shadow: bool = False


def vscode(kind: str, scheme: Literal["light", "dark"], **colours: str) -> Host:
    """A notebook in VS Code with the variables of a theme, and the white box that widgets get there."""
    variables = {
        "font-family": "system-ui, sans-serif",
        "font-size": "13px",
        "editor-font-family": "monospace",
        **{name.replace("_", "-"): colour for name, colour in colours.items()},
    }
    return Host(
        scheme,
        html='style="' + ";".join(f"--vscode-{name}:{value}" for name, value in variables.items()) + '"',
        body=f'class="{kind}" data-vscode-theme-kind="{kind.rsplit(maxsplit=1)[-1]}"',
        cell='class="cell-output-ipywidget-background"',
        css=WIDGETS_CSS + ".cell-output-ipywidget-background { background: white !important }",
        system="light" if scheme == "dark" else "dark",
    )


HOSTS = {
    "VS Code Light Modern": vscode(
        "vscode-light",
        "light",
        editor_background="#ffffff",
        editor_foreground="#3b3b3b",
        textLink_foreground="#005fb8",
        focusBorder="#005fb8",
        debugTokenExpression_string="#a31515",
        debugTokenExpression_number="#098658",
        debugTokenExpression_boolean="#0000ff",
    ),
    "VS Code Dark Modern": vscode(
        "vscode-dark",
        "dark",
        editor_background="#1f1f1f",
        editor_foreground="#cccccc",
        textLink_foreground="#4daafc",
        focusBorder="#0078d4",
        debugTokenExpression_string="#ce9178",
        debugTokenExpression_number="#b5cea8",
        debugTokenExpression_boolean="#4e94ce",
    ),
    "VS Code Dark High Contrast": vscode(
        "vscode-high-contrast",
        "dark",
        editor_background="#000000",
        editor_foreground="#ffffff",
        textLink_foreground="#21a6ff",
        contrastBorder="#6fc3df",
        contrastActiveBorder="#f38518",
        focusBorder="#f38518",
        debugTokenExpression_string="#f48771",
        debugTokenExpression_number="#89d185",
        debugTokenExpression_boolean="#75bdfe",
    ),
    "VS Code Light High Contrast": vscode(
        "vscode-high-contrast vscode-high-contrast-light",
        "light",
        editor_background="#ffffff",
        editor_foreground="#292929",
        textLink_foreground="#0f4a85",
        contrastBorder="#0f4a85",
        contrastActiveBorder="#006bbd",
        focusBorder="#006bbd",
        debugTokenExpression_string="#a31515",
        debugTokenExpression_number="#098658",
        debugTokenExpression_boolean="#0000ff",
    ),
    "Colab dark": Host("dark", html='theme="dark"'),
    "Colab light": Host("light", html='theme="light"', system="dark"),
    "marimo dark": Host(
        "dark",
        body='class="dark dark-theme"',
        css="body.dark { background: oklch(0.2 0.01 160) }",
        shadow=True,
    ),
    "marimo light": Host("light", body='class="light"', css="", shadow=True, system="dark"),
    "a light page on a dark system": Host("light", css="", system="dark"),
    "a page of a light scheme on a dark system": Host(
        "light", css=":root { color-scheme: light }", system="dark"
    ),
    "a page of a dark scheme on a light system": Host("dark", css=":root { color-scheme: dark }"),
    "a page of the system's scheme": Host("dark", css=":root { color-scheme: light dark }", system="dark"),
    "a dark page of widgets": Host(
        "dark", css=f"{WIDGETS_CSS} body {{ background: rgb(17 24 39); color: white }}"
    ),
    "a dark cell on a light page": Host("dark", cell='style="background: #222"'),
}


class HostPage(BrowserPage):
    """A browser with a panel in a page of one of the `HOSTS`."""

    def open(self, host: Host, *turns: Any) -> None:
        """Show the page, and the panel with these turns, as `turn_view` gives them."""
        self.load(host)
        self.start(host, *turns)

    def load(self, host: Host) -> None:
        """Show the page, without a widget."""
        html = PAGE.format(html=host.html, body=host.body, cell=host.cell, css=host.css)
        self.page.route("**/*", lambda route: route.fulfill(body=html, content_type="text/html"))
        self.page.emulate_media(color_scheme=host.system)
        self.page.goto(ADDRESS)

    def start(self, host: Host, *turns: Any) -> None:
        """Start the panel on the page, as after a reload."""
        state: dict[str, Any] = {"title": "Support", "height": "900px", "suggestions": []}
        self.show(bundle("chat/panel.js"), styles(), state, host)
        self.tell("snapshot", **self.snapshot(turns))

    def show(self, esm: str, css: str, state: dict[str, Any], host: Host) -> None:
        """Show a widget with that module, style sheet and state; `kernel(content)` in the page may answer."""
        self.page.evaluate(START, [esm, css, host.shadow, state])

    @staticmethod
    def snapshot(turns: Any = (), session: str = "docs") -> dict[str, Any]:
        """What a kernel tells first."""
        return {
            "epoch": 1,
            "seq": 1,
            "session": session,
            "turns": list(turns),
            "queue": [],
            "live": None,
            "sessions": [{"name": session, "turns": len(turns)}],
            "agent": "agent_demo",
            "source": "",
        }

    def tell(self, kind: str, **content: Any) -> None:
        """Tell the panel something, as the kernel does."""
        self.page.evaluate("message => tell(message)", {"kind": kind, **content})

    def sent(self, kind: str) -> list[Any]:
        """What the panel has asked for, of one kind."""
        asked: list[Any] = self.page.evaluate("sent")
        return [each for each in asked if each["kind"] == kind]

    def answer(self, kind: str) -> None:
        """Answer the last request of one kind."""
        self.tell("answer", cid=self.sent(kind)[-1]["cid"])

    def answer_all(self, kind: str, **content: Any) -> None:
        """Answer all requests of one kind."""
        for each in self.sent(kind):
            self.tell("answer", cid=each["cid"], **content)

    def pressed(self) -> list[str]:
        """The keys that have reached the page around the panel."""
        keys: list[str] = json.loads(self.page.evaluate("JSON.stringify(pressed)"))
        return keys
