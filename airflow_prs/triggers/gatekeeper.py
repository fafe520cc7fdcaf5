"""GatekeeperTrigger: watches a run for the gatekeeper while a shard is running."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from enum import Enum
from functools import partial
from typing import Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_prs.airflow_side.object_storage import refresh_connection
from airflow_prs.airflow_side.shard_states import ShardTaskStates, read_shard_states
from airflow_prs.airflow_side.supervision import EXECUTION_LINGERS
from airflow_prs.errors import RunFolderError
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.shard_records import Epoch
from airflow_prs.thresholds.pace import Pace
from airflow_prs.thresholds.watch import Watch, open_watch
from airflow_prs.triggers.beside import beside

ASK_AIRFLOW_EVERY_S = 3.0
TELL_EVERY_S = 30.0
"""Between two lines in the log of the gatekeeper, to which Airflow adds what its triggers log."""
LONGEST_WATCH = timedelta(minutes=4)
"""Shorter than the time after which the gatekeeper assumes that there is no triggerer."""
ANSWERS_WITHIN_S = 45.0
"""Seconds to wait for storage to answer; with LONGEST_WATCH still less than five minutes."""
_REST_PER_LOOK = 4
"""Rest after a look, in durations of that look: however slow the storage is, looks take a fifth of the time."""

_T = TypeVar("_T")


class Seen(str, Enum):
    """Why a trigger wakes the gatekeeper."""

    ABORT = "abort"
    IDLE = "no shard is running"
    TIME_IS_UP = "time is up"
    NOTHING = "the run folder cannot be read"


class GatekeeperTrigger(BaseTrigger):
    """
    Watches a run until there is an abort or no shard is running; during a drain it waits for the shards.

    :param folder: the run folder.
    :param execution: the execution of plan in the epoch of the gatekeeper's attempt.
    :param clear: the clear in that epoch.
    :param dag_id: the DAG of the run.
    :param run_id: the run.
    :param shards_task_id: the id of the mapped task whose instances are the shards.
    :param until: when it wakes the gatekeeper in any case, in seconds since the epoch; another triggerer that continues
        the watch uses the same moment.
    """

    def __init__(
        self,
        *,
        folder: str,
        execution: int,
        clear: int,
        dag_id: str,
        run_id: str,
        shards_task_id: str,
        until: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.folder = folder
        self.execution = execution
        self.clear = clear
        self.dag_id = dag_id
        self.run_id = run_id
        self.shards_task_id = shards_task_id
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of the class, and the arguments that create this trigger again."""
        names = ("folder", "execution", "clear", "dag_id", "run_id", "shards_task_id", "until")
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch the run, and yield one event."""
        began = time.monotonic()
        try:
            seen, message = await self._watch(), ""
        except (OSError, RunFolderError) as error:
            seen, message = Seen.NOTHING, f"{type(error).__name__}: {error}"
        # An abort is already written and stops the nodes. The gatekeeper may have to wait until Airflow has noticed
        # that its last execution ended.
        await asyncio.sleep(began + EXECUTION_LINGERS.total_seconds() - time.monotonic())
        yield TriggerEvent({"seen": seen.value, "message": message})  # type: ignore[no-untyped-call]

    async def _watch(self) -> Seen:
        # In this thread Airflow's connections can be read, see _read_states.
        await sync_to_async(refresh_connection)(self.folder)
        watch = await self._beside(self._open)
        ask_at, was_idle = 0.0, False
        before, since = None, 0.0
        while time.time() < self.until:
            # First the states, then the counts: these include what a shard committed before it ended.
            states = await self._read_states() if time.monotonic() >= ask_at else None
            began = time.monotonic()
            look = await self._beside(partial(watch.look, states))
            if look.abort is not None and not look.abort.is_drain:
                return Seen.ABORT
            took_s = time.monotonic() - began
            if before is None:
                before, since = look.progress, began
            elif began - since >= TELL_EVERY_S:
                self.log.info("%s", Pace(before=before, now=look.progress, seconds=began - since))
                before, since = look.progress, began
            if states is not None:
                is_idle = not states.is_any_running
                # A slot that one shard has left may need a moment to get the next one.
                if is_idle and (was_idle or not states.can_any_run):
                    return Seen.IDLE
                was_idle, ask_at = is_idle, began + ASK_AIRFLOW_EVERY_S
            await asyncio.sleep(max(watch.folder.intervals.run_look_s, _REST_PER_LOOK * took_s))
        return Seen.TIME_IS_UP

    async def _beside(self, work: Callable[[], _T]) -> _T:
        return await beside(self.folder, work, within_s=ANSWERS_WITHIN_S)

    def _open(self) -> Watch:
        return open_watch(RunFolder(self.folder), Epoch(self.execution, self.clear))

    async def _read_states(self) -> ShardTaskStates:
        # Airflow's channel to its supervisor belongs to the event loop's thread: sync_to_async respects that,
        # asyncio.to_thread does not.
        return await sync_to_async(read_shard_states)(self.dag_id, self.run_id, self.shards_task_id)
