// Panel: new images from a seed.

import { dataUrl, picture } from "./api.js";
import { Panel } from "./panel.js";
import { count, el, icon, slider } from "./dom.js";
import { save } from "./parts.js";
import { isSmall } from "./picker.js";
import { json as jsonCode } from "./snippets.js";

const MOST = 64;
const FIRST = { n: 16, seed: 0 }; // the seed of `ladle demo`
const LARGEST_SEED = 2 ** 32 - 1; // JavaScript has exact whole numbers up to 2 ** 53 only; the gateway takes 64 bits
export const SEEDS = 1e6;
export const SEED_WORDS = `The seed must be a whole number from 0 to ${count(LARGEST_SEED)}.`;

/** Whether the text of a field is a seed. */
export const isSeed = (text) => text.trim() !== "" && Number.isInteger(Number(text)) && Number(text) >= 0 && Number(text) <= LARGEST_SEED;

export function generate(model) {
  const panel = new Panel(model, { tall: true });
  const seed = el("input", { type: "number", id: "seed", min: 0, max: LARGEST_SEED, value: FIRST.seed, onchange: () => ask() });
  const n = slider("Images", { id: "n", min: 1, max: MOST, value: FIRST.n, oninput: () => ask(true) });
  const body = () => ({ n: Number(n.input.value), seed: Number(seed.value) });
  const ask = (stream = false) => {
    const request = body();
    if (!isSeed(seed.value)) return panel.clear(SEED_WORDS);
    return panel.ask({
      verb: "generate", body: request, stream, draw: ({ images }) => grid(images, isSmall(model)), say: () => `${request.n} images from seed ${request.seed}`,
      code: () => jsonCode(model.name, "generate", request, { signature_name: "generate", inputs: request }, [
        `images = client.generate(${JSON.stringify(model.name)}, n=${request.n}, seed=${request.seed})`, "print(images.shape, images.mean())"], `${model.name}-${request.seed}.png`),
    });
  };
  const roll = () => { seed.value = Math.floor(Math.random() * SEEDS); ask(); };
  const download = async () => {
    try {
      save(await picture(model.name, "generate", body()), `${model.name}-${body().seed}.png`);
    } catch (error) { panel.fail(error); }
  };
  queueMicrotask(ask);
  return panel.frame(
    el("div.field", {}, el("label.title", { htmlFor: "seed" }, "Seed"),
      el("div.row.tight", {}, seed, el("button", { type: "button", onclick: roll }, icon("dice"), "Roll"))),
    n.node, el("p.hint", {}, "The same seed always gives the same images."),
    el("div.row.tight.wrap", {}, el("button.main", { type: "button", onclick: () => ask() }, "Generate"),
      el("button", { type: "button", onclick: download }, icon("download"), "Download the grid")));
}

/** Images side by side, by default in a block that is nearly square. */
export function grid(images, small, columns = Math.ceil(Math.sqrt(images.length))) {
  const block = el("div.grid", {}, ...images.map((png, i) => el(small ? "img.pixels" : "img", { src: dataUrl(png), alt: `Image ${i + 1}` })));
  block.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  return block;
}
