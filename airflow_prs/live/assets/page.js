/** The state of the page, and what changes it: answers of the server and the reader's clicks. */

import { createActions } from "./actions.js";
import { h, patch } from "./dom.js";
import { poll } from "./polling.js";
import { read, remembered, runPath, stepPath, AIRFLOW } from "./server.js";
import { runView } from "./run.js";
import { runsView } from "./runs.js";

const RUNNING_S = 3;
const ENDED_S = 60;
const EXPECTED_S = 1;
const RETRY_S = 10;
const PAGE_SIZE = 20;

/** Load the style sheet into a page that is not ours, once. */
export function addStyles(version) {
  const href = new URL(`parallel_run.css${version}`, import.meta.url).href;
  if (document.querySelector(`link[href="${CSS.escape(href)}"]`)) return;
  document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href }));
}

/**
 * Show the page in an element.
 *
 * @param place dagId and runId (without: the list of runs), taskId and mapIndex (the tab of a task), step (if it is known),
 *   isAlone (not inside Airflow)
 * @returns a function that ends it
 */
export function mount(root, place) {
  const step = place.step ?? stepOfTask(place.taskId);
  const state = { ...place, step, steps: null, overview: null, failures: null, error: null, dialog: null };
  Object.assign(state, { offset: 0, pageSize: PAGE_SIZE, toggled: new Set(), cursors: {} });
  let frame = 0;

  function draw() {
    frame = 0;
    try {
      patch(root, [state.runId ? runView(state, page) : runsView(state, page)]);
    } catch (error) {
      // Nothing outside of the page may suffer from an error in it.
      root.replaceChildren();
      patch(root, [brokenView(error)]);
    }
  }

  const page = {
    /** Change the state and draw it with the next frame. */
    update(changes) {
      Object.assign(state, changes);
      frame ||= requestAnimationFrame(draw);
    },
    refresh: () => polling.now(),
    /** Open or close something that has a name. */
    toggle(name) {
      if (!state.toggled.delete(name)) state.toggled.add(name);
      page.update({});
    },
    choose(chosen) {
      page.update({ step: chosen, overview: remembered(stepPath({ ...state, step: chosen })), failures: null, offset: 0 });
      page.refresh();
    },
    turn(offset) {
      page.update({ offset });
      page.refresh();
    },
  };
  Object.assign(page, createActions(state, page));

  if (state.step) state.overview = remembered(stepPath(state)) ?? null;
  draw();
  const polling = poll((signal) => (state.runId ? lookAtRun(state, page, signal) : lookAtRuns(state, page, signal)));
  return () => {
    polling.stop();
    cancelAnimationFrame(frame);
    root.replaceChildren();
  };
}

function stepOfTask(taskId) {
  return taskId?.includes(".") ? taskId.slice(0, taskId.lastIndexOf(".")) : undefined;
}

async function lookAtRuns(state, page, signal) {
  return looking(page, signal, async () => {
    const { runs } = await read("api/runs?limit=50", signal);
    page.update({ runs, error: null });
    return runs.some((run) => run.state === "running") ? RETRY_S : ENDED_S;
  });
}

async function lookAtRun(state, page, signal) {
  return looking(page, signal, async () => {
    try {
      if (!state.taskId && !(state.step && state.steps?.length === 1)) await lookForSteps(state, page, signal);
      if (!state.step) return (await isUnderWay(state, signal)) ? EXPECTED_S : ENDED_S;
      const overview = await read(stepPath(state), signal);
      page.update({ overview, error: null });
      if (overview.progress?.items_failed) await lookAtFailures(state, page, signal);
      return overview.is_live ? RUNNING_S : ENDED_S;
    } catch (error) {
      // The tasks of the step have not begun: there is no run folder yet.
      if (error.status !== 404 || !(await isUnderWay(state, signal))) throw error;
      page.update({ error: null });
      return EXPECTED_S;
    }
  });
}

async function lookForSteps(state, page, signal) {
  const { steps } = await read(runPath(state.dagId, state.runId), signal);
  const first = steps.find((row) => ["running", "aborted", "failed", "stopped"].includes(row.state)) ?? steps[0];
  const step = state.step ?? first?.step;
  page.update({ steps, step, error: null });
}

async function lookAtFailures(state, page, signal) {
  const path = `${stepPath(state)}/failures?offset=${state.offset}&limit=${state.pageSize}`;
  page.update({ failures: await read(path, signal) });
}

/** Whether Airflow still works on the DAG run. */
async function isUnderWay({ dagId, runId }, signal) {
  const path = `api/v2/dags/${encodeURIComponent(dagId)}/dagRuns/${encodeURIComponent(runId)}`;
  const run = await read(path, signal, AIRFLOW);
  return run.state === "queued" || run.state === "running";
}

/** Take a look and show what goes wrong; give the seconds until the next one. */
async function looking(page, signal, look) {
  try {
    return await look();
  } catch (error) {
    if (signal.aborted) return null;
    page.update({ error });
    if (error.status === 401) return null;
    return [403, 404].includes(error.status) ? ENDED_S : RETRY_S;
  }
}

function brokenView(error) {
  return h("div.prs", { key: "broken" },
    h("div.notice.failed", { role: "alert" },
      h("strong", "This page has an error. "),
      "Reload it. If the error stays, use the command: airflow-prs show. ",
      h("pre", error.stack ?? error.message),
    ),
  );
}
