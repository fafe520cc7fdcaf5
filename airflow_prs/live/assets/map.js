/** The map of all mini-batches: one square each, or one for many of them. */

import { h } from "./dom.js";
import { card, readable } from "./parts.js";
import { miniBatches, number, percent } from "./words.js";

export function mapCard(state, page) {
  const { bins, progress } = state.overview;
  if (!bins?.count) return null;
  const { size } = bins;
  const few = `${Math.floor(size)} to ${Math.ceil(size)} mini-batches`;
  const square = Number.isInteger(size) ? miniBatches(size) : size < 10 ? few : `about ${miniBatches(size)}`;
  const cursor = state.cursors.map;
  const squares = Array.from({ length: bins.count }, (_, bin) => squareView(bins, bin, progress.total, bin === cursor));
  const picture = readable(
    {
      state,
      page,
      name: "map",
      label: `Map of ${miniBatches(progress.total)}`,
      size: bins.count,
      row: columnsOf,
      at: (event) => (event.target.dataset.bin === undefined ? null : Number(event.target.dataset.bin)),
      text: (bin) => binText(bins, bin, progress.total),
      rest: "Point at a square, or use the arrow keys, to see what it stands for.",
    },
    h("div.map", { class: bins.count <= 100 && "large" }, squares),
  );
  return card("Mini-batches", { aside: `1 square = ${square}`, class: "most" }, legend(state.overview, bins.count < progress.total), picture);
}

/** How many squares are in a row: as many as have the top of the first one. */
function columnsOf(element) {
  const squares = [...element.querySelectorAll("i")];
  const below = squares.findIndex((square) => square.offsetTop > squares[0].offsetTop);
  return below < 0 ? squares.length : below;
}

/** What is in a square. A run whose mini-batches do not divide evenly has squares of two sizes. */
function contents(bins, bin, total) {
  const begin = (number) => Math.ceil((number * total) / bins.count);
  const [failed, running] = [bins.failed[bin] ?? 0, bins.running[bin] ?? 0];
  return { first: begin(bin), size: begin(bin + 1) - begin(bin), failed, succeeded: (bins.done[bin] ?? 0) - failed, running };
}

function squareView(bins, bin, total, isChosen) {
  const { size, failed, succeeded, running } = contents(bins, bin, total);
  const kinds = [
    isChosen && "chosen",
    running > 0 && "busy",
    failed > 0 && (failed === size ? "bad" : "partly-bad"),
    succeeded === size && "done",
  ];
  const style = { "--share": `${Math.round((100 * (succeeded + failed)) / size)}%` };
  return h("i", { "data-bin": bin, class: kinds.filter(Boolean).join(" "), style });
}

function binText(bins, bin, total) {
  const { first, size, failed, succeeded, running } = contents(bins, bin, total);
  const waiting = size - failed - succeeded - running;
  if (size === 1) {
    const is = failed ? "failed" : succeeded ? "succeeded" : running ? "running" : "waiting";
    return `Mini-batch ${number(first)}: ${is}`;
  }
  const parts = Object.entries({ succeeded, failed, running, waiting }).filter(([, value]) => value > 0);
  const text = parts.map(([name, value]) => `${number(value)} ${name}`).join(", ");
  return `Mini-batches ${number(first)} to ${number(first + size - 1)}: ${text} (${percent(succeeded + failed, size)} done)`;
}

function legend({ progress, is_live: isLive }, isBinned) {
  const { succeeded, failed, running, waiting, retrying } = progress;
  const entry = (kind, text, value, more) =>
    h("li", { key: text }, h("i", { class: kind, style: { "--share": "0%" } }), `${text} `, h("b", number(value)), more);
  const retries = isLive && retrying > 0 && h("span.muted", ` (${number(retrying)} for a further try)`);
  return h("ul.legend",
    entry("done", "Succeeded", succeeded),
    entry(isBinned ? "partly-bad" : "bad", "Failed", failed),
    entry("busy", "Running", running),
    entry("", isLive ? "Waiting" : "Not done", waiting, retries),
  );
}
