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
import { arrange, button, copyText, download, element, icon, setLabel, setText } from "./dom.js";
import { Store, refused } from "./store.js";
import { count, counted, freshId } from "./text.js";
import { TurnView, Waiting } from "./turn.js";

const EXPORT_PART_MS = 600;
const NEAR_BOTTOM_PX = 40;
const NOT_FOR_THE_NOTEBOOK = "data-lm-suppress-shortcuts";
const KEPT_IN_LAYOUT = 4; // the last turns; the browser lays out older ones only when they come into view
const FILL_AT_ONCE = 20; // turns filled at once when there are many; the rest follow in short slices

class Panel {
  constructor(store, model, el) {
    this.store = store;
    this.model = model;
    this.id = `halo-${freshId()}`;
    this.items = new Map();
    this.unfilled = [];
    this.following = true;
    this.root = element("div", {
      class: "halo-panel", role: "region", tabindex: "-1", [NOT_FOR_THE_NOTEBOOK]: "true",
      onkeydown: (event) => this.key(event),
    });
    this.build();
    this.keepEvents();
    this.watchSizes();
    this.hideStatic();
    el.append(this.root);
    this.showDraft();
    this.paint();
  }

  destroy() {
    cancelAnimationFrame(this.frame);
    clearTimeout(this.filling);
    this.sizes.disconnect();
    this.widths.disconnect();
    this.root.remove();
  }

  build() {
    this.composer = new Composer(this);
    this.voice = element("div", { class: "halo-unseen", "aria-live": "polite" });
    this.jump = button("Jump to latest", () => this.toBottom({ smooth: true }), { icon: "latest", kind: "halo-jump", labelled: true, hidden: true });
    this.notices = element("div", { class: "halo-notices" });
    this.root.append(this.buildHead(), this.buildLog(), element("div", { class: "halo-over" }, this.jump), this.notices,
      this.composer.goneLine, this.composer.node, this.voice);
  }

  buildHead() {
    this.title = element("span", { class: "halo-title", dir: "auto" });
    this.agent = element("span", { class: "halo-agent halo-quiet", dir: "auto" });
    this.badge = element("span", { class: "halo-badge halo-source", dir: "auto" });
    this.stateText = element("span");
    this.state = element("span", { class: "halo-state" }, element("span", { class: "halo-dot", "aria-hidden": "true" }), this.stateText);
    this.headStop = button("Stop", () => this.store.stop(), { icon: "stop", kind: "halo-small halo-head-stop" });
    this.sessionName = element("span", { class: "halo-session-name", dir: "auto" });
    const session = this.menu("Session", [this.sessionName, icon("menu")], "halo-session", () => this.sessionItems());
    const save = this.menu("Export", [icon("save")], "halo-export", () => [
      button("Markdown", () => this.export("markdown"), { kind: "halo-item" }),
      button("JSON", () => this.export("json"), { kind: "halo-item" })]);
    return element("div", { class: "halo-head" }, this.title, this.badge, this.agent, this.state, this.headStop, ...session, ...save);
  }

  /** Create a button and the list that it opens, which `fill` makes each time. Esc, a click elsewhere, a choice and losing the focus close it. */
  menu(label, content, kind, fill) {
    const opener = element("button", { type: "button", class: `halo-button ${kind}`, title: label, "aria-label": label }, ...content);
    const list = element("div", {
      class: "halo-popover halo-menu", role: "group", "aria-label": label, popover: "auto",
      onbeforetoggle: ({ newState }) => {
        if (newState !== "open") return;
        list.replaceChildren(...fill());
        list.querySelector("button").autofocus = true;
      },
      onclick: ({ target }) => target.closest(".halo-item") && list.hidePopover(),
      onfocusout: ({ relatedTarget: to }) => to && to !== opener && !list.contains(to) && list.hidePopover(),
    });
    opener.popoverTargetElement = list;
    return [opener, list];
  }

  sessionItems() {
    const { store } = this;
    const off = Boolean(store.gone);
    const act = (content) => () => {
      this.composer.focus();
      store.request(content);
    };
    const names = store.sessions.map(({ name, turns }) =>
      element("button", { type: "button", class: "halo-button halo-item", "aria-current": name === store.session ? "true" : null, disabled: off, onclick: act({ kind: "switch", name }) },
        element("span", { text: name, dir: "auto" }), element("span", { class: "halo-quiet", text: counted(turns, "turn") })));
    const other = element("input", { class: "halo-input", type: "text", placeholder: "Session name", "aria-label": "Name of a session to switch to, or of a new one", maxlength: "100", dir: "auto", autocomplete: "off" });
    const form = element("form", {
      class: "halo-name-form",
      onsubmit: (event) => {
        event.preventDefault();
        if (other.value.trim()) act({ kind: "switch", name: other.value.trim() })();
      },
    }, other, element("button", { type: "submit", class: "halo-button halo-text halo-framed", text: "Go", disabled: off }));
    return [element("div", { class: "halo-names" }, ...names),
      button("New conversation", act({ kind: "new" }), { icon: "plus", labelled: true, kind: "halo-item halo-new", disabled: off }), form];
  }

  /** Fetch the conversation in parts, slowly: the server drops messages above its rate limit. */
  export(format, part = 0, before = "") {
    const began = performance.now();
    this.store.request({ kind: "export", format, part }, (answer) => {
      if (answer.text === undefined) return;
      const text = before + answer.text;
      if (part + 1 < answer.parts) {
        setTimeout(() => this.export(format, part + 1, text), began + EXPORT_PART_MS - performance.now());
        return;
      }
      download({ ...answer, text });
      this.say("Conversation exported");
    });
  }

  buildLog() {
    this.earlier = button("Show earlier turns", () => this.showEarlier(), { kind: "halo-text halo-framed halo-earlier", hidden: true });
    this.empty = element("div", { class: "halo-empty" });
    this.turns = element("div", { class: "halo-turns" });
    this.page = element("div", { class: "halo-page" }, this.earlier, this.empty, this.turns);
    this.log = element("div", {
      class: "halo-log", role: "log", "aria-live": "off", "aria-label": "Conversation", tabindex: "0",
      onscroll: () => this.scrolled(),
      // Something that the reader opens must not be scrolled away.
      onclick: (event) => event.target.closest(".halo-action, .halo-link") && this.hold(),
      onkeydown: (event) => event.target.closest(".halo-action") && this.hold(),
    }, this.page);
    return this.log;
  }

  /** Keep keys and copying from the notebook: Shift+Enter must not run its cell. */
  keepEvents() {
    for (const name of ["keydown", "keyup", "keypress", "copy", "cut", "paste"]) {
      this.root.addEventListener(name, (event) => event.stopPropagation());
    }
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

  // -- sizes and scrolling

  watchSizes() {
    let shown = true;
    this.sizes = new ResizeObserver(() => {
      // A notebook may remove a cell from the page and put it back, scrolled to the top.
      if (!this.log.clientHeight) {
        shown = false;
        return;
      }
      if (this.following) this.toBottom();
      else if (!shown) this.log.scrollTop = this.lastTop;
      if (!shown) this.composer.fit();
      shown = true;
    });
    this.sizes.observe(this.log);
    this.sizes.observe(this.page);
    this.widths = new ResizeObserver((entries) => {
      for (const { target } of entries) this.reachable(target);
    });
  }

  /** Make an element focusable if it scrolls sideways, so that the keyboard can scroll it. */
  watchWidth(node, label) {
    node.dataset.label = label;
    this.widths.observe(node);
  }

  reachable(node) {
    const wide = node.scrollWidth > node.clientWidth + 1;
    if (wide === (node.tabIndex === 0)) return;
    if (wide) {
      node.tabIndex = 0;
      node.setAttribute("role", "region");
      node.setAttribute("aria-label", node.dataset.label);
    } else {
      for (const name of ["tabindex", "role", "aria-label"]) node.removeAttribute(name);
    }
  }

  fromBottom() {
    return this.log.scrollHeight - this.log.clientHeight - this.log.scrollTop;
  }

  scrolled() {
    const top = this.log.scrollTop;
    if (!this.log.clientHeight) return;
    if (this.fromBottom() <= NEAR_BOTTOM_PX) this.following = true;
    else if (top < this.lastTop - 1) this.following = false; // only the reader scrolls up
    this.lastTop = top;
    if (this.following) this.fresh = false;
    this.paintJump();
  }

  toBottom({ smooth = false } = {}) {
    this.following = true;
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
    const focused = this.focused();
    this.jump.hidden = this.following || Boolean(this.holding);
    this.keepFocus(focused);
    setText(this.jump.lastChild, this.fresh ? "New below" : "Jump to latest");
    this.jump.classList.toggle("halo-fresh", Boolean(this.fresh));
  }

  /** Show earlier turns above, and keep those in view where they are. */
  showEarlier() {
    const turn = this.turns.firstElementChild;
    this.store.showEarlier(() => {
      const before = turn?.getBoundingClientRect().top;
      this.following = false;
      this.paint();
      const keep = () => {
        if (turn?.isConnected) this.log.scrollTop += turn.getBoundingClientRect().top - before;
      };
      keep();
      requestAnimationFrame(keep); // again when the new turns have their sizes
    });
  }

  // -- painting

  schedule() {
    this.frame ||= requestAnimationFrame(() => this.paint());
  }

  paint() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const focused = this.focused();
    if (this.shownSession !== this.store.session) this.showDraft();
    this.paintHead();
    this.paintTurns();
    this.paintNotices();
    this.composer.paint();
    if (this.following) this.toBottom();
    else this.paintJump();
    this.keepFocus(focused);
  }

  focused() {
    return this.root.contains(document.activeElement) ? document.activeElement : null;
  }

  /** If what had the focus is gone, move it to the text box: the notebook would take the next keys as its own. */
  keepFocus(focused) {
    if (focused && !focused.checkVisibility()) this.composer.focus();
  }

  paintHead() {
    const { store, model } = this;
    const title = model.get("title") || store.agent || "Chat";
    setText(this.title, title);
    this.title.title = title;
    this.root.setAttribute("aria-label", title);
    const given = model.get("height");
    const height = given && CSS.supports("height", given) ? given : "520px";
    if (height !== this.height) {
      this.height = height;
      this.root.style.height = height;
    }
    setText(this.agent, store.agent ?? "");
    this.agent.hidden = !store.agent || store.agent === title;
    setText(this.badge, store.source);
    this.badge.title = store.source;
    this.badge.hidden = !store.source;
    const [kind, text] = store.status();
    setText(this.stateText, text);
    this.state.title = text;
    this.state.dataset.kind = kind;
    this.headStop.hidden = !store.live || Boolean(store.gone);
    this.headStop.disabled = store.stopping;
    setText(this.sessionName, store.session ?? "session");
    this.sessionName.parentNode.setAttribute("aria-label", `Session: ${store.session ?? "none yet"}`);
    const exporter = this.root.querySelector(".halo-export");
    exporter.disabled = Boolean(store.gone) || !(store.turns.length || store.live);
  }

  paintTurns() {
    const { store } = this;
    const gone = store.gone;
    const wanted = [];
    const made = [];
    const known = new Set();
    const want = (key, make, data, flags) => {
      known.add(key);
      let item = this.items.get(key);
      if (!item) {
        this.items.set(key, (item = make()));
        made.push(item);
      }
      wanted.push(item.node);
      item.next = [data, flags];
    };
    const turns = store.live ? [...store.turns, store.live] : store.turns;
    turns.forEach((turn, index) => {
      const flags = { gone, latest: index === turns.length - 1, near: index >= turns.length - KEPT_IN_LAYOUT };
      // Keys are unique only within a conversation; each has its own epoch.
      want(`turn|${store.epoch}|${turn.key}`, () => new TurnView(this), turn, flags);
    });
    for (const item of store.queue) {
      want(`queued|${item.cid}`, () => new Waiting(this, (one, say) => this.tellQueued(one, say)), item, { gone });
    }
    for (const message of store.pending) {
      if (message.session !== store.session && message.session !== null) continue;
      want(`pending|${message.cid}`, () => new Waiting(this, (one, say) => this.tellPending(one, say)), message, { gone });
    }
    for (const key of this.items.keys()) if (!known.has(key)) this.items.delete(key);
    this.fill(made);
    arrange(this.turns, wanted, (node) => node.contains(document.activeElement));
    this.earlier.hidden = !store.earlier;
    setText(this.earlier.firstChild, `Show earlier turns (${count(store.earlier)})`);
    this.earlier.disabled = Boolean(gone);
    this.paintEmpty(wanted.length === 0 && !store.earlier);
    if (!this.following && (this.shownTurns !== store.turns || this.shownLive !== store.live)) this.fresh = true;
    this.shownTurns = store.turns;
    this.shownLive = store.live;
  }

  tellQueued(item, say) {
    const remove = button("Remove", () => this.unqueue(item), { kind: "halo-text" });
    const send = button("Send", () => this.store.request({ kind: "release", which: item.cid }), { kind: "halo-text" });
    if (item.held) say(item.error || "held back: the previous turn was stopped or failed", send, remove);
    else say("waiting for the previous turn", remove);
  }

  tellPending(message, say) {
    const { store } = this;
    if (message.state !== "unsent") {
      if (!store.isLate(message.cid)) say("sending");
      else say(store.connecting ? "queued: the connection is lost" : "queued: the kernel is busy");
      return;
    }
    say("not sent",
      button("Send", () => store.sendAgain(message), { kind: "halo-text" }),
      button("Edit", () => this.composer.takeBack(message.text) && store.forget(message), { kind: "halo-text" }));
  }

  /** Update all items. Of many new ones only the last are filled now, the others later, newest first. */
  fill(made) {
    const late = new Set(this.unfilled);
    if (made.length > FILL_AT_ONCE) for (const item of made.slice(0, -FILL_AT_ONCE)) late.add(item);
    this.unfilled = [];
    for (const item of this.items.values()) {
      if (!late.has(item)) item.update(...item.next);
      else this.unfilled.push(item);
    }
    if (this.unfilled.length && !this.filling) this.filling = setTimeout(() => this.fillMore(), 30);
  }

  fillMore() {
    this.filling = 0;
    const end = performance.now() + 12;
    while (this.unfilled.length && performance.now() < end) {
      const item = this.unfilled.pop();
      item.update(...item.next);
    }
    if (this.unfilled.length) this.filling = setTimeout(() => this.fillMore(), 16);
  }

  paintEmpty(shown) {
    this.empty.hidden = !shown;
    if (!shown) return;
    const { store, model } = this;
    const suggestions = model.get("suggestions") ?? [];
    const content = JSON.stringify([suggestions, store.agent, model.get("title"), Boolean(store.gone)]);
    if (content === this.emptyContent) return;
    this.emptyContent = content;
    const who = store.agent ? `Ask ${store.agent} anything.` : "Ask the agent anything.";
    this.empty.replaceChildren(
      element("p", { class: "halo-empty-title", text: model.get("title") || "Start a conversation", dir: "auto" }),
      element("p", { class: "halo-quiet", text: `${who} Its replies and actions appear here as they arrive.` }),
      element("div", { class: "halo-chips" }, ...suggestions.map((text) =>
        element("button", { type: "button", class: "halo-button halo-chip", text, dir: "auto", disabled: Boolean(store.gone), onclick: () => this.sendText(text) }))));
  }

  paintNotices() {
    const { notices } = this.store;
    if (notices === this.shownNotices) return;
    this.shownNotices = notices;
    this.notices.replaceChildren(...notices.map(({ id, text }) =>
      element("div", { class: "halo-notice" }, element("span", { text, dir: "auto" }),
        button("Dismiss", () => this.store.dismiss(id), { icon: "close", kind: "halo-small" }))));
  }

  // -- what the user does

  showDraft() {
    this.shownSession = this.store.session;
    this.composer.showDraft();
  }

  sendText(text) {
    if (this.store.gone) return;
    this.following = true;
    this.store.send(text);
    this.paint(); // the user expects to see the message at once
  }

  unqueue(item) {
    this.store.request({ kind: "unqueue", which: item.cid }, (answer) => {
      if (!refused(answer)) this.composer.takeBack(item.text);
    });
  }

  key(event) {
    if (event.isComposing || event.keyCode === 229) return; // keys of an input method
    if (event.key === "Escape") this.escape(event);
    else if (event.target === this.composer.area) this.composer.key(event);
  }

  escape(event) {
    if (this.root.querySelector(":popover-open")) return; // the browser closes it
    event.preventDefault();
    this.store.stop();
  }

  async copy(text, target) {
    const done = await copyText(text, this.root);
    const said = done ? "Copied" : "Copying is not allowed here";
    this.say(said);
    if (!target) return;
    const before = target.getAttribute("aria-label");
    const drawn = target.querySelector("svg")?.cloneNode(true);
    if (target.dataset.copied || !drawn) return;
    target.dataset.copied = "true";
    if (done) target.firstChild.replaceWith(icon("done"));
    setLabel(target, said);
    setTimeout(() => {
      delete target.dataset.copied;
      target.firstChild.replaceWith(drawn);
      if (before) setLabel(target, before);
      else for (const name of ["aria-label", "title"]) target.removeAttribute(name);
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
