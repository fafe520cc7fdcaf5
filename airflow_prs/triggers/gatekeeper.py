"""GatekeeperTrigger: the gatekeeper's eyes while shards run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from enum import Enum
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_prs.airflow_side.shard_states import read_shard_states
from airflow_prs.airflow_side.supervision import EXECUTION_LINGERS
from airflow_prs.errors import RunFolderError
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.triggers.watch import Watch, open_watch

LOOK_EVERY_S = 0.5
ASK_AIRFLOW_EVERY_S = 3.0
LONGEST_WATCH_S = 60.0
_REST_PER_LOOK = 4
"""However slow the storage is, looking takes at most a fifth of the time."""


class Seen(str, Enum):
    """Why a trigger wakes the gatekeeper."""

    VERDICT = "verdict"
    NO_SHARD_RUNNING = "no shard running"
    TIME_IS_UP = "time is up"
    NOTHING = "the run folder cannot be read"


class GatekeeperTrigger(BaseTrigger):
    """
    Watches a run until there is a verdict or no shard runs, at most a minute.

    :param folder: the run folder.
    :param attempt: the gatekeeper's attempt.
    :param set_aside: verdicts that do not bind it.
    :param dag_id: of the run.
    :param run_id: of the run.
    :param shards_task_id: the mapped task.
    :param longest_s: seconds after which it wakes the gatekeeper in any case.
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
        longest_s: float = LONGEST_WATCH_S,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.folder = folder
        self.attempt = attempt
        self.set_aside = set_aside
        self.dag_id = dag_id
        self.run_id = run_id
        self.shards_task_id = shards_task_id
        self.longest_s = longest_s

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Name the class and the arguments that make this trigger again."""
        names = ("folder", "attempt", "set_aside", "dag_id", "run_id", "shards_task_id", "longest_s")
        path = f"{type(self).__module__}.{type(self).__qualname__}"
        return path, {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Watch, and say once what was seen."""
        began = time.monotonic()
        try:
            seen, message = await self._watch(), ""
        except (OSError, RunFolderError) as error:
            seen, message = Seen.NOTHING, f"{type(error).__name__}: {error}"
        # A verdict is written by now, and the nodes stop: only the news of it waits.
        await asyncio.sleep(began + EXECUTION_LINGERS.total_seconds() - time.monotonic())
        yield TriggerEvent({"seen": seen.value, "message": message})  # type: ignore[no-untyped-call]

    async def _watch(self) -> Seen:
        watch = await asyncio.to_thread(self._open)
        end = time.monotonic() + self.longest_s
        ask_at = 0.0
        while (now := time.monotonic()) < end:
            if (await asyncio.to_thread(watch.look, is_final=False)).verdict is not None:
                return Seen.VERDICT
            rest_s = max(LOOK_EVERY_S, _REST_PER_LOOK * (time.monotonic() - now))
            if now >= ask_at:
                if not await self._is_any_running():
                    return Seen.NO_SHARD_RUNNING
                ask_at = now + ASK_AIRFLOW_EVERY_S
            await asyncio.sleep(rest_s)
        return Seen.TIME_IS_UP

    def _open(self) -> Watch:
        return open_watch(RunFolder(self.folder), attempt=self.attempt, set_aside=frozenset(self.set_aside))

    async def _is_any_running(self) -> bool:
        # Airflow's channel to its supervisor belongs to the event loop's thread: sync_to_async keeps to its rules,
        # asyncio.to_thread does not.
        states = await sync_to_async(read_shard_states)(self.dag_id, self.run_id, self.shards_task_id)
        return states.is_any_running
