/* The table of conversations. Only the rows in view are on the page: there may be many thousands. */

import { element, setText } from "../shared/dom.js";
import { focusedNear } from "../shared/host.js";
import { count, seconds, visible } from "../shared/text.js";
import { verdictSign } from "../shared/conversation.js";

const SPARE = 12; // rows above and below those in view
const MAX_ROWS_SHOWN = 300_000; // no browser scrolls much further
const WIDTHS = { text: [8, 1], long: [12, 3], short: [6.8, 0.6], verdict: [4, 0.4], number: [4, 0], seconds: [4.8, 0] }; // at least, in em; share of the rest
const NAME_EM = 9; // as much of a longer name is in view
const TICK_EM = 2.4;

const content = {
  verdict: (cell) => verdictSign(cell),
  seconds: (cell) => element("span", { text: Number.isFinite(cell) ? seconds(cell) : "–" }),
};

export class Table {
  /** `frame` provides `id` and `openRow(number, { enter })`. */
  constructor(frame, found) {
    this.frame = frame;
    this.found = found;
    this.rows = new Map(); // place -> { node, row, … }
    this.active = 0;
    this.head = element("div", { class: "halo-grid-row halo-grid-head", role: "row", "aria-rowindex": "1" });
    this.body = element("div", { class: "halo-grid-body", role: "rowgroup" });
    this.probe = element("div", { class: "halo-grid-row halo-probe", "aria-hidden": "true" });
    this.node = element("div", {
      class: "halo-grid", role: "grid", "aria-label": "Conversations", "aria-multiselectable": "true", tabindex: "0",
      onscroll: () => this.frame.schedule(),
      onkeydown: (event) => this.key(event),
      onclick: (event) => this.click(event),
      onfocusin: () => this.paintActive(),
    }, element("div", { role: "rowgroup", class: "halo-grid-top" }, this.head), this.body, this.probe);
    this.sizes = new ResizeObserver(() => this.frame.schedule());
    this.sizes.observe(this.node);
    this.sizes.observe(this.probe); // the size of the font may change
  }

  destroy() {
    this.sizes.disconnect();
  }

  get size() {
    return Math.min(this.found.count, MAX_ROWS_SHOWN);
  }

  paint() {
    const { found, node } = this;
    if (found.columns !== this.columns) this.paintHead();
    this.paintSort();
    const height = this.probe.offsetHeight;
    if (!height) return; // it is not on the page, or out of view
    if (found.shown !== this.search || height !== this.height) {
      this.height = height;
      this.search = found.shown;
      this.active = Math.max(0, Math.min(this.active, this.size - 1));
      for (const { node: row } of this.rows.values()) row.remove();
      this.rows.clear();
      if (this.query !== found.query) node.scrollTop = 0;
      if (this.query !== found.query) this.active = 0;
      this.query = found.query;
    }
    node.setAttribute("aria-rowcount", String(found.count + 1));
    this.body.style.height = `${this.size * this.height}px`;
    const first = Math.max(0, Math.floor((node.scrollTop - this.head.offsetHeight) / this.height) - SPARE);
    const last = Math.min(this.size, Math.ceil((node.scrollTop + node.clientHeight) / this.height) + SPARE);
    for (const [place, { node: row }] of this.rows) {
      if (place >= first && place < last) continue;
      row.remove();
      this.rows.delete(place);
    }
    for (let place = first; place < last; place++) this.paintRow(place);
    this.paintActive();
  }

  paintHead() {
    this.columns = this.found.columns;
    const all = element("input", { type: "checkbox", class: "halo-check", "aria-label": "Select all that were found", onchange: () => this.found.select(null, all.checked) });
    this.all = all;
    this.sorts = new Map();
    const heads = this.columns.map(({ id, name, kind }) => {
      const sort = element("button", { type: "button", class: "halo-button halo-sort", title: visible(name), onclick: () => this.found.sort(id) },
        element("span", { class: "halo-cut", dir: "auto", text: visible(name) }), element("span", { "aria-hidden": "true" }));
      const head = element("div", { role: "columnheader", class: `halo-cell halo-col-${kind}` }, sort);
      this.sorts.set(id, head);
      return head;
    });
    this.head.replaceChildren(element("div", { role: "columnheader", class: "halo-cell halo-tick" }, all), ...heads);
    const widths = this.columns.map(({ kind, name }) => [Math.max(WIDTHS[kind][0], Math.min(NAME_EM, 0.62 * name.length + 2.4)), WIDTHS[kind][1]]);
    this.node.style.setProperty("--halo-columns", `${TICK_EM}em ${widths.map(([least, share]) => `minmax(${least}em, ${share}fr)`).join(" ")}`);
    this.node.style.setProperty("--halo-row-width", `${widths.reduce((sum, [least]) => sum + least, TICK_EM)}em`);
    this.search = null;
  }

  paintSort() {
    const { sort, descending } = this.found.query ?? {};
    for (const [id, head] of this.sorts ?? []) {
      const order = id !== sort ? "none" : descending ? "descending" : "ascending";
      if (head.getAttribute("aria-sort") !== order) head.setAttribute("aria-sort", order);
      setText(head.firstChild.lastChild, { none: "", ascending: "▲", descending: "▼" }[order]);
    }
    if (!this.all) return;
    const { selected, count: found, parts } = this.found;
    this.all.checked = found > 0 && selected >= found && [...parts.values()].every((part) => !part || part.every((row) => row.selected));
    this.all.indeterminate = selected > 0 && !this.all.checked;
  }

  paintRow(place) {
    const row = this.found.row(place);
    const open = row && row.number === this.found.open?.number;
    let shown = this.rows.get(place);
    if (!shown) {
      shown = { node: element("div", { class: "halo-grid-row", role: "row", id: `${this.frame.id}-${place}`, "aria-rowindex": place + 2 }) };
      shown.node.style.top = `${place * this.height}px`;
      this.rows.set(place, shown);
      // In reading order: a screen reader may read the rows one after the other.
      const next = [...this.rows.keys()].filter((other) => other > place).sort((a, b) => a - b)[0];
      this.body.insertBefore(shown.node, this.rows.get(next)?.node ?? null);
    }
    shown.node.dataset.place = place;
    if (shown.row !== row || !row) {
      const cells = row
        ? [this.tick(row), ...row.cells.map((cell, at) => this.cell(cell, this.columns[at].kind))]
        : [element("div", { role: "gridcell", class: "halo-cell halo-quiet", text: "…" })];
      if (row || shown.row !== null) shown.node.replaceChildren(...cells);
      shown.row = row ?? null;
      if (row) shown.node.setAttribute("aria-selected", String(Boolean(row.selected)));
    }
    if (open) shown.node.setAttribute("aria-current", "true");
    else shown.node.removeAttribute("aria-current");
  }

  tick(row) {
    const tick = element("input", { type: "checkbox", class: "halo-check", tabindex: "-1", "aria-label": "Select", onchange: () => this.found.select([row.number], tick.checked) });
    tick.checked = Boolean(row.selected);
    return element("div", { role: "gridcell", class: "halo-cell halo-tick" }, tick);
  }

  cell(cell, kind) {
    const shown = content[kind]?.(cell) ?? element("span", { class: "halo-cut", dir: "auto", text: cell === null ? "" : visible(String(cell)) });
    if (shown.className === "halo-cut" && shown.textContent.length > 8) shown.title = shown.textContent;
    return element("div", { role: "gridcell", class: `halo-cell halo-col-${kind}` }, shown);
  }

  /** Mark the row that the keys act on. */
  paintActive() {
    const has = focusedNear(this.node) === this.node;
    for (const [place, { node }] of this.rows) node.classList.toggle("halo-active", has && place === this.active);
    const shown = this.rows.get(this.active);
    if (shown) this.node.setAttribute("aria-activedescendant", shown.node.id);
    else this.node.removeAttribute("aria-activedescendant");
  }

  /** Move to a row, and bring it into view. */
  go(place) {
    this.active = Math.max(0, Math.min(place, this.size - 1));
    const { node, height } = this;
    const top = this.active * height;
    const room = node.clientHeight - this.head.offsetHeight - height;
    if (node.scrollTop > top) node.scrollTop = top;
    else if (node.scrollTop < top - room) node.scrollTop = top - room;
    this.frame.paint();
  }

  key(event) {
    if (event.target !== this.node || event.ctrlKey || event.metaKey || event.altKey) return;
    const row = this.found.row(this.active);
    const page = Math.max(1, Math.floor(this.node.clientHeight / this.height) - 2);
    switch (event.key) {
      case "ArrowDown": this.go(this.active + 1); break;
      case "ArrowUp": this.go(this.active - 1); break;
      case "PageDown": this.go(this.active + page); break;
      case "PageUp": this.go(this.active - page); break;
      case "Home": this.go(0); break;
      case "End": this.go(this.size - 1); break;
      case "Enter": if (row) this.frame.openRow(row.number, { enter: true }); break;
      case " ": if (row) this.found.select([row.number], !row.selected); break;
      default: return;
    }
    event.preventDefault();
  }

  click(event) {
    const shown = event.target.closest(".halo-grid-body > .halo-grid-row");
    if (!shown || event.target.closest(".halo-tick")) return;
    this.active = Number(shown.dataset.place);
    const row = this.found.row(this.active);
    this.node.focus({ preventScroll: true });
    if (row) this.frame.openRow(row.number);
  }

  /** What is not in the table although it was found. */
  note() {
    const more = this.found.count - this.size;
    return more ? `The first ${count(this.size)} are in the table; filter to see others.` : "";
  }
}
