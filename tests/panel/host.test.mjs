// Which keys the panel leaves to the page, and where it keeps drafts.

import assert from "node:assert/strict";
import { test } from "node:test";

import { isShortcut, keepDraft, keptDraft } from "../../halo_notebook/panel/static/shared/host.js";

/** A key as a browser reports it, from its name such as "Ctrl+Shift+P". */
function pressed(name, more = {}) {
  const parts = name.split("+");
  const key = parts.pop();
  const has = (modifier) => parts.includes(modifier);
  return {
    key: key === "Space" ? " " : has("Shift") ? key : key.replace(/^[A-Z]$/, (letter) => letter.toLowerCase()),
    code: /^[A-Z]$/.test(key) ? `Key${key}` : key,
    ctrlKey: has("Ctrl"), shiftKey: has("Shift"), altKey: has("Alt"), metaKey: has("Cmd"),
    getModifierState: (modifier) => modifier === "AltGraph" && has("AltGraph"), ...more,
  };
}

for (const name of [
  "Ctrl+S", "Cmd+S", "Ctrl+Shift+S", "Ctrl+Shift+P", "Ctrl+P", "Ctrl+B", "Ctrl+F", "Ctrl+Shift+C", "Ctrl+Shift+H", "Ctrl+Shift+X",
  "Ctrl+K", "Ctrl+,", "Ctrl+/", "Ctrl+0", "Ctrl+PageDown", "Alt+W", "Alt+1", "Ctrl+Alt+C", "F1", "F12", "Shift+F10", "Ctrl+F5",
]) test(`${name} goes to the page`, () => assert.ok(isShortcut(pressed(name))));

for (const name of [
  "A", "Shift+A", "0", "Space", "Shift+Space", "?", "é", "あ", "👍", "Enter", "Shift+Enter", "Ctrl+Enter", "Alt+Enter", "Cmd+Enter",
  "Ctrl+A", "Ctrl+C", "Ctrl+V", "Ctrl+X", "Ctrl+Z", "Ctrl+Y", "Cmd+C", "Cmd+V", "Ctrl+Shift+Z", "Ctrl+Shift+V", "Cmd+Shift+Z",
  "ArrowUp", "Ctrl+ArrowLeft", "Alt+ArrowLeft", "Ctrl+Shift+ArrowRight", "Home", "Ctrl+Home", "Shift+End", "PageDown", "Shift+PageUp",
  "Backspace", "Ctrl+Backspace", "Alt+Backspace", "Delete", "Ctrl+Delete", "Ctrl+Insert", "Shift+Insert", "Tab", "Shift+Tab", "Escape",
  "Ctrl+Space", "AltGraph+@", "Ctrl+Alt+AltGraph+€", "Dead", "Alt+Dead", "Process", "Unidentified", "Control", "Shift", "Meta",
]) test(`${name} stays in the panel`, () => assert.ok(!isShortcut(pressed(name))));

test("a key means what stands on it, or its place where the keyboard has other letters", () => {
  assert.ok(isShortcut(pressed("Ctrl+ы", { code: "KeyS" })));
  assert.ok(!isShortcut(pressed("Ctrl+с", { code: "KeyC" })));
  assert.ok(!isShortcut(pressed("Ctrl+C", { code: "KeyI" }))); // Dvorak
  assert.ok(isShortcut(pressed("Ctrl+S", { code: "Semicolon" })));
});

test("an input method and the number pad keep their keys", () => {
  assert.ok(!isShortcut(pressed("Ctrl+S", { isComposing: true })));
  assert.ok(!isShortcut(pressed("Ctrl+S", { keyCode: 229 })));
  assert.ok(!isShortcut(pressed("Alt+2", { code: "Numpad2" })));
});

test("a draft is kept by notebook and session, in a browser that lets it", () => {
  const kept = new Map();
  const storage = { getItem: (key) => kept.get(key) ?? null, setItem: (key, text) => kept.set(key, text), removeItem: (key) => kept.delete(key) };
  const allow = (get) => Object.defineProperty(globalThis, "sessionStorage", { get, configurable: true });
  const [one, other] = ["a.ipynb", "b.ipynb"].map((path) => ({ widget_manager: { context: { path } } }));
  allow(() => storage);
  keepDraft(one, "docs", "hello");
  assert.deepEqual([keptDraft(one, "docs"), keptDraft(one, "other"), keptDraft(other, "docs")], ["hello", "", ""]);
  keepDraft(one, "docs", "");
  assert.deepEqual([keptDraft(one, "docs"), kept.size], ["", 0]);
  allow(() => { throw new Error("denied"); });
  keepDraft(one, "docs", "hello");
  assert.equal(keptDraft(one, "docs"), "");
});
