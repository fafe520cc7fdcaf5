"""How far mini-batches may be handed out: two for each that is worked on, more only at a measured rate."""

from __future__ import annotations

import asyncio

import pytest

from airflow_prs.node.work.committer import Committer
from airflow_prs.node.work.tally import Tally
from airflow_prs.records import Progress
from tests.makers import make_outcome

AT_ONCE = 4


class Clock:
    """Moves when something takes time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeAttempt:
    def __init__(self, clock: Clock, seconds: float) -> None:
        self._clock, self._seconds = clock, seconds

    def commit(self, outcomes, tries, **terms) -> None:
        self._clock.now += self._seconds


class FakeQueue:
    """Takes note of what is granted beyond what was handed out."""

    granted = 10**6
    window = 0

    def next_grant(self, window: int) -> int:
        self.window = window
        return self.granted

    def grant(self, below: int) -> None:
        pass


def window_after(groups, *, commit_s=0.01) -> int:
    """
    Commit groups of outcomes, and return how many mini-batches the last commit granted.

    :param groups: seconds before the first outcome of a group, and for each outcome its own seconds and those that pass
        until it comes.
    """
    clock, queue = Clock(), FakeQueue()

    async def run() -> int:
        attempt = FakeAttempt(clock, commit_s)
        committer = Committer(attempt, Tally(Progress(), set()), queue, concurrency=AT_ONCE, clock=clock)
        for waited_s, outcomes in groups:
            clock.now += waited_s
            for duration_s, passed_s in outcomes:
                clock.now += passed_s
                committer.add(make_outcome(duration_s=duration_s))
            await committer.commit()
        return queue.window

    return asyncio.run(run())


def test_nothing_measured_grants_two_for_each_that_is_worked_on():
    assert window_after([(0, [])]) == 2 * AT_ONCE


@pytest.mark.parametrize("passed_s", [0.001, 100.0])
def test_long_mini_batches_that_end_together_are_no_reason_to_grant_more(passed_s):
    assert window_after([(600, [(600.0, passed_s)] * AT_ONCE)] * 5) == 2 * AT_ONCE


def test_a_steady_rate_is_granted_for_as_long_as_two_commits_are_apart():
    steady = [(0, [(0.04, 0.01)] * 50)] * 5
    assert window_after(steady) == pytest.approx(100, rel=0.05)


def test_slow_storage_is_granted_what_is_done_while_it_commits():
    steady = [(0, [(0.04, 0.01)] * 50)] * 5
    assert window_after(steady, commit_s=3.0) == pytest.approx(6 * 100, rel=0.1)


def test_the_time_of_init_does_not_slow_down_the_start():
    assert window_after([(300, [(0.001, 0.001)] * 8)]) > 2 * AT_ONCE
