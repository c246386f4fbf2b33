// Images of the user's: read, made smaller and turned into a format that the gateway takes.

import { el } from "./dom.js";

const SENT = ["image/png", "image/jpeg", "image/webp"]; // the gateway reads these
const LONGEST = 1600; // pixels of the longer side; networks look at fewer, and a phone's photograph takes seconds to send
const QUALITY = 0.92;

/**
 * The image as it is sent: {blob, width, height, note}. A photograph is made smaller; GIF, HEIC and whatever else this
 * browser can read becomes PNG. `note` says what was done. Rejects if the browser cannot read it.
 */
export async function prepared(file) {
  if (SENT.includes(file.type) && file.size <= 300000) return { blob: file, note: "" };
  const bitmap = await createImageBitmap(file);
  const { width, height } = bitmap;
  const share = Math.min(1, LONGEST / Math.max(width, height));
  if (share === 1 && SENT.includes(file.type)) return { blob: file, note: "" };
  const canvas = el("canvas", { width: Math.round(width * share), height: Math.round(height * share) });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const kind = file.type === "image/jpeg" ? "image/jpeg" : "image/png";
  const blob = await new Promise((resolve) => { canvas.toBlob(resolve, kind, QUALITY); });
  const what = share < 1 ? `made smaller: ${width}×${height} pixels became ${canvas.width}×${canvas.height}` : `sent as PNG: the gateway does not read ${file.type || "this type"}`;
  return { blob, note: what };
}

export const canFilm = () => Boolean(navigator.mediaDevices?.getUserMedia); // only over https and on localhost

/** The camera's picture with a button that takes it: calls `take(blob)`, or `refuse(words)` if there is no camera. */
export function camera(take, refuse) {
  const video = el("video.film", { autoplay: true, muted: true, playsInline: true, "aria-label": "The camera's picture" });
  const shoot = el("button.main", { type: "button", disabled: true, onclick: () => {
    const canvas = el("canvas", { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => take(blob), "image/jpeg", QUALITY);
  } }, "Take the picture");
  const node = el("div", {}, video, shoot, el("p.hint", {}, "The picture is sent to this gateway when you take it, and is not kept."));
  navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } }).then((stream) => {
    const stop = () => stream.getTracks().forEach((track) => track.stop());
    if (!node.isConnected) return stop(); // another way was chosen while the browser asked
    video.srcObject = stream;
    video.addEventListener("loadeddata", () => { shoot.disabled = false; });
    const gone = setInterval(() => { // an element does not hear that it left the page
      if (node.isConnected) return;
      clearInterval(gone);
      stop();
    }, 500);
  }).catch((error) => refuse(error.name === "NotAllowedError" ? "The browser was not allowed to use the camera; allow it, or upload an image." : "No camera was found; upload an image."));
  return node;
}
