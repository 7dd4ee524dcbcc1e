/* Editing a sent message: the box in its place, and the buttons that lead from one version of it to another. */

import { button, element, setLabel, setText } from "./dom.js";
import { shownImage } from "./images.js";
import { count } from "./text.js";

export const MAX_CHARS = 10_000; // of a message
const WHAT_IT_DOES = "Starts a new conversation for the agent from here; this one is kept.";
const AS_IT_IS = "The same message can make the agent act twice.";

/** A text box with the message. Enter sends it, Esc cancels. */
export class EditForm {
  /** `panel` provides the store, its id and `paint`; `shut` is called when the form closes. */
  constructor(panel, turn, shut) {
    this.panel = panel;
    this.turn = turn;
    this.shut = shut;
    const about = `${panel.id}-edit-${turn.key}`;
    this.area = element("textarea", { class: "halo-area", dir: "auto", "aria-label": "Edit message", "aria-describedby": about, oninput: () => this.changed() });
    this.about = element("span", { class: "halo-quiet", id: about });
    this.submit = button("Send", () => this.send(), { kind: "halo-text halo-framed" });
    this.node = element("div", { class: "halo-edit", role: "group", "aria-label": "Edit message", onkeydown: (event) => this.key(event) },
      element("div", { class: "halo-images", hidden: !turn.images?.length }, ...(turn.images ?? []).map(shownImage)),
      this.area, element("div", { class: "halo-edit-foot" }, this.about, this.submit, button("Cancel", () => shut(), { kind: "halo-text" })));
  }

  open(text) {
    this.area.value = text;
    this.changed();
    this.area.focus();
    this.area.setSelectionRange(text.length, text.length);
  }

  changed() {
    const text = this.area.value;
    const { length } = Array.from(text);
    const tooLong = length > MAX_CHARS;
    this.submit.disabled = !text.trim() || tooLong;
    const what = text === this.turn.asked ? `${WHAT_IT_DOES} ${AS_IT_IS}` : WHAT_IT_DOES;
    setText(this.about, tooLong ? `${count(length)} of ${count(MAX_CHARS)} characters: too long to send` : what);
    this.about.classList.toggle("halo-too-long", tooLong);
    this.area.rows = Math.min(12, text.split("\n", 12).length + 1);
  }

  send() {
    if (this.submit.disabled || this.panel.store.gone) return;
    this.shut();
    this.panel.sendText(this.area.value, { edits: this.turn.key });
  }

  key(event) {
    if (event.isComposing || event.keyCode === 229 || event.altKey || event.shiftKey) return;
    if (event.key === "Escape") {
      event.preventDefault();
      this.shut();
    } else if (event.key === "Enter" && event.target === this.area) {
      event.preventDefault();
      this.send();
    }
  }
}

/** "‹ 1/2 ›": which version of a message is shown, and the way to the others. */
export class Versions {
  constructor(panel) {
    this.panel = panel;
    this.previous = button("Previous version", () => this.go(-1), { icon: "previous", kind: "halo-small" });
    this.next = button("Next version", () => this.go(1), { icon: "open", kind: "halo-small" });
    this.place = element("span", { class: "halo-place" });
    this.node = element("span", { class: "halo-versions halo-quiet", role: "group", hidden: true }, this.previous, this.place, this.next);
  }

  /** Show the versions of turn `number`, if it has several. */
  update(number, gone) {
    const versions = this.panel.store.versions?.[number];
    this.number = number;
    this.versions = versions;
    this.node.hidden = !versions;
    if (!versions) return;
    const { names, at } = versions;
    setText(this.place, `${count(at + 1)}/${count(names.length)}`);
    this.node.setAttribute("aria-label", `Version ${count(at + 1)} of ${count(names.length)} of this message`);
    for (const [node, label, to] of [[this.previous, "Previous version", at - 1], [this.next, "Next version", at + 1]]) {
      node.disabled = Boolean(gone) || !names[to];
      setLabel(node, names[to] ? `${label}: ${names[to]}` : label);
    }
  }

  go(step) {
    const { names, at } = this.versions;
    this.panel.transcript.returnTo(this, step);
    this.panel.store.request({ kind: "switch", name: names[at + step] });
  }

  /** Put the focus on the button that was pressed before the versions were changed, or on the other one. */
  focus(step) {
    const wanted = step < 0 ? [this.previous, this.next] : [this.next, this.previous];
    wanted.find((node) => !node.disabled)?.focus({ preventScroll: true });
  }
}
