// Where an image comes from: real samples, a file (chosen, dropped or pasted), or a drawing.

import { sampleUrl } from "./api.js";
import { choice, el } from "./dom.js";

const TYPES = ["image/png", "image/jpeg", "image/webp"];
const SIDE = 280; // pixels of the canvas; the model resizes
const BRUSH = 20;

/**
 * A picker of images. Calls `onimage({blob, source, url, sample})` for each image that the user settles on:
 * `source` names it for curl, `url` shows it, `sample` is the entry of the samples when it is one.
 */
export function picker(name, samples, { canDraw, large, onimage, onerror }) {
  const pictures = samples.filter((sample) => sample.file);
  const ways = [pictures.length && ["samples", "Samples"], ["upload", "Upload"], canDraw && ["draw", "Draw"]];
  const upload = { ...uploads(onimage, onerror), canInvert: canDraw };
  const pages = {
    samples: () => sampleGrid(name, pictures, large, onimage, onerror),
    upload: () => dropZone(upload),
    draw: () => drawing(onimage),
  };
  const body = el("div.picker-body");
  const open = (way) => body.replaceChildren(pages[way]());
  const first = pictures.length ? "samples" : canDraw ? "draw" : "upload";
  const node = el("div.picker", {}, choice("Where the image comes from", ways.filter(Boolean), first, open), body);
  takeDrops(node, upload.take);
  open(first);
  return node;
}

async function useSample(name, sample, onimage, onerror) {
  const path = sampleUrl(name, sample.file);
  try {
    const response = await fetch(path);
    if (!response.ok) throw new Error(`The sample ${sample.file} is not there (${response.status}).`);
    const blob = await response.blob();
    onimage({ blob, source: { sample: path }, url: path, sample });
  } catch (error) {
    onerror(error);
  }
}

function sampleGrid(name, samples, large, onimage, onerror) {
  const buttons = samples.map((sample, number) => {
    const about = sample.label ?? `Sample ${number + 1}`;
    const button = el("button.sample", { type: "button", title: about, "aria-label": about, onclick: () => {
      for (const other of buttons) other.setAttribute("aria-pressed", other === button);
      useSample(name, sample, onimage, onerror);
    } }, el("img", { src: sampleUrl(name, sample.file), alt: "", loading: "lazy" }));
    button.setAttribute("aria-pressed", "false");
    return button;
  });
  queueMicrotask(() => buttons[0]?.click());
  return el("div", {}, el(large ? "div.samples.large" : "div.samples", {}, ...buttons),
    el("p.hint", {}, "Real images from the test set, which the model has not seen in training."));
}

/** The user's files: `take(file)` asks about one, `invert(on)` asks again with the colours turned round. */
function uploads(onimage, onerror) {
  let file = null;
  let inverted = false;
  const ask = async () => {
    if (!file) return;
    const blob = inverted ? await negative(file) : file;
    onimage({ blob, source: { file: file.name || "image.png" }, url: URL.createObjectURL(blob) });
  };
  const guarded = () => ask().catch(() => onerror(new Error(`${file.name} is not an image that this browser can read.`)));
  return {
    invert: (on) => { inverted = on; guarded(); },
    inverted: () => inverted,
    take: (given) => {
      if (!TYPES.includes(given.type)) return onerror(new Error(`${given.name} is ${given.type || "of no known type"}; PNG, JPEG or WebP is wanted.`));
      file = given;
      return guarded();
    },
  };
}

async function negative(file) {
  const bitmap = await createImageBitmap(file);
  const canvas = el("canvas", { width: bitmap.width, height: bitmap.height });
  const context = canvas.getContext("2d");
  context.filter = "invert(1)";
  context.drawImage(bitmap, 0, 0);
  return new Promise((resolve) => { canvas.toBlob(resolve); });
}

function dropZone(upload) {
  const input = el("input.unseen", { type: "file", accept: TYPES.join(","), id: "file",
    onchange: () => input.files[0] && upload.take(input.files[0]) });
  const invert = el("label.check", {}, el("input", { type: "checkbox", checked: upload.inverted(),
    onchange: (event) => upload.invert(event.target.checked) }), "Invert: this model knows light things on a dark ground");
  return el("div", {}, input, el("label.drop", { htmlFor: "file" },
    el("strong", {}, "Choose an image"), el("span", {}, "or drop it here, or paste it. PNG, JPEG or WebP, up to 16 MB.")),
  upload.canInvert ? invert : "");
}

let paste = null; // the one panel that takes what is pasted

function takeDrops(node, take) {
  const use = (files) => files?.[0] && take(files[0]);
  node.addEventListener("dragover", (event) => { event.preventDefault(); node.classList.add("over"); });
  node.addEventListener("dragleave", () => node.classList.remove("over"));
  node.addEventListener("drop", (event) => {
    event.preventDefault();
    node.classList.remove("over");
    use(event.dataTransfer.files);
  });
  if (paste) document.removeEventListener("paste", paste);
  paste = (event) => node.isConnected && use(event.clipboardData.files);
  document.addEventListener("paste", paste);
}

function drawing(onimage) {
  const canvas = el("canvas.draw", { width: SIDE, height: SIDE, tabIndex: 0,
    "aria-label": "Canvas: draw with mouse, finger or pen, white on black" });
  const context = canvas.getContext("2d");
  let last = null;
  const clear = () => { context.fillStyle = "black"; context.fillRect(0, 0, SIDE, SIDE); };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  };
  const stroke = (event) => {
    const point = at(event);
    context.strokeStyle = "white";
    context.lineWidth = BRUSH;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...(last ?? point));
    context.lineTo(...point);
    context.stroke();
    last = point;
  };
  const done = () => {
    if (!last) return;
    last = null;
    canvas.toBlob((blob) => onimage({ blob, source: { file: "drawing.png" }, url: URL.createObjectURL(blob) }));
  };
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); stroke(event); });
  canvas.addEventListener("pointermove", (event) => { if (last) for (const each of event.getCoalescedEvents?.() ?? [event]) stroke(each); });
  canvas.addEventListener("pointerup", done);
  canvas.addEventListener("pointercancel", done);
  clear();
  return el("div", {}, canvas, el("div.row", {},
    el("button.quiet", { type: "button", onclick: clear }, "Clear"),
    el("p.hint", {}, "White on black, as the training images are. The answer comes with each stroke.")));
}
