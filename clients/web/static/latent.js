// Panels of models that draw images from codes: a slider for each number of a code, and the images between two codes.

import { base64, dataUrl, load, picture, post, sampleUrl } from "./api.js";
import { Panel } from "./panel.js";
import { el, icon, slider } from "./dom.js";
import { grid, isSeed, SEED_WORDS, SEEDS } from "./generate.js";
import { plate, save } from "./parts.js";
import { isSmall, picker } from "./picker.js";
import { json as jsonCode, literal, path as pathCode } from "./snippets.js";

const REACH = 3; // a slider goes this many standard deviations to each side
const SWEEP = [-3, -2, -1, 0, 1, 2, 3];
const PATH = { steps: 9 };
export const MOST_SLIDERS = 24;

/** The signature that takes codes: {key, input, output}. */
function decoder(model) {
  for (const key of ["decode", "serving_default"]) {
    const { inputs = {}, outputs = {} } = model.signatures[key] ?? {};
    const [[input, info] = [], ...more] = Object.entries(inputs);
    const output = ["images", "image"].find((name) => name in outputs);
    if (output && !more.length && info?.shape?.length === 2) return { key, input, output };
  }
  return { key: "decode", input: "code", output: "images" };
}

// Box-Muller: two uniform numbers give a normal one.
const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
const rounded = (value) => Math.round(100 * value) / 100;

// --- sliders -----------------------------------------------------------------------------------

export function explore(model, samples) {
  const panel = new Panel(model);
  const { dim } = model.latent;
  const { key, input, output } = decoder(model);
  let moved = 0;
  const sliders = Array.from({ length: dim }, (_, i) => slider(`z${i + 1}`, {
    id: `z${i + 1}`, min: -REACH, max: REACH, step: 0.01, value: 0, show: (value) => value.toFixed(2).replace("-", "−"), oninput: (value) => { moved = i; numbers[i] = value; ask(true); },
  }));
  // A code of a real image may have numbers beyond the sliders: they stay as they are until their slider is moved.
  const numbers = Array(dim).fill(0);
  const beyond = el("p.hint", { role: "status" });
  const code = () => [...numbers];
  const set = (values) => {
    values.forEach((value, i) => { numbers[i] = rounded(value); sliders[i].set(numbers[i]); });
    return ask();
  };
  const tell = () => {
    const far = numbers.flatMap((value, i) => (Math.abs(value) > REACH ? [`z${i + 1} = ${value.toFixed(2).replace("-", "−")}`] : []));
    beyond.textContent = far.length ? `Beyond its slider, and used as it is: ${far.join(", ")}.` : "";
  };
  const ask = (stream = false) => {
    const [now, number] = [code(), moved];
    tell();
    const sweep = SWEEP.map((value) => now.map((each, i) => (i === number ? value : each)));
    const request = { code: [now] };
    return panel.ask({
      verb: "generate", body: { code: [now, ...sweep] }, stream, say: () => "Image drawn",
      draw: ({ images: [large, ...strip] }) => [
        el("div.large", {}, plate(dataUrl(large), "The image of this code", "The image of this code", isSmall(model))),
        el("div.stack.tight", {}, el("h3", {}, `z${number + 1} from −${REACH} to ${REACH}; the other numbers stay`), grid(strip, isSmall(model), SWEEP.length)),
        el("button", { type: "button", onclick: () => download(model, request, "code").catch((error) => panel.fail(error)) }, icon("download"), "Download the image"),
      ],
      code: () => jsonCode(model.name, "generate", request, { signature_name: key, instances: [{ [input]: now }] }, [
        `images = client.predict(${literal(model.name)}, {${literal(input)}: [${literal(now)}]}, signature=${literal(key)})[${literal(output)}]`,
        "print(images.shape, images.mean())"], `${model.name}.png`),
    });
  };
  const from = async (sample) => {
    try {
      const { answer } = await post(model.name, "reconstruct", { sample: sample.file, with_codes: true });
      set(answer.results[0].code);
    } catch (error) { panel.fail(error); }
  };
  const pictures = model.verbs.includes("reconstruct") ? samples.filter((sample) => sample.file) : [];
  const starts = pictures.map((sample) => el("button.sample", { type: "button", "aria-label": sample.label ?? sample.file, title: sample.label, onclick: () => from(sample) },
    load(el("img.pixels", { alt: "" }), sampleUrl(model.name, sample.file))));
  queueMicrotask(() => (starts.length ? starts[0].click() : ask()));
  return panel.frame(el("div.row.wrap", {}, el("h3", {}, `A code of ${dim} numbers`), el("div.row.tight", {},
    el("button", { type: "button", onclick: () => set(code().map(normal)) }, icon("dice"), "Roll"),
    el("button", { type: "button", onclick: () => set(code().map(() => 0)) }, "Zero"))),
  el("div.sliders", {}, ...sliders.map((each) => each.node)), beyond,
  starts.length ? el("div.stack", {}, el("h3", {}, "Start from a real image"), el("div.samples.row-of-eight", {}, ...starts)) : "");
}

async function download(model, body, name) {
  save(await picture(model.name, "generate", body), `${model.name}-${name}.png`);
}

// --- between two codes ------------------------------------------------------------------------

export function interpolate(model, samples) {
  const panel = new Panel(model, { tall: true });
  const encodes = model.verbs.includes("reconstruct");
  const ends = { from: null, to: null };
  const steps = slider("Steps", { id: "steps", min: 3, max: 16, value: PATH.steps, oninput: () => ask(true) });
  const ask = (stream = false) => {
    if (!ends.from || !ends.to) return;
    const body = { from: ends.from.end, to: ends.to.end, steps: Number(steps.input.value) };
    const files = [ends.from.file, ends.to.file];
    panel.ask({ verb: "interpolate", body, stream, code: () => pathCode(model.name, body, files, decoder(model)),
      say: ({ images }) => `${images.length} images from the first to the second`, draw: ({ images, path }) => walk(model, images, path, body, (error) => panel.fail(error)) });
  };
  const end = (side, legend, start) => {
    let newest = 0;
    const onimage = async (image) => {
      const mine = ++newest;
      const given = image.sample ? { sample: image.sample.file } : { image: await base64(image.blob) };
      if (mine !== newest) return; // another image was chosen while this file was read
      ends[side] = { end: given, file: image.source.file };
      ask(image.live);
    };
    const drop = () => { newest++; ends[side] = null; };
    const input = encodes ? picker(model, samples, { canDraw: false, onimage, onempty: (words) => { drop(); panel.clear(words); }, onerror: (error) => { drop(); panel.fail(error); }, start, legend: `${legend}: where the image comes from` })
      : seedOf(side, start, (seed) => { ends[side] = { end: { seed } }; ask(); }, (words) => { drop(); panel.clear(words); });
    return el("fieldset.end", {}, el("legend.title", {}, legend), input);
  };
  return panel.frame(el("div.both", {}, end("from", "From", 0), end("to", "To", 3)), steps.node,
    el("p.hint", {}, encodes ? "Each image becomes a code. The network draws an image of each code between them." : "Each seed gives a code. The network draws an image of each code between them."));
}

function seedOf(side, start, use, refuse) {
  const read = () => (isSeed(input.value) ? use(Number(input.value)) : refuse(SEED_WORDS));
  const input = el("input", { type: "number", min: 0, value: start + 1, id: `seed-${side}`, "aria-label": "Seed", onchange: read });
  queueMicrotask(() => use(start + 1));
  const roll = () => { input.value = Math.floor(Math.random() * SEEDS); use(Number(input.value)); };
  return el("div.row.tight", {}, input, el("button", { type: "button", onclick: roll }, icon("dice"), "Roll"));
}

function walk(model, images, path, body, onerror) {
  const large = el(isSmall(model) ? "img.pixels" : "img", { alt: "One of the images between" });
  const thumbs = images.map((png) => el(isSmall(model) ? "img.pixels" : "img", { src: dataUrl(png), alt: "" }));
  const at = (number) => {
    large.src = dataUrl(images[number]);
    thumbs.forEach((thumb, i) => thumb.classList.toggle("here", i === number));
  };
  const position = slider("Position", { id: "way", min: 0, max: images.length - 1, value: (images.length - 1) >> 1,
    show: (value) => `${value + 1} of ${images.length}`, oninput: at });
  at((images.length - 1) >> 1);
  const strip = el("div.grid.way", { role: "img", "aria-label": `${images.length} images from the first to the second` }, ...thumbs);
  strip.style.gridTemplateColumns = `repeat(${images.length}, minmax(0, 1fr))`;
  const take = () => picture(model.name, "interpolate", body).then((blob) => save(blob, `${model.name}-between.png`)).catch(onerror);
  return [el("div.large", {}, el("figure.plate", {}, large)), position.node, strip,
    el("div.row.wrap", {}, el("button", { type: "button", onclick: take }, icon("download"), "Download the strip"), el("span.hint", {}, `${path === "linear" ? "along a line" : "along a great circle"} between the codes`))];
}
