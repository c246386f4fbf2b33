// The model card: the network, its data, its figures and its signatures.

import { load, reports as fetchReports, reportUrl } from "./api.js";
import { bytes, count, el, figure, icon, meaning, metric } from "./dom.js";
import { stateOf } from "./summary.js";

const FOLDED = 20; // more classes are folded away, with a search
const WIDE = ["curves.png", "samples.png", "latent.png", "reconstructions.png", "filtered.png", "masks.png",
  "answers.png", "density.png", "descents.png"];

export function card(model) {
  const written = model.card;
  if (!written) {
    const why = model.card_error ? el("p.notice.bad", {}, `This model's card cannot be used. ${model.card_error}.`)
      : el("p.notice", {}, "This model has no card. The server says this about it:");
    return el("div.cardview", {}, why, classes(model.labels ?? []), versions(model), signatures(model.signatures));
  }
  return el("div.cardview", {},
    written.data?.synthetic ? el("p.notice.warn", {}, "This model was trained on generated data: its figures say nothing about real data.") : "",
    el("div.columns", {}, figures(written), data(written)),
    classes(model.labels ?? []), pictures(model), training(written), parity(written),
    versions(model), signatures(Object.keys(model.signatures ?? {}).length ? model.signatures : written.signatures));
}

const part = (title, ...children) => el("section.card", {}, el("h2", {}, title), ...children);

function facts(rows) {
  const known = rows.filter(([, value]) => value !== undefined && value !== null && value !== false && value !== "");
  return el("dl.facts", {}, ...known.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value instanceof Node ? value : String(value)))));
}

function table(caption, heads, rows) {
  return el("div.scroll", { tabIndex: 0, role: "region", "aria-label": caption }, el("table", {}, el("caption.unseen", {}, caption),
    el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...rows.map(([first, ...cells]) => el("tr", {}, el("th", { scope: "row" }, first), ...cells.map((cell) => el("td", {}, cell)))))));
}

// A card has null for what a task lacks (labels of a regression), so the defaults of `=` would not do.
function figures(written) {
  const metrics = written.metrics ?? {};
  const splits = Object.keys(metrics);
  const numbers = (values) => Object.entries(values).filter(([, value]) => typeof value === "number");
  const names = [...new Set(splits.flatMap((split) => numbers(metrics[split]).map(([name]) => name)))];
  const nested = splits.flatMap((split) => Object.entries(metrics[split]).filter(([, value]) => value && typeof value === "object")
    .flatMap(([name, values]) => numbers(values).map(([key, value]) => [`${metric(name)}: ${key}`, split, figure(name, value)])));
  const notes = splits.flatMap((split) => Object.entries(metrics[split]).filter(([, value]) => typeof value === "string"));
  const cell = (name, split) => (typeof metrics[split][name] === "number" ? figure(name, metrics[split][name]) : "");
  const named = (name) => [metric(name), meaning(name) ? el("span.hint.note", {}, meaning(name)) : ""];
  const sizes = written.data?.splits ?? {};
  const head = (split) => [split, sizes[split] ? el("span.note", {}, ` ${count(sizes[split])} examples`) : ""];
  if (!splits.length) return part("Figures", el("p.hint", {}, "The card has no figures of this model."));
  return part("Figures", table("Figures by split", ["", ...splits.map(head)], [...names.map((name) => [named(name), ...splits.map((split) => cell(name, split))]),
    ...nested.map(([name, split, value]) => [name, ...splits.map((each) => (each === split ? value : ""))])]),
  ...notes.map(([name, text]) => el("p.hint", {}, `${metric(name)}: ${text}`)));
}

function data(written) {
  const set = written.data ?? {};
  if (!set.name) return part("Data", el("p.hint", {}, "The card does not tell the data that this model was trained on."));
  return part("Data", facts([
    ["Data set", set.name && `${set.name}${set.synthetic ? " (synthetic)" : ""}`], ["Source", set.source], ["Origin", set.origin], ["Licence", set.licence],
    ["Examples", set.splits && Object.entries(set.splits).map(([split, number]) => `${split} ${count(number)}`).join(", ")],
    ["Split", set.notes], ["SHA-256", set.sha256 && el("code", {}, set.sha256)],
  ]));
}

/** The labels with their ids. Many are folded, and a search finds one. */
function classes(labels) {
  if (!labels.length) return "";
  const rows = labels.map((label, id) => el("li", {}, el("span.soft", {}, String(id)), " ", label));
  const list = el("ol.classes", {}, ...rows);
  if (labels.length <= FOLDED) return part(`${count(labels.length)} classes`, list);
  const none = el("p.hint", { hidden: true, role: "status" }, "No class has this in its name.");
  const search = el("input", { type: "search", id: "class-search", placeholder: "Part of a name", oninput: () => {
    const wanted = search.value.trim().toLowerCase();
    rows.forEach((row, id) => { row.hidden = !labels[id].toLowerCase().includes(wanted); });
    none.hidden = rows.some((row) => !row.hidden);
  } });
  return part(`${count(labels.length)} classes`, el("details", {}, el("summary", {}, `Show all, or search: ${labels.slice(0, 3).join(", ")} …`),
    el("div.stack", {}, el("label.title", { htmlFor: "class-search" }, "Search"), search, none, el("div.scroll.tall", { tabIndex: 0, role: "region", "aria-label": "Classes" }, list))));
}

function pictures(model) {
  const node = el("div.reports");
  if (!model.reports?.length) return "";
  fetchReports(model.name).then((found) => node.append(...found.map(({ file, title }) => {
    const about = `${title} of ${model.name}`;
    const image = load(el("img", { alt: about, loading: "lazy" }), reportUrl(model.name, file));
    return el(WIDE.includes(file) ? "section.card.wide" : "section.card", {}, el("h2", {}, title),
      el("button.paper", { type: "button", "aria-label": `Enlarge: ${about}`, onclick: () => enlarge(image.src, about) }, image, el("span.lens", {}, icon("enlarge"), "Enlarge")));
  }))).catch(() => node.remove());
  return node;
}

function enlarge(src, about) {
  const close = el("button", { type: "button", onclick: () => dialog.close() }, "Close");
  const dialog = el("dialog", { "aria-label": about, onclose: () => dialog.remove() }, close, el("img", { src, alt: about }));
  document.body.append(dialog);
  dialog.showModal();
}

function training(written) {
  const [config, libraries, seconds] = [written.config ?? {}, written.versions ?? {}, written.training_seconds ?? undefined];
  const hyper = Object.entries(config).map(([name, value]) => [name, Array.isArray(value) ? value.join(", ") : String(value)]);
  return part("Training", facts([
    ["Network", written.network], ["Task", written.task], ["Parameters", written.parameters && count(written.parameters)], ["Size on disk", written.size_bytes && bytes(written.size_bytes)],
    ["Trained", seconds !== undefined && `${written.epochs} epochs in ${Math.round(seconds)} s on ${written.machine ?? "an unknown machine"}`],
    ["Seed", written.seed], ["Created", written.created?.replace("T", " ").replace("Z", " UTC")], ["Commit", written.commit && el("code", {}, written.commit.slice(0, 12))],
  ]), el("details", {}, el("summary", {}, "Configuration"), facts(hyper)), el("details", {}, el("summary", {}, "Libraries"), facts(Object.entries(libraries))));
}

function parity(written) {
  const rows = Object.entries(written.onnx ?? {}).map(([file, graph]) => [file, graph.parity?.max_abs?.toExponential(1) ?? "not measured",
    graph.parity?.inputs ? count(graph.parity.inputs) : "", (graph.parity?.argmax_equal ?? null) === null ? "" : graph.parity.argmax_equal ? "yes" : "no", graph.size_bytes ? bytes(graph.size_bytes) : ""]);
  const made = written.quantized, graphs = Object.entries(made?.graphs ?? {});
  const optimised = graphs.map(([file, how]) => `${file}: ${how.method}, ${how.ratio}× as fast on ${made.processor}`).join("; ");
  return part("Parity", el("p.hint", {}, "How far ONNX Runtime and TensorFlow differ on the same inputs, measured at export."),
    graphs.length ? el("p.hint", {}, `Made faster by ladle optimize: ${optimised}. ${metric(made.headline.name)} ${made.headline.before.toPrecision(4)} before, ${made.headline.after.toPrecision(4)} after.`) : "",
    rows.length ? table("Parity of each graph", ["Graph", "Largest difference", "Inputs", "Same classes", "Size"], rows) : el("p", {}, "There is no ONNX graph: TensorFlow runs this model."));
}

function versions(model) {
  const rows = (model.versions ?? []).map((each) => [String(each.version), stateOf({ ...each, version: null, state: each.state }), each.error ?? ""]);
  return rows.length ? part("Versions", table("Versions of the model", ["Version", "State", "Error"], rows)) : "";
}

function signatures(all) {
  const written = (tensors) => Object.entries(tensors ?? {}).map(([name, { dtype, shape }]) =>
    `${name} ${dtype} ${shape ? `[${shape.map((axis) => axis ?? "·").join(", ")}]` : ""}`).join("\n");
  const rows = Object.entries(all ?? {}).map(([key, { method, inputs, outputs }]) =>
    [key, method ?? "", el("code", {}, written(inputs)), el("code", {}, written(outputs))]);
  return part("Signatures", table("Signatures of the model", ["Signature", "Method", "Inputs", "Outputs"], rows));
}
