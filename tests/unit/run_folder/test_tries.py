"""Failed tries are found by mini-batch."""

from __future__ import annotations

import pytest

from airflow_prs.run_folder.tries import TriesIndex
from tests.unit.run_folder.shard_rig import FIRST, Rig, a_try


@pytest.fixture
def rig(store, tmp_path):
    return Rig(store, tmp_path / "rows")


def find(rig, *places):
    found = TriesIndex(rig.store, rig.shard, rig.content.tries).find(FIRST + place for place in places)
    return {index - FIRST: tries for index, tries in found.items()}


def test_the_tries_of_a_mini_batch_are_found_oldest_first_across_attempts(rig):
    tries = [a_try(place, try_number=number) for number in (1, 2, 3) for place in (4, 0)]
    for number, part in ((1, tries[:3]), (2, tries[3:])):
        rig.commit(rig.open(number), tries=part)
    assert find(rig, 4, 0) == {4: tries[0::2], 0: tries[1::2]}
    assert rig.tries == tries


def test_mini_batches_that_were_not_asked_for_or_did_not_fail_are_left_out(rig):
    rig.commit(rig.open(), tries=[a_try(1), a_try(3)])
    assert list(find(rig, 2, 3)) == [3]


def test_a_shard_without_failed_tries_has_none(rig):
    rig.open()
    assert (find(rig, 0, 1), rig.tries) == ({}, [])


def test_any_text_in_a_failed_try_is_read_back(rig):
    failed = a_try(2, error='a, "b": {}', traceback="line\nline\r\n\u2028 Ω", items=("/a,b:c",))
    rig.commit(rig.open(), tries=[failed, failed])
    assert find(rig, 2) == {2: [failed, failed]}


def test_tries_of_a_loan_are_found_before_and_after_it_is_taken_over(rig):
    attempt = rig.open()
    rig.commit(attempt, tries=[a_try(0)])
    work = rig.lend(attempt, 3, 5)
    rig.commit(work, tries=[a_try(4), a_try(3)])
    assert find(rig, 0, 3, 4) == {0: [a_try(0)], 3: [a_try(3)], 4: [a_try(4)]}
    rig.commit(attempt, taken_over=rig.state.loans)
    assert rig.state.loans == ()
    assert find(rig, 0, 3, 4) == {0: [a_try(0)], 3: [a_try(3)], 4: [a_try(4)]}
