"""
Measure the digits example with each executor, for the table in docs/executors.md: ``python -m benchmarks.executors``.

To measure only some executors, pass their names as arguments. The Celery workers have separate hosts, which needs root.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from airflow_prs.run_folder.folder import earlier_runs
from tests.airflow_services import AirflowServices, running_airflow, service_environment
from tests.celery_cluster import celery_cluster

DAG_ID = "example_digits"
EXAMPLES = Path(__file__).parent.parent / "dags_examples"
WORKERS = ["one", "two"]
ROUNDS = 3
EMPTY_ID = "empty_tasks"
EMPTY_DAG = """
from airflow.sdk import DAG, task

with DAG("empty_tasks", schedule=None):

    @task(multiple_outputs=False)
    def empty(number=0):
        return [0, 1]

    def name(task_id):
        return empty.override(task_id=task_id)

    plan, gatekeeper, merge = (name(task_id)() for task_id in ("plan", "gatekeeper", "merge"))
    [name("write_scans")(), name("train")()] >> plan
    mini_batches = name("mini_batches").expand(number=plan)
    plan >> gatekeeper
    [mini_batches, gatekeeper] >> merge >> name("compare")()
"""
"""As many tasks as the example, in the same order."""


@dataclass(frozen=True)
class Figures:
    """
    The duration of a run, in seconds.

    :param run_s: from the trigger to the end of the last task.
    :param work_s: from the start of the first mini-batch to the end of the last.
    :param hosts: number of hosts on which the shards ran.
    :param empty_s: the median duration of a run of as many tasks that do nothing; None: it was not measured.
    """

    run_s: float
    work_s: float
    hosts: int
    empty_s: float | None = None


def of_dags_test(folder: Path) -> list[Figures]:
    """Measure `airflow dags test`, which runs all tasks in one process. The duration is that of the command."""
    environment = service_environment("dags-test", folder, 0) | {"AIRFLOW__CORE__DAGS_FOLDER": str(EXAMPLES)}
    airflow = [sys.executable, "-m", "airflow"]
    options = {"env": environment, "cwd": folder, "stdout": subprocess.DEVNULL}
    subprocess.run([*airflow, "db", "migrate"], check=True, **options)
    figures = []
    for number in range(ROUNDS):
        output, began = folder / f"run-{number}", time.monotonic()
        command = [*airflow, "dags", "test", DAG_ID, "--conf", json.dumps({"folder": str(output)})]
        subprocess.run(command, check=True, **options)
        figures.append(Figures(time.monotonic() - began, work_seconds(output), hosts=1))
    return figures


def of_standalone(folder: Path) -> list[Figures]:
    """Measure it with `airflow standalone`, which uses the LocalExecutor."""
    with running_airflow(folder / "home", is_standalone=True) as services:
        return measure(services, folder)


def of_local(folder: Path) -> list[Figures]:
    """Measure it with the LocalExecutor, with a separate command for each service."""
    with running_airflow(folder / "home") as services:
        return measure(services, folder)


def of_celery(folder: Path) -> list[Figures]:
    """Measure it on two Celery workers, each on its own host and with one task at a time."""
    with celery_cluster(folder, WORKERS) as cluster:
        return measure(cluster.services, folder)


def measure(services: AirflowServices, folder: Path) -> list[Figures]:
    """Run it several times. The first run does not count, because the services are still starting up."""
    shutil.copytree(EXAMPLES, services.dags / "examples")
    (services.dags / "empty.py").write_text(EMPTY_DAG)
    for dag_id in (DAG_ID, EMPTY_ID):
        services.wait_for_dag(dag_id)
        services.api.patch(f"dags/{dag_id}", {"is_paused": False})
    pairs = [(run(services, folder / f"run-{number}"), run_empty(services)) for number in range(ROUNDS + 1)][1:]
    empty_s = statistics.median(seconds for _, seconds in pairs)
    return [replace(figures, empty_s=empty_s) for figures, _ in pairs]


def run_empty(services: AirflowServices) -> float:
    """Run the empty tasks, and return the seconds from the trigger to the end."""
    began = time.monotonic()
    services.run(EMPTY_ID)
    return time.monotonic() - began


def run(services: AirflowServices, output: Path) -> Figures:
    """Trigger a run, wait for its end, and return its figures."""
    began = time.monotonic()
    path = services.run(DAG_ID, {"folder": str(output)})
    took = time.monotonic() - began
    tasks = services.api.get(f"{path}/taskInstances", limit=100)["task_instances"]
    hosts = {task["hostname"] for task in tasks if task["task_id"] == "read_digits.mini_batches"}
    return Figures(took, work_seconds(output), len(hosts))


def work_seconds(output: Path) -> float:
    """Return how long the mini-batches took, according to the report."""
    folder = earlier_runs(str(output / "result"), dag_id=DAG_ID, task_id="read_digits")[0]
    return float(json.loads(folder.names.report.read_text())["seconds"])


MEASURED: dict[str, Callable[[Path], list[Figures]]] = {
    "dags test": of_dags_test,
    "standalone": of_standalone,
    "LocalExecutor": of_local,
    "CeleryExecutor": of_celery,
}


def main(names: list[str]) -> None:
    print(f"{os.cpu_count()} cores\n\n| | hosts | run | mini-batches | empty tasks |\n|---|---|---|---|---|")
    for name in names or MEASURED:
        with tempfile.TemporaryDirectory(prefix="airflow_prs-executors-") as folder:
            # All figures come from the run with the median time, because they belong together.
            figures = sorted(MEASURED[name](Path(folder)), key=lambda each: each.run_s)[ROUNDS // 2]
        empty = "" if figures.empty_s is None else f"{figures.empty_s:.1f} s"
        print(f"| {name} | {figures.hosts} | {figures.run_s:.1f} s | {figures.work_s:.1f} s | {empty} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
