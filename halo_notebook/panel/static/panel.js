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
import { element } from "./dom.js";
import { Frame } from "./frame.js";
import { Header } from "./header.js";
import { Store } from "./store.js";
import { freshId } from "./text.js";
import { Transcript } from "./transcript.js";

class Panel extends Frame {
  constructor(store, model, el) {
    super(store, model);
    this.store = store;
    this.id = `halo-${freshId()}`;
    this.header = new Header(this);
    this.transcript = new Transcript(this);
    this.composer = new Composer(this);
    this.root.append(this.header.node, this.transcript.log, element("div", { class: "halo-over" }, this.transcript.jump),
      this.notices, this.composer.goneLine, this.composer.node, this.voice);
    el.append(this.root);
    this.showDraft();
    this.paint();
  }

  destroy() {
    this.transcript.destroy();
    super.destroy();
  }

  /** The panel has got a place on the page. */
  placed() {
    this.composer.fit();
    this.scheme.placed();
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
    this.transcript.arrive();
  }

  /** If what had the focus is gone, move it to the text box: the notebook would take the next keys as its own. */
  keepFocus(focused) {
    if (focused && !focused.checkVisibility()) this.composer.focus();
  }

  showDraft() {
    this.shownSession = this.store.session;
    this.composer.showDraft();
  }

  /** Send a message; `edits` is the key of the turn that it takes the place of. */
  sendText(text, { edits } = {}) {
    if (this.store.gone) return;
    this.transcript.following = true;
    this.store.send(text, edits);
    this.paint(); // the user expects to see the message at once
  }

  key(event) {
    if (event.isComposing || event.keyCode === 229) return; // keys of an input method
    if (this.root.querySelector(":popover-open") && event.key === "Escape") return; // the browser closes it
    if (event.target === this.composer.area) this.composer.key(event);
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
