// Line charts in SVG. A label names the newest values for screen readers; a legend shows them below.

import { el, svg } from "./dom.js";

const [WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT] = [480, 190, 54, 28, 12, 10];
const LINES = 4;

/** Round values from `low` to `high`, for the grid. */
function ticks(low, high) {
  const rough = (high - low || 1) / LINES;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((each) => each * power).find((each) => each >= rough);
  const first = Math.ceil(low / step - 1e-9) * step;
  return Array.from({ length: Math.floor((high - first) / step + 1e-9) + 1 }, (_, i) => Number((first + i * step).toPrecision(12)));
}

const short = (value) => (Math.abs(value) >= 10000 ? value.toExponential(0) : Number(value.toPrecision(4)).toString());

/**
 * A chart of `series` [{name, values}] over `x`; null values leave a gap. `floor`: a value that the vertical axis includes;
 * `mark`: a point [x, y]; `bare`: no legend; `axis(value)` and `show(value)`: the texts of values of x and of the series.
 */
export function lineChart({ title, x, series, floor, mark, bare, axis = short, show = short }) {
  const values = series.flatMap((each) => each.values).filter((value) => value !== null);
  let [low, high] = [Math.min(...values, floor ?? Infinity), Math.max(...values, floor ?? -Infinity)];
  if (!values.length) [low, high] = [0, 1];
  if (low === high) [low, high] = low === 0 ? [0, 1] : [Math.min(low, 0), Math.max(high, 0)];
  const grid = ticks(low, high);
  high = Math.max(high, grid.at(-1));
  const across = (value) => LEFT + ((WIDTH - LEFT - RIGHT) * (value - x[0])) / (x.at(-1) - x[0] || 1);
  const up = (value) => HEIGHT - BOTTOM - ((HEIGHT - BOTTOM - TOP) * (value - low)) / (high - low || 1);
  const path = (numbers) => {
    let gap = true;
    return numbers.map((value, i) => {
      if (value === null) { gap = true; return ""; }
      const step = `${gap ? "M" : "L"}${across(x[i]).toFixed(1)} ${up(value).toFixed(1)}`;
      gap = false;
      return step;
    }).join("");
  };
  const newest = series.map(({ name, values: all }) => `${name} ${all.at(-1) === null || all.at(-1) === undefined ? "none" : show(all.at(-1))}`);
  const drawing = svg("svg.chart", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${title}: ${newest.join(", ")}` },
    ...grid.map((value) => svg("g", {}, svg("line.rule", { x1: LEFT, x2: WIDTH - RIGHT, y1: up(value), y2: up(value) }),
      svg("text.tick", { x: LEFT - 6, y: up(value) + 4, "text-anchor": "end" }, short(value)))),
    axis(x[0]) === axis(x.at(-1)) ? null : svg("text.tick", { x: LEFT, y: HEIGHT - 6 }, axis(x[0])), svg("text.tick", { x: WIDTH - RIGHT, y: HEIGHT - 6, "text-anchor": "end" }, axis(x.at(-1))),
    ...series.map(({ values: all }, i) => svg(`path.line.s${i}`, { d: path(all) })),
    mark && svg("circle.mark", { cx: across(mark[0]), cy: up(mark[1]), r: 5 }));
  return el("figure.plot", {}, drawing, bare ? "" : el("figcaption", {}, ...series.map(({ name, values: all }, i) =>
    el(`span.key.s${i}`, {}, name, " ", el("b", {}, all.at(-1) === null || all.at(-1) === undefined ? "–" : show(all.at(-1)))))));
}
