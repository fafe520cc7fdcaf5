"""
The digits example under each executor, as the table in docs/executors.md has it: ``python -m benchmarks.executors``.

Names of executors as arguments measure these alone. Celery's workers are on hosts of their own, which needs root.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from airflow_prs.run_folder.folder import earlier_runs
from tests.airflow_services import AirflowServices, running_airflow, service_environment
from tests.celery_cluster import celery_cluster

DAG_ID = "example_digits"
EXAMPLES = Path(__file__).parent.parent / "dags_examples"
WORKERS = ["one", "two"]
ROUNDS = 3


@dataclass(frozen=True)
class Figures:
    """
    What a run took, in seconds.

    :param run_s: from the trigger to the end of the last task.
    :param work_s: from the start of the first mini-batch to the end of the last.
    :param hosts: on how many the shards were.
    """

    run_s: float
    work_s: float
    hosts: int


def of_dags_test(folder: Path) -> list[Figures]:
    """Run it as `airflow dags test` does: all tasks in one process; the run takes as long as the command."""
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
    """Run it as the one command `airflow standalone` does, which chooses the LocalExecutor."""
    with running_airflow(folder / "home", is_standalone=True) as services:
        return measure(services, folder)


def of_local(folder: Path) -> list[Figures]:
    """Run it under LocalExecutor, each service started by a command of its own."""
    with running_airflow(folder / "home") as services:
        return measure(services, folder)


def of_celery(folder: Path) -> list[Figures]:
    """Run it on two workers, each on a host of its own and running one task at a time."""
    with celery_cluster(folder, WORKERS) as cluster:
        return measure(cluster.services, folder)


def measure(services: AirflowServices, folder: Path) -> list[Figures]:
    """Run it several times; the first run is not counted, since the services are still busy with themselves."""
    shutil.copytree(EXAMPLES, services.dags / "examples")
    services.wait_for_dag(DAG_ID)
    services.api.patch(f"dags/{DAG_ID}", {"is_paused": False})
    return [run(services, folder / f"run-{number}") for number in range(ROUNDS + 1)][1:]


def run(services: AirflowServices, output: Path) -> Figures:
    """Trigger a run, and wait for its end."""
    began = time.monotonic()
    path = services.run(DAG_ID, {"folder": str(output)})
    took = time.monotonic() - began
    tasks = services.api.get(f"{path}/taskInstances", limit=100)["task_instances"]
    hosts = {task["hostname"] for task in tasks if task["task_id"] == "read_digits.mini_batches"}
    return Figures(took, work_seconds(output), len(hosts))


def work_seconds(output: Path) -> float:
    """Read from the report how long the mini-batches took."""
    folder = earlier_runs(str(output / "result"), dag_id=DAG_ID, task_id="read_digits")[0]
    return float(json.loads(folder.names.report.read_text())["seconds"])


MEASURED: dict[str, Callable[[Path], list[Figures]]] = {
    "dags test": of_dags_test,
    "standalone": of_standalone,
    "LocalExecutor": of_local,
    "CeleryExecutor": of_celery,
}


def main(names: list[str]) -> None:
    print(f"{os.cpu_count()} cores\n\n| | hosts | run | mini-batches |\n|---|---|---|---|")
    for name in names or MEASURED:
        with tempfile.TemporaryDirectory(prefix="airflow_prs-executors-") as folder:
            # The median run, whole: its parts belong together.
            figures = sorted(MEASURED[name](Path(folder)), key=lambda each: each.run_s)[ROUNDS // 2]
        print(f"| {name} | {figures.hosts} | {figures.run_s:.1f} s | {figures.work_s:.1f} s |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
