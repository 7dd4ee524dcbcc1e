/* The link of a widget's page to the kernel: requests and their answers, and whether the kernel is there. It does not use the DOM. */

import { GONE, NO_ANSWER } from "./status.js";
import { base64Of, freshId } from "./text.js";

const BUSY_MS = 500; // if a request has no answer after this time, the kernel is busy
const NO_ANSWER_MS = 30_000;
const UPLOAD_PART_BYTES = 1_000_000; // servers refuse a message of some 10 MB

// What JupyterLab's services report. Other pages see "starting" when one page restarts the kernel.
const REASONS = { restarting: "restarted", autorestarting: "restarted", starting: "restarted", dead: "dead", terminating: "ended" };

/** Whether the kernel refused a request, or went away without an answer. */
export const refused = (answer) => Boolean(answer.error || answer.lost);

/** Waits for the kernel to answer, and reports when it does not. */
class Patience {
  constructor(link) {
    this.link = link;
    this.timer = null;
  }

  /** The kernel has been asked for something. */
  begin() {
    if (!this.link.silent) this.timer ??= setTimeout(() => this.end(), NO_ANSWER_MS);
  }

  /** The kernel has answered, or is known to be gone. */
  stop() {
    clearTimeout(this.timer);
    this.timer = null;
    this.link.silent = false;
  }

  end() {
    const { link } = this;
    this.timer = null;
    if (link.gone) return;
    if (link.connecting || link.kernel?.status === "busy") { // the page says this already
      this.begin();
      return;
    }
    link.silent = true;
    link.say(NO_ANSWER);
    link.sync();
    link.changed();
  }
}

/** A view of it has `schedule()`, which paints it soon, and `say(text)`, for a screen reader. */
export class Link {
  views = new Set();
  requests = new Map(); // cid -> { late, timer, done }
  notices = [];
  gone = ""; // a key of GONE once the kernel is gone
  connecting = false;
  silent = false; // whether the kernel has not answered for long
  patience = new Patience(this);

  /** Start to listen to the kernel; returns a function that ends it. */
  listen(model) {
    this.model = model;
    model.on("msg:custom", (content) => this.receive(content));
    model.on("comm_live_update", () => this.lookAtComm());
    // The event passes the model itself, which knows whether it is connected; anywidget's proxy does not.
    model.on("change:_snapshot", (real) => {
      this.real = real ?? this.real;
    });
    this.kernel = model.widget_manager?.kernel;
    const unwatch = this.watch(this.kernel);
    return () => {
      this.patience.stop();
      for (const { timer } of this.requests.values()) clearTimeout(timer);
      unwatch();
    };
  }

  /** Add a view; returns a function that removes it. */
  show(view) {
    this.views.add(view);
    return () => this.views.delete(view);
  }

  changed() {
    for (const view of this.views) view.schedule();
  }

  say(text) {
    const [view] = this.views; // only one view speaks
    view?.say(text);
  }

  notice(text) {
    this.notices = [...this.notices.slice(-2), { id: freshId(), text: String(text) }];
    this.say(text);
    this.changed();
  }

  dismiss(id) {
    this.notices = this.notices.filter((notice) => notice.id !== id);
    this.changed();
  }

  // -- the state of the kernel

  /** Listen for restarts, ends and lost connections of the kernel; returns a function that ends it. */
  watch(kernel) {
    if (!kernel?.statusChanged) return () => {};
    const status = () => Object.hasOwn(REASONS, kernel.status) && this.lose(REASONS[kernel.status]);
    const connection = () => this.connection(kernel.connectionStatus !== "connected");
    kernel.statusChanged.connect(status);
    kernel.connectionStatusChanged.connect(connection);
    return () => {
      kernel.statusChanged.disconnect(status);
      kernel.connectionStatusChanged.disconnect(connection);
    };
  }

  /** The connection to the kernel is lost, or is there again. */
  connection(lost) {
    if (lost === this.connecting) return;
    this.connecting = lost;
    if (!lost) this.sync({ now: true });
    this.changed();
  }

  lookAtComm() {
    if (!this.real || this.real.comm_live === false) this.lose("gone");
    else if (this.real.comm_live && this.gone) this.sync({ now: true });
  }

  lose(reason) {
    // The first reason is the more exact one.
    if (this.gone && !(this.gone === "gone" && reason !== "none")) return;
    this.gone = reason;
    this.patience.stop();
    this.lost();
    for (const cid of [...this.requests.keys()]) this.settle(cid, { lost: true });
    this.say(GONE[reason]);
    this.changed();
  }

  /** Called when the kernel is gone. */
  lost() {}

  /** Called when the kernel may be there again. */
  sync() {}

  // -- messages

  /** Send a request to the kernel, with binary `buffers`; `done` is called with the answer. */
  request(content, done, buffers) {
    const cid = content.cid ?? freshId();
    const entry = { done, late: false, timer: 0 };
    entry.timer = setTimeout(() => {
      entry.late = true;
      this.changed();
    }, BUSY_MS);
    this.requests.set(cid, entry);
    this.post({ ...content, cid }, buffers);
    this.changed();
    return cid;
  }

  post(content, buffers) {
    this.patience.begin();
    try {
      this.model.send(content, undefined, buffers);
    } catch {
      this.lose("gone");
    }
  }

  /** Send a file in parts, one after the other; `done` gets its id in the kernel, or the answer that refuses it. */
  upload(data, done, which = freshId(), part = 0, asText = false) {
    const parts = Math.max(1, Math.ceil(data.byteLength / UPLOAD_PART_BYTES));
    const piece = data.slice(part * UPLOAD_PART_BYTES, (part + 1) * UPLOAD_PART_BYTES);
    const content = { kind: "upload", which, part, parts, bytes: piece.byteLength, ...(asText && { base64: base64Of(piece) }) };
    this.request(content, (answer) => {
      if (refused(answer)) done(answer);
      else if (answer.as_text && !asText) this.upload(data, done, which, part, true); // some front ends lose buffers
      else if (part + 1 < parts) this.upload(data, done, which, part + 1, asText);
      else done({ which });
    }, asText ? undefined : [piece]);
  }

  settle(cid, answer) {
    const entry = this.requests.get(cid);
    if (!entry) return;
    this.requests.delete(cid);
    clearTimeout(entry.timer);
    if (answer.error) this.notice(answer.error);
    entry.done?.(answer);
  }

  isLate(cid) {
    return this.requests.get(cid)?.late ?? false;
  }

  receive(message) {
    this.heardAt = performance.now();
    if (this.silent) this.say("The kernel answers again");
    this.patience.stop();
    if (this.gone && this.gone !== "closed") this.gone = ""; // a kernel that sends is not gone
    switch (message.kind) {
      case "answer": this.settle(message.cid, message); break;
      case "notice": this.notice(message.text); break;
      case "closed": this.lose("closed"); break;
      default: this.take(message);
    }
    this.changed();
  }

  /** Whether a request waits for a kernel that is busy. */
  get late() {
    return [...this.requests.values()].some((entry) => entry.late);
  }
}
