// How the page reads the kernel's JSON text. tests/panel/test_static.py compares it with the kernel's side.

import assert from "node:assert/strict";
import { test } from "node:test";

import { kindOf, keysOf, pathStep, prettyJson, textOf, unmarked } from "../../halo_notebook/panel/static/shared/json.js";

test("a marked number is a number, with its digits", () => {
  const value = JSON.parse('["\ue0009223372036854775808", "\ue000-1.0", 7, "7"]');
  assert.deepEqual(value.map(kindOf), ["number", "number", "number", "string"]);
  assert.deepEqual(value.map(textOf), ["9223372036854775808", "-1.0", "7", "7"]);
});

test("a string that begins with the mark is a string, and keeps it", () => {
  const [value] = JSON.parse('["\ue000\ue0007"]');
  assert.equal(kindOf(value), "string");
  assert.equal(textOf(value), "\ue0007");
});

test("true, false and null are names; what holds others is an object or an array", () => {
  assert.deepEqual([true, false, null, {}, [], ""].map(kindOf), ["name", "name", "name", "object", "array", "string"]);
  assert.equal(textOf(null), "null");
});

test("keys keep their order and their text", () => {
  const value = JSON.parse('{"b": 1, "\ue00010": 2, "\ue0002": 3, "\ue000\ue000x": 4, "__proto__": 5}');
  assert.deepEqual(keysOf(value).map(unmarked), ["b", "10", "2", "\ue000x", "__proto__"]);
  assert.deepEqual(keysOf(["x", "y"]), [0, 1]);
});

test("pretty JSON holds what the kernel sent", () => {
  const value = JSON.parse('{"\ue0001": ["\ue0001.0", "\ue000\ue000", {}, []], "__proto__": {"a\\n": null}}');
  assert.equal(prettyJson(value), `{
  "1": [
    1.0,
    "\ue000",
    {},
    []
  ],
  "__proto__": {
    "a\\n": null
  }
}`);
});

test("a path's step is a name, an index or a quoted key without hidden characters", () => {
  assert.deepEqual(["name", 3, "a b", "7", "\u202e", ""].map(pathStep), [".name", "[3]", '["a b"]', '["7"]', '["\\u202e"]', '[""]']);
});
