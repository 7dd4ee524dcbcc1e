/* Replies that a person labels, one after the other, without what tells who answered or what checks found. */

import { ConversationView } from "../shared/conversation.js";
import { button, element, setText } from "../shared/dom.js";
import { LABEL_WORDS } from "./label_queue.js";
import { count, visible } from "../shared/text.js";

const LABEL_KEYS = { p: "pass", f: "fail", u: "unsure" };

/** Shows a queue; `frame` is the widget's Frame, and `close` leaves it, if there is something else to show. */
export class LabelPane {
  constructor(frame, queue, close = null) {
    this.frame = frame;
    this.queue = queue;
    this.progress = element("div", { class: "halo-progress-words" });
    this.facts = element("div", { class: "halo-metadata" });
    this.turns = element("div", { class: "halo-pane", role: "region", tabindex: "0", "aria-label": "Reply to label" });
    this.question = element("p", { class: "halo-question" });
    const choose = (label) => button(`${LABEL_WORDS[label]} (${label[0].toUpperCase()})`, () => this.choose(label), {
      kind: `halo-framed halo-label halo-label-${label}`, "aria-keyshortcuts": label[0].toUpperCase(), "aria-pressed": "false",
    });
    this.buttons = Object.fromEntries(Object.keys(LABEL_WORDS).map((label) => [label, choose(label)]));
    this.back = button("Back (B)", () => this.goBack(), { kind: "halo-framed halo-text", "aria-keyshortcuts": "B" });
    this.note = element("textarea", { class: "halo-area halo-label-note", rows: "2", maxlength: "10000", "aria-label": "Note (N)", placeholder: "Note (N): why, in a few words", "aria-keyshortcuts": "N" });
    this.bar = element("div", { class: "halo-label-bar", role: "group", "aria-label": "Label" },
      this.question, element("div", { class: "halo-label-buttons" }, ...Object.values(this.buttons), this.back), this.note);
    this.end = element("p", { class: "halo-label-end", tabindex: "-1" });
    this.kept = element("p", { class: "halo-quiet halo-label-kept" });
    const leave = close && button("All conversations", close, { kind: "halo-text halo-framed" });
    this.node = element("div", { class: "halo-labelling" }, element("div", { class: "halo-label-head" }, leave, this.progress, this.facts, this.kept), this.turns, this.end, this.bar);
  }

  paint() {
    const { item, busy } = this.queue;
    const ended = item?.at === null;
    setText(this.progress, item ? `${count(item.done)} of ${count(item.total)} labelled` : "…");
    setText(this.kept, item && !item.is_kept ? "The labels are deleted with this result. To keep them, give evaluate a path." : "");
    for (const node of [this.turns, this.question, this.note, this.buttons.pass, this.buttons.fail, this.buttons.unsure]) node.hidden = !item || ended;
    this.end.hidden = !ended;
    setText(this.end, ended ? `All ${count(item.total)} replies are labelled. result.agreement(…) shows how well a check agrees.` : "");
    this.node.setAttribute("aria-busy", String(busy));
    const off = busy || Boolean(this.frame.link.gone);
    for (const node of Object.values(this.buttons)) node.setAttribute("aria-disabled", String(off));
    this.back.setAttribute("aria-disabled", String(off || !this.queue.before.length));
    if (item && item !== this.shown) this.show(item, ended);
  }

  show(item, ended) {
    const hadFocus = this.entering || this.node.contains(this.frame.focused());
    this.entering = false;
    this.shown = item;
    this.note.value = ended ? "" : item.note;
    for (const [label, node] of Object.entries(this.buttons)) node.setAttribute("aria-pressed", String(item.label === label));
    this.facts.replaceChildren();
    this.turns.replaceChildren();
    if (ended) {
      if (hadFocus) this.end.focus({ preventScroll: true });
      return;
    }
    setText(this.question, item.about === "conversation" ? "Is the conversation good?" : item.turns.length > 1 ? "Is the last reply good?" : "Is the reply good?");
    this.facts.append(...item.tags.map((tag) => element("span", { class: "halo-badge", dir: "auto", text: visible(tag) })),
      ...item.metadata.map(([name, value]) => element("span", { class: "halo-badge", dir: "auto", text: `${visible(name)}: ${visible(value)}` })));
    const conversation = new ConversationView(this.frame, () => {});
    conversation.show(item);
    this.turns.append(conversation.node);
    const last = conversation.turns.lastElementChild;
    this.turns.scrollTop = item.turns.length > 1 ? last.offsetTop - this.turns.offsetTop : 0;
    if (hadFocus) this.turns.focus({ preventScroll: true });
  }

  /** Take the focus when the next reply comes. */
  enter() {
    this.entering = true;
  }

  choose(label) {
    if (this.idle && this.queue.item.at !== null) this.queue.label(label, this.note.value);
  }

  goBack() {
    if (this.idle) this.queue.back();
  }

  /** Whether a label would be for the reply that the person sees, and the kernel can take it. */
  get idle() {
    const { item, busy } = this.queue;
    return item && item === this.shown && !busy && !this.frame.link.gone;
  }

  /** A key that was pressed in the widget; returns whether it means something here. */
  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target === this.note) {
      if (event.key === "Escape") this.turns.focus({ preventScroll: true });
      return;
    }
    if (event.target.matches("input, textarea, select, [contenteditable]")) return;
    const key = event.key.toLowerCase();
    if (LABEL_KEYS[key]) this.choose(LABEL_KEYS[key]);
    else if (key === "b") this.goBack();
    else if (key === "n" && !this.note.hidden) this.note.focus();
    else return;
    event.preventDefault(); // N is not for the note's text
  }
}
