/* A button that opens a list of choices. */

import { element } from "./dom.js";

/** Create a button and the list that it opens, which `fill` makes each time. Up and Down move in it; Esc, a click elsewhere, a choice and losing the focus close it. */
export function menu(label, content, kind, fill) {
  const opener = element("button", { type: "button", class: `halo-button ${kind}`, title: label, "aria-label": label }, ...content);
  const list = element("div", {
    class: "halo-popover halo-menu", role: "group", "aria-label": label, popover: "auto",
    onbeforetoggle: ({ newState }) => {
      if (newState !== "open") return;
      list.replaceChildren(...fill());
      (list.querySelector("[autofocus]") ?? list.querySelector("button")).autofocus = true;
    },
    onkeydown: (event) => {
      const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
      if (!step || event.isComposing) return;
      event.preventDefault();
      const stops = [...list.querySelectorAll("input, .halo-item:enabled")];
      stops.at((stops.indexOf(event.target) + step) % stops.length)?.focus();
    },
    onclick: ({ target }) => target.closest(".halo-item") && list.hidePopover(),
    onfocusout: ({ relatedTarget: to }) => to && to !== opener && !list.contains(to) && list.hidePopover(),
  });
  opener.popoverTargetElement = list;
  return [opener, list];
}
