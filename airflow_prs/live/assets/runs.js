/** The list of recent runs. */

import { h } from "./dom.js";
import { notices } from "./notices.js";
import { failed, link, progressBar, stateBadge, table, time } from "./parts.js";
import { AIRFLOW, PLUGIN } from "./server.js";
import { number } from "./words.js";

const HEADINGS = ["State", "*Step", "DAG run", "Progress", "#Failed mini-batches", "#Failed items", "Began"];

export function runsView(state, page) {
  const { runs, error, isAlone } = state;
  const rows = runs?.map((run) => rowOf(run, isAlone));
  const airflow = isAlone && h("nav.crumbs", h("a", { href: AIRFLOW.href }, "Airflow"));
  return h(
    "div.prs",
    { key: "runs" },
    airflow,
    h("header.head", { key: "head" }, h("h2", "Parallel runs")),
    notices(state, page),
    rows?.length ? table("Recent parallel runs", HEADINGS, rows) : !error && h("p.empty", { role: "status" }, emptyText(runs)),
  );
}

function emptyText(runs) {
  return runs ? "No parallel runs yet. Runs of a ParallelRunOperator appear here, if you may read their DAG." : "Loading …";
}

function rowOf(run, isAlone) {
  const { dag_id: dagId, run_id: runId, step, total, done, failed: bad } = run;
  const query = new URLSearchParams({ dag_id: dagId, run_id: runId, step });
  const page = isAlone ? new URL(`page?${query}`, PLUGIN).href : run.page;
  const bar = () => h("div.inline", progressBar({ total, done, failed: bad ?? 0, running: 0 }), `${number(done)} of ${number(total)}`);
  return {
    key: `${dagId} ${runId} ${step}`,
    cells: [
      stateBadge(run.state),
      link(page, `${dagId}.${step}`),
      runId,
      typeof total === "number" && bar(),
      failed(bad, number(bad)),
      number(run.items_failed),
      time(run.began, Date.now() / 1000),
    ],
  };
}
