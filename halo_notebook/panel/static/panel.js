/* The chat panel in the page: a conversation with an agent, as an anywidget front end.

What it promises:

- Only HTML that the kernel has sanitised goes through innerHTML, block by block, and never two
  pieces that do not belong together: a message that does not follow the one before is dropped,
  and the page asks for the whole. All other text, payloads among it, is set as text.
- What the user typed is in view at once and never lost: it is sent, or marked as not sent.
- While a reply arrives the reader is left alone: no scroll jump, and an open tree stays open.
- One store per model keeps the conversation, the drafts and what waits for an answer; each view
  shows it. Nothing is global, and a closed view leaves no listener behind.
- Nothing is fetched. What the page wants of the kernel it asks for by message, never by state.
*/

const MAX_CHARS = 10_000;
const COUNT_FROM = 9_000;
const BUSY_MS = 500; // a request without an answer for so long means a busy kernel
const SILENCE_MS = 6_000; // a live turn gives a sign every 2 s
const SYNC_AGAIN_MS = 5_000;
const EXPORT_PART_MS = 600;
const MAX_SAVED_TURNS = 30;
const NEAR_BOTTOM_PX = 40;

// ---------------------------------------------------------------------------------------------
// Elements

/** An element with attributes, listeners (`onclick`), `class` and `text`, and with children. */
function element(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const ICONS = {
  send: "M12 19V5m-6 6 6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h10v11H9zM5 15V4h10",
  done: "m5 13 4 4L19 7",
  up: "M7 11v9H4v-9zm0 0 4-8c1.7 0 2.6 1.2 2.3 2.8L12.7 9H19a2 2 0 0 1 2 2.3l-1.2 7A2 2 0 0 1 17.8 20H7",
  down: "M17 13V4h3v9zm0 0-4 8c-1.7 0-2.6-1.2-2.3-2.8l.6-3.2H5a2 2 0 0 1-2-2.3l1.2-7A2 2 0 0 1 6.2 4H17",
  open: "m9 6 6 6-6 6",
  menu: "m6 9 6 6 6-6",
  save: "M12 4v11m-5-5 5 5 5-5M5 20h14",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6 6 18",
  latest: "M12 5v14m-6-6 6 6 6-6",
  expand: "m7 10 5-5 5 5M7 14l5 5 5-5",
  fold: "m7 5 5 5 5-5M7 19l5-5 5 5",
  path: "M4 6h6v6H4zm3 6v6h6m0-3h6v6h-6z",
  action: "M8 4c-3 0-1 6-4 8 3 2 1 8 4 8m8-16c3 0 1 6 4 8-3 2-1 8-4 8",
};

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of [["viewBox", "0 0 24 24"], ["aria-hidden", "true"], ["focusable", "false"]]) {
    svg.setAttribute(key, value);
  }
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** A real button; with an icon alone it carries its label as name and tooltip. */
function button(label, onclick, { icon: name, kind = "", labelled = !name, ...props } = {}) {
  const node = element("button", { type: "button", class: `halo-button ${kind}`, onclick, ...props });
  if (name) node.append(icon(name));
  if (labelled) node.append(element("span", { text: label }));
  else setLabel(node, label);
  return node;
}

function setLabel(node, label) {
  if (node.getAttribute("aria-label") === label) return;
  node.setAttribute("aria-label", label);
  node.title = label;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Bring `parent`'s children into the order of `wanted`; those for which `stays` holds are not moved. */
function arrange(parent, wanted, stays) {
  let cursor = parent.firstChild;
  for (const node of wanted) {
    if (node !== cursor && node.parentNode === parent && stays(node)) {
      while (cursor && cursor !== node && !stays(cursor)) {
        const next = cursor.nextSibling;
        cursor.remove();
        cursor = next;
      }
    }
    if (node === cursor) cursor = cursor.nextSibling;
    else parent.insertBefore(node, cursor);
  }
  while (cursor) {
    const next = cursor.nextSibling;
    cursor.remove();
    cursor = next;
  }
}

// ---------------------------------------------------------------------------------------------
// Words

/** An id for a request. `crypto.randomUUID` is missing on a page that came by plain http. */
function freshId() {
  if (globalThis.crypto?.randomUUID) return crypto.randomUUID();
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const count = (number) => number.toLocaleString("en");
const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
const seconds = (value) => `${value < 10 ? value.toFixed(value < 1 ? 2 : 1) : Math.round(value)} s`;

function clock(iso) {
  const when = new Date(iso);
  if (Number.isNaN(when.getTime())) return { short: "", full: "" };
  return { short: when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }), full: when.toLocaleString() };
}

/** The length as the kernel counts it: characters, not UTF-16 units. */
function lengthOf(text) {
  return text.length < COUNT_FROM ? text.length : Array.from(text).length;
}

const INVISIBLE = /[\p{Cc}\p{Cs}\u200b\u2028\u2029\ufeff\u202a-\u202e\u2066-\u2069]/gu;

/** `text` with what is invisible, or reorders text, as escapes that a reader can see. */
function visible(text, { keep = "" } = {}) {
  return text.replace(INVISIBLE, (char) =>
    keep.includes(char) ? char : `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

const quoted = (text) => visible(JSON.stringify(text));

/** The first `limit` units of `text`, without half a character at the end. */
function startOf(text, limit) {
  const last = text.charCodeAt(limit - 1);
  return text.slice(0, last >= 0xd800 && last < 0xdc00 ? limit - 1 : limit);
}

// ---------------------------------------------------------------------------------------------
// Clipboard and files

/** Copy `text`; whether it worked. Without a secure context there is only the old command. */
async function copyText(text, root) {
  try {
    if (navigator.clipboard?.writeText) {
      await navigator.clipboard.writeText(text);
      return true;
    }
  } catch {
    // not allowed here: the old command may be
  }
  const before = document.activeElement;
  const area = element("textarea", { class: "halo-unseen", "aria-hidden": "true", tabindex: "-1" });
  area.value = text;
  // A notebook listens for copying, too.
  area.addEventListener("copy", (event) => event.stopPropagation());
  root.append(area);
  area.select();
  let copied = false;
  try {
    copied = document.execCommand("copy");
  } catch {
    // nothing left to try
  }
  area.remove();
  before?.focus?.({ preventScroll: true });
  return copied;
}

function download({ name, mime, text }) {
  const address = URL.createObjectURL(new Blob([text], { type: mime || "text/plain" }));
  const link = element("a", { href: address, download: name || "conversation", hidden: true });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

// ---------------------------------------------------------------------------------------------
// JSON, exact: numbers as they were written, keys in their order and each as often as it stands
// there. The page's own JSON.parse rounds numbers and sorts keys that look like numbers.

class Literal {
  constructor(text) {
    this.text = text;
  }
}

class Entries {
  constructor() {
    this.keys = [];
    this.values = [];
  }
}

const NAMES = new Map([["true", true], ["false", false], ["null", null]]);

function endOfString(text, start) {
  for (let end = text.indexOf('"', start + 1); end > 0; end = text.indexOf('"', end + 1)) {
    let slashes = 0;
    while (text[end - 1 - slashes] === "\\") slashes++;
    if (slashes % 2 === 0) return end + 1;
  }
  throw new SyntaxError("a string without its end");
}

/** Read JSON without recursion, so that no depth is too much. */
function parseJson(text) {
  const token = /[\s,:]*(?:([[{])|([\]}])|(")|([^\s,:[\]{}"]+))/y;
  const root = [];
  const above = [];
  let holder = root;
  let key = null;
  const put = (value) => {
    if (holder instanceof Entries) {
      holder.keys.push(key);
      holder.values.push(value);
      key = null;
    } else {
      holder.push(value);
    }
  };
  for (;;) {
    const found = token.exec(text);
    if (!found) break;
    const [, open, shut, quote, word] = found;
    if (open) {
      const branch = open === "[" ? [] : new Entries();
      put(branch);
      above.push(holder);
      holder = branch;
    } else if (shut) {
      holder = above.pop();
    } else if (quote) {
      const start = token.lastIndex - 1;
      const end = endOfString(text, start);
      token.lastIndex = end;
      const raw = text.slice(start, end);
      const value = raw.includes("\\") ? JSON.parse(raw) : raw.slice(1, -1);
      if (holder instanceof Entries && key === null) key = value;
      else put(value);
    } else {
      put(NAMES.has(word) ? NAMES.get(word) : new Literal(word));
    }
  }
  if (root.length !== 1 || above.length) throw new SyntaxError("not one JSON value");
  return root[0];
}

const isBranch = (value) => Array.isArray(value) || value instanceof Entries;
const sizeOf = (value) => (value instanceof Entries ? value.keys.length : value.length);
const childAt = (value, index) => (value instanceof Entries ? value.values[index] : value[index]);
const keyAt = (value, index) => (value instanceof Entries ? value.keys[index] : index);

function plainScalar(value) {
  if (typeof value === "string") return value;
  return value instanceof Literal ? value.text : String(value);
}

/** Indented JSON of an exact value. */
function prettyJson(value, indent = "") {
  if (!isBranch(value)) return typeof value === "string" ? JSON.stringify(value) : plainScalar(value);
  const size = sizeOf(value);
  const [open, shut] = value instanceof Entries ? "{}" : "[]";
  if (!size) return open + shut;
  const inner = `${indent}  `;
  const lines = [];
  for (let index = 0; index < size; index++) {
    const name = value instanceof Entries ? `${JSON.stringify(value.keys[index])}: ` : "";
    lines.push(`${inner}${name}${prettyJson(childAt(value, index), inner)}`);
  }
  return `${open}\n${lines.join(",\n")}\n${indent}${shut}`;
}

function pathStep(key) {
  if (typeof key === "number") return `[${key}]`;
  return /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${quoted(key)}]`;
}

// ---------------------------------------------------------------------------------------------
// A JSON tree

const PAGE = 100; // children shown under one row; more of them stand in ranges
const MAX_ROWS = 500; // that one gesture may make
const MAX_MATCHES = 200;
const SHORT_STRING = 200;
const LONG_STRING = 100_000;

/** A row that may be: a value, or a range of the children of one. Children are made when asked for. */
class TreeNode {
  constructor(parent, key, value, range = null) {
    this.parent = parent;
    this.key = key;
    this.value = value;
    this.range = range;
    this.level = parent ? parent.level + 1 : 1;
    this.position = 1;
    this.siblings = 1;
    this.open = false;
    this.kids = null;
    this.whole = false; // a long string, shown in full
  }

  get isBranch() {
    return isBranch(this.value) && sizeOf(this.value) > 0;
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
    const [from, to] = this.range ?? [0, sizeOf(this.value)];
    const kids = [];
    if (to - from <= PAGE) {
      for (let index = from; index < to; index++) {
        kids.push(new TreeNode(this, keyAt(this.value, index), childAt(this.value, index)));
      }
      return kids;
    }
    let size = PAGE;
    while ((to - from) / size > PAGE) size *= 10;
    for (let start = from; start < to; start += size) {
      kids.push(new TreeNode(this, null, this.value, [start, Math.min(start + size, to)]));
    }
    return kids;
  }

  path() {
    const steps = [];
    for (let node = this; node.parent; node = node.parent) if (node.key !== null) steps.push(pathStep(node.key));
    return `$${steps.reverse().join("")}`;
  }

  /** This node and what is open below it, in reading order. */
  *shown() {
    const todo = [this];
    while (todo.length) {
      const node = todo.pop();
      yield node;
      if (node.open) todo.push(...node.children().toReversed());
    }
  }
}

/** A search through all levels, to be run in slices of time. */
class Search {
  constructor(value, needle) {
    this.needle = needle.toLowerCase();
    this.seen = 0;
    this.found = 0;
    this.matches = []; // the indices that lead there
    this.todo = [{ value, index: 0 }];
    this.root = value;
  }

  test(key, value) {
    this.seen++;
    const hit =
      (typeof key === "string" && key.toLowerCase().includes(this.needle)) ||
      (!isBranch(value) && plainScalar(value).toLowerCase().includes(this.needle));
    if (!hit) return;
    this.found++;
    if (this.matches.length < MAX_MATCHES) this.matches.push(this.todo.map((level) => level.index));
  }

  /** Go on for some milliseconds; whether all has been seen. */
  step(milliseconds) {
    const end = performance.now() + milliseconds;
    for (let turns = 0; this.todo.length; turns++) {
      if (turns % 200 === 199 && performance.now() > end) return false;
      const level = this.todo[this.todo.length - 1];
      if (level.index >= sizeOf(level.value)) {
        this.todo.pop();
        if (this.todo.length) this.todo[this.todo.length - 1].index++;
        continue;
      }
      const value = childAt(level.value, level.index);
      this.test(keyAt(level.value, level.index), value);
      if (isBranch(value)) this.todo.push({ value, index: 0 });
      else level.index++;
    }
    return true;
  }

  /** A tree of the matches and what leads to them; and how many of the matches it holds. */
  tree() {
    const root = new TreeNode(null, null, this.root);
    const below = new Map([[root, new Map()]]);
    let rows = 1;
    let held = 0;
    for (const match of this.matches) {
      if (rows > MAX_ROWS && held) break;
      held++;
      let node = root;
      for (const index of match) {
        const known = below.get(node);
        if (!known.has(index)) {
          const kid = new TreeNode(node, keyAt(node.value, index), childAt(node.value, index));
          known.set(index, kid);
          below.set(kid, new Map());
          rows++;
        }
        node = known.get(index);
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

/** The tree of one payload: rows, keys, a filter, and what can be copied. */
class JsonTree {
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
    this.node = element("div", { class: "halo-json" });
    if (this.full.isBranch) this.bar = this.toolbar();
    this.node.append(this.list);
    this.paint();
  }

  toolbar() {
    this.filter = element("input", {
      type: "search", class: "halo-input", placeholder: "Filter", "aria-label": "Filter keys and values",
      spellcheck: "false", autocomplete: "off",
      oninput: () => this.filterSoon(),
      onkeydown: (event) => {
        if (event.key !== "Escape" || !this.filter.value) return;
        event.stopPropagation(); // Esc stops a turn; here it clears the filter
        this.filter.value = "";
        this.filterSoon();
      },
    });
    this.result = element("span", { class: "halo-quiet halo-result", role: "status" });
    return element("div", { class: "halo-tree-bar" }, this.result, this.filter,
      button("Expand all", () => this.expandAll(), { icon: "expand", kind: "halo-small" }),
      button("Collapse all", () => this.collapseAll(), { icon: "fold", kind: "halo-small" }));
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
    // Deep levels must not push the text out of the view.
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
      const twist = element("span", { class: "halo-twist" });
      twist.append(icon("open"));
      parts.push(twist);
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
    // A key with an escape in it, or none, is quoted, so that it is seen for what it is.
    const shown = node.key === "" || visible(node.key) !== node.key ? quoted(node.key) : node.key;
    const text = shown.length > SHORT_STRING ? `${startOf(shown, SHORT_STRING)}…` : shown;
    return element("span", { class: "halo-key" }, this.marked(text));
  }

  valueText(node) {
    const { value } = node;
    if (isBranch(value)) {
      const size = sizeOf(value);
      const text = value instanceof Entries ? `{} ${counted(size, "key")}` : `[] ${counted(size, "item")}`;
      return [element("span", { class: "halo-size", text })];
    }
    if (typeof value !== "string") {
      const kind = value instanceof Literal ? "halo-number" : "halo-name";
      const text = plainScalar(value);
      return [element("span", { class: kind }, this.marked(visible(text.length > 500 ? `${text.slice(0, 500)}…` : text)))];
    }
    if (value.length <= SHORT_STRING) return [element("span", { class: "halo-string" }, this.marked(quoted(value)))];
    const text = node.whole
      ? visible(startOf(value, LONG_STRING), { keep: "\n\t" })
      : `${quoted(startOf(value, SHORT_STRING)).slice(0, -1)}…`;
    const label = node.whole ? "show less" : `show all ${count(value.length)} characters`;
    const more = button(label, () => this.toggle(node), { kind: "halo-link", tabindex: "-1" });
    const parts = [element("span", { class: `halo-string${node.whole ? " halo-whole" : ""}` }, this.marked(text))];
    if (node.whole && value.length > LONG_STRING) {
      parts.push(element("span", { class: "halo-size", text: `the first ${count(LONG_STRING)} characters; Copy value copies all` }));
    }
    return [...parts, more];
  }

  /** `text` with what the filter looks for marked. */
  marked(text) {
    const fragment = document.createDocumentFragment();
    const lower = text.toLowerCase();
    let from = 0;
    // Lower case may be longer than the text; then the places do not match, and nothing is marked.
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
    // Who marks text with the pointer does not want to open the row.
    if (node.isBranch && !String(document.getSelection())) this.toggle(node);
  }

  toggle(node) {
    if (!node.isBranch) {
      if (typeof node.value !== "string" || node.value.length <= SHORT_STRING) return;
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

  /** One set of tools for all rows: it goes to the row under the pointer, or the selected one. */
  showTools(node) {
    if (!node || !this.rows.has(node)) return;
    this.tools.lastChild.hidden = this.tools.firstChild.hidden = Boolean(node.range);
    setLabel(this.tools.lastChild, `Copy path ${startOf(node.path(), SHORT_STRING)}`);
    const row = this.rows.get(node);
    if (row.lastChild !== this.tools) row.append(this.tools);
  }

  copyValue(target) {
    const { value } = this.nodeOf(this.tools);
    return this.panel.copy(isBranch(value) ? prettyJson(value) : plainScalar(value), target);
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

/** One action of the agent: what it is called, when it came, and its payload. */
class ActionCard {
  constructor(action, panel) {
    this.id = action.id;
    this.panel = panel;
    this.json = action.json;
    this.title = element("span", { class: "halo-action-label", dir: "auto" });
    this.time = element("span", { class: "halo-quiet" });
    this.note = element("p", { class: "halo-quiet halo-note", text: "Shortened here; the whole is in reply.actions.", hidden: true });
    const sign = element("span", { class: "halo-action-sign" });
    sign.append(icon("action"));
    this.fold = element("button", { type: "button", class: "halo-button halo-action-fold", "aria-expanded": "true", onclick: () => this.toggle() },
      icon("open"), sign, this.title, this.time);
    const copy = button("Copy JSON", (event) => panel.copy(prettyJson(this.value), event.currentTarget), { icon: "copy", kind: "halo-small" });
    this.body = element("div", { class: "halo-action-body" });
    this.head = element("div", { class: "halo-action-head" }, this.fold, copy);
    this.node = element("div", { class: "halo-action", role: "group" }, this.head, this.body);
    this.update(action);
    this.fillBody();
  }

  update(action) {
    setText(this.title, visible(action.label));
    setText(this.time, Number.isFinite(action.at_s) ? `+${seconds(action.at_s)}` : "");
    this.node.setAttribute("aria-label", `Action: ${visible(action.label)}`);
    this.note.hidden = !action.cut;
    if (action.json !== this.json) {
      this.json = action.json;
      this.fillBody();
    }
  }

  fillBody() {
    try {
      this.value = parseJson(this.json);
    } catch {
      this.value = this.json; // no JSON: shown as the text that it is
    }
    this.tree = new JsonTree(this.value, this.title.textContent, this.panel);
    this.body.replaceChildren(this.note, this.tree.node);
    this.head.querySelector(".halo-tree-bar")?.remove();
    if (this.tree.bar) this.fold.after(this.tree.bar);
  }

  toggle() {
    this.body.hidden = !this.body.hidden;
    if (this.tree.bar) this.tree.bar.hidden = this.body.hidden;
    this.fold.setAttribute("aria-expanded", String(!this.body.hidden));
  }
}

// ---------------------------------------------------------------------------------------------
// The store: the conversation as the kernel tells it, and what the page asks of the kernel

const GONE = {
  restarted: "The kernel was restarted: run this cell again to go on. What is shown stays.",
  dead: "The kernel has died: restart it and run this cell again to go on. What is shown stays.",
  ended: "The kernel was shut down: run this cell again to go on. What is shown stays.",
  gone: "The kernel is gone: run this cell again to go on. What is shown stays.",
  closed: "This panel was closed in the kernel: run this cell again to go on. What is shown stays.",
  none: "Not connected to a kernel: run its cell again to go on.",
};

/** Whether the kernel said no, or went away before it said anything. */
const refused = (answer) => Boolean(answer.error || answer.lost);

class Store {
  constructor() {
    this.views = new Set();
    this.epoch = null;
    this.seq = 0;
    this.session = null;
    this.sessions = [];
    this.turns = [];
    this.earlier = 0;
    this.live = null;
    this.queue = [];
    this.agent = null;
    this.source = "";
    this.pending = []; // messages that the kernel has not yet shown to have
    this.requests = new Map(); // cid -> { late, timer, done }
    this.drafts = new Map(); // session -> text
    this.notices = [];
    this.gone = ""; // a key of GONE, when the kernel is
    this.connecting = false;
    this.stopping = false;
    this.syncTries = 0;
  }

  /** Start to listen; returns what ends it. Must be quick: the kernel's messages wait for it. */
  start(model) {
    this.model = model;
    model.on("msg:custom", (content) => this.receive(content));
    model.on("comm_live_update", () => this.lookAtComm());
    // The event hands over the model itself, which knows whether it is connected; the proxy does not.
    model.on("change:_snapshot", (real) => {
      this.real = real ?? this.real;
    });
    for (const name of ["title", "height", "placeholder", "suggestions"]) model.on(`change:${name}`, () => this.changed());
    const saved = model.get("_snapshot");
    if (saved?.session !== undefined && saved?.session !== null) this.replaceAll(saved);
    this.save(saved);
    this.watchKernel();
    if (this.real?.comm_live === false) this.lose("none");
    this.sync();
    this.watchdog = setInterval(() => this.watch(), 1_000);
    return () => this.end();
  }

  end() {
    clearInterval(this.watchdog);
    clearTimeout(this.syncing);
    for (const { timer } of this.requests.values()) clearTimeout(timer);
    this.unwatchKernel?.();
  }

  changed() {
    for (const view of this.views) view.schedule();
  }

  say(text) {
    const [view] = this.views; // one voice, however many views
    view?.say(text);
  }

  notice(text) {
    this.notices = [...this.notices.slice(-2), { id: freshId(), text: String(text) }];
    this.say(text);
    this.changed();
  }

  dismiss(id) {
    this.notices = this.notices.filter((notice) => notice.id !== id);
    this.changed();
  }

  // -- the kernel's life

  watchKernel() {
    const kernel = this.model.widget_manager?.kernel;
    if (!kernel?.statusChanged?.connect) return;
    // "starting" is what the others see when one page has it restarted.
    const reasons = { restarting: "restarted", autorestarting: "restarted", starting: "restarted", dead: "dead", terminating: "ended" };
    const status = () => Object.hasOwn(reasons, kernel.status) && this.lose(reasons[kernel.status]);
    const connection = () => {
      const lost = kernel.connectionStatus !== "connected";
      if (lost === this.connecting) return;
      this.connecting = lost;
      if (!lost) this.sync({ now: true });
      this.changed();
    };
    kernel.statusChanged.connect(status);
    kernel.connectionStatusChanged?.connect(connection);
    this.unwatchKernel = () => {
      kernel.statusChanged.disconnect(status);
      kernel.connectionStatusChanged?.disconnect(connection);
    };
  }

  lookAtComm() {
    if (this.real?.comm_live === true) {
      if (this.gone) this.sync({ now: true });
      return;
    }
    if (this.real?.comm_live === false || this.real === undefined) this.lose("gone");
  }

  lose(reason) {
    // What was said first is the more exact.
    if (this.gone && !(this.gone === "gone" && reason !== "none")) return;
    this.gone = reason;
    clearTimeout(this.syncing);
    this.syncing = null;
    for (const message of this.pending) message.state = "unsent";
    for (const cid of [...this.requests.keys()]) this.settle(cid, { lost: true });
    this.stopping = false;
    this.say(GONE[reason]);
    this.changed();
  }

  // -- page → kernel

  /** Ask the kernel for something; `done` gets its answer. */
  request(content, done) {
    const cid = content.cid ?? freshId();
    const entry = { done, late: false, timer: 0 };
    entry.timer = setTimeout(() => {
      entry.late = true;
      this.changed();
    }, BUSY_MS);
    this.requests.set(cid, entry);
    this.post({ ...content, cid });
    this.changed();
    return cid;
  }

  post(content) {
    try {
      this.model.send(content);
    } catch {
      this.lose("gone");
    }
  }

  settle(cid, answer) {
    const entry = this.requests.get(cid);
    if (!entry) return;
    this.requests.delete(cid);
    clearTimeout(entry.timer);
    if (answer.error) this.notice(answer.error);
    entry.done?.(answer);
  }

  /** Ask for the whole, one request at a time. Waits longer each time, so that none pile up. */
  sync({ now = false } = {}) {
    if (this.gone && !now) return;
    if (this.syncing && !now) return;
    clearTimeout(this.syncing);
    const wait = Math.min(SYNC_AGAIN_MS * 2 ** Math.max(0, this.syncTries - 1), 60_000);
    this.syncTries++;
    this.syncing = setTimeout(() => {
      this.syncing = null;
      this.sync();
    }, wait);
    this.post({ kind: "sync", cid: freshId() });
  }

  watch() {
    if (this.live && !this.gone && performance.now() - this.heardAt > SILENCE_MS) this.sync();
  }

  send(text) {
    const message = { cid: freshId(), text, session: this.session, state: "sending" };
    this.pending.push(message);
    this.drafts.delete(this.session ?? "");
    this.deliver(message);
    this.say("Message sent");
  }

  deliver(message) {
    message.state = "sending";
    this.request({ kind: "send", cid: message.cid, text: message.text }, (answer) => {
      message.state = refused(answer) ? "unsent" : "taken";
      this.changed();
    });
  }

  sendAgain(message) {
    // A new id: the kernel has refused the old one, or may have seen it before it went away.
    message.cid = freshId();
    this.deliver(message);
  }

  forget(message) {
    this.pending = this.pending.filter((other) => other !== message);
    this.changed();
  }

  isLate(cid) {
    return this.requests.get(cid)?.late ?? false;
  }

  stop() {
    if (!this.live || this.gone || this.stopping) return;
    this.stopping = true;
    this.request({ kind: "stop" }, (answer) => {
      if (refused(answer)) this.stopping = false;
    });
  }

  again(turn) {
    this.replaceTurn({ ...turn, again: "" });
    this.request({ kind: "again", key: turn.key }, (answer) => refused(answer) && this.putBack(turn));
  }

  rate(turn, value, note) {
    this.replaceTurn({ ...turn, rating: { value, note } });
    this.request({ kind: "rate", key: turn.key, value, note }, (answer) => refused(answer) && this.putBack(turn));
  }

  /** Undo what was shown before the kernel agreed. */
  putBack(turn) {
    this.replaceTurn(turn);
    this.changed();
  }

  replaceTurn(turn) {
    const at = this.turns.findIndex((other) => other.key === turn.key);
    if (at >= 0) this.turns = this.turns.with(at, turn);
    return at >= 0;
  }

  showEarlier(done) {
    const session = this.session;
    const before = this.turns[0]?.number ?? this.live?.number ?? 0;
    this.request({ kind: "earlier", before }, (answer) => {
      if (answer.turns && this.session === session && (this.turns[0]?.number ?? before) === before) {
        this.turns = [...answer.turns, ...this.turns];
        this.earlier = answer.earlier ?? 0;
      }
      done();
      this.changed();
    });
  }

  draft() {
    return this.drafts.get(this.session ?? "") ?? "";
  }

  setDraft(text, from) {
    this.drafts.set(this.session ?? "", text);
    for (const view of this.views) if (view !== from) view.showDraft();
  }

  // -- kernel → page

  receive(message) {
    this.heardAt = performance.now();
    if (this.gone && this.gone !== "closed") this.gone = ""; // who speaks is there
    switch (message.kind) {
      case "answer": this.settle(message.cid, message); break;
      case "notice": this.notice(message.text); break;
      case "closed": this.lose("closed"); break;
      case "snapshot": this.takeSnapshot(message); break;
      default: this.takeNext(message);
    }
    this.changed();
  }

  /** Apply a message that follows the one before; any other would be put in the wrong place. */
  takeNext(message) {
    if (message.epoch !== this.epoch) {
      this.sync();
    } else if (message.kind === "beat") {
      if (message.seq !== this.seq) this.sync();
      else if (this.live) this.live = { ...this.live, state: message.state };
    } else if (message.seq === this.seq + 1) {
      this.seq = message.seq;
      this.apply(message);
    } else if (message.seq > this.seq) {
      if (message.kind === "turn") this.apply(message); // it is whole in itself
      this.sync();
    }
  }

  apply(message) {
    switch (message.kind) {
      case "begin": this.begin(message.turn); break;
      case "frame": this.frame(message); break;
      case "turn": this.finish(message.turn); break;
      case "queue": this.takeQueue(message.queue); break;
      case "sessions": this.sessions = message.sessions; break;
      default: // of a later version
    }
  }

  begin(turn) {
    this.live = turn;
    this.agent = turn.agent ?? this.agent;
    this.source = turn.source;
    this.stopping = false;
    this.arrived(turn.cid);
    this.say("The agent is answering");
  }

  frame(message) {
    const { live } = this;
    if (!live || live.key !== message.key) {
      this.sync();
      return;
    }
    const places = new Map(message.places ?? []);
    const actions = [...live.actions, ...(message.actions ?? [])];
    this.live = {
      ...live,
      blocks: message.blocks.length ? [...live.blocks, ...message.blocks] : live.blocks,
      open: live.open.slice(0, message.keep) + message.open,
      actions: places.size ? actions.map((one) => (places.has(one.id) ? { ...one, after: places.get(one.id) } : one)) : actions,
      state: message.state,
    };
  }

  finish(turn) {
    const wasLive = this.live?.key === turn.key;
    if (wasLive) {
      this.live = null;
      this.stopping = false;
    }
    this.arrived(turn.cid);
    if (!this.replaceTurn(turn)) {
      this.turns = [...this.turns, turn].sort((a, b) => a.number - b.number);
    }
    this.agent = turn.agent ?? this.agent;
    this.save();
    if (wasLive) this.say(this.spoken(turn));
  }

  /** A finished reply for who listens: once, and not all of a long one. */
  spoken(turn) {
    const parts = [];
    if (turn.status === "failed") parts.push(`The turn failed. ${turn.error}`);
    if (turn.status === "stopped") parts.push(`Stopped. ${turn.error}`);
    const text = turn.text.trim();
    if (text) parts.push(text.length > 600 ? `${startOf(text, 600)} … the reply goes on` : text);
    if (turn.actions.length) parts.push(counted(turn.actions.length, "action"));
    return parts.join(" ") || "The reply is empty";
  }

  takeQueue(queue) {
    this.queue = queue;
    for (const item of queue) this.arrived(item.cid);
  }

  /** The kernel shows the message with this id: the page's own stand-in goes. */
  arrived(cid) {
    if (!cid) return;
    this.pending = this.pending.filter((message) => message.cid !== cid);
    this.settle(cid, {});
  }

  takeSnapshot(message) {
    clearTimeout(this.syncing);
    this.syncing = null;
    this.syncTries = 0;
    const unanswered = this.pending.filter((one) => one.state !== "taken" && one.state !== "unsent");
    this.replaceAll(message);
    for (const one of this.pending) {
      if (one.session === null) one.session = this.session;
      const elsewhere = one.session !== this.session;
      if (!unanswered.includes(one)) continue;
      // In another conversation it would be the wrong message.
      if (elsewhere) one.state = "unsent";
      else this.post({ kind: "send", cid: one.cid, text: one.text });
    }
    this.save();
  }

  replaceAll(message) {
    const turns = message.turns ?? [];
    const known = message.epoch === this.epoch && message.session === this.session && turns.length
      ? this.turns.findIndex((turn) => turn.key === turns[0].key)
      : -1;
    // Older turns that were asked for stay: without them the page would jump.
    this.turns = known > 0 ? [...this.turns.slice(0, known), ...turns] : turns;
    this.earlier = known > 0 ? this.earlier : (message.earlier ?? 0);
    if (this.session === null && this.drafts.has("")) {
      this.drafts.set(message.session, this.drafts.get(""));
      this.drafts.delete("");
    }
    if (message.live?.key !== this.live?.key) this.stopping = false;
    this.epoch = message.epoch;
    this.seq = message.seq;
    this.session = message.session;
    this.sessions = message.sessions ?? [];
    this.live = message.live ?? null;
    this.agent = message.agent ?? null;
    this.source = message.source ?? "";
    this.takeQueue(message.queue ?? []);
    for (const turn of this.live ? [...turns, this.live] : turns) this.arrived(turn.cid);
    // A message that was taken and is nowhere: taken back in another view.
    this.pending = this.pending.filter((one) => one.state !== "taken");
  }

  /** Keep the newest turns in the widget's state, which a notebook can be saved with. */
  save(snapshot = null) {
    const turns = this.turns.slice(-MAX_SAVED_TURNS);
    const kept = snapshot ?? {
      epoch: this.epoch, seq: this.seq, session: this.session, sessions: this.sessions, turns,
      earlier: this.earlier + this.turns.length - turns.length, live: null, queue: [], agent: this.agent, source: this.source,
    };
    this.model.set("_snapshot", { ...kept, shown_at: Date.now() });
  }

  // -- what a view shows of it all

  /** What the live turn is doing; a click on Stop waits in the kernel while a cell computes. */
  progress() {
    if (!this.stopping) return this.live.state || "waiting for first text";
    return this.late ? "stops when the kernel is free; to stop it now, interrupt the kernel" : "stopping";
  }

  get late() {
    return [...this.requests.values()].some((entry) => entry.late);
  }

  /** Where things stand, in a word or two: [kind, text]. */
  status() {
    if (this.gone === "none") return ["gone", "not connected"];
    if (this.gone) return ["gone", "kernel gone"];
    if (this.connecting) return ["busy", "reconnecting"];
    if (this.late) return ["busy", "kernel busy"];
    if (this.live) return ["live", this.progress()];
    if (this.pending.some((message) => message.state === "sending" || message.state === "taken")) return ["live", "sending"];
    if (this.pending.some((message) => message.session === this.session)) return ["failed", "not sent"];
    const last = this.turns.at(-1);
    if (last?.status === "failed") return ["failed", "failed"];
    if (last?.status === "stopped") return ["stopped", "stopped"];
    return ["ready", "ready"];
  }
}

// ---------------------------------------------------------------------------------------------
// What stands in the transcript

const FOLDED_CHARS = 1_500;
const FOLDED_LINES = 14;

/** What the user wrote; a long text is folded. */
class Bubble {
  constructor(panel) {
    this.panel = panel;
    this.text = null;
    this.body = element("div", { class: "halo-bubble-text", dir: "auto" });
    this.more = button("Show all", () => this.toggle(), { kind: "halo-link", hidden: true });
    this.tools = element("div", { class: "halo-tools" },
      button("Copy message", (event) => panel.copy(this.text, event.currentTarget), { icon: "copy", kind: "halo-small" }));
    this.note = element("div", { class: "halo-bubble-note", hidden: true });
    this.node = element("div", { class: "halo-asked" },
      element("div", { class: "halo-bubble-line" }, this.tools, element("div", { class: "halo-bubble" }, this.body, this.more)), this.note);
  }

  update(text) {
    if (text === this.text) return;
    this.text = text;
    setText(this.body, text);
    this.more.hidden = text.length <= FOLDED_CHARS && text.split("\n", FOLDED_LINES + 1).length <= FOLDED_LINES;
    this.body.classList.toggle("halo-folded", !this.more.hidden);
  }

  toggle() {
    const folded = this.body.classList.toggle("halo-folded");
    setText(this.more.firstChild, folded ? "Show all" : "Show less");
  }

  /** A line below: what has become of it, and what can be done. */
  say(text, ...buttons) {
    const said = [text, ...buttons.map((one) => one.textContent)].join("|");
    if (said === this.said) return;
    this.said = said;
    this.note.hidden = !text;
    this.note.replaceChildren(element("span", { text }), ...buttons);
  }
}

/** A message that is not yet a turn; `tell` says below it what it waits for. */
class Waiting {
  constructor(panel, tell) {
    this.tell = tell;
    this.bubble = new Bubble(panel);
    this.node = element("article", { class: "halo-turn halo-waiting", "aria-label": "Your message, not yet sent" }, this.bubble.node);
  }

  update(item, { gone }) {
    this.bubble.update(item.text);
    const lost = Boolean(gone) || item.state === "unsent";
    this.node.classList.toggle("halo-unsent", lost);
    if (gone) this.bubble.say("not sent");
    else this.tell(item, (text, ...buttons) => this.bubble.say(text, ...buttons));
  }
}

/** A block of a reply: its HTML is set once, or at each frame while the block is open. */
class Block {
  constructor() {
    this.node = element("div", { class: "halo-block", dir: "auto" });
    this.html = "";
    this.finished = false;
  }

  update(html, finished, panel) {
    const changed = html !== this.html;
    if (!changed && finished === this.finished) return;
    this.html = html;
    if (changed || (this.finished && !finished)) {
      this.node.innerHTML = html; // eslint-disable-line no-restricted-properties -- the kernel has made it safe
    }
    this.finished = finished;
    if (finished) this.furnish(panel);
  }

  /** A Copy button on code; wide code and tables scroll in themselves. */
  furnish(panel) {
    for (const pre of this.node.querySelectorAll("pre")) {
      const copy = button("Copy code", (event) => panel.copy(pre.textContent, event.currentTarget), { icon: "copy", kind: "halo-small" });
      const frame = element("div", { class: "halo-code" });
      pre.replaceWith(frame);
      frame.append(pre, copy);
      panel.watchWidth(pre, "Code");
    }
    for (const table of this.node.querySelectorAll("table")) {
      const frame = element("div", { class: "halo-wide" });
      table.replaceWith(frame);
      frame.append(table);
      panel.watchWidth(frame, "Table");
    }
  }
}

/** One turn: what was asked, the reply with its actions where they belong, and what is known of it. */
class TurnView {
  constructor(panel) {
    this.panel = panel;
    this.turn = null;
    this.seen = null;
    this.blocks = [];
    this.cards = new Map();
    this.bubble = new Bubble(panel);
    // The classes keep a page's MathJax from taking prices for formulas.
    this.reply = element("div", { class: "halo-reply mathjax_ignore tex2jax_ignore" });
    this.progress = element("div", { class: "halo-progress", hidden: true },
      element("span", { class: "halo-dots", "aria-hidden": "true" }, element("i"), element("i"), element("i")), element("span"));
    this.cut = element("p", { class: "halo-quiet halo-note", hidden: true });
    this.error = element("div", { class: "halo-error", dir: "auto", hidden: true });
    this.node = element("article", { class: "halo-turn" }, this.bubble.node, this.reply, this.progress, this.cut, this.error, this.footer());
  }

  footer() {
    const store = () => this.panel.store;
    this.time = element("time");
    this.facts = element("span");
    this.status = element("span", { class: "halo-badge halo-stopped", text: "stopped", hidden: true });
    const copy = button("Copy reply", (event) => this.panel.copy(this.turn.text, event.currentTarget), { icon: "copy", kind: "halo-small" });
    this.up = button("Good reply", () => this.rate("up"), { icon: "up", kind: "halo-small", "aria-pressed": "false" });
    this.down = button("Bad reply", () => this.rate("down"), { icon: "down", kind: "halo-small", "aria-pressed": "false" });
    this.againButton = button("Send again", () => this.again(), { kind: "halo-text halo-framed", hidden: true });
    this.confirm = element("div", { class: "halo-confirm", role: "group", "aria-label": "Send again?", hidden: true, onkeydown: (event) => this.closeOnEscape(event, this.confirm, this.againButton) },
      element("span", { text: "It may have arrived. Sending it again can make the agent act twice." }),
      button("Send again", () => store().again(this.turn), { kind: "halo-text halo-framed" }),
      button("Cancel", () => this.close(this.confirm, this.againButton), { kind: "halo-text" }));
    this.note = element("input", { class: "halo-input", type: "text", maxlength: "2000", placeholder: "What was good or bad? (optional)", "aria-label": "Note on this reply", dir: "auto" });
    this.noteForm = element("form", { class: "halo-rate-note", hidden: true, onsubmit: (event) => this.saveNote(event), onkeydown: (event) => this.closeOnEscape(event, this.noteForm, this.up) },
      this.note, element("button", { type: "submit", class: "halo-button halo-text halo-framed", text: "Save" }),
      button("Close", () => this.close(this.noteForm, this.up), { icon: "close", kind: "halo-small" }));
    this.foot = element("footer", { class: "halo-foot", hidden: true },
      element("div", { class: "halo-foot-line" }, this.againButton, this.confirm, this.status,
        element("span", { class: "halo-facts" }, this.time, this.facts),
        element("span", { class: "halo-tools" }, copy, this.up, this.down)),
      this.noteForm);
    return this.foot;
  }

  update(turn, flags) {
    const seen = `${flags.gone}|${flags.latest}|${flags.near}|${turn.status === "streaming" && this.panel.store.progress()}`;
    if (turn === this.turn && seen === this.seen) return;
    this.turn = turn;
    this.seen = seen;
    const live = turn.status === "streaming";
    this.bubble.update(turn.asked);
    this.node.setAttribute("aria-label", `Turn ${turn.number}`);
    this.node.classList.toggle("halo-latest-turn", flags.latest);
    // By class: a selector that counts from the end has the browser restyle all turns for each new one.
    this.node.classList.toggle("halo-far", !flags.near);
    this.showReply(turn);
    this.showProgress(turn, live, flags.gone);
    this.showFooter(turn, live, flags.gone);
  }

  showReply(turn) {
    const htmls = turn.open ? [...turn.blocks, turn.open] : turn.blocks;
    const after = new Map(); // how many blocks stand before -> cards
    for (const action of turn.actions) {
      let card = this.cards.get(action.id);
      if (card) card.update(action);
      else this.cards.set(action.id, (card = new ActionCard(action, this.panel)));
      const place = action.after === null ? htmls.length : Math.min(action.after, htmls.length);
      after.set(place, [...(after.get(place) ?? []), card.node]);
    }
    const wanted = [];
    htmls.forEach((html, index) => {
      this.blocks[index] ??= new Block();
      this.blocks[index].update(html, index < turn.blocks.length, this.panel);
      wanted.push(...(after.get(index) ?? []), this.blocks[index].node);
    });
    this.blocks.length = htmls.length;
    wanted.push(...(after.get(htmls.length) ?? []));
    arrange(this.reply, wanted, (node) => node.classList.contains("halo-action"));
  }

  showProgress(turn, live, gone) {
    this.progress.hidden = !live || Boolean(gone);
    if (live) setText(this.progress.lastChild, this.panel.store.progress());
    this.progress.classList.toggle("halo-with-text", turn.blocks.length > 0 || Boolean(turn.open));
    const empty = turn.status === "complete" && !turn.blocks.length && !turn.actions.length;
    const note = turn.cut || (empty ? "The reply is empty." : "");
    setText(this.cut, note);
    this.cut.hidden = !note;
    const error = live && gone ? "Interrupted: the kernel went away. What had arrived stays." : turn.error;
    setText(this.error, error ?? "");
    this.error.hidden = !error;
    this.error.classList.toggle("halo-mild", turn.status === "stopped");
  }

  showFooter(turn, live, gone) {
    this.foot.hidden = live;
    if (live) return;
    const { short, full } = clock(turn.started_at);
    setText(this.time, short);
    this.time.title = full;
    this.time.setAttribute("datetime", turn.started_at);
    // The head says that it is the demo agent; that a turn came from a recording has to stand at the turn.
    const facts = [turn.agent, (turn.source !== "demo agent" || !turn.agent) && turn.source,
      Number.isFinite(turn.first_text_s) && `first text ${seconds(turn.first_text_s)}`,
      Number.isFinite(turn.elapsed_s) && `${seconds(turn.elapsed_s)} in all`, ...(turn.words ?? [])].filter(Boolean);
    setText(this.facts, facts.map((fact) => ` · ${fact}`).join(""));
    this.status.hidden = turn.status !== "stopped";
    if (!turn.again) this.confirm.hidden = true;
    this.againButton.hidden = !turn.again || !this.confirm.hidden;
    this.againButton.title = turn.again === "twice" ? "Sends the message a second time: the agent may act on it twice" : "The message did not arrive";
    const value = turn.rating?.value ?? "";
    this.up.setAttribute("aria-pressed", String(value === "up"));
    this.down.setAttribute("aria-pressed", String(value === "down"));
    if (document.activeElement !== this.note) this.note.value = turn.rating?.note ?? "";
    for (const node of this.foot.querySelectorAll(".halo-framed, [aria-pressed]")) node.disabled = Boolean(gone);
    this.foot.classList.toggle("halo-rated", Boolean(value));
  }

  rate(value) {
    const before = this.turn.rating ?? { value: "", note: "" };
    const next = before.value === value ? "" : value;
    this.noteForm.hidden = !next;
    this.panel.store.rate(this.turn, next, ""); // a note on the other verdict is none on this one
    if (next) this.note.focus({ preventScroll: true });
  }

  saveNote(event) {
    event.preventDefault();
    this.panel.store.rate(this.turn, this.turn.rating?.value ?? "", this.note.value.trim());
    this.close(this.noteForm, this.turn.rating?.value === "down" ? this.down : this.up);
    this.panel.say("Note saved");
  }

  again() {
    if (this.turn.again !== "twice") {
      this.panel.store.again(this.turn);
      return;
    }
    this.confirm.hidden = false;
    this.againButton.hidden = true;
    this.confirm.querySelector("button").focus();
  }

  close(part, opener) {
    part.hidden = true;
    if (opener === this.againButton) opener.hidden = !this.turn.again;
    opener.focus({ preventScroll: true });
  }

  closeOnEscape(event, part, opener) {
    if (event.key !== "Escape") return;
    event.stopPropagation(); // Esc stops a turn; here it closes what is open
    this.close(part, opener);
  }
}

// ---------------------------------------------------------------------------------------------
// One view of the panel

const NOT_FOR_THE_NOTEBOOK = "data-lm-suppress-shortcuts";
const KEPT_IN_LAYOUT = 4; // turns at the end; those before are laid out when they come into view
const FILL_AT_ONCE = 20; // turns shown at once when there are many; the rest follows in slices

class Panel {
  constructor(store, model, el) {
    this.store = store;
    this.model = model;
    this.id = `halo-${freshId()}`;
    this.life = new AbortController();
    this.items = new Map();
    this.unfilled = [];
    this.following = true;
    this.recalled = -1;
    this.root = element("div", {
      class: "halo-panel", role: "region", tabindex: "-1", [NOT_FOR_THE_NOTEBOOK]: "true",
      onkeydown: (event) => this.key(event),
    });
    this.build();
    this.keepEvents();
    this.watchSizes();
    this.hideStatic();
    el.append(this.root);
    this.showDraft();
    this.paint();
  }

  destroy() {
    this.life.abort();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.filling);
    this.sizes.disconnect();
    this.widths.disconnect();
    this.root.remove();
  }

  build() {
    this.voice = element("div", { class: "halo-unseen", "aria-live": "polite" });
    this.jump = button("Jump to latest", () => this.toBottom({ smooth: true }), { icon: "latest", kind: "halo-jump", labelled: true, hidden: true });
    this.notices = element("div", { class: "halo-notices" });
    this.root.append(this.buildHead(), this.buildLog(), element("div", { class: "halo-over" }, this.jump), this.notices,
      this.buildGone(), this.buildComposer(), this.voice);
  }

  buildHead() {
    this.title = element("span", { class: "halo-title", dir: "auto" });
    this.agent = element("span", { class: "halo-agent halo-quiet", dir: "auto" });
    this.badge = element("span", { class: "halo-badge halo-source", dir: "auto" });
    this.stateText = element("span");
    this.state = element("span", { class: "halo-state" }, element("span", { class: "halo-dot", "aria-hidden": "true" }), this.stateText);
    this.headStop = button("Stop", () => this.store.stop(), { icon: "stop", kind: "halo-small halo-head-stop" });
    this.sessionName = element("span", { class: "halo-session-name", dir: "auto" });
    const session = this.menu("Session", [this.sessionName, icon("menu")], "halo-session", (list) => this.fillSessions(list));
    const save = this.menu("Export", [icon("save")], "halo-export", (list) => list.append(
      button("Markdown", () => this.export("markdown"), { kind: "halo-item" }),
      button("JSON", () => this.export("json"), { kind: "halo-item" })));
    return element("div", { class: "halo-head" }, this.title, this.badge, this.agent, this.state, this.headStop, session, save);
  }

  /** A button with a list under it, which closes on Esc, on a click elsewhere and when focus leaves. */
  menu(label, content, kind, fill) {
    const list = element("div", { class: "halo-menu", role: "group", "aria-label": label, id: `${this.id}-${kind}`, hidden: true });
    const opener = element("button", { type: "button", class: `halo-button ${kind}`, title: label, "aria-expanded": "false", "aria-controls": list.id }, ...content);
    opener.setAttribute("aria-label", label);
    const holder = element("div", { class: "halo-menu-holder" }, opener, list);
    const set = (open) => {
      if (!open && list.contains(document.activeElement)) opener.focus({ preventScroll: true });
      list.hidden = !open;
      opener.setAttribute("aria-expanded", String(open));
      this.openMenu = open ? { holder, close: () => set(false) } : null;
      if (!open) return;
      list.replaceChildren();
      fill(list);
      list.querySelector("button, input")?.focus();
    };
    opener.addEventListener("click", () => {
      const open = list.hidden;
      this.openMenu?.close();
      set(open);
    });
    holder.addEventListener("focusout", (event) => {
      if (event.relatedTarget && !holder.contains(event.relatedTarget)) set(false);
    });
    return holder;
  }

  fillSessions(list) {
    const { store } = this;
    const act = (content) => () => {
      this.openMenu?.close();
      this.area.focus({ preventScroll: true });
      store.request(content);
    };
    const names = element("div", { class: "halo-names" });
    for (const { name, turns } of store.sessions) {
      names.append(element("button", { type: "button", class: "halo-button halo-item", "aria-current": name === store.session ? "true" : null, onclick: act({ kind: "switch", name }) },
        element("span", { text: name, dir: "auto" }), element("span", { class: "halo-quiet", text: counted(turns, "turn") })));
    }
    const name = element("input", { class: "halo-input", type: "text", placeholder: "Session name", "aria-label": "Name of a session to switch to, or of a new one", maxlength: "100", dir: "auto", autocomplete: "off" });
    const form = element("form", {
      class: "halo-name-form",
      onsubmit: (event) => {
        event.preventDefault();
        if (name.value.trim()) act({ kind: "switch", name: name.value.trim() })();
      },
    }, name, element("button", { type: "submit", class: "halo-button halo-text halo-framed", text: "Go" }));
    const fresh = button("New conversation", act({ kind: "new" }), { icon: "plus", labelled: true, kind: "halo-item halo-new" });
    list.append(names, fresh, form);
    for (const node of list.querySelectorAll("button")) node.disabled = Boolean(store.gone);
  }

  /** Fetch the conversation part by part, not too fast: the server drops what is above its rate. */
  export(format, part = 0, before = "") {
    this.openMenu?.close();
    const began = performance.now();
    this.store.request({ kind: "export", format, part }, (answer) => {
      if (answer.text === undefined) return;
      const text = before + answer.text;
      if (part + 1 < answer.parts) {
        setTimeout(() => this.export(format, part + 1, text), began + EXPORT_PART_MS - performance.now());
        return;
      }
      download({ ...answer, text });
      this.say("The conversation is exported");
    });
  }

  buildLog() {
    this.earlier = button("Show earlier turns", () => this.showEarlier(), { kind: "halo-text halo-framed halo-earlier", hidden: true });
    this.empty = element("div", { class: "halo-empty" });
    this.turns = element("div", { class: "halo-turns" });
    this.page = element("div", { class: "halo-page" }, this.earlier, this.empty, this.turns);
    this.log = element("div", {
      class: "halo-log", role: "log", "aria-live": "off", "aria-label": "Conversation", tabindex: "0",
      onscroll: () => this.scrolled(),
      // What the reader opens must not be scrolled away.
      onclick: (event) => event.target.closest(".halo-action, .halo-link") && this.hold(),
      onkeydown: (event) => event.target.closest(".halo-action") && this.hold(),
    }, this.page);
    return this.log;
  }

  buildGone() {
    this.goneText = element("span");
    this.copyDraft = button("Copy draft", (event) => this.copy(this.area.value, event.currentTarget), { icon: "copy", kind: "halo-text halo-framed", labelled: true });
    this.goneLine = element("div", { class: "halo-gone", role: "note", hidden: true }, this.goneText, this.copyDraft);
    return this.goneLine;
  }

  buildComposer() {
    this.area = element("textarea", {
      class: "halo-area", rows: "1", dir: "auto", "aria-label": "Message", "aria-describedby": `${this.id}-count`,
      oninput: () => {
        this.recalled = -1;
        this.store.setDraft(this.area.value, this);
        this.fitArea();
        this.paintComposer();
      },
    });
    this.sendButton = button("Send", () => this.send(), { icon: "send", kind: "halo-send" });
    this.stopButton = button("Stop", () => this.store.stop(), { icon: "stop", kind: "halo-send halo-stop", hidden: true });
    this.counter = element("span", { class: "halo-counter", id: `${this.id}-count` });
    this.box = element("div", {
      class: "halo-box",
      onmousedown: (event) => {
        if (event.target !== this.box) return;
        event.preventDefault();
        this.area.focus();
      },
    }, this.area, this.sendButton, this.stopButton);
    this.hint = element("span", { class: "halo-hint", text: "Enter sends · Shift+Enter starts a new line" });
    return element("div", { class: "halo-composer" }, this.box, element("div", { class: "halo-under" }, this.hint, this.counter));
  }

  /** What is typed and copied here is not the notebook's: Shift+Enter must not run its cell. */
  keepEvents() {
    for (const name of ["keydown", "keyup", "keypress", "copy", "cut", "paste"]) {
      this.root.addEventListener(name, (event) => event.stopPropagation());
    }
    // Notebook 7 looks at keys before they get here, and takes those of whatever in a notebook has the
    // focus and cannot be written in. It leaves alone what carries this mark itself.
    this.root.addEventListener("focusin", (event) => event.target.setAttribute(NOT_FOR_THE_NOTEBOOK, "true"));
    document.addEventListener("pointerdown", (event) => {
      if (this.openMenu && !this.openMenu.holder.contains(event.target)) this.openMenu.close();
    }, { signal: this.life.signal });
  }

  /** The cell's static transcript is not shown beside the panel. */
  hideStatic() {
    const name = this.model.get("_static_class");
    if (!name) return;
    const target = `.${CSS.escape(name)}`;
    this.root.append(element("style", { text: `${target}{display:none}.jp-OutputArea-child:has(${target}){display:none}` }));
  }

  // -- sizes and scrolling

  watchSizes() {
    let shown = true;
    this.sizes = new ResizeObserver(() => {
      // A notebook may take a cell out of the page and put it back, scrolled to its top.
      if (!this.log.clientHeight) {
        shown = false;
        return;
      }
      if (this.following) this.toBottom();
      else if (!shown) this.log.scrollTop = this.lastTop;
      if (!shown) this.fitArea();
      shown = true;
    });
    this.sizes.observe(this.log);
    this.sizes.observe(this.page);
    this.widths = new ResizeObserver((entries) => {
      for (const { target } of entries) this.reachable(target);
    });
  }

  /** Let the keyboard reach what scrolls sideways, and only that. */
  watchWidth(node, label) {
    node.dataset.label = label;
    this.widths.observe(node);
  }

  reachable(node) {
    const wide = node.scrollWidth > node.clientWidth + 1;
    if (wide === (node.tabIndex === 0)) return;
    if (wide) {
      node.tabIndex = 0;
      node.setAttribute("role", "region");
      node.setAttribute("aria-label", node.dataset.label);
    } else {
      for (const name of ["tabindex", "role", "aria-label"]) node.removeAttribute(name);
    }
  }

  fromBottom() {
    return this.log.scrollHeight - this.log.clientHeight - this.log.scrollTop;
  }

  scrolled() {
    const top = this.log.scrollTop;
    if (!this.log.clientHeight) return;
    if (this.fromBottom() <= NEAR_BOTTOM_PX) this.following = true;
    else if (top < this.lastTop - 1) this.following = false; // only a reader moves up
    this.lastTop = top;
    if (this.following) this.fresh = false;
    this.paintJump();
  }

  toBottom({ smooth = false } = {}) {
    this.following = true;
    this.fresh = false;
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (smooth && !calm && this.fromBottom() < 3_000) this.log.scrollTo({ top: this.log.scrollHeight, behavior: "smooth" });
    else this.log.scrollTop = this.log.scrollHeight;
    this.lastTop = this.log.scrollTop;
    this.paintJump();
  }

  /** The reader opens or closes something: stay there, whatever its size becomes. */
  hold() {
    this.following = false;
    this.holding = true;
    requestAnimationFrame(() => requestAnimationFrame(() => {
      this.holding = false;
      this.scrolled();
    }));
  }

  paintJump() {
    this.jump.hidden = this.following || Boolean(this.holding);
    setText(this.jump.lastChild, this.fresh ? "New below" : "Jump to latest");
    this.jump.classList.toggle("halo-fresh", Boolean(this.fresh));
  }

  /** Show what is above, and keep what is in view where it is. */
  showEarlier() {
    const turn = this.turns.firstElementChild;
    this.store.showEarlier(() => {
      const before = turn?.getBoundingClientRect().top;
      this.following = false;
      this.paint();
      const keep = () => {
        if (turn?.isConnected) this.log.scrollTop += turn.getBoundingClientRect().top - before;
      };
      keep();
      requestAnimationFrame(keep); // once the sizes above are known
    });
  }

  // -- painting

  schedule() {
    this.frame ||= requestAnimationFrame(() => this.paint());
  }

  paint() {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const hadFocus = this.root.contains(document.activeElement);
    if (this.shownSession !== this.store.session) this.showDraft();
    this.paintHead();
    this.paintTurns();
    this.paintNotices();
    this.paintComposer();
    if (this.following) this.toBottom();
    else this.paintJump();
    if (hadFocus && !this.root.contains(document.activeElement)) this.area.focus({ preventScroll: true });
  }

  paintHead() {
    const { store, model } = this;
    const title = model.get("title") || store.agent || "Chat";
    setText(this.title, title);
    this.title.title = title;
    this.root.setAttribute("aria-label", title);
    const given = model.get("height");
    const height = given && CSS.supports("height", given) ? given : "520px";
    if (height !== this.height) {
      this.height = height;
      this.root.style.height = height;
    }
    setText(this.agent, store.agent ?? "");
    this.agent.hidden = !store.agent || store.agent === title;
    setText(this.badge, store.source);
    this.badge.title = store.source;
    this.badge.hidden = !store.source;
    const [kind, text] = store.status();
    setText(this.stateText, text);
    this.state.title = text;
    this.state.dataset.kind = kind;
    this.headStop.hidden = !store.live || Boolean(store.gone);
    this.headStop.disabled = store.stopping;
    setText(this.sessionName, store.session ?? "session");
    this.sessionName.parentNode.setAttribute("aria-label", `Session: ${store.session ?? "none yet"}`);
    const exporter = this.root.querySelector(".halo-export");
    exporter.disabled = Boolean(store.gone) || !(store.turns.length || store.live);
  }

  paintTurns() {
    const { store } = this;
    const gone = store.gone;
    const wanted = [];
    const made = [];
    const known = new Set();
    const want = (key, make, data, flags) => {
      known.add(key);
      let item = this.items.get(key);
      if (!item) {
        this.items.set(key, (item = make()));
        made.push(item);
      }
      wanted.push(item.node);
      item.next = [data, flags];
    };
    const turns = store.live ? [...store.turns, store.live] : store.turns;
    turns.forEach((turn, index) => {
      const flags = { gone, latest: index === turns.length - 1, near: index >= turns.length - KEPT_IN_LAYOUT };
      // A key is that of a turn in one conversation; another one has another epoch.
      want(`turn|${store.epoch}|${turn.key}`, () => new TurnView(this), turn, flags);
    });
    for (const item of store.queue) {
      want(`queued|${item.cid}`, () => new Waiting(this, (one, say) => this.tellQueued(one, say)), item, { gone });
    }
    for (const message of store.pending) {
      if (message.session !== store.session && message.session !== null) continue;
      want(`pending|${message.cid}`, () => new Waiting(this, (one, say) => this.tellPending(one, say)), message, { gone });
    }
    for (const key of this.items.keys()) if (!known.has(key)) this.items.delete(key);
    this.fill(made);
    arrange(this.turns, wanted, (node) => node.contains(document.activeElement));
    this.earlier.hidden = !store.earlier;
    setText(this.earlier.firstChild, `Show earlier turns (${count(store.earlier)})`);
    this.earlier.disabled = Boolean(gone);
    this.paintEmpty(wanted.length === 0 && !store.earlier);
    if (!this.following && (this.shownTurns !== store.turns || this.shownLive !== store.live)) this.fresh = true;
    this.shownTurns = store.turns;
    this.shownLive = store.live;
  }

  tellQueued(item, say) {
    const remove = button("Remove", () => this.unqueue(item), { kind: "halo-text" });
    const send = button("Send", () => this.store.request({ kind: "release", which: item.cid }), { kind: "halo-text" });
    if (item.held) say(item.error || "held: the turn before it was stopped or failed", send, remove);
    else say("waits for the turn before it", remove);
  }

  tellPending(message, say) {
    const { store } = this;
    if (message.state !== "unsent") {
      if (!store.isLate(message.cid)) say("sending");
      else say(store.connecting ? "queued: the connection is lost" : "queued: the kernel is busy");
      return;
    }
    say("not sent",
      button("Send", () => store.sendAgain(message), { kind: "halo-text" }),
      button("Edit", () => this.takeBack(message.text) && store.forget(message), { kind: "halo-text" }));
  }

  /** Update all items; of many new ones the newest, the rest later, from the newest on. */
  fill(made) {
    const late = new Set(this.unfilled);
    if (made.length > FILL_AT_ONCE) for (const item of made.slice(0, -FILL_AT_ONCE)) late.add(item);
    this.unfilled = [];
    for (const item of this.items.values()) {
      if (!late.has(item)) item.update(...item.next);
      else this.unfilled.push(item);
    }
    if (this.unfilled.length && !this.filling) this.filling = setTimeout(() => this.fillMore(), 30);
  }

  fillMore() {
    this.filling = 0;
    const end = performance.now() + 12;
    while (this.unfilled.length && performance.now() < end) {
      const item = this.unfilled.pop();
      item.update(...item.next);
    }
    if (this.unfilled.length) this.filling = setTimeout(() => this.fillMore(), 16);
  }

  paintEmpty(shown) {
    this.empty.hidden = !shown;
    if (!shown) return;
    const { store, model } = this;
    const suggestions = model.get("suggestions") ?? [];
    const content = JSON.stringify([suggestions, store.agent, model.get("title"), Boolean(store.gone)]);
    if (content === this.emptyContent) return;
    this.emptyContent = content;
    const who = store.agent ? `Ask ${store.agent} anything.` : "Ask the agent anything.";
    this.empty.replaceChildren(
      element("p", { class: "halo-empty-title", text: model.get("title") || "Start a conversation", dir: "auto" }),
      element("p", { class: "halo-quiet", text: `${who} What it does shows here, as it happens.` }),
      element("div", { class: "halo-chips" }, ...suggestions.map((text) =>
        element("button", { type: "button", class: "halo-button halo-chip", text, dir: "auto", disabled: Boolean(store.gone), onclick: () => this.sendText(text) }))));
  }

  paintNotices() {
    const { notices } = this.store;
    if (notices === this.shownNotices) return;
    this.shownNotices = notices;
    this.notices.replaceChildren(...notices.map(({ id, text }) =>
      element("div", { class: "halo-notice" }, element("span", { text, dir: "auto" }),
        button("Dismiss", () => this.store.dismiss(id), { icon: "close", kind: "halo-small" }))));
  }

  paintComposer() {
    const { store } = this;
    const gone = Boolean(store.gone);
    const running = Boolean(store.live) && !gone;
    const text = this.area.value;
    const blank = !text.trim();
    const length = lengthOf(text);
    const tooLong = length > MAX_CHARS;
    this.goneLine.hidden = !gone;
    setText(this.goneText, GONE[store.gone] ?? "");
    this.copyDraft.hidden = blank;
    this.root.classList.toggle("halo-off", gone);
    this.area.readOnly = gone; // not disabled: the draft can still be read and copied
    const placeholder = gone ? "No messages can be sent" : this.model.get("placeholder") || "Message the agent";
    if (this.area.placeholder !== placeholder) this.area.placeholder = placeholder;
    const showStop = running && blank;
    const hadFocus = document.activeElement === (showStop ? this.sendButton : this.stopButton);
    this.sendButton.hidden = showStop;
    this.stopButton.hidden = !showStop;
    this.stopButton.disabled = store.stopping;
    this.sendButton.disabled = gone || blank || tooLong;
    setLabel(this.sendButton, running ? "Send after this turn" : "Send");
    if (hadFocus) this.area.focus({ preventScroll: true });
    this.counter.classList.toggle("halo-too-long", tooLong);
    setText(this.counter, length < COUNT_FROM ? "" : tooLong
      ? `${count(length)} of ${count(MAX_CHARS)} characters: too long to send`
      : `${count(length)} of ${count(MAX_CHARS)} characters`);
    this.hint.hidden = length >= COUNT_FROM || gone;
  }

  fitArea() {
    const { area, root } = this;
    area.style.height = "auto";
    if (!area.scrollHeight) return;
    const most = Math.max(60, root.clientHeight * 0.4);
    area.style.height = `${Math.min(area.scrollHeight, most)}px`;
    area.style.overflowY = area.scrollHeight > most ? "auto" : "hidden";
  }

  // -- what the user does

  showDraft() {
    this.shownSession = this.store.session;
    const draft = this.store.draft();
    if (this.area.value !== draft) this.area.value = draft;
    this.fitArea();
    this.paintComposer();
  }

  send() {
    const text = this.area.value;
    if (this.sendButton.disabled || !text.trim()) return;
    this.area.value = "";
    this.recalled = -1;
    this.fitArea();
    this.area.focus({ preventScroll: true });
    this.sendText(text);
  }

  sendText(text) {
    if (this.store.gone) return;
    this.following = true;
    this.store.send(text);
    this.paint(); // at once: who presses Enter wants to see it
  }

  unqueue(item) {
    this.store.request({ kind: "unqueue", which: item.cid }, (answer) => {
      if (!refused(answer)) this.takeBack(item.text);
    });
  }

  /** Put a text back for editing, if nothing is there; whether that was so. */
  takeBack(text) {
    if (this.area.value.trim()) return false;
    this.area.value = text;
    this.store.setDraft(text, this);
    this.fitArea();
    this.area.focus({ preventScroll: true });
    this.paintComposer();
    return true;
  }

  key(event) {
    if (event.isComposing || event.keyCode === 229) return; // the input method's own keys
    if (event.key === "Escape") this.escape(event);
    else if (event.target === this.area) this.areaKey(event);
  }

  escape(event) {
    event.preventDefault();
    if (this.openMenu) this.openMenu.close();
    else this.store.stop();
  }

  areaKey(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      this.send();
    } else if ((event.key === "ArrowUp" || event.key === "ArrowDown") && !event.shiftKey && !event.altKey && !event.ctrlKey && !event.metaKey) {
      this.recall(event);
    }
  }

  /** Up and Down go through the own messages, from the start of the text. */
  recall(event) {
    const { area, store } = this;
    if (area.readOnly || area.selectionStart !== area.selectionEnd) return;
    const own = [...store.turns, ...(store.live ? [store.live] : [])].map((turn) => turn.asked);
    const up = event.key === "ArrowUp";
    const at = area.selectionStart;
    if (up ? at !== 0 : this.recalled < 0 || (at !== 0 && at !== area.value.length)) return;
    const next = this.recalled + (up ? 1 : -1);
    if (next >= own.length) return;
    event.preventDefault();
    if (this.recalled < 0) this.beforeRecall = area.value;
    this.recalled = next;
    area.value = next < 0 ? this.beforeRecall : own[own.length - 1 - next];
    const caret = up ? 0 : area.value.length;
    area.setSelectionRange(caret, caret);
    store.setDraft(area.value, this);
    this.fitArea();
    this.paintComposer();
  }

  async copy(text, target) {
    const done = await copyText(text, this.root);
    const said = done ? "Copied" : "Copying is not allowed here";
    this.say(said);
    if (!target) return;
    const before = target.getAttribute("aria-label");
    const drawn = target.querySelector("svg")?.cloneNode(true);
    if (target.dataset.copied || !drawn) return;
    target.dataset.copied = "true";
    if (done) target.firstChild.replaceWith(icon("done"));
    setLabel(target, said);
    setTimeout(() => {
      delete target.dataset.copied;
      target.firstChild.replaceWith(drawn);
      if (before) setLabel(target, before);
      else for (const name of ["aria-label", "title"]) target.removeAttribute(name);
    }, 1_200);
  }

  say(text) {
    // The same words twice are said twice only if they change in between.
    this.voice.textContent = this.voice.textContent === text ? `${text}\u00a0` : text;
  }
}

export default () => {
  const store = new Store();
  return {
    initialize({ model }) {
      return store.start(model);
    },
    render({ model, el }) {
      const panel = new Panel(store, model, el);
      store.views.add(panel);
      return () => {
        store.views.delete(panel);
        panel.destroy();
      };
    },
  };
};
