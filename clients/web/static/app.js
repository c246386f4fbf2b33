// The frame of the page: routes, state of the server, theme, API key.

import { listing, NO_KEY, service as fetchService, useKey } from "./api.js";
import { BACK } from "./panel.js";
import { el } from "./dom.js";
import { gallery } from "./gallery.js";
import { modelPage } from "./page.js";
import { service } from "./service.js";
import { setServers } from "./snippets.js";
import { themes } from "./themes.js";

const POLL_MS = 3000;
const main = document.getElementById("main");
let known = null; // the models, once they were listed
let training = []; // what trains now
let reachable = true;
let shown = null; // the view on the page: {node, update?, name?, open?}

// --- state -------------------------------------------------------------------------------------

function announce(state, text) {
  const pill = document.getElementById("server");
  if (pill.lastElementChild.textContent === text) return;
  pill.dataset.state = state;
  pill.lastElementChild.textContent = text;
}

async function poll() {
  const before = reachable;
  try {
    const { ready, models, training: runs } = await listing();
    known = models;
    training = runs;
    reachable = ready;
    const served = known.filter((model) => model.state === "AVAILABLE").length;
    if (ready) announce("AVAILABLE", served === 1 ? "1 model is served" : `${served} models are served`);
    else announce("END", "The model server does not answer");
  } catch (error) {
    announce("END", error.status === 0 ? "The gateway does not answer" : error.message);
    reachable = false;
    known = known?.map((model) => ({ ...model, state: "UNREACHABLE" })) ?? null;
  }
  if (known) shown?.update?.(known, { training, reachable });
  if (reachable) document.dispatchEvent(new CustomEvent(BACK, { detail: { first: !before } }));
  if (reachable && !before) addresses();
}

async function live() {
  if (!document.hidden) await poll();
  setTimeout(live, POLL_MS);
}

/** Fetches the model server's addresses for the code that the panels show. */
async function addresses() {
  try {
    setServers(await fetchService());
  } catch {
    setServers(); // the code keeps the addresses it has
  }
}

// --- routes ------------------------------------------------------------------------------------

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function go(event) {
  const [place, name, view] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  for (const link of document.querySelectorAll(".top nav a[data-place]")) {
    if (link.dataset.place === (place === "service" ? "service" : "models")) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (place === "models" && name && shown?.name === name) {
    shown.open(view);
    return;
  }
  if (place === "models" && name) shown = modelPage(name, view);
  else if (place === "service") shown = { node: service() };
  else shown = gallery();
  if (!shown.name) document.title = place === "service" ? "Service · Ladle" : "Ladle";
  main.replaceChildren(shown.node);
  if (known) shown.update?.(known);
  if (event) main.focus({ preventScroll: true }); // so that a screen reader continues in the new content
  window.scrollTo(0, 0);
}

// --- key ---------------------------------------------------------------------------------------

function keys() {
  document.addEventListener(NO_KEY, () => {
    if (document.getElementById("key")) return;
    const input = el("input", { type: "password", id: "key", autocomplete: "off", required: true });
    const form = el("form.card.key", { onsubmit: (event) => {
      event.preventDefault();
      useKey(input.value.trim());
      form.remove();
      poll().then(() => { document.dispatchEvent(new CustomEvent(BACK, { detail: { first: true } })); shown = null; go(); });
    } }, el("label.title", { htmlFor: "key" }, "This gateway requires an API key"), el("div.row.tight.wrap", {}, input, el("button.main", {}, "Use it")),
    el("p.hint", {}, "The key is kept until this tab is closed."));
    main.before(form);
    input.focus();
  });
}

themes();
keys();
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
window.addEventListener("hashchange", go);
document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
addresses();
await poll();
go();
setTimeout(live, POLL_MS);
