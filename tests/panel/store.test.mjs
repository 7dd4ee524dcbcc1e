// The store: what the page knows about a conversation and asks of the kernel, with a model that records what is sent.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { NO_ANSWER, progressOf, stateOf } from "../../halo_notebook/panel/static/shared/status.js";
import { Store } from "../../halo_notebook/panel/static/chat/store.js";

const turn = (number, more = {}) => ({
  key: `t${number}`, number, asked: `question ${number}`, status: "complete", text: `answer ${number}`, error: "",
  items: [{ html: `<p>answer ${number}</p>` }], source: "", again: "", ...more,
});
const live = (number, more = {}) => turn(number, { status: "streaming", state: "streaming", items: [], open: "", waiting: [], text: "", ...more });
const frame = (seq, more = {}) => ({ kind: "frame", epoch: 1, seq, key: "t1", keep: 0, open: "", items: [], waiting: [], state: "streaming", ...more });
const snapshot = (more = {}) => ({ kind: "snapshot", epoch: 1, seq: 1, session: "docs", sessions: [], turns: [], queue: [], live: null, ...more });

let store, sent, saved, timers, said, hide, ends;

/** What the store has sent of one kind. */
const asked = (kind) => sent.filter((one) => one.kind === kind);
const view = { say: (text) => said.push(text), schedule() {}, showDraft() {} };
const real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };

/** A store that has started, with a saved state and a kernel to watch; its end is the test's. */
function started(state = {}, kernel = undefined) {
  const one = new Store();
  ends.push(one.start({
    widget_manager: { kernel },
    on() {},
    get: (name) => state[name],
    set: (name, value) => saved.push(value),
    send: (content, callbacks, buffers) => sent.push(buffers ? { ...content, buffer: buffers[0].byteLength } : content),
  }));
  return one;
}

const begin = (more) => store.receive({ kind: "begin", epoch: 1, seq: 2, turn: live(1, more) });
/** Answer the first request of one kind. */
const answer = (kind, more) => store.receive({ kind: "answer", cid: asked(kind)[0].cid, ...more });

/** Run the timers that were set for at most so many milliseconds. */
function wait(milliseconds) {
  for (const [id, { call, after }] of [...timers]) {
    if (after > milliseconds) continue;
    timers.delete(id);
    call();
  }
}

beforeEach(() => {
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key), setItem: (key, text) => kept.set(key, text), removeItem: (key) => kept.delete(key) };
  Object.defineProperty(globalThis, "sessionStorage", { value: storage, configurable: true });
  globalThis.location = { pathname: "/a.ipynb" };
  [sent, saved, said, ends, timers] = [[], [], [], [], new Map()];
  globalThis.setTimeout = (call, after) => {
    const id = timers.size + 1_000 * sent.length + Math.random();
    timers.set(id, { call, after });
    return id;
  };
  globalThis.clearTimeout = (id) => timers.delete(id);
  store = started();
  hide = store.show(view);
  store.receive(snapshot());
});

afterEach(() => {
  for (const end of ends) end();
  Object.assign(globalThis, real);
});

test("a page that starts asks for the whole, and says from its first view to its last that it shows the panel", () => {
  assert.equal(asked("sync").length, 1);
  store.show({ ...view })();
  assert.deepEqual(asked("views").map((one) => one.count), [1]);
  store.receive({ kind: "views" });
  hide();
  assert.deepEqual(asked("views").map((one) => one.count), [1, 1, 0]);
});

test("a reply grows by what is new", () => {
  begin();
  store.receive(frame(3, { open: "<p>Hel</p>" }));
  store.receive(frame(4, { keep: 6, open: "lo</p>" }));
  assert.equal(store.live.open, "<p>Hello</p>");
  store.receive(frame(5, { items: [{ html: "<p>Hello</p>" }] }));
  store.receive({ kind: "turn", epoch: 1, seq: 6, turn: turn(1) });
  assert.deepEqual([store.live, store.turns.map((one) => one.key)], [null, ["t1"]]);
});

test("an action that waits stands once, in its place when its block ends", () => {
  begin();
  store.receive(frame(3, { open: "<p>Hel</p>", waiting: [{ id: "a1" }, { id: "a2" }] }));
  assert.deepEqual(store.live.waiting, [{ id: "a1" }, { id: "a2" }]);
  store.receive(frame(4, { items: [{ html: "<p>Hello</p>" }, { waited: "a1" }, { action: { id: "a3" } }] }));
  assert.deepEqual(store.live.items, [{ html: "<p>Hello</p>" }, { action: { id: "a1" } }, { action: { id: "a3" } }]);
  assert.deepEqual(store.live.waiting, [{ id: "a2" }]);
});

test("a message that does not follow the one before is dropped, and the whole is asked for once", () => {
  begin();
  store.receive(frame(4, { open: "lost" }));
  store.receive(frame(5, { open: "too" }));
  assert.equal(store.live.open, "");
  assert.equal(asked("sync").length, 2);
  store.receive(snapshot({ seq: 5, live: live(1, { open: "<p>All</p>" }) }));
  store.receive(frame(6, { keep: 3, open: "Of it</p>" }));
  assert.equal(store.live.open, "<p>Of it</p>");
});

for (const [what, message, changes] of [
  ["a frame of another conversation", { ...frame(2), epoch: 9 }, false],
  ["a frame of no turn that is known", frame(2, { key: "t7" }), false],
  ["a sign of life after a message that did not come", { kind: "beat", epoch: 1, seq: 2, state: "x" }, false],
  ["a finished turn after messages that did not come", { kind: "turn", epoch: 1, seq: 9, turn: turn(1) }, true],
]) {
  test(`the whole is asked for after ${what}; only a whole turn is taken`, () => {
    store.receive({ kind: "beat", epoch: 1, seq: 1, state: "x" });
    assert.equal(asked("sync").length, 1);
    store.receive(message);
    assert.deepEqual([store.live, store.turns, asked("sync").length], [null, changes ? [turn(1)] : [], 2]);
  });
}

test("the whole is asked for less and less often while no answer comes", () => {
  store.sync();
  const waits = [];
  for (let turns = 0; turns < 6; turns++) {
    waits.push(Math.max(...[...timers.values()].map((timer) => timer.after).filter((after) => after !== 30_000)));
    wait(Infinity);
  }
  assert.deepEqual(waits, [5_000, 5_000, 10_000, 20_000, 40_000, 60_000]);
});

test("older turns that were asked for stay when the whole comes again", () => {
  store.receive(snapshot({ turns: [turn(3)], earlier: 2 }));
  store.showEarlier(() => {});
  answer("earlier", { turns: [turn(2)], earlier: 1 });
  store.receive(snapshot({ turns: [turn(3), turn(4)], earlier: 2 }));
  assert.deepEqual([store.turns.map((one) => one.number), store.earlier], [[2, 3, 4], 1]);
});

test("turns stay that a snapshot has no room for, unless one between them is missing", () => {
  store.receive(snapshot({ turns: [turn(1), turn(2)] }));
  store.receive(snapshot({ turns: [turn(3)], earlier: 2 }));
  assert.deepEqual([store.turns.map((one) => one.number), store.earlier], [[1, 2, 3], 0]);
  store.receive(snapshot({ turns: [turn(5)], earlier: 4 }));
  assert.deepEqual([store.turns.map((one) => one.number), store.earlier], [[5], 4]);
  store.receive(snapshot({ epoch: 2, turns: [turn(6)], earlier: 5 }));
  assert.deepEqual([store.turns.map((one) => one.number), store.earlier], [[6], 5]);
});

test("what is typed is in view until the kernel shows it", () => {
  store.send("hello");
  const [{ cid, text }] = asked("send");
  assert.deepEqual([text, stateOf(store)], ["hello", ["live", "sending"]]);
  store.receive({ kind: "answer", cid });
  assert.equal(store.pending.length, 1);
  begin({ cid });
  assert.deepEqual([store.pending, stateOf(store)], [[], ["live", "streaming"]]);
});

test("a message that was refused is kept as not sent, and goes out again under another id", () => {
  store.send("hello");
  answer("send", { error: "too long" });
  assert.deepEqual(stateOf(store), ["failed", "not sent"]);
  assert.equal(store.notices.at(-1).text, "too long");
  store.sendAgain(store.pending[0]);
  assert.notEqual(asked("send")[1].cid, asked("send")[0].cid);
});

test("a message without an answer is sent again with its id, but never to another session", () => {
  store.send("hello");
  store.receive(snapshot());
  assert.equal(asked("send")[1].cid, asked("send")[0].cid);
  store.receive(snapshot({ epoch: 2, session: "other" }));
  assert.equal(asked("send").length, 2);
  assert.equal(store.pending[0].state, "unsent");
});

test("a message that another view took back is gone", () => {
  store.send("hello");
  answer("send");
  store.receive(snapshot());
  assert.deepEqual(store.pending, []);
});

test("a message is said to be sent when the kernel has it", () => {
  store.send("hello");
  assert.deepEqual(said, []);
  answer("send");
  begin({ cid: asked("send")[0].cid });
  assert.deepEqual(said, ["Message sent", "The agent is answering"]);
  store.send("too long");
  store.receive({ kind: "answer", cid: asked("send")[1].cid, error: "refused" });
  assert.deepEqual(said.slice(2), ["refused"]);
});

for (const [what, ask, kernel] of [
  ["a message and no kernel to look at", (one) => one.send("hello")],
  ["a message and a kernel that seems free", (one) => one.send("hello"), { status: "idle" }],
  ["Stop", (one) => { one.receive({ kind: "begin", epoch: 1, seq: 2, turn: live(1) }); one.stop(); }],
  ["a rating", (one) => { one.receive(snapshot({ turns: [turn(1)] })); one.rate(one.turns[0], "up", ""); }],
  ["the first snapshot", () => {}],
]) {
  test(`after half a minute without an answer to ${what} the page says so, until somebody answers`, () => {
    const one = started({}, kernel);
    one.show(view);
    if (what !== "the first snapshot") one.receive(snapshot());
    ask(one);
    wait(30_000);
    assert.deepEqual([one.silent, stateOf(one)[1], said.at(-1)], [true, "no answer", NO_ANSWER]);
    const heard = said.length;
    wait(60_000);
    assert.equal(said.length, heard);
    one.receive(snapshot());
    assert.deepEqual([one.silent, said[heard]], [false, "The kernel answers again"]);
  });
}

test("a message that nobody answered goes out again, with its id, when somebody answers", () => {
  store.send("hello");
  wait(30_000);
  assert.equal(asked("sync").length, 2);
  store.receive(snapshot());
  assert.deepEqual(asked("send").map((one) => one.cid), Array(2).fill(asked("send")[0].cid));
});

test("a kernel that computes or is not connected owes no answer yet", () => {
  const kernel = { status: "busy" };
  const one = started({}, kernel);
  one.receive(snapshot());
  one.send("hello");
  wait(30_000);
  assert.equal(one.silent, false);
  kernel.status = "idle";
  one.connection(true);
  wait(30_000);
  assert.equal(one.silent, false);
  one.connecting = false;
  wait(30_000);
  assert.equal(one.silent, true);
});

test("a kernel that answers everything is never silent, however long", () => {
  store.send("hello");
  answer("send");
  wait(Infinity);
  assert.equal(store.silent, false);
});

test("a request without an answer for half a second means a busy kernel", () => {
  store.send("hello");
  wait(500);
  assert.deepEqual(stateOf(store), ["busy", "kernel busy"]);
  assert.ok(store.isLate(asked("send")[0].cid));
  answer("send");
  assert.deepEqual(stateOf(store), ["live", "sending"]);
});

test("stop is asked for once, and waits for the kernel", () => {
  begin();
  store.stop();
  store.stop();
  assert.equal(asked("stop").length, 1);
  assert.equal(progressOf(store), "stopping");
  wait(500);
  assert.match(progressOf(store), /interrupt the kernel/);
});

test("a rating shows at once, and goes when the kernel refuses it", () => {
  store.receive(snapshot({ turns: [turn(1)] }));
  store.rate(store.turns[0], "up", "");
  assert.deepEqual(store.turns[0].rating, { value: "up", note: "" });
  answer("rate", { error: "no such turn" });
  assert.equal(store.turns[0].rating, undefined);
});

test("each session has a draft of its own", () => {
  store.setDraft("for docs");
  store.receive(snapshot({ epoch: 2, session: "other" }));
  assert.equal(store.draft(), "");
  store.receive(snapshot({ epoch: 3 }));
  assert.equal(store.draft(), "for docs");
  store.send("for docs");
  assert.equal(store.draft(), "");
});

test("a draft from before the session was known goes to it", () => {
  const early = started();
  early.setDraft("typed early");
  early.receive(snapshot());
  assert.equal(early.draft(), "typed early");
});

test("a draft is there after a reload, in another panel on the session, and gone when it was sent", () => {
  store.setDraft("half a mess");
  store.setDraft("half a message");
  const again = started();
  assert.equal(again.draft(), "");
  again.receive(snapshot());
  assert.equal(again.draft(), "half a message");
  again.receive(snapshot({ epoch: 2, session: "other" }));
  assert.equal(again.draft(), "");
  again.receive(snapshot({ epoch: 3 }));
  again.send("a suggestion");
  assert.equal(again.draft(), "half a message");
  again.send("half a message");
  const last = started();
  last.receive(snapshot());
  assert.deepEqual([again.draft(), last.draft()], ["", ""]);
});

test("when the kernel goes, nothing stays waiting, and the first reason is shown", () => {
  const handlers = {};
  const signal = (name) => ({ connect: (handler) => { handlers[name] = handler; }, disconnect() {} });
  const kernel = { status: "idle", statusChanged: signal("status"), connectionStatusChanged: signal("connection") };
  const watched = started({}, kernel);
  watched.receive(snapshot());
  watched.send("hello");
  kernel.connectionStatus = "connecting";
  handlers.connection();
  assert.deepEqual(stateOf(watched), ["busy", "reconnecting"]);
  kernel.status = "restarting";
  handlers.status();
  kernel.status = "dead";
  handlers.status();
  assert.deepEqual([watched.gone, watched.pending[0].state], ["restarted", "unsent"]);
  assert.deepEqual(stateOf(watched), ["gone", "kernel gone"]);
  watched.receive(snapshot());
  assert.equal(watched.gone, "");
});

test("a closed panel stays closed", () => {
  store.receive({ kind: "closed" });
  store.receive(frame(2));
  assert.equal(store.gone, "closed");
});

test("a finished reply is spoken once, a long one in part", () => {
  begin();
  store.receive({ kind: "turn", epoch: 1, seq: 3, turn: turn(1, { text: "long ".repeat(200), items: [{ action: {} }, { action: {} }] }) });
  assert.equal(said.length, 2);
  assert.match(said[1], /^long .* … the reply continues 2 actions$/);
});

test("the newest turns are kept with the widget, and how many there are before them", () => {
  store.receive(snapshot({ turns: Array.from({ length: 40 }, (_, at) => turn(at + 3)), earlier: 2 }));
  const { turns, earlier } = saved.at(-1);
  assert.deepEqual([turns.length, turns[0].number, earlier], [30, 13, 12]);
});

test("a saved conversation shows before the kernel answers", () => {
  assert.equal(started({ _snapshot: snapshot({ turns: [turn(1)] }) }).turns.length, 1);
});

test("a turn is kept as a test case with what is expected and its tags", () => {
  const answers = [];
  store.receive(snapshot({ turns: [turn(1)] }));
  store.keep(store.turns[0], "  Ada & Co ", " memory, a b;;x ,", (one) => answers.push(one));
  const { cid, ...request } = asked("keep")[0];
  assert.deepEqual(request, { kind: "keep", key: "t1", expect: "Ada & Co", tags: ["memory", "a b", "x"] });
  answer("keep", { kept: "Kept in 'cases.jsonl' as 'a' (1 case)." });
  assert.equal(answers[0].cid, cid);
  store.keep(store.turns[0], "", "", (one) => answers.push(one));
  assert.deepEqual(asked("keep")[1].tags, []);
  store.receive({ kind: "answer", cid: asked("keep")[1].cid, error: "'cases.jsonl' is a recording." });
  assert.equal(store.notices.at(-1).text, "'cases.jsonl' is a recording.");
});

test("a session from a file says what its next message starts, until that begins", () => {
  store.receive(snapshot({ turns: [turn(1)], start_note: "a new conversation" }));
  assert.equal(store.start_note, "a new conversation");
  assert.equal(saved.at(-1).start_note, "a new conversation");
  store.receive({ kind: "begin", epoch: 1, seq: 2, turn: live(2, { start_note: "a new conversation" }) });
  assert.equal(store.start_note, "");
  store.receive(snapshot({ turns: [turn(1), turn(2)], seq: 3 }));
  assert.equal(store.start_note, "");
});

test("an edited message goes out under one id, and leaves the page when the new session shows it", () => {
  store.receive(snapshot({ turns: [turn(1), turn(2)] }));
  store.setDraft("a draft");
  store.send("question 1 b", "t1");
  const [{ cid, ...request }] = asked("edit");
  assert.deepEqual([request, asked("send"), store.draft()], [{ kind: "edit", key: "t1", text: "question 1 b" }, [], "a draft"]);
  store.receive(snapshot({ turns: [turn(1), turn(2)] })); // the connection was lost in between
  assert.deepEqual(asked("edit").map((one) => one.cid), [cid, cid]);
  const versions = { 1: { names: ["docs", "docs (2)"], at: 1 } };
  store.receive(snapshot({ epoch: 2, session: "docs (2)", queue: [{ cid, text: "question 1 b" }], versions }));
  assert.deepEqual([store.pending, store.versions], [[], versions]);
  assert.deepEqual(saved.at(-1).versions, versions);
});

test("an edited message that the kernel refuses can be sent again as one", () => {
  store.send("question 1 b", "t1");
  answer("edit", { error: "That turn still runs." });
  assert.equal(store.pending[0].state, "unsent");
  store.sendAgain(store.pending[0]);
  assert.deepEqual(asked("edit").map((one) => one.key), ["t1", "t1"]);
  assert.notEqual(asked("edit")[1].cid, asked("edit")[0].cid);
});

test("the versions of the messages change with the sessions", () => {
  const versions = { 2: { names: ["docs", "docs (2)"], at: 0 } };
  store.receive({ kind: "sessions", epoch: 1, seq: 2, sessions: [], versions });
  assert.deepEqual(store.versions, versions);
  store.receive({ kind: "sessions", epoch: 1, seq: 3, sessions: [] });
  assert.deepEqual(store.versions, {});
});

/** Add an image of so many bytes, and answer the requests that upload it, but for the last `open`. */
function addImage(bytes, { open = 0, error } = {}) {
  const before = sent.length;
  store.addPicture(store.session, { name: "a.png", url: "data:image/webp;base64,AA" }, new ArrayBuffer(bytes));
  for (let at = before; at < sent.length; at++) {
    if (open && sent[at].kind === "image") break;
    store.receive({ kind: "answer", cid: sent[at].cid, ...(sent[at].kind === "image" && { error }) });
  }
  return store.picturesOf(store.session).at(-1);
}

test("an image goes to the kernel in parts, then with the message by its id", () => {
  const { id } = addImage(2_500_000);
  assert.deepEqual(asked("upload").map(({ part, parts, bytes, buffer }) => [part, parts, bytes - buffer, buffer]),
    [[0, 3, 0, 1_000_000], [1, 3, 0, 1_000_000], [2, 3, 0, 500_000]]);
  const [{ which, name, thumbnail }] = asked("image");
  assert.deepEqual([which, name, thumbnail], [asked("upload")[0].which, "a.png", "data:image/webp;base64,AA"]);
  store.setDraft("Look");
  store.send("Look");
  assert.deepEqual(asked("send")[0].images, [id]);
  assert.deepEqual(store.picturesOf("docs"), []);
  store.send("And this?");
  assert.equal(asked("send")[1].images, undefined);
});

test("a message waits for its images, and is not sent without one that is refused", () => {
  addImage(10, { open: 1 });
  store.setDraft("Look");
  store.send("Look");
  assert.deepEqual([asked("send"), store.pending[0].uploading], [[], true]);
  store.receive(snapshot());
  assert.deepEqual(asked("send"), []);
  answer("image");
  assert.equal(asked("send").length, 1);
  store.receive({ kind: "answer", cid: asked("send")[0].cid });
  store.receive(snapshot());
  addImage(10, { open: 1 });
  store.setDraft("Again");
  store.send("Again");
  store.receive({ kind: "answer", cid: asked("image")[1].cid, error: "'a.png' is not an image" });
  assert.deepEqual([asked("send").length, store.pending[0].state], [1, "unsent"]);
});

test("an image that is refused leaves the draft, and one that is removed is not sent", () => {
  addImage(10, { error: "'a.png' is not an image" });
  assert.deepEqual([store.picturesOf("docs"), store.notices.at(-1).text], [[], "'a.png' is not an image"]);
  store.removePicture(addImage(10));
  store.setDraft("Look");
  store.send("Look");
  assert.equal(asked("send")[0].images, undefined);
});

test("images belong to the draft of a session, and are there after a reload", () => {
  const { id } = addImage(10);
  store.receive(snapshot({ epoch: 2, session: "other" }));
  assert.deepEqual(store.picturesOf(store.session), []);
  const again = started();
  again.receive(snapshot());
  assert.deepEqual(again.picturesOf("docs").map((one) => [one.id, one.name]), [[id, "a.png"]]);
  again.setDraft("Look");
  again.send("Look");
  assert.deepEqual(asked("send")[0].images, [id]);
  const last = started();
  last.receive(snapshot());
  assert.deepEqual(last.picturesOf("docs"), []);
  sessionStorage.setItem('halo_notebook images ["/a.ipynb","odd"]', "{not json");
  assert.deepEqual(last.picturesOf("odd"), []);
});

test("an upload that was cut off begins again with the next snapshot", () => {
  const { performance } = globalThis;
  store.addPicture("docs", { name: "a.png", url: "" }, new ArrayBuffer(10));
  store.receive(snapshot());
  assert.equal(asked("upload").length, 1);
  Object.defineProperty(globalThis, "performance", { value: { now: () => performance.now() + 20_000 }, configurable: true });
  store.receive(snapshot());
  Object.defineProperty(globalThis, "performance", { value: performance, configurable: true });
  assert.equal(asked("upload").length, 2);
  for (const one of asked("upload")) store.receive({ kind: "answer", cid: one.cid });
  for (const one of asked("image")) store.receive({ kind: "answer", cid: one.cid });
  assert.equal(store.picturesOf("docs")[0].state, "taken");
});

test("where buffers are lost, a file goes as text from then on", () => {
  const over = [];
  store.upload(new TextEncoder().encode("ab".repeat(600_000)).buffer, (end) => over.push(end));
  store.receive({ kind: "answer", cid: asked("upload")[0].cid, as_text: true });
  for (const at of [1, 2]) store.receive({ kind: "answer", cid: asked("upload")[at].cid });
  const [lost, first, second] = asked("upload");
  assert.deepEqual([lost.part, first.part, second.part, first.buffer], [0, 0, 1, undefined]);
  assert.equal(atob(first.base64) + atob(second.base64), "ab".repeat(600_000));
  assert.deepEqual(over, [{ which: lost.which }]);
});
