"""The counts of a run are added up from its shards, and judged epoch by epoch."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_prs.records import Limits, Progress, Ruling
from airflow_prs.run_folder.shard_log import ShardState
from airflow_prs.run_folder.shard_records import Claim, Epoch, ShardRecord, Writer
from airflow_prs.thresholds.judging import RunCounts, find_abort
from airflow_prs.thresholds.limits import judge
from tests.makers import make_shards

STRICT = Limits(error_threshold=0)
SHARDS = make_shards(3, 3, 3)
FIRST, SECOND = Epoch(0, 0), Epoch(0, 1)


def state(number, epoch, *, succeeded=0, failed=0):
    """Return the state of a shard of three mini-batches of two items."""
    shard = SHARDS[number]
    progress = Progress(
        total=3,
        handed_out=succeeded + failed,
        succeeded=succeeded,
        failed=failed,
        items_total=6,
        items_succeeded=2 * succeeded,
        items_failed=2 * failed,
    )
    claim = Claim(writer=Writer("id", "host", number), epoch=epoch, try_number=1)
    return ShardState(shard=shard, number=0, record=ShardRecord(claim=claim, progress=progress, granted=shard.end))


def counts_of(*states):
    counts = RunCounts(SHARDS)
    for each in states:
        counts.take(each)
    return counts


def epoch_of(abort):
    return None if abort is None else abort.epoch


def test_a_run_that_has_not_begun_has_totals_alone():
    assert RunCounts(SHARDS).total == Progress(total=9, items_total=18)
    assert find_abort(RunCounts(SHARDS), STRICT, None) is None


def test_failures_of_different_shards_are_judged_together():
    first, second = state(0, FIRST, failed=1), state(1, FIRST, failed=1)
    limits = Limits(error_threshold=2)
    assert find_abort(counts_of(first), limits, None) is None
    abort = find_abort(counts_of(first, second), limits, None)
    assert epoch_of(abort) == FIRST
    assert abort.verdict.reason == "4 of 18 items failed, error_threshold allows 2"


def test_a_state_that_is_taken_again_is_counted_once():
    counts = counts_of(state(0, FIRST, failed=1), state(0, FIRST, succeeded=1, failed=1), state(0, SECOND, succeeded=1))
    assert (counts.total.succeeded, counts.total.failed) == (1, 0)
    assert counts.epochs == [SECOND]


def test_an_epoch_counts_newer_claims_too_and_of_older_ones_the_totals():
    counts = counts_of(state(0, FIRST, failed=1), state(1, SECOND, failed=2))
    assert (counts.since(FIRST).failed, counts.since(FIRST).total) == (3, 9)
    assert (counts.since(SECOND).failed, counts.since(SECOND).total) == (2, 9)


def test_the_newest_epoch_that_exceeds_a_threshold_is_aborted():
    counts = counts_of(state(0, FIRST, failed=1), state(1, SECOND, failed=1))
    assert epoch_of(find_abort(counts, STRICT, None)) == SECOND


def test_a_shard_that_was_cleared_in_mid_run_leaves_the_threshold_to_the_others():
    counts = counts_of(state(0, SECOND), state(1, FIRST, failed=1))
    assert epoch_of(find_abort(counts, STRICT, None)) == FIRST


def test_an_epoch_that_is_aborted_needs_no_other_abort():
    counts = counts_of(state(0, FIRST, failed=1), state(1, SECOND))
    assert find_abort(counts, STRICT, FIRST) is None
    assert find_abort(counts, STRICT, Epoch(1, 0)) is None


def test_an_execution_of_plan_is_newer_than_every_clear_of_the_one_before():
    counts = counts_of(state(0, Epoch(0, 9), failed=1), state(1, Epoch(1, 0)))
    assert find_abort(counts, STRICT, Epoch(0, 9)) is None
    counts.take(state(1, Epoch(1, 0), failed=1))
    assert epoch_of(find_abort(counts, STRICT, Epoch(0, 9))) == Epoch(1, 0)


def test_without_some_shards_their_totals_alone_count():
    counts = counts_of(state(0, FIRST, failed=1), state(1, SECOND, failed=2), state(2, FIRST, succeeded=3))
    left = counts.without([0, 2])
    assert (left.total, left.items_total, left.succeeded, left.failed) == (9, 18, 0, 2)


# A naive reference: everything from scratch, from the words of the rule

EPOCHS = st.builds(Epoch, st.integers(0, 1), st.integers(0, 2))
STATES = st.tuples(st.integers(0, 2), EPOCHS, st.sampled_from([(0, 0), (0, 1), (1, 0), (1, 2), (0, 3), (3, 0)])).map(
    lambda drawn: state(drawn[0], drawn[1], succeeded=drawn[2][0], failed=drawn[2][1])
)
LIMITS = st.builds(
    Limits,
    error_threshold=st.integers(-1, 8),
    allowed_failed_count=st.none() | st.integers(0, 4),
    allowed_failed_percent=st.none() | st.sampled_from([0, 30, 60]),
)


def untouched(shard):
    return ShardState(shard=shard)


def naive_counts(states, counted):
    parts = [each.progress if counted(each) else untouched(each.shard).progress for each in states]
    return sum(parts, Progress())


def naive_abort(states, limits, aborted):
    """Return the epoch of the abort."""
    claimed = {each.epoch for each in states if each.claim is not None}
    for epoch in sorted((each for each in claimed if aborted is None or each > aborted), reverse=True):
        progress = naive_counts(states, lambda each, epoch=epoch: each.claim is not None and each.epoch >= epoch)
        if judge(progress, limits).ruling is Ruling.ABORT:
            return epoch
    return None


@given(st.lists(STATES, max_size=12), LIMITS, st.none() | EPOCHS, st.sets(st.integers(0, 2)))
def test_counts_that_are_kept_up_to_date_are_those_added_up_from_scratch(taken, limits, aborted, left_out):
    counts, newest = RunCounts(SHARDS), {shard.number: untouched(shard) for shard in SHARDS}
    for each in taken:
        counts.take(each)
        newest[each.shard.number] = each
        states = list(newest.values())
        assert counts.states == states
        assert counts.total == naive_counts(states, lambda _: True)
        assert counts.without(left_out) == naive_counts(states, lambda one: one.shard.number not in left_out)
        assert epoch_of(find_abort(counts, limits, aborted)) == naive_abort(states, limits, aborted)


@given(st.lists(STATES, max_size=12), LIMITS)
def test_an_abort_leaves_no_other_one_to_write_for_its_epoch_or_older_ones(taken, limits):
    counts, aborted, written = counts_of(*taken), None, []
    while (abort := find_abort(counts, limits, aborted)) is not None:
        written.append(abort.epoch)
        aborted = abort.epoch if aborted is None else max(aborted, abort.epoch)
    assert len(written) <= 1
