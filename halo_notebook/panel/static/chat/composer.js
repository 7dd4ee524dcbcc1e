/* The text box below the transcript: the draft, its keys, Send and Stop, and a notice when the kernel is gone. */

import { button, element, setLabel, setText } from "../shared/dom.js";
import { MAX_CHARS } from "../shared/edit.js";
import { Attachments } from "../shared/images.js";
import { GONE, NO_ANSWER } from "../shared/status.js";
import { count } from "../shared/text.js";

const COUNT_FROM = 9_000;

export class Composer {
  /** `panel` provides the store, the model, `root`, `copy` and `sendText`. */
  constructor(panel) {
    this.panel = panel;
    this.recalled = -1;
    this.area = element("textarea", {
      class: "halo-area", rows: "1", dir: "auto", "aria-label": "Message", "aria-describedby": `${panel.id}-count`,
      oninput: () => {
        this.recalled = -1;
        this.changed();
      },
    });
    this.sendButton = button("Send", () => this.send(), { icon: "send", kind: "halo-send" });
    this.stopButton = button("Stop", () => panel.store.stop(), { icon: "stop", kind: "halo-send halo-stop", hidden: true });
    this.attachments = new Attachments(panel);
    this.counter = element("span", { class: "halo-counter", id: `${panel.id}-count` });
    this.box = element("div", {
      class: "halo-box",
      onmousedown: (event) => {
        if (event.target !== this.box) return;
        event.preventDefault();
        this.focus();
      },
    }, this.attachments.addButton, this.area, this.sendButton, this.stopButton);
    this.hint = element("span", { class: "halo-hint", text: "Enter sends · Shift+Enter adds a line" });
    this.goneText = element("span");
    this.copyDraft = panel.copyButton("Copy draft", () => this.area.value, { kind: "halo-text halo-framed", labelled: true });
    this.goneLine = element("div", { class: "halo-gone", role: "note", hidden: true }, this.goneText, this.copyDraft);
    this.node = element("div", { class: "halo-composer" }, this.attachments.row, this.attachments.picker, this.box, element("div", { class: "halo-under halo-quiet" }, this.hint, this.counter));
  }

  focus() {
    this.area.focus({ preventScroll: true });
  }

  /** Show the draft of the current session. */
  showDraft() {
    const draft = this.panel.store.draft();
    if (this.area.value !== draft) this.area.value = draft;
    this.fit();
    this.paint();
  }

  /** Keep the changed text as the draft, which other views show too. */
  changed() {
    this.panel.store.setDraft(this.area.value, this.panel);
    this.fit();
    this.paint();
  }

  send() {
    const text = this.area.value;
    if (this.sendButton.disabled || !text.trim()) return;
    this.area.value = "";
    this.recalled = -1;
    this.fit();
    this.focus();
    this.panel.sendText(text);
  }

  /** Put a message back for editing if the box is empty; returns whether it was. */
  takeBack(text, pictures) {
    const { store } = this.panel;
    if (this.area.value.trim() || store.picturesOf(store.session).length) return false;
    this.area.value = text;
    store.setPictures(store.session, pictures.filter(({ state }) => state !== "refused").map((one) => ({ ...one, session: store.session })));
    this.changed();
    this.focus();
    return true;
  }

  key(event) {
    if (event.altKey || event.shiftKey) return;
    if (event.key === "Enter") {
      event.preventDefault();
      this.send();
    } else if (event.key === "Escape" && !this.area.value) { // by reflex, Esc also leaves a text
      event.preventDefault();
      this.panel.store.stop();
    } else if ((event.key === "ArrowUp" || event.key === "ArrowDown") && !event.ctrlKey && !event.metaKey) {
      this.recall(event);
    }
  }

  /** Up at the start of the text recalls older messages of the user, Down newer ones. */
  recall(event) {
    const { area } = this;
    const { store } = this.panel;
    if (area.readOnly || area.selectionStart !== area.selectionEnd) return;
    const own = [...store.turns, ...(store.live ? [store.live] : [])].map((turn) => turn.asked);
    const up = event.key === "ArrowUp";
    const at = area.selectionStart;
    if (up ? at !== 0 : this.recalled < 0 || (at !== 0 && at !== area.value.length)) return;
    const next = this.recalled + (up ? 1 : -1);
    if (next >= own.length) return;
    event.preventDefault();
    if (this.recalled < 0) this.beforeRecall = area.value;
    this.recalled = next;
    area.value = next < 0 ? this.beforeRecall : own[own.length - 1 - next];
    const caret = up ? 0 : area.value.length;
    area.setSelectionRange(caret, caret);
    this.changed();
  }

  paint() {
    const { store, model, root } = this.panel;
    const gone = Boolean(store.gone);
    const running = Boolean(store.live) && !gone;
    const text = this.area.value;
    const blank = !text.trim();
    const { length } = Array.from(text); // as the kernel counts: characters, not UTF-16 units
    const tooLong = length > MAX_CHARS;
    this.goneLine.hidden = !gone && !store.silent;
    setText(this.goneText, GONE[store.gone] ?? (store.silent ? NO_ANSWER : ""));
    this.copyDraft.hidden = blank;
    root.classList.toggle("halo-off", gone);
    this.area.readOnly = gone; // not disabled: the draft can still be read and copied
    const placeholder = gone ? "No messages can be sent" : model.get("placeholder") || "Message the agent";
    if (this.area.placeholder !== placeholder) this.area.placeholder = placeholder;
    const waits = running && Boolean(store.oneAtATime); // the next message waits in the text box
    const showStop = running && (blank || waits);
    this.sendButton.hidden = showStop;
    this.stopButton.hidden = !showStop;
    this.stopButton.disabled = store.stopping;
    this.sendButton.disabled = gone || blank || tooLong || waits;
    setLabel(this.sendButton, running ? "Send after this turn" : "Send");
    this.counter.classList.toggle("halo-too-long", tooLong);
    const counted = `${count(length)} of ${count(MAX_CHARS)} characters${tooLong ? ": too long to send" : ""}`;
    setText(this.counter, length < COUNT_FROM ? "" : counted);
    this.hint.hidden = length >= COUNT_FROM || gone;
    const alone = blank && store.picturesOf(store.session).length > 0;
    setText(this.hint, alone ? "Write a message to send with the image" : "Enter sends · Shift+Enter adds a line");
    this.attachments.paint();
  }

  fit() {
    const { area } = this;
    area.style.height = "auto";
    if (!area.scrollHeight) return;
    const most = Math.max(60, this.panel.root.clientHeight * 0.4);
    area.style.height = `${Math.min(area.scrollHeight, most)}px`;
    area.style.overflowY = area.scrollHeight > most ? "auto" : "hidden";
  }
}
