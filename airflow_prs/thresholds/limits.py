"""The rules of the three thresholds: pure functions from counts to a verdict."""

from __future__ import annotations

from fractions import Fraction

from airflow_prs.records import Limits, Progress, Ruling, Verdict


def judge(progress: Progress, limits: Limits) -> Verdict:
    """
    Return the verdict on a run, from its counts alone.

    A threshold is exceeded by a count above its limit. These counts never shrink (unless failed tries count), so every
    later look at an aborted run comes to the same verdict.
    """
    return (
        _judge_items(progress, limits)
        or _judge_count(progress, limits)
        or _judge_percent(progress, limits)
        or _judge_end(progress)
    )


def failed_mini_batches(progress: Progress, limits: Limits) -> int:
    """Count the mini-batches that thresholds count as failed."""
    return progress.failed + (progress.failing if limits.count_failed_tries else 0)


def _judge_items(progress: Progress, limits: Limits) -> Verdict | None:
    limit = limits.error_threshold
    if limit < 0 or progress.items_failed <= limit:
        return None
    reason = f"{progress.items_failed} of {progress.items_total} items failed, error_threshold allows {limit}"
    return _abort("error_threshold", limit, progress.items_failed, reason)


def _judge_count(progress: Progress, limits: Limits) -> Verdict | None:
    limit = limits.allowed_failed_count
    failed = failed_mini_batches(progress, limits)
    if limit is None or limit < 0 or failed <= limit:
        return None
    reason = f"{failed} of {progress.total} mini-batches failed, allowed_failed_count allows {limit}"
    return _abort("allowed_failed_count", limit, failed, reason)


def _judge_percent(progress: Progress, limits: Limits) -> Verdict | None:
    limit = limits.allowed_failed_percent
    failed = failed_mini_batches(progress, limits)
    if limit is None or progress.total == 0 or progress.handed_out < progress.total:
        return None
    # Exact: with floats, 64.6 percent of 500 is a little less than 323.
    if failed * 100 <= Fraction(str(limit)) * progress.total:
        return None
    percent = failed * 100 / progress.total
    reason = (
        f"{failed} of {progress.total} mini-batches failed, that is {percent:.4g} percent, "
        f"allowed_failed_percent allows {limit:g}"
    )
    return _abort("allowed_failed_percent", limit, percent, reason)


def _judge_end(progress: Progress) -> Verdict:
    if progress.done < progress.total:
        return Verdict(ruling=Ruling.GO_ON, reason=f"{progress.done} of {progress.total} mini-batches done")
    return Verdict(ruling=Ruling.COMPLETE, reason=f"all {progress.total} mini-batches done")


def _abort(threshold: str, limit: float, count: float, reason: str) -> Verdict:
    return Verdict(ruling=Ruling.ABORT, threshold=threshold, limit=limit, count=count, reason=reason)
