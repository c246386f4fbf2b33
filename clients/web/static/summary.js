// A model in a few words: its state, its figure and its data, for the gallery, the page and the service.

import { count, el, figure, meaning, metric } from "./dom.js";

const STATES = { START: "waiting", LOADING: "loading", UNLOADING: "unloading", END: "unloaded", UNREACHABLE: "unreachable", MISSING: "not served" };

export const modelHref = (name, view) => `#/models/${encodeURIComponent(name)}${view ? `/${view}` : ""}`;

/** A dot and a word for the state of a model. */
export function stateOf(model) {
  const words = model.state === "AVAILABLE" && model.version ? `version ${model.version}`
    : model.state === "END" && model.error ? "failed" : STATES[model.state] ?? "available";
  return el("span.state", { "data-state": model.state }, el("span.dot", { "aria-hidden": "true" }), words);
}

/** The model's main figure: its name, the split that it was measured on, and what it means on hover. */
export function headline(model) {
  if (!model.headline) return null;
  const { name, value, split, count: examples, deviation } = model.headline;
  if (split === "folds") {
    const words = `${metric(name)}: ${meaning(name)}. Mean and standard deviation over the folds of a cross-validation.`;
    return el("p.headline", { title: words }, el("b", {}, `${figure(name, value)} ± ${figure("", Number(deviation.toPrecision(2)))}`), ` ${metric(name)} `, el("span.soft", {}, "over the folds"));
  }
  const of = examples ? `${count(examples)} examples of the ${split} set` : `the ${split} set`;
  const words = meaning(name);
  const title = `${words ? `${metric(name)}: ${words}. ` : ""}Measured on ${of}${model.data?.name ? ` of ${model.data.name}` : ""}.`;
  return el("p.headline", { title }, el("b", {}, figure(name, value)), ` ${metric(name)} `, el("span.soft", {}, examples ? `on ${count(examples)} examples of the ${split} set` : `${split} set`));
}

/** The data set that the model was trained on. */
export function source(model) {
  if (!model.data?.name) return null;
  const { name, synthetic, source: from } = model.data;
  return el(synthetic ? "span.tag.warn" : "span.tag", { title: from ?? "" }, synthetic ? `${name}, synthetic` : name);
}
