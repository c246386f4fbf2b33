// The page of a model: its description and its views.

import { model as fetchModel, samples as fetchSamples } from "./api.js";
import { el } from "./dom.js";
import { headline, modelHref, source, stateOf } from "./summary.js";
import { VIEWS, viewsOf } from "./views.js";

/** The page of the model `name`, opened at `view`: `{node, name, open(view), update(models)}`. */
export function modelPage(name, view) {
  const rail = el("nav.rail", { "aria-label": "Models" });
  const body = el("article.page", {}, el("p.hint", {}, "Loading"));
  const state = el("p.row.tight.wrap");
  let views = null; // opens a view, once the model was fetched
  let whole = false; // whether the model was served when the page was built
  let loading = false; // else the first `update`, which comes while the page is built, would build it again
  let seen = ""; // state and version that the page shows

  const load = async () => {
    loading = true;
    try {
      const model = await fetchModel(name);
      const samples = model.samples ? await fetchSamples(name).catch(() => []) : [];
      seen = `${model.state} ${model.version}`;
      whole = model.state === "AVAILABLE";
      const links = el("nav.views", { "aria-label": `Views of ${name}` });
      const place = el("div.place");
      views = (asked) => {
        const all = viewsOf(model);
        const chosen = all.includes(asked) ? asked : all[0];
        document.title = `${name}, ${VIEWS[chosen].title} · Ladle`;
        links.replaceChildren(...all.map((each) => el("a", { href: modelHref(name, each), "aria-current": each === chosen ? "page" : undefined }, VIEWS[each].title)));
        place.replaceChildren(VIEWS[chosen].panel(model, samples));
      };
      state.replaceChildren(stateOf(model), source(model) ?? "");
      body.replaceChildren(el("header.head", {}, el("div", {}, el("h1", {}, name), el("p.about", {}, model.description ?? ""), state), headline(model) ?? ""), links, place);
      if (model.error) place.before(el("p.notice.bad", { role: "alert" }, model.error));
      views(view);
    } catch (error) {
      views = null;
      whole = false;
      seen = "";
      document.title = `${name} · Ladle`;
      body.replaceChildren(el("h1", {}, name), el("p.notice.bad", { role: "alert" }, error.message), error.mayPass ? el("p.hint", {}, "This page loads by itself once the model is served.") : "");
    }
    loading = false;
  };
  load();

  return {
    node: el("div.split", {}, rail, body),
    name,
    open: (next) => { view = next; views?.(view); },
    update: (models) => {
      const text = JSON.stringify(models.map(({ name: each, state: now, version }) => [each, now, version]));
      if (rail.dataset.text !== text) {
        const focused = rail.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
        rail.dataset.text = text;
        rail.replaceChildren(...models.map((model) => el("a", { href: modelHref(model.name), "aria-current": model.name === name ? "page" : undefined },
          el("span.name", {}, model.name), stateOf(model))));
        if (focused) rail.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
        rail.querySelector("[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
      }
      const mine = models.find((model) => model.name === name);
      if (!mine || loading) return;
      if (!whole && mine.state === "AVAILABLE") load();
      else if (`${mine.state} ${mine.version}` !== seen) {
        seen = `${mine.state} ${mine.version}`;
        state.replaceChildren(stateOf(mine), source(mine) ?? "");
      }
    },
  };
}
