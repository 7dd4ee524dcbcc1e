/* Text that people read: formatted numbers and times, and escapes for invisible characters. */

/** An id for a request. `crypto.randomUUID` does not exist in a page that was loaded over plain http. */
export function freshId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const base64Of = (buffer) => btoa(Array.from(new Uint8Array(buffer), (byte) => String.fromCharCode(byte)).join(""));

export const count = (number) => number.toLocaleString("en");
export const counted = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
export const seconds = (value) => `${value < 10 ? value.toFixed(value < 1 ? 2 : 1) : Math.round(value)} s`;

export function clock(iso) {
  if (!iso) return { short: "", full: "" };
  const when = new Date(iso);
  if (Number.isNaN(when.getTime())) return { short: "", full: "" }; // it is hidden
  return { short: when.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }), full: when.toLocaleString() };
}

const INVISIBLE = /[\p{Cc}\p{Cs}\u200b\u2028\u2029\ufeff\u202a-\u202e\u2066-\u2069]/gu;

/** Return `text` with escapes in place of characters that are invisible or reorder text. */
export function visible(text, { keep = "" } = {}) {
  return text.replace(INVISIBLE, (char) =>
    keep.includes(char) ? char : `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

export const quoted = (text) => visible(JSON.stringify(text));

/** The first `limit` UTF-16 units of `text`, without half a character at the end. */
export function startOf(text, limit) {
  const last = text.charCodeAt(limit - 1);
  return text.slice(0, last >= 0xd800 && last < 0xdc00 ? limit - 1 : limit);
}
