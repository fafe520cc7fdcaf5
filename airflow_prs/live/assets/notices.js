/** What the reader must know first, each with what to do next. */

import { ACTIONS } from "./actions.js";
import { h } from "./dom.js";
import { button, commandLine, icon, time } from "./parts.js";
import { count, number } from "./words.js";

export function notices(state, page) {
  const { error, overview } = state;
  return [error && errorNotice(state, page), overview?.problem && unseen(overview), overview && outcome(overview, page)];
}

function notice(key, tone, title, ...children) {
  const role = tone === "failed" ? "alert" : "status";
  const sign = { failed: "cross", success: "check" }[tone] ?? "warning";
  return h(`div.notice.${tone}`, { key, role }, icon(sign), h("div", h("strong", title), children));
}

const ERRORS = {
  401: ["You are not logged in any more.", "Log in to Airflow again, then reload this page."],
  403: ["You may not read this DAG run.", "Ask an administrator of this Airflow for the permission to read it."],
  404: ["There is no parallel run here.", "It was removed, or its tasks have not begun."],
};

function errorNotice({ error, overview, runId }, page) {
  const [title, next] = (runId && ERRORS[error.status]) || (error.status === 401 && ERRORS[401]) || ["The last update failed.", "The page tries again."];
  const shown = overview && [" What you see is from ", time(overview.at, overview.at), "."];
  const again = error.status === 401 ? button("Reload", () => location.reload()) : button("Try now", page.refresh);
  return notice("error", "warning", title, h("p", error.message), h("p", next, shown, " ", again));
}

/** The API server cannot see the run folder. */
function unseen({ problem, tasks, xcom, command }) {
  const states = Object.entries(tasks ?? {}).map(([task, counts]) => [task, statesOf(counts)]);
  const reported = Object.entries(xcom?.summary ?? {}).map(([name, value]) => [name, typeof value === "object" ? JSON.stringify(value) : String(value)]);
  return notice(
    "problem",
    "warning",
    "Airflow's API server cannot read this run.",
    h("p", problem),
    h("p", "A machine that sees the storage shows it with this command:"),
    commandLine(command),
    facts("States of the tasks", states),
    facts("What the tasks reported", reported),
    xcom?.error && h("pre", { tabindex: 0 }, xcom.error),
  );
}

function statesOf(counts) {
  return Object.entries(counts).map(([state, value]) => `${number(value)} ${state}`).join(", ") || "–";
}

function facts(title, rows) {
  const row = ([name, value]) => h("tr", { key: name }, h("th", { scope: "row" }, name), h("td", value));
  return rows.length > 0 && h("table", { key: title }, h("caption", title), h("tbody", rows.map(row)));
}

function outcome(overview, page) {
  const { state, abort, progress } = overview;
  if (state === "completed" && progress?.items_failed > 0) return toleratedFailures(overview, page);
  if (abort) {
    const { kind, author, at, reason } = abort;
    const title = { drain: "Drained", cancel: "Cancelled" }[kind] ?? "Aborted: a threshold is exceeded";
    const who = author && [` by ${author}`];
    const text = h("p", reason, " ", h("span.muted", "· ", time(at, overview.at), who));
    return notice("outcome", kind === "threshold" ? "failed" : "warning", title, text, nextStep(overview, page));
  }
  if (state === "stopped") return notice("outcome", "warning", "Nobody works on this run.", h("p", "Its tasks wait for a slot or for a retry, or they were stopped."), nextStep(overview, page));
  if (state === "failed" || state === "aborted") return notice("outcome", "failed", `The run ${state === "failed" ? "failed" : "was aborted"}; nothing is published.`, nextStep(overview, page));
  return null;
}

function toleratedFailures(overview, page) {
  const { items_failed: failed, items_total: total } = overview.progress;
  const title = `Completed. ${number(failed)} of ${count(total, "item")} failed, which the thresholds allow.`;
  return notice("outcome", "success", title, nextStep(overview, page));
}

/** The most useful action that is possible now. */
function nextStep({ actions }, page) {
  const name = ["retry", "resume", "limits"].find((candidate) => actions?.[candidate]?.can);
  if (!name) return null;
  return h("p", actions[name].why, " ", button(ACTIONS[name].text, () => page.open(name), { class: "primary" }));
}
