"""GatekeeperTrigger: watches a run for the gatekeeper while shards are running, or waiting to run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from enum import Enum
from typing import Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_prs.airflow_side.shard_states import ShardTaskStates, read_shard_states
from airflow_prs.airflow_side.supervision import EXECUTION_LINGERS
from airflow_prs.errors import RunFolderError
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.thresholds.watch import Watch, open_watch
from airflow_prs.triggers.beside import beside

LOOK_EVERY_S = 0.5
ASK_AIRFLOW_EVERY_S = 3.0
IDLE_S = 10.0
"""Seconds between looks, and between questions to Airflow, while no shard is running."""
LONGEST_WATCH = timedelta(minutes=4)
"""Shorter than the time after which the gatekeeper assumes that there is no triggerer."""
ANSWERS_WITHIN_S = 45.0
"""Seconds to wait for storage to answer; with LONGEST_WATCH still less than five minutes."""
_REST_PER_LOOK = 4
"""Rest after a look, in durations of that look: however slow the storage is, looks take a fifth of the time."""

_T = TypeVar("_T")


class Seen(str, Enum):
    """Why a trigger wakes the gatekeeper."""

    VERDICT = "verdict"
    ALL_ENDED = "no shard can run any more"
    TIME_IS_UP = "time is up"
    NOTHING = "the run folder cannot be read"


class GatekeeperTrigger(BaseTrigger):
    """
    Watches a run until there is a verdict or no shard can run any more.

    :param folder: the run folder.
    :param attempt: the gatekeeper's attempt.
    :param set_aside: verdicts that do not bind it.
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
        attempt: str,
        set_aside: list[str],
        dag_id: str,
        run_id: str,
        shards_task_id: str,
        until: float,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.folder = folder
        self.attempt = attempt
        self.set_aside = set_aside
        self.dag_id = dag_id
        self.run_id = run_id
        self.shards_task_id = shards_task_id
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of the class, and the arguments that create this trigger again."""
        names = ("folder", "attempt", "set_aside", "dag_id", "run_id", "shards_task_id", "until")
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch the run, and yield one event."""
        began = time.monotonic()
        try:
            seen, message = await self._watch(), ""
        except (OSError, RunFolderError) as error:
            seen, message = Seen.NOTHING, f"{type(error).__name__}: {error}"
        # A verdict is already written and stops the nodes. The gatekeeper may have to wait until Airflow has noticed
        # that its last execution ended.
        await asyncio.sleep(began + EXECUTION_LINGERS.total_seconds() - time.monotonic())
        yield TriggerEvent({"seen": seen.value, "message": message})  # type: ignore[no-untyped-call]

    async def _watch(self) -> Seen:
        watch = await self._beside(self._open)
        ask_at = 0.0
        is_idle = False
        while time.time() < self.until:
            now = time.monotonic()
            if (await self._beside(watch.look)).verdict is not None:
                return Seen.VERDICT
            rest_s = max(LOOK_EVERY_S, _REST_PER_LOOK * (time.monotonic() - now))
            if is_idle or now >= ask_at:
                states = await self._read_states()
                if not states.can_any_run:
                    return Seen.ALL_ENDED
                is_idle = not states.is_any_running
                ask_at = now + ASK_AIRFLOW_EVERY_S
            await asyncio.sleep(max(rest_s, IDLE_S) if is_idle else rest_s)
        return Seen.TIME_IS_UP

    async def _beside(self, work: Callable[[], _T]) -> _T:
        return await beside(self.folder, work, within_s=ANSWERS_WITHIN_S)

    def _open(self) -> Watch:
        return open_watch(RunFolder(self.folder), attempt=self.attempt, set_aside=self.set_aside)

    async def _read_states(self) -> ShardTaskStates:
        # Airflow's channel to its supervisor belongs to the event loop's thread: sync_to_async respects that,
        # asyncio.to_thread does not.
        return await sync_to_async(read_shard_states)(self.dag_id, self.run_id, self.shards_task_id)
