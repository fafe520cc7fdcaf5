"""The search for failing items, against scripts of which it is known which items fail."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_prs.node.work import bisecting
from airflow_prs.node.work.bisecting import MOST_TRIALS, Bisection, can_split
from airflow_prs.node.work.failed_tries import Failure, failed_try
from airflow_prs.node.work.queue import Assignment
from airflow_prs.records import TryStatus
from tests.makers import make_mini_batch, make_outcome


def fail(assignment: Assignment, **values) -> Failure:
    given = {"status": TryStatus.RUN_EXCEPTION, "error": "ValueError: bad", "process": "process000"}
    return Failure(assignment=assignment, **(given | {"started": 1.0, "duration_s": 1.0} | values))


def search(items: int, fails, *, timeout_s: float = 60.0):
    """Search, with a run() that fails if ``fails`` says so of the positions that it gets; return result and calls."""
    mini_batch = make_mini_batch(0, items=items)
    bisection = Bisection(fail(Assignment(mini_batch, 3)), timeout_s=timeout_s)
    calls = []
    while (assignment := bisection.next_assignment()) is not None:
        got = [place for begin, end in assignment.part.spans for place in range(begin, end)]
        calls.append((got, assignment.part.is_trial))
        if fails(got):
            bisection.take_failure(fail(assignment, error=f"ValueError: {got}"))
        else:
            bisection.take_success(
                make_outcome(0, items=items, succeeded=len(got), returned=len(got), tries=assignment.try_number)
            )
    tries, outcome = bisection.result(lambda failure: failed_try(failure, is_final=True, node="n", log=""))
    return tries, outcome, calls


@given(st.integers(2, 40).flatmap(lambda items: st.tuples(st.just(items), st.sets(st.integers(0, items - 1)))))
def test_exactly_the_items_that_fail_are_found(case):
    items, bad = case
    tries, outcome, calls = search(items, lambda got: bool(bad & set(got)))
    good = [place for place in range(items) if place not in bad]
    found = [place for failed in tries for begin, end in failed.spans for place in range(begin, end)]
    assert found == sorted(bad)
    assert outcome.has_failed is (not good)
    if good:
        assert calls[-1] == (good, False)  # the call whose rows are kept gets the others, in input order
        assert outcome.succeeded == len(good)
        assert outcome.items == items
    assert sum(not is_trial for _, is_trial in calls) == bool(good)


def test_each_item_that_fails_has_an_error_of_its_own():
    tries, _, _ = search(8, lambda got: bool({2, 7} & set(got)))
    assert [(failed.spans, failed.error) for failed in tries] == [
        (((2, 3),), "ValueError: [2]"),
        (((7, 8),), "ValueError: [7]"),
    ]


def test_one_bad_item_in_a_thousand_takes_about_ten_calls():
    _, _, calls = search(1000, lambda got: 777 in got)
    assert len(calls) < 22


def test_the_number_of_calls_is_bounded_and_what_is_left_fails():
    tries, outcome, calls = search(1000, lambda got: any(place % 3 == 0 for place in got))
    assert len(calls) == MOST_TRIALS + 1
    failed = {place for one in tries for begin, end in one.spans for place in range(begin, end)}
    assert failed >= set(range(0, 1000, 3))
    assert calls[-1] == (sorted(set(range(1000)) - failed), False)
    assert outcome.succeeded == 1000 - len(failed)
    assert f"not split further after {MOST_TRIALS} calls" in tries[-1].error


def test_the_time_of_the_calls_is_bounded(monkeypatch):
    monkeypatch.setattr(bisecting, "MOST_TIMEOUTS", 2)
    _, _, calls = search(64, lambda got: 1 in got or 60 in got, timeout_s=2)  # each call takes a second
    assert sum(is_trial for _, is_trial in calls) == 4


def test_items_that_fail_only_together_fail_together():
    tries, outcome, _ = search(4, lambda got: {0, 3} <= set(got))
    assert outcome.has_failed
    assert [failed.spans for failed in tries] == [()]
    assert "in parts, but not together" in tries[0].error
    assert outcome.tries == 4


@pytest.mark.parametrize("status", [TryStatus.LOAD_EXCEPTION, TryStatus.LOAD_TIMEOUT])
def test_a_part_that_cannot_be_loaded_says_nothing_of_its_items(status):
    """The storage may be gone: the items are not at fault, and the entire mini-batch fails as without a search."""
    bisection = Bisection(fail(Assignment(make_mini_batch(0, items=4), 3)), timeout_s=60)
    bisection.take_success(make_outcome(0, items=4, succeeded=2, returned=2, tries=4))
    bisection.take_failure(fail(bisection.next_assignment(), status=status, error="no copy can be made"))
    assert bisection.next_assignment() is None
    [failed], outcome = bisection.result(lambda failure: failed_try(failure, is_final=True, node="n", log=""))
    assert (outcome.has_failed, outcome.tries, failed.spans) == (True, 4, ())
    assert failed.error == "no copy can be made (in the search for the items that fail)"


@pytest.mark.parametrize("status", [TryStatus.LOAD_EXCEPTION, TryStatus.LOAD_TIMEOUT, TryStatus.NODE_DIED])
def test_what_cannot_be_loaded_or_has_killed_its_node_is_not_split(status):
    assert not can_split(fail(Assignment(make_mini_batch(0, items=4), 3), status=status))


def test_a_single_item_is_not_split():
    assert not can_split(fail(Assignment(make_mini_batch(0, items=1), 3)))
