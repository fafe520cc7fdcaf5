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
  if (!history || history.length < 2) return null;
  const shown = LINES.filter(({ field }) => history.some((point) => isNumber(point[field])));
  if (shown.length === 0) return null;
  const begin = history[0].at;
  const seconds = history.at(-1).at - begin || 1;
  const cursor = state.cursors.time === undefined ? null : history[Math.min(state.cursors.time, history.length - 1)];
  const place = cursor && (cursor.at - begin) / seconds;
  const charts = shown.map((line) => chart(line, history, begin, seconds, cursor, place));
  const picture = readable(
    {
      state,
      page,
      name: "time",
      label: "Throughput and resources over time",
      size: history.length,
      at: (event) => nearest(event, history, begin, seconds),
      text: (index) => pointText(history[index], now),
      rest: `${clock(begin, now)} to ${clock(history.at(-1).at, now)}. Point at a line, or use the arrow keys, to read it.`,
    },
    h("div.charts", null, charts),
  );
  return card("Over time", { class: "wide" }, picture);
}

function chart({ field, title, format }, history, begin, seconds, cursor, place) {
  const values = history.map((point) => point[field]).filter(isNumber);
  const top = Math.max(...values) || 1;
  const x = (point) => ((point.at - begin) / seconds) * WIDTH;
  const y = (point) => HEIGHT - (point[field] / top) * (HEIGHT - 2);
  const shown = cursor && isNumber(cursor[field]) ? cursor : null;
  return h(
    "figure",
    { key: field },
    h("figcaption", null, title, " ", h("b", null, format(shown ? shown[field] : values.at(-1))), h("span.muted", null, ` peak ${format(top)}`)),
    h("div.plot", null,
      h(
        "svg",
        { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" },
        h("path.area", { d: linePath(history, field, x, y, true) }),
        h("path.line", { d: linePath(history, field, x, y, false) }),
      ),
      cursor && h("i.cursor", { style: { left: `${100 * place}%` } }),
    ),
  );
}

/** A line, or the areas below its pieces. It has a gap where a value is unknown. */
function linePath(history, field, x, y, isArea) {
  const pieces = [[]];
  for (const point of history) {
    if (isNumber(point[field])) pieces.at(-1).push(point);
    else if (pieces.at(-1).length > 0) pieces.push([]);
  }
  const path = (points) => {
    const line = points.map((point) => `${x(point).toFixed(1)} ${y(point).toFixed(1)}`).join("L");
    return isArea ? `M${x(points[0]).toFixed(1)} ${HEIGHT}L${line}L${x(points.at(-1)).toFixed(1)} ${HEIGHT}Z` : `M${line}`;
  };
  return pieces.filter((points) => points.length > 0).map(path).join("");
}

function nearest(event, history, begin, seconds) {
  const plot = event.target.closest(".plot")?.getBoundingClientRect();
  if (!plot) return null;
  const at = begin + ((event.clientX - plot.left) / plot.width) * seconds;
  const distances = history.map((point) => Math.abs(point.at - at));
  return distances.indexOf(Math.min(...distances));
}

function pointText(point, now) {
  const lines = LINES.filter(({ field }) => isNumber(point[field]));
  const values = lines.map(({ field, title, format }) => `${title} ${format(point[field])}`);
  return `${clock(point.at, now)}: ${number(point.done)} done, ${number(point.failed)} failed. ${values.join(", ")}`;
}

function isNumber(value) {
  return typeof value === "number";
}
