// Panel: the class of each pixel, as a layer over the image.

import { file, sampleUrl } from "./api.js";
import { Panel } from "./panel.js";
import { choice, count, el, icon, percent, slider } from "./dom.js";
import { imageRequest, save } from "./parts.js";
import { isSmall, picker } from "./picker.js";
import { classIds, layer, png, rgb } from "./pixels.js";
import { image as imageCode } from "./snippets.js";

const MISSED = [86, 180, 233]; // only in the truth
const FALSE = [213, 94, 0]; // only in the mask
const swatch = (color) => {
  const node = el("span.swatch");
  if (color) node.style.background = color;
  return node;
};

export function segment(model, samples) {
  const panel = new Panel(model, { tall: true });
  const look = { opacity: 0.55, layer: "mask" }; // what the user chose stays for the next image
  const onimage = async (image) => {
    const truth = image.sample?.mask ? file(sampleUrl(model.name, image.sample.mask)).then(classIds).catch(() => null) : null;
    let known = null;
    panel.ask({
      verb: "segment", ...imageRequest(image),
      draw: ({ results: [answer] }) => {
        const node = el("div.stack");
        Promise.all([classIds(png(answer.mask)), truth]).then(([mask, ids]) => {
          known = ids && ids.ids.length === mask.ids.length ? ids : null;
          node.replaceChildren(...shown(model, image, answer, mask, known, look));
        });
        return node;
      },
      say: ({ results: [answer] }) => sentence(answer),
      code: () => imageCode(model.name, "segment", image.source, model.signatures.serving_bytes && "serving_bytes", (given) => [
        `answer = client.segment(${JSON.stringify(model.name)}, ${given})`, "print(answer.class_map.shape, answer.class_map.mean())"]),
    });
  };
  return panel.frame(picker(model, samples, { canDraw: false, onimage, onempty: (words) => panel.clear(words), onerror: (error) => panel.fail(error) }));
}

function sentence({ classes, iou }) {
  const parts = classes.map(({ label, share }) => `${label} ${percent(share)}`).join(", ");
  return iou ? `${parts}; IoU ${percent(iou.mean)}` : parts;
}

function shown(model, image, answer, mask, truth, look) {
  const colors = new Map(answer.classes.map(({ class_id: id, color }) => [id, rgb(color)]));
  const most = colors.get(Math.max(...colors.keys())) ?? MISSED;
  const colored = (ids) => (i) => (ids[i] ? colors.get(ids[i]) ?? most : null);
  const layers = { mask: () => layer(mask, colored(mask.ids)) };
  if (truth) {
    layers.truth = () => layer(mask, colored(truth.ids));
    layers.difference = () => layer(mask, (i) => (mask.ids[i] === truth.ids[i] ? null : mask.ids[i] ? FALSE : MISSED));
  }
  const stage = el("div.stage", {}, el(isSmall(model) || mask.width <= 128 ? "img.pixels" : "img", { src: image.url, alt: "The image that was sent" }));
  const legend = el("ul.legend");
  const draw = () => {
    stage.querySelector(".layer")?.remove();
    const canvas = layers[look.layer]();
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${NAMES[look.layer]}: ${sentence(answer)}`);
    canvas.style.opacity = look.opacity;
    stage.append(canvas);
    legend.replaceChildren(...rows(answer, look.layer));
  };
  if (!layers[look.layer]) look.layer = "mask";
  draw();
  const opacity = slider("Opacity", { id: "opacity", min: 0, max: 1, step: 0.01, value: look.opacity, show: percent0,
    oninput: (value) => { look.opacity = value; stage.querySelector(".layer").style.opacity = value; } });
  return [
    truth ? choice("What lies over the image", Object.keys(layers).map((key) => [key, NAMES[key]]), look.layer, (key) => { look.layer = key; draw(); }) : "",
    stage, opacity.node, legend, answer.iou ? overlap(answer.iou) : "",
    el("div.row.tight.wrap", {}, el("button", { type: "button", onclick: () => save(png(answer.mask), `${model.name}-mask.png`) }, icon("download"), "Download the mask"),
      el("span.hint", {}, `${count(answer.width)} × ${count(answer.height)} pixels; the value of a pixel is its class id`)),
  ].filter(Boolean);
}

const NAMES = { mask: "Mask", truth: "Truth", difference: "Difference" };
const percent0 = (share) => `${Math.round(100 * share)} %`;

function rows(answer, shownLayer) {
  if (shownLayer === "difference") {
    return [["Only in the mask", FALSE], ["Only in the truth", MISSED]].map(([words, color]) =>
      el("li", {}, swatch(`rgb(${color})`), el("span.label", {}, words)));
  }
  return answer.classes.map(({ class_id: id, label, color, share }) => // class 0, the background, has no colour: it is clear over the image too
    el("li", {}, swatch(id > 0 && color), el("span.label", {}, label), el("span.value", {}, percent(share))));
}

function overlap({ mean, classes }) {
  return el("div.stack.tight", {}, el("h3", {}, "Overlap with the truth (IoU)"), el("dl.figures", {},
    ...[...classes.map(({ label, iou }) => [label, iou]), classes.length > 2 && ["mean", mean]].filter(Boolean).map(([term, value]) =>
      el("div", {}, el("dt", {}, term), el("dd", {}, value === null ? "none" : percent(value))))));
}
