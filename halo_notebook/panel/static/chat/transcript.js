/* The transcript: its turns and waiting messages, and what the reader sees of them while they change. */

import { arrange, button, element, setText } from "../shared/dom.js";
import { Versions } from "../shared/edit.js";
import { refused } from "../shared/link.js";
import { count } from "../shared/text.js";
import { TurnView, Waiting } from "../shared/turn.js";

const NEAR_BOTTOM_PX = 40;
const UPWARDS = new Set(["ArrowUp", "PageUp", "Home"]);
const KEPT_IN_LAYOUT = 4; // the last turns; the browser lays out older ones only when they come into view

export class Transcript {
  /** `panel` provides the store, the model, the composer and `sendText`. */
  constructor(panel) {
    this.panel = panel;
    this.items = new Map();
    this.following = true; // whether the end stays in view
    this.leaving = false; // whether the reader has begun to scroll up
    this.fresh = false; // whether there is something new below
    this.holding = false;
    this.jump = button("Jump to latest", () => this.toBottom({ smooth: true }), { icon: "latest", kind: "halo-jump", labelled: true, hidden: true });
    this.earlier = button("Show earlier turns", () => this.showEarlier(), { kind: "halo-text halo-framed halo-earlier", hidden: true });
    this.empty = element("div", { class: "halo-empty" });
    this.turns = element("div", { class: "halo-turns" });
    this.startNote = element("p", { class: "halo-quiet halo-note", hidden: true });
    this.nextVersions = new Versions(panel); // of a message that is not sent yet
    this.page = element("div", { class: "halo-page" }, this.earlier, this.empty, this.turns, this.startNote,
      element("div", { class: "halo-next" }, this.nextVersions.node));
    this.log = element("div", {
      class: "halo-log", role: "log", "aria-live": "off", "aria-label": "Conversation", tabindex: "0",
      onscroll: () => this.scrolled(),
      onwheel: (event) => event.deltaY < 0 && this.leaveBottom(),
      // Something that the reader opens must not be scrolled away.
      onclick: (event) => event.target.closest(".halo-action, .halo-link") && this.hold(),
      onkeydown: (event) => {
        if (event.target.closest(".halo-action")) this.hold();
        else if (UPWARDS.has(event.key) && !event.target.matches("input, textarea")) this.leaveBottom();
      },
    }, this.page);
    this.watchSizes();
  }

  destroy() {
    this.sizes.disconnect();
  }

  watchSizes() {
    let shown = false;
    this.sizes = new ResizeObserver(() => {
      // A notebook may remove a cell from the page and put it back, scrolled to the top.
      if (!this.log.clientHeight) {
        shown = false;
        return;
      }
      if (this.following) this.toBottom();
      else if (!shown) this.log.scrollTop = this.lastTop;
      if (!shown) this.panel.placed();
      shown = true;
    });
    this.sizes.observe(this.log);
    this.sizes.observe(this.page);
  }

  fromBottom() {
    return this.log.scrollHeight - this.log.clientHeight - this.log.scrollTop;
  }

  scrolled() {
    const top = this.log.scrollTop;
    if (!this.log.clientHeight) return;
    const near = this.fromBottom() <= NEAR_BOTTOM_PX;
    if (!near || top > this.lastTop) this.leaving = false;
    if (near && !this.leaving) this.following = true;
    else if (top < this.lastTop - 1) this.following = false; // only the reader scrolls up
    this.lastTop = top;
    if (this.following) this.fresh = false;
    this.paintJump();
  }

  /** The reader begins to scroll up, in steps that begin near the bottom: do not move to new text meanwhile. */
  leaveBottom() {
    if (!this.log.scrollTop) return;
    this.following = false;
    this.leaving = true;
    this.paintJump();
  }

  toBottom({ smooth = false } = {}) {
    this.following = true;
    this.leaving = false;
    this.fresh = false;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (smooth && !calm && this.fromBottom() < 3_000) this.log.scrollTo({ top: this.log.scrollHeight, behavior: "smooth" });
    else this.log.scrollTop = this.log.scrollHeight;
    this.lastTop = this.log.scrollTop;
    this.paintJump();
  }

  /** The reader opens or closes something: keep the scroll position, whatever its new size. */
  hold() {
    this.following = false;
    this.holding = true;
    requestAnimationFrame(() => requestAnimationFrame(() => {
      this.holding = false;
      this.scrolled();
    }));
  }

  paintJump() {
    const focused = this.panel.focused();
    this.jump.hidden = this.following || this.holding;
    this.panel.keepFocus(focused);
    setText(this.jump.lastChild, this.fresh ? "New below" : "Jump to latest");
    this.jump.classList.toggle("halo-fresh", this.fresh);
  }

  /** Show earlier turns above, and keep those in view where they are. */
  showEarlier() {
    const turn = this.turns.firstElementChild;
    this.panel.store.showEarlier(() => {
      const before = turn?.getBoundingClientRect().top;
      this.following = false;
      this.panel.paint();
      const keep = () => {
        if (turn?.isConnected) this.log.scrollTop += turn.getBoundingClientRect().top - before;
      };
      keep();
      requestAnimationFrame(keep); // again when the new turns have their sizes
    });
  }

  /** Another version of turn `number` is about to be shown: keep it where it is, and the focus on its buttons. */
  returnTo(versions, step) {
    this.returning = { number: versions.number, step, epoch: this.panel.store.epoch, top: versions.node.getBoundingClientRect().top };
  }

  /** Put the reader where `returnTo` said, once the other session is shown. */
  arrive() {
    const { store } = this.panel;
    const { returning } = this;
    if (!returning || store.epoch === returning.epoch) return;
    this.returning = null;
    const shown = this.items.get(`turn|${store.epoch}|t${returning.number}`)?.versions ?? this.nextVersions;
    const { names, at } = store.versions[returning.number] ?? {};
    if (shown.node.hidden || !names) return;
    this.following = false;
    this.log.scrollTop += shown.node.getBoundingClientRect().top - returning.top;
    this.lastTop = this.log.scrollTop;
    shown.focus(returning.step);
    this.panel.say(`Version ${count(at + 1)} of ${count(names.length)}: session ${names[at]}`);
    this.scrolled();
  }

  /** Edit the message of a turn, with that text in the box; returns whether the turn is here. */
  edit(key, text) {
    const item = this.items.get(`turn|${this.panel.store.epoch}|${key}`);
    item?.edit(text);
    return Boolean(item);
  }

  paint() {
    const { store } = this.panel;
    const gone = store.gone;
    const wanted = [];
    const known = new Set();
    const want = (key, make, data, flags) => {
      known.add(key);
      const item = this.items.get(key) ?? make();
      this.items.set(key, item);
      item.update(data, flags);
      wanted.push(item.node);
    };
    const turns = store.live ? [...store.turns, store.live] : store.turns;
    turns.forEach((turn, index) => {
      const flags = { gone, latest: index === turns.length - 1, near: index >= turns.length - KEPT_IN_LAYOUT };
      // Keys are unique only within a conversation; each has its own epoch.
      want(`turn|${store.epoch}|${turn.key}`, () => new TurnView(this.panel, { readOnly: this.panel.readOnly }), turn, flags);
    });
    for (const item of store.queue) {
      want(`queued|${item.cid}`, () => new Waiting(this.panel, (one, say) => this.tellQueued(one, say)), item, { gone });
    }
    for (const message of store.pending) {
      if (message.session !== store.session && message.session !== null) continue;
      want(`pending|${message.cid}`, () => new Waiting(this.panel, (one, say) => this.tellPending(one, say)), message, { gone });
    }
    for (const key of this.items.keys()) if (!known.has(key)) this.items.delete(key);
    arrange(this.turns, wanted);
    this.earlier.hidden = !store.earlier;
    setText(this.earlier.firstChild, `Show earlier turns (${count(store.earlier)})`);
    this.earlier.disabled = Boolean(gone);
    this.nextVersions.update((turns.at(-1)?.number ?? 0) + 1, gone);
    this.startNote.hidden = !store.start_note || Boolean(store.live);
    setText(this.startNote, `The next message starts ${store.start_note}.`);
    this.paintEmpty(wanted.length === 0 && !store.earlier);
    if (!this.following && (this.shownTurns !== store.turns || this.shownLive !== store.live)) this.fresh = true;
    this.shownTurns = store.turns;
    this.shownLive = store.live;
    if (this.following) this.toBottom();
    else this.paintJump();
  }

  tellQueued(item, say) {
    const { store, composer } = this.panel;
    const pictures = (item.pictures ?? []).map((id, at) => ({ ...item.images[at], id, state: "taken" }));
    const takeBack = (answer) => refused(answer) || composer.takeBack(item.text, pictures);
    const remove = button("Remove", () => store.request({ kind: "unqueue", which: item.cid }, takeBack), { kind: "halo-text" });
    const send = button("Send", () => store.request({ kind: "release", which: item.cid }), { kind: "halo-text" });
    if (item.held) say(item.error || "held back: the previous turn was stopped or failed", send, remove);
    else say("waiting for the previous turn", remove);
  }

  tellPending(message, say) {
    const { store, composer } = this.panel;
    if (message.state !== "unsent") {
      if (message.uploading) say("sending the image");
      else if (!store.isLate(message.cid)) say("sending");
      else if (store.connecting) say("queued: the connection is lost");
      else say(store.silent ? "no answer yet" : "queued: the kernel is busy");
      return;
    }
    say("not sent",
      button("Send", () => store.sendAgain(message), { kind: "halo-text" }),
      button("Edit", () => {
        const { edits, text, pictures } = message;
        if (edits ? this.edit(edits, text) : composer.takeBack(text, pictures)) store.forget(message);
      }, { kind: "halo-text" }));
  }

  paintEmpty(shown) {
    this.empty.hidden = !shown;
    if (!shown) return;
    const { store, model } = this.panel;
    const suggestions = model.get("suggestions") ?? [];
    const content = JSON.stringify([suggestions, store.agent, model.get("title"), Boolean(store.gone)]);
    if (content === this.emptyContent) return;
    this.emptyContent = content;
    const who = store.agent ? `Ask ${store.agent} anything.` : "Ask the agent anything.";
    this.empty.replaceChildren(
      element("p", { class: "halo-empty-title", text: model.get("title") || "Start a conversation", dir: "auto" }),
      element("p", { class: "halo-quiet", text: `${who} Its replies and actions appear here as they arrive.` }),
      element("div", { class: "halo-chips" }, ...suggestions.map((text) =>
        element("button", { type: "button", class: "halo-button halo-chip", text, dir: "auto", disabled: Boolean(store.gone), onclick: () => this.panel.sendText(text) }))));
  }
}
