/* The state of an arena: a store for each column, and what is common to them. It does not use the DOM. */

import { keepDraft, keptDraft } from "../shared/host.js";
import { Link, refused } from "../shared/link.js";
import { Store } from "../chat/store.js";
import { freshId } from "../shared/text.js";

const DRAFT = "of an arena";

/** The widget's model as the column at `at` sees it. */
class ColumnModel {
  constructor(arena, at) {
    this.arena = arena;
    this.at = at;
    this.widget_manager = arena.model.widget_manager;
  }

  on(name, listener) {
    const own = name === "msg:custom" ? (content) => content.column === this.at && listener(content) : listener;
    this.arena.model.on(name, own);
  }

  get(name) {
    if (name === "_snapshot") return this.arena.model.get(name)?.columns?.[this.at];
    return name === "title" ? "" : this.arena.model.get(name);
  }

  /** A column sets only its snapshot. */
  set(_name, value) {
    this.arena.save(this.at, value);
  }

  send(content, ...more) {
    this.arena.model.send({ ...content, column: this.at }, ...more);
  }
}

class ColumnStore extends Store {
  constructor(arena) {
    super();
    this.arena = arena;
  }

  notice(text) {
    this.arena.notice(text);
  }

  changed() {
    super.changed();
    this.arena.changed();
  }
}

export class ArenaStore extends Link {
  columns = [];
  labels = [];
  names = null; // of the configurations, from left to right; null while they are hidden
  sessions = null; // the names of their sessions
  busy = false;
  round = null; // what a vote would be about; null if there is nothing to vote on
  outcomes = null; // of the last round, if it has a vote
  pending = []; // the message that the kernel has not yet taken
  stopping = false;
  oneAtATime = true; // a message goes to all columns, when all have answered the one before

  /** Start to listen; returns a function that ends it. */
  start(model) {
    const end = this.listen(model);
    for (const name of ["title", "height", "placeholder"]) model.on(`change:${name}`, () => this.changed());
    this.saved = model.get("_snapshot") ?? {};
    if (this.saved.arena) this.takeArena(this.saved.arena);
    const ends = Array.from({ length: model.get("_columns") }, (_, at) => {
      const store = new ColumnStore(this);
      this.columns.push(store);
      return store.start(new ColumnModel(this, at));
    });
    return () => [...ends, end].forEach((one) => one());
  }

  /** Keep what a page without a kernel shows. */
  save(at, column) {
    const { labels, names, sessions, outcomes } = this;
    const columns = Object.assign([...(this.saved.columns ?? [])], { [at]: column });
    this.saved = { columns, arena: { labels, names, sessions, outcomes, busy: false, round: null } };
    this.model.set("_snapshot", { ...this.saved, shown_at: Date.now() });
  }

  lost() {
    for (const message of this.pending) message.state = "unsent";
    this.stopping = false;
  }

  take(message) {
    if (message.kind === "arena" && message.column === undefined) this.takeArena(message);
  }

  takeArena({ labels, names, sessions, busy, round, outcomes }) {
    const could = Boolean(this.round);
    Object.assign(this, { labels, names, sessions, busy, round, outcomes });
    if (!busy) this.stopping = false;
    if (round && !could) this.say("All replies have ended. You can vote.");
    for (const message of this.pending) {
      if (message.state === "sending" && this.isLate(message.cid)) this.post(this.requestFor(message)); // it may be lost
    }
  }

  // -- what the text box uses

  get live() {
    return this.busy ? { state: "answering" } : null;
  }

  get turns() {
    return this.columns[0]?.turns ?? [];
  }

  draft() {
    return this.typed ?? keptDraft(this.model, DRAFT);
  }

  setDraft(text, from) {
    this.typed = text;
    keepDraft(this.model, DRAFT, text);
    for (const view of this.views) if (view !== from) view.showDraft();
  }

  stop() {
    if (!this.busy || this.gone || this.stopping) return;
    this.stopping = true;
    this.request({ kind: "stop" }, (answer) => {
      if (refused(answer)) this.stopping = false;
    });
  }

  picturesOf() {
    return [];
  }

  setPictures() {}

  addPicture(_session, { name }) {
    this.notice(`An arena sends text only. “${name}” was not added.`);
  }

  // -- page → kernel

  requestFor({ cid, cids, text }) {
    return { kind: "send", cid, cids, text };
  }

  send(text) {
    this.setDraft("");
    this.deliver({ text });
  }

  /** Send a message to all columns, under new ids: the kernel may have seen the old ones. */
  deliver({ text }) {
    const message = { cid: freshId(), cids: this.columns.map(freshId), text, state: "sending" };
    this.pending = [message];
    this.request(this.requestFor(message), (answer) => {
      if (refused(answer)) message.state = "unsent";
      else this.forget(message);
    });
  }

  forget(message) {
    this.pending = this.pending.filter((other) => other !== message);
    this.changed();
  }

  vote(choice) {
    this.request({ kind: "vote", choice, round: this.round });
  }

  begin() {
    this.request({ kind: "new" });
  }

  /** The columns whose last message can be sent again, when nothing runs. */
  get failed() {
    if (this.busy || this.gone) return [];
    return this.columns.filter((store) => !store.queue.length && store.turns.at(-1)?.again);
  }

  /** Send the last message again, only to the columns where it failed. */
  again() {
    for (const store of this.failed) store.again(store.turns.at(-1));
  }
}
