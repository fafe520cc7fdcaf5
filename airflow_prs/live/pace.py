"""How far a run is and how fast: counts, rate, and the map of mini-batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from airflow_prs.airflow_side.step_facts import StepFacts

if TYPE_CHECKING:
    from airflow_prs.live.snapshot import Snapshot
    from airflow_prs.live.states import Phase

_NAMES = (
    "total",
    "done",
    "succeeded",
    "failed",
    "running",
    "waiting",
    "retrying",
    "items_total",
    "items_succeeded",
    "items_failed",
)


def describe_progress(facts: StepFacts, snapshot: Snapshot | None) -> dict[str, int | None]:
    """Return the counts of a run; those that are not known are None."""
    if snapshot is not None and snapshot.status is not None:
        return _progress_of(snapshot.status)
    counts: dict[str, int | None] = dict.fromkeys(_NAMES)
    if facts.handover is not None:
        counts |= {"total": facts.handover.mini_batches, "items_total": facts.handover.items}
    report = (snapshot.report if snapshot is not None else facts.summary) or {}
    if (mini_batches := report.get("mini_batches")) and (items := report.get("items")):
        succeeded, failed = mini_batches["succeeded"], mini_batches["failed"]
        return counts | {
            "total": mini_batches["total"],
            "done": succeeded + failed,
            "succeeded": succeeded,
            "failed": failed,
            "running": 0,
            "waiting": mini_batches["total"] - succeeded - failed,
            "retrying": 0,
            "items_total": items["total"],
            "items_succeeded": items["succeeded"],
            "items_failed": items["failed"],
        }
    if snapshot is not None:
        # Planned, and nothing has begun.
        return dict.fromkeys(_NAMES, 0) | {
            "total": counts["total"],
            "waiting": counts["total"],
            "items_total": counts["items_total"],
        }
    return counts


def _progress_of(status: Mapping[str, Any]) -> dict[str, int | None]:
    progress = status["progress"]
    done = progress["succeeded"] + progress["failed"]
    running = min(len(list(working_on(status))), progress["total"] - done)
    return {
        "total": progress["total"],
        "done": done,
        "succeeded": progress["succeeded"],
        "failed": progress["failed"],
        "running": running,
        "waiting": progress["total"] - done - running,
        "retrying": progress["failing"],
        **{name: progress[name] for name in ("items_total", "items_succeeded", "items_failed")},
    }


def working_on(status: Mapping[str, Any]) -> Iterator[int]:
    """Yield the mini-batches that processes work on."""
    for node in status["nodes"]:
        if node["state"] == "running":
            for process in node["processes"].values():
                if process.get("mini_batch") is not None:
                    yield process["mini_batch"]


def describe_pace(phase: Phase, status: Mapping[str, Any] | None, progress: Mapping[str, int | None]) -> dict[str, Any]:
    """Return the rate, the time that is left, and since when and until when the run lasts."""
    until = phase.ended or phase.at
    seconds = until - phase.began if until is not None and phase.began is not None else None
    done, total = progress["done"] or 0, progress["total"] or 0
    if phase.state == "running" and status is not None:
        rate = status["mini_batches_per_s"] or None
        left_s = (total - done) / rate if rate else None
    else:
        rate, left_s = (done / seconds if seconds and done else None), None
    return {"rate": rate, "eta_s": left_s, "began": phase.began, "ended": phase.ended, "seconds": seconds}


def describe_bins(status: Mapping[str, Any] | None, total: int) -> dict[str, Any]:
    """Return the map of mini-batches: how many of each bin are done, have failed, and are being worked on."""
    if status is None or not total:
        return {"count": 0, "size": 0, "done": [], "failed": [], "running": []}
    bins = status["bins"]
    count = bins["count"]
    running = [0] * count
    for index in working_on(status):
        running[index * count // total] += 1
    return {
        "count": count,
        "size": total / count,
        "done": bins["done"],
        "failed": bins["failed"],
        "running": running,
    }
