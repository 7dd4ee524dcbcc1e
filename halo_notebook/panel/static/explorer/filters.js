/* The search box and the filters above the table. */

import { button, element, icon, setText } from "../shared/dom.js";
import { focusedNear } from "../shared/host.js";
import { count, visible } from "../shared/text.js";

/** A button that opens the values of one filter, with boxes to choose some. */
class FilterMenu {
  constructor(found, filter) {
    this.found = found;
    this.filter = filter;
    this.label = element("span", { class: "halo-cut", dir: "auto" });
    this.opener = element("button", { type: "button", class: "halo-button halo-text halo-framed halo-filter" }, this.label, icon("menu"));
    this.list = element("div", {
      class: "halo-popover halo-values", role: "group", "aria-label": `Filter by ${visible(filter.name)}`, popover: "auto",
      onbeforetoggle: ({ newState }) => newState === "open" && this.fill(),
    });
    this.opener.popoverTargetElement = this.list;
    this.paint();
  }

  get chosen() {
    return this.found.query?.filters[this.filter.id] ?? [];
  }

  paint() {
    const { chosen } = this;
    const name = visible(this.filter.name);
    const words = chosen.length === 1 ? `${name}: ${visible(chosen[0])}` : chosen.length ? `${name}: ${chosen.length}` : name;
    setText(this.label, words);
    this.opener.classList.toggle("halo-chosen", chosen.length > 0);
  }

  fill() {
    const { values, left_out } = this.filter;
    const boxes = values.map(([value, number]) => {
      const box = element("input", { type: "checkbox", class: "halo-check", onchange: () => this.choose(value, box.checked) });
      box.checked = this.chosen.includes(value);
      return element("label", { class: "halo-value" }, box, element("span", { dir: "auto", text: visible(value) || "(empty)" }), element("span", { class: "halo-quiet", text: count(number) }));
    });
    this.list.replaceChildren(...boxes);
    if (left_out) this.list.append(element("p", { class: "halo-quiet halo-note", text: `${count(left_out)} rarer values are not listed.` }));
    if (boxes.length) boxes[0].firstChild.autofocus = true;
  }

  choose(value, on) {
    const others = this.chosen.filter((other) => other !== value);
    this.found.choose(this.filter.id, on ? [...others, value] : others);
  }
}

export class Filters {
  constructor(found) {
    this.found = found;
    this.menus = new Map();
    this.search = element("input", {
      type: "search", class: "halo-input halo-search", placeholder: "Search messages and replies", "aria-label": "Search messages and replies",
      spellcheck: "false", autocomplete: "off", dir: "auto",
      oninput: () => found.type(this.search.value),
      onkeydown: (event) => event.key === "Enter" && found.find(),
    });
    this.fold = element("button", { type: "button", class: "halo-button halo-text halo-framed halo-fold", "aria-expanded": "false", onclick: () => this.toggle() },
      element("span", { text: "Filters" }), icon("menu"));
    this.bar = element("div", { class: "halo-filters", role: "group", "aria-label": "Filters" });
    this.clear = button("Clear", () => {
      this.search.value = "";
      found.clear();
      this.search.focus();
    }, { kind: "halo-text", hidden: true });
    this.node = element("div", { class: "halo-find", role: "search" }, this.search, this.fold, this.bar);
  }

  toggle() {
    const open = this.bar.classList.toggle("halo-unfolded");
    this.fold.setAttribute("aria-expanded", String(open));
  }

  paint() {
    const { filters } = this.found;
    if (filters !== this.filters) this.make(filters);
    for (const menu of this.menus.values()) menu.paint();
    this.clear.hidden = !this.found.isFiltered;
    this.search.disabled = !this.found.query;
    if (this.found.query !== this.query && focusedNear(this.search) !== this.search) this.search.value = this.found.query?.text ?? "";
    this.query = this.found.query;
  }

  make(filters) {
    this.filters = filters;
    const before = this.menus;
    this.menus = new Map(filters.map((filter) => {
      const menu = before.get(filter.id) ?? new FilterMenu(this.found, filter);
      menu.filter = filter;
      return [filter.id, menu];
    }));
    const wanted = [...this.menus.values()].flatMap((menu) => [menu.opener, menu.list]);
    if (before.size !== this.menus.size || [...before.keys()].some((id) => !this.menus.has(id))) this.bar.replaceChildren(...wanted, this.clear);
  }
}
