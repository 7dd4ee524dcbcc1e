/* The arena in the page, an anywidget front end: one text box, and the replies of several agents beside each other.

What the chat panel guarantees (panel.js) holds for each column. Until the kernel tells the names, the page has
nothing that says which column is whose.
*/

import { ArenaStore } from "./arena_store.js";
import { ChatFrame } from "../chat/chat_frame.js";
import { button, element, icon, setText } from "../shared/dom.js";
import { frontEnd } from "../shared/frame.js";
import { exportConversation } from "../chat/export.js";
import { menu } from "../shared/menu.js";
import { stateOf } from "../shared/status.js";
import { visible } from "../shared/text.js";
import { Transcript } from "../chat/transcript.js";
import { Waiting } from "../shared/turn.js";

const TIE = "tie";
const BOTH_BAD = "both bad";

/** One column. It has for its transcript what a panel has. */
class ArenaColumn {
  constructor(frame, store, at) {
    Object.assign(this, { frame, store, at, model: store.model, readOnly: true });
    this.id = `${frame.id}-${at}`;
    this.letter = element("span", { class: "halo-badge halo-letter" });
    this.name = element("span", { class: "halo-title", dir: "auto" });
    this.outcome = element("span", { class: "halo-badge", hidden: true });
    this.transcript = new Transcript(this);
    this.node = element("section", { class: "halo-arena-column" },
      element("div", { class: "halo-arena-head" }, this.letter, this.name, this.outcome),
      this.transcript.log, element("div", { class: "halo-over" }, this.transcript.jump));
  }

  get composer() {
    return this.frame.composer;
  }

  get widths() {
    return this.frame.widths;
  }

  copyButton(...given) {
    return this.frame.copyButton(...given);
  }

  focused() {
    return this.frame.focused();
  }

  keepFocus(focused) {
    this.frame.keepFocus(focused);
  }

  placed() {
    this.frame.placed();
  }

  schedule() {
    this.frame.schedule();
  }

  /** The whole arena speaks, once for all columns. */
  say() {}

  paint() {
    const { labels, names, outcomes } = this.frame.store;
    const letter = labels[this.at] ?? "";
    const name = visible(names?.[this.at] ?? "");
    setText(this.letter, letter);
    setText(this.name, name);
    this.name.title = name;
    this.node.setAttribute("aria-label", name ? `Column ${letter}: ${name}` : `Column ${letter}`);
    this.transcript.log.setAttribute("aria-label", `Conversation of column ${letter}`);
    const outcome = outcomes?.[this.at] ?? "";
    this.outcome.hidden = !outcome;
    setText(this.outcome, outcome);
    this.node.classList.toggle("halo-won", outcome === "won");
    this.transcript.paint();
  }
}

/** The line below the columns: the vote, what became of it, and sending again. */
class VoteBar {
  constructor(frame) {
    this.frame = frame;
    this.text = element("span", { class: "halo-vote-text", dir: "auto" });
    this.choices = element("span", { class: "halo-vote-choices" });
    this.next = button("New conversation", () => frame.begin(), { kind: "halo-text halo-framed" });
    this.retry = button("Send again", () => this.isSafe && frame.store.again(), { kind: "halo-text halo-framed" });
    this.confirm = element("div", { class: "halo-popover halo-confirm", role: "group", "aria-label": "Send again?", popover: "auto" },
      element("p", { text: "The message may have arrived. Sending it again can make an agent act twice." }),
      button("Send again", () => {
        this.confirm.hidePopover();
        frame.store.again();
      }, { kind: "halo-text halo-framed", autofocus: true }),
      button("Cancel", () => this.confirm.hidePopover(), { kind: "halo-text" }));
    this.node = element("div", { class: "halo-vote", role: "group", "aria-label": "Vote", hidden: true },
      this.text, this.choices, this.retry, this.confirm, this.next);
  }

  paint() {
    const { store } = this.frame;
    const { round, outcomes, failed, labels, gone } = store;
    const several = failed.length > 1; // each column has a button of its own, too
    this.node.hidden = !round && !outcomes && !several;
    this.fill(labels);
    this.choices.hidden = !round;
    for (const choice of this.choices.children) choice.disabled = Boolean(gone);
    setText(this.text, outcomes ? this.verdict() : round ? "Which reply is best?" : "");
    this.text.hidden = !this.text.textContent;
    this.next.hidden = !outcomes;
    this.next.disabled = Boolean(gone) || store.busy;
    this.retry.hidden = !several;
    const letters = failed.map((column) => labels[store.columns.indexOf(column)]).join(", ");
    setText(this.retry.firstChild, `Send again to ${letters}`);
    this.isSafe = failed.every((column) => column.turns.at(-1).again !== "twice");
    this.retry.popoverTargetElement = this.isSafe ? null : this.confirm;
    if (this.isSafe) this.confirm.hidePopover();
  }

  /** The buttons, in the order of the columns. */
  fill(labels) {
    if (this.filled === labels.join()) return;
    this.filled = labels.join();
    const vote = (label, choice) => button(label, () => this.frame.store.vote(choice), { kind: "halo-text halo-framed" });
    this.choices.replaceChildren(...labels.map((label) => vote(label, label)), vote("Tie", TIE), vote(labels.length > 2 ? "All bad" : "Both bad", BOTH_BAD));
    this.choices.querySelectorAll("button").forEach((node, at) => {
      if (at < labels.length) node.setAttribute("aria-label", `${labels[at]} is best`);
    });
  }

  verdict() {
    const { outcomes, labels, names } = this.frame.store;
    const at = outcomes.indexOf("won");
    if (at < 0) return outcomes[0] === TIE ? "You voted for a tie." : "You voted: none is good.";
    return `You preferred ${labels[at]}${names ? `: ${visible(names[at])}` : ""}.`;
  }
}

class ArenaView extends ChatFrame {
  constructor(store, model, el) {
    super(store, model);
    this.root.classList.add("halo-arena");
    this.composer.attachments.addButton.hidden = true; // an arena sends text only
    this.columns = store.columns.map((column, at) => new ArenaColumn(this, column, at));
    this.hides = store.columns.map((column, at) => column.show(this.columns[at]));
    this.bar = new VoteBar(this);
    this.waiting = new Waiting(this, (message, say) => this.tell(message, say));
    this.unsent = element("div", { class: "halo-arena-unsent", hidden: true }, this.waiting.node);
    this.body = element("div", { class: "halo-arena-body" }, ...this.columns.map((column) => column.node));
    this.root.append(this.header(), this.body, this.bar.node, this.unsent, this.notices,
      this.composer.goneLine, this.composer.node, this.voice);
    el.append(this.root);
    this.showDraft();
    this.paint();
  }

  destroy() {
    for (const hide of this.hides) hide();
    for (const column of this.columns) column.transcript.destroy();
    super.destroy();
  }

  header() {
    this.title = element("span", { class: "halo-title", dir: "auto" });
    this.hidden = element("span", { class: "halo-badge", text: "names hidden until the vote" });
    this.stateText = element("span");
    this.state = element("span", { class: "halo-state halo-quiet" }, element("span", { class: "halo-dot", "aria-hidden": "true" }), this.stateText);
    this.fresh = button("New conversation", () => this.begin(), { icon: "plus", kind: "halo-small" });
    const save = menu("Export", [icon("save")], "halo-export", () => this.exports());
    [this.exporter] = save;
    return element("div", { class: "halo-head" }, this.title, this.hidden, this.state, this.fresh, ...save);
  }

  /** What can be exported: each column, once its name is shown. */
  exports() {
    const say = () => this.say("Conversation exported");
    return this.columns.flatMap(({ store }, at) => ["markdown", "json"].map((format) =>
      button(`${visible(this.store.names[at])}: ${format === "json" ? "JSON" : "Markdown"}`, () => exportConversation(store, format, say), { kind: "halo-item" })));
  }

  begin() {
    this.composer.focus();
    this.store.begin();
  }

  paint() {
    this.beginPaint("600px");
    const { store } = this;
    const focused = this.focused();
    const title = this.model.get("title") || "Arena";
    setText(this.title, title);
    this.root.setAttribute("aria-label", title);
    this.hidden.hidden = Boolean(store.names);
    const [kind, text] = stateOf({ ...store, live: store.live, late: store.late, turns: [] });
    setText(this.stateText, text);
    this.state.title = text;
    this.state.dataset.kind = kind;
    this.fresh.disabled = Boolean(store.gone) || store.busy || !store.turns.length;
    this.exporter.disabled = Boolean(store.gone) || !store.names || !store.turns.length;
    for (const column of this.columns) column.paint();
    this.bar.paint();
    this.paintUnsent();
    this.paintNotices();
    this.composer.paint();
    this.keepFocus(focused);
  }

  paintUnsent() {
    const [message] = this.store.pending;
    this.unsent.hidden = !message;
    if (message) this.waiting.update({ ...message, pictures: [] }, { gone: this.store.gone });
  }

  tell(message, say) {
    const { store, composer } = this;
    if (message.state !== "unsent") {
      say(store.isLate(message.cid) ? "queued: the kernel is busy" : "sending");
      return;
    }
    const [kept] = store.pending;
    say("not sent",
      button("Send", () => store.deliver(kept), { kind: "halo-text" }),
      button("Edit", () => composer.takeBack(kept.text, []) && store.forget(kept), { kind: "halo-text" }));
  }

  sendText(text) {
    if (this.store.gone) return;
    for (const column of this.columns) column.transcript.following = true;
    this.store.send(text);
    this.paint();
  }
}

export default frontEnd(ArenaStore, ArenaView);
