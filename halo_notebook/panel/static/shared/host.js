/* The page around the panel: its shortcuts, whether it is light or dark, and the drafts that it keeps. */

const ON_A_MAC = /Mac|iP(hone|ad|od)/.test(globalThis.navigator?.platform ?? "");

/** Whether a key is a shortcut that means nothing in a text box, such as Ctrl+S, Alt+W or F1. */
export function isShortcut(event) {
  const { key, code, ctrlKey, metaKey, altKey, shiftKey } = event;
  if (event.isComposing || event.keyCode === 229 || event.getModifierState("AltGraph")) return false;
  if (/^F\d+$/.test(key)) return true;
  const pressed = ctrlKey || metaKey;
  if (/^Page(Up|Down)$/.test(key)) return pressed;
  if (Array.from(key).length !== 1 || key === " ") return false;
  // On a Mac, Ctrl moves the caret and Alt writes signs. Elsewhere Alt writes only with the number pad.
  if (ON_A_MAC ? !metaKey : !pressed && (!altKey || code.startsWith("Numpad"))) return false;
  // A keyboard without Latin letters has them at their usual places.
  const letter = /^[a-z]$/i.test(key) ? key.toLowerCase() : code.replace(/^Key/, "").toLowerCase();
  return altKey || !(shiftKey ? ["v", "z"] : ["a", "c", "v", "x", "y", "z"]).includes(letter);
}

/** Press a key once more on `target`. What the page does in place of the browser, the browser does not do. */
export function pressOn(target, event) {
  if (!target.dispatchEvent(new KeyboardEvent(event.type, event))) event.preventDefault();
}

const around = (node) => node.parentElement ?? node.getRootNode().host;

/** The focused element of the document or shadow tree that `node` is in. */
export const focusedNear = (node) => node.getRootNode().activeElement;

/** The text selected in the document or shadow tree that `node` is in. */
export function selectedNear(node) {
  const tree = node.getRootNode();
  return String(tree.getSelection ? tree.getSelection() : document.getSelection());
}

// What pages write on their elements. Where they do not, their background tells.
const SCHEMES = {
  dark: '[theme="dark"], [data-theme="dark"], [data-bs-theme="dark"], .dark, .dark-theme',
  light: '[theme="light"], [data-theme="light"], [data-bs-theme="light"], .light, .light-theme',
};
const THEMED = "[data-jp-theme-light], .vscode-light, .vscode-dark, .vscode-high-contrast"; // the style sheet knows them

/** "dark" or "light" as what is behind `root`, or "" if the page does not tell. */
function schemeBehind(root) {
  for (let at = around(root); at; at = around(at)) {
    const colour = getComputedStyle(at).backgroundColor;
    // The browser turns a colour of any notation into its lightness; the panel has no columns to rule.
    root.style.columnRuleColor = `color-mix(in oklab, ${colour}, ${colour})`;
    const [, lightness, opacity = 1] = /oklab\((\S+) \S+ [^\s)]+(?: \/ ([^)]+))?\)/.exec(getComputedStyle(root).columnRuleColor) ?? [0, 1, 0];
    if (opacity > 0.5) return lightness < 0.6 ? "dark" : "light";
    for (const [scheme, selector] of Object.entries(SCHEMES)) if (at.matches(selector)) return scheme;
  }
  return "";
}

/** Keeps the panel light or dark as the page is, which may differ from the system. */
export class Scheme {
  constructor(root) {
    this.root = root;
    this.changes = new MutationObserver(() => this.soon());
    this.system = matchMedia("(prefers-color-scheme: dark)");
    this.soon = () => {
      this.look();
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.look(), 600); // the page's colours may change slowly
    };
    this.system.addEventListener("change", this.soon);
  }

  /** The panel has been put on the page, or elsewhere on it. */
  placed() {
    this.changes.disconnect();
    this.soon();
    if (this.root.closest(THEMED)) return;
    for (let at = around(this.root); at; at = around(at)) this.changes.observe(at, { attributes: true });
  }

  look() {
    this.root.style.colorScheme = this.root.closest(THEMED) ? "" : schemeBehind(this.root);
  }

  destroy() {
    clearTimeout(this.timer);
    this.changes.disconnect();
    this.system.removeEventListener("change", this.soon);
  }
}

// Drafts, and the images that go with them, are kept by notebook and session, for this tab of the browser: never in the notebook's file.
const placeOf = (model, session, what = "draft") => `halo_notebook ${what} ${JSON.stringify([model.widget_manager?.context?.path ?? location.pathname, session])}`;

export function keptDraft(model, session, what) {
  try {
    return sessionStorage.getItem(placeOf(model, session, what)) ?? "";
  } catch {
    return ""; // the browser allows no storage
  }
}

export function keepDraft(model, session, text, what) {
  try {
    if (text) sessionStorage.setItem(placeOf(model, session, what), text);
    else sessionStorage.removeItem(placeOf(model, session, what));
  } catch {
    // It stays as long as the page.
  }
}
