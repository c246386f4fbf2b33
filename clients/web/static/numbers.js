// A form of numbers: a field for each column, filled from rows of the test set.

import { count, el } from "./dom.js";

const MOST_FIELDS = 24;

/** The signature that takes numbers: {key, input, width}. Width 0: the input has no column axis, so a row is one number. */
export function numericInput(model) {
  const key = model.signatures.rows ? "rows" : "serving_default";
  const [[input, { shape }]] = Object.entries(model.signatures[key]?.inputs ?? { x: { shape: [null, 1] } });
  return { key, input, width: shape?.length === 2 ? shape[1] ?? 1 : 0 };
}

/**
 * The form: `{nodes, values(), ask()}`. Calls `onvalues(values)` with numbers, and `onempty(words)` while a field holds
 * none. A column's `about`, `unit`, `low`, `high` and `categories` come from the card, its range otherwise from the
 * rows. Of a column with categories the value is the category's number.
 */
export function numberForm(model, samples, { width, onvalues, onempty, start = 0 }) {
  const many = Math.max(width, 1);
  const rows = samples.filter((sample) => sample.x?.length === many);
  const about = columns(model, rows, many);
  if (many > MOST_FIELDS) return wide(rows, many, { onvalues, onempty, start });
  const fields = about.map((column, i) => column.categories ? choice(column.categories, i, rows[0]?.x[i], () => ask()) : el("input", { type: "number", step: "any", id: `x${i}`, value: rows[0]?.x[i] ?? (many === 1 && !start ? 1 : start),
    "aria-describedby": column.words ? `about-x${i}` : undefined, oninput: () => ask() }));
  const notes = about.map((column, i) => el("span.hint.note", { id: `about-x${i}` }, column.words));
  const values = () => fields.map((field) => Number(field.value));
  const ask = () => {
    if (fields.some((field) => field.value.trim() === "" || !Number.isFinite(Number(field.value)))) return onempty("Every field must hold a number.");
    values().forEach((value, i) => {
      const { low, high } = about[i];
      notes[i].classList.toggle("off", low !== undefined && (value < low || value > high));
    });
    return onvalues(values());
  };
  const use = (sample) => {
    fields.forEach((field, i) => { field.value = sample.x[i]; });
    ask();
  };
  const nodes = [el("h3", {}, about.some(({ categories }) => categories) ? `${many} columns` : many === 1 ? "A number" : `${many} numbers`), el("div.fields", {}, ...fields.map((field, i) =>
    el("div.field", {}, el("label.title", { htmlFor: field.id }, about[i].name), field, about[i].words ? notes[i] : ""))),
  rowButtons(rows, use), hint(rows)];
  return { nodes, ask, rows };
}

/** A column with categories: a list to choose from. */
function choice(categories, i, value, onchange) {
  const list = el("select", { id: `x${i}`, onchange }, el("option", { value: "-1" }, "none of these"), ...categories.map((category, n) => el("option", { value: `${n}` }, category)));
  list.value = `${value >= 0 ? value : 0}`;
  return list;
}

function rowButtons(rows, use) {
  return rows.length ? el("div.row.tight.wrap", { role: "group", "aria-label": "Rows of the test set" }, ...rows.map((sample, i) =>
    el("button", { type: "button", onclick: () => use(sample) }, `Row ${i + 1}`))) : "";
}

const hint = (rows) => el("p.hint", {}, `The answer follows as you type.${rows.length ? " The rows are from the test set: the model did not see them in training." : ""}`);

/** Many columns: one text of numbers in place of a field for each. */
function wide(rows, many, { onvalues, onempty, start }) {
  const text = el("textarea", { id: "x0", rows: 6, spellcheck: false, value: (rows[0]?.x ?? Array(many).fill(start)).join(", "), oninput: () => ask() });
  const ask = () => {
    const parts = text.value.split(/[\s,;]+/).filter(Boolean);
    const values = parts.map(Number);
    const wrong = parts.find((part, i) => !Number.isFinite(values[i]));
    if (wrong !== undefined) return onempty(`Got “${wrong}”; expected numbers.`);
    if (values.length !== many) return onempty(`Got ${count(values.length)} numbers; expected ${count(many)}.`);
    return onvalues(values);
  };
  const use = (sample) => { text.value = sample.x.join(", "); ask(); };
  return { nodes: [el("label.title", { htmlFor: "x0" }, `${count(many)} numbers`), text, rowButtons(rows, use), hint(rows)], ask, rows };
}

/** {name, words, low, high} of each column. */
function columns(model, rows, many) {
  const told = model.card?.data?.columns ?? [];
  const names = rows[0]?.columns ?? [];
  return Array.from({ length: many }, (_, i) => {
    const { name, about, unit, low, high, categories } = told[i] ?? {};
    if (categories) return { name, categories, words: about };
    const seen = rows.map((row) => row.x[i]);
    const range = low !== undefined && low !== null ? [low, high] : rows.length > 1 ? [Math.min(...seen), Math.max(...seen)] : [];
    const where = low !== undefined && low !== null ? "in training" : "in these rows";
    const between = range.length ? `${short(range[0])} to ${short(range[1])}${unit ? ` ${unit}` : ""} ${where}` : unit ?? "";
    return { name: name ?? names[i] ?? `x${many === 1 ? "" : i + 1}`, words: [about, between].filter(Boolean).join("; "), ...(where === "in training" ? { low: range[0], high: range[1] } : {}) };
  });
}

export const short = (value) => Number(value.toPrecision(4)).toString().replace("-", "−");
