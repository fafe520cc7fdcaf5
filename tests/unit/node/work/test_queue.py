"""What is handed out next."""

from __future__ import annotations

import threading
from concurrent.futures import wait

import numpy as np
import pytest

from airflow_prs.node.work.queue import READ_AHEAD, ReadAhead, WorkQueue
from airflow_prs.records import MiniBatch, Shard


class FakeFolder:
    """A manifest in memory."""

    def read_mini_batches(self, first, end):
        return (MiniBatch(index=index, input="input", items=1, size_bytes=1) for index in range(first, end))


SHARD = Shard(number=1, first=10, count=6, items=6, size_bytes=6)


@pytest.fixture
def now():
    return [0.0]


def make_queue(now, *, done=(), tries=None, granted=16, crowd=()):
    mask = np.zeros(SHARD.count, bool)
    mask[list(done)] = True
    queue = WorkQueue(
        FakeFolder(), SHARD, done=mask, tries=tries or {}, granted=granted, clock=lambda: now[0], crowd=crowd, group=1
    )
    wait_until_read(queue)
    return queue


def wait_until_read(queue):
    wait([queue._ahead._made])


def take_all(queue):
    assignments = iter(lambda: queue.take(may_be_alone=True), None)
    return [(each.mini_batch.index, each.try_number) for each in assignments]


def test_mini_batches_without_outcome_come_in_input_order(now):
    queue = make_queue(now, done=(1, 4))
    assert len(queue) == 4
    assert take_all(queue) == [(10, 1), (12, 1), (13, 1), (15, 1)]
    assert len(queue) == 0


def test_tries_of_an_earlier_attempt_count_on(now):
    assert take_all(make_queue(now, tries={11: 2}))[1] == (11, 3)


def test_nothing_is_handed_out_beyond_the_grant(now):
    queue = make_queue(now, granted=12)
    assert take_all(queue) == [(10, 1), (11, 1)]
    assert queue.left_of_grant == 0
    queue.grant(queue.next_grant(3))
    assert queue.left_of_grant == 3
    assert take_all(queue) == [(12, 1), (13, 1), (14, 1)]


def test_a_grant_never_shrinks_and_never_leaves_the_shard(now):
    queue = make_queue(now, granted=14)
    assert queue.next_grant(1) == 14
    assert queue.next_grant(1000) == SHARD.end


def test_in_a_crowd_two_groups_are_in_hand_and_nothing_is_lent(now):
    queue = make_queue(now, granted=14, crowd=(12, 13))
    assert [queue.limit_window(2, 9), queue.limit_window(100, 0), queue.limit_window(100, 1)] == [2, 2, 1]
    assert queue.limit_window(100, 50) == 1, "those that wait for another try do not stop the others"
    assert queue.give_up() == (0, 0)
    for _ in range(4):
        queue.take(may_be_alone=True)
    assert queue.limit_window(100, 50) == 100
    assert queue.give_up() == (15, 16)


def test_a_retry_comes_before_what_is_fresh(now):
    queue = make_queue(now)
    first = queue.take(may_be_alone=True)
    queue.try_again(first, after_s=0)
    assert take_all(queue)[:2] == [(10, 2), (11, 1)]


def test_a_retry_that_has_to_wait_lets_the_others_go_on(now):
    queue = make_queue(now)
    queue.try_again(queue.take(may_be_alone=True), after_s=5)
    assert [index for index, _ in take_all(queue)] == [11, 12, 13, 14, 15]
    assert (len(queue), queue.has_waited) == (1, False)
    now[0] = 5.0
    assert queue.has_waited
    assert take_all(queue) == [(10, 2)]


def test_what_is_given_back_comes_first_and_in_order_uncharged(now):
    queue = make_queue(now)
    assignments = [queue.take(may_be_alone=True) for _ in range(3)]
    queue.put_back(assignments)
    assert take_all(queue)[:4] == [(10, 1), (11, 1), (12, 1), (13, 1)]


def test_what_must_be_alone_is_for_takers_with_empty_hands(now):
    queue = make_queue(now)
    assignment = queue.take(may_be_alone=True)
    queue.put_back([type(assignment)(assignment.mini_batch, 1, is_alone=True)])
    assert queue.take(may_be_alone=False) is None
    assert queue.take(may_be_alone=True).is_alone


def test_what_is_given_up_is_never_handed_out(now):
    queue = make_queue(now)
    assert queue.give_up() == (14, 16)
    assert (queue.granted, len(queue)) == (14, 4)
    assert queue.next_grant(1000) == 14
    assert take_all(queue) == [(10, 1), (11, 1), (12, 1), (13, 1)]
    assert queue.give_up() == (0, 0)


def test_what_was_given_up_can_be_taken_back_if_the_queue_still_ends_there(now):
    queue = make_queue(now)
    first, second = queue.give_up(), queue.give_up()
    assert not queue.take_back(*first)
    assert queue.take_back(*second)
    assert queue.take_back(*first)
    assert (len(queue), queue.granted) == (6, 13), "only the next commit grants them again"
    assert [index for index, _ in take_all(queue)] == [10, 11, 12]
    queue.grant(queue.next_grant(1000))
    assert [index for index, _ in take_all(queue)] == [13, 14, 15]


def test_only_what_lies_together_and_was_never_tried_is_given_up(now):
    assert make_queue(now, tries={14: 1}).give_up() == (15, 16)
    assert make_queue(now, tries={15: 1}).give_up() == (0, 0)
    assert make_queue(now, done=(4, 5)).give_up() == (13, 14)


class SlowFolder(FakeFolder):
    """A manifest on storage that stands still at a mini-batch until it is told to go on."""

    def __init__(self, stands_at, problem=None):
        self.stands_at, self.problem = stands_at, problem
        self.goes_on = threading.Event()

    def read_mini_batches(self, first, end):
        for mini_batch in super().read_mini_batches(first, end):
            if mini_batch.index == self.stands_at:
                self.goes_on.wait()
                if self.problem:
                    raise self.problem
            yield mini_batch


def make_long_queue(folder, now):
    shard = Shard(number=0, first=0, count=3 * READ_AHEAD, items=1, size_bytes=1)
    done = np.zeros(shard.count, bool)
    return WorkQueue(folder, shard, done=done, tries={}, granted=shard.end, clock=lambda: now[0])


@pytest.mark.parametrize("stands_at", [0, READ_AHEAD])
def test_storage_that_stands_still_holds_up_nobody_who_takes(now, stands_at):
    folder = SlowFolder(stands_at)
    queue = make_long_queue(folder, now)
    if stands_at:
        wait_until_read(queue)
    taken = take_all(queue)
    assert [index for index, _ in taken] == list(range(stands_at))
    assert (len(queue), queue.has_waited) == (3 * READ_AHEAD - stands_at, False)
    assert queue.give_up() == (READ_AHEAD * 2 + (stands_at + 2) // 3, 3 * READ_AHEAD)
    folder.goes_on.set()
    while len(queue):
        wait_until_read(queue)
        assert queue.has_waited
        taken += take_all(queue)
        assert not queue.has_waited or len(queue)
    assert taken == [(index, 1) for index in range(READ_AHEAD * 2 + (stands_at + 2) // 3)]


def test_a_manifest_that_cannot_be_read_is_an_error_for_whoever_takes(now):
    folder = SlowFolder(0, OSError("stale file handle"))
    queue = make_long_queue(folder, now)
    assert queue.take(may_be_alone=True) is None
    folder.goes_on.set()
    wait_until_read(queue)
    with pytest.raises(OSError, match="stale"):
        queue.take(may_be_alone=True)


def test_a_manifest_that_was_read_to_its_end_is_not_read_again():
    ends = []

    class Source:
        left = 3

        def __iter__(self):
            return self

        def __next__(self):
            if not self.left:
                ends.append(threading.current_thread().name)
                raise StopIteration
            self.left -= 1
            return self.left

    ahead = ReadAhead(Source())
    taken = []
    while len(taken) < 3:
        wait([ahead._made])
        ahead.peek()
        taken.append(ahead.take())
        ahead.pass_peeked()
        ahead.peek()
    wait([ahead._made])
    for _ in range(10):
        ahead.peek()
        assert ahead.take() is None
        wait([ahead._made])
    assert taken == [2, 1, 0]
    assert len(ends) == 2, "the first read found the end, and the second one nothing"
