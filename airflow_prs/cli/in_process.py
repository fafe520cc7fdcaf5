"""
``run --in-process``: run the entry script in this process, for a debugger and breakpoint().

The script is loaded from its own path, so that breakpoints in it work. stdin and stdout are those of the terminal. An
exception of the script ends the run, unless failures are only counted.
"""

from __future__ import annotations

import asyncio
import bdb
import contextlib
import logging
import os
import socket
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from airflow_prs.cli.console import shown_log
from airflow_prs.cli.job import Job, plan_job
from airflow_prs.cli.run import conclude
from airflow_prs.errors import EntryScriptError, StagingError
from airflow_prs.node.input.places import Places
from airflow_prs.node.input.side_inputs import with_local_side_inputs
from airflow_prs.node.input.stager import Stager
from airflow_prs.node.masking import Masker
from airflow_prs.node.processes.staging import Stage
from airflow_prs.node.processes.starting import input_specs, rows_format, script_arguments
from airflow_prs.node.processes.wire import failure_of, order_of, outcome_of
from airflow_prs.node.work.failed_tries import failed_outcome, failed_try
from airflow_prs.node.work.queue import Assignment
from airflow_prs.node.work.tally import Tally
from airflow_prs.records import FailedTry, MiniBatch, Outcome, Shard
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.names import encode
from airflow_prs.run_folder.node_files import NodeFiles
from airflow_prs.run_folder.shard_records import Closing
from airflow_prs.settings import RunSettings
from airflow_prs.worker import failures, script
from airflow_prs.worker.channel import Done
from airflow_prs.worker.loading import Order
from airflow_prs.worker.offered import azureml_core, entry_script
from airflow_prs.worker.reading import readers
from airflow_prs.worker.working import Try
from airflow_prs.worker.writing import formats, rows

logger = logging.getLogger(__name__)

_PROCESS = "process000"
_LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_PACKAGE = str(Path(__file__).parent.parent) + os.sep


def run_in_process(job: Job, output: str, *, nodes: int, keeps_going: bool) -> int:
    """
    Run a job in this process, one mini-batch after the other, and print the path of its result.

    :param output: folder of the result.
    :param nodes: number of shards.
    :param keeps_going: whether failures are only counted; otherwise the first one is raised.
    :return: the exit code.
    """
    with shown_log():
        folder = plan_job(job, output, nodes=nodes).folder
        settings = folder.read_settings()
        logger.info("The run folder is %s", folder.path)
        environment = settings.config.environment
        if environment.is_installed or environment.interpreter != sys.executable:
            logger.warning("--in-process uses this Python, %s, not that of the configuration", sys.executable)
        sys.excepthook = _print_user_frames
        try:
            with _working_directory(folder) as local:
                files = folder.node_files(local, settings.output)
                try:
                    _run_script(job, folder, settings, files, local, keeps_going=keeps_going)
                    files.upload_output()
                finally:
                    files.upload_logs(is_last=True)
        except SystemExit as error:
            # With the script's exit code, a run without result could end with 0.
            error.__traceback__ = _users_frames(error.__traceback__)
            raise EntryScriptError(failures.describe(error)["traceback"].rstrip()) from None
        return conclude(folder)


@dataclass(frozen=True, kw_only=True)
class _Run:
    """
    What all shards of a run use.

    :param files: what it writes.
    :param redact: masks secrets in errors and tracebacks.
    :param keeps_going: whether failures are only counted; otherwise the first one is raised.
    """

    job: Job
    folder: RunFolder
    settings: RunSettings
    files: NodeFiles
    stager: Stager
    redact: Callable[[str], str]
    keeps_going: bool


def _run_script(
    job: Job, folder: RunFolder, settings: RunSettings, files: NodeFiles, local: Path, *, keeps_going: bool
) -> None:
    masker, places = Masker(job.variables.values()), Places(local / "input")

    def redact(text: str) -> str:
        return masker(places.as_planned(text))

    settings, variables = with_local_side_inputs(settings, job.variables, places)
    stager = Stager(places, settings.inputs, on_change=lambda: None, redact=redact)
    run = _Run(
        job=job,
        folder=folder,
        settings=settings,
        files=files,
        stager=stager,
        redact=redact,
        keeps_going=keeps_going,
    )
    with contextlib.closing(stager):
        _prepare(run, variables)
        user_script = _load(job, settings)
        user_script.init()
        for shard in folder.read_manifest().shards:
            _ShardRun(run, shard, user_script).run()
        user_script.shutdown()


class _ShardRun:
    """Runs the mini-batches of a shard."""

    def __init__(self, run: _Run, shard: Shard, user_script: script.Script) -> None:
        self._run = run
        self._shard = shard
        self._script = user_script
        self._readers = {spec["name"]: readers.make_reader(spec) for spec in input_specs(run.settings)}

    def run(self) -> None:
        """Run all mini-batches; each one is committed before the next one starts."""
        shard = self._shard
        attempt = self._run.folder.open_attempt(
            shard, TaskTry(try_number=1), node=_node(shard), window=shard.count, files=self._run.files
        )
        tally = Tally(attempt.inheritance.progress, set())
        closing = Closing.STOPPED
        try:
            with attempt.rows.path(0).open("ab", buffering=0) as file:
                writer = formats.make_writer(rows_format(self._run.settings), self._run.folder.layout().propose)
                self._run_all(attempt, tally, rows.RowsFile(file.fileno(), writer))
            closing = Closing.DONE
        finally:
            attempt.commit([], [], progress=tally.progress(), granted=shard.end, closing=closing)

    def _run_all(self, attempt: Attempt, tally: Tally, rows_file: rows.RowsFile) -> None:
        for mini_batch in self._run.folder.read_mini_batches(self._shard.first, self._shard.end):
            tally.count_handed_out(1)
            outcome, failed = self._try(mini_batch, rows_file)
            tally.count(outcome)
            tries = [failed] if failed else []
            attempt.commit([outcome], tries, progress=tally.progress(), granted=self._shard.end)
            what = f"failed: {failed.error}" if failed else f"{outcome.returned} elements for {outcome.items} items"
            logger.info("mini-batch %d: %s (%.3g s)", outcome.index, what, outcome.duration_s)

    def _try(self, mini_batch: MiniBatch, rows_file: rows.RowsFile) -> tuple[Outcome, FailedTry | None]:
        assignment, this = Assignment(mini_batch, 1), Try(mini_batch.index)
        try:
            assignment = self._stage(assignment)
            order = Order(*order_of(assignment, has_tables=self._run.settings.has_tables))
            loaded = self._readers[order.input].load(order.pieces, order.items, order.versions)
            this.begin()
            elements = self._call(loaded, order)
            this.end()
            has_rows = self._run.settings.config.output_action == "append_row"
            place = rows_file.append(elements) if has_rows else (0, 0, 0)
            answer = Done(*this.done(len(elements), place)["done"])
        except (Exception, SystemExit) as error:
            # To quit the debugger is to end the run.
            if not self._run.keeps_going or isinstance(error, bdb.BdbQuit):
                raise
            error.__traceback__ = _users_frames(error.__traceback__)
            return self._failure(assignment, this.failed(error)["try_failed"])
        finally:
            self._run.stager.release(mini_batch.index)
        return outcome_of(assignment, answer, process=0), None

    def _stage(self, assignment: Assignment) -> Assignment:
        staged = asyncio.run(self._run.stager.stage(assignment.mini_batch))
        if staged.error:
            raise StagingError(staged.error)
        return replace(assignment, staged=staged)

    def _failure(self, assignment: Assignment, answer: dict[str, Any]) -> tuple[Outcome, FailedTry]:
        masked = {name: self._run.redact(answer[name]) for name in ("error", "traceback")}
        failure = failure_of(assignment, {**answer, **masked}, process=_PROCESS)
        return failed_outcome(failure), failed_try(failure, is_final=True, node=_node(self._shard), log="")

    def _call(self, loaded: Any, order: Order) -> Any:
        context = order.context(loaded) if self._script.takes_context else None
        result = self._script.run(loaded, context)
        return rows.elements_of(self._script.complete(result) if self._script.is_async else result)


def _node(shard: Shard) -> str:
    return f"{encode(socket.gethostname())}-{shard.number}-1"


@contextlib.contextmanager
def _working_directory(folder: RunFolder) -> Iterator[Path]:
    """Use a copy of the code as working directory, as worker processes do, and yield a folder for other files."""
    stage, before = Stage(), Path.cwd()
    try:
        stage.extract(folder.open_source())
        os.chdir(stage.working_directory(_PROCESS))
        yield stage.path
    finally:
        os.chdir(before)
        stage.remove()


def _prepare(run: _Run, variables: Mapping[str, str]) -> None:
    """Set up what an entry script finds in a worker process: variables, logging, and the modules that it may import."""
    settings, files = run.settings, run.files
    output = str(files.output)
    files.output.mkdir(parents=True, exist_ok=True)
    os.environ.update({"AZUREML_BI_OUTPUT_PATH": output, **variables})
    logging.basicConfig(level=settings.config.logging_level, format=_LOG_FORMAT, stream=sys.stderr)
    log = files.names.log("entry_script_log", _node(run.folder.read_manifest().shards[0]), _PROCESS)
    source, name = _place(run.job)
    script_folder = str(Path(source, name).parent)
    entry_script.fill_in(
        folder=script_folder,
        output_dir=output,
        agent_name=_PROCESS,
        log_dir=str(log.parent),
        level=settings.config.logging_level,
        send_log=lambda lines: _append(log, run.redact(lines)),
    )
    entry_script.offer_names()
    azureml_core.offer_names(dict(settings.side_inputs))


def _append(path: Path, lines: str) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(lines)


def _place(job: Job) -> tuple[str, str]:
    """Return the user's folder of the code, and the path of the script in it."""
    config = job.config
    if config.source_directory is not None:
        return str(Path(job.base, config.source_directory)), config.entry_script
    path = Path(job.base, config.entry_script)
    return str(path.parent), path.name


def _load(job: Job, settings: RunSettings) -> script.Script:
    source, name = _place(job)
    try:
        return script.load_script(source, name, script_arguments(settings, processes=1))
    except script.EntryScriptError as error:
        raise EntryScriptError(str(error)) from None


def _print_user_frames(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
    """Print an uncaught exception, beginning with the first frame of the script; an excepthook."""
    if issubclass(kind, bdb.BdbQuit):
        logger.error("Ended from the debugger.")
        return
    traceback.print_exception(kind, error, _users_frames(frames))


def _users_frames(frames: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames of this package, and without those before them."""
    found = frames
    while found is not None and not _is_ours(found):
        found = found.tb_next
    if found is None:
        return frames
    while found is not None and _is_ours(found):
        found = found.tb_next
    return found


def _is_ours(frame: TracebackType) -> bool:
    return frame.tb_frame.f_code.co_filename.startswith((_PACKAGE, "<frozen "))
