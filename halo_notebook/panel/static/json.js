/* JSON, exact: numbers as they were written, keys in their order and each as often as it stands there.

The page's own JSON.parse rounds numbers and sorts keys that look like numbers. */

import { quoted } from "./text.js";

export class Literal {
  constructor(text) {
    this.text = text;
  }
}

export class Entries {
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
export function parseJson(text) {
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

export const isBranch = (value) => Array.isArray(value) || value instanceof Entries;
export const sizeOf = (value) => (value instanceof Entries ? value.keys.length : value.length);
export const childAt = (value, index) => (value instanceof Entries ? value.values[index] : value[index]);
export const keyAt = (value, index) => (value instanceof Entries ? value.keys[index] : index);

export function plainScalar(value) {
  if (typeof value === "string") return value;
  return value instanceof Literal ? value.text : String(value);
}

/** Indented JSON of an exact value. */
export function prettyJson(value, indent = "") {
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

export function pathStep(key) {
  if (typeof key === "number") return `[${key}]`;
  return /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${quoted(key)}]`;
}
