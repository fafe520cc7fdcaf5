"""
Many runs at the same time, and what their gatekeepers cost: ``python -m benchmarks.load [runs] [executor]``.

A DAG of one step with two shards, which take some seconds, is triggered so many times at once, under LocalExecutor and
under Celery with two workers, with one triggerer and PostgreSQL. The shards are in a pool of their own, so that their
gatekeepers find slots long before them, and wait. Ends with an error if a run ends otherwise than it should, or a row
is missing or doubled.
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
"""Tasks at once: fewer than gatekeepers, so that none of them may keep its slot."""
SHARDS = 6
"""Shards at once."""
IDLE_S = 20
LOOK_EVERY_S = 5
UNFINISHED = ("running", "deferred", "queued", "scheduled", "up_for_reschedule")
LONGEST_S = 3600


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a process and its children have used so far."""

    at: float
    cpu_s: float
    reads: int

    @classmethod
    def of(cls, process: psutil.Process) -> Cost:
        """Add up a process and its children."""
        family = [process, *process.children(recursive=True)]
        cpu_s = sum(sum(member.cpu_times()[:2]) for member in family)
        return cls(at=time.monotonic(), cpu_s=cpu_s, reads=sum(member.io_counters().read_count for member in family))

    def since(self, before: Cost) -> Cost:
        """Take off what was used before."""
        return Cost(at=self.at - before.at, cpu_s=self.cpu_s - before.cpu_s, reads=self.reads - before.reads)


@dataclass
class Gatekeepers:
    """In which states the gatekeepers were seen, beside all tasks that were running."""

    seen: Counter[str] = field(default_factory=Counter)
    running: int = 0

    def look(self, tasks: list[Mapping[str, Any]]) -> None:
        """Take in the unfinished tasks of a moment."""
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
    """Trigger all runs at once, wait for them, check them, and give a line of the table."""
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
        # An API server that has too much to do may refuse a question; the tasks' own client asks again, too.
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
    """How often a gatekeeper took a slot to look."""
    logs = folder.glob("*/logs/dag_id=load/*/task_id=step.gatekeeper/*.log")
    return sum(log.read_text(errors="replace").count("::group::Pre Execute") for log in logs)


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    chosen = sys.argv[2:] or EXECUTORS
    print(f"{runs} runs at once, two shards each, {SLOTS} slots, {SHARDS} of them for shards, {os.cpu_count()} cores")
    print("| executor | all runs | idle triggerer, CPU s/s | gatekeepers in the triggerer | of it a run ", end="")
    print("| reads a second | times a gatekeeper takes a slot | of its life deferred | of the taken slots |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for executor in chosen:
        with EXECUTORS[executor]() as services:
            print(measure(executor, services, runs), flush=True)


if __name__ == "__main__":
    main()
