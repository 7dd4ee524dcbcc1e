/* The entries of the transcript: a turn with its actions, and a message that waits to become one. */

import { arrange, button, element, icon, setText } from "./dom.js";
import { EditForm, Versions } from "./edit.js";
import { shownImage } from "./images.js";
import { KeepForm } from "./keep.js";
import { menu } from "./menu.js";
import { progressOf } from "./status.js";
import { clock, seconds, visible } from "./text.js";
import { JsonTree } from "./tree.js";

const FOLDED_CHARS = 1_500;
const FOLDED_LINES = 14;

const sameImages = (some, others) => some.length === others?.length && some.every(({ name, url }, at) => name === others[at].name && url === others[at].url);

/** The user's message with its images; a long one is folded. */
class Bubble {
  constructor(panel) {
    this.panel = panel;
    this.text = null;
    this.body = element("div", { class: "halo-bubble-text", dir: "auto" });
    this.images = element("div", { class: "halo-images", hidden: true });
    this.more = button("Show all", () => this.toggle(), { kind: "halo-link", hidden: true });
    this.tools = element("div", { class: "halo-tools" },
      panel.copyButton("Copy message", () => this.text));
    this.note = element("div", { class: "halo-bubble-note halo-quiet", hidden: true });
    this.line = element("div", { class: "halo-bubble-line" }, this.tools, element("div", { class: "halo-bubble" }, this.images, this.body, this.more));
    this.foot = element("div", { class: "halo-bubble-foot" }, this.note);
    this.node = element("div", { class: "halo-asked" }, this.line, this.foot);
  }

  update(text, images = []) {
    if (!sameImages(images, this.shownImages)) {
      this.shownImages = images;
      this.images.replaceChildren(...images.map(shownImage));
      this.images.hidden = !images.length;
    }
    if (text === this.text) return;
    this.text = text;
    setText(this.body, text);
    this.more.hidden = text.length <= FOLDED_CHARS && text.split("\n", FOLDED_LINES + 1).length <= FOLDED_LINES;
    this.body.classList.toggle("halo-folded", !this.more.hidden);
  }

  toggle() {
    const folded = this.body.classList.toggle("halo-folded");
    setText(this.more.firstChild, folded ? "Show all" : "Show less");
  }

  /** Show a line below the message: its state, and buttons for what can be done. */
  say(text, ...buttons) {
    const said = [text, ...buttons.map((one) => one.textContent)].join("|");
    if (said === this.said) return;
    this.said = said;
    this.note.hidden = !text;
    this.note.replaceChildren(element("span", { text }), ...buttons);
  }
}

/** A message that is not yet a turn. `tell` shows below it what it waits for. */
export class Waiting {
  constructor(panel, tell) {
    this.tell = tell;
    this.bubble = new Bubble(panel);
    this.node = element("article", { class: "halo-turn halo-waiting", "aria-label": "Your message, not yet sent" }, this.bubble.node);
  }

  update(item, { gone }) {
    this.bubble.update(item.text, item.images ?? item.pictures);
    const lost = Boolean(gone) || item.state === "unsent";
    this.node.classList.toggle("halo-unsent", lost);
    if (gone) this.bubble.say("not sent");
    else this.tell(item, (text, ...buttons) => this.bubble.say(text, ...buttons));
  }
}

/** A block of a reply. Its HTML is set once when it is final, and with each frame while it is open. */
class Block {
  constructor() {
    this.node = element("div", { class: "halo-block", dir: "auto" });
    this.html = "";
    this.finished = false;
  }

  update(html, finished, panel) {
    if (html === this.html && finished === this.finished) return;
    if (html !== this.html || this.finished) {
      this.node.innerHTML = html; // eslint-disable-line no-restricted-properties -- the kernel has sanitised it
    }
    this.html = html;
    this.finished = finished;
    if (finished) this.furnish(panel);
  }

  /** Add a Copy button to code, and let wide code and tables scroll sideways. */
  furnish(panel) {
    for (const pre of this.node.querySelectorAll("pre")) {
      const copy = panel.copyButton("Copy code", () => pre.textContent);
      const frame = element("div", { class: "halo-code" });
      pre.replaceWith(frame);
      frame.append(pre, copy);
      panel.widths.watch(pre, "Code");
    }
    for (const table of this.node.querySelectorAll("table")) {
      const frame = element("div", { class: "halo-wide" });
      table.replaceWith(frame);
      frame.append(table);
      panel.widths.watch(frame, "Table");
    }
  }
}

/** One turn: the message, the reply with its actions in place, and a footer with facts and buttons. */
export class TurnView {
  /** `panel` provides `copyButton` and `widths`, and, unless the turn is only read (`readOnly`), what Panel has. */
  constructor(panel, { readOnly = false } = {}) {
    this.panel = panel;
    this.readOnly = readOnly;
    this.turn = null;
    this.seen = null;
    this.blocks = [];
    this.cards = new Map();
    this.bubble = new Bubble(panel);
    this.editButton = button("Edit message", () => this.edit(this.turn.asked), { icon: "edit", kind: "halo-small" });
    this.bubble.tools.prepend(this.editButton);
    this.versions = new Versions(panel);
    this.bubble.foot.append(this.versions.node);
    // These classes keep the page's MathJax from reading prices as formulas.
    this.reply = element("div", { class: "halo-reply mathjax_ignore tex2jax_ignore" });
    this.progress = element("div", { class: "halo-progress halo-quiet", hidden: true },
      element("span", { class: "halo-dots", "aria-hidden": "true" }, element("i"), element("i"), element("i")), element("span"));
    this.cut = element("p", { class: "halo-quiet halo-note", hidden: true });
    this.error = element("div", { class: "halo-error", dir: "auto", hidden: true });
    this.node = element("article", { class: "halo-turn" }, this.bubble.node, this.reply, this.progress, this.cut, this.error, this.footer());
  }

  footer() {
    this.time = element("time");
    this.facts = element("span");
    this.status = element("span", { class: "halo-badge halo-stopped", text: "stopped", hidden: true });
    const copy = this.panel.copyButton("Copy reply", () => this.turn.text);
    this.up = button("Good reply", () => this.rate("up"), { icon: "up", kind: "halo-small", "aria-pressed": "false" });
    this.down = button("Bad reply", () => this.rate("down"), { icon: "down", kind: "halo-small", "aria-pressed": "false" });
    this.againButton = button("Send again", () => this.turn.again !== "twice" && this.again(), { kind: "halo-text halo-framed", hidden: true });
    this.confirm = element("div", { class: "halo-popover halo-confirm", role: "group", "aria-label": "Send again?", popover: "auto" },
      element("p", { text: "The message may have arrived. Sending it again can make the agent act twice." }),
      button("Send again", () => this.again(), { kind: "halo-text halo-framed", autofocus: true }),
      button("Cancel", () => this.confirm.hidePopover(), { kind: "halo-text" }));
    this.note = element("input", { class: "halo-input", type: "text", maxlength: "2000", placeholder: "What was good or bad? (optional)", "aria-label": "Note on this reply", dir: "auto" });
    this.noteForm = element("form", { class: "halo-rate-note", hidden: true, onsubmit: (event) => this.saveNote(event), onkeydown: (event) => this.noteKey(event) },
      this.note, element("button", { type: "submit", class: "halo-button halo-text halo-framed", text: "Save" }),
      button("Close", () => this.closeNote(), { icon: "close", kind: "halo-small" }));
    const [more, choices] = menu("More for this turn", [icon("more")], "halo-small", () => this.choices());
    this.more = more;
    this.foot = element("footer", { class: "halo-foot halo-quiet", hidden: true },
      element("div", { class: "halo-foot-line" }, this.againButton, this.confirm, this.status,
        element("span", { class: "halo-facts" }, this.time, this.facts),
        element("span", { class: "halo-tools" }, copy, ...(this.readOnly ? [] : [this.up, this.down, more, choices]))),
      this.noteForm);
    return this.foot;
  }

  /** What can be done with the turn besides. */
  choices() {
    const off = Boolean(this.panel.store.gone);
    return [button("Keep as a test case", () => this.keep(), { kind: "halo-item", disabled: off })];
  }

  /** Show a text box in place of the message. */
  edit(text) {
    this.editing ??= new EditForm(this.panel, this.turn, () => this.endEdit());
    this.bubble.line.hidden = true;
    this.bubble.line.after(this.editing.node);
    this.editing.open(text);
  }

  endEdit() {
    this.editing.node.remove();
    this.bubble.line.hidden = false;
    this.editButton.focus({ preventScroll: true });
  }

  keep() {
    if (!this.keeping) { // few turns need the form
      this.keeping = new KeepForm(this.panel, () => this.more.focus({ preventScroll: true }));
      this.foot.append(this.keeping.node);
    }
    this.keeping.open(this.turn);
  }

  update(turn, flags) {
    const { store } = this.panel;
    const seen = `${flags.gone}|${flags.latest}|${flags.near}|${turn.status === "streaming" && progressOf(store)}|${JSON.stringify(store.versions?.[turn.number])}`;
    if (turn === this.turn && seen === this.seen) return;
    this.turn = turn;
    this.seen = seen;
    const live = turn.status === "streaming";
    this.bubble.update(turn.asked, turn.images);
    this.bubble.say(turn.start_note ?? "");
    this.editButton.hidden = live || Boolean(flags.gone) || this.readOnly || !store.versions; // where there are none, nothing can be edited
    this.versions.update(turn.number, flags.gone);
    this.node.setAttribute("aria-label", `Turn ${turn.number}`);
    this.node.classList.toggle("halo-latest-turn", flags.latest);
    // A class, because with :nth-last-child the browser would restyle all turns for each new one.
    this.node.classList.toggle("halo-far", !flags.near);
    this.showReply(turn);
    this.showProgress(turn, live, flags.gone);
    this.showFooter(turn, live, flags.gone);
  }

  showReply(turn) {
    let blocks = 0;
    const block = (html, finished) => {
      const shown = (this.blocks[blocks++] ??= new Block());
      shown.update(html, finished, this.panel);
      return shown.node;
    };
    const card = (action) => {
      if (!this.cards.has(action.id)) this.cards.set(action.id, actionCard(action, this.panel));
      return this.cards.get(action.id);
    };
    const wanted = turn.items.map((item) => (item.action ? card(item.action) : block(item.html, true)));
    if (turn.open) wanted.push(block(turn.open, false));
    wanted.push(...(turn.waiting ?? []).map(card));
    this.blocks.length = blocks;
    arrange(this.reply, wanted);
  }

  showProgress(turn, live, gone) {
    this.progress.hidden = !live || Boolean(gone);
    if (live) setText(this.progress.lastChild, progressOf(this.panel.store));
    const empty = turn.status === "complete" && !turn.items.length;
    const note = turn.cut || (empty ? "The reply is empty." : "");
    setText(this.cut, note);
    this.cut.hidden = !note;
    const error = live && gone ? "Interrupted: the kernel went away. The text received so far is kept." : turn.error;
    setText(this.error, error ?? "");
    this.error.hidden = !error;
    this.error.classList.toggle("halo-mild", turn.status === "stopped");
  }

  showFooter(turn, live, gone) {
    this.foot.hidden = live;
    if (live) return;
    const { short, full } = clock(turn.started_at);
    setText(this.time, short);
    this.time.title = full;
    this.time.setAttribute("datetime", turn.started_at);
    // The header names the demo agent; only the turn itself can say that it came from a recording.
    const facts = [turn.agent, (turn.source !== "demo agent" || !turn.agent) && turn.source,
      Number.isFinite(turn.first_text_s) && `first text ${seconds(turn.first_text_s)}`,
      Number.isFinite(turn.elapsed_s) && `total ${seconds(turn.elapsed_s)}`, ...(turn.words ?? [])].filter(Boolean);
    setText(this.facts, (short && facts.length ? " · " : "") + facts.join(" · "));
    this.status.hidden = turn.status !== "stopped";
    this.againButton.hidden = !turn.again;
    this.againButton.popoverTargetElement = turn.again === "twice" ? this.confirm : null;
    if (turn.again !== "twice") this.confirm.hidePopover();
    this.againButton.title = turn.again === "twice" ? "Sends the message a second time: the agent may act on it twice" : "The message did not arrive";
    const value = turn.rating?.value ?? "";
    this.up.setAttribute("aria-pressed", String(value === "up"));
    this.down.setAttribute("aria-pressed", String(value === "down"));
    if (this.noteForm.hidden) this.note.value = turn.rating?.note ?? ""; // else one is being written
    for (const node of this.foot.querySelectorAll(".halo-framed, [aria-pressed]")) node.disabled = Boolean(gone);
    this.foot.classList.toggle("halo-rated", Boolean(value));
  }

  rate(value) {
    const before = this.turn.rating ?? { value: "", note: "" };
    const next = before.value === value ? "" : value;
    this.noteForm.hidden = !next;
    this.note.value = "";
    this.panel.store.rate(this.turn, next, ""); // a note on the previous verdict does not belong to this one
    if (next) this.note.focus({ preventScroll: true });
  }

  saveNote(event) {
    event.preventDefault();
    this.panel.store.rate(this.turn, this.turn.rating?.value ?? "", this.note.value.trim());
    this.closeNote();
    this.panel.say("Note saved");
  }

  again() {
    this.panel.store.again(this.turn);
  }

  closeNote() {
    this.noteForm.hidden = true;
    (this.turn.rating?.value === "down" ? this.down : this.up).focus({ preventScroll: true });
  }

  noteKey(event) {
    if (event.key !== "Escape") return;
    this.closeNote();
  }
}

/** One action of the agent: its label, when it arrived, and its payload. It never changes. */
function actionCard(action, panel) {
  const label = visible(action.label);
  return element("details", { class: "halo-action", open: true, "aria-label": `Action: ${label}` },
    element("summary", { class: "halo-button halo-action-head" }, icon("open"), icon("action", "halo-sign"),
      element("span", { class: "halo-action-label", dir: "auto", text: label }),
      element("span", { class: "halo-quiet", text: Number.isFinite(action.at_s) ? `+${seconds(action.at_s)}` : "" })),
    action.cut ? element("p", { class: "halo-quiet halo-note", text: "Shortened here; reply.actions has the full payload." }) : null,
    new JsonTree(JSON.parse(action.json), label, panel).node);
}
