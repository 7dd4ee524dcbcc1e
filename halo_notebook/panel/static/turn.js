/* What stands in the transcript: a turn with its actions, and a message that is not yet one. */

import { arrange, button, element, icon, setText } from "./dom.js";
import { clock, seconds, visible } from "./text.js";
import { JsonTree } from "./tree.js";

const FOLDED_CHARS = 1_500;
const FOLDED_LINES = 14;

/** What the user wrote; a long text is folded. */
class Bubble {
  constructor(panel) {
    this.panel = panel;
    this.text = null;
    this.body = element("div", { class: "halo-bubble-text", dir: "auto" });
    this.more = button("Show all", () => this.toggle(), { kind: "halo-link", hidden: true });
    this.tools = element("div", { class: "halo-tools" },
      button("Copy message", (event) => panel.copy(this.text, event.currentTarget), { icon: "copy", kind: "halo-small" }));
    this.note = element("div", { class: "halo-bubble-note", hidden: true });
    this.node = element("div", { class: "halo-asked" },
      element("div", { class: "halo-bubble-line" }, this.tools, element("div", { class: "halo-bubble" }, this.body, this.more)), this.note);
  }

  update(text) {
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

  /** A line below: what has become of it, and what can be done. */
  say(text, ...buttons) {
    const said = [text, ...buttons.map((one) => one.textContent)].join("|");
    if (said === this.said) return;
    this.said = said;
    this.note.hidden = !text;
    this.note.replaceChildren(element("span", { text }), ...buttons);
  }
}

/** A message that is not yet a turn; `tell` says below it what it waits for. */
export class Waiting {
  constructor(panel, tell) {
    this.tell = tell;
    this.bubble = new Bubble(panel);
    this.node = element("article", { class: "halo-turn halo-waiting", "aria-label": "Your message, not yet sent" }, this.bubble.node);
  }

  update(item, { gone }) {
    this.bubble.update(item.text);
    const lost = Boolean(gone) || item.state === "unsent";
    this.node.classList.toggle("halo-unsent", lost);
    if (gone) this.bubble.say("not sent");
    else this.tell(item, (text, ...buttons) => this.bubble.say(text, ...buttons));
  }
}

/** A block of a reply: its HTML is set once, or at each frame while the block is open. */
class Block {
  constructor() {
    this.node = element("div", { class: "halo-block", dir: "auto" });
    this.html = "";
    this.finished = false;
  }

  update(html, finished, panel) {
    const changed = html !== this.html;
    if (!changed && finished === this.finished) return;
    this.html = html;
    if (changed || (this.finished && !finished)) {
      this.node.innerHTML = html; // eslint-disable-line no-restricted-properties -- the kernel has made it safe
    }
    this.finished = finished;
    if (finished) this.furnish(panel);
  }

  /** A Copy button on code; wide code and tables scroll in themselves. */
  furnish(panel) {
    for (const pre of this.node.querySelectorAll("pre")) {
      const copy = button("Copy code", (event) => panel.copy(pre.textContent, event.currentTarget), { icon: "copy", kind: "halo-small" });
      const frame = element("div", { class: "halo-code" });
      pre.replaceWith(frame);
      frame.append(pre, copy);
      panel.watchWidth(pre, "Code");
    }
    for (const table of this.node.querySelectorAll("table")) {
      const frame = element("div", { class: "halo-wide" });
      table.replaceWith(frame);
      frame.append(table);
      panel.watchWidth(frame, "Table");
    }
  }
}

/** One turn: what was asked, the reply with its actions where they belong, and what is known of it. */
export class TurnView {
  constructor(panel) {
    this.panel = panel;
    this.turn = null;
    this.seen = null;
    this.blocks = [];
    this.cards = new Map();
    this.bubble = new Bubble(panel);
    // The classes keep a page's MathJax from taking prices for formulas.
    this.reply = element("div", { class: "halo-reply mathjax_ignore tex2jax_ignore" });
    this.progress = element("div", { class: "halo-progress", hidden: true },
      element("span", { class: "halo-dots", "aria-hidden": "true" }, element("i"), element("i"), element("i")), element("span"));
    this.cut = element("p", { class: "halo-quiet halo-note", hidden: true });
    this.error = element("div", { class: "halo-error", dir: "auto", hidden: true });
    this.node = element("article", { class: "halo-turn" }, this.bubble.node, this.reply, this.progress, this.cut, this.error, this.footer());
  }

  footer() {
    this.time = element("time");
    this.facts = element("span");
    this.status = element("span", { class: "halo-badge halo-stopped", text: "stopped", hidden: true });
    const copy = button("Copy reply", (event) => this.panel.copy(this.turn.text, event.currentTarget), { icon: "copy", kind: "halo-small" });
    this.up = button("Good reply", () => this.rate("up"), { icon: "up", kind: "halo-small", "aria-pressed": "false" });
    this.down = button("Bad reply", () => this.rate("down"), { icon: "down", kind: "halo-small", "aria-pressed": "false" });
    this.againButton = button("Send again", () => this.turn.again !== "twice" && this.again(), { kind: "halo-text halo-framed", hidden: true });
    this.confirm = element("div", { class: "halo-popover halo-confirm", role: "group", "aria-label": "Send again?", popover: "auto" },
      element("p", { text: "It may have arrived. Sending it again can make the agent act twice." }),
      button("Send again", () => this.again(), { kind: "halo-text halo-framed", autofocus: true }),
      button("Cancel", () => this.confirm.hidePopover(), { kind: "halo-text" }));
    this.note = element("input", { class: "halo-input", type: "text", maxlength: "2000", placeholder: "What was good or bad? (optional)", "aria-label": "Note on this reply", dir: "auto" });
    this.noteForm = element("form", { class: "halo-rate-note", hidden: true, onsubmit: (event) => this.saveNote(event), onkeydown: (event) => this.noteKey(event) },
      this.note, element("button", { type: "submit", class: "halo-button halo-text halo-framed", text: "Save" }),
      button("Close", () => this.closeNote(), { icon: "close", kind: "halo-small" }));
    this.foot = element("footer", { class: "halo-foot", hidden: true },
      element("div", { class: "halo-foot-line" }, this.againButton, this.confirm, this.status,
        element("span", { class: "halo-facts" }, this.time, this.facts),
        element("span", { class: "halo-tools" }, copy, this.up, this.down)),
      this.noteForm);
    return this.foot;
  }

  update(turn, flags) {
    const seen = `${flags.gone}|${flags.latest}|${flags.near}|${turn.status === "streaming" && this.panel.store.progress()}`;
    if (turn === this.turn && seen === this.seen) return;
    this.turn = turn;
    this.seen = seen;
    const live = turn.status === "streaming";
    this.bubble.update(turn.asked);
    this.node.setAttribute("aria-label", `Turn ${turn.number}`);
    this.node.classList.toggle("halo-latest-turn", flags.latest);
    // By class: a selector that counts from the end has the browser restyle all turns for each new one.
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
      const known = this.cards.get(action.id);
      if (known) known.update(action);
      else this.cards.set(action.id, new ActionCard(action, this.panel));
      return this.cards.get(action.id).node;
    };
    const wanted = turn.items.map((item) => (item.action ? card(item.action) : block(item.html, true)));
    if (turn.open) wanted.push(block(turn.open, false));
    wanted.push(...(turn.waiting ?? []).map(card));
    this.blocks.length = blocks;
    arrange(this.reply, wanted, (node) => node.classList.contains("halo-action"));
  }

  showProgress(turn, live, gone) {
    this.progress.hidden = !live || Boolean(gone);
    if (live) setText(this.progress.lastChild, this.panel.store.progress());
    this.progress.classList.toggle("halo-with-text", turn.items.some((item) => item.html) || Boolean(turn.open));
    const empty = turn.status === "complete" && !turn.items.length;
    const note = turn.cut || (empty ? "The reply is empty." : "");
    setText(this.cut, note);
    this.cut.hidden = !note;
    const error = live && gone ? "Interrupted: the kernel went away. What had arrived stays." : turn.error;
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
    // The head says that it is the demo agent; that a turn came from a recording has to stand at the turn.
    const facts = [turn.agent, (turn.source !== "demo agent" || !turn.agent) && turn.source,
      Number.isFinite(turn.first_text_s) && `first text ${seconds(turn.first_text_s)}`,
      Number.isFinite(turn.elapsed_s) && `${seconds(turn.elapsed_s)} in all`, ...(turn.words ?? [])].filter(Boolean);
    setText(this.facts, facts.map((fact) => ` · ${fact}`).join(""));
    this.status.hidden = turn.status !== "stopped";
    this.againButton.hidden = !turn.again;
    this.againButton.popoverTargetElement = turn.again === "twice" ? this.confirm : null;
    if (turn.again !== "twice") this.confirm.hidePopover();
    this.againButton.title = turn.again === "twice" ? "Sends the message a second time: the agent may act on it twice" : "The message did not arrive";
    const value = turn.rating?.value ?? "";
    this.up.setAttribute("aria-pressed", String(value === "up"));
    this.down.setAttribute("aria-pressed", String(value === "down"));
    if (document.activeElement !== this.note) this.note.value = turn.rating?.note ?? "";
    for (const node of this.foot.querySelectorAll(".halo-framed, [aria-pressed]")) node.disabled = Boolean(gone);
    this.foot.classList.toggle("halo-rated", Boolean(value));
  }

  rate(value) {
    const before = this.turn.rating ?? { value: "", note: "" };
    const next = before.value === value ? "" : value;
    this.noteForm.hidden = !next;
    this.panel.store.rate(this.turn, next, ""); // a note on the other verdict is none on this one
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
    event.stopPropagation(); // Esc stops a turn; here it closes what is open
    this.closeNote();
  }
}

/** One action of the agent: what it is called, when it came, and its payload. */
class ActionCard {
  constructor(action, panel) {
    this.id = action.id;
    this.panel = panel;
    this.json = action.json;
    this.title = element("span", { class: "halo-action-label", dir: "auto" });
    this.time = element("span", { class: "halo-quiet" });
    this.note = element("p", { class: "halo-quiet halo-note", text: "Shortened here; the whole is in reply.actions.", hidden: true });
    const head = element("summary", { class: "halo-button halo-action-head" },
      icon("open"), icon("action", "halo-sign"), this.title, this.time);
    this.body = element("div");
    this.node = element("details", { class: "halo-action", open: true }, head, this.note, this.body);
    this.update(action);
    this.fillBody();
  }

  update(action) {
    setText(this.title, visible(action.label));
    setText(this.time, Number.isFinite(action.at_s) ? `+${seconds(action.at_s)}` : "");
    this.node.setAttribute("aria-label", `Action: ${visible(action.label)}`);
    this.note.hidden = !action.cut;
    if (action.json !== this.json) {
      this.json = action.json;
      this.fillBody();
    }
  }

  fillBody() {
    let value = this.json; // no JSON: shown as the text that it is
    try {
      value = JSON.parse(this.json);
    } catch {
      // as above
    }
    this.body.replaceChildren(new JsonTree(value, this.title.textContent, this.panel).node);
  }
}
