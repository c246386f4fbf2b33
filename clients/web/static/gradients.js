// Panel: how each weight and each pixel changes the error of a drawn image, for networks with a signature `gradients`.

import { Panel } from "./panel.js";
import { el, slider } from "./dom.js";
import { isSmall, picker } from "./picker.js";

const KEY = "gradients";
const RAISES = [213, 94, 0];
const LOWERS = [0, 114, 178]; // colours that colour-blind readers can tell apart
const MOST_UNITS = 32;

/** Whether a model answers the gradients of an image and its class. */
export function hasGradients({ signatures, image }) {
  const { inputs, outputs } = signatures?.[KEY] ?? {};
  return Boolean(image?.height && inputs?.image && inputs?.target && outputs?.image_gradient && outputs?.weight_gradient1);
}

export function gradients(model, samples) {
  const panel = new Panel(model, { tall: true });
  const look = { unit: null }; // the unit that the user chose; else that of the largest δ
  let target = 0;
  let shown = null; // the pixels of the image that is on the page
  const classes = model.labels?.length ? model.labels : Array.from({ length: 10 }, (_, i) => `class ${i}`);
  const choose = el("select", { id: "target", onchange: () => { target = Number(choose.value); ask(); } }, ...classes.map((label, id) => el("option", { value: id }, label)));
  const ask = () => {
    if (!shown) return undefined;
    const body = { signature: KEY, inputs: { image: [shown], target: [target] } };
    return panel.ask({
      verb: "predict", body, stream: true, say: ({ outputs: { error: [error] } }) => `The error E is ${error.toFixed(4)}`,
      draw: ({ outputs }) => pictures(outputs, shown, look, classes[target]),
    });
  };
  const onimage = async (image) => {
    const label = image.sample?.label;
    if (label && classes.includes(label)) { target = classes.indexOf(label); choose.value = target; }
    try {
      shown = await pixels(image.url, model.image);
      ask();
    } catch (error) { panel.fail(error); }
  };
  const onempty = (words) => { shown = null; panel.clear(words); };
  const node = panel.frame(picker(model, samples, { canDraw: model.image.channels === 1 && isSmall(model), onimage, onempty, onerror: (error) => { shown = null; panel.fail(error); } }),
    el("div.field", {}, el("label.title", { htmlFor: "target" }, "It should be"), choose),
    el("p.hint", {}, "Back-propagation takes the error E from the outputs to the weights by the chain rule: ∂E/∂w of a weight of the first layer is the pixel it reads, times the δ of its unit."));
  return node;
}

/** The pixels of an image in the size that the model takes: [h][w][c], 0 to 1. */
async function pixels(url, { height, width, channels }) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const context = el("canvas", { width, height }).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const pixel = (at) => (channels === 1 ? [round((0.299 * data[at] + 0.587 * data[at + 1] + 0.114 * data[at + 2]) / 255)] : [0, 1, 2].map((i) => round(data[at + i] / 255)));
  return Array.from({ length: height }, (_, y) => Array.from({ length: width }, (__, x) => pixel(4 * (y * width + x))));
}

const round = (value) => Math.round(value * 1e4) / 1e4;

function pictures(outputs, image, look, wanted) {
  const [error, output] = [outputs.error[0], outputs.output[0]];
  const deltas = outputs.delta1[0];
  const units = Math.min(deltas.length, MOST_UNITS);
  const strongest = deltas.slice(0, units).reduce((best, delta, i) => (Math.abs(delta) > Math.abs(deltas[best]) ? i : best), 0);
  let shown = Math.min(look.unit ?? strongest, units - 1);
  const ofUnit = (unit) => outputs.weight_gradient1[0].map((row) => row.map((pixel) => sum(pixel.map((each) => each[unit]))));
  const place = el("div");
  const draw = () => place.replaceChildren(heat(ofUnit(shown), image, `∂E/∂w of unit ${shown + 1} of the first layer, δ = ${deltas[shown].toExponential(1)}`));
  const unit = slider("Unit", { id: "unit", min: 1, max: units, value: shown + 1, oninput: (value) => { shown = look.unit = value - 1; draw(); } });
  draw();
  return [
    el("p.answer", {}, `E = ${error.toFixed(4)}`),
    el("p.sure", {}, `½ Σ (O − t)², if it should be ${wanted}; its outputs O: ${output.map((each) => each.toFixed(2)).join(", ")}`),
    el("div.pair", {}, heat(outputs.image_gradient[0].map((row) => row.map(sum)), image, "∂E/∂x: how each pixel raises the error"), place),
    units > 1 ? unit.node : "",
    el("p.hint", {}, el("span.key-raises", {}, "■"), " more of it raises the error, ", el("span.key-lowers", {}, "■"), " more of it lowers it. The image lies beneath."),
  ];
}

const sum = (numbers) => numbers.reduce((all, each) => all + each, 0);

/** Signed numbers [h][w] as colours over the image; the strongest has the full colour. */
function heat(values, image, caption) {
  const [height, width] = [values.length, values[0].length];
  const most = Math.max(...values.flat().map(Math.abs), 1e-30);
  const canvas = el("canvas.pixels.heat", { width, height, role: "img", "aria-label": caption });
  const context = canvas.getContext("2d");
  const drawn = context.createImageData(width, height);
  values.flat().forEach((value, i) => {
    const grey = 90 * (sum(image[Math.floor(i / width)][i % width]) / image[0][0].length);
    const share = Math.sqrt(Math.abs(value) / most);
    const colour = value > 0 ? RAISES : LOWERS;
    drawn.data.set([0, 1, 2].map((part) => grey * (1 - share) + colour[part] * share).concat(255), 4 * i);
  });
  context.putImageData(drawn, 0, 0);
  return el("figure.plate", {}, canvas, el("figcaption", {}, caption));
}
