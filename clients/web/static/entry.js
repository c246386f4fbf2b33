// A model in a few words, as gallery, page and service show it.

import { el, figure, metric } from "./dom.js";

const STATES = { START: "waiting", LOADING: "loading", UNLOADING: "unloading", END: "ended", UNREACHABLE: "not reachable", MISSING: "not served" };

export const modelHref = (name, view) => `#/models/${encodeURIComponent(name)}${view ? `/${view}` : ""}`;

/** A dot and a word for the state of a model. */
export function stateOf(model) {
  const words = model.state === "AVAILABLE" && model.version ? `version ${model.version}`
    : model.state === "END" && model.error ? "failed" : STATES[model.state] ?? "available";
  return el("span.state", { "data-state": model.state }, el("span.dot", { "aria-hidden": "true" }), words);
}

/** The figure that stands for the model, with its name and where it was measured. */
export function headline(model) {
  if (!model.headline) return null;
  const { name, value, split } = model.headline;
  return el("p.headline", {}, el("b", {}, figure(name, value)), ` ${metric(name)} `, el("span.soft", {}, `${split} set`));
}

/** Which data the model learned from. */
export function source(model) {
  if (!model.data?.name) return null;
  const { name, synthetic, source: from } = model.data;
  return el(synthetic ? "span.tag.warn" : "span.tag", { title: from ?? "" }, synthetic ? `${name}, synthetic` : name);
}
