/** The React component that Airflow shows as a tab of DAG runs and task instances, and as the page "Parallel runs". */

import { mount, addStyles } from "./page.js";

function ParallelRun({ dagId, runId, taskId, mapIndex }) {
  const { createElement, useEffect, useRef } = globalThis.React;
  const place = useRef(null);
  useEffect(() => {
    addStyles(new URL(import.meta.url).search);
    return mount(place.current, { dagId, runId, taskId, mapIndex });
  }, [dagId, runId, taskId, mapIndex]);
  return createElement("div", { ref: place, className: "prs-frame" });
}

// Airflow looks under the name of the app, then under the last name. A module runs once, however many apps it serves.
for (const name of ["Parallel run", "Parallel runs", "AirflowPlugin"]) globalThis[name] = ParallelRun;
