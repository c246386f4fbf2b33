// Where an image comes from: real samples, a file (chosen, dropped or pasted), or a drawing.

import { file as fetchFile, key, load, sampleUrl } from "./api.js";
import { drawing } from "./drawing.js";
import { choice, el } from "./dom.js";

const TYPES = ["image/png", "image/jpeg", "image/webp"];
const LARGEST = 16 * 2 ** 20; // bytes; the gateway's own limit may be lower and says so

const FREED_MS = 60000;

let pickers = 0;

/**
 * A picker of images. Calls `onimage({blob, source, url, sample, live})` for each image that the user settles on: `source`
 * names it for the code (`{sample: path}` or `{file, type}`), `url` shows it, `sample` is the entry of the samples when it
 * is one, `live` is true while a drawing goes on. `start`: which sample is asked about at once.
 */
export function picker(model, samples, { canDraw, onimage, onerror, start = 0, legend = "Where the image comes from" }) {
  const pictures = samples.filter((sample) => sample.file);
  const small = isSmall(model);
  const ways = [pictures.length && ["samples", "Samples"], canDraw && ["draw", "Draw"], ["upload", "Upload"]].filter(Boolean);
  const chosen = fresh(onimage);
  const upload = uploads(chosen, onerror);
  const pages = {
    samples: () => sampleGrid(model.name, pictures, small, start, chosen, onerror),
    upload: () => dropZone(upload, canDraw),
    draw: () => drawing(model, chosen),
  };
  const body = el("div.picker-body");
  const open = (way) => body.replaceChildren(pages[way]());
  const node = el("div.picker", {}, choice(legend, ways, ways[0][0], open), body);
  takeDrops(node, upload.take);
  open(ways[0][0]);
  return node;
}

export const isSmall = (model) => Boolean(model.image?.height && model.image.height <= 64);

/** Frees the address of the image before, once no answer can show it any more. */
function fresh(onimage) {
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
    el("p.hint", {}, "From the test set: the model has not seen them in training."));
}

// --- files -------------------------------------------------------------------------------------

/** The user's files: `take(file)` asks about one, `invert(on)` asks again with the colours turned round. */
function uploads(onimage, onerror) {
  let file = null;
  let inverted = false;
  const about = el("p.file", { hidden: true });
  const ask = async () => {
    const blob = inverted ? await negative(file) : file;
    const name = inverted ? `inverted-${stem(file.name)}.png` : file.name || "image.png";
    const url = URL.createObjectURL(blob);
    about.hidden = false;
    about.replaceChildren(el("span", {}, name), inverted || !file.name ? el("a", { href: url, download: name }, "Save it, for the code below") : "");
    onimage({ blob, source: { file: name, type: blob.type }, url });
  };
  const guarded = () => ask().catch(() => onerror(new Error(`${file.name} is not an image that this browser can read.`)));
  return {
    about,
    inverted: () => inverted,
    invert: (on) => { inverted = on; if (file) guarded(); },
    take: (given) => {
      if (!TYPES.includes(given.type)) return onerror(new Error(`${given.name} is ${given.type || "of no known type"}; PNG, JPEG or WebP is wanted.`));
      if (given.size > LARGEST) return onerror(new Error(`${given.name} has ${(given.size / 2 ** 20).toFixed(1)} MiB; at most 16 MiB are taken.`));
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
  const image = context.getImageData(0, 0, canvas.width, canvas.height); // Safari had no context.filter for long
  for (let i = 0; i < image.data.length; i++) if (i % 4 < 3) image.data[i] = 255 - image.data[i];
  context.putImageData(image, 0, 0);
  return new Promise((resolve) => { canvas.toBlob(resolve); });
}

function dropZone(upload, canInvert) {
  const id = `file-${++pickers}`;
  const input = el("input.unseen", { type: "file", accept: TYPES.join(","), id, onchange: () => input.files[0] && upload.take(input.files[0]) });
  return el("div", {}, input, el("label.drop", { htmlFor: id }, el("strong", {}, "Choose an image"),
    el("span", {}, "or drop it here, or paste it. PNG, JPEG or WebP, up to 16 MiB.")), upload.about,
  canInvert ? el("label.check", {}, el("input", { type: "checkbox", checked: upload.inverted(),
    onchange: (event) => upload.invert(event.target.checked) }), "Invert: the model was trained on light things on a dark ground") : "");
}

let paste = null; // the one picker that takes what is pasted: the newest

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
