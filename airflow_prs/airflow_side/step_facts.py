"""What Airflow knows of a step in a run, as plain records; see metadata."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_prs.airflow_side.handover import Handover
from airflow_prs.step_tasks import MERGE, task_of

_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFacts:
    """
    A task instance.

    :param started: when its newest try began, in seconds since the epoch; None: it has not.
    :param ended: likewise, when it ended.
    """

    state: str | None
    try_number: int = 0
    started: float | None = None
    ended: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it goes on only if somebody clears it."""
        return self.state in _ENDED


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFacts:
    """
    What Airflow knows of a step in a run.

    :param step: id of the step, which is a task group.
    :param run_names: names that the run may have in its run folder; see supervision.run_name.
    :param clear_number: how often the run was cleared; None: this version of Airflow does not count it.
    :param tasks: task id to map index (-1: not mapped) to the task instance.
    :param handover: what plan has left; None: nothing.
    :param problem: why what plan has left cannot be read; '': it can.
    :param summary: what merge has left; None: nothing.
    :param error: what a shard has left; None: nothing.
    """

    dag_id: str
    run_id: str
    step: str
    run_names: frozenset[str]
    clear_number: int | None = None
    tasks: Mapping[str, Mapping[int, TaskFacts]] = field(default_factory=dict)
    handover: Handover | None = None
    problem: str = ""
    summary: Mapping[str, Any] | None = None
    error: str | None = None

    def of(self, task: str) -> Mapping[int, TaskFacts]:
        """Return the task instances of one of the four tasks, by map index."""
        return self.tasks.get(task_of(self.step, task), {})

    @property
    def is_live(self) -> bool:
        """Whether a task of the step is running or is going to run."""
        return any(not task.has_ended for instances in self.tasks.values() for task in instances.values())

    @property
    def is_published(self) -> bool:
        """Whether merge has succeeded, so that its summary is that of the result."""
        return self.summary is not None and all(task.state == "success" for task in self.of(MERGE).values())

    @property
    def states(self) -> dict[str, dict[int, str | None]]:
        """The state of each task instance."""
        return {
            task_id: {index: task.state for index, task in instances.items()}
            for task_id, instances in self.tasks.items()
        }
