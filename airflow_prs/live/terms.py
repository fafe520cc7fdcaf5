"""Thresholds of a run, how far they are used up, its abort, and what persons have changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from airflow_prs.live.snapshot import Snapshot
from airflow_prs.records import LIMITS

_EVERYTHING = 100
_UNITS = ("items", "mini-batches", "percent")
"""Of LIMITS."""


def describe_thresholds(snapshot: Snapshot, progress: Mapping[str, int | None]) -> list[dict[str, Any]]:
    """Return each threshold with its limit, what counts against it, and how much is left."""
    limits = snapshot.settings.config.limits
    failed = (progress["failed"] or 0) + ((progress["retrying"] or 0) if limits.count_failed_tries else 0)
    total = progress["total"] or 0
    counts = (progress["items_failed"] or 0, failed, round(100 * failed / total, 4) if total else 0)
    return [
        {
            "name": name,
            "limit": limit,
            "counted": count,
            "left": None if limit is None else max(0, limit - count),
            "unit": unit,
        }
        for name, count, unit in zip(LIMITS, counts, _UNITS, strict=True)
        for limit in [_limit(getattr(limits, name), unit)]
    ]


def _limit(limit: float | None, unit: str) -> float | None:
    """Return a limit; None: it allows any number."""
    is_none = limit is None or limit < 0 or (unit == "percent" and limit >= _EVERYTHING)
    return None if is_none else limit


def describe_abort(snapshot: Snapshot) -> dict[str, Any] | None:
    """Return the abort of the newest attempts; None: there is none."""
    record = snapshot.abort
    if record is None or record.abort is None:
        return None
    abort = record.abort
    return {"kind": abort.kind.value, "reason": abort.verdict.reason, "author": record.author, "at": record.at}


def describe_changes(snapshot: Snapshot) -> list[dict[str, Any]]:
    """Return what persons have changed, oldest first."""
    return [asdict(change) for change in snapshot.changes]
