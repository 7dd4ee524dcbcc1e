/* The configurations of one case beside each other: what differs in figures, and in the words of the replies. */

import { button, element, setText } from "../shared/dom.js";
import { turnNode, verdictItem, verdictSign } from "../shared/conversation.js";
import { seconds, visible } from "../shared/text.js";

const figures = {
  status: (value) => element("span", { text: value }),
  verdict: verdictSign,
  seconds: (value) => element("span", { text: Number.isFinite(value) ? seconds(value) : "–" }),
};

/** Show a comparison, as `comparison_view` in Python gives it. */
export class Comparison {
  /** `more(from, done)` asks for the turns from that one on. */
  constructor(frame, view, more) {
    this.frame = frame;
    this.configs = view.configs;
    this.marks = true;
    this.turns = [];
    this.mark = button("Mark differences", () => this.toggle(), { kind: "halo-text halo-framed", "aria-pressed": "true" });
    this.body = element("div", { class: "halo-compared" });
    this.body.style.setProperty("--halo-sides", this.configs.length);
    this.more = button("Show further turns", () => {
      this.more.disabled = true;
      more(this.next, (answer) => {
        this.more.disabled = false;
        if (answer.turns) this.add(answer);
      });
    }, { kind: "halo-text halo-framed halo-earlier" });
    const note = [this.configs.length > 2 && `Marked: what differs from ${visible(this.configs[0])}.`, view.note].filter(Boolean).join(" ");
    this.node = element("div", { class: "halo-comparison" },
      element("div", { class: "halo-compare-bar" }, this.mark, element("span", { class: "halo-quiet", dir: "auto", text: note })),
      this.table(view.figures), this.body, this.more);
    this.add(view);
  }

  /** Verdicts and times; what differs from the first configuration is marked. */
  table(rows) {
    const head = element("tr", {}, element("td", {}), ...this.configs.map((name) => element("th", { scope: "col", dir: "auto", text: visible(name) })));
    const lines = rows.map(({ name, kind, values, differs }) => element("tr", {},
      element("th", { scope: "row", dir: "auto", text: visible(name) }),
      ...values.map((value, at) => element("td", { class: differs[at] ? "halo-differs" : "" }, figures[kind](value),
        differs[at] ? element("span", { class: "halo-badge", text: "differs" }) : null))));
    const table = element("table", { class: "halo-figures" }, element("thead", {}, head), element("tbody", {}, ...lines));
    const wide = element("div", { class: "halo-wide" }, table);
    this.frame.widths.watch(wide, "Figures");
    return wide;
  }

  add({ turns, next }) {
    this.turns.push(...turns);
    this.next = next;
    this.more.hidden = next === null;
    for (const turn of turns) this.body.append(...this.turn(turn));
  }

  turn({ message, sides }) {
    const said = (text) => element("p", { class: "halo-compared-message", dir: "auto", text: visible(text, { keep: "\n\t" }) });
    return [
      ...(message === null ? [] : [said(message)]),
      ...(sides.some(({ parts }) => parts.some(([, differs]) => differs)) ? [] : [element("p", { class: "halo-same halo-quiet", text: "The replies are the same." })]),
      ...sides.map((side, at) => element("section", { class: "halo-side", "aria-label": visible(this.configs[at]) },
        element("p", { class: "halo-side-name halo-quiet", dir: "auto", text: visible(this.configs[at]) }),
        message === null && side.message ? said(side.message) : null,
        this.marks ? this.marked(side) : turnNode(side, this.frame))),
    ];
  }

  /** A reply as text, with what differs marked; actions are in it as JSON. */
  marked({ parts, status, verdicts }) {
    const text = parts.map(([part, differs]) => {
      const shown = visible(part, { keep: "\n\t" });
      return differs ? element("mark", { text: shown }) : shown;
    });
    return element("div", {}, element("div", { class: "halo-marked", dir: "auto" }, ...text),
      !status || status === "complete" ? null : element("p", { class: "halo-error", text: status }),
      verdicts.length ? element("ul", { class: "halo-verdicts", "aria-label": "Verdicts" }, ...verdicts.map(verdictItem)) : null);
  }

  toggle() {
    this.marks = !this.marks;
    this.mark.setAttribute("aria-pressed", String(this.marks));
    setText(this.mark.firstChild, "Mark differences");
    this.body.replaceChildren(...this.turns.flatMap((turn) => this.turn(turn)));
  }
}
