/* A button that opens a list of choices. */

import { element } from "./dom.js";

/** Create a button and the list that it opens, which `fill` makes each time. Esc, a click elsewhere, a choice and losing the focus close it. */
export function menu(label, content, kind, fill) {
  const opener = element("button", { type: "button", class: `halo-button ${kind}`, title: label, "aria-label": label }, ...content);
  const list = element("div", {
    class: "halo-popover halo-menu", role: "group", "aria-label": label, popover: "auto",
    onbeforetoggle: ({ newState }) => {
      if (newState !== "open") return;
      list.replaceChildren(...fill());
      list.querySelector("button").autofocus = true;
    },
    onclick: ({ target }) => target.closest(".halo-item") && list.hidePopover(),
    onfocusout: ({ relatedTarget: to }) => to && to !== opener && !list.contains(to) && list.hidePopover(),
  });
  opener.popoverTargetElement = list;
  return [opener, list];
}
