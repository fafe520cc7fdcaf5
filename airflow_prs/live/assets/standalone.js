/** The same page without Airflow's frame: parallel-run/page?dag_id=…&run_id=…&step=…, or the list of runs without these. */

import { mount } from "./page.js";

const query = new URLSearchParams(location.search);
const [dagId, runId, step] = ["dag_id", "run_id", "step"].map((name) => query.get(name) ?? undefined);
if (runId) document.title = `${runId} · ${dagId} · Parallel run`;
mount(document.getElementById("page"), { dagId, runId, step, isAlone: true });
