/* The JSON tree of an action's payload. `TreeNode` and `Search` do not use the DOM. */

import { button, element, icon, setLabel, setText } from "./dom.js";
import { focusedNear, selectedNear } from "./host.js";
import { isBranch, keysOf, kindOf, pathStep, prettyJson, textOf, unmarked } from "./json.js";
import { count, counted, quoted, startOf, visible } from "./text.js";

const PAGE = 100; // the most children of one row; longer lists are divided into ranges
const MAX_ROWS = 500; // the most rows that one click may create
const MAX_MATCHES = 200;
const SHORT_STRING = 200;
const LONG_STRING = 100_000;

/** A possible row: a value, or a range of its children. Its children are created when it is opened. */
export class TreeNode {
  open = false;
  kids = null;
  whole = false; // whether a long string is shown in full
  row = null; // the row's element

  constructor(parent, key, value, range = null) {
    this.parent = parent;
    this.key = key;
    this.value = value;
    this.size = isBranch(value) ? keysOf(value).length : 0;
    this.range = range;
    this.level = parent ? parent.level + 1 : 1;
  }

  get isBranch() {
    return this.size > 0;
  }

  get siblings() {
    return this.parent?.kids ?? [this];
  }

  children() {
    this.kids ??= this.makeChildren();
    return this.kids;
  }

  makeChildren() {
    const [from, to] = this.range ?? [0, this.size];
    if (to - from <= PAGE) return keysOf(this.value).slice(from, to).map((key) => this.child(key));
    const kids = [];
    let size = PAGE;
    while ((to - from) / size > PAGE) size *= 10;
    for (let start = from; start < to; start += size) {
      kids.push(new TreeNode(this, null, this.value, [start, Math.min(start + size, to)]));
    }
    return kids;
  }

  child(key) {
    return new TreeNode(this, unmarked(key), this.value[key]);
  }

  path() {
    const step = this.key === null ? "" : pathStep(this.key);
    return this.parent ? this.parent.path() + step : "$";
  }

  /** This node and all open nodes below it, in reading order. */
  *shown() {
    yield this;
    if (this.open) for (const kid of this.children()) yield* kid.shown();
  }
}

/** A search through all levels, run in short slices of time. `root` is a tree of the first matches and their ancestors. */
export class Search {
  seen = 0;
  found = 0;
  held = 0; // the matches in the tree
  rows = 1;

  constructor(value, needle) {
    this.needle = needle.toLowerCase();
    this.root = new TreeNode(null, null, value);
    this.slices = this.visit(this.root);
  }

  /** Search for some milliseconds; returns whether the search is finished. */
  step(milliseconds) {
    const end = performance.now() + milliseconds;
    while (performance.now() < end) if (this.slices.next().done) return true;
    return false;
  }

  result() {
    const more = this.found - this.held;
    return `${count(this.found)} of ${counted(this.seen, "value")} match${this.found === 1 ? "es" : ""}`
      + (more ? ` · ${count(more)} more matches not shown` : "");
  }

  *visit(parent) {
    for (const key of keysOf(parent.value)) {
      if (++this.seen % 200 === 0) yield;
      const node = parent.child(key);
      if (this.matches(node)) this.hold(node);
      if (node.isBranch) yield* this.visit(node);
    }
  }

  matches({ key, value }) {
    const text = isBranch(value) ? "" : textOf(value);
    return [key, text].some((one) => typeof one === "string" && one.toLowerCase().includes(this.needle));
  }

  hold(node) {
    this.found++;
    if (this.held >= MAX_MATCHES || this.rows > MAX_ROWS) return;
    this.held++;
    for (let one = node; one.parent && one.parent.kids?.at(-1) !== one; one = one.parent) {
      (one.parent.kids ??= []).push(one);
      one.parent.open = true;
      this.rows++;
    }
  }
}

const copyOf = (value) => (isBranch(value) ? prettyJson(value) : textOf(value));

/** The tree in the page: rows, keyboard, filter and copy buttons. */
export class JsonTree {
  constructor(value, label, panel) {
    this.panel = panel; // { copyButton(label, text, options) }
    this.value = value;
    this.full = new TreeNode(null, null, value);
    this.full.open = this.full.isBranch;
    this.root = this.full;
    this.nodes = new WeakMap(); // row -> its node
    this.needle = "";
    this.list = element("div", {
      class: "halo-tree", role: "tree", "aria-label": label, dir: "ltr",
      onclick: (event) => this.click(event),
      onkeydown: (event) => this.key(event),
      onfocusin: (event) => this.select(this.nodeOf(event.target), { focus: false }),
      onpointerover: (event) => this.hover(event),
      onpointerleave: () => this.showTools(this.current),
    });
    this.tools = element("span", { class: "halo-row-tools" },
      panel.copyButton("Copy value", () => copyOf(this.nodeOf(this.tools).value)),
      panel.copyButton("Copy path", () => this.nodeOf(this.tools).path(), { icon: "path" }));
    this.result = element("p", { class: "halo-note halo-quiet", role: "status" });
    this.node = element("div", {}, this.toolbar(), this.result, this.list);
    this.paint();
  }

  toolbar() {
    const copy = this.panel.copyButton("Copy JSON", () => prettyJson(this.value));
    if (!this.full.isBranch) return element("div", { class: "halo-tree-bar" }, copy);
    this.filter = element("input", {
      type: "search", class: "halo-input", placeholder: "Filter", "aria-label": "Filter keys and values",
      spellcheck: "false", autocomplete: "off",
      oninput: () => this.filterSoon(),
      onkeydown: (event) => {
        if (event.key !== "Escape" || !this.filter.value) return;
        this.filter.value = "";
        this.filterSoon();
      },
    });
    return element("div", { class: "halo-tree-bar" }, this.filter,
      button("Expand all", () => this.expandAll(), { icon: "expand", kind: "halo-small" }),
      button("Collapse all", () => this.collapseAll(), { icon: "fold", kind: "halo-small" }), copy);
  }

  paint() {
    const focus = this.list.contains(focusedNear(this.list));
    this.list.replaceChildren(...Array.from(this.root.shown(), (node) => this.row(node)));
    this.current = null;
    this.select(this.root, { focus });
  }

  row(node) {
    const row = element("div", {
      class: "halo-row", role: "treeitem", tabindex: "-1",
      "aria-level": node.level, "aria-posinset": node.siblings.indexOf(node) + 1, "aria-setsize": node.siblings.length, "aria-selected": "false",
    });
    // Deep levels must not push the text out of view.
    row.style.setProperty("--halo-level", Math.min(node.level - 1, 24));
    node.row = row;
    this.nodes.set(row, node);
    this.fill(node);
    return row;
  }

  fill(node) {
    const { row } = node;
    const parts = [];
    if (node.isBranch) {
      row.setAttribute("aria-expanded", String(node.open));
      parts.push(icon("open", "halo-twist"));
    }
    if (node.range) {
      parts.push(element("span", { class: "halo-range", text: `[${count(node.range[0])} … ${count(node.range[1] - 1)}]` }));
    } else {
      if (node.key !== null) parts.push(this.keyText(node), element("span", { class: "halo-colon", text: ":" }));
      parts.push(...this.valueText(node));
    }
    row.replaceChildren(...parts);
  }

  keyText(node) {
    if (typeof node.key === "number") return element("span", { class: "halo-index", text: String(node.key) });
    // Quote an empty key and one with escapes, so that it cannot be mistaken.
    const shown = node.key === "" || visible(node.key) !== node.key ? quoted(node.key) : node.key;
    const text = shown.length > SHORT_STRING ? `${startOf(shown, SHORT_STRING)}…` : shown;
    return element("span", { class: "halo-key" }, this.marked(text));
  }

  valueText(node) {
    const kind = kindOf(node.value);
    if (isBranch(node.value)) {
      const text = kind === "object" ? `{} ${counted(node.size, "key")}` : `[] ${counted(node.size, "item")}`;
      return [element("span", { class: "halo-size", text })];
    }
    const value = textOf(node.value);
    if (kind !== "string") {
      return [element("span", { class: `halo-${kind}` }, this.marked(value.length > 500 ? `${value.slice(0, 500)}…` : value))];
    }
    if (value.length <= SHORT_STRING) return [element("span", { class: "halo-string" }, this.marked(quoted(value)))];
    const text = node.whole
      ? visible(startOf(value, LONG_STRING), { keep: "\n\t" })
      : `${quoted(startOf(value, SHORT_STRING)).slice(0, -1)}…`;
    const label = node.whole ? "show less" : `show all ${count(value.length)} characters`;
    const more = button(label, () => this.toggle(node), { kind: "halo-link", tabindex: "-1" });
    const parts = [element("span", { class: `halo-string${node.whole ? " halo-whole" : ""}` }, this.marked(text))];
    if (node.whole && value.length > LONG_STRING) {
      parts.push(element("span", { class: "halo-size", text: `first ${count(LONG_STRING)} characters; Copy value copies all` }));
    }
    return [...parts, more];
  }

  /** Return `text` with the filter's matches highlighted. */
  marked(text) {
    const fragment = document.createDocumentFragment();
    const lower = text.toLowerCase();
    let from = 0;
    // Where lower case has another length, positions differ and nothing can be highlighted.
    if (this.needle && lower.length === text.length) {
      for (let at = lower.indexOf(this.needle), n = 0; at >= 0 && n < 50; at = lower.indexOf(this.needle, from), n++) {
        fragment.append(text.slice(from, at), element("mark", { text: text.slice(at, at + this.needle.length) }));
        from = at + this.needle.length;
      }
    }
    fragment.append(text.slice(from));
    return fragment;
  }

  nodeOf(target) {
    return this.nodes.get(target.closest?.(".halo-row")) ?? null;
  }

  click(event) {
    const node = this.nodeOf(event.target);
    if (!node || event.target.closest("button")) return;
    this.select(node);
    // Selecting text with the pointer must not open the row.
    if (node.isBranch && !selectedNear(node.row)) this.toggle(node);
  }

  toggle(node) {
    const focus = node.row.contains(focusedNear(node.row)); // also of a button that goes
    if (!node.isBranch) {
      if (kindOf(node.value) !== "string" || textOf(node.value).length <= SHORT_STRING) return;
      node.whole = !node.whole;
    } else {
      node.open = !node.open;
      if (node.open) node.row.after(...[...node.shown()].slice(1).map((kid) => this.row(kid)));
      else while (this.nodes.get(node.row.nextSibling)?.level > node.level) node.row.nextSibling.remove();
    }
    this.fill(node);
    this.showTools(this.current);
    if (focus) node.row.focus();
  }

  select(node, { focus = true } = {}) {
    if (!node) return;
    if (node !== this.current) {
      const mark = (row, chosen) => {
        row?.setAttribute("tabindex", chosen ? "0" : "-1");
        row?.setAttribute("aria-selected", String(chosen));
      };
      mark(this.current?.row, false);
      mark(node.row, true);
      this.current = node;
      this.showTools(node);
    }
    if (focus) node.row.focus();
  }

  hover(event) {
    const node = this.nodeOf(event.target);
    if (node && !this.tools.contains(focusedNear(this.tools))) this.showTools(node);
  }

  /** Move the copy buttons, of which there is one set, to the row under the pointer or the selected row. */
  showTools(node) {
    if (!node) return;
    this.tools.lastChild.hidden = this.tools.firstChild.hidden = Boolean(node.range);
    setLabel(this.tools.lastChild, `Copy path ${startOf(node.path(), SHORT_STRING)}`);
    if (node.row.lastChild !== this.tools) node.row.append(this.tools);
  }

  key(event) {
    const node = this.current;
    if (event.target.closest("button") || event.ctrlKey || event.metaKey || event.altKey || !node) return;
    const { row } = node;
    const go = (target) => target && this.select(this.nodes.get(target));
    switch (event.key) {
      case "ArrowDown": go(row.nextSibling); break;
      case "ArrowUp": go(row.previousSibling); break;
      case "Home": go(this.list.firstChild); break;
      case "End": go(this.list.lastChild); break;
      case "ArrowRight":
        if (node.isBranch && !node.open) this.toggle(node);
        else if (node.isBranch) go(row.nextSibling);
        break;
      case "ArrowLeft":
        if (node.isBranch && node.open) this.toggle(node);
        else if (node.parent) this.select(node.parent);
        break;
      case "Enter":
      case " ": this.toggle(node); break;
      default: return;
    }
    event.preventDefault();
  }

  expandAll() {
    let rows = this.list.children.length;
    const todo = [this.root];
    for (const node of todo) {
      if (!node.isBranch) continue;
      if (!node.open && rows + node.children().length > MAX_ROWS) continue;
      rows += node.open ? 0 : node.kids.length;
      node.open = true;
      todo.push(...node.kids);
    }
    this.paint();
    if (rows > MAX_ROWS - PAGE) setText(this.result, `first ${count(this.list.children.length)} rows`);
  }

  collapseAll() {
    this.root.open = true;
    for (const node of [...this.root.shown()]) node.open = node === this.root;
    this.paint();
    if (!this.needle) setText(this.result, "");
  }

  filterSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.filterNow(), 150);
  }

  filterNow() {
    this.needle = this.filter.value.toLowerCase();
    if (!this.needle) {
      this.show(this.full, "");
      return;
    }
    const search = new Search(this.value, this.needle);
    const goOn = () => {
      if (search.step(8)) this.show(search.root, search.result());
      else this.timer = setTimeout(goOn, 0);
    };
    goOn();
  }

  show(root, result) {
    setText(this.result, result);
    this.root = root;
    this.paint();
  }
}
