"""The four tasks of a step, by their ids within its task group."""

from __future__ import annotations

TASKS = ("plan", "mini_batches", "gatekeeper", "merge")
PLAN, MINI_BATCHES, GATEKEEPER, MERGE = TASKS


def task_of(step: str, task: str) -> str:
    """Return the id of one of the four tasks of a step."""
    return f"{step}.{task}"


def step_of(task_id: str) -> str:
    """Return the id of the step of a task; '': the task is in no group."""
    return task_id.rpartition(".")[0]
