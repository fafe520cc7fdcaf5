"""Many users who look at a run cost as much as one."""

from __future__ import annotations

import threading

import pytest

from airflow_prs.live.keeping import Kept


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_an_answer_is_kept_for_a_moment_and_for_longer_if_it_took_long():
    clock, asked = Clock(), []

    def ask(seconds):
        asked.append(clock.now)
        clock.now += seconds
        return len(asked)

    quick, slow = Kept(lambda: ask(0), clock), Kept(lambda: ask(1), clock)
    assert (quick.get(), quick.get()) == (1, 1)
    clock.now = 1.5
    assert quick.get() == 2
    assert slow.get() == 3
    clock.now += 19.9
    assert slow.get() == 3
    clock.now += 0.2
    assert slow.get() == 4


def test_an_error_is_kept_too():
    clock, asked = Clock(), []

    def ask():
        asked.append(clock.now)
        if len(asked) == 1:
            raise OSError("gone")
        return "there"

    kept = Kept(ask, clock)
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            kept.get()
    clock.now = 2.0
    assert (kept.get(), len(asked)) == ("there", 2)


def test_after_a_change_it_is_asked_again():
    answers = iter([1, 2])
    kept = Kept(lambda: next(answers), Clock())
    assert kept.get() == 1
    kept.expire()
    assert kept.get() == 2


def test_those_who_ask_at_the_same_time_get_one_answer():
    asked, may_answer = [], threading.Event()

    def ask():
        asked.append(1)
        may_answer.wait(10)
        return "answer"

    kept, got = Kept(ask), []
    threads = [threading.Thread(target=lambda: got.append(kept.get())) for _ in range(5)]
    for thread in threads:
        thread.start()
    may_answer.set()
    for thread in threads:
        thread.join()
    assert (got, len(asked)) == (["answer"] * 5, 1)
