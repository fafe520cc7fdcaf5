"""How mini-batches are dealt into shards."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.errors import ConfigError
from airflow_prs.plan.shards import deal, even_starts

many = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 10**9)), max_size=60)


def dealt(sizes, *, items=None, node_count=1, per_task=None, max_shards=1024):
    return deal(
        items or [1] * len(sizes), sizes, node_count=node_count, mini_batches_per_task=per_task, max_shards=max_shards
    )


@settings(deadline=None)
@given(many, st.integers(1, 20), st.none() | st.integers(1, 10))
def test_shards_cover_all_mini_batches_once_and_in_order(mini_batches, node_count, per_task):
    items, sizes = [m[0] for m in mini_batches], [m[1] for m in mini_batches]
    shards = dealt(sizes, items=items, node_count=node_count, per_task=per_task)
    covered = [index for shard in shards for index in range(shard.first, shard.end)]
    assert covered == list(range(len(mini_batches)))
    assert [shard.number for shard in shards] == list(range(len(shards)))
    assert all(shard.count > 0 for shard in shards)
    assert [shard.items for shard in shards] == [sum(items[shard.first : shard.end]) for shard in shards]
    assert [shard.size_bytes for shard in shards] == [sum(sizes[shard.first : shard.end]) for shard in shards]


@settings(deadline=None)
@given(st.lists(st.integers(0, 1000), min_size=1, max_size=60), st.integers(1, 20))
def test_no_shard_is_heavier_than_an_even_share_and_one_mini_batch(weights, count):
    starts = even_starts(weights, count)
    assert len(starts) == min(count, len(weights))
    shares = [sum(weights[a:b]) for a, b in zip(starts, [*starts[1:], len(weights)], strict=True)]
    assert max(shares) <= sum(weights) / len(starts) + max(weights)


def test_a_heavy_mini_batch_stands_alone():
    assert [shard.count for shard in dealt([1, 1, 1, 1, 100, 1, 1], node_count=3)] == [4, 1, 2]


def test_without_sizes_the_items_weigh():
    assert [shard.count for shard in dealt([0, 0, 0, 0], items=[30, 10, 10, 10], node_count=2)] == [1, 3]


def test_there_are_never_more_shards_than_mini_batches():
    assert len(dealt([5, 5], node_count=7)) == 2


def test_mini_batches_per_task_is_how_many_a_shard_takes():
    assert [shard.count for shard in dealt([100, 1, 1, 1, 1], node_count=9, per_task=2)] == [2, 2, 1]


def test_no_mini_batches_make_no_shards():
    assert dealt([], node_count=3) == ()


@pytest.mark.parametrize(("node_count", "per_task"), [(11, None), (1, 1), (1, 2)])
def test_too_many_shards_are_an_error_that_says_what_fits(node_count, per_task):
    with pytest.raises(ConfigError, match="mini_batches_per_task=4 or more"):
        dealt([1] * 40, node_count=node_count, per_task=per_task, max_shards=10)
    assert len(dealt([1] * 40, per_task=4, max_shards=10)) == 10
