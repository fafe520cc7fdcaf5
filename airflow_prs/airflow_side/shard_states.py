"""What Airflow says of a run's shards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

_RUNNING = "running"
_REMOVED = "removed"
_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed"})
_BROKEN = frozenset({"failed", "upstream_failed"})


@dataclass(frozen=True, slots=True)
class ShardStates:
    """
    The states of a run's shards; a shard that was removed from the plan does not count.

    :param states: task instance key (``<task_id>_<map index>``; ``<task_id>`` until it is mapped) to state, None where
        it has none yet.
    """

    states: Mapping[str, str | None]

    @property
    def is_any_running(self) -> bool:
        """Whether a shard runs now."""
        return _RUNNING in self.states.values()

    @property
    def can_any_run(self) -> bool:
        """Whether a shard runs, or may yet: waiting for a retry is not an end."""
        return not self.states or any(state not in _ENDED for state in self.states.values() if state != _REMOVED)

    @property
    def failed(self) -> list[int]:
        """Numbers of the shards that failed for good."""
        numbers = [key.rpartition("_")[2] for key, state in self.states.items() if state in _BROKEN]
        return sorted(int(number) for number in numbers if number.isdigit())


def read_shard_states(dag_id: str, run_id: str, task_id: str) -> ShardStates:
    """
    Ask Airflow for the states of a run's shards.

    :param task_id: of the mapped task.
    """
    found = RuntimeTaskInstance.get_task_states(dag_id=dag_id, task_ids=[task_id], run_ids=[run_id])
    states = {key: None if state is None else str(state) for key, state in found.get(run_id, {}).items()}
    return ShardStates(states)
