from __future__ import annotations

from airflow_prs.node.work.meter import Meter


def test_what_is_taken_adds_up_to_the_total_although_times_are_rounded():
    meter, total = Meter(), 0

    for _ in range(1000):
        meter.count_try(0.0006, has_failed=False)
        total += meter.take().get("run_ms", 0)

    assert total in {599, 600}


def test_what_was_taken_is_not_returned_again_and_zeros_are_left_out():
    meter = Meter()
    meter.count_staged(5)
    meter.count_try(0.0, has_failed=False)

    assert meter.take() == {"staged_bytes": 5, "tries": 1}
    assert meter.take() == {}
