// The store of an arena: its columns, what is common to them, and a message that goes to all.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { ArenaStore } from "../../halo_notebook/panel/static/arena/arena_store.js";

const turn = (number, more = {}) => ({
  key: `t${number}`, number, asked: "question", status: "complete", text: "answer", error: "", items: [], source: "", again: "", ...more,
});
const whole = (more = {}) => ({ kind: "arena", labels: ["A", "B"], names: null, sessions: null, busy: false, round: null, outcomes: null, ...more });
const snapshot = (column, turns = []) => ({ kind: "snapshot", column, epoch: 1, seq: 1, session: "AB"[column], sessions: [], versions: null, turns, queue: [], live: null });

let store, sent, saved, said, end, listeners, timers;
const real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };
const view = { say: (text) => said.push(text), schedule() {}, showDraft() {} };
const asked = (kind) => sent.filter((one) => one.kind === kind);
const tell = (message) => listeners["msg:custom"].forEach((listener) => listener(message));

function started(state = {}) {
  store = new ArenaStore();
  listeners = {};
  end = store.start({
    widget_manager: {},
    on: (name, listener) => (listeners[name] ??= []).push(listener),
    get: (name) => ({ _columns: 2, ...state })[name],
    set: (name, value) => saved.push(value),
    send: (content) => sent.push(content),
  });
  store.show(view);
}

beforeEach(() => {
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key), setItem: (key, text) => kept.set(key, text), removeItem: (key) => kept.delete(key) };
  Object.defineProperty(globalThis, "sessionStorage", { value: storage, configurable: true });
  globalThis.location = { pathname: "/a.ipynb" };
  [sent, saved, said, timers] = [[], [], [], []];
  globalThis.setTimeout = (call, after) => timers.push({ call, after });
  globalThis.clearTimeout = () => {};
  started();
});

afterEach(() => {
  end();
  Object.assign(globalThis, real);
});

test("each column gets its own messages, and asks with its number", () => {
  assert.deepEqual(asked("sync").map(({ column }) => column), [0, 1]);
  tell(snapshot(0, [turn(1, { text: "of A" })]));
  tell(snapshot(1, [turn(1, { text: "of B" })]));
  assert.deepEqual(store.columns.map((column) => column.turns[0].text), ["of A", "of B"]);
  tell({ kind: "snapshot", column: 5, epoch: 1, seq: 1, session: "X", turns: [] });
  assert.equal(store.columns.length, 2);
});

test("a message goes to all columns once, with other ids when it is sent again", () => {
  store.setDraft("Hello");
  store.send("Hello");
  const [first] = asked("send");
  assert.equal(new Set([first.cid, ...first.cids]).size, 3);
  assert.equal(store.draft(), "");
  tell({ kind: "answer", cid: first.cid, error: "No agent." });
  assert.equal(store.pending[0].state, "unsent");
  store.deliver(store.pending[0]);
  const [, second] = asked("send");
  assert.equal(second.text, "Hello");
  assert.ok(![first.cid, ...first.cids].includes(second.cid));
  tell({ kind: "answer", cid: second.cid });
  assert.deepEqual(store.pending, []);
});

test("a message whose answer is late is asked for again under its id", () => {
  store.send("Hello");
  tell(whole());
  assert.equal(asked("send").length, 1); // it is not late yet
  timers.filter(({ after }) => after === 500).forEach(({ call }) => call());
  tell(whole());
  const ids = asked("send").map(({ cid }) => cid);
  assert.equal(ids.length, 2);
  assert.equal(new Set(ids).size, 1);
});

test("a kernel that is gone leaves the message, unsent", () => {
  store.send("Hello");
  store.lose("dead");
  assert.equal(store.pending[0].state, "unsent");
  store.stop();
  assert.equal(asked("stop").length, 0);
});

test("a vote is about the round that the page shows", () => {
  tell(whole({ round: [2, 3] }));
  assert.deepEqual(said, ["All replies have ended. You can vote."]);
  store.vote("B");
  assert.deepEqual(asked("vote").map(({ choice, round }) => [choice, round]), [["B", [2, 3]]]);
  tell(whole({ round: [2, 3] }));
  assert.equal(said.length, 1); // not twice
});

test("only columns that failed are sent again, and only when nothing runs", () => {
  tell(snapshot(0, [turn(1)]));
  tell(snapshot(1, [turn(1, { again: "twice", status: "failed" })]));
  tell(whole({ busy: true }));
  assert.deepEqual(store.failed, []);
  tell(whole({ round: [1, 1] }));
  assert.equal(store.failed.length, 1);
  store.again();
  assert.deepEqual(asked("again").map(({ column, key }) => [column, key]), [[1, "t1"]]);
  assert.deepEqual(store.failed, []); // it is on its way
});

test("stop is asked for once, until nothing runs", () => {
  store.stop();
  assert.equal(asked("stop").length, 0);
  tell(whole({ busy: true }));
  store.stop();
  store.stop();
  assert.equal(asked("stop").length, 1);
  assert.ok(!("column" in asked("stop")[0]));
  tell(whole());
  assert.equal(store.stopping, false);
});

test("what was shown last is kept for a page without a kernel", () => {
  tell(whole({ names: ["one", "two"], outcomes: ["won", "lost"] }));
  tell(snapshot(0, [turn(1, { text: "of A" })]));
  tell(snapshot(1, [turn(1, { text: "of B" })]));
  const kept = saved.at(-1);
  end();
  started({ _snapshot: kept });
  assert.deepEqual(store.names, ["one", "two"]);
  assert.deepEqual(store.outcomes, ["won", "lost"]);
  assert.equal(store.round, null); // nothing can be voted on without a kernel
  assert.deepEqual(store.columns.map((column) => column.turns[0].text), ["of A", "of B"]);
});

test("notices of a column are shown once, for the whole", () => {
  store.columns[1].notice("Something");
  assert.deepEqual(store.notices.map(({ text }) => text), ["Something"]);
  store.addPicture(null, { name: "a.png" });
  assert.match(store.notices.at(-1).text, /sends text only/);
});
