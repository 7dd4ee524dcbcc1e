/* Export a conversation to a file. */

import { download } from "../shared/dom.js";
import { freshId } from "../shared/text.js";

const EXPORT_PART_MS = 600;

/** Fetch the conversation of `store` in parts, slowly: the server drops messages above its rate limit. */
export function exportConversation(store, format, done, part = 0, before = "", which = freshId()) {
  const began = performance.now();
  store.request({ kind: "export", format, part, which }, (answer) => {
    if (answer.text === undefined) return;
    const text = before + answer.text;
    if (part + 1 < answer.parts) {
      setTimeout(() => exportConversation(store, format, done, part + 1, text, which), began + EXPORT_PART_MS - performance.now());
      return;
    }
    download({ ...answer, text });
    done();
  });
}
