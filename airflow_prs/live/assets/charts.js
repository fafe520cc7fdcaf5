/** Throughput and use of resources over the time of the run, as lines. */

import { h } from "./dom.js";
import { card, readable } from "./parts.js";
import { bytes, clock, decimal, number, rate } from "./words.js";

const LINES = [
  { field: "rate", title: "Throughput", format: rate },
  { field: "cpu_percent", title: "CPU", format: (value) => `${decimal(value)} %` },
  { field: "memory_bytes", title: "Memory", format: bytes },
];
const WIDTH = 300;
const HEIGHT = 60;

export function chartsCard(state, page) {
  const { history, at: now } = state.overview;
  const lines = LINES.filter((line) => history?.some((point) => isKnown(point, line)));
  if (lines.length === 0 || history.length < 2) return null;
  const begin = history[0].at;
  const end = history.at(-1).at;
  /** Where a point is, from 0 to 1. */
  const share = (point) => (point.at - begin) / (end - begin || 1);
  const cursor = state.cursors.time === undefined ? null : history[Math.min(state.cursors.time, history.length - 1)];
  const text = (index) => pointText(history[index], now);
  const rest = `${clock(begin, now)} to ${clock(end, now)}. Point at a line, or use the arrow keys, to read it.`;
  const label = "Throughput and resources over time";
  const at = (event) => nearest(event, history, share);
  const charts = lines.map((line) => chart(line, history, share, cursor));
  return card("Over time", { class: "wide" }, readable({ state, page, name: "time", label, size: history.length, at, text, rest }, h("div.charts", charts)));
}

function isKnown(point, { field }) {
  return typeof point[field] === "number";
}

function chart(line, history, share, cursor) {
  const { field, title, format } = line;
  const values = history.filter((point) => isKnown(point, line)).map((point) => point[field]);
  const top = Math.max(...values) || 1;
  const place = (point) => [share(point) * WIDTH, HEIGHT - (point[field] / top) * (HEIGHT - 2)].map((value) => value.toFixed(1));
  const pieces = piecesOf(history, line).map((points) => points.map(place));
  const lines = pieces.map((places) => `M${places.join("L")}`);
  const areas = pieces.map((places, index) => `${lines[index]}V${HEIGHT}H${places[0][0]}Z`);
  const shown = cursor && isKnown(cursor, line) ? cursor[field] : values.at(-1);
  const picture = { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" };
  return h(
    "figure",
    { key: field },
    h("figcaption", title, " ", h("b", format(shown)), h("span.muted", ` peak ${format(top)}`)),
    h("div.plot",
      h("svg", picture, h("path.area", { d: areas.join("") }), h("path.line", { d: lines.join("") })),
      cursor && h("i.cursor", { style: { left: `${100 * share(cursor)}%` } }),
    ),
  );
}

/** The points of each piece of a line. It has a gap where a value is unknown. */
function piecesOf(history, line) {
  const pieces = [[]];
  for (const point of history) {
    if (isKnown(point, line)) pieces.at(-1).push(point);
    else pieces.push([]);
  }
  return pieces.filter((points) => points.length > 0);
}

function nearest(event, history, share) {
  const plot = event.target.closest(".plot")?.getBoundingClientRect();
  if (!plot) return null;
  const at = (event.clientX - plot.left) / plot.width;
  const distances = history.map((point) => Math.abs(share(point) - at));
  return distances.indexOf(Math.min(...distances));
}

function pointText(point, now) {
  const values = LINES.filter((line) => isKnown(point, line)).map(({ field, title, format }) => `${title} ${format(point[field])}`);
  return `${clock(point.at, now)}: ${number(point.done)} done, ${number(point.failed)} failed. ${values.join(", ")}`;
}
