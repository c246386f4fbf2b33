// Panel of every model: any signature, its inputs as JSON, and all its outputs. The form is made from the signatures.

import { base64, file, sampleUrl } from "./api.js";
import { Panel } from "./panel.js";
import { choice, count, el, icon, percent } from "./dom.js";
import { bars, save } from "./parts.js";
import { json as jsonCode, literal } from "./snippets.js";

const TYPING_MS = 300;
const FREE = 8; // length of a free axis in an example
const FREE_IMAGE = 32;
const LARGE = 1024; // values of an example that are written out; more are written as a shape and what fills it
const MOST_SHOWN = 6000; // characters of an output on the page
const MOST_CODE = 4000; // characters of inputs in the code
const MOST_CLASSES = 10;
const MOST_IMAGES = 16;
const FEW = 4; // signatures that stand side by side
// A black image of one pixel.
const PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==";

export const shapeText = ({ dtype, shape }) => `${dtype} ${shape ? `[${shape.map((axis) => axis ?? "?").join(", ")}]` : "of any shape"}`;

export function tryIt(model, samples) {
  const panel = new Panel(model, { tall: true });
  const names = Object.keys(model.signatures).sort((a, b) => (b === "serving_default") - (a === "serving_default"));
  let [chosen, timer, fields] = [names[0], 0, []];
  const form = el("div.stack.wide");
  const ask = async () => {
    clearTimeout(timer);
    const inputs = {};
    for (const { name, text } of fields) {
      try {
        inputs[name] = expanded(JSON.parse(text.value));
      } catch (error) {
        return panel.clear(error instanceof SyntaxError ? `${name}: got text that is not JSON; expected a number, "a text", or lists of them.` : `${name}: ${error.message}`);
      }
    }
    const body = { signature: chosen, inputs };
    const size = fields.reduce((sum, { text }) => sum + text.value.length, 0);
    return panel.ask({
      verb: "predict", body, stream: true, draw: (answer) => outputs(model, answer),
      say: ({ outputs: found }) => `Got ${Object.keys(found).join(", ")}`,
      code: size > MOST_CODE || fields.some(({ text }) => text.value.includes("\"fill\"")) ? null : () => jsonCode(model.name, "predict", body, { signature_name: chosen, inputs }, [
        `answer = client.predict(${literal(model.name)}, ${pythonOf(inputs)}, signature=${literal(chosen)})`,
        "for name, values in answer.items():", "    print(name, values.dtype, values.shape, values.ravel()[:10].tolist())"], null, needsBase64(inputs) ? ["import base64"] : []),
    });
  };
  const later = () => { clearTimeout(timer); timer = setTimeout(ask, TYPING_MS); };
  const open = async (name) => {
    chosen = name;
    panel.clear("The answer appears here.");
    const declared = Object.entries(model.signatures[name].inputs ?? {});
    const examples = await Promise.all(declared.map(([input, info]) => example(model, samples, input, info)));
    if (chosen !== name) return; // another signature was chosen while a sample was fetched
    fields = declared.map(([input, info], i) => ({ name: input, info, text: el("textarea.json", { id: `in-${i}`, rows: 3, spellcheck: false, value: pretty(examples[i]), oninput: later }) }));
    form.replaceChildren(...fields.map(({ name: input, info, text }) => el("div.field", {}, el("label.title", { htmlFor: text.id }, input, " ", el("code.soft", {}, shapeText(info))), text)),
      fields.length ? "" : el("p.hint", {}, "This signature takes no inputs."),
      el("p.hint", {}, "Each input is JSON: a number, a “text”, or nested lists. Bytes are ", el("code", {}, '{"b64": "…"}'), ", a large tensor ", el("code", {}, '{"shape": [1, 64], "fill": 0}'), ". The answer follows as you type."));
    for (const { text } of fields) fit(text);
    if (fields.length) ask();
  };
  const select = names.length <= FEW ? choice("Signature", names.map((name) => [name, name]), chosen, open)
    : el("div.field", {}, el("label.title", { htmlFor: "signature" }, "Signature"), el("select", { id: "signature", onchange: (event) => open(event.target.value) }, ...names.map((name) => el("option", { value: name }, name))));
  queueMicrotask(() => open(chosen));
  return panel.frame(names.length > 1 ? select : el("p.title", {}, `Signature ${chosen}`), form);
}

const fit = (text) => { text.rows = Math.min(Math.max(text.value.split("\n").length, 2), 10); };

// --- inputs ------------------------------------------------------------------------------------

/** A value that the signature takes: from the samples of the test set if one fits, else made from dtype and shape. */
async function example(model, samples, name, { dtype, shape }) {
  if (dtype === "string") {
    const text = samples.find((sample) => sample.text)?.text;
    const picture = samples.find((sample) => sample.file);
    if (!/image|bytes/.test(name) || !shape || shape.length > 1) return filled(shape ?? [null], text ?? "a text", FREE);
    if (!picture) return filled(shape, { b64: PIXEL }, 1);
    const blob = await file(sampleUrl(model.name, picture.file)).catch(() => null);
    return filled(shape, { b64: blob ? await base64(blob) : PIXEL }, 1);
  }
  const row = samples.find((sample) => sample.x && shape?.length === 2 && sample.x.length === shape[1])?.x;
  if (row) return [row];
  const [free, zero] = [shape?.length === 4 ? FREE_IMAGE : FREE, dtype === "bool" ? false : dtype.includes("int") ? 1 : 0.5];
  return filled(shape ?? [null], zero, free);
}

function filled(shape, value, free) {
  const axes = shape.map((axis, i) => axis ?? (i ? free : 1));
  const size = axes.reduce((product, axis) => product * axis, 1);
  if (size > LARGE) return { shape: axes, fill: value };
  return axes.reduceRight((inner, axis) => Array.from({ length: axis }, () => inner), value);
}

/** A value in which `{shape, fill}` became nested lists. */
function expanded(value) {
  if (!value || typeof value !== "object" || Array.isArray(value) || !("shape" in value)) return value;
  const { shape, fill = 0 } = value;
  if (!Array.isArray(shape) || shape.some((axis) => !Number.isInteger(axis) || axis < 0) || shape.reduce((a, b) => a * b, 1) > 5e6) throw new Error("got a shape that cannot be filled; expected up to 5,000,000 values.");
  return shape.reduceRight((inner, axis) => Array(axis).fill(inner), fill);
}

/** JSON with each innermost list on a line of its own. */
function pretty(value, indent = "") {
  if (!Array.isArray(value) || !value.some(Array.isArray)) return JSON.stringify(value)?.replaceAll(",", ", ") ?? "null";
  return `[\n${value.map((item) => `${indent} ${pretty(item, `${indent} `)}`).join(",\n")}\n${indent}]`;
}

const needsBase64 = (value) => JSON.stringify(value).includes('"b64"');

/** A value of JSON as Python writes it, bytes decoded. */
function pythonOf(value) {
  if (Array.isArray(value)) return `[${value.map(pythonOf).join(", ")}]`;
  if (value === true || value === false) return value ? "True" : "False";
  if (value && typeof value === "object") {
    if ("b64" in value) return `base64.b64decode(${literal(value.b64)})`;
    return `{${Object.entries(value).map(([key, item]) => `${literal(key)}: ${pythonOf(item)}`).join(", ")}}`;
  }
  return value === null ? "None" : literal(value);
}

// --- outputs -----------------------------------------------------------------------------------

function outputs(model, answer) {
  const blocks = Object.entries(answer.outputs).map(([name, value]) => {
    const info = answer.tensors[name];
    const text = pretty(value);
    return el("section.output", {}, el("h3", {}, name, " ", el("code.soft", {}, shapeText(info))), drawn(model, value, info),
      el("pre", { tabIndex: 0, role: "region", "aria-label": `${name} as JSON` }, el("code", {}, text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}…` : text)),
      text.length > MOST_SHOWN ? el("p.hint", {}, `The first ${count(MOST_SHOWN)} of ${count(text.length)} characters; the file below has all.`) : "");
  });
  const take = () => save(new Blob([JSON.stringify(answer, null, 1)], { type: "application/json" }), `${model.name}-answer.json`);
  return [...blocks, el("div", {}, el("button", { type: "button", onclick: take }, icon("download"), "Download the answer"))];
}

/** Shares as bars, images as pictures; nothing for other tensors. */
function drawn(model, value, { dtype, shape }) {
  if (dtype.startsWith("float") && shape.length === 2 && shape[0] && shape[1] > 1 && isShares(value[0])) {
    const labels = model.labels?.length === shape[1] ? model.labels : null;
    const rows = value[0].map((probability, i) => ({ label: labels?.[i] ?? `class ${i}`, probability })).sort((a, b) => b.probability - a.probability);
    return el("div.stack.tight", {}, shape[0] > 1 ? el("p.hint", {}, "The first row:") : "", bars(rows.slice(0, MOST_CLASSES)),
      rows.length > MOST_CLASSES ? el("p.hint", {}, `The first ${MOST_CLASSES} of ${count(rows.length)} classes; the first has ${percent(rows[0].probability)}.`) : "");
  }
  if (["uint8", "float32"].includes(dtype) && shape.length === 4 && [1, 3].includes(shape[3]) && shape[1] > 1 && shape[2] > 1 && shape[1] * shape[2] <= 1e6) {
    return el("div.thumbs", {}, ...value.slice(0, MOST_IMAGES).map((image) => canvas(image, dtype === "uint8" ? 1 : 255)));
  }
  const first = dtype === "string" ? [value].flat(Infinity)[0]?.b64 : null;
  return first?.startsWith("iVBOR") ? el("div.thumbs", {}, el("img.pixels", { src: `data:image/png;base64,${first}`, alt: "The first of these images" })) : "";
}

function isShares(row) {
  const sum = row.reduce((all, value) => all + value, 0);
  return row.every((value) => value !== null && value >= -1e-3) && Math.abs(sum - 1) < 1e-3;
}

function canvas(image, scale) {
  const [height, width] = [image.length, image[0].length];
  const node = el("canvas.pixels", { width, height, role: "img", "aria-label": "One of these images" });
  const context = node.getContext("2d");
  const pixels = context.createImageData(width, height);
  image.flat().forEach((pixel, i) => pixels.data.set([pixel[0], pixel[pixel.length > 1 ? 1 : 0], pixel[pixel.length > 1 ? 2 : 0]].map((level) => level * scale).concat(255), 4 * i));
  context.putImageData(pixels, 0, 0);
  return node;
}
