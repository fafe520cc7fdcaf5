"""What tasks leave for each other comes back by shard."""

from __future__ import annotations

import pytest

from airflow_prs.airflow_side.handover import leave_position, left_positions


class Instance:
    """
    A task instance whose run has positions.

    It returns them as Airflow does: without map indexes those that there are in the order of the map index, and a
    single one without a list; with map indexes one for each.

    :param positions: map index to position.
    """

    def __init__(self, positions):
        self.positions = positions
        self.pulls = 0

    def xcom_pull(self, task_ids, key, map_indexes=...):
        assert (task_ids, key) == ("step.mini_batches", "position")
        self.pulls += 1
        if map_indexes is not ...:
            return [self.positions.get(index) for index in map_indexes]
        found = [self.positions[index] for index in sorted(self.positions)]
        return found[0] if len(found) == 1 else found

    def xcom_push(self, key, value):
        self.pushed = (key, value)


def positions(instance, count):
    return left_positions(instance, "step.mini_batches", range(count))


@pytest.mark.parametrize("left", [{0: 5, 1: 0, 2: 7}, {0: 5}])
def test_positions_of_all_shards_cost_one_pull(left):
    instance = Instance(left)
    assert positions(instance, len(left)) == left
    assert instance.pulls == 1


@pytest.mark.parametrize("left", [{0: 5, 2: 7}, {1: 3}, {}])
def test_shards_that_have_left_none_are_missing(left):
    assert positions(Instance(left), 3) == left


def test_a_run_without_shards_has_no_positions():
    instance = Instance({})
    assert positions(instance, 0) == {}
    assert instance.pulls == 0


def test_what_is_no_number_is_no_position():
    assert positions(Instance({0: "s3://xcoms/1", 1: 3}), 2) == {1: 3}


def test_a_position_is_pushed_as_a_number():
    instance = Instance({})
    leave_position(instance, 12)
    assert instance.pushed == ("position", 12)
