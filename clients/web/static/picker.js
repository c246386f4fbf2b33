// Where an image comes from: samples of the test set, a file (chosen, dropped or pasted), or a drawing.

import { file as fetchFile, key, load, sampleUrl } from "./api.js";
import { drawing } from "./drawing.js";
import { choice, el } from "./dom.js";
import { camera, canFilm, prepared } from "./photos.js";

const LARGEST = 64 * 2 ** 20; // bytes; what is larger than the gateway's own limit is made smaller before
const FREED_MS = 60000;
const EMPTY = {
  samples: "Choose a sample.",
  draw: "Draw something. The answer follows each stroke.",
  upload: "Choose an image.",
  camera: "Take a picture.",
};

let pickers = 0;

/**
 * A picker of images. Calls `onimage({blob, source, url, sample, live})` for each image: `source` names it for the code
 * (`{sample: path}` or `{file, type}`), `url` shows it, `sample` is its entry in the list of samples if it is one, `live`
 * is true while a stroke goes on. Calls `onempty(words)` when there is no image any more. `start`: the sample that is
 * chosen at first.
 */
export function picker(model, samples, { canDraw, onimage, onempty, onerror, start = 0, legend = "Where the image comes from" }) {
  const pictures = samples.filter((sample) => sample.file);
  const small = isSmall(model);
  const ways = [pictures.length && ["samples", "Samples"], canDraw && ["draw", "Draw"], ["upload", "Upload"], canFilm() && ["camera", "Camera"]].filter(Boolean);
  let way = ways[0][0];
  const publish = freeing(onimage);
  // Images arrive late: a sample is fetched, a drawing is encoded. One that belongs to a way that was left is dropped.
  const from = (origin) => (image) => { if (way === origin) publish(image); };
  const upload = uploads(from("upload"), onerror);
  const pages = {
    samples: () => sampleGrid(model.name, pictures, small, start, from("samples"), onerror),
    upload: () => dropZone(upload, canDraw),
    draw: () => drawing(model, from("draw"), () => onempty(EMPTY.draw)),
    camera: () => camera((blob) => from("camera")({ blob, source: { file: "photograph.jpg", type: blob.type }, url: URL.createObjectURL(blob) }), (words) => { if (way === "camera") onerror(new Error(words)); }),
  };
  const body = el("div.picker-body");
  const open = (chosen) => {
    way = chosen;
    onempty(EMPTY[way]);
    body.replaceChildren(pages[way]());
    if (way === "upload") upload.askAgain();
  };
  const node = el("div.picker", {}, choice(legend, ways, way, open), body);
  takeDrops(node, (file) => {
    if (way !== "upload") {
      node.querySelector("input[value=upload]").checked = true;
      open("upload");
    }
    upload.take(file);
  });
  open(way);
  return node;
}

export const isSmall = (model) => Boolean(model.image?.height && model.image.height <= 64);

/** Frees the object URL of the image before. Late, because its answer may be on the page for a while. */
function freeing(onimage) {
  let shown = "";
  return (image) => {
    const before = shown;
    if (before.startsWith("blob:") && before !== image.url) setTimeout(() => URL.revokeObjectURL(before), FREED_MS);
    shown = image.url;
    onimage(image);
  };
}

// --- samples -----------------------------------------------------------------------------------

function sampleGrid(name, samples, small, start, onimage, onerror) {
  let newest = 0;
  const use = async (sample) => {
    const mine = ++newest;
    const path = sampleUrl(name, sample.file);
    try {
      // An <img> cannot send a key, so with a key its bytes are fetched.
      const url = key() ? URL.createObjectURL(await fetchFile(path)) : path;
      if (mine === newest) onimage({ source: { sample: path }, url, sample });
    } catch (error) {
      onerror(error);
    }
  };
  const buttons = samples.map((sample, number) => {
    const about = sample.label ?? `Sample ${number + 1}`;
    const image = load(el(small ? "img.pixels" : "img", { alt: "", loading: "lazy" }), sampleUrl(name, sample.file));
    return el("button.sample", { type: "button", title: about, "aria-label": about, "aria-pressed": "false", onclick: (event) => {
      for (const other of buttons) other.setAttribute("aria-pressed", other === event.currentTarget);
      use(sample);
    } }, image);
  });
  queueMicrotask(() => buttons[start % buttons.length]?.click());
  return el("div", {}, el("div.samples", {}, ...buttons),
    el("p.hint", {}, "From the test set: the model did not see these images in training."));
}

// --- files -------------------------------------------------------------------------------------

/** The user's file: `take(file)` asks about it, `invert(on)` inverts its colours, `askAgain()` asks about the last one. */
function uploads(onimage, onerror) {
  let file = null;
  let inverted = false;
  const about = el("p.file", { hidden: true });
  const ask = async () => {
    const asked = file;
    const { blob: read, note } = await prepared(asked);
    const blob = inverted ? await negative(read) : read;
    if (asked !== file) return; // another file was chosen while this one was read
    const ending = blob.type === "image/jpeg" ? "jpg" : "png";
    const name = inverted ? `inverted-${stem(asked.name)}.png` : note ? `sent-${stem(asked.name)}.${ending}` : asked.name || "image.png";
    const url = URL.createObjectURL(blob);
    about.hidden = false;
    about.replaceChildren(el("span", {}, name), note ? el("span.soft", {}, note) : "", inverted || note || !asked.name ? el("a", { href: url, download: name }, "Save it, for the code below") : "");
    onimage({ blob, source: { file: name, type: blob.type }, url });
  };
  const guarded = () => {
    const asked = file;
    return ask().catch(() => { if (asked === file) refuse(`This browser cannot read ${asked.name || "it"} as an image; save it as PNG or JPEG.`); });
  };
  const refuse = (words) => {
    file = null;
    about.hidden = true;
    onerror(new Error(words));
  };
  return {
    about,
    inverted: () => inverted,
    invert: (on) => { inverted = on; if (file) guarded(); },
    askAgain: () => { if (file) guarded(); },
    take: (given) => {
      if (given.type && !given.type.startsWith("image/")) return refuse(`Got ${given.name}, which is ${given.type}; expected an image.`);
      if (given.size > LARGEST) return refuse(`Got ${given.name} with ${(given.size / 2 ** 20).toFixed(1)} MiB; expected at most ${LARGEST / 2 ** 20} MiB.`);
      file = given;
      return guarded();
    },
  };
}

const stem = (name) => (name || "image").replace(/\.[^.]*$/, "");

async function negative(file) {
  const bitmap = await createImageBitmap(file);
  const canvas = el("canvas", { width: bitmap.width, height: bitmap.height });
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  // Pixel by pixel: `context.filter = "invert(1)"` is missing in older versions of Safari.
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < image.data.length; i++) if (i % 4 < 3) image.data[i] = 255 - image.data[i];
  context.putImageData(image, 0, 0);
  return new Promise((resolve) => { canvas.toBlob(resolve); });
}

function dropZone(upload, canInvert) {
  const id = `file-${++pickers}`;
  const input = el("input.unseen", { type: "file", accept: "image/*", id, onchange: () => input.files[0] && upload.take(input.files[0]) });
  return el("div", {}, input, el("label.drop", { htmlFor: id }, el("strong", {}, "Choose an image"),
    el("span", {}, "or drop it here, or paste it. Any image that this browser can read.")), upload.about,
  canInvert ? el("label.check", {}, el("input", { type: "checkbox", checked: upload.inverted(),
    onchange: (event) => upload.invert(event.target.checked) }), "Invert the colours: the model was trained on light shapes on a dark ground") : "");
}

let paste = null; // the document has one listener: that of the newest picker

function takeDrops(node, take) {
  const use = (files) => files?.[0] && take(files[0]);
  node.addEventListener("dragover", (event) => { event.preventDefault(); node.classList.add("over"); });
  node.addEventListener("dragleave", (event) => { if (!node.contains(event.relatedTarget)) node.classList.remove("over"); });
  node.addEventListener("drop", (event) => {
    event.preventDefault();
    node.classList.remove("over");
    use(event.dataTransfer.files);
  });
  if (paste) document.removeEventListener("paste", paste);
  paste = (event) => node.isConnected && use(event.clipboardData.files);
  document.addEventListener("paste", paste);
}
