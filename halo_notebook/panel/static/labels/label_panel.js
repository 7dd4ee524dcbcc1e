/* Labelling in the page, an anywidget front end: a queue of replies of its own.

- Only HTML that the kernel has sanitised is set as innerHTML, in the blocks of a reply.
- A label is in the file when the kernel has answered; only then is the next reply shown.
*/

import { Frame, frontEnd } from "../shared/frame.js";
import { LabelQueue } from "./label_queue.js";
import { LabelPane } from "./labels.js";
import { Link } from "../shared/link.js";

class LabelLink extends Link {
  queue = new LabelQueue(this);

  start(model) {
    const end = this.listen(model);
    model.set("_snapshot", { shown_at: Date.now() }); // see `listen`
    this.queue.open();
    return end;
  }

  sync() {
    if (!this.queue.item) this.queue.open();
  }

  take() {}
}

class LabelFrame extends Frame {
  constructor(link, model, el) {
    super(link, model);
    this.root.classList.add("halo-labeller");
    this.root.setAttribute("aria-label", "Replies to label");
    this.pane = new LabelPane(this, link.queue);
    this.root.append(this.pane.node, this.notices, this.goneLine, this.voice);
    this.place(el);
  }

  key(event) {
    this.pane.key(event);
  }

  paint() {
    this.paintFrame();
    this.pane.paint();
  }
}

export default frontEnd(LabelLink, LabelFrame);
