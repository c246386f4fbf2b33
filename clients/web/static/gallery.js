// The gallery: every model with its picture, its figure and its state, kept up to date.

import { dataUrl, load, post, samples as fetchSamples, sampleUrl } from "./api.js";
import { el } from "./dom.js";
import { headline, modelHref, source, stateOf } from "./summary.js";
import { VIEWS, viewsOf } from "./views.js";

const previews = new Map(); // pictures by name and version, so that each is asked for once
const QUOTED = 170; // characters of a text

// --- pictures ----------------------------------------------------------------------------------

function preview(model) {
  const key = `${model.name} ${model.version}`;
  if (previews.has(key)) return previews.get(key);
  const node = el("div.preview", { "aria-hidden": "true" });
  if (model.state !== "AVAILABLE") return node;
  previews.set(key, node);
  fill(model, node).catch(() => previews.delete(key));
  return node;
}

const across = (node, columns, pictures) => {
  node.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  node.append(...pictures);
};

async function fill(model, node) {
  const samples = model.samples ? await fetchSamples(model.name) : [];
  const pictures = samples.filter((sample) => sample.file);
  const sampled = (sample) => load(el("img.pixels", { alt: "" }), sampleUrl(model.name, sample.file));
  if (model.verbs.includes("segment") && pictures.length) {
    const masked = await Promise.all(pictures.slice(0, 6).map(async (sample) => {
      const { answer: { results: [{ overlay, classes }] } } = await post(model.name, "segment", { sample: sample.file });
      const picture = el("div.masked", {}, sampled(sample), el("img.pixels", { src: dataUrl(overlay), alt: "" }));
      return { picture, background: classes.find((each) => each.class_id === 0)?.share ?? 0 };
    }));
    // Pictures with little background show most.
    const full = masked.sort((a, b) => a.background - b.background).slice(0, 3);
    across(node, full.length, full.map(({ picture }) => picture));
  } else if (model.verbs.includes("generate")) {
    const { answer } = await post(model.name, "generate", { n: 10, seed: 1 });
    across(node, 5, answer.images.map((png) => el("img.pixels", { src: dataUrl(png), alt: "" })));
  } else if (model.verbs.includes("minimise") && samples.length) {
    const { answer } = await post(model.name, "minimise", { starts: samples.map((sample) => sample.x) });
    across(node, 1, [el("img", { src: dataUrl(answer.picture), alt: "" })]);
  } else if (pictures.length) {
    const shown = pictures.slice(0, 8);
    across(node, Math.ceil(shown.length / (shown.length > 4 ? 2 : 1)), shown.map(sampled));
  } else {
    const texts = samples.filter((sample) => sample.text).sort((a, b) => a.text.length - b.text.length);
    if (texts.length) node.append(el("q", {}, `${texts[0].text.replaceAll("<br />", " ").slice(0, QUOTED)}…`));
    else node.append(el("p.plain", {}, VIEWS[viewsOf(model)[0]].title));
  }
}

// --- tiles -------------------------------------------------------------------------------------

function tile(model) {
  const verbs = viewsOf(model).filter((view) => view !== "card").map((view) => el("span.tag.verb", {}, VIEWS[view].title));
  return el("a.tile", { href: modelHref(model.name) }, preview(model),
    el("div.row", {}, el("h2", {}, model.name), stateOf(model)),
    model.error ? el("p.about.bad", {}, model.error) : el("p.about", {}, model.description ?? ""),
    headline(model), el("p.tags", {}, ...verbs, source(model)));
}

/** The gallery: `{node, update(models)}`. `update` replaces only tiles that changed, so that focus and pictures stay. */
export function gallery() {
  const tiles = new Map(); // name -> {text, node}
  const list = el("div.tiles");
  const lead = el("p.lead");
  const none = el("div.empty", { hidden: true }, el("h2", {}, "No models yet"),
    el("p", {}, "Train one. It appears here as soon as the server has loaded it."), el("pre", {}, el("code", {}, "ladle train lenet5 --preset quick")));
  const update = (models) => {
    none.hidden = models.length > 0;
    lead.hidden = !none.hidden;
    lead.textContent = "Choose a model and try it.";
    for (const [name, { node }] of tiles) if (!models.some((model) => model.name === name)) { node.remove(); tiles.delete(name); }
    models.forEach((model, place) => {
      const text = JSON.stringify(model);
      const old = tiles.get(model.name);
      if (old?.text !== text) {
        const node = tile(model);
        const focused = old?.node === document.activeElement;
        if (old) old.node.replaceWith(node);
        tiles.set(model.name, { text, node });
        if (focused) node.focus();
      }
      const { node } = tiles.get(model.name);
      if (list.children[place] !== node) list.insertBefore(node, list.children[place] ?? null);
    });
  };
  return { node: el("section", {}, el("h1", {}, "Models"), lead, none, list), update };
}
