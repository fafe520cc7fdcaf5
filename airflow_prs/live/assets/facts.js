/** Tables of facts: the result, the slowest mini-batches, the skew over the nodes, the configuration. */

import { h } from "./dom.js";
import { bar, card, codes, commandLine, disclosure, place, table } from "./parts.js";
import { count, decimal, duration, number } from "./words.js";

export function resultCard({ result }) {
  if (!result) return null;
  const { location, rows, reports, head } = result;
  return card(
    "Result",
    { aside: typeof rows === "number" && count(rows, "row"), class: "wide" },
    location ? commandLine(location) : h("p.muted", "Nothing is published."),
    head?.length > 0 && h("pre", { tabindex: 0, "aria-label": "First rows of the result" }, head.join("\n")),
    reports?.length > 0 && codes(reports),
  );
}

export function slowestCard({ slowest }) {
  if (!slowest?.length) return null;
  const measured = measuring(slowest.map(({ seconds }) => seconds));
  const rows = slowest.map((one) => ({ key: one.mini_batch, cells: [number(one.mini_batch), measured(one.seconds), place(one)] }));
  return card("Slowest mini-batches", {}, table("Slowest mini-batches", ["*Mini-batch", "Time", "Where"], rows));
}

export function skewCard({ skew }) {
  if (!skew || skew.length < 2) return null;
  const measured = measuring(skew.map(({ run_s: seconds }) => seconds));
  const rows = skew.map(({ node, mini_batches: batches, run_s: seconds, mean_s: mean }) => ({
    key: node,
    cells: [node, measured(seconds), number(batches), `${decimal(mean)} s`],
  }));
  return card("Nodes compared", {}, table("Work of each node", ["*Node", "In run()", "#Mini-batches", "#Mean"], rows));
}

/** A function that shows one of some durations beside a bar. */
function measuring(all) {
  const longest = Math.max(...all);
  return (seconds) => h("div.inline", bar(longest, ["used", seconds]), duration(seconds));
}

export function configurationCard(state, page) {
  const { configuration } = state.overview;
  if (!configuration?.length) return null;
  const isOpen = state.toggled.has("configuration");
  const promoted = configuration.filter((entry) => entry.is_promoted).length;
  const toggle = disclosure(page, "configuration", isOpen, "Show the configuration", isOpen ? "Hide" : `Show ${count(configuration.length, "value")}`);
  const tag = h("span.tag", { title: "A PipelineParameter, which the form of the DAG can change" }, "promoted");
  const rows = configuration.map(({ name, value, is_promoted: isPromoted }) => ({
    key: name,
    cells: [h("code", name), [h("code", typeof value === "string" ? value : JSON.stringify(value)), isPromoted && tag]],
  }));
  const aside = promoted > 0 && `${number(promoted)} promoted`;
  return card("Configuration", { aside, class: "wide" }, toggle, isOpen && table("Configuration", ["*Parameter", "Value"], rows));
}
