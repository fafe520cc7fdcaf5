"""Everyone who follows the run log knows what binds them."""

from __future__ import annotations

import pytest

from airflow_prs.errors import SupersededError
from airflow_prs.records import Limits, Ruling, Verdict
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.run_log import Abort, AbortKind, RunLog, RunRecord, RunRecordKind
from airflow_prs.run_folder.shard_records import Epoch
from airflow_prs.store.memory import MemoryStore

VERDICT = Verdict(ruling=Ruling.ABORT, threshold="error_threshold", limit=0, count=2, reason="2 of 10 items failed")


@pytest.fixture
def store():
    return MemoryStore()


def abort(log, epoch, author="gatekeeper", kind=AbortKind.THRESHOLD):
    record = RunRecord(kind=RunRecordKind.ABORT, author=author, abort=Abort(verdict=VERDICT, epoch=epoch, kind=kind))
    return log.append(lambda: record)


def follow(store):
    log = RunLog(store)
    log.follow()
    return log


def open_gatekeeper(store, *, try_number=1, has_trigger=True, **values):
    return RunLog(store).open_gatekeeper(TaskTry(try_number=try_number, **values), has_trigger=has_trigger)


def test_without_an_abort_nobody_is_bound(store):
    log = follow(store)
    assert log.binding(Epoch(0, 0)) is None
    assert log.aborted is None


def test_an_abort_binds_its_epoch_and_older_ones(store):
    abort(RunLog(store), Epoch(1, 1))
    log = follow(store)
    assert log.aborted == Epoch(1, 1)
    for bound in (Epoch(0, 5), Epoch(1, 0), Epoch(1, 1)):
        assert log.binding(bound).verdict == VERDICT
    for free in (Epoch(1, 2), Epoch(2, 0)):
        assert log.binding(free) is None


def test_the_oldest_abort_that_binds_is_the_reason(store):
    for epoch in (Epoch(0, 1), Epoch(0, 3), Epoch(0, 2)):
        abort(RunLog(store), epoch)
    log = follow(store)
    assert log.aborted == Epoch(0, 3)
    assert log.binding(Epoch(0, 1)).epoch == Epoch(0, 1)
    assert log.binding(Epoch(0, 2)).epoch == Epoch(0, 3)


def test_a_cancel_ends_a_drain(store):
    abort(RunLog(store), Epoch(0, 1), kind=AbortKind.DRAIN)
    assert follow(store).binding(Epoch(0, 1)).is_drain
    abort(RunLog(store), Epoch(0, 1), kind=AbortKind.CANCEL)
    assert not follow(store).binding(Epoch(0, 1)).is_drain
    assert follow(store).binding(Epoch(0, 2)) is None


def test_the_newest_limits_apply(store):
    for limit in (3, 5):
        record = RunRecord(kind=RunRecordKind.LIMITS, author="plan", limits=Limits(error_threshold=limit))
        RunLog(store).append(lambda record=record: record)
    abort(RunLog(store), Epoch(0, 0))
    assert follow(store).limits == Limits(error_threshold=5)


def test_whoever_finds_another_record_decides_again(store):
    log, seen = RunLog(store), []

    def make():
        if not seen:
            abort(RunLog(store), Epoch(0, 0), "host-1-1")
        seen.append([record.author for record in log.records])
        return RunRecord(kind=RunRecordKind.LIMITS, author="plan", limits=Limits())

    log.append(make)
    assert seen == [[], ["host-1-1"]]
    assert [record.author for record in follow(store).records] == ["host-1-1", "plan"]


# The attempts of the gatekeeper


def test_a_try_of_the_gatekeeper_that_is_executed_again_keeps_its_epoch(store):
    first = open_gatekeeper(store)
    abort(RunLog(store), Epoch(0, 0))
    assert open_gatekeeper(store, clear_number=3) == first
    assert first.epoch == Epoch(0, 0)
    assert len(follow(store).records) == 2


def test_a_retry_has_the_epoch_of_the_try_before(store):
    open_gatekeeper(store)
    assert open_gatekeeper(store, try_number=2).epoch == Epoch(0, 0)


def test_a_cleared_gatekeeper_has_a_newer_epoch_and_its_retry_the_same(store):
    open_gatekeeper(store)
    assert open_gatekeeper(store, try_number=2, clear_number=1).epoch == Epoch(0, 1)
    assert open_gatekeeper(store, try_number=3, clear_number=1).epoch == Epoch(0, 1)


def test_without_a_number_of_all_clears_another_max_tries_is_a_clear(store):
    open_gatekeeper(store, max_tries=2)
    assert open_gatekeeper(store, try_number=2, max_tries=2).epoch == Epoch(0, 0)
    assert open_gatekeeper(store, try_number=3, max_tries=4).epoch == Epoch(0, 1)
    assert open_gatekeeper(store, try_number=4, max_tries=4).epoch == Epoch(0, 1)
    assert open_gatekeeper(store, try_number=5, max_tries=6, clear_number=1).epoch == Epoch(0, 2)


def test_another_execution_of_plan_begins_a_newer_epoch_with_its_first_try(store):
    open_gatekeeper(store, try_number=5, clear_number=4)
    again = open_gatekeeper(store, execution=1, try_number=1)
    assert again.epoch == Epoch(1, 0)


@pytest.mark.parametrize("later", [{"try_number": 2}, {"execution": 1}])
def test_a_try_that_finds_a_later_one_stops(store, later):
    open_gatekeeper(store)
    open_gatekeeper(store, **later)
    with pytest.raises(SupersededError):
        open_gatekeeper(store)


def test_a_try_without_a_trigger_stays_without_one(store):
    open_gatekeeper(store)
    assert not open_gatekeeper(store, has_trigger=False, clear_number=1).has_trigger
    again = open_gatekeeper(store)
    assert (again.has_trigger, again.epoch) == (False, Epoch(0, 0))
    assert open_gatekeeper(store, try_number=2).has_trigger
