/* The state of the panel, of a turn and of the kernel, in words. */

import { counted, startOf } from "./text.js";

export const GONE = {
  restarted: "The kernel was restarted. Run this cell again to continue; this transcript stays.",
  dead: "The kernel has died. Restart it and run this cell again to continue; this transcript stays.",
  ended: "The kernel was shut down. Run this cell again to continue; this transcript stays.",
  gone: "The kernel is gone. Run this cell again to continue; this transcript stays.",
  closed: "This panel was closed in the kernel. Run this cell again to continue; this transcript stays.",
  none: "Not connected to a kernel. Run this cell again to continue.",
};

export const NO_ANSWER = "No answer for 30 seconds: the kernel computes, or it is gone. What you type is kept. If it is gone, restart it and run this cell again.";

/** What the live turn is doing. While a cell computes, a click on Stop waits in the kernel. */
export function progressOf(store) {
  if (!store.stopping) return store.live.state || "waiting for first text";
  return store.late ? "stops when the kernel is free; interrupt the kernel to stop it now" : "stopping";
}

/** The state of the panel in a word or two: [kind, text]. */
export function stateOf(store) {
  if (store.gone === "none") return ["gone", "not connected"];
  if (store.gone) return ["gone", "kernel gone"];
  if (store.connecting) return ["busy", "reconnecting"];
  if (store.silent) return ["gone", "no answer"];
  if (store.late) return ["busy", "kernel busy"];
  if (store.live) return ["live", progressOf(store)];
  if (store.pending.some((message) => message.state === "sending" || message.state === "taken")) return ["live", "sending"];
  if (store.pending.some((message) => message.session === store.session)) return ["failed", "not sent"];
  const last = store.turns.at(-1);
  if (last?.status === "failed") return ["failed", "failed"];
  if (last?.status === "stopped") return ["stopped", "stopped"];
  return ["ready", "ready"];
}

/** The text that a screen reader speaks for a finished turn; a long reply is cut. */
export function spoken(turn) {
  const parts = [];
  if (turn.status === "failed") parts.push(`The turn failed. ${turn.error}`);
  if (turn.status === "stopped") parts.push(`Stopped. ${turn.error}`);
  const text = turn.text.trim();
  if (text) parts.push(text.length > 600 ? `${startOf(text, 600)} … the reply continues` : text);
  const actions = turn.items.filter((item) => item.action).length;
  if (actions) parts.push(counted(actions, "action"));
  return parts.join(" ") || "The reply is empty";
}
