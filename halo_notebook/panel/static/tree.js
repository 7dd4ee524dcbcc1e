/* The JSON tree of an action's payload. `TreeNode` and `Search` do not use the DOM. */

import { button, element, icon, setLabel, setText } from "./dom.js";
import { isBranch, keysOf, kindOf, pathStep, prettyJson, textOf, unmarked } from "./json.js";
import { count, counted, quoted, startOf, visible } from "./text.js";

const PAGE = 100; // the most children of one row; longer lists are divided into ranges
const MAX_ROWS = 500; // the most rows that one click may create
const MAX_MATCHES = 200;
const SHORT_STRING = 200;
const LONG_STRING = 100_000;

/** A possible row: a value, or a range of its children. Its children are created when it is opened. */
export class TreeNode {
  constructor(parent, key, value, range = null) {
    this.parent = parent;
    this.key = key;
    this.value = value;
    this.size = isBranch(value) ? keysOf(value).length : 0;
    this.range = range;
    this.level = parent ? parent.level + 1 : 1;
    this.position = 1;
    this.siblings = 1;
    this.open = false;
    this.kids = null;
    this.whole = false; // whether a long string is shown in full
  }

  get isBranch() {
    return this.size > 0;
  }

  children() {
    if (!this.kids) this.setChildren(this.makeChildren());
    return this.kids;
  }

  setChildren(kids) {
    this.kids = kids;
    kids.forEach((kid, index) => {
      kid.position = index + 1;
      kid.siblings = kids.length;
    });
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
    const steps = [];
    for (let node = this; node.parent; node = node.parent) if (node.key !== null) steps.push(pathStep(node.key));
    return `$${steps.reverse().join("")}`;
  }

  /** This node and all open nodes below it, in reading order. */
  *shown() {
    const todo = [this];
    while (todo.length) {
      const node = todo.pop();
      yield node;
      if (node.open) todo.push(...node.children().toReversed());
    }
  }
}

/** A search through all levels, run in short slices of time. */
export class Search {
  constructor(value, needle) {
    this.needle = needle.toLowerCase();
    this.seen = 0;
    this.found = 0;
    this.matches = []; // for each match, the keys that lead to it
    this.todo = [];
    this.root = value;
    this.enter(value);
  }

  enter(value) {
    this.todo.push({ value, keys: keysOf(value), index: 0 });
  }

  test(key, value) {
    this.seen++;
    const hit =
      (typeof key === "string" && key.toLowerCase().includes(this.needle)) ||
      (!isBranch(value) && textOf(value).toLowerCase().includes(this.needle));
    if (!hit) return;
    this.found++;
    if (this.matches.length < MAX_MATCHES) this.matches.push(this.todo.map(({ keys, index }) => keys[index]));
  }

  /** Search for some milliseconds; returns whether the search is finished. */
  step(milliseconds) {
    const end = performance.now() + milliseconds;
    for (let turns = 0; this.todo.length; turns++) {
      if (turns % 200 === 199 && performance.now() > end) return false;
      const level = this.todo[this.todo.length - 1];
      if (level.index >= level.keys.length) {
        this.todo.pop();
        if (this.todo.length) this.todo[this.todo.length - 1].index++;
        continue;
      }
      const key = level.keys[level.index];
      const value = level.value[key];
      this.test(unmarked(key), value);
      if (isBranch(value)) this.enter(value);
      else level.index++;
    }
    return true;
  }

  /** Return a tree of the matches with their ancestors, and how many matches it contains. */
  tree() {
    const root = new TreeNode(null, null, this.root);
    const below = new Map([[root, new Map()]]);
    let rows = 1;
    let held = 0;
    for (const match of this.matches) {
      if (rows > MAX_ROWS && held) break;
      held++;
      let node = root;
      for (const key of match) {
        const known = below.get(node);
        if (!known.has(key)) {
          known.set(key, node.child(key));
          below.set(known.get(key), new Map());
          rows++;
        }
        node = known.get(key);
      }
    }
    for (const [node, known] of below) {
      if (!known.size) continue;
      node.setChildren([...known.values()]);
      node.open = true;
    }
    return { root, held };
  }
}

/** The tree in the page: rows, keyboard, filter and copy buttons. */
export class JsonTree {
  constructor(value, label, panel) {
    this.panel = panel; // { copy(text, button), say(text) }
    this.value = value;
    this.full = new TreeNode(null, null, value);
    this.full.open = this.full.isBranch;
    this.root = this.full;
    this.rows = new Map(); // node -> its row
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
      button("Copy value", (event) => this.copyValue(event.currentTarget), { icon: "copy", kind: "halo-small" }),
      button("Copy path", (event) => this.copyPath(event.currentTarget), { icon: "path", kind: "halo-small" }));
    this.result = element("p", { class: "halo-note halo-quiet", role: "status" });
    this.node = element("div", {}, this.toolbar(), this.result, this.list);
    this.paint();
  }

  toolbar() {
    const copy = button("Copy JSON", (event) => this.panel.copy(prettyJson(this.value), event.currentTarget), { icon: "copy", kind: "halo-small" });
    if (!this.full.isBranch) return element("div", { class: "halo-tree-bar" }, copy);
    this.filter = element("input", {
      type: "search", class: "halo-input", placeholder: "Filter", "aria-label": "Filter keys and values",
      spellcheck: "false", autocomplete: "off",
      oninput: () => this.filterSoon(),
      onkeydown: (event) => {
        if (event.key !== "Escape" || !this.filter.value) return;
        event.stopPropagation(); // Elsewhere Esc stops the turn; here it clears the filter.
        this.filter.value = "";
        this.filterSoon();
      },
    });
    return element("div", { class: "halo-tree-bar" }, this.filter,
      button("Expand all", () => this.expandAll(), { icon: "expand", kind: "halo-small" }),
      button("Collapse all", () => this.collapseAll(), { icon: "fold", kind: "halo-small" }), copy);
  }

  paint() {
    this.rows.clear();
    this.list.replaceChildren(...Array.from(this.root.shown(), (node) => this.row(node)));
    this.current = null;
    this.select(this.root, { focus: false });
  }

  row(node) {
    const row = element("div", {
      class: "halo-row", role: "treeitem", tabindex: "-1",
      "aria-level": node.level, "aria-posinset": node.position, "aria-setsize": node.siblings, "aria-selected": "false",
    });
    // Deep levels must not push the text out of view.
    row.style.setProperty("--halo-level", Math.min(node.level - 1, 24));
    this.rows.set(node, row);
    this.nodes.set(row, node);
    this.fill(node, row);
    return row;
  }

  fill(node, row) {
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
    if (node.isBranch && !String(document.getSelection())) this.toggle(node);
  }

  toggle(node) {
    if (!node.isBranch) {
      if (kindOf(node.value) !== "string" || textOf(node.value).length <= SHORT_STRING) return;
      node.whole = !node.whole;
    } else {
      node.open = !node.open;
      const row = this.rows.get(node);
      if (node.open) {
        row.after(...Array.from(node.shown(), (kid) => (kid === node ? "" : this.row(kid))).filter(Boolean));
      } else {
        while (this.nodes.get(row.nextSibling)?.level > node.level) {
          this.rows.delete(this.nodes.get(row.nextSibling));
          row.nextSibling.remove();
        }
      }
    }
    this.fill(node, this.rows.get(node));
    this.showTools(this.current);
  }

  select(node, { focus = true } = {}) {
    if (!node) return;
    if (node !== this.current) {
      const before = this.rows.get(this.current);
      before?.setAttribute("tabindex", "-1");
      before?.setAttribute("aria-selected", "false");
      this.current = node;
      const row = this.rows.get(node);
      row.setAttribute("tabindex", "0");
      row.setAttribute("aria-selected", "true");
      this.showTools(node);
    }
    if (focus) this.rows.get(node).focus();
  }

  hover(event) {
    const node = this.nodeOf(event.target);
    if (node && !this.tools.contains(document.activeElement)) this.showTools(node);
  }

  /** Move the copy buttons, of which there is one set, to the row under the pointer or the selected row. */
  showTools(node) {
    if (!node || !this.rows.has(node)) return;
    this.tools.lastChild.hidden = this.tools.firstChild.hidden = Boolean(node.range);
    setLabel(this.tools.lastChild, `Copy path ${startOf(node.path(), SHORT_STRING)}`);
    const row = this.rows.get(node);
    if (row.lastChild !== this.tools) row.append(this.tools);
  }

  copyValue(target) {
    const { value } = this.nodeOf(this.tools);
    return this.panel.copy(isBranch(value) ? prettyJson(value) : textOf(value), target);
  }

  copyPath(target) {
    return this.panel.copy(this.nodeOf(this.tools).path(), target);
  }

  key(event) {
    const node = this.current;
    if (event.target.closest("button") || event.ctrlKey || event.metaKey || event.altKey || !node) return;
    const row = this.rows.get(node);
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
    let rows = this.rows.size;
    const todo = [this.root];
    for (let node = todo.shift(); node; node = todo.shift()) {
      if (!node.isBranch) continue;
      if (!node.open) {
        if (rows + node.children().length > MAX_ROWS) continue;
        node.open = true;
        rows += node.kids.length;
      }
      todo.push(...node.kids);
    }
    this.paint();
    if (todo.length || rows > MAX_ROWS - PAGE) setText(this.result, `first ${count(this.rows.size)} rows`);
  }

  collapseAll() {
    for (const node of this.rows.keys()) node.open = false;
    this.root.open = this.root.isBranch;
    for (const kid of this.root.children()) kid.open = false;
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
      this.root = this.full;
      setText(this.result, "");
      this.paint();
      return;
    }
    const search = new Search(this.value, this.needle);
    const goOn = () => {
      if (search.step(8)) this.showFound(search);
      else this.timer = setTimeout(goOn, 0);
    };
    goOn();
  }

  showFound(search) {
    const { root, held } = search.tree();
    const more = search.found - held;
    setText(this.result,
      `${count(search.found)} of ${counted(search.seen, "value")} match${search.found === 1 ? "es" : ""}${more ? ` · ${count(more)} more matches not shown` : ""}`);
    this.root = root;
    this.paint();
  }
}
