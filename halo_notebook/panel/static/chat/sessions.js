/* The menu of sessions: a box that finds one or names a new one, their list, and a file to open. */

import { arrange, button, element, icon, setText } from "../shared/dom.js";
import { refused } from "../shared/link.js";
import { menu } from "../shared/menu.js";
import { count, counted, visible } from "../shared/text.js";

const SEARCH_AFTER_MS = 150;
const MAX_SHOWN = 200;
const MAX_FILE_BYTES = 60_000_000;

export class SessionMenu {
  /** `panel` provides the store, the composer and `say`. */
  constructor(panel) {
    this.panel = panel;
    this.name = element("span", { class: "halo-session-name", dir: "auto" });
    this.places = new Map(); // name -> the place of the text in that session, as the kernel found it
    this.box = element("input", {
      class: "halo-input", type: "search", placeholder: "Find or name a session", "aria-label": "Find a session, or name a new one",
      maxlength: "100", dir: "auto", autocomplete: "off", autofocus: true, oninput: () => this.typed(),
    });
    this.names = element("div", { class: "halo-names" });
    this.items = new Map(); // name -> its button
    this.more = element("p", { class: "halo-quiet halo-none" });
    this.newSession = button("", () => this.ask({ kind: "switch", name: this.text }), { icon: "plus", labelled: true, kind: "halo-item" });
    this.none = element("p", { class: "halo-quiet halo-none", role: "status", dir: "auto" });
    this.picker = element("input", {
      type: "file", accept: ".json,application/json", hidden: true, "aria-label": "Exported conversation",
      onchange: () => {
        const [file] = this.picker.files;
        this.picker.value = "";
        panel.composer.focus();
        if (file) this.open(file);
      },
    });
    const [opener, list] = menu("Session", [this.name, icon("menu")], "halo-session", () => this.fill());
    this.opener = opener;
    this.nodes = [opener, list, this.picker];
  }

  paint() {
    const { session } = this.panel.store;
    setText(this.name, visible(session ?? "session"));
    this.opener.setAttribute("aria-label", `Session: ${session ?? "none yet"}`);
  }

  fill() {
    const off = Boolean(this.panel.store.gone);
    this.box.value = "";
    this.items.clear();
    this.names.style.minHeight = "";
    this.search();
    this.list();
    const form = element("form", {
      class: "halo-name-form",
      onsubmit: (event) => {
        event.preventDefault();
        this.enter();
      },
    }, this.box);
    return [form, this.names, this.none,
      button("New conversation", () => this.ask({ kind: "new" }), { icon: "plus", labelled: true, kind: "halo-item halo-new", disabled: off }),
      button("Open a conversation…", () => this.picker.click(), { icon: "file", labelled: true, kind: "halo-item", disabled: off, title: "A .json file that was exported" })];
  }

  ask(content) {
    this.panel.composer.focus();
    this.panel.store.request(content);
  }

  /** What is typed, as it is searched for. */
  get text() {
    return this.box.value.trim();
  }

  typed() {
    this.entered = false;
    this.names.style.minHeight ||= `${this.names.offsetHeight}px`; // so that the menu stays in its place
    this.list();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.search(), SEARCH_AFTER_MS);
  }

  /** Ask the kernel which sessions have the text in a message or reply; without one, for their first messages. */
  search() {
    clearTimeout(this.timer);
    const { text } = this;
    const { store } = this.panel;
    if (store.gone) return;
    this.searched = null;
    store.request({ kind: "find", text }, (answer) => {
      if (text !== this.text || refused(answer)) return;
      this.places = new Map(answer.found.map(({ name, place }) => [name, place]));
      this.searched = text;
      this.list();
      if (text && this.found.length) this.panel.say(`${counted(this.found.length, "session")} found`);
      if (this.entered) this.enter();
    });
  }

  /** Show the sessions whose name or messages have the text; those found by their name come first. */
  list() {
    const { text } = this;
    const { store } = this.panel;
    const wanted = text.toLowerCase();
    const named = ({ name }) => name.toLowerCase().includes(wanted);
    const known = this.searched === text; // the places are of this text
    const others = known && text ? store.sessions.filter((one) => !named(one) && this.places.has(one.name)) : [];
    this.found = [...store.sessions.filter(named), ...others];
    const items = this.found.slice(0, MAX_SHOWN).map((one) => this.item(one, known ? this.places.get(one.name) : ""));
    if (this.found.length > MAX_SHOWN) {
      setText(this.more, `${count(this.found.length - MAX_SHOWN)} more`);
      items.push(this.more);
    }
    if (text && !store.sessions.some(({ name }) => name === text)) {
      setText(this.newSession.lastChild, `New session “${visible(text)}”`);
      this.newSession.disabled = Boolean(store.gone);
      items.push(this.newSession);
    }
    const focused = this.panel.focused();
    arrange(this.names, items); // what is clicked or has the focus stays
    if (focused && !focused.isConnected) this.box.focus(); // the notebook would take the next keys as its own
    items.forEach((item, at) => item.classList.toggle("halo-first", Boolean(text) && at === 0));
    this.none.hidden = !text || this.found.length > 0;
    setText(this.none, this.none.hidden ? "" : known ? `No session has “${visible(text)}”.` : "Searching…");
  }

  item({ name, turns }, place) {
    const { store } = this.panel;
    if (!this.items.has(name)) {
      this.items.set(name, element("button", { type: "button", class: "halo-button halo-item halo-named", onclick: () => this.ask({ kind: "switch", name }) },
        element("span", {}, element("span", { class: "halo-session-label", text: visible(name), dir: "auto" }), element("span", { class: "halo-quiet halo-session-length" })),
        element("span", { class: "halo-quiet halo-place-found", dir: "auto" })));
    }
    const node = this.items.get(name);
    setText(node.firstChild.lastChild, counted(turns, "turn"));
    setText(node.lastChild, place ?? "");
    node.lastChild.hidden = !place;
    if (name === store.session) node.setAttribute("aria-current", "true");
    else node.removeAttribute("aria-current");
    node.disabled = Boolean(store.gone);
    return node;
  }

  /** Take the first of the list, once it is known what the kernel finds. */
  enter() {
    const { text } = this;
    if (!text) return;
    this.entered = this.searched !== text && !this.found.length;
    if (this.entered) this.search();
    else this.names.querySelector(".halo-item")?.click();
  }

  /** Send a file to the kernel, which opens it as a session. */
  async open(file) {
    const { store } = this.panel;
    const name = visible(file.name).slice(0, 120);
    if (file.size > MAX_FILE_BYTES) {
      store.notice(`“${name}” has ${count(Math.round(file.size / 1e6))} MB; the panel opens up to ${MAX_FILE_BYTES / 1e6} MB. Nothing was changed; use %halo open.`);
      return;
    }
    let data;
    try {
      data = await file.arrayBuffer();
    } catch {
      store.notice(`“${name}” could not be read. Nothing was changed.`);
      return;
    }
    store.upload(data, ({ which }) => which && store.request({ kind: "open", which, name: file.name }, (answer) => {
      if (!refused(answer)) this.panel.say("Conversation opened");
    }));
  }
}
