"""What tasks leave for each other comes back by shard."""

from __future__ import annotations

import pytest

from airflow_prs.airflow_side.handover import leave_position, left_positions
from tests.makers import make_folder, open_attempt


class Instance:
    """
    A task instance whose run has what shards have left.

    It returns them as Airflow does: those that there are, in the order of the map index; a single one without a list.
    """

    def __init__(self, *left):
        self.left = list(left)

    def xcom_pull(self, task_ids, key):
        assert (task_ids, key) == ("step.mini_batches", "position")
        return self.left[0] if len(self.left) == 1 else self.left

    def xcom_push(self, key, value):
        assert key == "position"
        self.left.append(value)


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, 1, 1, 1)


def leave(instance, folder, number):
    leave_position(instance, folder, folder.read_manifest().shards[number])


@pytest.mark.parametrize("shards", [[0, 1, 2], [0, 2], [1], []])
def test_positions_come_back_by_shard(folder, shards):
    instance = Instance()
    for number in shards:
        open_attempt(folder, number)
        leave(instance, folder, number)
    assert left_positions(instance, "step.mini_batches", folder) == dict.fromkeys(shards, 0)


def test_a_shard_that_has_not_begun_has_a_position_before_its_first_record(folder):
    instance = Instance()
    leave(instance, folder, 1)
    assert left_positions(instance, "step.mini_batches", folder) == {1: -1}


def test_what_was_left_of_another_folder_does_not_count(folder, tmp_path):
    instance = Instance()
    leave(instance, folder, 0)
    other = make_folder(tmp_path, 1, plan="plan-2")
    assert left_positions(instance, "step.mini_batches", other) == {}


def test_what_another_xcom_backend_has_left_is_no_position(folder):
    instance = Instance("s3://xcoms/1", 7)
    leave(instance, folder, 2)
    assert left_positions(instance, "step.mini_batches", folder) == {2: -1}
