/* "Keep as a test case": a form below a turn, for what is expected of its reply and for tags. */

import { button, element, setText } from "./dom.js";
import { refused } from "./link.js";

/** Create a text box with its label above it. */
function field(label, placeholder) {
  const input = element("input", { class: "halo-input", type: "text", maxlength: "2000", placeholder, dir: "auto", autocomplete: "off" });
  return [element("label", { class: "halo-field" }, element("span", { class: "halo-quiet", text: label }), input), input];
}

export class KeepForm {
  /** `panel` provides the store and `say`; `shut` is called when the form has closed by a key or a button. */
  constructor(panel, shut) {
    this.panel = panel;
    this.shut = shut;
    const [expected, expect] = field("Expected in the reply (optional)", "such as a word that it must contain");
    const [tagged, tags] = field("Tags (optional)", "separated by commas");
    this.expect = expect;
    this.tags = tags;
    this.submit = element("button", { type: "submit", class: "halo-button halo-text halo-framed", text: "Keep case" });
    this.form = element("form", {
      class: "halo-keep-form", "aria-label": "Keep as a test case", hidden: true,
      onsubmit: (event) => this.keep(event),
      onkeydown: (event) => event.key === "Escape" && this.close(),
    }, expected, tagged, element("span", { class: "halo-keep-buttons" }, this.submit,
      button("Close", () => this.close(), { icon: "close", kind: "halo-small" })));
    this.kept = element("p", { class: "halo-quiet halo-note", dir: "auto", hidden: true });
    this.node = element("div", { class: "halo-keep" }, this.form, this.kept);
  }

  /** Show the form for a turn: the conversation up to it becomes the case. */
  open(turn) {
    this.turn = turn;
    this.kept.hidden = true;
    this.form.hidden = false;
    this.expect.focus();
  }

  keep(event) {
    event.preventDefault();
    this.submit.disabled = true;
    this.panel.store.keep(this.turn, this.expect.value, this.tags.value, (answer) => {
      this.submit.disabled = false;
      if (refused(answer)) return; // the form stays, with what was typed
      this.expect.value = "";
      setText(this.kept, answer.kept);
      this.kept.hidden = false;
      this.panel.say(answer.kept);
      this.close();
    });
  }

  close() {
    this.form.hidden = true;
    this.shut();
  }
}
