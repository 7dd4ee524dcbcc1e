/* The chat panel in the page, an anywidget front end: one view of a conversation.

The front end guarantees:

- Only HTML that the kernel has sanitised is set as innerHTML, one block at a time. Everything else, payloads
  included, is set as text. A message that does not follow the previous one is dropped, and the page asks for a
  snapshot, so parts of different replies are never combined.
- A typed message is visible at once and never lost: it is sent, or marked as not sent.
- An arriving reply does not disturb the reader: no scroll jumps, and open trees stay open.
- Each model has one store, with the conversation, the drafts and the open requests; its views show it. Nothing is
  global, and a closed view leaves no listeners behind.
- The page fetches nothing. It asks the kernel by message, never by changing state.
*/

import { Composer } from "./composer.js";
import { button, copyText, element, icon, setLabel } from "./dom.js";
import { Header } from "./header.js";
import { Scheme, focusedNear, isShortcut, pressOn } from "./host.js";
import { Store } from "./store.js";
import { freshId } from "./text.js";
import { Transcript } from "./transcript.js";

const NOT_FOR_THE_NOTEBOOK = "data-lm-suppress-shortcuts";

class Panel {
  constructor(store, model, el) {
    this.store = store;
    this.model = model;
    this.id = `halo-${freshId()}`;
    this.root = element("div", {
      class: "halo-panel", role: "region", tabindex: "-1", [NOT_FOR_THE_NOTEBOOK]: "true",
    });
    this.scheme = new Scheme(this.root);
    this.header = new Header(this);
    this.transcript = new Transcript(this);
    this.composer = new Composer(this);
    this.notices = element("div", { class: "halo-notices" });
    this.voice = element("div", { class: "halo-unseen", "aria-live": "polite" });
    this.root.append(this.header.node, this.transcript.log, element("div", { class: "halo-over" }, this.transcript.jump),
      this.notices, this.composer.goneLine, this.composer.node, this.voice);
    this.keepEvents();
    this.hideStatic();
    el.append(this.root);
    this.showDraft();
    this.paint();
  }

  destroy() {
    cancelAnimationFrame(this.frame);
    this.transcript.destroy();
    this.scheme.destroy();
    this.root.remove();
  }

  /** Keep keys and copying from the notebook: Shift+Enter must not run its cell. But Ctrl+S must save it. */
  keepEvents() {
    for (const name of ["keydown", "keyup", "keypress", "copy", "cut", "paste"]) {
      this.root.addEventListener(name, (event) => event.stopPropagation());
    }
    this.root.addEventListener("keydown", (event) => {
      if (isShortcut(event)) pressOn(this.root.parentElement, event);
      else this.key(event);
    });
    // Notebook 7 handles keys before they get here, for any focused element that is not a text field,
    // unless the element itself has this attribute.
    this.root.addEventListener("focusin", (event) => event.target.setAttribute(NOT_FOR_THE_NOTEBOOK, "true"));
  }

  /** Hide the cell's static copy of the transcript. */
  hideStatic() {
    const name = this.model.get("_static_class");
    if (!name) return;
    const target = `.${CSS.escape(name)}`;
    this.root.append(element("style", { text: `${target}{display:none}.jp-OutputArea-child:has(${target}){display:none}` }));
  }

  /** The panel has got a place on the page. */
  placed() {
    this.composer.fit();
    this.scheme.placed();
  }

  schedule() {
    this.frame ||= requestAnimationFrame(() => this.paint());
  }

  paint() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const focused = this.focused();
    if (this.shownSession !== this.store.session) this.showDraft();
    const height = this.model.get("height");
    this.root.style.height = CSS.supports("height", height) ? height : "520px";
    this.header.paint();
    this.paintNotices();
    this.composer.paint();
    this.transcript.paint();
    this.keepFocus(focused);
  }

  focused() {
    const focused = focusedNear(this.root);
    return this.root.contains(focused) ? focused : null;
  }

  /** If what had the focus is gone, move it to the text box: the notebook would take the next keys as its own. */
  keepFocus(focused) {
    if (focused && !focused.checkVisibility()) this.composer.focus();
  }

  paintNotices() {
    const { notices } = this.store;
    if (notices === this.shownNotices) return;
    this.shownNotices = notices;
    this.notices.replaceChildren(...notices.map(({ id, text }) =>
      element("div", { class: "halo-notice" }, element("span", { text, dir: "auto" }),
        button("Dismiss", () => this.store.dismiss(id), { icon: "close", kind: "halo-small" }))));
  }

  showDraft() {
    this.shownSession = this.store.session;
    this.composer.showDraft();
  }

  sendText(text) {
    if (this.store.gone) return;
    this.transcript.following = true;
    this.store.send(text);
    this.paint(); // the user expects to see the message at once
  }

  key(event) {
    if (event.isComposing || event.keyCode === 229) return; // keys of an input method
    if (this.root.querySelector(":popover-open") && event.key === "Escape") return; // the browser closes it
    if (event.target === this.composer.area) this.composer.key(event);
  }

  /** Create a button that copies what `text` returns. */
  copyButton(label, text, { icon: name = "copy", kind = "halo-small", ...props } = {}) {
    return button(label, (event) => this.copy(text(), event.currentTarget), { icon: name, kind, ...props });
  }

  async copy(text, target) {
    const done = await copyText(text);
    const said = done ? "Copied" : "Copying is not allowed here";
    this.say(said);
    if (target.dataset.copied) return;
    const label = target.getAttribute("aria-label");
    const drawn = target.firstChild;
    target.dataset.copied = "true";
    if (done) drawn.replaceWith(icon("done"));
    if (label) setLabel(target, said);
    setTimeout(() => {
      delete target.dataset.copied;
      target.firstChild.replaceWith(drawn);
      if (label) setLabel(target, label);
    }, 1_200);
  }

  say(text) {
    // A live region repeats a text only if it changes in between.
    this.voice.textContent = this.voice.textContent === text ? `${text}\u00a0` : text;
  }
}

export default () => {
  const store = new Store();
  return {
    initialize({ model }) {
      return store.start(model);
    },
    render({ model, el }) {
      const panel = new Panel(store, model, el);
      const hide = store.show(panel);
      return () => {
        hide();
        panel.destroy();
      };
    },
  };
};
