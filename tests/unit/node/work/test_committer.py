"""When outcomes are committed; and how far mini-batches may be handed out: more than a few only at a measured rate."""

from __future__ import annotations

import asyncio
from unittest import mock

import pytest

from airflow_prs.node.work import committer as committers
from airflow_prs.node.work.committer import Committer
from airflow_prs.node.work.tally import Tally
from airflow_prs.records import Progress
from tests.makers import make_failed_try, make_outcome

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

    def limit_window(self, window: int, in_hand: int) -> int:
        return window

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
    assert window_after(steady) == pytest.approx(200, rel=0.05)


def test_more_is_granted_as_commits_get_rarer():
    steady = [(0, [(0.04, 0.01)] * 50)] * 5
    day = [(24 * 3600, []), *steady]
    assert window_after(day) == pytest.approx(17.3 * 200, rel=0.05)


def test_slow_storage_is_granted_what_is_done_while_it_commits():
    steady = [(0, [(0.04, 0.01)] * 50)] * 5
    assert window_after(steady, commit_s=3.0) == pytest.approx(6 * 100, rel=0.1)


def test_the_time_of_init_does_not_slow_down_the_start():
    assert window_after([(300, [(0.001, 0.001)] * 8)]) > 2 * AT_ONCE


class Run:
    """A node whose time passes a second with each look of the committer."""

    def __init__(self, began: float = 0.0, **terms) -> None:
        self.clock, self.commits = Clock(), []
        self.committer = Committer(
            self, Tally(Progress(), set()), FakeQueue(), concurrency=AT_ONCE, clock=self.clock, **terms
        )
        self.clock.now += began

    def commit(self, outcomes, tries, **terms) -> None:
        self.commits.append((self.clock.now, len(outcomes), len(tries)))

    def go(self, seconds: int, do) -> list[tuple[float, int, int]]:
        """
        Let some seconds pass.

        :param do: called with each second.
        :return: when, in seconds, and how many outcomes and failed tries were committed.
        """
        began = self.clock.now

        async def pass_a_second(waiter, timeout) -> None:
            waiter.close()
            self.clock.now += timeout
            do(round(self.clock.now - began))
            if self.clock.now - began >= seconds:
                self.committer.end()
            else:
                raise asyncio.TimeoutError

        with mock.patch.object(committers.asyncio, "wait_for", pass_a_second):
            asyncio.run(self.committer.run())
        return [(at - began, outcomes, tries) for at, outcomes, tries in self.commits]


def test_outcomes_are_committed_within_a_second_at_first():
    run = Run()
    commits = run.go(5, lambda second: second != 3 and run.committer.add(make_outcome()))
    assert commits == [(1, 1, 0), (2, 1, 0), (4, 1, 0), (5, 1, 0)]


def test_commits_get_rarer_with_the_age_of_the_attempt():
    run = Run(began=50_000)
    commits = run.go(100, lambda second: run.committer.add(make_outcome()))
    assert [at for at, _, _ in commits] == [1, *range(11, 100, 10), 100]


def test_a_failed_try_is_committed_within_a_second_whatever_the_age():
    run = Run(began=50_000)

    def fail(second):
        run.committer.add(make_outcome())
        if second == 5:
            run.committer.add_try(make_failed_try())

    assert run.go(9, fail) == [(1, 1, 0), (5, 4, 1), (9, 4, 0)]


@pytest.mark.parametrize(
    ("counts", "commits"), [(True, [(1, 1, 0), (5, 4, 0), (9, 4, 0)]), (False, [(1, 1, 0), (9, 8, 0)])]
)
def test_failed_items_that_count_are_committed_within_a_second_whatever_the_age(counts, commits):
    run = Run(began=50_000, counts_failed_items=lambda: counts)

    def fail(second):
        run.committer.add(make_outcome(succeeded=1) if second == 5 else make_outcome())

    assert run.go(9, fail) == commits


def test_many_outcomes_are_committed_whatever_the_age():
    def end():
        run.committer.end()

    async def add_many():
        for _ in range(committers.GROUP_OUTCOMES):
            run.committer.add(make_outcome())
        await run.committer.run()

    run = Run(began=50_000, on_commit=end)
    asyncio.run(add_many())
    assert [outcomes for _, outcomes, _ in run.commits] == [committers.GROUP_OUTCOMES]


def test_a_day_has_some_twenty_thousand_commits():
    commits = 0
    for hour in range(24):
        run = Run(began=3600 * (hour + 0.5))
        commits += 36 * len(run.go(100, lambda second, run=run: run.committer.add(make_outcome())))
    assert commits == pytest.approx(20_000, rel=0.1)
