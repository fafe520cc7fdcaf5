/** The page of one run of a step. */

import { actionButtons, dialogView } from "./actions.js";
import { chartsCard } from "./charts.js";
import { h } from "./dom.js";
import { configurationCard, resultCard, skewCard, slowestCard } from "./facts.js";
import { failuresCard, hasFailures, lastTriesCard } from "./failures.js";
import { limitsCard } from "./limits.js";
import { mapCard } from "./map.js";
import { nodesCard } from "./nodes.js";
import { notices } from "./notices.js";
import { failed, progressBar, stateBadge, time } from "./parts.js";
import { AIRFLOW, PLUGIN } from "./server.js";
import { duration, number, percent, rate } from "./words.js";

export function runView(state, page) {
  const { overview } = state;
  return h("div.prs", { key: "run" },
    state.isAlone && crumbs(state),
    chooser(state, page),
    overview && header(overview, page),
    notices(state, page),
    overview ? progress(overview) : waiting(state),
    overview?.progress && cards(state, page),
    h("p.hidden", { role: "status" }, overview && announcement(overview)),
    dialogView(state, page),
  );
}

function crumbs({ dagId, runId }) {
  const to = (path, base, text) => h("a", { href: new URL(path, base).href }, text);
  const run = to(`dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(runId)}`, AIRFLOW, `${dagId}, ${runId}`);
  return h("nav.crumbs", { "aria-label": "Where you are" }, to("page", PLUGIN, "Parallel runs"), " / ", run);
}

function chooser({ steps, step }, page) {
  if (!steps || steps.length < 2) return null;
  const choice = ({ step: key, state }) => {
    const props = { key, type: "button", "aria-pressed": String(key === step), onclick: () => page.choose(key) };
    return h("button.step", props, key, stateBadge(state));
  };
  return h("nav.steps", { "aria-label": "Steps of this run" }, steps.map(choice));
}

function header(overview, page) {
  return h("header.head", { key: "head" },
    h("h2", overview.step, " ", stateBadge(overview.state)),
    actionButtons(overview, page),
  );
}

function waiting({ steps, step, error }) {
  if (error) return null;
  const text =
    steps && !step ? "No ParallelRunOperator has begun in this DAG run." : step ? `Waiting for the plan of ${step} …` : "Loading …";
  return h("p.empty", { key: "waiting", role: "status" }, text);
}

function progress(overview) {
  const { progress: counts, at } = overview;
  const times = [
    fact("Began", time(overview.began, at)),
    overview.ended ? fact("Ended", time(overview.ended, at)) : fact("Left", leftOf(overview)),
    fact("Duration", duration(overview.seconds)),
  ];
  if (!counts) return h("dl.facts", { key: "facts" }, times);
  return h(
    "section",
    { key: "progress", "aria-label": "Progress" },
    progressBar(counts),
    h("dl.facts",
      fact("Mini-batches", h("b", number(counts.done)), ` of ${number(counts.total)}, `, failed(counts.failed, `${number(counts.failed)} failed`)),
      fact("Items", h("b", number(counts.items_succeeded)), ` of ${number(counts.items_total)}, ${number(counts.items_failed)} failed`),
      fact("Throughput", rate(overview.rate)),
      times,
    ),
  );
}

/** A value with its name above it. */
function fact(name, ...value) {
  return h("div.fact", { key: name }, h("dt", name), h("dd", value));
}

function leftOf({ eta_s: seconds, at }) {
  return typeof seconds === "number" ? ["about ", duration(seconds), ", until ", time(at + seconds, at)] : "–";
}

function cards(state, page) {
  const { overview } = state;
  const views = [
    hasFailures(state) && !overview.is_live && failuresCard(state, page),
    mapCard(state, page),
    limitsCard(overview),
    hasFailures(state) && overview.is_live && failuresCard(state, page),
    overview.progress.retrying > 0 && lastTriesCard(overview),
    nodesCard(state, page),
    chartsCard(state, page),
    resultCard(overview),
    slowestCard(overview),
    skewCard(overview),
    configurationCard(state, page),
  ];
  return h("div.cards", { key: "cards" }, views);
}

/** For screen readers: the state, and each tenth of the progress. */
function announcement({ state, progress: counts }) {
  if (!counts?.total) return state;
  const tenth = Math.floor((10 * counts.done) / counts.total) * 10;
  return state === "running" ? `running, ${tenth} % done, ${counts.failed} failed` : `${state}, ${percent(counts.done, counts.total)} done`;
}
