/** The list of recent runs. */

import { h } from "./dom.js";
import { notices } from "./notices.js";
import { link, progressBar, stateBadge, table, time } from "./parts.js";
import { AIRFLOW, PLUGIN } from "./server.js";
import { number } from "./words.js";

const HEADINGS = ["State", "Step", "DAG run", "Progress", "#Failed mini-batches", "#Failed items", "Began"];

export function runsView(state, page) {
  const { runs, error } = state;
  const content = runs?.length ? table("Recent parallel runs", HEADINGS, runs.map((run) => rowOf(run, state.isAlone))) : empty(runs, error);
  const airflow = state.isAlone && h("nav.crumbs", null, h("a", { href: AIRFLOW.href }, "Airflow"));
  return h("div.prs", { key: "runs" }, airflow, h("header.head", { key: "head" }, h("h2", null, "Parallel runs")), notices(state, page), content);
}

function empty(runs, error) {
  if (error) return null;
  const text = runs ? "No parallel runs yet. Runs of a ParallelRunOperator appear here, if you may read their DAG." : "Loading …";
  return h("p.empty", { role: "status" }, text);
}

function rowOf(run, isAlone) {
  const { dag_id: dagId, run_id: runId, step, state, total, done, failed, items_failed: items, began } = run;
  const query = new URLSearchParams({ dag_id: dagId, run_id: runId, step });
  const page = isAlone ? new URL(`page?${query}`, PLUGIN).href : run.page;
  const counts = { total, done, failed: failed ?? 0, running: 0 };
  return h(
    "tr",
    { key: `${dagId} ${runId} ${step}` },
    h("td", null, stateBadge(state)),
    h("th", { scope: "row" }, link(page, `${dagId}.${step}`)),
    h("td", null, runId),
    h("td", null, typeof total === "number" && h("div.inline", null, progressBar(counts), `${number(done)} of ${number(total)}`)),
    h("td.number", null, h("span", { class: failed > 0 && "is-bad" }, number(failed))),
    h("td.number", null, number(items)),
    h("td", null, time(began, Date.now() / 1000)),
  );
}
