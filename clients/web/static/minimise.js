// Panel: gradient descent to a minimum, over the function's contour lines.

import { Panel } from "./panel.js";
import { dataUrl } from "./api.js";
import { el, figure } from "./dom.js";
import { json as jsonCode, literal } from "./snippets.js";

const AXES = ["x", "y"];

export function minimise(model, samples) {
  const panel = new Panel(model, { tall: true });
  const first = samples.find((sample) => sample.x?.length === AXES.length)?.x ?? [1, 0];
  const fields = first.map((value, i) => el("input", { type: "number", step: "any", id: `start-${AXES[i]}`, value: Number(value.toFixed(2)), oninput: () => ask() }));
  const ask = () => {
    const start = fields.map((field) => Number(field.value));
    if (fields.some((field) => field.value.trim() === "" || !Number.isFinite(Number(field.value)))) return panel.clear("Both fields must hold a number.");
    return panel.ask({
      verb: "minimise", body: { starts: [start] }, stream: true,
      say: ({ results: [found] }) => sentence(found),
      draw: ({ results: [found], picture, reach }) => [
        el("p.answer", {}, found.value === null ? "It diverges" : place(found.minimum)),
        el("p.sure", {}, sentence(found)),
        el("div.stage", {}, el("img.contours", { src: dataUrl(picture), alt: sentence(found), onclick: (event) => pick(event, reach) })),
        el("p.hint", {}, "Each line joins points of the same value. The ring is the start, the dot the end. Click to start from another point."),
      ],
      code: () => jsonCode(model.name, "minimise", { starts: [start] }, { instances: [{ x: start }] }, [
        `answer = client.minimise(${literal(model.name)}, ${literal(start)})`, "print(answer.minimum, answer.value)"]),
    });
  };
  const pick = ({ offsetX, offsetY, target }, reach) => {
    const across = (2 * offsetX) / target.clientWidth - 1;
    const up = 1 - (2 * offsetY) / target.clientHeight;
    [across, up].forEach((share, i) => { fields[i].value = Number((share * reach).toPrecision(3)); });
    ask();
  };
  queueMicrotask(ask);
  return panel.frame(el("h3", {}, "Start"), el("div.fields", {}, ...fields.map((field, i) =>
    el("div.field", {}, el("label.title", { htmlFor: field.id }, AXES[i]), field))),
  el("p.hint", {}, "The answer follows as you type."));
}

const place = (point) => `(${point.map((value) => figure("", value)).join(", ")})`;

function sentence({ minimum, value, path }) {
  const steps = path.length === 2 ? "1 step" : `${path.length - 1} steps`;
  return value === null ? `From ${place(path[0])} the descent diverges: its steps are too long there. Start from another point.`
    : `From ${place(path[0])} to ${place(minimum)}, where the function is ${figure("", Number(value.toFixed(6)))}, in ${steps}.`;
}
