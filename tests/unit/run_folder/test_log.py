"""A log has one author for each number, and its last record is found with few requests."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from math import log2
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_prs.errors import DamagedError, RunFolderError
from airflow_prs.run_folder.log import LAG_S, Log, Record
from airflow_prs.store.memory import MemoryStore


class Counting:
    """A store that notes its requests."""

    def __init__(self, store):
        self.store = store
        self.requests = []

    def __getattr__(self, name):
        def call(*arguments):
            self.requests.append(name)
            return getattr(self.store, name)(*arguments)

        return call


@pytest.fixture
def log(store):
    return Log(store, "shards/00000/log/")


def fill(log, count, start=0):
    for number in range(start, count):
        assert log.append(number, b'{"n":%d}' % number, b"rows\n" * number)


def record(number):
    return Record(number, b'{"n":%d}' % number, b"rows\n" * number)


@given(header=st.binary().filter(lambda header: b"\n" not in header), payload=st.binary())
def test_a_record_is_read_as_it_was_appended(header, payload):
    log = Log(MemoryStore(), "log/")
    assert log.append(3, header, payload)
    assert log.read(3) == Record(3, header, payload)


def test_a_record_that_does_not_exist_is_none(log):
    fill(log, 3)
    assert log.read(3) is None
    assert log.read(2) == record(2)


def test_a_log_is_beside_others(store, log):
    fill(log, 2)
    other = Log(store, "shards/00000/log-of-another/")
    assert other.read_last() is None
    assert other.append(0, b"{}")
    assert log.read_last() == record(1)


def test_all_records_are_read_in_order_from_any_of_them(log):
    fill(log, 12)
    for first in range(14):
        assert list(log.read_all(first)) == [record(number) for number in range(first, 12)]


def test_a_payload_begins_where_it_says(store, log):
    fill(log, 12)
    for number in range(12):
        start = log.read(number).payload_offset
        assert store.get(log.key(number), start) == b"rows\n" * number


def test_a_record_that_storage_still_hides_is_waited_for():
    store, hidden, waits = MemoryStore(), 3, []

    class Lagging(Counting):
        def stat(self, key):
            return store.stat(key) if len(waits) >= hidden else None

    log = Log(Lagging(store), "log/", sleep=waits.append)
    assert log.append(0, b"{}", b"one")
    assert waits == []
    assert not log.append(0, b"{}", b"two")
    assert len(waits) == hidden


def test_a_record_that_stays_hidden_is_an_error_that_names_the_mount_option():
    store, waits = MemoryStore(), []

    class Hiding(Counting):
        def stat(self, key):
            return None

    log = Log(Hiding(store), "log/", sleep=waits.append)
    log.append(0, b"{}", b"one")
    with pytest.raises(RunFolderError, match=r"^log/0000000000 exists, but cannot be seen .* lookupcache=none"):
        log.append(0, b"{}", b"two")
    assert LAG_S <= sum(waits) < LAG_S + 3


def test_a_record_that_later_ones_follow_is_waited_for():
    store, hidden, waits = MemoryStore(), 3, []

    class Lagging(Counting):
        def get(self, key, start=None, end=None):
            return store.get(key, start, end) if len(waits) >= hidden else None

    log = Log(Lagging(store), "log/", sleep=waits.append)
    log.append(0, b"{}", b"one")
    assert log.read(0) is None
    assert log.read_written(0) == Record(0, b"{}", b"one")
    assert len(waits) == hidden


def test_a_record_that_is_gone_is_an_error(store):
    waits = []
    log = Log(store, "log/", sleep=waits.append)
    with pytest.raises(DamagedError, match=r"^log/0000000003 is missing, also after 90 seconds"):
        log.read_written(3)
    assert LAG_S <= sum(waits) < LAG_S + 3


def test_keys_sort_as_numbers_do(store, log):
    numbers = [0, 9, 10, 99, 1_000_000_000]
    for number in reversed(numbers):
        log.append(number, b"{}")
    assert [int(key.rpartition("/")[2]) for key in store.list("shards/00000/log/")] == numbers


def test_a_number_has_one_record(log):
    assert log.append(0, b"{}", b"one")
    assert not log.append(0, b"{}", b"two")
    assert not log.append(0, b"{ }", b"one")
    assert log.append(0, b"{}", b"one")
    assert log.read(0) == Record(0, b"{}", b"one")


def test_the_last_record_is_found_at_every_length_from_every_start(log):
    for length in range(71):
        fill(log, length, length - 1 if length else 0)
        for after in range(-1, length):
            expected = record(length - 1) if after < length - 1 else None
            assert log.read_last(after) == expected


@pytest.mark.parametrize("expected", [1, 2, 3, 7, 20])
def test_the_last_record_is_found_whatever_was_expected(log, expected):
    for length in range(20):
        fill(log, length, length - 1 if length else 0)
        for after in range(-1, length):
            assert log.read_last(after, expected) == (record(length - 1) if after < length - 1 else None)


@pytest.mark.parametrize("expected", [2, 3, 7, 20])
def test_as_many_records_as_expected_or_one_less_cost_two_requests(store, expected):
    counting = Counting(store)
    log = Log(counting, "log/")
    fill(log, expected)
    for after, requests in ((-1, ["get", "stat"]), (0, ["get", "get"])):
        counting.requests.clear()
        assert log.read_last(after, expected) == record(expected - 1)
        assert counting.requests == requests


def test_the_last_record_is_found_with_few_requests(store):
    counting = Counting(store)
    log = Log(counting, "log/")
    length = 300
    fill(log, length)
    for after in range(-1, length):
        counting.requests.clear()
        log.read_last(after)
        behind = length - 1 - after
        if behind == 0:
            assert counting.requests == ["get"]
        elif behind == 1:
            assert counting.requests == ["get", "stat"]
        else:
            assert counting.requests.count("get") == 2
            assert counting.requests.count("stat") <= 2 * log2(behind) + 1
            assert set(counting.requests) == {"get", "stat"}


@pytest.mark.parametrize("content", [(b'{"count": 1}', b"payload\n\x00\xff"), (b"{}", b""), (b"", b"")])
def test_every_damage_is_found(content):
    store, key = MemoryStore(), "log/0000000000"
    log = Log(store, "log/")
    log.append(0, *content)
    whole = store.get(key)
    damaged = [whole[:end] for end in range(len(whole))]
    damaged += [whole + b"\n", whole + whole, b"\n" + whole]
    for position in range(len(whole)):
        for value in {*range(256)} - {whole[position]}:
            damaged.append(whole[:position] + bytes([value]) + whole[position + 1 :])
    for data in damaged:
        store.put(key, data)
        for read in lambda: log.read(0), log.read_last:
            with pytest.raises(RunFolderError, match=f"{key} is damaged. Clear the plan task"):
                read()
    store.put(key, whole)
    assert log.read(0) == Record(0, *content)


def test_a_chain_of_increments_by_racing_threads_loses_none(store):
    threads, increments = 6, 20
    barrier = Barrier(threads)

    def increment(thread):
        log, last, won = Log(store, "log/"), None, []
        barrier.wait()
        while len(won) < increments:
            last = log.read_last(last.number if last else -1) or last
            number, count = (last.number + 1, int(last.header)) if last else (0, 0)
            if log.append(number, b"%d" % (count + 1), b"%d" % thread):
                won.append(number)
        return won

    with ThreadPoolExecutor(threads) as pool:
        won = list(pool.map(increment, range(threads)))
    numbers = range(threads * increments)
    assert sorted(number for one in won for number in one) == list(numbers)
    log = Log(store, "log/")
    winners = {number: thread for thread, one in enumerate(won) for number in one}
    assert [log.read(number) for number in numbers] == [
        Record(number, b"%d" % (number + 1), b"%d" % winners[number]) for number in numbers
    ]
    assert log.read_last() == log.read(numbers[-1])


@pytest.mark.parametrize("together", [1, 3])
def test_many_records_come_in_the_wanted_order(monkeypatch, together):
    store = MemoryStore()
    monkeypatch.setattr(MemoryStore, "together", together)
    log = Log(store, "log/")
    for number in range(10):
        assert log.append(number, b"{}", str(number).encode())
    assert [record.payload for record in log.read_many(range(8, 1, -2))] == [b"8", b"6", b"4", b"2"]
