// One panel a task: what goes in on the left, what comes out on the right.

import { curlImage, curlJson, dataUrl, picture, post } from "./api.js";
import { count, el, milliseconds, percent } from "./dom.js";
import { picker } from "./picker.js";

export const TITLES = { classify: "Classify", sentiment: "Sentiment", generate: "Generate", segment: "Segment", reconstruct: "Reconstruct" };
const TYPING_MS = 250; // pause after which a text is sent
const MAX_IMAGES = 64;

/** The panel of a verb of a model, ready to be put on the page. */
export function panel(model, verb, samples) {
  return PANELS[verb](new Bench(model.name, verb, model), samples);
}

/** The frame that all panels share: input, result, latency, curl; only the newest question is shown. */
class Bench {
  constructor(name, verb, model) {
    Object.assign(this, { name, verb, model, running: null });
    this.result = el("div.result", { "aria-live": "polite" }, el("p.hint", {}, "The answer appears here."));
    this.latency = el("p.latency", { role: "status" });
    this.code = el("code");
    const copy = el("button.quiet", { type: "button", onclick: async () => {
      await copied(this.code);
      copy.textContent = "Copied";
      setTimeout(() => { copy.textContent = "Copy"; }, 1500);
    } }, "Copy");
    this.curl = el("section.curl", {}, el("div.row", {}, el("h3", {}, "The same request with curl"), copy), el("pre", {}, this.code));
  }

  frame(input) {
    return el("div.bench", {}, el("section.card", { "aria-label": "Input" }, input),
      el("section.card.out", { "aria-label": "Answer" }, this.result, this.latency), this.curl);
  }

  /** Ask with `body`, show what `draw(answer)` makes of it. A newer question cancels an older one. */
  async ask(body, curl, draw) {
    this.running?.abort();
    this.running = new AbortController();
    const { signal } = this.running;
    this.result.setAttribute("aria-busy", "true");
    this.code.textContent = curl;
    try {
      const { answer, roundTrip } = await post(this.name, this.verb, body, signal);
      if (signal.aborted) return;
      this.result.replaceChildren(...[draw(answer)].flat());
      this.latency.replaceChildren(el("span", {}, "Model server ", el("b", {}, milliseconds(answer.latency_ms))),
        el("span", {}, "Round trip ", el("b", {}, milliseconds(roundTrip))));
    } catch (error) {
      if (error.name === "AbortError") return;
      this.fail(error);
    }
    this.result.removeAttribute("aria-busy");
  }

  fail(error) {
    this.latency.replaceChildren();
    this.result.removeAttribute("aria-busy");
    this.result.replaceChildren(el("p.notice", { role: "alert" }, error.message));
  }

  /** A picker whose images are asked about at once. */
  images(samples, draw, canDraw) {
    let shown = null;
    return picker(this.name, samples, {
      canDraw,
      large: !small(this.model),
      onerror: (error) => this.fail(error),
      onimage: (image) => {
        if (shown?.startsWith("blob:") && shown !== image.url) URL.revokeObjectURL(shown);
        shown = image.url;
        this.ask(image.blob, curlImage(this.name, this.verb, image.source), (answer) => draw(answer.results[0], image));
      },
    });
  }
}

/** Copy a node's text; browsers give the clipboard to https and localhost alone, so elsewhere by a selection. */
async function copied(node) {
  if (navigator.clipboard) return navigator.clipboard.writeText(node.textContent);
  getSelection().selectAllChildren(node);
  return document.execCommand("copy");
}

const small = (model) => model.image && model.image.height !== null && model.image.height <= 64;

function bars(rows) {
  return el("ol.bars", {}, ...rows.map(({ label, probability }) => {
    const fill = el("span.fill");
    fill.style.width = `${100 * probability}%`;
    return el("li", {}, el("span.label", {}, label), el("span.track", {}, fill), el("span.value", {}, percent(probability)));
  }));
}

function truth(label, answer) {
  if (label === undefined) return null;
  const right = label === answer;
  return el(right ? "p.truth.right" : "p.truth.wrong", {}, right ? "Right: it is " : "Wrong: it is ", el("b", {}, label));
}

function verdict(label, share, image, sampleLabel) {
  return el("div.verdict", {}, image, el("div", {}, el("p.answer", {}, label), el("p.sure", {}, `${percent(share)} sure`),
    truth(sampleLabel, label)));
}

function classify(bench, samples) {
  const draw = (answer, image) => {
    const seen = el("img.seen", { src: image.url, alt: "The image that was asked about" });
    if (small(bench.model)) seen.classList.add("pixels");
    return [verdict(answer.label, answer.probability, seen, image.sample?.label), bars(answer.top.slice(0, 5))];
  };
  return bench.frame(bench.images(samples, draw, bench.model.image?.channels === 1));
}

function sentiment(bench, samples) {
  const text = el("textarea", { id: "text", rows: 7, maxLength: 20000, placeholder: "Write a review of a film.", oninput: () => later() });
  let chosen = null;
  let timer = 0;
  const ask = () => {
    if (!text.value.trim()) return;
    const body = { text: text.value };
    bench.ask(body, curlJson(bench.name, bench.verb, body), ({ results: [answer] }) => {
      const marker = el("span.marker");
      marker.style.left = `${100 * answer.positive}%`;
      const label = chosen?.text === text.value ? chosen.label : undefined;
      return [verdict(answer.label, answer.probability, null, label),
        el("div.scale", { role: "img", "aria-label": `${percent(answer.positive)} positive` }, marker),
        el("div.row.ends", {}, el("span", {}, "negative"), el("span", {}, "positive"))];
    });
  };
  const later = () => { clearTimeout(timer); timer = setTimeout(ask, TYPING_MS); };
  const use = (sample) => { chosen = sample; text.value = sample.text; ask(); };
  const reviews = samples.filter((sample) => sample.text);
  const chips = reviews.map((sample, number) => el("button.quote", { type: "button", onclick: () => use(sample),
    "aria-label": `Review ${number + 1}` }, sample.text.replaceAll("<br />", " ").slice(0, 90), "…"));
  queueMicrotask(() => chips[0]?.click());
  return bench.frame([el("label.title", { htmlFor: "text" }, "Text"), text, el("p.hint", {}, "The verdict follows as you type."),
    chips.length ? [el("h3", {}, "Real reviews, not seen in training"), el("div.quotes", {}, ...chips)] : null].flat());
}

function generate(bench) {
  const number = el("input", { type: "range", id: "n", min: 1, max: MAX_IMAGES, value: 16, oninput: () => { shown.textContent = number.value; }, onchange: () => ask() });
  const shown = el("output", { htmlFor: "n" }, "16");
  const seed = el("input", { type: "number", id: "seed", min: 0, max: 4294967295, value: 7, onchange: () => ask() });
  const body = () => ({ n: Number(number.value), seed: Math.max(0, Math.trunc(Number(seed.value))) || 0 });
  const ask = () => bench.ask(body(), curlJson(bench.name, bench.verb, body(), "grid.png"), ({ images }) => {
    const grid = el("div.grid", {}, ...images.map((png, i) => el("img.pixels", { src: dataUrl(png), alt: `Image ${i + 1}` })));
    grid.style.gridTemplateColumns = `repeat(${Math.ceil(Math.sqrt(images.length))}, 1fr)`;
    return grid;
  });
  const random = () => { seed.value = Math.floor(Math.random() * 1e6); ask(); };
  const download = async () => {
    try {
      const url = URL.createObjectURL(await picture(bench.name, bench.verb, body()));
      el("a", { href: url, download: `${bench.name}-${seed.value}.png` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10000);
    } catch (error) { bench.fail(error); }
  };
  queueMicrotask(ask);
  return bench.frame([
    el("label.title.row", { htmlFor: "n" }, el("span", {}, "Images"), shown), number,
    el("label.title", { htmlFor: "seed" }, "Seed"),
    el("div.row.tight", {}, seed, el("button", { type: "button", onclick: random }, "Another seed")),
    el("p.hint", {}, "The same seed gives the same images, on every server."),
    el("div.row.tight", {}, el("button.main", { type: "button", onclick: ask }, "Generate"),
      el("button", { type: "button", onclick: download }, "Download the grid")),
  ]);
}

function segment(bench, samples) {
  let opacity = 0.55;
  const draw = (answer, image) => {
    const layer = el("img.layer", { src: dataUrl(answer.overlay), alt: "Class of each pixel, in colour" });
    const slider = el("input", { type: "range", id: "opacity", min: 0, max: 1, step: 0.01, value: opacity,
      oninput: () => { opacity = slider.value; layer.style.opacity = opacity; } });
    layer.style.opacity = opacity;
    const legend = answer.classes.map(({ class_id: id, label, color, share }) => {
      const swatch = el("span.swatch");
      if (id > 0) swatch.style.background = color; // the background stays clear, here as over the image
      return el("li", {}, swatch, el("span.label", {}, label), el("span.value", {}, percent(share)));
    });
    return [el("div.stage", {}, el("img", { src: image.url, alt: "The image that was asked about" }), layer),
      el("label.title.row", { htmlFor: "opacity" }, el("span", {}, "Mask opacity"), slider),
      el("ul.legend", {}, ...legend),
      el("div.row.tight", {}, el("a.button", { href: dataUrl(answer.mask), download: `${bench.name}-mask.png` }, "Download the mask"),
        el("span.hint", {}, `${count(answer.width)} × ${count(answer.height)} pixels, value = class id`))];
  };
  return bench.frame(bench.images(samples, draw, false));
}

function reconstruct(bench, samples) {
  const draw = (answer, image) => el("div.pair", {},
    el("figure", {}, el("img.pixels", { src: image.url, alt: "The image that was asked about" }), el("figcaption", {}, "Given")),
    el("figure", {}, el("img.pixels", { src: dataUrl(answer.image), alt: "Its reconstruction" }), el("figcaption", {}, "Reconstructed")));
  return bench.frame(bench.images(samples, draw, bench.model.image?.channels === 1));
}

const PANELS = { classify, sentiment, generate, segment, reconstruct };
