"""The rules of the three thresholds."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_prs.records import Limits, Progress, Ruling
from airflow_prs.thresholds.limits import failed_mini_batches, judge

ITEMS = 3


def progress_of(
    total: int, succeeded: int, failed: int, *, failing: int = 0, handed_out: int | None = None
) -> Progress:
    return Progress(
        total=total,
        handed_out=succeeded + failed + failing if handed_out is None else handed_out,
        succeeded=succeeded,
        failed=failed,
        failing=failing,
        items_total=total * ITEMS,
        items_succeeded=succeeded * ITEMS,
        items_failed=failed * ITEMS,
        elements=succeeded * ITEMS,
    )


@st.composite
def progresses(draw):
    succeeded, failed, failing, waiting = (draw(st.integers(0, 20)) for _ in range(4))
    total = succeeded + failed + failing + waiting
    return progress_of(total, succeeded, failed, failing=failing)


limits = st.builds(
    Limits,
    error_threshold=st.integers(-1, 60),
    allowed_failed_count=st.none() | st.integers(-1, 20),
    allowed_failed_percent=st.none() | st.integers(0, 100) | st.floats(0, 100),
    count_failed_tries=st.booleans(),
)


def is_aborted(progress: Progress, **values) -> bool:
    return judge(progress, Limits(**values)).ruling is Ruling.ABORT


@pytest.mark.parametrize(("failed", "expected"), [(0, False), (4, False), (5, True)])
def test_error_threshold_is_exceeded_by_more_failed_items_than_it_allows(failed, expected):
    assert is_aborted(progress_of(10, 1, failed), error_threshold=4 * ITEMS) is expected


def test_items_that_run_left_out_count_against_error_threshold():
    short = replace(progress_of(2, 2, 0), items_succeeded=5, items_failed=1)
    assert is_aborted(short, error_threshold=0)


def test_items_that_run_left_out_fail_no_mini_batch():
    short = replace(progress_of(2, 2, 0), items_succeeded=5, items_failed=1)
    assert not is_aborted(short, allowed_failed_count=0, allowed_failed_percent=0)


@pytest.mark.parametrize(("failed", "expected"), [(0, False), (2, False), (3, True)])
def test_allowed_failed_count_is_exceeded_by_more_failed_mini_batches_than_it_allows(failed, expected):
    assert is_aborted(progress_of(10, 1, failed), allowed_failed_count=2) is expected


@pytest.mark.parametrize(("failed", "expected"), [(0, False), (2, False), (3, True)])
def test_allowed_failed_percent_is_exceeded_by_more_failed_mini_batches_than_it_allows(failed, expected):
    assert is_aborted(progress_of(10, 10 - failed, failed), allowed_failed_percent=20) is expected


@pytest.mark.parametrize(("limit", "total"), [(64.6, 500), (32.3, 1000), (0.1, 1000), (1.1, 1000)])
def test_exactly_as_many_percent_as_allowed_are_not_too_many(limit, total):
    failed = int(Fraction(str(limit)) * total / 100)
    assert not is_aborted(progress_of(total, total - failed, failed), allowed_failed_percent=limit)
    assert is_aborted(progress_of(total, total - failed - 1, failed + 1), allowed_failed_percent=limit)


def test_allowed_failed_percent_waits_until_all_mini_batches_were_handed_out():
    assert not is_aborted(progress_of(10, 4, 5), allowed_failed_percent=0)
    assert is_aborted(progress_of(10, 4, 5, handed_out=10), allowed_failed_percent=0)


@given(progresses())
def test_minus_one_and_a_hundred_percent_ignore_all_failures(progress):
    assert not is_aborted(
        progress, error_threshold=-1, allowed_failed_count=-1, allowed_failed_percent=100, count_failed_tries=True
    )


@given(progresses())
def test_thresholds_that_are_not_set_ignore_all_failures(progress):
    assert not is_aborted(progress)


def test_a_failed_try_that_may_be_mended_aborts_nothing():
    assert not is_aborted(
        progress_of(3, 0, 0, failing=3), error_threshold=0, allowed_failed_count=0, allowed_failed_percent=0
    )


def test_a_failed_try_counts_meanwhile_where_that_is_asked_for():
    assert is_aborted(progress_of(3, 0, 0, failing=2), allowed_failed_count=1, count_failed_tries=True)


def test_a_mended_try_counts_no_more():
    assert not is_aborted(progress_of(3, 2, 0), allowed_failed_count=0, count_failed_tries=True)


def test_failed_tries_are_no_failed_items():
    assert not is_aborted(progress_of(3, 0, 0, failing=3), error_threshold=0, count_failed_tries=True)


def test_a_run_goes_on_while_mini_batches_have_no_outcome():
    verdict = judge(progress_of(10, 8, 1), Limits())
    assert (verdict.ruling, verdict.reason) == (Ruling.GO_ON, "9 of 10 mini-batches done")


def test_a_run_is_complete_once_all_mini_batches_have_an_outcome():
    assert judge(progress_of(10, 8, 2), Limits()).ruling is Ruling.COMPLETE


def test_a_run_without_mini_batches_is_complete():
    limits = Limits(error_threshold=0, allowed_failed_count=0, allowed_failed_percent=0)
    assert judge(Progress(), limits).ruling is Ruling.COMPLETE


@pytest.mark.parametrize(
    ("name", "limit", "count", "reason"),
    [
        ("error_threshold", 2, 9, "9 of 12 items failed, error_threshold allows 2"),
        ("allowed_failed_count", 2, 3, "3 of 4 mini-batches failed, allowed_failed_count allows 2"),
        (
            "allowed_failed_percent",
            12.5,
            75,
            "3 of 4 mini-batches failed, that is 75 percent, allowed_failed_percent allows 12.5",
        ),
    ],
)
def test_an_abort_names_threshold_limit_and_count(name, limit, count, reason):
    verdict = judge(progress_of(4, 1, 3), Limits(**{name: limit}))
    assert (verdict.threshold, verdict.limit, verdict.count, verdict.reason) == (name, limit, count, reason)


@given(progresses(), limits, st.integers(0, 5), st.integers(0, 5))
def test_more_failures_never_mend_an_abort(progress, held, more_mini_batches, more_items):
    worse = replace(
        progress,
        total=progress.total + more_mini_batches,
        handed_out=progress.handed_out + more_mini_batches,
        failed=progress.failed + more_mini_batches,
        items_total=progress.items_total + more_items,
        items_failed=progress.items_failed + more_items,
    )
    if judge(progress, held).ruling is Ruling.ABORT:
        assert judge(worse, held).ruling is Ruling.ABORT


@given(progresses(), limits, st.integers(0, 10))
def test_a_looser_limit_never_aborts_what_a_tighter_one_let_pass(progress, held, slack):
    count, percent = held.allowed_failed_count, held.allowed_failed_percent
    looser = replace(
        held,
        error_threshold=held.error_threshold + slack if held.error_threshold >= 0 else -1,
        allowed_failed_count=count if count is None or count < 0 else count + slack,
        allowed_failed_percent=percent if percent is None else min(100, percent + slack),
    )
    if judge(progress, held).ruling is not Ruling.ABORT:
        assert judge(progress, looser).ruling is not Ruling.ABORT


@given(progresses(), limits)
def test_a_run_that_is_aborted_at_one_look_is_aborted_at_every_later_one(progress, held):
    held = replace(held, count_failed_tries=False)
    waiting = progress.total - progress.done
    end = replace(
        progress,
        handed_out=progress.total,
        succeeded=progress.succeeded + waiting,
        failing=0,
        items_succeeded=progress.items_total - progress.items_failed,
    )
    if judge(progress, held).ruling is Ruling.ABORT:
        assert judge(end, held).ruling is Ruling.ABORT


@given(progresses(), limits)
def test_counting_failed_tries_is_never_more_lenient(progress, held):
    strict = replace(held, count_failed_tries=True)
    lenient = replace(held, count_failed_tries=False)
    assert failed_mini_batches(progress, lenient) <= failed_mini_batches(progress, strict)
    if judge(progress, lenient).ruling is Ruling.ABORT:
        assert judge(progress, strict).ruling is Ruling.ABORT
