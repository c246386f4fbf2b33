// The service view: requests, latencies and batch sizes, from the metrics of the model server and of the gateway.

import { service as fetchService } from "./api.js";
import { lineChart } from "./chart.js";
import { count, el, milliseconds } from "./dom.js";
import { modelHref, stateOf } from "./summary.js";
import { setServers } from "./snippets.js";

const POLL_MS = 2000;
const MOST_MODELS = 12; // with a chart of their own
const KEPT = 150; // points of a chart: five minutes
const history = []; // {at: ms, server, gateway}, the newest last; kept when the user leaves the view

const rate = (value) => (value === null || value === undefined ? "–" : value.toFixed(value < 10 ? 1 : 0));
const time = (value) => (value === null || value === undefined ? "–" : milliseconds(value));

async function read() {
  const now = await fetchService();
  setServers(now);
  history.push({ ...now, at: performance.now() });
  if (history.length > KEPT) history.shift();
  return now;
}

/** The view. It reads the metrics while it is on the page. */
export function service() {
  const body = el("div.stack.wide", {}, el("p.hint", {}, "Loading"));
  const node = el("section.stack.wide", {}, el("header", {}, el("h1", {}, "Service"), el("p.lead", {}, "Live metrics of the model server and of this gateway.")), body);
  const step = async () => {
    if (!document.hidden) {
      try {
        draw(body, await read());
      } catch (error) {
        body.replaceChildren(el("p.notice.bad", { role: "alert" }, error.message));
      }
    }
    setTimeout(() => { if (node.isConnected) step(); }, POLL_MS);
  };
  step();
  return node;
}

function draw(body, now) {
  const focused = body.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  const open = body.querySelector("details")?.open;
  body.replaceChildren(now.server ? "" : el("p.notice", {}, now.note ?? "The model server has no metrics here; these are the gateway's."),
    numbers(now), charts(now), models(now));
  if (open) body.querySelector("details").open = true;
  if (focused) body.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
}

function numbers({ server, gateway }) {
  const shown = server ?? gateway;
  const card = (term, value, more) => el("div.card.number", {}, el("dt", {}, term), el("dd", {}, el("b", {}, value), more ? el("span.hint", {}, more) : ""));
  return el("dl.numbers-row", {},
    card("Requests per second", rate(shown.requests_per_second), server ? "model server" : "gateway"),
    card("Median latency", time(shown.p50_ms), server ? `gateway ${time(gateway.p50_ms)}` : ""),
    card("99th percentile", time(shown.p99_ms), server ? `gateway ${time(gateway.p99_ms)}` : ""),
    card("Requests so far", count(shown.requests), `${count(shown.errors)} failed`));
}

function charts({ server }) {
  const seconds = history.map(({ at }) => (at - history.at(-1).at) / 1000);
  const x = seconds.length > 1 ? seconds : [-POLL_MS / 1000, 0];
  const values = (pick) => (seconds.length > 1 ? history.map(pick) : [null, pick(history.at(-1))]);
  const axis = (value) => (Math.round(value) ? `${Math.round(value)} s` : "now");
  const of = (who, what) => values((point) => point[who]?.[what] ?? null);
  const names = [...new Set(history.flatMap((point) => point.server?.models?.filter((each) => each.batch_size).map((each) => each.name) ?? []))].slice(0, MOST_MODELS);
  const batch = (name) => values((point) => point.server?.models?.find((each) => each.name === name)?.batch_size ?? null);
  const plots = [
    ["Requests per second", { series: [server && { name: "model server", values: of("server", "requests_per_second") }, { name: "gateway", values: of("gateway", "requests_per_second") }].filter(Boolean), show: rate }],
    ["Latency, milliseconds", { series: ["p50_ms", "p99_ms"].map((what) => ({ name: what.slice(0, 3), values: of(server ? "server" : "gateway", what) })), show: time }],
  ];
  // A model that takes thousands of rows in a run would flatten the lines of the others: each has a scale of its own.
  const small = names.map((name) => el("div", {}, lineChart({ title: `Batch size of ${name}`, x, axis, floor: 0, series: [{ name, values: batch(name) }], show: rate })));
  return el("div.stack.wide", {}, el("div.charts", {}, ...plots.map(([title, options]) =>
    el("section.card", {}, el("h2", {}, title), lineChart({ title, x, axis, floor: 0, ...options })))),
  small.length ? el("section.card", {}, el("h2", {}, "Batch size of each model"), el("p.hint", {}, "Rows that ran together, on average since the start. Each model has a scale of its own."), el("div.smalls", {}, ...small)) : "");
}

function models({ server, gateway, models: served }) {
  const shown = server ?? gateway;
  const heads = ["Model", "Version", "Requests", "Failed", "Per second", "p50", "p99", "Batch size"];
  const rows = served.map(({ name, version, state }) => {
    const of = shown.models.find((each) => each.name === name) ?? {};
    return el("tr", {}, el("th", { scope: "row" }, el("a", { href: modelHref(name) }, name)), el("td", {}, stateOf({ state, version })),
      ...[count(of.requests ?? 0), count(of.errors ?? 0), rate(of.requests_per_second), time(of.p50_ms), time(of.p99_ms), rate(of.batch_size)].map((text) => el("td.right", {}, text)));
  });
  return el("section.card", {}, el("h2", {}, "Models"), el("div.scroll", { tabIndex: 0, role: "region", "aria-label": "Models, their requests and latencies" },
    el("table", {}, el("caption.unseen", {}, "Models, their requests and latencies"),
      el("thead", {}, el("tr", {}, ...heads.map((head, i) => el(i > 1 ? "th.right" : "th", { scope: "col" }, head)))), el("tbody", {}, ...rows))),
  el("p.hint", {}, `Rates and latencies of the last ${Math.round(shown.window_s)} s, measured by ${server ? "the model server" : "the gateway"}.`));
}
