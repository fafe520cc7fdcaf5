"""How far a run is, in the words of the logs."""

from __future__ import annotations

import pytest

from airflow_prs.records import Progress
from airflow_prs.thresholds.pace import Pace

RATE = "2 mini-batches and 20 rows a second, about 4 minutes to go"


@pytest.mark.parametrize(
    ("before", "now", "shown"),
    [
        (
            Progress(total=500),
            Progress(total=500, succeeded=59, failed=1, elements=600),
            f"60 of 500 mini-batches are done, 1 of them failed; {RATE}",
        ),
        (Progress(total=1), Progress(total=1), "0 of 1 mini-batch is done; none was done in the last 30 seconds"),
        (
            Progress(total=2, succeeded=1),
            Progress(total=2, succeeded=2),
            "2 of 2 mini-batches are done, 0 of them failed",
        ),
    ],
)
def test_a_pace_tells_what_is_done_how_fast_and_what_is_left(before, now, shown):
    assert str(Pace(before=before, now=now, seconds=30)) == shown
