/* What the page knows about a result: the conversations that were found, and the one that is open. It does not use the DOM. */

import { LabelQueue } from "../labels/label_queue.js";
import { Link, refused } from "../shared/link.js";
import { counted } from "../shared/text.js";

export const PART = 100; // rows that are asked for at a time
const MAX_PARTS = 40; // kept; others are asked for again
const TYPING_MS = 200;

/** The conversations of a result, as the kernel filters and sorts them. */
export class Found extends Link {
  query = null; // until the kernel says what it has: a page may have been loaded again
  columns = [];
  filters = [];
  total = 0;
  count = 0; // of the conversations that were found
  selected = 0;
  searches = 0; // the number of the last search
  shown = 0; // the number of the search whose rows are shown
  parts = new Map(); // number of a part -> its rows; null while it is asked for
  open = null; // the conversation that is open
  opening = null; // the number of the one that is asked for
  comparison = null;
  labels = new LabelQueue(this);
  labelling = false; // whether a sample of replies is shown in place of the table

  /** Start to listen; returns a function that ends it. */
  start(model) {
    const end = this.listen(model);
    const first = model.get("_snapshot");
    model.set("_snapshot", { shown_at: Date.now() }); // see `listen`; the rows must not be saved with the notebook
    if (first?.rows) this.takeFound(first);
    else this.find();
    if (this.real?.comm_live === false) this.lose("none");
    return () => {
      clearTimeout(this.typing);
      end();
    };
  }

  sync() {
    this.find();
  }

  take(message) {
    if (message.kind === "changed" && !this.labelling) this.find(); // verdicts or labels are others now
  }

  get searching() {
    return this.shown !== this.searches;
  }

  /** Search for what was typed, when the typing pauses. */
  type(text) {
    if (!this.query) return;
    this.query = { ...this.query, text };
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.find(), TYPING_MS);
  }

  choose(filter, values) {
    this.query = { ...this.query, filters: { ...this.query.filters, [filter]: values } };
    this.find();
  }

  /** Show all conversations. */
  clear() {
    this.query = { ...this.query, text: "", filters: {} };
    this.find();
  }

  /** Sort by a column: upwards, then downwards, then not. */
  sort(column) {
    const { sort, descending } = this.query;
    const again = sort === column;
    this.query = { ...this.query, sort: again && descending ? "" : column, descending: again && !descending };
    this.find();
  }

  get isFiltered() {
    return Boolean(this.query?.text.trim()) || Object.values(this.query?.filters ?? {}).some((values) => values.length);
  }

  find() {
    clearTimeout(this.typing);
    if (this.gone) return;
    const search = ++this.searches;
    this.request({ kind: "find", query: this.query }, (answer) => {
      if (search !== this.searches) return;
      this.shown = search; // also when it failed: what was found before stays
      if (!answer.rows) return;
      this.takeFound(answer);
      this.say(`${counted(this.count, "conversation")} found`);
      if (this.open) this.read(this.open.number); // its verdicts may be others
    });
  }

  takeFound(answer) {
    this.query ??= answer.query;
    for (const name of ["columns", "filters"]) { // what is the same is not made again: it may have the focus
      if (JSON.stringify(this[name]) !== JSON.stringify(answer[name])) this[name] = answer[name];
    }
    for (const name of ["total", "count", "selected"]) this[name] = answer[name];
    this.foundBy = answer.found_by;
    this.parts = new Map([[0, answer.rows]]);
  }

  /** The row at that place; undefined while it is not there, and then it is asked for. */
  row(index) {
    const number = Math.floor(index / PART);
    const part = this.parts.get(number);
    if (part === undefined && !this.gone) {
      this.parts.set(number, null);
      if (this.parts.size > MAX_PARTS) this.parts.delete(this.parts.keys().next().value);
      const search = this.shown;
      this.request({ kind: "rows", found_by: this.foundBy, from: number * PART }, (answer) => {
        if (search !== this.shown) return;
        if (answer.rows) this.parts.set(number, answer.rows);
        else if (!refused(answer)) this.find(); // another page has searched
      });
    }
    return part?.[index % PART];
  }

  /** The row of that conversation, if it is known. */
  rowOf(conversation) {
    for (const part of this.parts.values()) {
      const row = part?.find((one) => one.number === conversation);
      if (row) return row;
    }
    return undefined;
  }

  /** The place of the open conversation among those that are known; -1 if it is not there. */
  placeOf(conversation) {
    for (const [number, part] of this.parts) {
      const at = part?.findIndex((row) => row.number === conversation) ?? -1;
      if (at >= 0) return number * PART + at;
    }
    return -1;
  }

  /** Select conversations, or all that were found, for `.selected`. */
  select(numbers, on) {
    if (this.gone) return;
    const chosen = numbers && new Set(numbers);
    this.parts = new Map([...this.parts].map(([number, part]) => [number,
      part?.map((row) => (!chosen || chosen.has(row.number) ? { ...row, selected: on } : row)) ?? part]));
    this.selected = numbers ? Math.max(0, this.selected + (on ? 1 : -1)) : on ? Math.max(this.selected, this.count) : this.selected;
    this.request({ kind: "select", numbers, on }, (answer) => {
      if (Number.isInteger(answer.selected)) this.selected = answer.selected;
    });
  }

  /** Deselect everything, found or not. */
  selectNone() {
    if (this.gone) return;
    this.parts = new Map([...this.parts].map(([number, part]) => [number, part?.map((row) => ({ ...row, selected: false })) ?? part]));
    this.request({ kind: "select", numbers: [], on: false, only: true }, (answer) => {
      if (Number.isInteger(answer.selected)) this.selected = answer.selected;
    });
  }

  /** Open a conversation. */
  read(number) {
    if (this.gone) return;
    this.opening = number;
    this.request({ kind: "open", number, from: 0 }, (answer) => {
      if (this.opening !== number) return;
      this.opening = null;
      if (!answer.turns) return;
      if (this.comparison) {
        this.compare(answer);
        return;
      }
      this.open = answer;
      this.say(`Opened case ${answer.case}, ${answer.config}`);
    });
  }

  /** Show a sample of replies to label, drawn by the verdicts of a check (a column's id) or by chance. */
  startLabelling(check) {
    this.request({ kind: "label_start", check }, (answer) => {
      if (!("total" in answer)) return;
      this.labels.before = [];
      this.labels.open();
      this.labelling = true;
    });
  }

  /** Show the table again, with the labels. */
  endLabelling() {
    this.labelling = false;
    this.find();
  }

  close() {
    this.open = this.opening = this.comparison = null;
    this.changed();
  }

  /** Show the configurations of a conversation's case beside each other. */
  compare(conversation) {
    if (this.gone) return;
    const before = this.open;
    this.request({ kind: "compare", number: conversation.number, from: 0 }, (answer) => {
      if (!answer.turns || this.open !== before) return; // something else has been opened since
      this.open = conversation;
      this.comparison = answer;
      this.say(`Comparing ${counted(answer.configs.length, "configuration")} of case ${conversation.case}`);
    });
  }

  endComparison() {
    this.comparison = null;
    this.changed();
  }
}
