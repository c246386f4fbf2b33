// Class maps: read from a grey PNG, and drawn as coloured layers.

import { el } from "./dom.js";

/** A grey PNG (a Blob) as {width, height, ids}: one class id a pixel. */
export async function classIds(blob) {
  // Colour management and premultiplied alpha would change the values, and the values are class ids.
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const { width, height } = bitmap;
  const context = el("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data } = context.getImageData(0, 0, width, height);
  return { width, height, ids: Uint8Array.from({ length: width * height }, (_, i) => data[4 * i]) };
}

/** A canvas of the size of a class map. `color(pixel number)` returns [red, green, blue], or null for a clear pixel. */
export function layer({ width, height }, color) {
  const canvas = el("canvas.layer", { width, height });
  const context = canvas.getContext("2d");
  const pixels = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const shade = color(i);
    if (shade) pixels.data.set([...shade, 255], 4 * i);
  }
  context.putImageData(pixels, 0, 0);
  return canvas;
}

/** `#rrggbb` -> [red, green, blue]. */
export const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** base64 of a PNG -> Blob. */
export const png = (text) => new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))], { type: "image/png" });
