"""The way into a node: claim a shard, run it in a thread of its own, say what came of it."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from airflow_prs.environments.making import ensure_environment
from airflow_prs.errors import EnvironmentBrokenError, RunAbortedError
from airflow_prs.node.lending.lender import LoanLostError
from airflow_prs.node.machine.resources import ResourceLog
from airflow_prs.node.processes.protocols import Rules
from airflow_prs.node.processes.staging import Stage
from airflow_prs.node.processes.starting import Starter, process_count
from airflow_prs.node.request import NodeRequest
from airflow_prs.node.run_status import RunStatus
from airflow_prs.node.status import StatusBoard
from airflow_prs.node.supervisor import Crew, Supervisor, VerdictError
from airflow_prs.node.watching import Watcher
from airflow_prs.node.work.committing import WINDOW
from airflow_prs.node.work.desk import ShardDesk, TryRules
from airflow_prs.node.work.queue import WorkQueue
from airflow_prs.records import Manifest, Shard
from airflow_prs.report.reports import abort_message, first_failures
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.names import encode
from airflow_prs.settings import RunSettings

_STOP_S = 30.0
INIT_GRACE_S = 30.0


def run_node(request: NodeRequest) -> dict[str, Any]:
    """
    Run a shard until every mini-batch of it has an outcome.

    The event loop runs in a thread of its own and the caller's thread waits for it, so that signals and Airflow's
    timeouts reach the caller at once; whatever they raise stops the node and its processes before it goes on.

    :return: a small summary.
    :raises RunAbortedError: if a threshold of the run is exceeded; says which, and the first failures.
    :raises SupersededError: if a later attempt at the shard has begun.
    :raises EntryScriptError: if the entry script cannot be imported, or its init() cannot succeed.
    :raises EnvironmentBrokenError: if the environment lacks a package.
    :raises NodeError: if init() keeps failing.
    :raises RunFolderError: if the run folder cannot be seen from this machine.
    """
    settings, manifest = request.folder.read_settings(), request.folder.read_manifest()
    shard = manifest.shards[request.shard_number]
    node = f"{encode(socket.gethostname())}-{shard.number}-{request.try_number}"
    for again in itertools.count():
        attempt = request.folder.open_attempt(
            shard,
            try_number=request.try_number,
            task_instance_id=request.task_instance_id,
            max_tries=request.max_tries,
            node=node,
            window=WINDOW * process_count(request, settings) * settings.config.max_concurrency_per_process,
            again=again,
        )
        try:
            _run(request, settings, manifest, shard, attempt)
            break
        except LoanLostError as error:
            request.logger.info("%s", error)
        except VerdictError as error:
            failures = first_failures(request.folder, manifest)
            raise RunAbortedError(abort_message(error.stored.verdict, failures, request.folder)) from None
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
    interpreter = _interpreter(request, settings)
    stage = Stage(request.folder.names.source_zip)
    try:
        starter = Starter(request, settings, attempt, stage=stage, interpreter=interpreter)
        try:
            _run_in_thread(lambda: Supervisor(_crew(manifest, settings, starter, watcher)))
        finally:
            starter.log_writer.close()
    finally:
        stage.remove()


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


def _crew(manifest: Manifest, settings: RunSettings, starter: Starter, watcher: Watcher) -> Crew:
    request, attempt = starter.request, starter.attempt
    config, inherited = settings.config, attempt.inheritance
    pending = int((~inherited.done).sum())
    slots = min(starter.processes, pending)

    def make_desk(attempt: Attempt) -> ShardDesk:
        return _desk(attempt, manifest, settings, starter, slots)

    return Crew(
        desk=make_desk(attempt),
        attempt=attempt,
        watcher=watcher,
        folder=request.folder,
        make_loan_desk=make_desk,
        lends=config.lend,
        run_status=RunStatus(request.folder, manifest, attempt.names.status),
        slots=slots,
        rules=_rules(settings),
        suspects=list(request.folder.select_mini_batches(inherited.suspects)),
        start=starter.start,
        resources=ResourceLog(request.folder.names.resources(attempt.claim.node)),
        sample_s=settings.resource_monitor_interval_s,
        stuck_s=settings.progress_update_timeout_s,
        entry_script=config.entry_script,
        explain_import=starter.explain_import,
        tell_progress=request.tell_progress,
        logger=request.logger,
    )


def _desk(attempt: Attempt, manifest: Manifest, settings: RunSettings, starter: Starter, slots: int) -> ShardDesk:
    request, config, inherited = starter.request, settings.config, attempt.inheritance
    return ShardDesk(
        attempt.shard,
        attempt,
        _queue(request.folder, attempt),
        TryRules(
            most_tries=config.run_max_try,
            delay_s=config.retry_delay_s,
            count_failed_tries=config.count_failed_tries,
        ),
        StatusBoard(
            attempt.names.status,
            attempt.shard,
            manifest.mini_batches,
            attempt.claim.node,
            done=inherited.done,
            failed=inherited.failed,
        ),
        slots=slots,
        concurrency=config.max_concurrency_per_process,
        log_of=starter.log_of,
        say=lambda text: request.logger.info("%s", text),
    )


def _queue(folder: RunFolder, attempt: Attempt) -> WorkQueue:
    shard = attempt.shard
    inherited = attempt.inheritance
    done = inherited.done.copy()
    for index in inherited.suspects:
        done[index - shard.first] = True
    tries = {index: count for index, count in inherited.tries.items() if index not in inherited.suspects}
    return WorkQueue(folder, shard, done=done, tries=tries, granted=attempt.claim.granted)


def _rules(settings: RunSettings) -> Rules:
    config = settings.config
    run_s = float(config.run_invocation_timeout)
    return Rules(
        run_s=run_s,
        load_s=settings.load_timeout_s or run_s,
        init_s=3 * run_s + INIT_GRACE_S,
        shutdown_s=run_s,
        exit_s=config.exit_timeout_s,
        has_tables=settings.has_tables,
        most_mini_batches=config.max_mini_batches_per_process,
        most_memory_bytes=config.max_memory_per_process_bytes,
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
