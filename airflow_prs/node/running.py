"""The entry point of a node: claims a shard, runs it in a thread of its own, and returns a summary."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from airflow_prs.environments.making import ensure_environment
from airflow_prs.errors import EnvironmentBrokenError, PrsError, RunAbortedError
from airflow_prs.node.input.places import Places
from airflow_prs.node.input.side_inputs import with_local_side_inputs
from airflow_prs.node.input.stager import Stager
from airflow_prs.node.lending.borrower import Borrower
from airflow_prs.node.lending.lender import Lender, LoanLostError
from airflow_prs.node.machine.resources import ResourceLog
from airflow_prs.node.processes.staging import Stage
from airflow_prs.node.processes.starting import Starter, process_count
from airflow_prs.node.reporting import Reporter, begin_last_upload
from airflow_prs.node.request import NodeRequest
from airflow_prs.node.supervisor import AbortError, Supervisor
from airflow_prs.node.telling import describe_begin, describe_end
from airflow_prs.node.watching import Watcher
from airflow_prs.node.work.committer import WINDOW
from airflow_prs.node.work.dispatcher import Dispatcher, NodeWork, Signals
from airflow_prs.node.work.failed_tries import RetryPolicy
from airflow_prs.node.work.meter import Meter
from airflow_prs.node.work.queue import WorkQueue
from airflow_prs.node.work.status import StatusBoard
from airflow_prs.records import Manifest, Progress, Shard
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.inheritance import Inheritance
from airflow_prs.run_folder.loans import BorrowedWork
from airflow_prs.run_folder.names import encode, loan_status, shard_status
from airflow_prs.run_folder.node_files import NodeFiles
from airflow_prs.run_folder.shard_records import Closing
from airflow_prs.settings import RunSettings

_STOP_S = 30.0


def run_node(request: NodeRequest) -> dict[str, Any]:
    """
    Run a shard until every mini-batch of it has an outcome.

    The event loop runs in a thread of its own and the caller's thread waits for it, so that signals and Airflow's
    timeouts reach the caller immediately. What they raise stops the node and its processes, and is then raised here.

    :return: a small summary.
    :raises RunAbortedError: if the run was aborted, and mini-batches of this shard have no outcome; names the reason.
    :raises SupersededError: if a later attempt at the shard has begun.
    :raises EntryScriptError: if the entry script cannot be imported, or its init() cannot succeed.
    :raises EnvironmentBrokenError: if the environment lacks a package.
    :raises NodeError: if init() keeps failing.
    :raises RunFolderError: if the run folder cannot be seen from this machine.
    """
    settings, manifest = request.folder.read_settings(), request.folder.read_manifest()
    shard = manifest.shard(request.shard_number)
    node = f"{encode(socket.gethostname())}-{shard.number}-{request.task_try.try_number}"
    while True:
        stage, began = Stage(), time.monotonic()
        ends = ExitStack()
        ends.callback(stage.remove)
        files = request.folder.node_files(stage.path, settings.output)
        try:
            attempt = request.folder.open_attempt(
                shard,
                request.task_try,
                node=node,
                window=WINDOW * process_count(request, settings) * settings.config.max_concurrency_per_process,
                files=files,
            )
            request.logger.info("%s", describe_begin(attempt, process_count(request, settings)))
            try:
                _run(request, settings, manifest, attempt, stage=stage, files=files, ends=ends)
            finally:
                request.logger.info("%s", describe_end(attempt, time.monotonic() - began))
            return _summary(attempt)
        except LoanLostError as error:
            request.logger.info("%s", error)
        except AbortError as error:
            if not _end_aborted(attempt):
                # The gatekeeper shows the failures, once. Here each node would read those of all shards.
                raise RunAbortedError(f"The run was aborted: {error.abort.verdict.reason}.") from None
            return _summary(attempt)
        finally:
            ends.close()


def _run(
    request: NodeRequest,
    settings: RunSettings,
    manifest: Manifest,
    attempt: Attempt,
    *,
    stage: Stage,
    files: NodeFiles,
    ends: ExitStack,
) -> None:
    watcher = Watcher(
        request.folder,
        manifest,
        attempt,
        limits=settings.config.limits,
        is_orphaned=request.is_orphaned,
    )
    _require_no_abort(watcher)
    interpreter = _interpreter(request, settings)
    stage.extract(request.folder.open_source())
    signals, places, meter = Signals(), Places(stage.input), Meter()
    look = partial(_require_no_abort, watcher)
    settings, variables = with_local_side_inputs(settings, request.variables, places, look)
    request = replace(request, variables=variables)
    stager = Stager(
        places, settings.inputs, on_change=signals.work.set, on_read=meter.count_staged, redact=request.redact
    )
    starter = Starter(request, settings, attempt, stage=stage, files=files, interpreter=interpreter, places=places)
    try:
        parts = _Parts(
            manifest=manifest,
            settings=settings,
            starter=starter,
            watcher=watcher,
            stager=stager,
            signals=signals,
            meter=meter,
            slots=_slots(starter, settings),
        )
        _run_in_thread(parts.supervisor)
        files.upload_output()
    except AbortError as error:
        if error.abort.is_drain:
            files.upload_output()
        raise
    finally:
        stager.close()
        request.tell_counts(meter.take())
        starter.log_writer.close()
        ends.callback(begin_last_upload(files, starter.say))


def _require_no_abort(watcher: Watcher) -> None:
    if (abort := watcher.look()) is not None:
        raise AbortError(abort)


def _end_aborted(attempt: Attempt) -> bool:
    """
    Close an attempt that an abort has stopped before it began, and return whether its shard is done.

    Without a closing record the next attempt would suspect mini-batches that nobody has tried.
    """
    state = attempt.known_state
    is_done = state.progress.done == attempt.shard.count
    # An attempt that has lent something has begun: its last commit has failed, and the loans count on.
    if state.is_running and not state.loans:
        closing = Closing.DONE if is_done else Closing.ABORTED
        # What ended the run matters more.
        with contextlib.suppress(OSError, PrsError):
            attempt.commit([], [], progress=state.progress, granted=state.granted, closing=closing)
    return is_done


def _interpreter(request: NodeRequest, settings: RunSettings) -> str:
    try:
        return ensure_environment(
            settings.config.environment,
            request.environments_root,
            lambda text: request.logger.info("%s", text),
            environ={**request.environ, **request.variables},
            method=request.install_method,
        )
    except EnvironmentBrokenError as error:
        # pip and uv quote what ${NAME} in a requirement stands for.
        raise EnvironmentBrokenError(request.redact(str(error))) from None


@dataclass(frozen=True, kw_only=True)
class _Parts:
    """
    What the parts of a node are made of.

    :param slots: number of slots.
    """

    manifest: Manifest
    settings: RunSettings
    starter: Starter
    watcher: Watcher
    stager: Stager
    signals: Signals
    meter: Meter
    slots: int

    def supervisor(self) -> Supervisor:
        """Return the supervisor; to be called in its event loop."""
        starter, attempt, watcher = self.starter, self.starter.attempt, self.watcher
        request, inherited, shard = starter.request, attempt.inheritance, attempt.shard
        lends = self.settings.config.lend
        granted = attempt.state.granted
        work = NodeWork(self._dispatcher(attempt, inherited, granted=granted, status_key=shard_status(shard.number)))
        return Supervisor(
            self.slots,
            starter,
            work,
            self.signals,
            suspects=list(request.folder.select_mini_batches(inherited.suspects)),
            watcher=watcher,
            lender=Lender(request.folder, attempt, work.own, starter.say) if lends else None,
            borrower=Borrower(
                request.folder,
                attempt,
                watcher,
                work,
                self._dispatcher_of_loan,
                awaits_others_s=request.awaits_others_s if shard.is_borrowing else 0.0,
                say=starter.say,
            )
            if lends
            else None,
            reporter=Reporter(
                request,
                self.manifest,
                work,
                watcher,
                self.meter,
                resources=ResourceLog(starter.files.names.resources(attempt.writer.node)),
                files=starter.files,
                sample_s=self.settings.resource_monitor_interval_s,
            ),
            stuck_s=self.settings.progress_update_timeout_s,
        )

    def _dispatcher_of_loan(self, loan: BorrowedWork) -> Dispatcher:
        status_key = loan_status(loan.shard.number, loan.loan.number)
        return self._dispatcher(loan, _nothing(loan.shard), granted=loan.shard.first, status_key=status_key)

    def _dispatcher(
        self, attempt: Attempt | BorrowedWork, inherited: Inheritance, *, granted: int, status_key: str
    ) -> Dispatcher:
        config, folder = self.settings.config, self.starter.request.folder
        return Dispatcher(
            attempt,
            inherited,
            _queue(folder, attempt.shard, inherited, granted),
            RetryPolicy(
                most_tries=config.run_max_try,
                delay_s=config.retry_delay_s,
                count_failed_tries=config.count_failed_tries,
                bisect_timeout_s=config.run_invocation_timeout if config.bisect_failed_mini_batches else None,
            ),
            StatusBoard(
                folder,
                status_key,
                attempt.shard,
                self.manifest.mini_batches,
                attempt.writer.node,
                done=inherited.done,
                failed=inherited.failed,
            ),
            stager=self.stager,
            signals=self.signals,
            is_blind=lambda: self.watcher.is_blind,
            slots=self.slots,
            concurrency=config.max_concurrency_per_process,
            commit_s=folder.intervals.commit_s,
            counts_failed_items=lambda: self.watcher.limits.error_threshold >= 0,
            meter=self.meter,
            log_of=self.starter.log_of,
            say=self.starter.say,
        )


def _slots(starter: Starter, settings: RunSettings) -> int:
    """Return how many slots have something to do."""
    if starter.attempt.shard.is_borrowing and settings.config.lend:
        return starter.processes
    return min(starter.processes, int((~starter.attempt.inheritance.done).sum()))


def _nothing(shard: Shard) -> Inheritance:
    """Return what a loan begins with."""
    import numpy as np

    nothing = np.zeros(shard.count, bool)
    return Inheritance(done=nothing, failed=nothing, progress=Progress())


def _queue(folder: RunFolder, shard: Shard, inherited: Inheritance, granted: int) -> WorkQueue:
    done = inherited.done.copy()
    for index in inherited.suspects:
        done[index - shard.first] = True
    tries = {index: count for index, count in inherited.tries.items() if index not in inherited.suspects}
    return WorkQueue(
        folder, shard, done=done, tries=tries, granted=granted, crowd=inherited.crowd, group=inherited.group
    )


def _run_in_thread(make: Callable[[], Supervisor]) -> None:
    started: Future[tuple[asyncio.AbstractEventLoop, Supervisor]] = Future()
    ended: Future[None] = Future()

    async def main() -> None:
        try:
            supervisor = make()
        except Exception as error:
            started.set_exception(error)
            raise
        started.set_result((asyncio.get_running_loop(), supervisor))
        await supervisor.run()

    def run() -> None:
        try:
            ended.set_result(asyncio.run(main()))
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
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


def _summary(attempt: Attempt) -> dict[str, Any]:
    progress = attempt.state.progress
    return {
        "shard": attempt.shard.number,
        "node": attempt.writer.node,
        "mini_batches": progress.total,
        "succeeded": progress.succeeded,
        "failed": progress.failed,
        "items_failed": progress.items_failed,
        "elements": progress.elements,
    }
