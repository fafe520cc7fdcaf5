"""Reports how far a node is: to the task log, to Airflow, and to files of the run folder."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Mapping

from airflow_prs.errors import PrsError
from airflow_prs.node.changes import Changes
from airflow_prs.node.machine.resources import ProcessUsage, ResourceLog
from airflow_prs.node.processes.slot import SlotProcess
from airflow_prs.node.request import NodeRequest
from airflow_prs.node.run_status import RunStatus
from airflow_prs.node.watching import Watcher
from airflow_prs.node.work.dispatcher import NodeWork
from airflow_prs.node.work.meter import Meter
from airflow_prs.records import Manifest
from airflow_prs.run_folder.names import RUN_STATUS
from airflow_prs.run_folder.node_files import NodeFiles
from airflow_prs.thresholds.pace import Pace

_SHARDS_EACH = 50
"""Status.json of the run costs a small read for each shard, so with more shards than this it is written more rarely."""
_PROGRESS_S = 30.0
_LAST_UPLOAD_S = 10.0


class Reporter:
    """
    Reports while a node works.

    :param work: what the node works on.
    :param watcher: knows the state of all shards.
    :param files: what the node writes.
    :param meter: knows what the node has done.
    :param resources: takes samples of what the machine and the processes use.
    :param sample_s: seconds between samples; 0: none.
    """

    def __init__(
        self,
        request: NodeRequest,
        manifest: Manifest,
        work: NodeWork,
        watcher: Watcher,
        meter: Meter,
        *,
        resources: ResourceLog,
        files: NodeFiles,
        sample_s: float,
    ) -> None:
        self._request = request
        self._show_s = request.folder.intervals.status_s
        self._manifest = manifest
        self._work = work
        self._watcher = watcher
        self._meter = meter
        self._resources = resources
        self._files = files
        self._sample_s = sample_s
        self._writing = threading.Lock()
        self._written = Changes()
        self._usage = ProcessUsage()
        self._run_status = RunStatus(request.folder, manifest)

    def parts(self, processes: Callable[[], list[SlotProcess]]) -> list[Awaitable[None]]:
        """
        Return what is to run until the node ends.

        :param processes: returns the worker processes that are ready.
        """
        return [self._show(processes), self._show_run(), self._sample(processes), self._tell(), self._upload()]

    def show_end(self) -> None:
        """Write status.json of the run if all other nodes have ended, so that the last node writes the final state."""
        # Hold the lock: a write that began with older states must not come last.
        with self._writing, contextlib.suppress(OSError, PrsError):
            folder, states = self._request.folder, self._watcher.states
            ended = [state for state in states if state.closing is not None]
            left = [state for state in states if state.closing is None]
            while left:
                some, left = left[: folder.intervals.requests], left[folder.intervals.requests :]
                ended += folder.read_shards((state.shard, state) for state in some)
                if any(state.closing is None for state in ended):
                    return
            self._run_status.write(sorted(ended, key=lambda state: state.shard.number), self._run_status.stat())

    async def _show(self, processes: Callable[[], list[SlotProcess]]) -> None:
        while True:
            now = processes()
            usage: Mapping[str, float] | None = await asyncio.to_thread(self._usage.measure, [each.pid for each in now])
            for dispatcher in self._work:
                working = {
                    each.name: (each.mini_batch, each.since)
                    for each in now
                    if each.dispatcher is dispatcher and each.mini_batch is not None
                }
                # If the storage has a problem, a commit will raise it.
                with contextlib.suppress(OSError):
                    await asyncio.to_thread(dispatcher.show, working, usage)
                # That of the node counts once.
                usage = None
            await asyncio.sleep(self._show_s)

    async def _show_run(self) -> None:
        # Nodes that have begun together look one after the other, so that one writes for all.
        await asyncio.sleep(self._show_s * self._request.shard_number / max(1, len(self._manifest.shards)))
        while True:
            await asyncio.sleep(self._show_s)
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._show_run_if_old)

    def _show_run_if_old(self) -> None:
        """Write status.json of the run, unless another node has just done so."""
        intervals = max(1.0, len(self._manifest.shards) / _SHARDS_EACH)
        with self._writing:
            found = self._run_status.stat()
            if found is not None and self._written.age_s(RUN_STATUS, found) < self._show_s * (intervals - 0.5):
                return
            self._written.age_s(RUN_STATUS, self._run_status.write(self._watcher.states, found))

    async def _sample(self, processes: Callable[[], list[SlotProcess]]) -> None:
        while self._sample_s > 0:
            await asyncio.sleep(self._sample_s)
            await asyncio.to_thread(self._resources.sample, [(each.name, each.pid) for each in processes()])

    async def _upload(self) -> None:
        while True:
            await asyncio.sleep(self._show_s)
            # If the storage has a problem, a commit will raise it.
            with contextlib.suppress(OSError):
                await asyncio.to_thread(self._files.upload_logs)

    async def _tell(self) -> None:
        dispatcher = self._work.own
        before, since = dispatcher.progress(), time.monotonic()
        while not dispatcher.done.is_set():
            await asyncio.sleep(_PROGRESS_S)
            now = time.monotonic()
            pace = Pace(before=before, now=dispatcher.progress(), seconds=now - since)
            self._request.logger.info("%s", pace)
            self._request.tell_progress(pace.numbers())
            await asyncio.to_thread(self._tell_counts)
            before, since = pace.now, now

    def _tell_counts(self) -> None:
        self._request.tell_counts(self._meter.take())


def begin_last_upload(files: NodeFiles, say: Callable[[str], None]) -> Callable[[], None]:
    """Begin to upload the last lines of the logs; return a function that waits for that, but not for long."""

    def upload() -> None:
        try:
            files.upload_logs(is_last=True)
        except OSError as error:
            say(f"the last lines of the logs are not uploaded: {error}")

    def wait() -> None:
        thread.join(_LAST_UPLOAD_S)
        if thread.is_alive():
            say(f"the last lines of the logs are not uploaded within {_LAST_UPLOAD_S:g} seconds; the node ends")

    thread = threading.Thread(target=upload, name="airflow_prs-logs", daemon=True)
    thread.start()
    return wait
