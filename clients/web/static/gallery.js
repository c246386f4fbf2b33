// The gallery: every model with its picture, its figure and its state, kept up to date.

import { dataUrl, load, post, samples as fetchSamples, sampleUrl } from "./api.js";
import { el, figure, metric, svg } from "./dom.js";
import { headline, modelHref, source, stateOf } from "./summary.js";
import { VIEWS, viewsOf } from "./views.js";

const previews = new Map(); // pictures by name and version, so that each is asked for once
const ANSWERED = 4; // pictures of a classifier
const QUOTED = 170; // characters of a text
const ABOUT = "Ladle serves trained neural networks: choose one, give it a picture, a text or numbers, and see what it answers.";

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

/** The items from a place that depends on the model's name, so that models of one data set show different samples. */
function turned(items, name) {
  const start = [...name].reduce((sum, letter) => (31 * sum + letter.codePointAt(0)) % 9973, 7) % (items.length || 1);
  return [...items.slice(start), ...items.slice(0, start)];
}

const across = (node, columns, pictures) => {
  node.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  node.append(...pictures);
};

async function fill(model, node) {
  const samples = model.samples ? await fetchSamples(model.name) : [];
  const pictures = turned(samples.filter((sample) => sample.file), model.name);
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
    const { answer } = await post(model.name, "generate", { n: 10, seed: 0 });
    across(node, 5, answer.images.map((png) => el("img.pixels", { src: dataUrl(png), alt: "" })));
  } else if (model.verbs.includes("minimise") && samples.length) {
    const { answer } = await post(model.name, "minimise", { starts: samples.map((sample) => sample.x) });
    across(node, 1, [el("img", { src: dataUrl(answer.picture), alt: "" })]);
  } else if (model.verbs.includes("classify") && pictures.length) {
    // The model's own answers: they differ where the pictures do not.
    const shown = await Promise.all(pictures.slice(0, ANSWERED).map(async (sample) => {
      const { answer: { results: [{ label }] } } = await post(model.name, "classify", { sample: sample.file, top: 1 });
      return el("figure.answered", {}, sampled(sample), el("figcaption", {}, label));
    }));
    across(node, shown.length, shown);
  } else if (pictures.length) {
    const shown = pictures.slice(0, 8);
    across(node, Math.ceil(shown.length / (shown.length > 4 ? 2 : 1)), shown.map(sampled));
  } else if (model.verbs.includes("regress") && samples.some((sample) => sample.x && Number.isFinite(sample.y))) {
    node.append(await compared(model, samples.filter((sample) => sample.x && Number.isFinite(sample.y))));
  } else {
    const texts = turned(samples.filter((sample) => sample.text).sort((a, b) => a.text.length - b.text.length), model.name);
    if (texts.length) node.append(el("q", {}, `${texts[0].text.replaceAll("<br />", " ").slice(0, QUOTED)}…`));
    else node.append(el("p.plain", {}, model.verbs.length ? VIEWS[viewsOf(model)[0]].title : "Try it"));
  }
}

/** Answers for rows of the test set over their truth: points near the diagonal are right. */
async function compared(model, rows) {
  const { answer: { y } } = await post(model.name, "regress", { x: rows.map((row) => row.x) });
  const points = rows.map((row, i) => [row.y, Number([y[i]].flat(Infinity)[0])]);
  const all = points.flat();
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const at = (value) => 8 + (84 * (value - low)) / (high - low || 1);
  return svg("svg.scatter", { viewBox: "0 0 100 100" }, svg("path.rule", { d: "M4 96L96 4" }),
    ...points.map(([truth, found]) => svg("circle.mark", { cx: at(truth), cy: 100 - at(found), r: 3 })));
}

// --- training ----------------------------------------------------------------------------------

/** A run that trains now: how far it is, and its newest metrics on the validation set. */
function run({ name, epoch, epochs, metrics, exporting }) {
  const shown = Object.entries(metrics).filter(([key]) => key.startsWith("val_")).map(([key, value]) => `${metric(key.slice(4))} ${figure(key, value)}`);
  const words = exporting ? "exporting" : epoch ? `epoch ${epoch}${epochs ? ` of ${epochs}` : ""} done` : "the first epoch";
  return el("div.run", {}, el("b", {}, name), el("progress", { max: epochs ?? 1, value: epochs ? epoch : undefined, "aria-label": `Training of ${name}` }),
    el("span.hint", {}, [words, ...shown].join(", ")));
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
  const trains = el("section.card.training", { hidden: true });
  const away = el("div.notice.bad", { hidden: true }, "The model server does not answer. Start it with ", el("code", {}, "ladle serve"), "; this page goes on by itself.");
  const none = el("div.empty", { hidden: true }, el("h2", {}, "No models yet"),
    el("p", {}, "Train one. It appears here as soon as the server has loaded it."), el("pre", {}, el("code", {}, "ladle train lenet5 --preset quick")));
  const update = (models, { training = [], reachable = true } = {}) => {
    none.hidden = models.length > 0 || training.length > 0;
    away.hidden = reachable;
    const text = JSON.stringify(training);
    if (trains.dataset.text !== text) {
      trains.dataset.text = text;
      trains.hidden = !training.length;
      trains.replaceChildren(el("h2", {}, "In training"), ...training.map(run));
    }
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
  return { node: el("section.stack.wide", {}, el("header", {}, el("h1", {}, "Models"), el("p.lead", {}, ABOUT)), away, trains, none, list), update };
}
