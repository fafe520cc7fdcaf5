"""Starts worker processes, and decides what follows if one does not become ready."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import Callable
from typing import Any

from airflow_prs.config.arguments import RESERVED
from airflow_prs.environments.making import missing_module_hint
from airflow_prs.errors import EntryScriptError, EnvironmentBrokenError, NodeError, PrsError
from airflow_prs.node.input.places import Places
from airflow_prs.node.machine.cores import default_process_count, process_environment, visible_devices
from airflow_prs.node.machine.memory import usable_memory
from airflow_prs.node.processes.layout import LayoutAnswers
from airflow_prs.node.processes.output import LogWriter, TaskLog
from airflow_prs.node.processes.process import Message, ProcessPlan, WorkerProcess, start_process
from airflow_prs.node.processes.staging import Stage
from airflow_prs.node.processes.wire import ProcessPolicy, StartFailure
from airflow_prs.node.request import NodeRequest
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.node_files import NodeFiles
from airflow_prs.settings import RunSettings
from airflow_prs.worker.writing import formats

_LOGS = ("stdout", "stderr", "entry_script_log")
_FAILURES_PER_SLOT = 3
_MEMORY_AHEAD = 0.25
"""Part of the free memory that all processes together may use for mini-batches that they load ahead."""
INIT_GRACE_S = 30.0


class Starter:
    """
    Starts the worker processes of a node.

    :param request: the request to the node.
    :param settings: what plan resolved.
    :param attempt: the node's claim to its shard.
    :param stage: the local folders of the node.
    :param files: what the node writes.
    :param interpreter: the Python that runs the entry script.
    :param places: where local copies of the input are.

    ``log_writer`` and ``layout`` serve all its processes.
    """

    def __init__(
        self,
        request: NodeRequest,
        settings: RunSettings,
        attempt: Attempt,
        *,
        stage: Stage,
        files: NodeFiles,
        interpreter: str,
        places: Places,
    ) -> None:
        self.request = request
        self._settings = settings
        self.attempt = attempt
        self._stage = stage
        self.files = files
        self._interpreter = interpreter
        self._places = places
        self._devices = visible_devices({**request.environ, **request.variables})
        self.processes = process_count(request, settings)
        self.policy = _process_policy(settings)
        self._numbers = itertools.count()
        self._failures = 0
        self._told = {""}
        self.log_writer = LogWriter()
        files.output.mkdir(parents=True, exist_ok=True)
        self.layout = LayoutAnswers(request.folder.layout().propose)

    def say(self, text: str) -> None:
        """Write a line to the task log."""
        self.request.logger.info("%s", text)

    def log_of(self, process: str) -> str:
        """Return the path of a process's log inside the run folder."""
        names = self.files.names
        return str(names.log("stderr", self.attempt.writer.node, process).relative_to(names.path))

    async def start(self, slot: int, on_messages: Callable[[list[Message]], None]) -> WorkerProcess:
        """Start a worker process for a slot."""
        number = next(self._numbers)
        name = f"process{number:03d}"
        names, node = self.files.names, self.attempt.writer.node
        plan = ProcessPlan(
            number=number,
            name=name,
            interpreter=self._interpreter,
            directory=await asyncio.to_thread(self._stage.working_directory, name),
            node_directory=self._stage.path,
            environment=self._environment(slot),
            setup=self._setup(number, name),
        )
        return await start_process(
            plan,
            on_messages=on_messages,
            log_files={kind: names.log(kind, node, name) for kind in _LOGS},
            log_writer=self.log_writer,
            task_log=TaskLog(self.request.logger, name),
            redact=self._redact,
        )

    def _redact(self, text: str) -> str:
        # What a script prints and raises names the files as their owners know them: input and code.
        code = self._settings.config.source_directory
        text = text.replace(f"{self._stage.source}/", "" if code is None else f"{code.rstrip('/')}/")
        return self.request.redact(self._places.as_planned(text))

    def take_failure(self, failure: StartFailure, *, slots: int, was_ready: bool) -> None:
        """
        Log that a process did not become ready, or raise if there is no point in starting another one.

        :param slots: how many processes the node keeps.
        :param was_ready: whether any process of this node ever became ready.
        :raises EnvironmentBrokenError: if the environment lacks a package.
        :raises EntryScriptError: if the entry script cannot be imported, or its init() cannot succeed.
        :raises NodeError: if too many processes have failed to start.
        """
        self._failures += 1
        error = self._reason_to_give_up(failure, slots, was_ready=was_ready)
        if error is not None:
            raise error
        # A traceback is shown once.
        details = failure.traceback.rstrip()
        shown = "" if details in self._told else f"\n{details}"
        self._told.add(details)
        self.say(f"a worker process did not start ({failure.stage}): {failure.error}{shown}")

    def _reason_to_give_up(self, failure: StartFailure, slots: int, *, was_ready: bool) -> PrsError | None:
        script = self._settings.config.entry_script
        shown = f"\n\n{failure.traceback.rstrip()}" if failure.traceback else ""
        if failure.stage == "environment":
            return EnvironmentBrokenError(failure.traceback.rstrip() or failure.error)
        if failure.is_final or (failure.is_hopeless and not was_ready):
            is_import = failure.stage == "import"
            what = f"The entry script {script} cannot be used" if is_import else f"init() of {script} cannot succeed"
            hint = missing_module_hint(failure.error, self._settings.config.environment, self._interpreter)
            hint = hint or "Correct the script or its arguments."
            return EntryScriptError(f"{what}: {failure.error}. Another try would not change that. {hint}{shown}")
        if failure.stage == "timeout" and not was_ready:
            return NodeError(
                f"{failure.error}, and no worker process was ever ready: does init() of {script} wait for something?"
                f"{shown}"
            )
        if self._failures >= _FAILURES_PER_SLOT * slots:
            return NodeError(
                f"init() of {script} failed {self._failures} times on this node, the last time with "
                f"{failure.error}. Correct it, or what it needs.{shown}"
            )
        return None

    def _environment(self, slot: int) -> dict[str, str]:
        variables = {"AZUREML_BI_OUTPUT_PATH": str(self.files.output), **self.request.variables}
        return process_environment(
            self.request.environ, variables, devices=self._devices, slot=slot, processes=self.processes
        )

    def _setup(self, number: int, name: str) -> dict[str, Any]:
        config, names = self._settings.config, self.files.names
        return {
            "source": str(self._stage.source),
            "entry_script": config.entry_script,
            "argv": script_arguments(self._settings, self.processes),
            "inputs": input_specs(self._settings),
            "side_inputs": dict(self._settings.side_inputs),
            "append_rows": config.output_action == "append_row",
            "rows_format": rows_format(self._settings),
            "rows_path": str(self.attempt.rows.path(number)),
            "output_dir": str(self.files.output),
            "node": self.attempt.writer.node,
            "process": name,
            "logging_level": config.logging_level,
            "script_log": str(names.log("entry_script_log", self.attempt.writer.node, name)),
            "profile": self._profile(name),
            "concurrency": config.max_concurrency_per_process,
            "read_ahead_bytes": self._read_ahead_bytes() if config.read_ahead else 0,
            "memory_limit_bytes": config.max_memory_per_process_bytes,
            "exit_timeout_s": config.exit_timeout_s,
            "tells_results": self.request.tells_results,
        }

    def _read_ahead_bytes(self) -> int:
        return int(_MEMORY_AHEAD * usable_memory().free_bytes / self.processes)

    def _profile(self, name: str) -> dict[str, str] | None:
        module = self._settings.profiling_module
        if module is None:
            return None
        return {"module": module, "path": str(self.files.names.profile(self.attempt.writer.node, name))}


def _process_policy(settings: RunSettings) -> ProcessPolicy:
    config = settings.config
    run_s = float(config.run_invocation_timeout)
    return ProcessPolicy(
        run_s=run_s,
        load_s=settings.load_timeout_s or run_s,
        init_s=3 * run_s + INIT_GRACE_S,
        shutdown_s=run_s,
        exit_s=config.exit_timeout_s,
        has_tables=settings.has_tables,
        most_mini_batches=config.max_mini_batches_per_process,
        most_memory_bytes=config.max_memory_per_process_bytes,
    )


def why_not_ready(process: WorkerProcess) -> StartFailure:
    """Return the failure of a worker process that ended without a report."""
    if process.has_no_interpreter:
        allowed = "a Python that is at this path on every node"
        error = f"environment: on {socket.gethostname()}, {process.death}; allowed: {allowed}"
        return StartFailure(stage="environment", error=error)
    error = f"the worker process ended before init() was through: {process.death}"
    return StartFailure(stage="init", error=error)


def process_count(request: NodeRequest, settings: RunSettings) -> int:
    """Return how many worker processes a node has."""
    devices = visible_devices({**request.environ, **request.variables})
    return int(settings.config.process_count_per_node or default_process_count(devices))


def input_specs(settings: RunSettings) -> list[dict[str, Any]]:
    """Return what the worker runtime needs to read the inputs; see worker.reading.readers.make_reader."""
    return [{"name": spec.name, "kind": spec.kind.value, "options": dict(spec.options)} for spec in settings.inputs]


def rows_format(settings: RunSettings) -> dict[str, Any]:
    """Return what the worker runtime needs to write rows; see worker.writing.formats.make_writer."""
    to_csv = settings.to_csv
    if to_csv is None and settings.config.writes_frames_as_csv:
        to_csv = formats.CSV
    return {"format": settings.config.result_format, "to_csv": to_csv}


def script_arguments(settings: RunSettings, processes: int) -> list[str]:
    """
    Return what the entry script finds in ``sys.argv``: the step's arguments, then the reserved ones with their values.

    As in the original, since scripts read them. Arguments without a value are left out, and those that the script would
    take for options of its own.
    """
    values = {
        **{name: getattr(settings.config, name, None) for name in RESERVED},
        "output": settings.output,
        "process_count_per_node": processes,
        "append_row_file_name": settings.config.result_file_name,
    }
    if (keys := settings.config.partition_keys) is not None:
        values["partition_keys"] = json.dumps(list(keys))
    driver = [
        [f"--{name}", str(value)]
        for name, value in values.items()
        if value is not None and name not in settings.withheld_arguments
    ]
    return [*settings.arguments, *itertools.chain.from_iterable(driver)]
