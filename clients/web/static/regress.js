// Panel: numbers in, numbers out.

import { Panel } from "./panel.js";
import { lineChart } from "./chart.js";
import { el } from "./dom.js";
import { json as jsonCode, literal } from "./snippets.js";

const RANGE = [-10, 10];
const POINTS = 41;
const MOST_FIELDS = 24;

/** The signature that takes numbers: {key, input, width}. Width 0: the input has no column axis, so a row is one number. */
function numericInput(model) {
  const [[input, { shape }]] = Object.entries(model.signatures.serving_default?.inputs ?? { x: { shape: [null, 1] } });
  return { key: "serving_default", input, width: shape?.length === 2 ? shape[1] ?? 1 : 0 };
}

export function regress(model, samples) {
  const panel = new Panel(model);
  const { key, input, width } = numericInput(model);
  const many = Math.min(Math.max(width, 1), MOST_FIELDS);
  const rows = samples.filter((sample) => sample.x?.length === many);
  const names = rows[0]?.columns ?? [];
  const fields = Array.from({ length: many }, (_, i) => el("input", { type: "number", step: "any", id: `x${i}`, value: rows[0]?.x[i] ?? (many === 1 ? 1 : 0), oninput: () => ask() }));
  const row = (values) => (width ? values : values[0]);
  const ask = () => {
    const values = fields.map((field) => Number(field.value));
    if (fields.some((field) => field.value.trim() === "" || !Number.isFinite(Number(field.value)))) return panel.clear("Every field must hold a number.");
    const line = many === 1 ? Array.from({ length: POINTS }, (_, i) => reach(values[0])[0] + (i * (reach(values[0])[1] - reach(values[0])[0])) / (POINTS - 1)) : [];
    const flat = (y) => (Array.isArray(y) ? flat(y[0]) : y);
    return panel.ask({
      verb: "regress", body: { x: [row(values), ...line.map((x) => row([x]))] }, stream: true,
      say: ({ y }) => `The answer is ${flat(y[0])}`,
      draw: ({ y: [first, ...rest] }) => [
        el("p.answer", {}, Number(flat(first).toPrecision(7)).toString()),
        truth(values),
        line.length ? lineChart({ title: `Answer for inputs from ${line[0]} to ${line.at(-1)}`, x: line, series: [{ name: "answer", values: rest.map(flat) }], mark: [values[0], flat(first)], bare: true }) : "",
      ],
      code: () => jsonCode(model.name, "regress", { x: [row(values)] }, { signature_name: key, instances: [{ [input]: row(values) }] }, [
        `answer = client.predict(${literal(model.name)}, {${literal(input)}: [${literal(row(values))}]}, signature=${literal(key)})`, "print(answer)"]),
    });
  };
  const truth = (values) => {
    const row = rows.find((sample) => sample.x.every((value, i) => value === values[i]));
    return row?.y === undefined ? "" : el("p.truth", {}, `Truth: ${Number(row.y.toPrecision(7))}`);
  };
  const use = (sample) => {
    fields.forEach((field, i) => { field.value = sample.x[i]; });
    ask();
  };
  queueMicrotask(ask);
  return panel.frame(el("h3", {}, many === 1 ? "A number" : `${many} numbers`), el("div.fields", {}, ...fields.map((field, i) =>
    el("div.field", {}, el("label.title", { htmlFor: field.id }, names[i] ?? `x${many === 1 ? "" : i + 1}`), field))),
  rows.length ? el("div.row.tight.wrap", { role: "group", "aria-label": "Rows of the test set" }, ...rows.map((sample, i) =>
    el("button", { type: "button", onclick: () => use(sample) }, `Row ${i + 1}`))) : "",
  el("p.hint", {}, `The answer follows as you type.${rows.length ? " The rows are from the test set: the model did not see them in training." : ""}`));
}

/** The range of the chart: ±10, or twice as far as the value if it lies outside. */
const reach = (value) => (Math.abs(value) < RANGE[1] ? RANGE : [-2 * Math.abs(value), 2 * Math.abs(value)]);
