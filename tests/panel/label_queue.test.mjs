/* A queue of replies to label, without a page: what it asks the kernel, and what it makes of the answers. */

import assert from "node:assert/strict";
import test from "node:test";

import { LabelQueue } from "../../halo_notebook/panel/static/labels/label_queue.js";

/** A link that notes what is asked; `answer` answers the oldest request. */
function link() {
  const asked = [];
  return {
    asked,
    said: [],
    request(content, done) {
      asked.push([content, done]);
    },
    say(text) {
      this.said.push(text);
    },
    answer(content) {
      asked.shift()[1](content);
    },
  };
}

const item = (at, more = {}) => ({ at, total: 3, done: at ?? 3, turns: [at], next: null, ...more });

test("a label is kept before the next reply is shown, and a second key is not sent meanwhile", () => {
  const kernel = link();
  const queue = new LabelQueue(kernel);
  queue.open();
  kernel.answer(item(0));
  queue.label("pass", "good");
  queue.label("fail", "");
  assert.deepEqual(kernel.asked.map(([content]) => content), [{ kind: "label", at: 0, label: "pass", note: "good" }]);
  assert.equal(queue.item.at, 0);
  kernel.answer(item(1));
  assert.equal(queue.item.at, 1);
  assert.equal(kernel.said.at(-1), "Pass is kept. 1 of 3 labelled");
});

test("a reply stays when its label could not be kept, or the kernel is gone", () => {
  const kernel = link();
  const queue = new LabelQueue(kernel);
  queue.open();
  kernel.answer(item(0));
  for (const answer of [{ error: "The disk is full." }, { lost: true }]) {
    queue.label("pass", "");
    kernel.answer(answer);
    assert.deepEqual([queue.item.at, queue.busy, queue.before], [0, false, []]);
  }
});

test("back goes through the replies that were labelled, and no further", () => {
  const kernel = link();
  const queue = new LabelQueue(kernel);
  queue.open();
  kernel.answer(item(0));
  for (const at of [1, 2]) {
    queue.label("unsure", "");
    kernel.answer(item(at));
  }
  for (const at of [1, 0]) {
    queue.back();
    assert.equal(kernel.asked[0][0].at, at);
    kernel.answer(item(at));
  }
  queue.back();
  assert.equal(kernel.asked.length, 0);
});

test("a conversation that comes in parts is shown when its last turn is there", () => {
  const kernel = link();
  const queue = new LabelQueue(kernel);
  queue.open();
  kernel.answer(item(0, { turns: ["one"], next: 1 }));
  assert.equal(queue.item, null);
  assert.deepEqual(kernel.asked[0][0], { kind: "item", at: 0, from: 1 });
  kernel.answer({ turns: ["two"], next: 2 });
  kernel.answer({ turns: ["three"], next: null });
  assert.deepEqual([queue.item.turns, queue.busy], [["one", "two", "three"], false]);
  queue.label("pass", "");
  kernel.answer(item(null));
  assert.equal(kernel.said.at(-1), "Pass is kept. All 3 replies are labelled");
});

test("back while the kernel is asked forgets no reply", () => {
  const kernel = link();
  const queue = new LabelQueue(kernel);
  queue.open();
  kernel.answer(item(0));
  queue.label("pass", "");
  kernel.answer(item(1));
  queue.label("pass", "");
  queue.back();
  kernel.answer(item(2));
  assert.deepEqual(queue.before, [0, 1]);
});
