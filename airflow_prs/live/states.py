"""Which state a run is in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_prs.airflow_side.step_facts import StepFacts
from airflow_prs.run_folder.stored_runs import RunState
from airflow_prs.run_folder.task_log import Execution
from airflow_prs.step_tasks import MINI_BATCHES, PLAN

if TYPE_CHECKING:
    from airflow_prs.live.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """
    The state of a run and its times, in seconds since the epoch.

    :param began: when plan first ended; None: it has not.
    :param ended: when the run ended; None: it goes on, or has stopped without an end.
    :param at: when what is shown was written.
    :param report: the report of how it ended; None: it has not.
    """

    state: str
    began: float | None = None
    ended: float | None = None
    at: float | None = None
    report: dict[str, Any] | None = None


def find_phase(facts: StepFacts, snapshot: Snapshot | None) -> Phase:
    """
    Return the state of a run.

    :param snapshot: what its folder shows; None: it cannot be read here, or there is none.
    """
    if facts.handover is None or snapshot is None:
        return Phase(state=_state_without_folder(facts), began=_first_start(facts))
    report, status = _newest_report(facts, snapshot.report), snapshot.status
    written = [found["at"] for found in (report, status) if found is not None]
    executions = [record for record in snapshot.history if isinstance(record, Execution)]
    began = next((each.at for each in executions if each.folder == snapshot.folder.path.name), None)
    return Phase(
        state=str(report["status"]) if report is not None else _state_without_report(facts, snapshot),
        began=began,
        ended=report["at"] if report is not None else None,
        at=max(written, default=began),
        report=report,
    )


def _newest_report(facts: StepFacts, report: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return the report unless a shard has begun, or is going to begin, since it was written."""
    shards = facts.of(MINI_BATCHES).values()
    if report is None or any(not shard.has_ended and shard.state is not None for shard in shards):
        return None
    began = max((shard.started or 0.0 for shard in shards), default=0.0)
    return report if report["at"] >= began else None


def _state_without_report(facts: StepFacts, snapshot: Snapshot) -> str:
    if facts.is_live:
        state = RunState.PLANNED if snapshot.status is None else RunState.RUNNING
    elif snapshot.abort is not None:
        state = RunState.ABORTED
    else:
        state = RunState.STOPPED
    return str(state.value)


def _state_without_folder(facts: StepFacts) -> str:
    if facts.summary is not None and not facts.is_live and "status" in facts.summary:
        return str(facts.summary["status"])
    if facts.handover is not None:
        return str((RunState.RUNNING if facts.is_live else RunState.UNREADABLE).value)
    has_failed = any(plan.state == "failed" for plan in facts.of(PLAN).values())
    return str((RunState.FAILED if has_failed else RunState.NOT_PLANNED).value)


def _first_start(facts: StepFacts) -> float | None:
    return min((plan.started for plan in facts.of(PLAN).values() if plan.started), default=None)
