/* Exact JSON: numbers, keys and strings as the agent sent them.

JSON.parse rounds large numbers and moves keys that look like array indices to the front. The kernel therefore
marks both with U+E000 (see `page_json` in Python): such a number is a string of "\ue000" and its digits, and such
a key starts with "\ue000". A string or key that itself starts with U+E000 gets one more. Values stay as JSON.parse
returns them; these functions remove the marks when a value is shown, searched or copied.
*/

import { quoted } from "./text.js";

const MARK = "\ue000";

const isMarked = (value) => typeof value === "string" && value[0] === MARK;
const isMarkedNumber = (value) => isMarked(value) && value[1] !== MARK;

/** The original object key. An array index stays a number. */
export const unmarked = (key) => (isMarked(key) ? key.slice(1) : key);

/** "object", "array", "string", "number" or "name" (true, false and null). */
export function kindOf(value) {
  if (Array.isArray(value)) return "array";
  if (isMarkedNumber(value)) return "number";
  return value === null || typeof value === "boolean" ? "name" : typeof value;
}

export const isBranch = (value) => typeof value === "object" && value !== null;

/** The keys of an object, still marked, or the indices of an array. */
export const keysOf = (value) => (Array.isArray(value) ? [...value.keys()] : Object.keys(value));

/** The text of a value that is not a branch: a string itself, or the digits of a number. */
export const textOf = (value) => String(unmarked(value));

/** A value as indented JSON. */
export function prettyJson(value, indent = "") {
  if (!isBranch(value)) return kindOf(value) === "string" ? JSON.stringify(unmarked(value)) : textOf(value);
  const [open, shut] = Array.isArray(value) ? "[]" : "{}";
  const inner = `${indent}  `;
  const lines = keysOf(value).map((key) => {
    const name = typeof key === "string" ? `${JSON.stringify(unmarked(key))}: ` : "";
    return inner + name + prettyJson(value[key], inner);
  });
  return lines.length ? `${open}\n${lines.join(",\n")}\n${indent}${shut}` : open + shut;
}

/** One step of a path, for an index or an original key. */
export function pathStep(key) {
  if (typeof key === "number") return `[${key}]`;
  return /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${quoted(key)}]`;
}
