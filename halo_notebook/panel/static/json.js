/* JSON whose numbers, keys and strings are exactly those of the kernel's text.

JSON.parse rounds numbers and puts keys that look like array indices first. So the kernel marks both with U+E000
(`page_json`): such a number is a string, "\ue000" and its digits; such a key has the mark in front, and so
has a string or key that begins with the character itself. Values stay as JSON.parse makes them; what is
shown, searched or copied goes through the functions below.
*/

import { quoted } from "./text.js";

const MARK = "\ue000";

const isMarked = (value) => typeof value === "string" && value[0] === MARK;
const isMarkedNumber = (value) => isMarked(value) && value[1] !== MARK;

/** An object key as it was; an array's index stays a number. */
export const unmarked = (key) => (isMarked(key) ? key.slice(1) : key);

/** "object", "array", "string", "number" or "name" (true, false and null). */
export function kindOf(value) {
  if (Array.isArray(value)) return "array";
  if (isMarkedNumber(value)) return "number";
  return value === null || typeof value === "boolean" ? "name" : typeof value;
}

export const isBranch = (value) => typeof value === "object" && value !== null;

/** The keys of an object, as JSON.parse left them, or the indices of an array. */
export const keysOf = (value) => (Array.isArray(value) ? [...value.keys()] : Object.keys(value));

/** The text of a value that is not a branch: of a string its characters, of a number its digits. */
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

/** One step of a path, for an index or for a key as it was. */
export function pathStep(key) {
  if (typeof key === "number") return `[${key}]`;
  return /^[A-Za-z_$][\w$]*$/.test(key) ? `.${key}` : `[${quoted(key)}]`;
}
