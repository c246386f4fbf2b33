// Elements, controls, and numbers as text.

/** An element: `el("button.quiet", {onclick: f, disabled: true}, "Go")`. Attributes that are undefined, null or false are left out. */
export function el(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  return dress(document.createElement(tag), classes, attributes, children);
}

/** The same for SVG: `svg("path.line", {d: "M0 0"})`. */
export function svg(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  return dress(document.createElementNS("http://www.w3.org/2000/svg", tag), classes, attributes, children);
}

function dress(node, classes, attributes, children) {
  if (classes.length) node.setAttribute("class", classes.join(" "));
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    // `list` and `form` are read-only properties; as attributes they can be set.
    else if (node instanceof HTMLElement && key in node && key !== "list" && key !== "form") node[key] = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

let groups = 0;

/** Radio buttons that look like a switch. */
export function choice(legend, options, chosen, onchange) {
  const name = `choice-${++groups}`;
  const items = options.map(([value, text]) => el("label", {},
    el("input", { type: "radio", name, value, checked: value === chosen, onchange: () => onchange(value) }), el("span", {}, text)));
  return el("fieldset.choice", {}, el("legend.unseen", {}, legend), ...items);
}

/** A slider with its name and value: `{node, input, set(value)}`. Calls `oninput(value)` at each step. */
export function slider(text, { min, max, step = 1, value, show = String, oninput, id }) {
  const output = el("output.value", { htmlFor: id }, show(value));
  const input = el("input", { type: "range", id, min, max, step, value, oninput: () => { draw(); oninput(Number(input.value)); } });
  const draw = () => {
    output.textContent = show(Number(input.value));
    input.setAttribute("aria-valuetext", output.textContent);
  };
  const set = (number) => { input.value = number; draw(); };
  draw();
  return { node: el("div.slider", {}, el("label", { htmlFor: id }, text), input, output), input, set };
}

const STROKES = {
  dice: "M5 3h14a2 2 0 0 1 2 2v14a2 2 0 0 1-2 2H5a2 2 0 0 1-2-2V5a2 2 0 0 1 2-2zM8 8h.01M16 8h.01M12 12h.01M8 16h.01M16 16h.01",
  download: "M12 4v11M7 10.5l5 5 5-5M5 20h14",
  copy: "M9 9h10v11H9zM15 9V4H5v11h4",
  pen: "M4 20l1-4L16 5l3 3L8 19l-4 1zM14 7l3 3",
  eraser: "M4 15l9-9 6 6-7 7H8l-4-4zM9 10l6 6M12 19h8",
  undo: "M9 7L4 12l5 5M4 12h10a5 5 0 0 1 5 5v1",
  clear: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  enlarge: "M11 4a7 7 0 1 0 0 14a7 7 0 0 0 0-14zM16 16l4 4M11 8v6M8 11h6",
  camera: "M4 8h4l2-3h4l2 3h4v11H4zM12 10a3.5 3.5 0 1 0 0 7a3.5 3.5 0 0 0 0-7z",
};

/** An icon for a button. Screen readers skip it: the button's text says the same. */
export const icon = (name) => svg("svg.icon", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: STROKES[name] }));

export const percent = (share) => `${(100 * share).toFixed(share > 0.9995 || share < 0.0005 ? 0 : 1)} %`;
export const count = (number) => number.toLocaleString("en");
export const milliseconds = (value) => `${value < 10 ? value.toFixed(1) : count(Math.round(value))} ms`;

export function bytes(number) {
  const unit = number < 1e6 ? ["kB", 1e3] : ["MB", 1e6];
  return `${(number / unit[1]).toPrecision(3)} ${unit[0]}`;
}

/** A figure of a card: accuracy and IoU in per cent, others with four digits. */
export function figure(name, value) {
  if (/accuracy|iou/.test(name)) return percent(value);
  return Number(value.toPrecision(4)).toString().replace("-", "−");
}

/** `frechet_distance` -> `Fréchet distance`. */
export function metric(name) {
  const words = name.replaceAll("_", " ").replace(/\biou\b/, "IoU").replace(/\belbo\b/, "ELBO").replace(/\bfrechet\b/, "Fréchet").replace(/\bkl\b/, "KL");
  return words.replace(/r squared/, "R²");
}

const MEANINGS = [ // of metrics, by their names: which way is better, and what is measured
  [/^top_(\d+)_accuracy$/, "higher", "share of examples whose class is among the $1 most probable"],
  [/accuracy/, "higher", "share of right answers"],
  [/iou/, "higher", "overlap of mask and truth: their intersection over their union"],
  [/dice/, "higher", "overlap of mask and truth: twice their intersection over the sum of both"],
  [/r_squared/, "higher", "share of the variation that is explained; 1 is perfect, 0 is no better than the mean"],
  [/elbo/, "higher", "evidence lower bound of an image's log-likelihood, in nats"],
  [/frechet/, "lower", "distance between the features of generated and of real images"],
  [/diversity/, "higher", "how much generated images differ from one another"],
  [/squared_error/, "lower", "mean of the squared difference to the truth"],
  [/absolute_error/, "lower", "mean of the difference to the truth"],
  [/cross_entropy/, "lower", "mean surprise at the truth, in nats"],
  [/^kl/, "", "how far codes are from the normal distribution, in nats"],
  [/loss/, "lower", "what training made smaller"],
];

/** What a metric measures and which way is better; "" for one that is not known. */
export function meaning(name) {
  const found = MEANINGS.find(([pattern]) => pattern.test(name));
  if (!found) return "";
  const [pattern, better, words] = found;
  return [words.replace("$1", pattern.exec(name)[1] ?? ""), better && `${better} is better`].filter(Boolean).join("; ");
}
