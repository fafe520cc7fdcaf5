"""Which task instances Airflow has to clear so that a run goes on, and the request that clears them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any
from urllib.parse import quote

from airflow_prs.errors import SteeringError
from airflow_prs.records import Limits
from airflow_prs.run_folder.shard_log import ShardState
from airflow_prs.steering.steerable import SteerableRun
from airflow_prs.step_tasks import GATEKEEPER, MERGE, MINI_BATCHES, task_of
from airflow_prs.thresholds.judging import RunCounts, exceeded
from airflow_prs.wording import counted

Task = tuple[str, int | None]
"""The id of a task, and the map index; None: the task is not mapped."""
States = Mapping[str, Mapping[int, str | None]]
"""Task id to map index (-1: not mapped) to the state in Airflow, None if there is none yet."""

_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed"})
_BROKEN = frozenset({"failed", "upstream_failed"})
_REMOVED = "removed"
_NUMBERS_SHOWN = 20


class ClearAction(str, Enum):
    """What a clear is for."""

    RETRY = "retry"
    """Give failed mini-batches fresh tries, those of shards that are done too."""
    RESUME = "resume"
    """Go on with work that is left; failures of shards that are done stay."""
    PUBLISH = "publish"
    """Judge and publish what is there, under the current limits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClearRequest:
    """
    A request to Airflow's REST API that clears task instances.

    All in one: each request counts as a clear, and a shard that is cleared later would be of another epoch.

    :param path: path below the base URL.
    :param body: the body, to be sent as JSON with POST.
    """

    path: str
    body: dict[str, Any]


def tasks_to_clear(run: SteerableRun, step: str, action: ClearAction, states: States) -> list[Task]:
    """
    Return the task instances to clear. What runs, or is going to run by itself, is not cleared.

    :param step: the id of the step's task group.
    :param states: what Airflow says of the step's tasks.
    :raises SteeringError: if there is nothing to clear, or it would not help; says why and what would.
    """
    if run.history.rows_deleted(run.folder.path.name) is not None:
        raise SteeringError(
            "the rows were deleted after the result was published (keep_rows=False), so nothing can go on here. Clear "
            "plan with its downstream tasks to start over."
        )
    numbers = choose_shards(
        run.committed.states,
        run.limits,
        action,
        states.get(task_of(step, MINI_BATCHES), {}),
        is_concluded=_are_successful(states, step) and run.is_published,
    )
    shards: list[Task] = [(task_of(step, MINI_BATCHES), number) for number in numbers]
    return [*shards, *((task_of(step, task), None) for task in (GATEKEEPER, MERGE))]


def choose_shards(
    shards: Sequence[ShardState],
    limits: Limits,
    action: ClearAction,
    tasks: Mapping[int, str | None],
    *,
    is_concluded: bool,
) -> list[int]:
    """
    Return the numbers of the shards to clear; gatekeeper and merge are always cleared with them.

    :param shards: the shards of the manifest.
    :param limits: the limits in force.
    :param tasks: map index of a shard to the state of its task in Airflow.
    :param is_concluded: whether gatekeeper and merge were successful, and nothing has changed since.
    :raises SteeringError: see tasks_to_clear.
    """
    run = _Run(shards, limits, _mapped(tasks), is_concluded=is_concluded)
    choose = {ClearAction.RETRY: run.retry, ClearAction.RESUME: run.resume, ClearAction.PUBLISH: run.publish}
    return choose[action]()


def clear_request(dag_id: str, run_id: str, tasks: Iterable[Task], *, is_dry: bool) -> ClearRequest:
    """
    Return the request that clears task instances, and what is downstream of them.

    :param is_dry: whether Airflow is only to say what it would clear.
    """
    ids = [task_id if index is None else [task_id, index] for task_id, index in tasks]
    body = {
        "dry_run": is_dry,
        "dag_run_id": run_id,
        "task_ids": ids,
        "only_failed": False,
        # What follows the step has not run, or has used an older result.
        "include_downstream": True,
    }
    return ClearRequest(path=f"{dag_path(dag_id)}/clearTaskInstances", body=body)


def dag_path(dag_id: str) -> str:
    """Return the path of a DAG in Airflow's REST API, below the base URL."""
    return f"api/v2/dags/{quote(dag_id, safe='')}"


def what_it_does(action: ClearAction, tasks: Collection[Task]) -> str:
    """Return what a clear does, in a sentence."""
    shards = counted(sum(index is not None for _, index in tasks), "shard")
    what = f"Clears {shards}, gatekeeper, merge and what follows them"
    return {
        ClearAction.RETRY: f"{what}: failed mini-batches get fresh tries, what has succeeded does not run again.",
        ClearAction.RESUME: f"{what}: the run goes on where it stopped, what has succeeded does not run again.",
        ClearAction.PUBLISH: "Clears gatekeeper, merge and what follows them: the run is judged by the current limits, "
        "and published. No mini-batch runs again.",
    }[action]


class _Run:
    """
    What decides which shards are cleared.

    :param tasks: see choose_shards.
    """

    def __init__(
        self, shards: Sequence[ShardState], limits: Limits, tasks: Mapping[int, str | None], *, is_concluded: bool
    ) -> None:
        self._shards = shards
        self._limits = limits
        self._is_concluded = is_concluded
        self._ended = {number for number, task in tasks.items() if task in _ENDED}
        self._waiting = sorted(set(tasks) - self._ended)
        done = {state.shard.number for state in shards if state.progress.done == state.shard.count}
        planned = {state.shard.number for state in shards}
        # A shard without mini-batches of its own has no work left, but merge does not run while its task has failed.
        self._unfinished = {
            number for number in self._ended if tasks[number] in _BROKEN or (number in planned and number not in done)
        }

    def retry(self) -> list[int]:
        """Return the shards with failed mini-batches, and those that have not done their work."""
        failed = {state.shard.number for state in self._shards if state.progress.failed}
        if not failed:
            rest = " To go on with the work that is left, resume the run." if self._unfinished else ""
            raise SteeringError(f"no mini-batch has failed, so there is nothing to retry.{rest}")
        if not failed & self._ended:
            raise SteeringError(
                f"the shards with failed mini-batches have not ended yet: {_numbers(failed)}. Try again when they have."
            )
        return sorted((failed & self._ended) | self._unfinished)

    def resume(self) -> list[int]:
        """Return the shards that have not done their work and have ended, none if only the result is missing."""
        if not self._unfinished:
            self._require_end("there is nothing to resume")
        counts = _count(self._shards)
        progress = counts.without(
            state.shard.number for state in self._shards if state.shard.number in self._unfinished
        )
        if (verdict := exceeded(progress, self._limits)) is not None:
            raise SteeringError(
                f"the run would be aborted again by shards that are done: {verdict.reason}. Raise this limit first, or "
                "retry the failed mini-batches."
            )
        return sorted(self._unfinished)

    def publish(self) -> list[int]:
        """Return no shards, if gatekeeper and merge alone can publish."""
        self._require_end("it cannot be published yet")
        if self._unfinished:
            raise SteeringError(
                f"work is missing or a task has failed, in shards {_numbers(self._unfinished)}: resume the run instead."
            )
        if (verdict := exceeded(_count(self._shards).total, self._limits)) is not None:
            raise SteeringError(f"a limit does not allow it: {verdict.reason}. Raise this limit first.")
        return []

    def _require_end(self, consequence: str) -> None:
        if self._waiting:
            raise SteeringError(
                f"the run goes on, so {consequence}: shards {_numbers(self._waiting)} are running or wait to run."
            )
        if self._is_concluded:
            raise SteeringError("the run is complete: its result is published.")


def _mapped(tasks: Mapping[int, str | None]) -> Mapping[int, str | None]:
    """
    Return the tasks of shards.

    :raises SteeringError: if there are none.
    """
    mapped = {number: task for number, task in tasks.items() if number >= 0 and task != _REMOVED}
    if not mapped:
        raise SteeringError(
            "Airflow has no task instances of shards in this run: plan has not ended, or has failed. Wait for plan, or "
            "clear it with its downstream tasks."
        )
    return mapped


def _are_successful(states: States, step: str) -> bool:
    return all(states.get(task_of(step, task), {}).get(-1) == "success" for task in (GATEKEEPER, MERGE))


def _count(states: Sequence[ShardState]) -> RunCounts:
    counts = RunCounts(state.shard for state in states)
    for state in states:
        counts.take(state)
    return counts


def _numbers(numbers: Collection[int]) -> str:
    shown = list(map(str, sorted(numbers)[:_NUMBERS_SHOWN]))
    more = f" and {len(numbers) - _NUMBERS_SHOWN:,} more" if len(numbers) > _NUMBERS_SHOWN else ""
    return ", ".join(shown) + more
