"""What the tasks of a step leave for each other in XComs: the run folder, errors and positions of shards."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset

from airflow_prs.airflow_side.exceptions import AirflowFailException
from airflow_prs.airflow_side.supervision import is_supervised
from airflow_prs.report.summary import put_summary

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

    from airflow_prs.records import Shard
    from airflow_prs.report.summary import RunSummary
    from airflow_prs.run_folder.folder import RunFolder

PLAN_KEY = "plan"
ERROR_KEY = "error"
SUMMARY_KEY = "summary"
POSITION_KEY = "position"
_LONGEST_ERROR = 2000
_log = logging.getLogger(__name__)


class HandoverError(Exception):
    """The XCom of a plan is not one that this version of airflow_prs writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """
    The XCom of plan.

    :param folder: the run folder.
    :param execution: number of this execution of plan in the task log.
    :param mini_batches: number of mini-batches.
    :param items: number of items.
    :param shards: number of shards.
    :param completed: the last completed run folder that this plan knew, so that a failed run does not end the chain of
        reuse.
    """

    folder: str
    execution: int
    mini_batches: int
    items: int
    shards: int
    completed: str | None = None


def hand_over(ti: RuntimeTaskInstanceProtocol, handover: Handover) -> None:
    """Push the XCom of plan."""
    ti.xcom_push(PLAN_KEY, asdict(handover))


def planned(ti: RuntimeTaskInstanceProtocol, plan_task_id: str) -> Handover:
    """
    Return the XCom of plan.

    :raises AirflowFailException: if plan left none, for example when it was marked as success by hand, or one of
        another version.
    """
    try:
        handover = _pull(ti, plan_task_id)
    except HandoverError as error:
        raise AirflowFailException(f"{error}; clear {plan_task_id}.") from None
    if handover is None:
        raise without_plan(plan_task_id)
    return handover


def planned_folder(ti: RuntimeTaskInstanceProtocol, plan_task_id: str) -> RunFolder:
    """
    Return the run folder that plan named. The other tasks use no other folder.

    :raises AirflowFailException: if plan left none; see planned.
    """
    from airflow_prs.run_folder.folder import RunFolder

    handover = planned(ti, plan_task_id)
    return RunFolder(handover.folder, handover.execution)


def without_plan(plan_task_id: str) -> AirflowFailException:
    """Return the error of a task that finds nothing of plan in its run."""
    problem = f"{plan_task_id} has left no run folder in this run"
    if is_supervised():
        return AirflowFailException(f"{problem} (was it marked as success by hand?); clear {plan_task_id}.")
    return AirflowFailException(
        f"{problem}. `airflow tasks test` runs a task alone: pass it the run_id of a run in which {plan_task_id} has "
        "succeeded, for example one of `airflow dags test`, which runs the entire DAG."
    )


def last_completed(ti: RuntimeTaskInstanceProtocol, plan_task_id: str) -> str | None:
    """
    Return the last completed run folder that the plans of earlier runs know of.

    :return: None if there is none, or if the XCom of the last plan cannot be read; the log says so.
    """
    from airflow_prs.plan.reuse import is_completed
    from airflow_prs.run_folder.folder import RunFolder

    try:
        earlier = _pull(ti, plan_task_id, include_prior_dates=True)
    except Exception as error:  # noqa: BLE001 - whatever an XCom backend raises, the run goes on without reuse
        _log.warning("No reuse: what the last run of %s has left cannot be read: %r", plan_task_id, error)
        return None
    if earlier is None:
        return None
    return earlier.folder if is_completed(RunFolder(earlier.folder)) else earlier.completed


def leave_error(ti: RuntimeTaskInstanceProtocol, error: str) -> None:
    """Push the error of a shard, for the gatekeeper to report."""
    ti.xcom_push(ERROR_KEY, error[:_LONGEST_ERROR])


def leave_position(ti: RuntimeTaskInstanceProtocol, folder: RunFolder, shard: Shard) -> None:
    """Push up to where the log of a shard is written: later tasks wait until they see as much."""
    number = folder.read_shard(shard).number
    ti.xcom_push(POSITION_KEY, {"folder": folder.path.name, "shard": shard.number, "record": number})


def leave_summary(context: Context, summary: RunSummary) -> None:
    """Leave the summary of a run that has ended: as an XCom for later tasks, in the context for callbacks."""
    put_summary(context, summary)
    context["ti"].xcom_push(SUMMARY_KEY, dict(summary))


def add_to_asset_events(context: Context, outlets: Iterable[Any], summary: RunSummary) -> None:
    """Let the events of the assets that a task updates say what the result is."""
    for outlet in outlets:
        if isinstance(outlet, Asset):
            context["outlet_events"][outlet].extra |= {
                "location": summary["location"],
                "rows": summary["rows"],
                "items": summary["items"]["total"],
                "failed_items": summary["items"]["failed"],
            }


def left_errors(ti: RuntimeTaskInstanceProtocol, shards_task_id: str, shards: Sequence[int]) -> list[str]:
    """Return the errors that shards have left, each once, with the numbers of its shards."""
    if not shards:
        return []
    texts = ti.xcom_pull(shards_task_id, key=ERROR_KEY, map_indexes=list(shards))
    found: dict[str, list[str]] = {}
    for number, text in zip(shards, texts, strict=False):
        if text:
            found.setdefault(text, []).append(str(number))
    return [
        f"{'shard' if len(numbers) == 1 else 'shards'} {', '.join(numbers)}: {text}" for text, numbers in found.items()
    ]


def left_positions(ti: RuntimeTaskInstanceProtocol, shards_task_id: str, folder: RunFolder) -> dict[int, int]:
    """
    Return the positions that shards have left; at least as many records are in their logs.

    What they left of other folders does not count: Airflow keeps it where plan has started over, and a shard did not
    run again.

    :return: number of a shard to the number of a record; shards that have left none are missing.
    """
    # One request for all; Airflow returns a single one without a list.
    found = ti.xcom_pull(shards_task_id, key=POSITION_KEY)
    left = [each for each in (found if isinstance(found, list) else [found]) if isinstance(each, dict)]
    return {each["shard"]: each["record"] for each in left if each.get("folder") == folder.path.name}


def _pull(ti: RuntimeTaskInstanceProtocol, plan_task_id: str, *, include_prior_dates: bool = False) -> Handover | None:
    # Without map_indexes=None, Airflow would look for an XCom of this task instance's own map index.
    plain: Any = ti.xcom_pull(plan_task_id, key=PLAN_KEY, map_indexes=None, include_prior_dates=include_prior_dates)
    return read_handover(plain, plan_task_id)


def read_handover(plain: Any, plan_task_id: str) -> Handover | None:
    """
    Return the XCom of plan from its value; None: plan has left none.

    :raises HandoverError: if it is not one of this version.
    """
    if plain is None:
        return None
    try:
        return Handover(**plain)
    except TypeError:
        # Also the reference that an XCom backend has left, if another one is configured now.
        problem = f"the XCom {PLAN_KEY!r} of {plan_task_id} is not one of this version of airflow_prs: {plain!r:.200}"
        raise HandoverError(problem) from None
