// What the page knows about a result, with a model that records what is asked.

import assert from "node:assert/strict";
import { afterEach, beforeEach, test } from "node:test";

import { Found, PART } from "../../halo_notebook/panel/static/explorer/found.js";

const row = (number, more = {}) => ({ number, selected: false, cells: [`case ${number}`], ...more });
const rows = (from, count) => Array.from({ length: count }, (_, at) => row(from + at));
const query = { text: "", filters: {}, sort: "", descending: false };
const result = (more = {}) => ({
  query, found_by: "f0", columns: [{ id: "case", name: "case", kind: "text" }], filters: [],
  total: 250, count: 250, selected: 0, rows: rows(0, PART), ...more,
});

let found, sent, said, end, timers;
const real = { setTimeout: globalThis.setTimeout, clearTimeout: globalThis.clearTimeout };

function started(state = { _snapshot: result() }) {
  const one = new Found();
  one.show({ say: (text) => said.push(text), schedule() {} });
  end = one.start({ on() {}, get: (name) => state[name], set: (name, value) => { state[name] = value; }, send: (content) => sent.push(content) });
  return one;
}

const asked = (kind) => sent.filter((one) => one.kind === kind);
/** Answer the last request of one kind. */
const answer = (kind, content) => found.receive({ kind: "answer", cid: asked(kind).at(-1).cid, ...content });

beforeEach(() => {
  [sent, said, timers] = [[], [], []];
  globalThis.setTimeout = (call) => timers.push(call);
  globalThis.clearTimeout = (timer) => { if (timer) timers[timer - 1] = () => {}; };
  found = started();
});

afterEach(() => {
  end();
  Object.assign(globalThis, real);
});

test("the first rows come with the widget, and are not kept in its state", () => {
  const state = { _snapshot: result() };
  const one = started(state);
  assert.deepEqual([one.count, one.row(3).number, sent], [250, 3, []]);
  assert.equal(state._snapshot.rows, undefined);
});

test("a saved widget asks for what the kernel has", () => {
  found = started({ _snapshot: { shown_at: 1 } });
  assert.deepEqual(asked("find").map((one) => one.query), [null]);
  answer("find", result({ query: { ...query, text: "kept" } }));
  assert.equal(found.query.text, "kept");
});

test("the table is asked for again when labelling ends, and not with each label", () => {
  found.startLabelling("check:judge");
  answer("label_start", { total: 30 });
  answer("item", { at: 0, total: 30, done: 0, turns: [], next: null });
  found.receive({ kind: "changed" });
  assert.deepEqual([asked("find"), found.labelling, said.at(-1)], [[], true, "0 of 30 labelled"]);
  found.endLabelling();
  assert.deepEqual([asked("find").length, found.labelling], [1, false]);
});

test("the filter by label comes with the first label, and its values are sent", () => {
  found.startLabelling(null);
  answer("label_start", { total: 30 });
  answer("item", { at: 0, total: 30, done: 0, turns: [], next: null });
  found.endLabelling();
  const label = { id: "label", name: "Label", values: [["fail", 1], ["not labelled", 249]], left_out: 0 };
  answer("find", result({ filters: [label] }));
  const { filters } = found;
  assert.deepEqual(filters, [label]);
  found.choose("label", ["fail", "not labelled"]);
  assert.deepEqual(asked("find").at(-1).query.filters, { label: ["fail", "not labelled"] });
  answer("find", result({ query: found.query, filters: [label] }));
  assert.deepEqual([found.isFiltered, found.filters === filters], [true, true]);
  found.clear();
  assert.deepEqual([asked("find").at(-1).query.filters, found.isFiltered], [{}, false]);
});

test("rows are asked for once, in parts, and shown when they come", () => {
  assert.equal(found.row(PART + 1), undefined);
  assert.equal(found.row(PART + 50), undefined);
  assert.deepEqual(asked("rows").map(({ from, found_by }) => [from, found_by]), [[PART, "f0"]]);
  answer("rows", { rows: rows(PART, PART) });
  assert.equal(found.row(PART + 1).number, PART + 1);
});

test("rows of an earlier search are dropped", () => {
  found.row(PART);
  found.choose("status", ["failed"]);
  const late = asked("rows")[0];
  answer("find", result({ found_by: "f1", count: 1, rows: [row(7)] }));
  found.receive({ kind: "answer", cid: late.cid, rows: rows(PART, PART) });
  assert.equal(found.parts.size, 1);
  assert.equal(found.row(0).number, 7);
});

test("when another page has searched, the page finds again; after an error it does not", () => {
  found.row(PART);
  answer("rows", {});
  assert.equal(asked("find").length, 1);
  answer("find", result());
  found.row(PART);
  answer("rows", { error: "The file is gone." });
  assert.equal(found.row(PART), undefined);
  assert.deepEqual([asked("find").length, asked("rows").length], [1, 2]);
});

test("only the last search counts", () => {
  found.choose("status", ["failed"]);
  const first = asked("find")[0];
  found.choose("status", ["complete"]);
  found.receive({ kind: "answer", cid: first.cid, ...result({ count: 1 }) });
  assert.deepEqual([found.count, found.searching], [250, true]);
  answer("find", result({ count: 2 }));
  assert.deepEqual([found.count, found.searching], [2, false]);
  assert.equal(said.at(-1), "2 conversations found");
});

test("a search that fails leaves what was found before", () => {
  found.choose("status", ["failed"]);
  answer("find", { error: "The file could not be read." });
  assert.deepEqual([found.count, found.searching, found.notices[0].text], [250, false, "The file could not be read."]);
});

test("typing waits for a pause, and a filter sends what was typed", () => {
  found.type("a");
  found.type("ab");
  assert.equal(asked("find").length, 0);
  timers.forEach((call) => call());
  assert.deepEqual(asked("find").map((one) => one.query.text), ["ab"]);
});

test("a column sorts upwards, downwards, and not", () => {
  const orders = [1, 2, 3].map(() => {
    found.sort("case");
    return [asked("find").at(-1).query.sort, asked("find").at(-1).query.descending];
  });
  assert.deepEqual(orders, [["case", false], ["case", true], ["", false]]);
});

test("a selection shows at once, and the kernel counts", () => {
  found.select([3], true);
  assert.deepEqual([found.row(3).selected, found.selected, asked("select")[0].numbers], [true, 1, [3]]);
  found.select(null, true);
  assert.equal(found.row(9).selected, true);
  answer("select", { selected: 250 });
  assert.equal(found.selected, 250);
  found.selectNone();
  answer("select", { selected: 0 });
  assert.deepEqual([found.row(3).selected, found.selected], [false, 0]);
});

test("of two conversations that are opened the last one shows", () => {
  found.read(1);
  const first = asked("open")[0];
  found.read(2);
  found.receive({ kind: "answer", cid: first.cid, number: 1, turns: [], case: "one", config: "a" });
  assert.equal(found.open, null);
  answer("open", { number: 2, turns: [], case: "two", config: "a" });
  assert.equal(found.open.number, 2);
});

test("Next keeps comparing, and shows nothing of the case before", () => {
  found.read(1);
  answer("open", { number: 1, turns: [], case: "one", config: "a" });
  found.compare(found.open);
  answer("compare", { number: 1, turns: [], configs: ["a", "b"] });
  found.read(2);
  answer("open", { number: 2, turns: [], case: "two", config: "a" });
  assert.deepEqual([found.open.number, found.comparison.number], [1, 1]);
  answer("compare", { number: 2, turns: [], configs: ["a", "b"] });
  assert.deepEqual([found.open.number, found.comparison.number], [2, 2]);
});

test("without a kernel nothing is asked, and what is there stays", () => {
  found.lose("dead");
  sent.length = 0;
  found.read(1);
  found.select([1], true);
  found.sort("case");
  found.row(200);
  assert.deepEqual([sent, found.count, found.row(1).selected], [[], 250, false]);
});

test("new verdicts are fetched, also of the open conversation", () => {
  found.read(1);
  answer("open", { number: 1, turns: [], case: "one", config: "a" });
  found.receive({ kind: "changed" });
  answer("find", result());
  assert.equal(asked("open").length, 2);
});
