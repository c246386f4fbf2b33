// The views of a model: a panel for each task, and the card.

import { card } from "./card.js";
import { classify, reconstruct } from "./classify.js";
import { generate } from "./generate.js";
import { gradients, hasGradients } from "./gradients.js";
import { explore, interpolate, MOST_SLIDERS } from "./latent.js";
import { neighbours } from "./neighbours.js";
import { minimise } from "./minimise.js";
import { regress } from "./regress.js";
import { filter } from "./filter.js";
import { segment } from "./segment.js";
import { sentiment } from "./sentiment.js";
import { traffic } from "./traffic.js";
import { tryIt } from "./try.js";

/** `panel(model, samples)` returns the element; `when(model)` says whether the model has the view (default: if it has the task). */
export const VIEWS = {
  classify: { title: "Classify", panel: classify },
  sentiment: { title: "Sentiment", panel: sentiment },
  neighbours: { title: "Neighbours", panel: neighbours },
  segment: { title: "Segment", panel: segment },
  generate: { title: "Generate", panel: generate },
  reconstruct: { title: "Reconstruct", panel: reconstruct },
  filter: { title: "Filter", panel: filter },
  explore: { title: "Latent space", panel: explore, when: ({ verbs, latent }) => verbs.includes("generate") && latent && latent.dim <= MOST_SLIDERS },
  interpolate: { title: "Interpolate", panel: interpolate },
  gradients: { title: "Gradients", panel: gradients, when: hasGradients },
  regress: { title: "Regress", panel: regress },
  minimise: { title: "Minimise", panel: minimise },
  try: { title: "Try it", panel: tryIt, when: ({ signatures, state }) => state === "AVAILABLE" && Object.keys(signatures ?? {}).length > 0 },
  traffic: { title: "Traffic", panel: traffic, when: (model) => Boolean(model.traffic) },
  card: { title: "Model card", panel: card, when: () => true },
};

/** The names of a model's views: its own task first, any signature, its traffic and the card last. */
export function viewsOf(model) {
  const has = Object.keys(VIEWS).filter((view) => (VIEWS[view].when ? VIEWS[view].when(model) : model.verbs.includes(view)));
  return has.sort((a, b) => (b === model.task) - (a === model.task));
}
