/* The conversations of a result in the page, an anywidget front end: a table beside the conversation that is open.

- Only HTML that the kernel has sanitised is set as innerHTML, in the blocks of a reply. Names of cases, checks and
  configurations, tags, metadata and notes are set as text.
- The kernel filters, searches and sorts. The page has the rows in view and the open conversation.
- The page fetches nothing, and keeps nothing in the notebook.
*/

import { Comparison } from "./comparison.js";
import { ConversationView, factsOf, verdictItem } from "../shared/conversation.js";
import { button, element, setText } from "../shared/dom.js";
import { Filters } from "./filters.js";
import { Found } from "./found.js";
import { Frame, frontEnd } from "../shared/frame.js";
import { LabelPane } from "../labels/labels.js";
import { menu } from "../shared/menu.js";
import { Table } from "./table.js";
import { count, counted, freshId, visible } from "../shared/text.js";

class Explorer extends Frame {
  constructor(found, model, el) {
    super(found, model);
    this.found = found;
    this.id = `halo-${freshId()}`;
    this.root.classList.add("halo-explorer");
    this.root.setAttribute("aria-label", "Conversations of the evaluation");
    this.filters = new Filters(found);
    this.table = new Table(this, found);
    this.counts = element("span", { class: "halo-counts" });
    this.chosen = button("Clear selection", () => found.selectNone(), { kind: "halo-link", hidden: true });
    this.state = element("span", { class: "halo-quiet" });
    const toLabel = menu("Label replies", [element("span", { text: "Label replies" })], "halo-link", () => this.samples());
    this.left = element("div", { class: "halo-left" }, this.filters.node,
      element("div", { class: "halo-count-line halo-quiet" }, this.counts, this.chosen, ...toLabel, this.state), this.table.node);
    this.hint = element("p", { class: "halo-quiet halo-hint-open", text: "Choose a conversation to read it here." });
    this.pane = element("div", { class: "halo-pane", role: "region", "aria-label": "Open conversation", tabindex: "0", onkeydown: (event) => this.paneKey(event) });
    this.right = element("div", { class: "halo-right" }, this.hint, this.pane);
    this.body = element("div", { class: "halo-explorer-body" }, this.left, this.right);
    this.labels = new LabelPane(this, found.labels, () => this.endLabelling());
    this.root.append(this.body, this.labels.node, this.notices, this.goneLine, this.voice);
    this.place(el);
  }

  destroy() {
    this.table.destroy();
    super.destroy();
  }

  paint() {
    const { found } = this;
    this.paintFrame();
    this.body.hidden = found.labelling;
    this.labels.node.hidden = !found.labelling;
    this.labels.paint();
    this.filters.paint();
    this.paintPane(); // before the table, which is laid out beside it
    this.table.paint();
    setText(this.counts, found.count === found.total
      ? counted(found.total, "conversation") : `${count(found.count)} of ${counted(found.total, "conversation")}`);
    setText(this.chosen.firstChild, `Clear selection of ${count(found.selected)}`);
    this.chosen.hidden = !found.selected;
    const busy = found.late ? "the kernel is busy" : found.searching ? "searching…" : "";
    setText(this.state, [busy, this.table.note()].filter(Boolean).join(" · "));
  }

  paintPane() {
    const { open, comparison } = this.found;
    this.root.classList.toggle("halo-has-open", Boolean(open));
    this.root.classList.toggle("halo-comparing", Boolean(comparison));
    this.hint.hidden = Boolean(open);
    this.pane.hidden = !open;
    if (open === this.shownOpen && comparison === this.shownComparison) return;
    const other = open?.number !== this.shownOpen?.number || comparison !== this.shownComparison;
    this.shownOpen = open;
    this.shownComparison = comparison;
    if (!open) {
      this.pane.replaceChildren();
      return;
    }
    const hadFocus = this.pane.contains(this.focused());
    const more = (kind) => (from, done) => this.found.request({ kind, number: open.number, from }, done);
    let content;
    if (comparison) {
      content = new Comparison(this, comparison, more("compare")).node;
    } else {
      const conversation = new ConversationView(this, more("open"));
      conversation.show(open);
      content = conversation.node;
    }
    this.pane.replaceChildren(this.paneHead(open, comparison), content);
    if (other) this.pane.scrollTop = 0;
    if (hadFocus || this.entering) this.pane.focus({ preventScroll: true });
    this.entering = false;
  }

  paneHead(open, comparison) {
    const { found } = this;
    const step = (by, label) => button(label, () => this.step(by), { kind: "halo-text halo-framed" });
    const facts = [!comparison && visible(open.config), `repeat ${open.repeat}`, ...(comparison ? [] : factsOf(open)), ...open.tags.map((tag) => visible(tag))];
    const metadata = open.metadata.map(([name, value]) => element("span", { class: "halo-badge", dir: "auto", text: `${visible(name)}: ${visible(value)}` }));
    return element("div", { class: "halo-pane-head" },
      element("div", { class: "halo-pane-bar" },
        button("All conversations", () => this.shut(), { kind: "halo-text halo-framed" }),
        step(-1, "Previous"), step(1, "Next"),
        open.comparable ? button("Compare configurations", () => (comparison ? found.endComparison() : found.compare(open)), { kind: "halo-text halo-framed", "aria-pressed": String(Boolean(comparison)) }) : null),
      element("div", { class: "halo-case", role: "heading", "aria-level": "2", dir: "auto", text: visible(open.case) }),
      element("p", { class: "halo-quiet halo-pane-facts", dir: "auto", text: facts.filter(Boolean).join(" · ") }),
      metadata.length ? element("div", { class: "halo-metadata" }, ...metadata) : null,
      !comparison && open.verdicts.length ? element("ul", { class: "halo-verdicts", "aria-label": "Verdicts on the conversation" }, ...open.verdicts.map(verdictItem)) : null);
  }

  /** The samples of replies that can be labelled: by the verdicts of a check, or by chance. */
  samples() {
    const checks = this.found.columns.filter((column) => column.kind === "verdict");
    const choice = (text, check) => button(text, () => this.label(check), { kind: "halo-item" });
    return [...checks.map(({ id, name }) => choice(`Both verdicts of ${visible(name)}`, id)), choice("By chance", null)];
  }

  label(check) {
    this.labels.enter();
    this.found.startLabelling(check);
  }

  endLabelling() {
    this.found.endLabelling();
    this.paint();
    this.table.node.focus({ preventScroll: true });
  }

  key(event) {
    if (this.found.labelling) this.labels.key(event);
  }

  /** Open the conversation before or after the one that is open, in the order of the table. */
  step(by) {
    const { found, table } = this;
    const at = found.placeOf(found.open.number);
    const row = found.row(at < 0 ? 0 : at + by);
    if (!row) return;
    table.go(at < 0 ? 0 : at + by);
    found.read(row.number);
  }

  /** Open a conversation; with `enter` the focus goes to it. */
  openRow(number, { enter = false } = {}) {
    this.entering = enter;
    this.found.read(number);
  }

  shut() {
    this.found.close();
    this.paint();
    this.table.node.focus({ preventScroll: true });
  }

  paneKey(event) {
    if (event.key !== "Escape" || this.root.querySelector(":popover-open") || event.target.matches("input")) return;
    if (this.found.comparison) this.found.endComparison();
    else this.shut();
  }
}

export default frontEnd(Found, Explorer);
