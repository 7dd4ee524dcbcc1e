/* The frame of a widget on the page: its keys, its scheme, notices, copy buttons, and a voice for screen readers. */

import { button, copyText, element, icon, setLabel, setText } from "./dom.js";
import { Scheme, focusedNear, isShortcut, pressOn } from "./host.js";
import { GONE } from "./status.js";

const NOT_FOR_THE_NOTEBOOK = "data-lm-suppress-shortcuts";

/** Makes elements focusable while they scroll sideways, so that the keyboard can scroll them. */
class Widths {
  constructor() {
    this.observer = new ResizeObserver((entries) => {
      for (const { target } of entries) this.reachable(target);
    });
  }

  /** Watch an element; a screen reader hears its `label`. */
  watch(node, label) {
    node.dataset.label = label;
    this.observer.observe(node);
  }

  reachable(node) {
    const wide = node.scrollWidth > node.clientWidth + 1;
    if (wide === (node.tabIndex === 0)) return;
    if (wide) {
      node.tabIndex = 0;
      node.setAttribute("role", "region");
      node.setAttribute("aria-label", node.dataset.label);
    } else {
      for (const name of ["tabindex", "role", "aria-label"]) node.removeAttribute(name);
    }
  }

  destroy() {
    this.observer.disconnect();
  }
}

/** One view of a model. A subclass fills `root` and defines `paint()`. */
export class Frame {
  constructor(link, model) {
    this.link = link;
    this.store = {}; // a turn that is only read has nothing else to show
    this.model = model;
    this.root = element("div", {
      class: "halo-panel", role: "region", tabindex: "-1", [NOT_FOR_THE_NOTEBOOK]: "true",
    });
    this.scheme = new Scheme(this.root);
    this.widths = new Widths();
    this.notices = element("div", { class: "halo-notices" });
    this.voice = element("div", { class: "halo-unseen", "aria-live": "polite" });
    this.goneLine = element("p", { class: "halo-gone", hidden: true });
    this.keepEvents();
    this.hideStatic();
  }

  destroy() {
    cancelAnimationFrame(this.frame);
    this.placing?.disconnect();
    this.widths.destroy();
    this.scheme.destroy();
    this.root.remove();
  }

  /** Put the frame into the page. A notebook may take it out and put it back elsewhere. */
  place(el) {
    this.placing = new ResizeObserver(() => {
      const placed = this.root.clientHeight > 0;
      if (placed && !this.placed) this.scheme.placed();
      this.placed = placed;
    });
    this.placing.observe(this.root);
    el.append(this.root);
    this.paint();
  }

  /** A frame is painted now; `height` is that of a widget whose own is not a CSS length. */
  beginPaint(height) {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    const own = this.model.get("height");
    this.root.style.height = CSS.supports("height", own) ? own : height;
  }

  /** Paint what is around the content: the height, whether the kernel is gone, and the notices. */
  paintFrame() {
    this.beginPaint("640px");
    this.goneLine.hidden = !this.link.gone;
    setText(this.goneLine, this.link.gone ? GONE[this.link.gone] : "");
    this.paintNotices();
  }

  /** Keep keys and copying from the notebook: Shift+Enter must not run its cell. But Ctrl+S must save it. */
  keepEvents() {
    for (const name of ["keydown", "keyup", "keypress", "copy", "cut", "paste"]) {
      this.root.addEventListener(name, (event) => event.stopPropagation());
    }
    this.root.addEventListener("keydown", (event) => {
      if (isShortcut(event)) pressOn(this.root.parentElement, event);
      else this.key(event);
    });
    // Notebook 7 handles keys before they get here, for any focused element that is not a text field,
    // unless the element itself has this attribute.
    this.root.addEventListener("focusin", (event) => event.target.setAttribute(NOT_FOR_THE_NOTEBOOK, "true"));
  }

  /** A key that is not a shortcut of the notebook. */
  key() {}

  /** Hide the cell's static copy of what the widget shows. */
  hideStatic() {
    const name = this.model.get("_static_class");
    if (!name) return;
    const target = `.${CSS.escape(name)}`;
    this.root.append(element("style", { text: `${target}{display:none}.jp-OutputArea-child:has(${target}){display:none}` }));
  }

  schedule() {
    this.frame ||= requestAnimationFrame(() => this.paint());
  }

  focused() {
    const focused = focusedNear(this.root);
    return this.root.contains(focused) ? focused : null;
  }

  paintNotices() {
    const { notices } = this.link;
    if (notices === this.shownNotices) return;
    this.shownNotices = notices;
    this.notices.replaceChildren(...notices.map(({ id, text }) =>
      element("div", { class: "halo-notice" }, element("span", { text, dir: "auto" }),
        button("Dismiss", () => this.link.dismiss(id), { icon: "close", kind: "halo-small" }))));
  }

  /** Create a button that copies what `text` returns. */
  copyButton(label, text, { icon: name = "copy", kind = "halo-small", ...props } = {}) {
    return button(label, (event) => this.copy(text(), event.currentTarget), { icon: name, kind, ...props });
  }

  async copy(text, target) {
    const done = await copyText(text);
    const said = done ? "Copied" : "Copying is not allowed here";
    this.say(said);
    if (target.dataset.copied) return;
    const label = target.getAttribute("aria-label");
    const drawn = target.firstChild;
    target.dataset.copied = "true";
    if (done) drawn.replaceWith(icon("done"));
    if (label) setLabel(target, said);
    setTimeout(() => {
      delete target.dataset.copied;
      target.firstChild.replaceWith(drawn);
      if (label) setLabel(target, label);
    }, 1_200);
  }

  say(text) {
    // A live region repeats a text only if it changes in between.
    this.voice.textContent = this.voice.textContent === text ? `${text}\u00a0` : text;
  }
}

/** An anywidget front end: a link for each model, and a view of it in each place that shows it. */
export const frontEnd = (ModelLink, View) => () => {
  const link = new ModelLink();
  return {
    initialize({ model }) {
      return link.start(model);
    },
    render({ model, el }) {
      const view = new View(link, model, el);
      const hide = link.show(view);
      return () => {
        hide();
        view.destroy();
      };
    },
  };
};
