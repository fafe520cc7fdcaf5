"""The states of a run's shards, as Airflow knows them."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass

# Airflow 3.1.0 to 3.3.2: a trigger has no task instance of its own to ask. Airflow's WorkflowTrigger uses this, too.
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

_RUNNING = "running"
_SUCCESS = "success"
_REMOVED = "removed"
_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed"})
_BROKEN = frozenset({"failed", "upstream_failed"})


@dataclass(frozen=True, slots=True)
class ShardTaskStates:
    """
    The states of a run's shards; a shard that was removed from the plan does not count.

    :param states: the state of each task instance, None if it has none yet. Keys are ``<task_id>_<map index>``, or
        ``<task_id>`` until the task is mapped.
    """

    states: Mapping[str, str | None]

    @property
    def is_any_running(self) -> bool:
        """Whether a shard is running."""
        return _RUNNING in self.states.values()

    @property
    def is_any_waiting(self) -> bool:
        """Whether a shard waits to run, perhaps again."""
        return not self.states or any(state not in {_RUNNING, _REMOVED, *_ENDED} for state in self.states.values())

    @property
    def can_any_run(self) -> bool:
        """Whether a shard is running or may still run, for example after a retry."""
        return not self.states or any(state not in _ENDED for state in self.states.values() if state != _REMOVED)

    @property
    def running(self) -> frozenset[int]:
        """The numbers of the shards that are running."""
        return self._numbers({_RUNNING})

    @property
    def ended(self) -> frozenset[int]:
        """The numbers of the shards that have ended and are not retried."""
        return self._numbers(_ENDED)

    @property
    def succeeded(self) -> frozenset[int]:
        """The numbers of the shards that have ended in success."""
        return self._numbers({_SUCCESS})

    @property
    def failed(self) -> list[int]:
        """The numbers of the shards that failed and are not retried."""
        return sorted(self._numbers(_BROKEN))

    def _numbers(self, states: Container[str | None]) -> frozenset[int]:
        numbers = (key.rpartition("_")[2] for key, state in self.states.items() if state in states)
        return frozenset(int(number) for number in numbers if number.isdigit())


def read_shard_states(dag_id: str, run_id: str, task_id: str) -> ShardTaskStates:
    """
    Return the states of a run's shards.

    :param task_id: the id of the mapped task.
    """
    found = RuntimeTaskInstance.get_task_states(dag_id=dag_id, task_ids=[task_id], run_ids=[run_id])
    states = {key: None if state is None else str(state) for key, state in found.get(run_id, {}).items()}
    return ShardTaskStates(states)
