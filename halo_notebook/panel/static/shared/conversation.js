/* A conversation to read: its turns, and below each what the checks found. Any widget may show it. */

import { button, element, setText } from "./dom.js";
import { TurnView, Waiting } from "./turn.js";
import { seconds, visible } from "./text.js";

const SIGNS = { passed: "✓", failed: "✗", "no result": "–", "not judged": "" };

/** A check's verdict as a sign, which a screen reader reads as the word. */
export function verdictSign(verdict) {
  return element("span", { class: "halo-verdict", "data-verdict": verdict },
    element("span", { "aria-hidden": "true", text: SIGNS[verdict] ?? "" }),
    element("span", { class: "halo-unseen", text: verdict === "not judged" ? "" : verdict }));
}

/** The name of a check with its verdict, and in words its score and its note. */
export function verdictItem({ check, verdict, score, note }) {
  const more = [Number.isFinite(score) && `score ${Number(score.toFixed(2))}`, note && visible(note)].filter(Boolean).join(" · ");
  return element("li", {}, verdictSign(verdict), element("span", { class: "halo-check-name", dir: "auto", text: visible(check) }),
    more ? element("span", { class: "halo-quiet", dir: "auto", text: more }) : null);
}

/** What is known about a conversation or a column of a comparison, beside its turns. */
export function factsOf({ status, end, total_s }) {
  return [status, end && visible(end), Number.isFinite(total_s) && `total ${seconds(total_s)}`].filter(Boolean);
}

/** One turn with the verdicts on it, as `turn_of` in Python gives it. */
export function turnNode(turn, frame) {
  let shown;
  if (turn.view) {
    shown = new TurnView(frame, { readOnly: true });
    shown.update(turn.view, { gone: "", latest: false, near: true });
  } else {
    shown = new Waiting(frame, (item, say) => say(item.status));
    shown.update({ text: turn.message, status: turn.status }, { gone: "" });
  }
  const parts = [shown.node];
  if (turn.expect) parts.push(element("p", { class: "halo-expected halo-quiet", dir: "auto", text: `Expected: ${visible(turn.expect)}` }));
  if (turn.verdicts.length) parts.push(element("ul", { class: "halo-verdicts", "aria-label": "Verdicts" }, ...turn.verdicts.map(verdictItem)));
  return element("div", { class: "halo-read-turn" }, ...parts);
}

/** The turns of a conversation. `frame` is the widget's Frame; `more(number, done)` asks for the turns from that one on. */
export class ConversationView {
  constructor(frame, more) {
    this.frame = frame;
    this.turns = element("div", { class: "halo-turns" });
    this.more = button("Show further turns", () => {
      this.more.disabled = true;
      more(this.next, (answer) => {
        this.more.disabled = false;
        if (answer.turns) this.add(answer);
      });
    }, { kind: "halo-text halo-framed halo-earlier", hidden: true });
    this.node = element("div", { class: "halo-conversation" }, this.turns, this.more);
  }

  /** Show a conversation, as `conversation_view` in Python gives it. */
  show(view) {
    this.turns.replaceChildren();
    this.add(view);
  }

  add({ turns, next, count }) {
    this.turns.append(...turns.map((turn) => turnNode(turn, this.frame)));
    this.next = next;
    this.more.hidden = next === null;
    setText(this.more.firstChild, `Show further turns (${count - next})`);
  }
}
