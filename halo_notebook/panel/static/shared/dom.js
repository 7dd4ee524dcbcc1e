/* Build, label and arrange elements; copy to the clipboard; download a file. */

/** Create an element from attributes, listeners (`onclick`), `text` and children. */
export function element(tag, props = {}, ...children) {
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
  file: "M6 3h8l4 4v14H6zm8 0v4h4",
  image: "M4 5h16v14H4zm0 11 5-5 4 4 3-3 4 4M15 9.5h.01",
  open: "m9 6 6 6-6 6",
  previous: "m15 6-6 6 6 6",
  edit: "M4 20h4L19 9l-4-4L4 16zm9-13 4 4",
  menu: "m6 9 6 6 6-6",
  more: "M4.5 12a.7.7 0 1 0 1.4 0 .7.7 0 1 0-1.4 0m6.8 0a.7.7 0 1 0 1.4 0 .7.7 0 1 0-1.4 0m6.8 0a.7.7 0 1 0 1.4 0 .7.7 0 1 0-1.4 0",
  save: "M12 4v11m-5-5 5 5 5-5M5 20h14",
  plus: "M12 5v14M5 12h14",
  close: "M6 6l12 12M18 6 6 18",
  latest: "M12 5v14m-6-6 6 6 6-6",
  expand: "m7 10 5-5 5 5M7 14l5 5 5-5",
  fold: "m7 5 5 5 5-5M7 19l5-5 5 5",
  path: "M4 6h6v6H4zm3 6v6h6m0-3h6v6h-6z",
  action: "M8 4c-3 0-1 6-4 8 3 2 1 8 4 8m8-16c3 0 1 6 4 8-3 2-1 8-4 8",
};

export function icon(name, kind = "") {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  for (const [key, value] of Object.entries({ class: `halo-icon ${kind}`, viewBox: "0 0 24 24", "aria-hidden": "true" })) {
    svg.setAttribute(key, value);
  }
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Create a button. If it shows only an icon, its label is its accessible name and tooltip. */
export function button(label, onclick, { icon: name, kind = "", labelled = !name, ...props } = {}) {
  const node = element("button", { type: "button", class: `halo-button ${kind}`, onclick, ...props });
  if (name) node.append(icon(name));
  if (labelled) node.append(element("span", { text: label }));
  else setLabel(node, label);
  return node;
}

export function setLabel(node, label) {
  if (node.getAttribute("aria-label") === label) return;
  node.setAttribute("aria-label", label);
  node.title = label;
}

export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Make `wanted` the children of `parent`. Those that stay in order are not moved: moving would lose focus or scroll position. */
export function arrange(parent, wanted) {
  const known = new Set(wanted);
  for (const node of [...parent.childNodes]) if (!known.has(node)) node.remove();
  wanted.forEach((node, index) => {
    const here = parent.childNodes[index] ?? null;
    if (node !== here) parent.insertBefore(node, here);
  });
}

/** Copy `text`; returns whether that worked. A page without a secure context has only the old command. */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    // The old command may still be allowed.
  }
  const put = (event) => {
    event.clipboardData.setData("text/plain", text);
    event.preventDefault();
    event.stopImmediatePropagation(); // a notebook listens for copy events too
  };
  window.addEventListener("copy", put, true);
  const copied = document.execCommand("copy");
  window.removeEventListener("copy", put, true);
  return copied;
}

export function download({ name, mime, text }) {
  const address = URL.createObjectURL(new Blob([text], { type: mime }));
  element("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
