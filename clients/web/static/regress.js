// Panel: numbers in, numbers out.

import { Panel } from "./panel.js";
import { lineChart } from "./chart.js";
import { el } from "./dom.js";
import { numberForm, numericInput, short } from "./numbers.js";
import { json as jsonCode, literal } from "./snippets.js";

const RANGE = [-10, 10];
const POINTS = 41;
const MOST_LINES = 6;
const MOST_SHOWN = 100;

export function regress(model, samples) {
  const panel = new Panel(model);
  const { key, input, width } = numericInput(model);
  const row = (values) => (width ? values : values[0]);
  const target = model.card?.data?.target;
  const unit = target?.unit ? ` ${target.unit}` : "";
  const onvalues = (values) => {
    const line = values.length === 1 ? Array.from({ length: POINTS }, (_, i) => reach(values[0])[0] + (i * (reach(values[0])[1] - reach(values[0])[0])) / (POINTS - 1)) : [];
    return panel.ask({
      verb: "regress", body: { x: [row(values), ...line.map((x) => row([x]))] }, stream: true,
      say: ({ y }) => `The answer is ${numbersOf(y[0]).map(text).join(", ")}${unit}`,
      draw: ({ y: [first, ...rest] }) => [...answer(numbersOf(first), unit), target?.about ? el("p.sure", {}, target.about) : "", truth(values, unit), line.length ? chart(line, rest, values[0], first) : ""],
      code: () => jsonCode(model.name, "regress", { x: [row(values)] }, { signature_name: key, instances: [{ [input]: row(values) }] }, [
        `answer = client.predict(${literal(model.name)}, {${literal(input)}: [${literal(row(values))}]}, signature=${literal(key)})`, "print(answer)"]),
    });
  };
  const form = numberForm(model, samples, { width, onvalues, onempty: (words) => panel.clear(words) });
  const truth = (values, unit) => {
    const found = form.rows.find((sample) => sample.x.every((value, i) => value === values[i]));
    return found?.y === undefined ? "" : el("p.truth", {}, `Truth: ${Number(found.y.toPrecision(7))}${unit}`);
  };
  queueMicrotask(form.ask);
  return panel.frame(...form.nodes);
}

const numbersOf = (y) => (Array.isArray(y) ? y.flat(Infinity) : [y]);
const text = (value) => (value === null ? "not a number" : Number(value.toPrecision(7)).toString());

/** One number in large letters; of several all, each with its place. */
function answer(numbers, unit) {
  if (numbers.length === 1) return [el("p.answer", {}, text(numbers[0]) + unit)];
  const shown = numbers.slice(0, MOST_SHOWN);
  return [el("p.sure", {}, `${numbers.length} numbers`), el("ol.several", {}, ...shown.map((value, i) => el("li", {}, el("span.soft", {}, `${i + 1}`), el("b", {}, text(value))))),
    numbers.length > shown.length ? el("p.hint", {}, `The first ${MOST_SHOWN} of ${numbers.length}; “Try it” shows all.`) : ""];
}

function chart(line, rest, x, first) {
  const many = Math.min(numbersOf(first).length, MOST_LINES);
  const series = Array.from({ length: many }, (_, i) => ({ name: many === 1 ? "answer" : `number ${i + 1}`, values: rest.map((y) => numbersOf(y)[i]) }));
  return lineChart({ title: `Answer for inputs from ${short(line[0])} to ${short(line.at(-1))}`, x: line, series, mark: [x, numbersOf(first)[0]], bare: many === 1 });
}

/** The range of the chart: ±10, or twice as far as the value if it lies outside. */
const reach = (value) => (Math.abs(value) < RANGE[1] ? RANGE : [-2 * Math.abs(value), 2 * Math.abs(value)]);
