"""Which mini-batches a page of failures has."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from airflow_prs.live.failures import describe_failures, read_failures
from tests.makers import commit, make_failed_try, make_failure, make_folder, make_outcome, open_attempt

FACTS = SimpleNamespace(dag_id="d", run_id="r", step="score")


@pytest.fixture
def snapshot_of(tmp_path):
    """Return what the page reads of two shards: 0 has failed, 1 and 3 have left an item out, run() was short in 4."""

    def make(*, is_split):
        folder = make_folder(tmp_path, 2, 3, bisect_failed_mini_batches=is_split)
        left_out = {1: "/data/1-1.png", 3: "/data/3-1.png"}
        tries = {
            index: replace(make_failed_try(index), items=(item,), spans=((1, 2),) if is_split else ())
            for index, item in left_out.items()
        }
        commit(open_attempt(folder, 0), [make_failure(0), make_outcome(1, succeeded=1)], [make_failed_try(0), tries[1]])
        commit(
            open_attempt(folder, 1),
            [make_outcome(2), make_outcome(3, succeeded=1), make_outcome(4, succeeded=1)],
            [tries[3]],
        )
        return SimpleNamespace(folder=folder, settings=folder.read_settings())

    return make


def shown(snapshot, offset=0, limit=50):
    page = describe_failures(FACTS, read_failures(snapshot, offset, limit), has_tracebacks=True)
    return page["total"], [(each["mini_batch"], each["items"], each["item_count"]) for each in page["failures"]]


def test_a_mini_batch_that_was_split_is_shown_with_the_items_that_it_has_left_out(snapshot_of):
    snapshot = snapshot_of(is_split=True)
    all_items = ["/data/0-0.png", "/data/0-1.png"]
    expected = [(0, all_items, 2), (1, ["/data/1-1.png"], 1), (3, ["/data/3-1.png"], 1)]
    assert shown(snapshot) == (3, expected)
    assert [shown(snapshot, offset, 1) for offset in range(3)] == [(3, [each]) for each in expected]
    assert shown(snapshot, 3, 1) == (3, [])


def test_where_nothing_is_split_only_mini_batches_that_failed_are_shown(snapshot_of):
    total, failures = shown(snapshot_of(is_split=False))
    assert (total, [index for index, _, _ in failures]) == (1, [0])
