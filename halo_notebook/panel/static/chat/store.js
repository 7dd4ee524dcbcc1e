/* The store: the conversation as the kernel reports it, and the requests to the kernel. It does not use the DOM. */

import { keepDraft, keptDraft } from "../shared/host.js";
import { Link, refused } from "../shared/link.js";
import { spoken } from "../shared/status.js";
import { freshId } from "../shared/text.js";

const SILENCE_MS = 6_000; // during a turn the kernel sends at least a beat every 2 s
const SYNC_AGAIN_MS = 5_000;
const UPLOAD_AGAIN_MS = 10_000;
const MAX_SAVED_TURNS = 30;

function keptPictures(model, session) {
  try {
    return JSON.parse(keptDraft(model, session, "images") || "[]");
  } catch {
    return []; // written by something else
  }
}

/** The request that sends a message. */
function requestOf({ cid, text, edits, pictures }) {
  if (edits) return { kind: "edit", key: edits, cid, text };
  return { kind: "send", cid, text, ...(pictures.length && { images: pictures.map(({ id }) => id) }) };
}

export class Store extends Link {
  epoch = null;
  seq = 0;
  session = null;
  sessions = [];
  versions = {}; // number of a turn -> { names, at }: the sessions with another message there
  turns = [];
  earlier = 0;
  live = null;
  queue = [];
  agent = null;
  source = "";
  start_note = ""; // what the next message starts, if it does not continue a conversation
  pending = []; // messages that the kernel has not yet shown
  drafts = new Map(); // session -> text
  pictures = new Map(); // session -> [{ id, name, url, state }], the images that go with the draft
  stopping = false;
  syncTries = 0;

  /** Start to listen; returns a function that ends it. It must be quick, since the kernel's messages wait for it. */
  start(model) {
    const end = this.listen(model);
    for (const name of ["title", "height", "placeholder", "suggestions"]) model.on(`change:${name}`, () => this.changed());
    const saved = model.get("_snapshot");
    if (saved?.epoch) this.replaceAll(saved);
    this.save(saved);
    if (this.real?.comm_live === false) this.lose("none");
    this.sync();
    const watchdog = setInterval(() => {
      if (this.live && !this.gone && performance.now() - this.heardAt > SILENCE_MS) this.sync();
    }, 1_000);
    return () => {
      clearInterval(watchdog);
      clearTimeout(this.syncing);
      end();
    };
  }

  /** Add a view; returns a function that removes it. */
  show(view) {
    const hide = super.show(view);
    if (this.views.size === 1) this.countViews();
    return () => {
      hide();
      if (!this.views.size) this.countViews();
    };
  }

  /** Tell the kernel how many views there are: it sends changes only to pages that show the panel. */
  countViews() {
    if (!this.gone) this.post({ kind: "views", cid: freshId(), count: this.views.size });
  }

  lost() {
    clearTimeout(this.syncing);
    this.syncing = null;
    for (const message of this.pending) message.state = "unsent";
    this.stopping = false;
  }

  // -- page → kernel

  /** Ask for a snapshot, and again after a growing delay while none comes. */
  sync({ now = false } = {}) {
    if ((this.gone || this.syncing) && !now) return;
    clearTimeout(this.syncing);
    const wait = Math.min(SYNC_AGAIN_MS * 2 ** Math.max(0, this.syncTries - 1), 60_000);
    this.syncTries++;
    this.syncing = setTimeout(() => {
      this.syncing = null;
      this.sync();
    }, wait);
    this.post({ kind: "sync", cid: freshId() });
  }

  /** Send a message, or one that takes the place of the turn with the key `edits`. */
  send(text, edits) {
    const message = { cid: freshId(), text, edits, pictures: [], session: this.session, state: "sending" };
    this.pending.push(message);
    if (!edits && text === this.draft()) {
      this.setDraft("");
      message.pictures = this.picturesOf(this.session);
      this.setPictures(this.session, []);
    }
    this.deliver(message);
  }

  /** Send a message to the kernel once that has its images. */
  deliver(message) {
    message.state = message.pictures.some(({ state }) => state === "refused") ? "unsent" : "sending";
    message.uploading = message.pictures.some(({ state }) => state === "sending");
    if (message.state === "unsent" || message.uploading) return;
    this.request(requestOf(message), (answer) => {
      message.state = refused(answer) ? "unsent" : "taken";
      if (message.state === "taken") this.say("Message sent");
      this.changed();
    });
  }

  sendAgain(message) {
    // A new id: the kernel refused the old one, or may have seen it before it went away.
    message.cid = freshId();
    this.deliver(message);
  }

  // -- images of the next message

  picturesOf(session) {
    if (session === null) return [];
    if (!this.pictures.has(session)) {
      const kept = keptPictures(this.model, session);
      this.pictures.set(session, kept.map((picture) => ({ ...picture, session, state: "taken" })));
    }
    return this.pictures.get(session);
  }

  setPictures(session, pictures) {
    this.pictures.set(session, pictures);
    // Those that the kernel has can still be sent after a reload.
    const kept = pictures.filter(({ state }) => state === "taken").map(({ id, name, url }) => ({ id, name, url }));
    keepDraft(this.model, session, kept.length ? JSON.stringify(kept) : "", "images");
    this.changed();
  }

  /** Add an image to the next message of a session: `url` is its thumbnail, `data` its file. */
  addPicture(session, { name, url }, data) {
    const picture = { id: freshId(), name, url, session, state: "sending", data };
    this.setPictures(session, [...this.picturesOf(session), picture]);
    this.uploadPicture(picture);
  }

  uploadPicture(picture) {
    const attempt = (picture.attempt = freshId());
    picture.since = performance.now();
    const end = (answer) => {
      if (picture.attempt !== attempt) return; // another one has begun
      picture.state = refused(answer) ? "refused" : "taken";
      picture.data = null;
      this.setPictures(picture.session, this.picturesOf(picture.session).filter(({ state }) => state !== "refused"));
      for (const message of this.pending) if (message.uploading && message.pictures.includes(picture)) this.deliver(message);
    };
    this.upload(picture.data, (answer) => {
      if (refused(answer)) end(answer);
      else this.request({ kind: "image", which: answer.which, id: picture.id, name: picture.name, thumbnail: picture.url }, end);
    });
  }

  /** Send again what was on its way when the connection was lost. */
  uploadAgain() {
    const pictures = [...this.pictures.values(), ...this.pending.map((message) => message.pictures)].flat();
    for (const picture of new Set(pictures)) {
      if (picture.state === "sending" && performance.now() - picture.since > UPLOAD_AGAIN_MS) this.uploadPicture(picture);
    }
  }

  removePicture({ id, session }) {
    this.setPictures(session, this.picturesOf(session).filter((other) => other.id !== id));
  }

  forget(message) {
    this.pending = this.pending.filter((other) => other !== message);
    this.changed();
  }

  stop() {
    if (!this.live || this.gone || this.stopping) return;
    this.stopping = true;
    this.request({ kind: "stop" }, (answer) => {
      if (refused(answer)) this.stopping = false;
    });
  }

  again(turn) {
    this.replaceTurn({ ...turn, again: "" });
    this.request({ kind: "again", key: turn.key }, (answer) => refused(answer) && this.replaceTurn(turn));
  }

  rate(turn, value, note) {
    this.replaceTurn({ ...turn, rating: { value, note } });
    this.request({ kind: "rate", key: turn.key, value, note }, (answer) => refused(answer) && this.replaceTurn(turn));
  }

  /** Add the conversation up to `turn` to the file of test cases; `done` gets the answer, which says where. */
  keep(turn, expect, tags, done) {
    const words = tags.split(/[,;]/).map((tag) => tag.trim()).filter(Boolean);
    this.request({ kind: "keep", key: turn.key, expect: expect.trim(), tags: words }, done);
  }

  replaceTurn(turn) {
    const at = this.turns.findIndex((other) => other.key === turn.key);
    if (at >= 0) this.turns = this.turns.with(at, turn);
    return at >= 0;
  }

  showEarlier(done) {
    const session = this.session;
    const before = this.turns[0]?.number ?? this.live?.number ?? 0;
    this.request({ kind: "earlier", before }, (answer) => {
      if (answer.turns && this.session === session && (this.turns[0]?.number ?? before) === before) {
        this.turns = [...answer.turns, ...this.turns];
        this.earlier = answer.earlier ?? 0;
      }
      done();
      this.changed();
    });
  }

  draft() {
    return this.drafts.get(this.session ?? "") ?? (this.session === null ? "" : keptDraft(this.model, this.session));
  }

  setDraft(text, from) {
    this.drafts.set(this.session ?? "", text);
    if (this.session !== null) keepDraft(this.model, this.session, text);
    for (const view of this.views) if (view !== from) view.showDraft();
  }

  // -- kernel → page

  take(message) {
    switch (message.kind) {
      case "views": if (this.views.size) this.countViews(); break;
      case "snapshot": this.takeSnapshot(message); break;
      default: this.takeNext(message);
    }
  }

  /** Apply a message only if it follows the previous one: otherwise its text would go to the wrong place. */
  takeNext(message) {
    if (message.epoch !== this.epoch) {
      this.sync();
    } else if (message.kind === "beat") {
      if (message.seq !== this.seq) this.sync();
      else if (this.live) this.live = { ...this.live, state: message.state };
    } else if (message.seq === this.seq + 1) {
      this.seq = message.seq;
      this.apply(message);
    } else if (message.seq > this.seq) {
      if (message.kind === "turn") this.apply(message); // complete on its own
      this.sync();
    }
  }

  apply(message) {
    switch (message.kind) {
      case "begin": this.begin(message.turn); break;
      case "frame": this.frame(message); break;
      case "turn": this.finish(message.turn); break;
      case "queue": this.takeQueue(message.queue); break;
      case "start": this.start_note = message.start_note; break;
      case "sessions": Object.assign(this, { sessions: message.sessions, versions: message.versions ?? {} }); break;
      default: // from a later version
    }
  }

  begin(turn) {
    this.live = turn;
    this.start_note = "";
    this.agent = turn.agent ?? this.agent;
    this.source = turn.source;
    this.stopping = false;
    this.arrived(turn.cid);
    this.say("The agent is answering");
  }

  frame(message) {
    const { live } = this;
    if (!live || live.key !== message.key) {
      this.sync();
      return;
    }
    const waiting = [...live.waiting, ...message.waiting];
    // An action that has waited for its place is sent as its id only.
    const waited = new Map(waiting.map((action) => [action.id, { action }]));
    const items = message.items.map((item) => waited.get(item.waited) ?? item);
    this.live = {
      ...live,
      items: items.length ? [...live.items, ...items] : live.items,
      open: live.open.slice(0, message.keep) + message.open,
      waiting: waiting.filter((action) => !message.items.some((item) => item.waited === action.id)),
      state: message.state,
    };
  }

  finish(turn) {
    const wasLive = this.live?.key === turn.key;
    if (wasLive) {
      this.live = null;
      this.stopping = false;
    }
    this.arrived(turn.cid);
    if (!this.replaceTurn(turn)) {
      this.turns = [...this.turns, turn].sort((a, b) => a.number - b.number);
    }
    this.agent = turn.agent ?? this.agent;
    this.save();
    if (wasLive) this.say(spoken(turn));
  }

  takeQueue(queue) {
    this.queue = queue;
    for (const item of queue) this.arrived(item.cid);
  }

  /** The kernel shows the message with this id: remove the page's own copy. */
  arrived(cid) {
    if (!cid) return;
    this.pending = this.pending.filter((message) => message.cid !== cid);
    this.settle(cid, {});
  }

  takeSnapshot(message) {
    clearTimeout(this.syncing);
    this.syncing = null;
    this.syncTries = 0;
    this.replaceAll(message);
    this.uploadAgain();
    for (const one of this.pending) {
      one.session ??= this.session;
      if (one.state !== "sending" || one.uploading) continue;
      if (one.session === this.session) this.post(requestOf(one));
      else one.state = "unsent"; // it was written for another conversation
    }
    this.save();
  }

  replaceAll(message) {
    const turns = message.turns ?? [];
    // Keep older turns, which a snapshot may have no room for: without them the page would jump.
    const same = message.epoch === this.epoch && message.session === this.session && turns.length;
    const older = same ? this.turns.filter((turn) => turn.number < turns[0].number) : [];
    const follows = older.at(-1)?.number === turns[0]?.number - 1;
    this.turns = follows ? [...older, ...turns] : turns;
    this.earlier = follows ? this.earlier : (message.earlier ?? 0);
    const early = this.session === null ? this.drafts.get("") : "";
    if (message.live?.key !== this.live?.key) this.stopping = false;
    const { epoch, seq, session, sessions = [], live = null, agent = null, source = "" } = message;
    const { start_note = "", versions = {} } = message;
    Object.assign(this, { epoch, seq, session, sessions, live, agent, source, start_note, versions });
    if (early) this.setDraft(early);
    this.takeQueue(message.queue ?? []);
    for (const turn of [...turns, live ?? {}]) this.arrived(turn.cid);
    // A message that was taken and is not in the snapshot was taken back in another view.
    this.pending = this.pending.filter((one) => one.state !== "taken");
  }

  /** Keep the newest turns in the widget's state, which may be saved with the notebook. */
  save(snapshot = null) {
    const turns = this.turns.slice(-MAX_SAVED_TURNS);
    const { epoch, seq, session, sessions, versions, agent, source, start_note } = this;
    const earlier = this.earlier + this.turns.length - turns.length;
    const settled = { turns, earlier, live: null, queue: [], agent, source, start_note };
    const kept = snapshot ?? { epoch, seq, session, sessions, versions, ...settled };
    this.model.set("_snapshot", { ...kept, shown_at: Date.now() });
  }
}
