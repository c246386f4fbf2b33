// Parts of an answer that several panels show.

import { el, percent } from "./dom.js";

/** Rows of {label, probability}, as bars. */
export function bars(rows, truth) {
  return el("ol.bars", {}, ...rows.map(({ label, probability }) => {
    const fill = el("span.fill");
    fill.style.width = `${100 * probability}%`;
    return el(label === truth ? "li.true" : "li", {}, el("span.label", {}, label), el("span.track", { "aria-hidden": "true" }, fill),
      el("span.value", {}, percent(probability)));
  }));
}

/** The answer in large letters, its probability, and whether it is right if the truth is known. */
export function verdict(label, share, truth) {
  return el("div.verdict", {}, el("p.answer", {}, label), el("p.sure", {}, `${percent(share)} sure`), right(label, truth));
}

function right(label, truth) {
  if (truth === undefined || truth === null) return null;
  return label === truth ? el("p.truth.right", {}, "Right: it is ", el("b", {}, truth))
    : el("p.truth.wrong", {}, "Wrong: it is ", el("b", {}, truth));
}

/** A picture with a caption. */
export function plate(src, alt, caption, small) {
  const image = el(small ? "img.pixels" : "img", { src, alt });
  return el("figure.plate", {}, image, el("figcaption", {}, caption));
}

/** Lets the browser save a Blob. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  el("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000); // the browser reads the Blob after the click
}

/** Body and query of a request about an image: a sample by its name, any other by its bytes. */
export function imageRequest(image, options = {}) {
  if (image.sample) return { body: { sample: image.sample.file, ...options } };
  return { body: image.blob, query: new URLSearchParams(options).toString() };
}
