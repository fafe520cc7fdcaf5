"""What plan leaves for the other tasks: the run folder, named in an XCom."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow_prs.airflow_side.exceptions import AirflowFailException

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    from airflow_prs.run_folder.folder import RunFolder

KEY = "plan"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """
    The XCom of plan.

    :param folder: the run folder of this plan.
    :param mini_batches: how many there are.
    :param items: how many there are.
    :param shards: how many there are.
    :param completed: the last completed run folder that this plan knew, so that one failed run does not break the chain
        of reuse.
    """

    folder: str
    mini_batches: int
    items: int
    shards: int
    completed: str | None = None


def hand_over(ti: RuntimeTaskInstanceProtocol, handover: Handover) -> None:
    """Push the XCom of plan."""
    ti.xcom_push(KEY, asdict(handover))


def planned_folder(ti: RuntimeTaskInstanceProtocol, plan_task_id: str) -> RunFolder:
    """
    Find the run folder that plan named: the only one that the other tasks use.

    :raises AirflowFailException: if plan left none, as when it was marked as success by hand.
    """
    from airflow_prs.run_folder.folder import RunFolder

    handover = _pull(ti, plan_task_id)
    if handover is None:
        raise AirflowFailException(
            f"{plan_task_id} has left no run folder (was it marked as success by hand?); clear {plan_task_id}."
        )
    return RunFolder(handover.folder)


def last_completed(ti: RuntimeTaskInstanceProtocol, plan_task_id: str) -> str | None:
    """Name the last completed run folder that earlier runs' plans know of."""
    from airflow_prs.plan.reuse import is_completed
    from airflow_prs.run_folder.folder import RunFolder

    earlier = _pull(ti, plan_task_id, include_prior_dates=True)
    if earlier is None:
        return None
    return earlier.folder if is_completed(RunFolder(earlier.folder)) else earlier.completed


def _pull(ti: RuntimeTaskInstanceProtocol, plan_task_id: str, *, include_prior_dates: bool = False) -> Handover | None:
    # Without map_indexes=None, Airflow would look for an XCom of this task instance's own map index.
    plain: dict[str, Any] | None = ti.xcom_pull(
        plan_task_id, key=KEY, map_indexes=None, include_prior_dates=include_prior_dates
    )
    return None if plain is None else Handover(**plain)
