// Panels: the class of an image, and an auto-encoder's copy of it.

import { dataUrl } from "./api.js";
import { Panel } from "./panel.js";
import { el, percent } from "./dom.js";
import { numberForm, numericInput } from "./numbers.js";
import { bars, imageRequest, plate, verdict } from "./parts.js";
import { isSmall, picker } from "./picker.js";
import { image as imageCode, json as jsonCode, literal } from "./snippets.js";

const SHOWN = 5;

export function classify(model, samples) {
  if (!model.image) return classifyNumbers(model, samples);
  const panel = new Panel(model);
  const small = isSmall(model);
  const draw = (image) => ({ results: [answer] }) => {
    const { seen } = answer;
    const truth = image.sample?.label;
    return [
      el("div.judged", {}, verdict(answer.label, answer.probability, truth), el("div.plates", {},
        plate(image.url, "The image that was sent", "Sent", small),
        seen && plate(dataUrl(seen.image), "The image as the network sees it", `Seen, ${seen.width}×${seen.height}`, true))),
      bars(answer.top.slice(0, SHOWN), truth),
    ];
  };
  const onimage = (image) => panel.ask({
    verb: "classify", ...imageRequest(image, { seen: true }), stream: image.live, draw: draw(image),
    say: ({ results: [answer] }) => `${answer.label}, ${percent(answer.probability)} sure`,
    code: () => imageCode(model.name, "classify", image.source, model.signatures.serving_bytes && "serving_bytes", (given) => [
      `answer = client.classify(${JSON.stringify(model.name)}, ${given})`, "print(answer.label, answer.probability)"]),
  });
  return panel.frame(picker(model, samples, { canDraw: drawable(model), onimage, onempty: (words) => panel.clear(words), onerror: (error) => panel.fail(error) }));
}

/** The class of a row of numbers. */
function classifyNumbers(model, samples) {
  const panel = new Panel(model);
  const { key, input, width } = numericInput(model);
  const onvalues = (values) => panel.ask({
    verb: "classify", body: { x: values }, stream: true,
    draw: ({ results: [answer] }) => [verdict(answer.label, answer.probability), bars(answer.top.slice(0, SHOWN))],
    say: ({ results: [answer] }) => `${answer.label}, ${percent(answer.probability)} sure`,
    code: () => jsonCode(model.name, "classify", { x: values }, { signature_name: key, instances: [{ [input]: values }] }, [
      `answer = client.predict(${literal(model.name)}, {${literal(input)}: [${literal(values)}]})`, "print(answer)"]),
  });
  const form = numberForm(model, samples, { width, onvalues, onempty: (words) => panel.clear(words) });
  queueMicrotask(form.ask);
  return panel.frame(...form.nodes);
}

export function reconstruct(model, samples) {
  const panel = new Panel(model);
  const small = isSmall(model);
  const draw = (image) => ({ results: [answer] }) => [
    el("div.pair", {}, plate(image.url, "The image that was sent", "Sent", small),
      plate(dataUrl(answer.image), "Its reconstruction", "Reconstructed", small)),
    answer.code && el("p.hint", {}, `The network compresses the image to ${answer.code.length} numbers, its code:`),
    answer.code && codeBars(answer.code),
  ];
  const onimage = (image) => panel.ask({
    verb: "reconstruct", ...imageRequest(image, model.latent ? { with_codes: true } : {}), stream: image.live, draw: draw(image),
    say: () => "Reconstructed",
    code: () => imageCode(model.name, "reconstruct", image.source, model.signatures.reconstruct_bytes && "reconstruct_bytes", (given) => [
      `copy = client.reconstruct(${JSON.stringify(model.name)}, ${given})`, "print(copy.shape, copy.mean())"]),
  });
  return panel.frame(picker(model, samples, { canDraw: drawable(model), onimage, onempty: (words) => panel.clear(words), onerror: (error) => panel.fail(error) }));
}

/** The numbers of a code as bars around zero. The scale has at least ±2, the usual range of a code, so that small codes look small. */
export function codeBars(code) {
  const reach = Math.max(2, ...code.map(Math.abs));
  return el("ol.numbers", { "aria-label": "The code" }, ...code.slice(0, 32).map((value) => {
    const fill = el(value < 0 ? "span.fill.below" : "span.fill");
    fill.style.height = `${(50 * Math.abs(value)) / reach}%`;
    return el("li", {}, el("span.pole", { "aria-hidden": "true" }, fill), el("span.value", {}, value.toFixed(1)));
  }));
}

const drawable = (model) => model.image?.channels === 1 && isSmall(model);
