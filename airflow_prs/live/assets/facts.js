/** Tables of facts: the result, the slowest mini-batches, the skew over the nodes, the configuration. */

import { h } from "./dom.js";
import { bar, card, commandLine, disclosure, table } from "./parts.js";
import { count, decimal, duration, number } from "./words.js";

export function resultCard({ result }) {
  if (!result) return null;
  const { location, rows, reports, head } = result;
  return card(
    "Result",
    { aside: typeof rows === "number" && count(rows, "row"), class: "wide" },
    location ? commandLine(location) : h("p.muted", null, "Nothing is published."),
    head?.length > 0 && h("pre", { tabindex: 0, "aria-label": "First rows of the result" }, head.join("\n")),
    reports?.length > 0 && h("ul.list", null, reports.map((report) => h("li", { key: report }, h("code", null, report)))),
  );
}

export function slowestCard({ slowest }) {
  if (!slowest?.length) return null;
  const longest = Math.max(...slowest.map(({ seconds }) => seconds)) || 1;
  const rows = slowest.map(({ mini_batch: batch, seconds, node, process }) =>
    h("tr", { key: batch }, h("th", { scope: "row" }, number(batch)), measured(seconds, longest, duration(seconds)), h("td", null, [node, process].filter(Boolean).join(" · "))),
  );
  return card("Slowest mini-batches", {}, table("Slowest mini-batches", ["Mini-batch", "Time", "Where"], rows));
}

export function skewCard({ skew }) {
  if (!skew || skew.length < 2) return null;
  const longest = Math.max(...skew.map(({ run_s: seconds }) => seconds)) || 1;
  const rows = skew.map(({ node, mini_batches: batches, run_s: seconds, mean_s: mean }) =>
    h(
      "tr",
      { key: node },
      h("th", { scope: "row" }, node),
      measured(seconds, longest, duration(seconds)),
      h("td.number", null, number(batches)),
      h("td.number", null, `${decimal(mean)} s`),
    ),
  );
  return card("Nodes compared", {}, table("Work of each node", ["Node", "In run()", "#Mini-batches", "#Mean"], rows));
}

function measured(value, longest, text) {
  return h("td", null, h("div.inline", null, bar(longest, ["used", value]), text));
}

export function configurationCard(state, page) {
  const { configuration } = state.overview;
  if (!configuration?.length) return null;
  const isOpen = state.toggled.has("configuration");
  const promoted = configuration.filter((entry) => entry.is_promoted).length;
  const toggle = disclosure(page, "configuration", isOpen, "Show the configuration", isOpen ? "Hide" : `Show ${count(configuration.length, "value")}`);
  const rows = configuration.map(({ name, value, is_promoted: isPromoted }) =>
    h(
      "tr",
      { key: name },
      h("th", { scope: "row" }, h("code", null, name)),
      h("td", null, h("code", null, typeof value === "string" ? value : JSON.stringify(value)), isPromoted && h("span.tag", { title: "A PipelineParameter, which the form of the DAG can change" }, "promoted")),
    ),
  );
  const aside = promoted > 0 && `${number(promoted)} promoted`;
  return card("Configuration", { aside, class: "wide" }, toggle, isOpen && table("Configuration", ["Parameter", "Value"], rows));
}
