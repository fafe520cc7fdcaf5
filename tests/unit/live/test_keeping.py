"""Many users who look at a run cost as much as one."""

from __future__ import annotations

import threading
import time

import pytest

from airflow_prs.live.keeping import Kept
from airflow_prs.live.storage_threads import NoAnswerError, StorageThreads
from tests.airflow_services import wait_until

THREADS = StorageThreads()


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

    quick, slow = Kept(lambda: ask(0), THREADS, clock), Kept(lambda: ask(1), THREADS, clock)
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

    kept = Kept(ask, THREADS, clock)
    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            kept.get()
    clock.now = 2.0
    assert (kept.get(), len(asked)) == ("there", 2)


def test_after_a_change_it_is_asked_again():
    answers = iter([1, 2])
    kept = Kept(lambda: next(answers), THREADS, Clock())
    assert kept.get() == 1
    kept.expire()
    assert kept.get() == 2


def test_those_who_ask_at_the_same_time_get_one_answer():
    asked, may_answer = [], threading.Event()

    def ask():
        asked.append(1)
        may_answer.wait(10)
        return "answer"

    kept, got = Kept(ask, THREADS), []
    threads = [threading.Thread(target=lambda: got.append(kept.get())) for _ in range(5)]
    for thread in threads:
        thread.start()
    may_answer.set()
    for thread in threads:
        thread.join()
    assert (got, len(asked)) == (["answer"] * 5, 1)


def test_an_answer_that_was_under_way_when_it_expired_is_not_the_newest_one():
    is_asking, may_answer, answers = threading.Event(), threading.Event(), iter(["old", "new"])

    def ask():
        answer = next(answers)
        is_asking.set()
        may_answer.wait(10)
        return answer

    kept, got = Kept(ask, THREADS), []
    first = threading.Thread(target=kept.get)
    first.start()
    is_asking.wait(10)
    kept.expire()
    second = threading.Thread(target=lambda: got.append(kept.get()))
    second.start()
    may_answer.set()
    first.join()
    second.join()
    assert got == ["new"]


@pytest.fixture
def hanging():
    """A question that storage does not answer until the test ends or lets it."""
    lets_go = threading.Event()
    yield lets_go
    lets_go.set()


def soon():
    return time.monotonic() + 0.05


def test_who_asks_storage_that_hangs_gets_an_error_and_later_the_answer(hanging):
    kept = Kept(lambda: hanging.wait(10), StorageThreads())
    for _ in range(3):
        with pytest.raises(NoAnswerError, match="the storage does not answer"):
            kept.get(soon())
    hanging.set()
    assert kept.get() is True


def test_after_others_have_waited_in_vain_nobody_waits_again(hanging, monkeypatch):
    monkeypatch.setattr("airflow_prs.live.keeping.PATIENCE_S", 0.05)
    kept = Kept(lambda: hanging.wait(10), StorageThreads())
    for _ in range(2):
        with pytest.raises(NoAnswerError):
            kept.get()
    began = time.monotonic()
    with pytest.raises(NoAnswerError):
        kept.get(began + 10)
    assert time.monotonic() - began < 5


def test_only_so_many_threads_ever_hang(hanging):
    threads, began = StorageThreads(most=2), []

    def ask():
        began.append(threading.current_thread())
        hanging.wait(10)

    for _ in range(5):
        with pytest.raises(NoAnswerError):
            Kept(ask, threads).get(soon())
    with pytest.raises(NoAnswerError):
        threads.call(ask, 0.05)
    wait_until(lambda: len(began) == 2, "two threads that hang", 10, 0.01)
    assert [(thread.is_alive(), thread.daemon) for thread in began] == [(True, True)] * 2
    hanging.set()
    assert threads.call(lambda: "free again") == "free again"


def test_an_error_of_the_work_is_no_hanging_storage():
    def ask():
        raise TimeoutError("from the client")

    with pytest.raises(TimeoutError, match="from the client"):
        Kept(ask, THREADS).get()
