// A canvas to draw on, light on dark as the training images are: pen, eraser, undo, clear; by pointer or by keys.

import { choice, el, icon, slider } from "./dom.js";

const SIDE = 280; // pixels of the canvas; the model's own size is smaller
const LEAST_BRUSH = 8;
const MOST_BRUSH = 40;
const BRUSH = 20;
const STEP = 10; // pixels that an arrow key moves: one pixel of a 28×28 image
const MOST_UNDONE = 30;
const LIVE_MS = 120;
const KEYS = "Arrow keys move, Space puts the pen down or lifts it, E switches between pen and eraser, U undoes, Delete clears.";

/** The canvas with its tools. Calls `onimage({blob, source, url, live})` during and after a stroke, `onempty()` when it is blank. */
export function drawing(model, onimage, onempty) {
  const canvas = el("canvas.draw", { width: SIDE, height: SIDE, tabIndex: 0 });
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "Drawing");
  canvas.setAttribute("aria-describedby", "draw-keys");
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const cursor = el("span.cursor", { hidden: true });
  const said = el("span.unseen", { role: "status" });
  const save = el("a.button.quiet", { download: "drawing.png", hidden: true }, icon("download"), "Save");
  const past = [];
  let [tool, brush, last, at, down, pending, published] = ["pen", BRUSH, null, [SIDE / 2, SIDE / 2], false, 0, 0];

  const isBlank = () => !new Uint32Array(context.getImageData(0, 0, SIDE, SIDE).data.buffer).some((pixel) => pixel & 0xffffff);
  const publish = (live) => {
    const mine = ++published;
    save.hidden = isBlank();
    if (save.hidden) return onempty(); // a classifier names a class for a black image too
    canvas.toBlob((blob) => {
      if (mine !== published || !canvas.isConnected) return; // the drawing has changed while this one was encoded
      const url = URL.createObjectURL(blob);
      save.href = url;
      onimage({ blob, source: { file: "drawing.png", type: "image/png" }, url, live });
    });
  };
  const soon = () => { pending ||= setTimeout(() => { pending = 0; publish(true); }, LIVE_MS); };
  const now = () => { clearTimeout(pending); pending = 0; publish(false); };
  const keep = () => {
    past.push(context.getImageData(0, 0, SIDE, SIDE));
    if (past.length > MOST_UNDONE) past.shift();
  };
  const black = () => { context.fillStyle = "black"; context.fillRect(0, 0, SIDE, SIDE); };
  const clear = () => { keep(); black(); now(); };
  const undo = () => {
    if (!past.length) return;
    context.putImageData(past.pop(), 0, 0);
    now();
  };
  const line = (from, to) => {
    context.strokeStyle = tool === "pen" ? "white" : "black";
    context.lineWidth = tool === "pen" ? brush : 1.6 * brush;
    context.lineCap = context.lineJoin = "round";
    context.beginPath();
    context.moveTo(...from);
    context.lineTo(to[0] + 0.01, to[1]); // browsers draw nothing for a line of length 0
    context.stroke();
  };

  // pointer
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * SIDE, ((event.clientY - box.top) / box.height) * SIDE];
  };
  const stroke = (event) => {
    const point = place(event);
    line(last ?? point, point);
    last = point;
  };
  const done = () => {
    if (!last) return;
    last = null;
    now();
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 0) return;
    canvas.setPointerCapture(event.pointerId); // a stroke that leaves the canvas goes on
    cursor.hidden = true;
    keep();
    stroke(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!last) return;
    // Browsers send one event a frame; the points between are in the coalesced events, and curves need them.
    for (const each of event.getCoalescedEvents?.() ?? [event]) stroke(each);
    soon();
  });
  canvas.addEventListener("pointerup", done);
  canvas.addEventListener("pointercancel", done);

  // keys
  const show = () => {
    cursor.hidden = false;
    cursor.classList.toggle("down", down);
    cursor.style.left = `${(100 * at[0]) / SIDE}%`;
    cursor.style.top = `${(100 * at[1]) / SIDE}%`;
  };
  const lift = () => { if (down) { down = false; now(); } };
  const move = (dx, dy) => {
    const to = [at[0] + dx, at[1] + dy].map((value) => Math.min(Math.max(value, 0), SIDE));
    if (down) { line(at, to); soon(); }
    at = to;
  };
  const use = (next) => {
    tool = next;
    said.textContent = tool === "pen" ? "Pen" : "Eraser";
    for (const input of tools.querySelectorAll("input")) input.checked = input.value === tool;
  };
  const press = { // by event.key
    ArrowLeft: () => move(-STEP, 0), ArrowRight: () => move(STEP, 0), ArrowUp: () => move(0, -STEP), ArrowDown: () => move(0, STEP),
    " ": () => {
      if (down) lift();
      else { keep(); down = true; line(at, at); soon(); }
      said.textContent = `${tool === "pen" ? "Pen" : "Eraser"} ${down ? "down" : "up"}`;
    },
    e: () => use(tool === "pen" ? "eraser" : "pen"), u: undo, z: undo, Delete: clear, Backspace: clear,
  };
  canvas.addEventListener("keydown", (event) => {
    const action = press[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action || event.altKey || event.metaKey || (event.ctrlKey && event.key !== "z")) return;
    event.preventDefault();
    action();
    show();
  });
  canvas.addEventListener("focus", () => { if (canvas.matches(":focus-visible")) show(); });
  canvas.addEventListener("blur", () => { lift(); cursor.hidden = true; });

  const tools = choice("Tool", [["pen", "Pen"], ["eraser", "Eraser"]], tool, use);
  const width = slider("Width", { min: LEAST_BRUSH, max: MOST_BRUSH, value: brush, id: "brush", oninput: (value) => { brush = value; } });
  black();
  return el("div.drawing", {}, el("div.easel", {}, canvas, cursor), said,
    el("div.row.wrap.tight", {}, tools,
      el("button.quiet", { type: "button", onclick: undo }, icon("undo"), "Undo"),
      el("button.quiet", { type: "button", onclick: clear }, icon("clear"), "Clear"), save),
    width.node, model.data ? el("p.hint", {}, `${model.name} was trained on light shapes on a dark ground.`) : "",
    el("p.hint.keys", { id: "draw-keys" }, KEYS));
}
