"""A DAG with a step that a test holds, lets fail and lets go on, item by item; and what a test does to its runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import psutil
from packaging.version import Version

from airflow_prs.object_storage.connecting import _refuse, use_connections
from airflow_prs.run_folder.folder import RunFolder
from tests.airflow_services import AirflowServices, wait_until
from tests.dag_runs import DagFile
from tests.object_servers import ObjectPlace, Server

IS_AIRFLOW_3_1 = Version(version("apache-airflow")) < Version("3.2")
T = TypeVar("T")
_SHOWN = 20
ENDED = {"success", "failed", "skipped", "upstream_failed"}

SCRIPT = """
import pathlib, sys, time

place, pace_s = pathlib.Path(sys.argv[2]), float(sys.argv[4])

def run(mini_batch):
    names = [pathlib.Path(path).name for path in mini_batch]
    for name in names:
        with open(place / "ran", "a") as file:
            file.write(name + "\\n")
        while (place / "holds" / name).exists():
            time.sleep(0.02)
        time.sleep(pace_s)
        if (place / "fails" / name).exists():
            raise ValueError(f"{name} is bad")
    return names
"""

DAG_SOURCE = """
with DAG({dag_id!r}, {dag}) as dag:
    step = ParallelRunOperator(
        task_id="step",
        parallel_run_config=config(
            mini_batch_size=1,
            run_invocation_timeout=600,
            node_count=PipelineParameter("nodes", default_value=1, minimum=1, maximum=4),
            error_threshold=PipelineParameter("allowed", default_value=-1),
            run_max_try=PipelineParameter("tries", default_value=3),
            {config}
        ),
        inputs=[FileDataset("{{{{ dag_run.conf['items'] }}}}")],
        output="{{{{ dag_run.conf['output'] }}}}",
        arguments=[
            "--place", "{{{{ dag_run.conf['place'] }}}}", "--pace", "{{{{ dag_run.conf['pace_s'] | default(0) }}}}",
        ],
        retry_delay=1,
        {step}
    )
    before = task(lambda: None, task_id="before")
    after = task(lambda location: None, task_id="after")
    before() >> step
    after(step.output)
"""


def write_dag(services: AirflowServices, dag_id: str, *, dag: str = "", step: str = "", config: str = "") -> None:
    """Write a DAG of three tasks: before, the step, after; and wait until it is known."""
    file = DagFile(services.dags / dag_id)
    file.script(SCRIPT)
    file.write(DAG_SOURCE.format(dag_id=dag_id, dag=dag, step=step, config=config))
    services.wait_for_dag(dag_id)


@contextmanager
def connected(services: AirflowServices, servers: Iterable[Server]) -> Iterator[None]:
    """Let the runs of an Airflow, and the test itself, use object storage."""
    by_id = {server.conn_id: server for server in servers}
    for server in by_id.values():
        (value,) = map(json.loads, server.airflow_connection().values())
        services.api.post(
            "connections", {**value, "connection_id": server.conn_id, "extra": json.dumps(value["extra"])}
        )
    use_connections(lambda bucket: by_id[str(bucket.conn_id)].connect())
    try:
        yield
    finally:
        use_connections(_refuse)


class Place:
    """
    The folder of a run's input and output, and of what the script looks at.

    :param path: a folder that does not exist yet.
    :param items: how many there are; their names are their numbers.
    :ivar output: where the output is.
    :ivar input: where the items are.
    """

    def __init__(self, path: Path, items: int = 12) -> None:
        self.path = path
        self.output = f"{path}/out"
        self.input = f"{path}/items"
        self.items = [f"{number:04}" for number in range(items)]
        for name in ("items", "holds", "fails"):
            (path / name).mkdir(parents=True)
        for name in self.items:
            (path / "items" / name).write_text(name)

    def hold(self, *names: str) -> None:
        """Let run() wait at these items."""
        self._mark("holds", names)

    def release(self, *names: str) -> None:
        """Let run() go on at these items; without any, at all."""
        self._unmark("holds", names or self.items)

    def fail(self, *names: str) -> None:
        """Let run() raise at these items."""
        self._mark("fails", names)

    def repair(self) -> None:
        """Let run() raise no more."""
        self._unmark("fails", self.items)

    def command(self, *words: str) -> list[str]:
        """Return a command of `airflow-prs`, with the addresses in it as a shell needs them."""
        return [sys.executable, "-m", "airflow_prs", *words]

    @property
    def credentials(self) -> dict[str, str]:
        """Environment variables of such a command."""
        return {}

    @property
    def result(self) -> list[str] | None:
        """The rows that were published; None: nothing was."""
        path = self.path / "out" / "parallel_run_step.txt"
        return path.read_text().splitlines() if path.exists() else None

    @property
    def ran(self) -> Counter[str]:
        """How often run() was called with each item."""
        path = self.path / "ran"
        return Counter(path.read_text().splitlines() if path.exists() else [])

    def _mark(self, kind: str, names: Iterable[str]) -> None:
        for name in names:
            (self.path / kind / name).touch()

    def _unmark(self, kind: str, names: Iterable[str]) -> None:
        for name in names:
            (self.path / kind / name).unlink(missing_ok=True)


class PlaceOnObjects(Place):
    """
    The same, with the output and the run folders on object storage.

    :param objects: where they are.
    :param has_input: whether the input is there too. Then an item whose copy is late steps aside for the next ones.
    """

    def __init__(self, path: Path, objects: ObjectPlace, items: int = 12, *, has_input: bool = True) -> None:
        super().__init__(path, items)
        self.output = f"{objects}/out"
        self._objects = objects
        if has_input:
            self.input = f"{objects}/items"
            (objects / "items").upload(path / "items")

    def command(self, *words: str) -> list[str]:
        """Leave out the connection, which only tasks can use."""
        return super().command(*(word.replace(str(self._objects), self._objects.without_connection) for word in words))

    @property
    def credentials(self) -> dict[str, str]:
        """The keys of the server."""
        return self._objects.server.credentials()

    @property
    def result(self) -> list[str] | None:
        """The rows that were published; None: nothing was."""
        result = self._objects / "out/parallel_run_step.txt"
        return result.text().splitlines() if result.exists() else None


@dataclass(frozen=True)
class StepRun:
    """A run of such a DAG."""

    services: AirflowServices
    dag_id: str
    run_id: str
    place: Place

    @classmethod
    def trigger(
        cls, services: AirflowServices, dag_id: str, place: Place, *, logical_date: str | None = None, **conf: Any
    ) -> StepRun:
        """Trigger a run as the UI does."""
        body = {
            "logical_date": logical_date,
            "conf": {"place": str(place.path), "output": place.output, "items": place.input, **conf},
        }
        return cls(services, dag_id, services.api.post(f"dags/{dag_id}/dagRuns", body)["dag_run_id"], place)

    @property
    def state(self) -> str:
        """Airflow's state of the run."""
        self.services.check()
        return self.services.api.get(self._path)["state"]

    def task_instances(self) -> dict[str, dict[str, Any]]:
        """What Airflow says of each task instance, shards as ``step.mini_batches[<number>]``."""
        self.services.check()
        found = self.services.api.get(f"{self._path}/taskInstances", limit=100)["task_instances"]
        return {ti["task_id"] if ti["map_index"] < 0 else f"{ti['task_id']}[{ti['map_index']}]": ti for ti in found}

    def states(self) -> dict[str, str | None]:
        """Airflow's state of each task instance."""
        return {name: ti["state"] for name, ti in self.task_instances().items()}

    def tries(self) -> dict[str, int]:
        """The number of each task instance's try."""
        return {name: ti["try_number"] for name, ti in self.task_instances().items()}

    def shard(self, number: int) -> dict[str, Any]:
        """What Airflow says of a shard."""
        return self.task_instances().get(f"step.mini_batches[{number}]", {"state": None, "try_number": 0})

    def folder(self) -> RunFolder:
        """The run folder that plan has named."""
        path = f"{self._path}/taskInstances/step.plan/xcomEntries/plan"
        value = self.services.api.get(path, deserialize="true")["value"]
        return RunFolder((json.loads(value) if isinstance(value, str) else value)["folder"])

    def done(self, number: int, try_number: int) -> int:
        """How many mini-batches of a shard have an outcome, once its n-th try has claimed it: -1 before."""
        folder = self.folder()
        state = folder.read_shard(folder.read_manifest().shards[number])
        is_claimed = state.claim is not None and state.claim.try_number == try_number
        return state.progress.done if is_claimed else -1

    def wait_for_shard(self, number: int, *, try_number: int = 1, done: int) -> None:
        """Wait until a shard runs in its n-th try, and has committed so many mini-batches."""

        def is_there() -> bool:
            shard = self.shard(number)
            has_ended = shard["state"] in ENDED and shard["try_number"] >= try_number
            assert not has_ended, f"shard {number} has ended too soon: {self.summary()}"
            is_running = shard["state"] == "running" and shard["try_number"] == try_number
            return is_running and self.done(number, try_number) >= done

        wait_until(
            is_there, lambda: f"{done} mini-batches of shard {number} in try {try_number}: {self.summary()}", every=0.5
        )

    def wait_for_task(self, name: str, state: str, *, try_number: int = 1) -> None:
        """Wait until a task instance has a state in its n-th try."""

        def is_there() -> bool:
            ti = self.task_instances()[name]
            return ti["state"] == state and ti["try_number"] == try_number

        wait_until(is_there, lambda: f"{name} to be {state} in try {try_number}: {self.summary()}", every=0.5)

    def wait_for_end(self, state: str) -> None:
        """Wait until the run has ended in a state, with everything that is held still held."""
        wait_until(lambda: self.state == state, lambda: f"{state}: {self.summary()}", every=1)

    def finish(self) -> str:
        """Let everything go on, wait for the end of the run, and give its state."""
        self.place.release()
        wait_until(lambda: self.state in {"success", "failed"}, lambda: f"the end: {self.summary()}", 300, every=1)
        return self.state

    def finish_after_kill(self) -> str:
        """
        Do the same where the task process of a shard was killed.

        Airflow 3.1.0 fails such a task at once, without a retry (apache/airflow#55753), so that a user has to clear it.
        """
        if self.finish() == "failed" and IS_AIRFLOW_3_1:
            self.clear(only_failed=True)
        return self.finish()

    def clear(self, *tasks: str | list[Any], downstream: bool = False, only_failed: bool = False) -> None:
        """
        Clear task instances of this run as the UI does.

        :param tasks: ids, or a list of id and map index; none: all tasks.
        """
        body = {
            "dry_run": False,
            "dag_run_id": self.run_id,
            "only_failed": only_failed,
            "include_downstream": downstream,
            **({"task_ids": list(tasks)} if tasks else {}),
        }
        self.services.api.post(f"dags/{self.dag_id}/clearTaskInstances", body)

    def mark(self, state: str, task: str, number: int | None = None) -> None:
        """Mark a task instance as success or failed."""
        place = f"{self._path}/taskInstances/{task}" + ("" if number is None else f"/{number}")
        self.services.api.patch(place, {"new_state": state})

    def mark_run(self, state: str) -> None:
        """Mark the run as success or failed."""
        self.services.api.patch(self._path, {"state": state})

    def runs_command(self, action: str, *options: str) -> bool:
        """Call `airflow-prs runs` for the run folder, and return whether it succeeded."""
        command = self.place.command("runs", action, str(self.folder().path), *options)
        return subprocess.run(command, env={**os.environ, **self.place.credentials}, check=False).returncode == 0

    def task_process(self, number: int) -> psutil.Process:
        """The Airflow task process of a running shard: the node."""
        return psutil.Process(self.shard(number)["pid"])

    def worker_process(self, number: int) -> psutil.Process:
        """The worker process of a running shard: the child of the guard, which is the node's."""
        (guard,) = self.task_process(number).children()
        (worker,) = guard.children()
        return worker

    def summary(self) -> str:
        """Say how the run stands, for a failed test."""
        tries = {name: f"{ti['state']} (try {ti['try_number']})" for name, ti in self.task_instances().items()}
        ran = self.place.ran
        again = {item: count for item, count in sorted(ran.items()) if count > 1}
        never = [item for item in self.place.items if item not in ran]
        return f"{self.run_id} is {self.state}; {tries}; ran again: {again}; never ran: {never[:_SHOWN]}"

    @property
    def _path(self) -> str:
        return f"dags/{self.dag_id}/dagRuns/{self.run_id}"


@contextmanager
def under_way(
    services: AirflowServices, jobs: Mapping[Any, Callable[[], T]], *, at_once: int
) -> Iterator[Mapping[Any, Future[T]]]:
    """Do several things at once, since most of a run's time is waiting; give up what is left in the end."""
    with ThreadPoolExecutor(at_once) as pool:
        futures = {name: pool.submit(job) for name, job in jobs.items()}
        try:
            yield futures
        finally:
            for future in futures.values():
                future.cancel()
            if not all(future.done() for future in futures.values()):
                services.give_up()
