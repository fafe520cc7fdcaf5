"""Who is charged for a failed try, and whether there is another one."""

from __future__ import annotations

import pytest

from airflow_prs.node.work.failed_tries import Failure, RetryPolicy, judge_end
from airflow_prs.node.work.queue import Assignment
from airflow_prs.records import MiniBatch, TryStatus


def assignment(index, try_number=1):
    return Assignment(MiniBatch(index=index, input="input", items=1, size_bytes=1), try_number)


def failure(index=0, try_number=1, **values):
    return Failure(
        assignment=assignment(index, try_number),
        status=TryStatus.PROCESS_DIED,
        error="killed by SIGKILL",
        process="process000",
        started=0.0,
        duration_s=0.0,
        **values,
    )


def judged(running, waiting, overdue=None):
    """Judge an end; return the index that is charged, and the others with whether they are to be tried alone."""
    failed, others = judge_end(
        [failure(index) for index in running], [assignment(index) for index in waiting], overdue=overdue
    )
    charged = None if failed is None else failed.assignment.mini_batch.index
    return charged, [(other.mini_batch.index, other.is_alone) for other in others]


def test_the_only_running_mini_batch_is_charged_for_the_death_of_its_process():
    assert judged([3], [4, 5]) == (3, [(4, False), (5, False)])


def test_of_several_running_mini_batches_none_is_charged_and_each_is_tried_alone():
    assert judged([3, 4], [5]) == (None, [(3, True), (4, True), (5, False)])


def test_an_overdue_mini_batch_is_charged_and_its_neighbours_are_not_suspected():
    assert judged([3, 4], [5], overdue=4) == (4, [(3, False), (5, False)])


def test_nobody_is_charged_if_the_overdue_mini_batch_has_answered_meanwhile():
    assert judged([3, 5], [6], overdue=4) == (None, [(3, False), (5, False), (6, False)])


def test_nobody_is_charged_if_nothing_was_running():
    assert judged([], [6]) == (None, [(6, False)])


def test_the_last_try_is_final():
    policy = RetryPolicy(most_tries=3)
    assert [policy.next_try_after_s(failure(try_number=number)) for number in (1, 2, 3)] == [0, 0, None]


def test_a_hopeless_failure_is_final_at_the_first_try():
    assert RetryPolicy(most_tries=3).next_try_after_s(failure(is_hopeless=True)) is None


@pytest.mark.parametrize(("number", "seconds"), [(1, 10), (2, 20), (3, 40), (20, 3600)])
def test_the_delay_doubles_with_each_try_up_to_an_hour(number, seconds):
    delay_s = RetryPolicy(most_tries=100, delay_s=10).next_try_after_s(failure(try_number=number))
    assert delay_s == pytest.approx(seconds, rel=0.25)


def test_a_script_that_asks_to_wait_longer_gets_it():
    assert RetryPolicy(most_tries=3, delay_s=10).next_try_after_s(failure(wait_s=100.0)) == 100
