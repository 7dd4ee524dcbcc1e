/* The panel's header: title, agent, state, and the menus for sessions and export. */

import { button, element, icon, setText } from "../shared/dom.js";
import { exportConversation } from "./export.js";
import { menu } from "../shared/menu.js";
import { SessionMenu } from "./sessions.js";
import { stateOf } from "../shared/status.js";

export class Header {
  /** `panel` provides the store, the model, `root`, the composer and `say`. */
  constructor(panel) {
    this.panel = panel;
    this.title = element("span", { class: "halo-title", dir: "auto" });
    this.agent = element("span", { class: "halo-agent halo-quiet", dir: "auto" });
    this.badge = element("span", { class: "halo-badge halo-source", dir: "auto" });
    this.stateText = element("span");
    this.state = element("span", { class: "halo-state halo-quiet" }, element("span", { class: "halo-dot", "aria-hidden": "true" }), this.stateText);
    this.stop = button("Stop", () => panel.store.stop(), { icon: "stop", kind: "halo-small halo-head-stop" });
    this.sessions = new SessionMenu(panel);
    const save = menu("Export", [icon("save")], "halo-export", () => [
      button("Markdown", () => this.export("markdown"), { kind: "halo-item" }),
      button("JSON", () => this.export("json"), { kind: "halo-item" })]);
    [this.exporter] = save;
    this.node = element("div", { class: "halo-head" }, this.title, this.badge, this.agent, this.state, this.stop, ...this.sessions.nodes, ...save);
  }

  paint() {
    const { store, model, root } = this.panel;
    const title = model.get("title") || store.agent || "Chat";
    setText(this.title, title);
    this.title.title = title;
    root.setAttribute("aria-label", title);
    setText(this.agent, store.agent ?? "");
    this.agent.hidden = !store.agent || store.agent === title;
    setText(this.badge, store.source);
    this.badge.title = store.source;
    this.badge.hidden = !store.source;
    const [kind, text] = stateOf(store);
    setText(this.stateText, text);
    this.state.title = text;
    this.state.dataset.kind = kind;
    this.stop.hidden = !store.live || Boolean(store.gone);
    this.stop.disabled = store.stopping;
    this.sessions.paint();
    this.exporter.disabled = Boolean(store.gone) || !(store.turns.length || store.live);
  }

  export(format) {
    exportConversation(this.panel.store, format, () => this.panel.say("Conversation exported"));
  }
}
