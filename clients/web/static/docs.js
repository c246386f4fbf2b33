// The API's page: a form for each route, filled with its example and the models that are served.

import { key, useKey } from "./api.js";
import { el, milliseconds } from "./dom.js";
import { themes } from "./themes.js";

const MOST_SHOWN = 6000; // characters of an answer
const main = document.getElementById("main");
const base = main.dataset.base;
let models = null; // asked for when the first form is opened

const headers = (more = {}) => (key() ? { ...more, Authorization: `Bearer ${key()}` } : more);

async function served() {
  models ??= fetch(`${base}api/v1/models`, { headers: headers() }).then((response) => (response.ok ? response.json() : { models: [] }))
    .then((found) => found.models.filter((model) => model.state === "AVAILABLE")).catch(() => []);
  return models;
}

function section(node) {
  const { method, path, example } = node.dataset;
  const place = node.querySelector(".try");
  const open = el("button", { type: "button", onclick: async () => { place.replaceChildren(await form(method, path, example && JSON.parse(example))); place.querySelector("select, input, textarea, button")?.focus(); } }, "Try it");
  place.append(open);
}

async function form(method, path, example) {
  const verb = /:(\w+)$/.exec(path)?.[1];
  const names = [...path.matchAll(/{(\w+)}/g)].map(([, name]) => name);
  const known = (await served()).filter((model) => !verb || verb === "predict" || model.verbs.includes(verb));
  const fields = Object.fromEntries(names.map((name) => [name, name === "name" && known.length
    ? el("select", { required: true }, ...known.map((model) => el("option", { value: model.name }, model.name)))
    : el("input", { type: "search", required: true, placeholder: name === "file" ? "0.png" : name })]));
  const body = example ? el("textarea.json", { rows: 4, spellcheck: false, value: JSON.stringify(example, null, 1) }) : null;
  const out = el("div", { role: "status" });
  const send = async (event) => {
    event.preventDefault();
    const target = base + path.slice(1).replace(/{(\w+)}/g, (_, name) => encodeURIComponent(fields[name].value));
    const started = performance.now();
    out.replaceChildren(el("p.hint", {}, "Asking"));
    try {
      const options = body ? { method, headers: headers({ "Content-Type": "application/json", Accept: "application/json" }), body: body.value } : { method, headers: headers() };
      const response = await fetch(target, options);
      const shown = await answer(response);
      out.replaceChildren(el("p.hint", {}, `${response.status} ${response.statusText}, ${milliseconds(performance.now() - started)}, ${response.headers.get("Content-Type")}`), shown);
    } catch {
      out.replaceChildren(el("p.notice.bad", { role: "alert" }, "The gateway does not answer. Start it with “ladle gateway”."));
    }
  };
  const labelled = (text, field) => {
    field.id = `${path}-${text}`.replace(/[^\w-]/g, "-");
    return el("div.field", {}, el("label.title", { htmlFor: field.id }, text), field);
  };
  const missing = verb && names.includes("name") && !known.length ? el("p.hint", {}, `No model that is served answers :${verb}.`) : "";
  return el("form", { onsubmit: send }, ...names.map((name) => labelled(name, fields[name])), missing, body ? labelled("Body, JSON", body) : "", el("div", {}, el("button.main", {}, "Send")), out);
}

async function answer(response) {
  const kind = response.headers.get("Content-Type") ?? "";
  if (kind.startsWith("image/")) return el("img", { src: URL.createObjectURL(await response.blob()), alt: "The answer" });
  const text = await response.text();
  const tidy = kind.includes("json") ? JSON.stringify(JSON.parse(text), null, 1) : text;
  return el("pre", { tabIndex: 0, role: "region", "aria-label": "Answer" }, el("code", {}, tidy.length > MOST_SHOWN ? `${tidy.slice(0, MOST_SHOWN)}…` : tidy));
}

themes();
document.querySelectorAll(".operation").forEach(section);
document.getElementById("key")?.addEventListener("input", (event) => { useKey(event.target.value.trim()); models = null; });
