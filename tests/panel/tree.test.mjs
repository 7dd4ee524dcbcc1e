// The rows of a JSON tree and its search, without a page.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Search, TreeNode } from "../../halo_notebook/panel/static/shared/tree.js";

const rows = Array.from({ length: 20_000 }, (_, id) => ({ id, name: `row ${id}` }));

function opened(value) {
  const root = new TreeNode(null, null, value);
  root.open = true;
  return root;
}

function found(value, needle) {
  const search = new Search(value, needle);
  while (!search.step(8));
  return search;
}

test("a long list stands in ranges, and no gesture makes many rows", () => {
  const root = opened({ rows });
  const [list] = root.children();
  list.open = true;
  assert.equal(list.children().length, 20);
  assert.deepEqual(list.kids[0].range, [0, 1_000]);
  list.kids[19].open = true;
  assert.deepEqual(list.kids[19].children().at(-1).range, [19_900, 20_000]);
  list.kids[19].kids.at(-1).open = true;
  assert.equal([...root.shown()].length, 1 + 1 + 20 + 10 + 100);
});

test("a path leads through ranges to a value", () => {
  const root = opened({ "a b": rows, "\ue0007": ["x"] });
  const [list, seven] = root.children();
  assert.equal(list.children()[19].children()[9].children()[99].children()[1].path(), '$["a b"][19999].name');
  assert.equal(seven.children()[0].path(), '$["7"][0]');
});

test("each row knows its level and its place among its siblings", () => {
  const kids = opened([1, [2]]).children();
  assert.deepEqual(kids.map((kid) => [kid.level, kid.siblings.indexOf(kid), kid.siblings.length]), [[2, 0, 2], [2, 1, 2]]);
});

test("a search sees all levels, and shows the matches with what leads to them", () => {
  const search = found({ rows, "\ue0007": "other" }, "ROW 19999");
  assert.deepEqual([search.found, search.seen], [1, 60_002]);
  assert.equal(search.held, 1);
  assert.deepEqual([...search.root.shown()].map((node) => node.path()), ["$", "$.rows", "$.rows[19999]", "$.rows[19999].name"]);
});

test("a search matches keys and numbers as they were", () => {
  const value = JSON.parse('{"\ue00010": ["\ue0001.0", "\ue000\ue000"]}');
  for (const needle of ["10", "1.0", "\ue000"]) assert.equal(found(value, needle).found, 1, needle);
});

test("of many matches a few are held, and all are counted", () => {
  const search = found({ rows }, "row");
  assert.equal(search.found, 20_001);
  assert.ok(search.held >= 200 && [...search.root.shown()].length < 800, `${search.held}`);
});
