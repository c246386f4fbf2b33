// A model in a few words: its state, its figure and its data, for the gallery, the page and the service.

import { el, figure, metric } from "./dom.js";

const STATES = { START: "waiting", LOADING: "loading", UNLOADING: "unloading", END: "unloaded", UNREACHABLE: "unreachable", MISSING: "not served" };

export const modelHref = (name, view) => `#/models/${encodeURIComponent(name)}${view ? `/${view}` : ""}`;

/** A dot and a word for the state of a model. */
export function stateOf(model) {
  const words = model.state === "AVAILABLE" && model.version ? `version ${model.version}`
    : model.state === "END" && model.error ? "failed" : STATES[model.state] ?? "available";
  return el("span.state", { "data-state": model.state }, el("span.dot", { "aria-hidden": "true" }), words);
}

/** The model's main figure, with its name and the split that it was measured on. */
export function headline(model) {
  if (!model.headline) return null;
  const { name, value, split } = model.headline;
  return el("p.headline", {}, el("b", {}, figure(name, value)), ` ${metric(name)} `, el("span.soft", {}, `${split} set`));
}

/** The data set that the model was trained on. */
export function source(model) {
  if (!model.data?.name) return null;
  const { name, synthetic, source: from } = model.data;
  return el(synthetic ? "span.tag.warn" : "span.tag", { title: from ?? "" }, synthetic ? `${name}, synthetic` : name);
}
