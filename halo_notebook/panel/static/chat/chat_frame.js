/* The frame of a widget in which a person writes messages: the text box, its keys and the focus. */

import { Composer } from "./composer.js";
import { Frame } from "../shared/frame.js";
import { freshId } from "../shared/text.js";

/** A subclass puts `notices` and the parts of `composer` into `root`, and defines `paint()` and `sendText(text)`. */
export class ChatFrame extends Frame {
  constructor(store, model) {
    super(store, model);
    this.store = store;
    this.id = `halo-${freshId()}`;
    this.composer = new Composer(this);
  }

  /** The frame has got a place on the page. */
  placed() {
    this.composer.fit();
    this.scheme.placed();
  }

  /** If what had the focus is gone, move it to the text box: the notebook would take the next keys as its own. */
  keepFocus(focused) {
    if (focused && !focused.checkVisibility()) this.composer.focus();
  }

  showDraft() {
    this.composer.showDraft();
  }

  key(event) {
    if (event.isComposing || event.keyCode === 229) return; // keys of an input method
    if (this.root.querySelector(":popover-open") && event.key === "Escape") return; // the browser closes it
    if (event.target === this.composer.area) this.composer.key(event);
  }
}
