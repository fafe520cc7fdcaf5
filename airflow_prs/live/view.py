"""What the page shows of a run: plain values, made of what Airflow knows and what the run folder shows."""

from __future__ import annotations

from shlex import quote
from typing import Any

from airflow_prs.airflow_side.step_facts import StepFacts
from airflow_prs.live.addresses import run_page
from airflow_prs.live.nodes import describe_nodes, describe_skew
from airflow_prs.live.pace import describe_bins, describe_pace, describe_progress
from airflow_prs.live.results import describe_configuration, describe_result
from airflow_prs.live.snapshot import Snapshot
from airflow_prs.live.states import Phase, find_phase
from airflow_prs.live.terms import describe_abort, describe_changes, describe_thresholds
from airflow_prs.wording import counted


def describe_row(facts: StepFacts, snapshot: Snapshot | None) -> dict[str, Any]:
    """
    Return a line of the list of runs.

    :param snapshot: what the run folder shows; None: it cannot be read here, or there is none yet.
    """
    phase = find_phase(facts, snapshot)
    progress = describe_progress(facts, snapshot)
    return {
        "dag_id": facts.dag_id,
        "run_id": facts.run_id,
        "step": facts.step,
        "state": phase.state,
        **{name: progress[name] for name in ("total", "done", "failed", "items_failed")},
        "began": phase.began,
        "page": f"{run_page(facts.dag_id, facts.run_id)}/plugin/parallel-run",
    }


def describe_run(facts: StepFacts, snapshot: Snapshot, *, may_read_logs: bool) -> dict[str, Any]:
    """
    Return what the page shows of a run whose folder can be read, apart from what the user may do.

    :param may_read_logs: whether to show rows of the result and arguments, which may hold what logs hold.
    """
    phase, progress = find_phase(facts, snapshot), describe_progress(facts, snapshot)
    return {
        **_head(facts, phase),
        "command": f"airflow-prs show {quote(str(snapshot.folder.path))}",
        "progress": progress,
        **describe_pace(phase, snapshot.status, progress),
        "bins": describe_bins(snapshot.status, progress["total"] or 0),
        "history": (snapshot.status or {}).get("history", []),
        "nodes": describe_nodes(facts, snapshot.status),
        "thresholds": describe_thresholds(snapshot, progress),
        "abort": describe_abort(snapshot),
        "changes": describe_changes(snapshot),
        "skew": describe_skew(snapshot.status),
        "slowest": (snapshot.status or {}).get("slowest", []),
        "last_failures": (snapshot.status or {}).get("last_failures", []),
        "configuration": describe_configuration(snapshot.settings, has_arguments=may_read_logs),
        "result": describe_result(snapshot, phase, has_rows=may_read_logs),
    }


def describe_unreadable(facts: StepFacts, problem: str) -> dict[str, Any]:
    """
    Return what the page shows of a run whose folder cannot be read here, or that has none.

    :param problem: why; '': it was not planned yet.
    """
    phase = find_phase(facts, None)
    path = facts.handover.folder if facts.handover is not None else "OUTPUT"
    return {
        **_head(facts, phase),
        "problem": problem or None,
        "command": f"airflow-prs show {quote(path)}",
        "progress": describe_progress(facts, None),
        **dict.fromkeys(("rate", "eta_s", "ended", "seconds", "abort", "result")),
        "began": phase.began,
        "bins": describe_bins(None, 0),
        **{
            name: []
            for name in ("history", "thresholds", "changes", "skew", "slowest", "last_failures", "configuration")
        },
        "nodes": describe_nodes(facts, None),
    }


def _head(facts: StepFacts, phase: Phase) -> dict[str, Any]:
    waiting = [task for task in ("plan", "mini_batches", "gatekeeper", "merge") if _runs(facts, task)]
    return {
        "dag_id": facts.dag_id,
        "run_id": facts.run_id,
        "step": facts.step,
        "state": phase.state,
        "at": phase.at,
        "is_live": facts.is_live,
        "running_tasks": waiting,
        "problem": None,
        "xcom": _xcom(facts),
    }


def _runs(facts: StepFacts, task: str) -> bool:
    return any(instance.state == "running" for instance in facts.of(task).values())


def _xcom(facts: StepFacts) -> dict[str, Any] | None:
    if facts.summary is None and facts.error is None:
        return None
    return {"summary": dict(facts.summary or {}), "error": facts.error}


def explain_unreadable(facts: StepFacts, error: str) -> str:
    """
    Return what to do so that the API server can read a run folder.

    :param error: why it cannot.
    """
    if facts.handover is None:
        return error
    folder = facts.handover.folder
    what_next = (
        "Install the extra for this storage (airflow-prs[s3] or airflow-prs[azure]) where the API server runs, and "
        "check that it reaches the storage and the connection"
        if "://" in folder
        else "Mount the storage of the run where the API server runs, at the same path as on the nodes"
    )
    shown = counted(facts.handover.mini_batches, "mini-batch", "mini-batches")
    return f"The API server cannot read the run folder {folder} ({shown}): {error} {what_next}."
