"""
Measure the cost of gatekeepers with many runs at the same time: ``python -m benchmarks.load [runs] [executor]``.

The DAG has one step with two shards that take some seconds. All runs are triggered at the same time: first with the
LocalExecutor, then with Celery and two workers, each with one triggerer and PostgreSQL. The shards are in their own
pool, so their gatekeepers get slots long before them and have to wait. The command fails if a run does not end as
expected, or if a row is missing or duplicated.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.airflow_services import AirflowServices, ApiError, running_airflow
from tests.celery_cluster import celery_cluster
from tests.dag_runs import DagFile
from tests.servers import fresh_database
from tests.system.step_runs import ENDED, SCRIPT, Place, StepRun

if TYPE_CHECKING:
    import psutil

DAG_SOURCE = """
with DAG("load") as dag:
    ParallelRunOperator(
        task_id="step",
        parallel_run_config=config(mini_batch_size=1, compute_target=ComputeTarget(pool="shards")),
        inputs=[FileDataset("{{ dag_run.conf['place'] }}/items")],
        output="{{ dag_run.conf['place'] }}/out",
        arguments=["--place", "{{ dag_run.conf['place'] }}", "--pace", "0.5"],
    )
"""
RUNS = 50
SLOTS = 8
"""Number of tasks at the same time. There are more gatekeepers than slots, so no gatekeeper may keep its slot."""
SHARDS = 6
"""Number of shards at the same time."""
IDLE_S = 20
LOOK_EVERY_S = 5
UNFINISHED = ("running", "deferred", "queued", "scheduled", "up_for_reschedule")
LONGEST_S = 3600


@dataclass(frozen=True, kw_only=True)
class Cost:
    """The resources that a process and its children have used so far."""

    at: float
    cpu_s: float
    reads: int

    @classmethod
    def of(cls, process: psutil.Process) -> Cost:
        """Return the total cost of a process and its children."""
        family = [process, *process.children(recursive=True)]
        cpu_s = sum(sum(member.cpu_times()[:2]) for member in family)
        return cls(at=time.monotonic(), cpu_s=cpu_s, reads=sum(member.io_counters().read_count for member in family))

    def since(self, before: Cost) -> Cost:
        """Return the cost since an earlier moment."""
        return Cost(at=self.at - before.at, cpu_s=self.cpu_s - before.cpu_s, reads=self.reads - before.reads)


@dataclass
class Gatekeepers:
    """Counts of the states of gatekeepers, and of all running tasks."""

    seen: Counter[str] = field(default_factory=Counter)
    running: int = 0

    def look(self, tasks: list[Mapping[str, Any]]) -> None:
        """Count the tasks that are unfinished at this moment."""
        self.running += sum(task["state"] == "running" for task in tasks)
        self.seen.update(task["state"] for task in tasks if task["task_id"] == "step.gatekeeper" and task["state"])


@contextmanager
def local() -> Iterator[AirflowServices]:
    with tempfile.TemporaryDirectory(prefix="airflow_prs-load-") as folder, fresh_database() as database:
        variables = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database, "AIRFLOW__CORE__PARALLELISM": str(SLOTS)}
        with running_airflow(Path(folder, "home"), environment=variables) as services:
            yield services


@contextmanager
def celery() -> Iterator[AirflowServices]:
    with tempfile.TemporaryDirectory(prefix="airflow_prs-load-") as folder:
        workers = ["vm-a", "vm-b"]
        with celery_cluster(Path(folder), workers, concurrency=SLOTS // len(workers)) as cluster:
            yield cluster.services


EXECUTORS = {"LocalExecutor": local, "CeleryExecutor": celery}


def measure(executor: str, services: AirflowServices, runs: int) -> str:
    """Trigger all runs at the same time, wait for them, check them, and return a line of the table."""
    file = DagFile(services.dags / "load")
    file.script(SCRIPT)
    file.write(DAG_SOURCE)
    services.wait_for_dag("load")
    services.api.post("pools", {"name": "shards", "slots": SHARDS})
    triggerer = services.process("triggerer")
    begin = Cost.of(triggerer)
    time.sleep(IDLE_S)
    idle = Cost.of(triggerer).since(begin)

    started = Cost.of(triggerer)
    places = [Place(services.home / "places" / str(number)) for number in range(runs)]
    triggered = [StepRun.trigger(services, "load", place) for place in places]
    gatekeepers = wait_for_all(services, runs)
    busy = Cost.of(triggerer).since(started)
    for run in triggered:
        check(run)
    looks = count_looks(services.home.parent)

    cpu_s = busy.cpu_s - idle.cpu_s / idle.at * busy.at
    reads = busy.reads - idle.reads / idle.at * busy.at
    held = gatekeepers.seen["running"] / max(1, gatekeepers.running)
    deferred = gatekeepers.seen["deferred"] / max(1, gatekeepers.seen.total())
    return (
        f"| {executor} | {busy.at:.0f} s | {idle.cpu_s / idle.at:.3f} | {cpu_s:.1f} s | {cpu_s / runs:.2f} s "
        f"| {reads / busy.at:.0f} | {looks / runs:.1f} | {deferred:.0%} | {held:.0%} |"
    )


def wait_for_all(services: AirflowServices, runs: int) -> Gatekeepers:
    gatekeepers = Gatekeepers()
    end = time.monotonic() + LONGEST_S
    while time.monotonic() < end:
        # A busy API server may refuse a request. The client of the tasks retries too.
        with suppress(ApiError, OSError):
            found = services.api.get("dags/load/dagRuns", limit=100)["dag_runs"]
            if len(found) == runs and all(run["state"] in ENDED for run in found):
                return gatekeepers
            gatekeepers.look(tasks_in(services, *UNFINISHED))
        time.sleep(LOOK_EVERY_S)
    raise TimeoutError(f"after {LONGEST_S} seconds not all of {runs} runs have ended")


def tasks_in(services: AirflowServices, *states: str) -> list[Mapping[str, Any]]:
    path = "dags/load/dagRuns/~/taskInstances"
    return [task for state in states for task in services.api.get(path, limit=100, state=state)["task_instances"]]


def check(run: StepRun) -> None:
    right = run.state == "success" and run.place.result == run.place.items and set(run.place.ran.values()) == {1}
    if not right:
        raise SystemExit(f"this run did not end as it should: {run.summary()}")


def count_looks(folder: Path) -> int:
    """Return how often a gatekeeper used a slot to check its run."""
    logs = folder.glob("*/logs/dag_id=load/*/task_id=step.gatekeeper/*.log")
    return sum(log.read_text(errors="replace").count("::group::Pre Execute") for log in logs)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    chosen = sys.argv[2:] or EXECUTORS
    print(f"{runs} runs at the same time, two shards each, {SLOTS} slots ({SHARDS} for shards), {os.cpu_count()} cores")
    print("| executor | all runs | idle triggerer, CPU s/s | CPU of gatekeepers in the triggerer | per run ", end="")
    print("| reads per second | slots used by each gatekeeper | time deferred | share of the used slots |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for executor in chosen:
        with EXECUTORS[executor]() as services:
            print(measure(executor, services, runs), flush=True)


if __name__ == "__main__":
    main()
