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

import { ChatFrame } from "./chat_frame.js";
import { element } from "../shared/dom.js";
import { frontEnd } from "../shared/frame.js";
import { Header } from "./header.js";
import { Store } from "./store.js";
import { Transcript } from "./transcript.js";

class Panel extends ChatFrame {
  constructor(store, model, el) {
    super(store, model);
    this.header = new Header(this);
    this.transcript = new Transcript(this);
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

  paint() {
    this.beginPaint("520px");
    const focused = this.focused();
    if (this.shownSession !== this.store.session) this.showDraft();
    this.header.paint();
    this.paintNotices();
    this.composer.paint();
    this.transcript.paint();
    this.keepFocus(focused);
    this.transcript.arrive();
  }

  showDraft() {
    this.shownSession = this.store.session;
    super.showDraft();
  }

  /** Send a message; `edits` is the key of the turn that it takes the place of. */
  sendText(text, { edits } = {}) {
    if (this.store.gone) return;
    this.transcript.following = true;
    this.store.send(text, edits);
    this.paint(); // the user expects to see the message at once
  }
}

export default frontEnd(Store, Panel);
