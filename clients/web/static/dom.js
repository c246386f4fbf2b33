// Elements, and figures as text.

/** An element: `el("button.quiet", {onclick: f, disabled: true}, "Go")`. Attributes with `undefined` are left out. */
export function el(name, attributes = {}, ...children) {
  const [tag, ...classes] = name.split(".");
  const node = document.createElement(tag);
  if (classes.length) node.className = classes.join(" ");
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node && key !== "list" && key !== "form") node[key] = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return node;
}

/** One choice of several, as radio buttons that look like a switch. */
export function choice(legend, options, chosen, onchange) {
  const group = `choice-${Math.random().toString(36).slice(2)}`;
  const items = options.map(([value, text]) =>
    el("label", {}, el("input", { type: "radio", name: group, value, checked: value === chosen,
      onchange: () => onchange(value) }), el("span", {}, text)));
  return el("fieldset.choice", {}, el("legend.unseen", {}, legend), ...items);
}

export const percent = (share) => `${(100 * share).toFixed(share > 0.9995 || share < 0.0005 ? 0 : 1)} %`;
export const count = (number) => number.toLocaleString("en");
export const milliseconds = (value) => (value < 10 ? value.toFixed(1) : Math.round(value).toString()) + " ms";

export function bytes(size) {
  const units = ["B", "kB", "MB", "GB"];
  let step = 0;
  while (size >= 1000 && step < units.length - 1) { size /= 1000; step += 1; }
  return `${step ? size.toFixed(1) : size} ${units[step]}`;
}

/** A figure of a card: shares as per cent, the rest with four digits. */
export function figure(name, value) {
  if (/accuracy|iou/.test(name)) return percent(value);
  return Number(value.toPrecision(4)).toString();
}

/** `frechet_distance` -> `Fréchet distance`. */
export function metric(name) {
  return name.replaceAll("_", " ").replace(/\biou\b/, "IoU").replace(/\belbo\b/, "ELBO").replace(/\bfrechet\b/, "Fréchet");
}
