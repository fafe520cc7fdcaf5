"""What counts of a run is read once, and not before the storage shows what its shards have written."""

from __future__ import annotations

import pytest

from airflow_prs.errors import RunFolderError
from airflow_prs.run_folder.committed import read_committed
from airflow_prs.run_folder.log import LAG_S
from tests.makers import commit, do_shard, make_folder, make_outcome, open_attempt


class Waiting:
    """
    Counts for how many seconds somebody waits.

    :param at: seconds to what happens then.
    """

    def __init__(self, at=None):
        self.seconds = 0.0
        self._at = at or {}

    def sleep(self, seconds):
        self.seconds += seconds
        for when in [when for when in self._at if when <= self.seconds]:
            self._at.pop(when)()


def read(folder, at_least, waiting):
    return read_committed(folder, folder.read_manifest(), at_least, sleep=waiting.sleep)


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path, 2, 2)


def test_nobody_waits_for_what_can_be_seen(folder):
    do_shard(folder, 0)
    last = folder.read_shard(folder.read_manifest().shards[0]).number
    waiting = Waiting()
    assert read(folder, {0: last}, waiting).positions == {0: last, 1: -1}
    assert read(folder, {0: last - 1}, waiting).positions == {0: last, 1: -1}
    assert waiting.seconds == 0


def test_records_that_storage_shows_late_are_waited_for(folder):
    attempt = open_attempt(folder, 1)
    later = {20: lambda: commit(attempt, [make_outcome(2)]), 60: lambda: do_shard(folder, 0)}
    waiting = Waiting(later)
    committed = read(folder, {0: 4, 1: 1}, waiting)
    assert committed.progress.done == 3
    assert 60 <= waiting.seconds < 65


def test_storage_that_lags_for_too_long_is_an_error_that_names_the_mount_option(folder):
    open_attempt(folder, 1)
    waiting = Waiting()
    with pytest.raises(RunFolderError) as caught:
        read(folder, {1: 7}, waiting)
    text = str(caught.value)
    assert "shard 1 has written record 7 of its log" in text
    assert "sees only record 0" in text
    assert "lookupcache=none" in text
    assert LAG_S <= waiting.seconds < LAG_S + 5


def test_an_error_about_several_shards_says_how_many_there_are(folder):
    with pytest.raises(RunFolderError, match=r"shard 0 and 1 more has written record 3 .* sees no record"):
        read(folder, {0: 3, 1: 3}, Waiting())
