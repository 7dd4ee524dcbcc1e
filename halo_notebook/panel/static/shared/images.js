/* Images in messages: those that the user adds to the next one, and those of the messages above. */

import { arrange, button, element, icon } from "./dom.js";
import { count, visible } from "./text.js";

const KINDS = ["image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp"];
const SAFE_URL = /^data:image\/(png|jpeg|gif|webp);base64,[\w+/=]*$/;
const MAX_IMAGES = 10;
const MAX_IMAGE_BYTES = 10_000_000;
const MAX_THUMBNAIL_CHARS = 60_000;
const THUMBNAIL_PX = [320, 160, 80];

const nameOf = (file) => visible(file.name || "image").slice(0, 120);
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;

/** Draw an image small, as a data: URL. Fails if the browser cannot read it. */
async function thumbnailOf(file) {
  const bitmap = await createImageBitmap(file);
  const canvas = element("canvas");
  try {
    for (const pixels of THUMBNAIL_PX) {
      const scale = Math.min(1, pixels / Math.max(bitmap.width, bitmap.height));
      canvas.width = Math.max(1, Math.round(bitmap.width * scale));
      canvas.height = Math.max(1, Math.round(bitmap.height * scale));
      canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      const url = canvas.toDataURL("image/webp", 0.8); // a browser that cannot write WebP writes a PNG
      if (url.length <= MAX_THUMBNAIL_CHARS) return url;
    }
    return "";
  } finally {
    bitmap.close();
  }
}

/** Show an image, or only its name if its URL is not safe. */
export function shownImage({ name: given, about = "", url }) {
  const name = visible(given);
  if (SAFE_URL.test(url)) return element("img", { class: "halo-image", src: url, alt: name, title: `${name}${about && ` (${about})`}` });
  return element("span", { class: "halo-image-name", title: name }, icon("image"), element("span", { text: name, dir: "auto" }), element("span", { class: "halo-quiet", text: about }));
}

/** The images that go with the next message: a button, a place to drop them, and a row of previews. */
export class Attachments {
  /** `panel` provides the store, `root` and the composer. */
  constructor(panel) {
    this.panel = panel;
    this.shown = new Map(); // id -> node
    this.row = element("div", { class: "halo-images halo-attached", role: "group", "aria-label": "Images to send", hidden: true });
    this.picker = element("input", {
      type: "file", multiple: true, accept: KINDS.join(","), hidden: true, "aria-label": "Images",
      onchange: () => {
        this.add([...this.picker.files]);
        this.picker.value = "";
        panel.composer.focus();
      },
    });
    this.addButton = button("Add images", () => this.picker.click(), { icon: "image", kind: "halo-small halo-add-image" });
    this.listen(panel.root);
  }

  listen(root) {
    const files = (event) => [...(event.clipboardData ?? event.dataTransfer).files];
    root.addEventListener("paste", (event) => {
      // Spreadsheets put a picture beside the text that the user means.
      if (!files(event).length || event.clipboardData.getData("text/plain")) return;
      event.preventDefault();
      this.add(files(event));
    });
    const over = (event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault(); // otherwise the browser would leave the page for the file
      event.stopPropagation();
      root.classList.toggle("halo-dropping", !this.panel.store.gone);
    };
    root.addEventListener("dragenter", over);
    root.addEventListener("dragover", over);
    root.addEventListener("dragleave", (event) => !root.contains(event.relatedTarget) && root.classList.remove("halo-dropping"));
    root.addEventListener("drop", (event) => {
      over(event);
      root.classList.remove("halo-dropping");
      if (files(event).length) this.add(files(event));
    });
  }

  /** Add files that are images within the limits, and say in a line what is not added. */
  async add(files) {
    const { store } = this.panel;
    if (store.gone) return;
    const session = store.session;
    for (const [at, file] of files.entries()) {
      const name = nameOf(file);
      const full = () => store.picturesOf(session).length >= MAX_IMAGES;
      if (full()) {
        const others = files.length - at - 1;
        store.notice(`A message may have ${MAX_IMAGES} images. “${name}”${others ? ` and ${count(others)} more` : ""} was not added.`);
        return;
      }
      if (!KINDS.includes(file.type)) {
        store.notice(`“${name}” is not a PNG, JPEG, GIF, WebP or BMP image. It was not added.`);
      } else if (file.size > MAX_IMAGE_BYTES) {
        store.notice(`“${name}” has ${megabytes(file.size)}; an image may have ${megabytes(MAX_IMAGE_BYTES)}. It was not added.`);
      } else {
        try {
          const [url, data] = [await thumbnailOf(file), await file.arrayBuffer()];
          if (full()) store.notice(`A message may have ${MAX_IMAGES} images. “${name}” was not added.`); // others came meanwhile
          else store.addPicture(session, { name, url }, data);
        } catch {
          store.notice(`“${name}” could not be read as an image. It was not added.`);
        }
      }
    }
  }

  paint() {
    const { store } = this.panel;
    const pictures = store.picturesOf(store.session);
    this.addButton.disabled = Boolean(store.gone);
    this.row.hidden = !pictures.length;
    const wanted = pictures.map((picture) => {
      if (!this.shown.has(picture.id)) this.shown.set(picture.id, this.preview(picture));
      const node = this.shown.get(picture.id);
      node.classList.toggle("halo-uploading", picture.state === "sending");
      return node;
    });
    for (const id of this.shown.keys()) if (!pictures.some((picture) => picture.id === id)) this.shown.delete(id);
    arrange(this.row, wanted);
  }

  preview(picture) {
    const remove = button(`Remove ${picture.name}`, () => {
      this.panel.store.removePicture(picture);
      this.panel.composer.focus();
    }, { icon: "close", kind: "halo-small halo-remove" });
    return element("div", { class: "halo-preview" }, shownImage(picture), remove);
  }
}
