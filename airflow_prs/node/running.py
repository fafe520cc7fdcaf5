"""The way into a node: claim a shard, run it in a thread of its own, say what came of it."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_prs.errors import RunAbortedError
from airflow_prs.node.cores import default_process_count, process_environment, visible_devices
from airflow_prs.node.output import TaskLog
from airflow_prs.node.process import ProcessPlan, WorkerProcess, start_process
from airflow_prs.node.slots import Slot
from airflow_prs.node.staging import Stage
from airflow_prs.node.supervisor import Supervisor, VerdictError, Work
from airflow_prs.node.watching import Watcher
from airflow_prs.records import Manifest, Shard
from airflow_prs.report import abort_message, first_failures
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.names import encode
from airflow_prs.settings import RunSettings

_FIRST_WINDOW = 64
_STOP_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRequest:
    """
    Which shard to run, and what a room cannot know by itself.

    :param try_number: Airflow's number of this try.
    :param task_instance_id: Airflow's, another one with each try.
    :param max_tries: Airflow's; another number than before means that the shard was cleared.
    :param environ: the environment that worker processes inherit.
    :param variables: environment_variables, rendered.
    :param is_orphaned: whether Airflow's supervisor of this task is gone.
    :param redact: masks secrets in what processes print.
    :param logger: the task's.
    """

    folder: RunFolder
    shard_number: int
    try_number: int
    task_instance_id: str
    max_tries: int
    environ: Mapping[str, str]
    variables: Mapping[str, str] = field(default_factory=dict)
    is_orphaned: Callable[[], bool] = lambda: False
    redact: Callable[[str], str] = lambda text: text
    logger: logging.Logger = field(default_factory=lambda: logging.getLogger(__name__))


def run_node(request: NodeRequest) -> dict[str, Any]:
    """
    Run a shard until every mini-batch of it has an outcome.

    The event loop runs in a thread of its own and the caller's thread waits for it, so that signals and Airflow's
    timeouts reach the caller at once; whatever they raise stops the node and its processes before it goes on.

    :return: a small summary.
    :raises RunAbortedError: if a threshold of the run is exceeded; says which, and the first failures.
    :raises SupersededError: if a later attempt at the shard has begun.
    :raises EntryScriptError: if the entry script cannot be imported.
    :raises EnvironmentBrokenError: if the environment lacks a package.
    :raises NodeError: if init() keeps failing.
    :raises RunFolderError: if the run folder cannot be seen from this machine.
    """
    settings, manifest = request.folder.read_settings(), request.folder.read_manifest()
    shard = manifest.shards[request.shard_number]
    node = f"{encode(socket.gethostname())}-{shard.number}-{request.try_number}"
    attempt = request.folder.open_attempt(
        shard,
        try_number=request.try_number,
        task_instance_id=request.task_instance_id,
        max_tries=request.max_tries,
        node=node,
        window=_FIRST_WINDOW,
    )
    try:
        _run(request, settings, manifest, shard, attempt)
    except VerdictError as error:
        failures = first_failures(request.folder, manifest)
        raise RunAbortedError(abort_message(error.stored, failures, request.folder)) from None
    finally:
        attempt.close()
    return _summary(attempt, shard)


def _run(request: NodeRequest, settings: RunSettings, manifest: Manifest, shard: Shard, attempt: Attempt) -> None:
    watcher = Watcher(
        request.folder,
        manifest,
        attempt,
        shard=shard,
        limits=settings.config.limits,
        is_orphaned=request.is_orphaned,
    )
    if (stored := watcher.look()) is not None:
        raise VerdictError(stored)
    stage = Stage(request.folder.names.source_zip)
    try:
        starter = _Starter(request, settings, attempt, stage)
        work = Work(
            folder=request.folder,
            settings=settings,
            shard=shard,
            attempt=attempt,
            watcher=watcher,
            processes=starter.processes,
            start=starter.start,
            log_of=starter.log_of,
            logger=request.logger,
        )
        _run_in_thread(work)
    finally:
        stage.remove()


def _run_in_thread(work: Work) -> None:
    started: Future[tuple[asyncio.AbstractEventLoop, Supervisor]] = Future()
    ended: Future[None] = Future()

    async def main() -> None:
        try:
            supervisor = Supervisor(work)
        except Exception as error:
            started.set_exception(error)
            raise
        started.set_result((asyncio.get_running_loop(), supervisor))
        await supervisor.run()

    def run() -> None:
        try:
            ended.set_result(asyncio.run(main()))
        except BaseException as error:  # noqa: BLE001 - carried over to the caller's thread, which raises it
            ended.set_exception(error)

    thread = threading.Thread(target=run, name="airflow_prs-node", daemon=True)
    thread.start()
    try:
        ended.result()
    except BaseException as error:
        if not ended.done():
            loop, supervisor = started.result()
            loop.call_soon_threadsafe(supervisor.stop, error)
        raise
    finally:
        thread.join(_STOP_S)


class _Starter:
    """Knows everything that a worker process of this node needs."""

    def __init__(self, request: NodeRequest, settings: RunSettings, attempt: Attempt, stage: Stage) -> None:
        self._request = request
        self._settings = settings
        self._attempt = attempt
        self._stage = stage
        self._devices = visible_devices({**request.environ, **request.variables})
        self.processes = int(settings.config.process_count_per_node or default_process_count(self._devices))
        self._numbers = iter(range(1_000_000))
        Path(self._output_folder).mkdir(parents=True, exist_ok=True)

    def log_of(self, process: str) -> str:
        """Path of a process's log inside the run folder."""
        path = self._request.folder.names.log("stderr", self._attempt.claim.node, process)
        return str(path.relative_to(self._request.folder.path))

    async def start(self, slot: Slot, on_message: Callable[[dict[str, Any]], None]) -> WorkerProcess:
        """Start the next worker process."""
        number = next(self._numbers)
        name = f"process{number:03d}"
        names, node = self._request.folder.names, self._attempt.claim.node
        plan = ProcessPlan(
            number=number,
            name=name,
            interpreter=self._settings.config.environment.interpreter,
            directory=await asyncio.to_thread(self._stage.working_directory, name),
            node_directory=self._stage.path,
            environment=self._environment(slot),
            setup=self._setup(number, name),
        )
        return await start_process(
            plan,
            on_message=on_message,
            log_files={kind: names.log(kind, node, name) for kind in ("stdout", "stderr")},
            task_log=TaskLog(self._request.logger, name),
            redact=self._request.redact,
        )

    def _environment(self, slot: Slot) -> dict[str, str]:
        variables = {"AZUREML_BI_OUTPUT_PATH": self._output_folder, **self._request.variables}
        return process_environment(
            self._request.environ, variables, devices=self._devices, slot=slot.number, processes=self.processes
        )

    @property
    def _output_folder(self) -> str:
        return self._settings.output or str(self._request.folder.names.script_output)

    def _setup(self, number: int, name: str) -> dict[str, Any]:
        config, names = self._settings.config, self._request.folder.names
        return {
            "source": str(self._stage.source),
            "entry_script": config.entry_script,
            "argv": list(self._settings.arguments),
            "inputs": [
                {
                    "name": spec.name,
                    "kind": spec.kind.value,
                    "options": dict(spec.options),
                    "partition_keys": list(spec.partition_keys),
                }
                for spec in self._settings.inputs
            ],
            "side_inputs": dict(self._settings.side_inputs),
            "append_rows": config.output_action == "append_row",
            "rows_path": str(self._attempt.names.rows(number)),
            "output_dir": self._output_folder,
            "node": self._attempt.claim.node,
            "process": name,
            "logging_level": config.logging_level,
            "script_log": str(names.log("entry_script_log", self._attempt.claim.node, name)),
        }


def _summary(attempt: Attempt, shard: Shard) -> dict[str, Any]:
    progress = attempt.state.progress
    return {
        "shard": shard.number,
        "node": attempt.claim.node,
        "mini_batches": progress.total,
        "succeeded": progress.succeeded,
        "failed": progress.failed,
        "items_failed": progress.items_failed,
        "elements": progress.elements,
    }
