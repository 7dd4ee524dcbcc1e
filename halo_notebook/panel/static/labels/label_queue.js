/* What the page knows about a queue of replies to label, which is in the kernel. It does not use the DOM. */

import { count } from "../shared/text.js";

export const LABEL_WORDS = { pass: "Pass", fail: "Fail", unsure: "Unsure" };

/** The reply to label, and how to go on; `link` asks the kernel. */
export class LabelQueue {
  item = null; // the reply that is shown; its `at` is null when all are labelled
  busy = false; // whether the kernel has been asked
  before = []; // the places that were shown before

  constructor(link) {
    this.link = link;
  }

  /** Show the reply at a place, or the first one without a label. */
  open(at = null) {
    this.ask({ kind: "item", at, from: 0 }, "");
  }

  /** Keep a label for the reply that is shown, and show the next one. */
  label(label, note) {
    const { at } = this.item;
    this.ask({ kind: "label", at, label, note }, `${LABEL_WORDS[label]} is kept. `, () => this.before.push(at));
  }

  /** Show the reply that was shown before. */
  back() {
    if (!this.busy && this.before.length) this.open(this.before.pop());
  }

  ask(content, said, done) {
    if (this.busy) return;
    this.busy = true;
    this.link.request(content, (answer) => {
      if (!("at" in answer)) {
        this.busy = false; // it failed, and a notice says so: the reply stays
        return;
      }
      done?.();
      this.complete(answer, said);
    });
  }

  /** Wait for all turns: the last one is the reply to be labelled. */
  complete(item, said) {
    if ((item.next ?? null) !== null) {
      this.link.request({ kind: "item", at: item.at, from: item.next }, (more) => {
        if (more.turns) this.complete({ ...item, turns: [...item.turns, ...more.turns], next: more.next }, said);
        else this.busy = false;
      });
      return;
    }
    this.busy = false;
    this.item = item;
    this.link.say(`${said}${item.at === null ? `All ${count(item.total)} replies are labelled` : `${count(item.done)} of ${count(item.total)} labelled`}`);
  }
}
