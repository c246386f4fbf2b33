// The page: a gallery of models with their live state, and a page for each model.

import { model as fetchModel, listing, post, samples as fetchSamples, sampleUrl, dataUrl } from "./api.js";
import { bytes, choice, count, el, figure, metric } from "./dom.js";
import { panel, TITLES } from "./panels.js";

const POLL_MS = 3000;
const main = document.getElementById("main");
const rail = el("nav.rail", { "aria-label": "Models" });
const previews = new Map(); // pictures of a model's card, by name and version: drawn once
let known = [];
let drawn = "";

// --- state -------------------------------------------------------------------------------------

function announce(state, text) {
  const pill = document.getElementById("server");
  pill.dataset.state = state;
  pill.lastElementChild.textContent = text;
}

async function poll() {
  try {
    const { ready, models } = await listing();
    known = models;
    const served = known.filter((model) => model.state === "AVAILABLE").length;
    if (!ready && known.length) announce("END", "The model server does not answer");
    else announce("AVAILABLE", served === 1 ? "1 model is served" : `${served} models are served`);
  } catch (error) {
    announce("END", error.message);
    known = known.map((model) => ({ ...model, state: "UNREACHABLE" }));
  }
  const now = JSON.stringify(known);
  if (now !== drawn) {
    drawn = now;
    refresh();
  }
}

const STATES = { START: "waiting", LOADING: "loading", AVAILABLE: "available", UNLOADING: "unloading", END: "ended", UNREACHABLE: "not reachable", MISSING: "not served" };

function state(model) {
  return el("span.state", { "data-state": model.state }, el("span.dot"), model.state === "AVAILABLE" && model.version ? `version ${model.version}` : STATES[model.state] ?? model.state);
}

// --- gallery -----------------------------------------------------------------------------------

function headline(model) {
  if (!model.headline) return null;
  const { name, value, split } = model.headline;
  return el("p.headline", {}, el("b", {}, figure(name, value)), ` ${metric(name)}, ${split} set`);
}

function source(model) {
  if (!model.data) return null;
  return model.data.synthetic ? el("span.tag.warn", {}, "synthetic data") : el("span.tag", {}, model.data.name);
}

/** What a model works on, as a strip: real samples, or images that it generates. */
function preview(model) {
  const key = `${model.name} ${model.version}`;
  if (previews.has(key)) return previews.get(key);
  const strip = el("div.strip", { "aria-hidden": "true" });
  if (model.state !== "AVAILABLE") return strip;
  previews.set(key, strip);
  const show = (urls) => strip.append(...urls.map((src) => el("img.pixels", { src, alt: "", loading: "lazy" })));
  fill(model, show, strip).catch(() => previews.delete(key));
  return strip;
}

async function fill(model, show, strip) {
  const samples = model.samples ? await fetchSamples(model.name) : [];
  const pictures = samples.filter((sample) => sample.file).slice(0, 4);
  const text = samples.find((sample) => sample.text && sample.text.length < 400) ?? samples.find((sample) => sample.text);
  if (model.task === "generate" && model.verbs.includes("generate")) {
    const { answer } = await post(model.name, "generate", { n: 4, seed: 1 });
    show(answer.images.map(dataUrl));
  } else if (pictures.length) {
    show(pictures.map((sample) => sampleUrl(model.name, sample.file)));
  } else if (text) {
    strip.append(el("q", {}, text.text.replaceAll("<br />", " ").slice(0, 110), "…"));
  }
}

function tile(model) {
  return el("a.tile", { href: `#/${encodeURIComponent(model.name)}` }, preview(model),
    el("div.row", {}, el("h2", {}, model.name), state(model)),
    el("p.about", {}, model.description || model.verbs.map((verb) => TITLES[verb] ?? verb).join(", ")),
    headline(model), el("p.tags", {}, ...model.verbs.map((verb) => el("span.tag.verb", {}, TITLES[verb] ?? verb)), source(model)));
}

function gallery() {
  document.title = "Ladle";
  if (!known.length) {
    return el("section.empty", {}, el("h1", {}, "No models yet"),
      el("p", {}, "Train one; it appears here as soon as it is served."), el("pre", {}, el("code", {}, "ladle train lenet5 --preset quick")));
  }
  return el("section", {}, el("h1", {}, "Models"), el("p.lead", {}, "Pick one and ask it something."),
    el("div.tiles", {}, ...known.map(tile)));
}

// --- a model -----------------------------------------------------------------------------------

function drawRail(current) {
  rail.replaceChildren(el("a.back", { href: "#/" }, "All models"), ...known.map((model) => el("a.stop",
    { href: `#/${encodeURIComponent(model.name)}`, "aria-current": model.name === current ? "page" : undefined },
    el("span.name", {}, model.name), state(model))));
}

function facts(card) {
  const rows = [
    ["Task", card.task], ["Parameters", card.parameters && count(card.parameters)], ["Size", card.size_bytes && bytes(card.size_bytes)],
    ["Data", card.data && `${card.data.name}${card.data.synthetic ? " (synthetic)" : ""}`], ["Source", card.data?.source], ["By", card.data?.origin],
    ["Licence", card.data?.licence], ["Trained", card.training_seconds !== undefined && `${card.epochs} epochs, ${Math.round(card.training_seconds)} s, ${card.machine ?? "machine not named"}`],
    ["Seed", card.seed], ["Created", card.created],
    ...Object.entries(card.metrics ?? {}).flatMap(([split, metrics]) => Object.entries(metrics).filter(([, value]) => typeof value === "number")
      .map(([name, value]) => [`${metric(name)} (${split})`, figure(name, value)])),
    ...Object.entries(card.onnx ?? {}).map(([file, graph]) => [`Parity of ${file}`, graph.parity && `${graph.parity.max_abs.toExponential(1)} at most, ${graph.parity.inputs} inputs`]),
  ].filter(([, value]) => value !== undefined && value !== null && value !== false && value !== "");
  return el("details.facts", {}, el("summary", {}, "Model card"),
    el("dl", {}, ...rows.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, String(value))))));
}

async function modelPage(name, wanted) {
  document.title = `${name} · Ladle`;
  const page = el("article.page", {}, el("p.hint", {}, "Loading"));
  drawRail(name);
  main.replaceChildren(el("div.split", {}, rail, page));
  try {
    const [model, samples] = await Promise.all([fetchModel(name), fetchSamples(name).catch(() => [])]);
    const verbs = model.verbs.filter((verb) => TITLES[verb]);
    const verb = verbs.includes(wanted) ? wanted : verbs[0];
    const bench = el("div");
    const open = (chosen) => {
      history.replaceState(null, "", `#/${encodeURIComponent(name)}/${chosen}`);
      bench.replaceChildren(panel(model, chosen, samples));
    };
    page.replaceChildren(el("header.head", {}, el("div", {}, el("h1", {}, name), el("p.about", {}, model.description)), headline(model), source(model)),
      verbs.length > 1 ? choice("What to ask", verbs.map((each) => [each, TITLES[each]]), verb, open) : "", bench,
      model.card ? facts(model.card) : "");
    if (verb) bench.replaceChildren(panel(model, verb, samples));
    else bench.append(el("p.notice", {}, "This page has no panel for this model's signatures. The API of the model server has."));
  } catch (error) {
    page.replaceChildren(el("h1", {}, name), el("p.notice", { role: "alert" }, error.message));
  }
}

// --- routes ------------------------------------------------------------------------------------

const route = () => location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);

function refresh() {
  const [name] = route();
  if (name) drawRail(name);
  else main.replaceChildren(gallery());
}

function go(event) {
  const [name, verb] = route();
  if (event) main.focus({ preventScroll: true }); // so that a screen reader goes on from the new content
  if (name) modelPage(name, verb);
  else main.replaceChildren(gallery());
  window.scrollTo(0, 0);
}

function themes() {
  const button = document.getElementById("theme");
  const order = ["auto", "light", "dark"];
  const show = (theme) => { button.replaceChildren(el("span.wide", {}, "Theme:"), theme); button.ariaLabel = `Theme: ${theme}`; };
  show(localStorage.getItem("theme") ?? "auto");
  button.addEventListener("click", () => {
    const next = order[(order.indexOf(localStorage.getItem("theme") ?? "auto") + 1) % order.length];
    if (next === "auto") {
      localStorage.removeItem("theme");
      delete document.documentElement.dataset.theme;
    } else {
      localStorage.setItem("theme", next);
      document.documentElement.dataset.theme = next;
    }
    show(next);
  });
}

async function live() {
  if (!document.hidden) await poll();
  setTimeout(live, POLL_MS);
}

themes();
window.addEventListener("hashchange", go);
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
await live();
go();
