// How the server splits a model's requests among versions, and how far its shadow agrees.

import { model as fetchModel } from "./api.js";
import { count, el } from "./dom.js";

const EVERY_MS = 5000;

export function traffic(model) {
  const node = el("div.cardview", {}, ...sections(model.traffic));
  const timer = setInterval(async () => {
    if (!node.isConnected) { clearInterval(timer); return; }
    const next = await fetchModel(model.name).catch(() => null);
    if (next?.traffic) node.replaceChildren(...sections(next.traffic));
  }, EVERY_MS);
  return node;
}

function sections(told) {
  const splits = Object.entries(told.split ?? {}).map(([name, arms]) => split(name, arms));
  return [...splits, ...(told.shadow ? [shadow(told.shadow)] : [])];
}

const part = (title, ...children) => el("section.card", {}, el("h2", {}, title), ...children);
const percent = (share) => `${Number((100 * share).toFixed(2))} %`;
const milliseconds = (value) => (value === null || value === undefined ? "" : `${value} ms`);

function table(caption, heads, rows) {
  return el("div.scroll", { tabIndex: 0, role: "region", "aria-label": caption }, el("table", {}, el("caption.unseen", {}, caption),
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...rows.map(([first, ...cells]) => el("tr", {}, el("th", { scope: "row" }, first), ...cells.map((cell) => el("td", {}, cell)))))));
}

function split(name, arms) {
  const total = arms.reduce((sum, { requests }) => sum + requests, 0);
  const who = name === "default" ? "Requests that name no version, and those for the label default." : `Requests for the label ${name}.`;
  return part(`Split ${name}`, el("p.hint", {}, who), table(`Arms of the split ${name}`, ["Arm", "Version", "Share", "Requests", "Errors", "Mean time"],
    arms.map((arm) => [arm.arm, arm.version === null ? "unknown" : String(arm.version), `${arm.percent} %`,
      `${count(arm.requests)}${total ? ` (${percent(arm.requests / total)})` : ""}`, count(arm.errors), milliseconds(arm.mean_ms)])));
}

function shadow(told) {
  const compared = told.same + told.different;
  const agreement = compared ? `${percent(told.same / compared)} of ${count(compared)} answers are the same.` : "No answer was compared yet.";
  const copied = told.percent === 100 ? "Every request is" : `${told.percent} % of the requests are`;
  return part("Shadow", el("p", {}, el("strong", {}, agreement)),
    el("p.hint", {}, `${copied} copied to ${told.to} (version ${told.version ?? "unknown"}). Failed: ${count(told.failed)}. Dropped because it was busy: ${count(told.dropped)}. `
      + (compared ? `Mean run: ${milliseconds(told.answer_ms)}; of the shadow ${milliseconds(told.shadow_ms)}.` : "")),
    told.outputs.length ? table("Outputs of the shadow", ["Output", "Same", "Different", "Largest difference"],
      told.outputs.map((row) => [el("code", {}, row.name), count(row.same), count(row.different), largest(row.largest_difference)])) : "");
}

function largest(value) {
  return value === null ? "" : typeof value === "number" ? String(Number(value.toPrecision(3))) : value;
}
