"""
An alert when a run ends with failed items, whether it is completed or aborted.

The step reads numbers, one of which is no number. With the parameter `allowed` 1 the run is completed and the alert
says so; with 0 it is aborted. The alert is a line in a file; a notifier of Airflow would send it to you.
"""

from __future__ import annotations

import os
from pathlib import Path

from airflow.sdk import DAG, Param, task

from airflow_prs import PipelineParameter, parallel_run, summary_of

FOLDER = Path(os.environ.get("AIRFLOW_HOME", "~/airflow"), "demo", "alert").expanduser()


def alert(context):
    summary = summary_of(context)
    if summary is None:
        text = str(context["exception"]).splitlines()[0]  # a single task has failed
    elif summary["items"]["failed"]:
        text = f"{summary['headline']}; see {summary['run_folder']}"
    else:
        return
    with Path(context["params"]["folder"], "alerts.txt").open("a") as file:
        print(context["ti"].task_id, text, file=file)


@task
def write_numbers(folder: str) -> str:
    numbers = Path(folder, "numbers")
    numbers.mkdir(parents=True, exist_ok=True)
    for name, text in {"one": "1", "two": "2", "many": "many"}.items():
        (numbers / name).write_text(text)
    return str(numbers)


@parallel_run(
    mini_batch_size=1,
    error_threshold=PipelineParameter("allowed", default_value=1),
    run_max_try=1,
    process_count_per_node=1,
    on_success_callback=alert,
    on_failure_callback=alert,
)
def double(mini_batch):
    from pathlib import Path

    return [2 * int(Path(path).read_text()) for path in mini_batch]


with DAG(
    "example_alert",
    schedule=None,
    doc_md=__doc__,
    tags=["airflow_prs", "example"],
    params={"folder": Param(str(FOLDER), type="string", description="folder of numbers, result and alerts")},
):
    double(inputs=write_numbers("{{ params.folder }}"), output="{{ params.folder }}/result")
