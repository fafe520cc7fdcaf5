"""Numbers in words."""

from __future__ import annotations

import pytest

from airflow_prs.wording import duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.45, "0.5 seconds"),
        (42.2, "42 seconds"),
        (100, "2 minutes"),
        (3600, "1 hour"),
        (4801, "1 hour 20 minutes"),
        (180_000, "2 days 2 hours"),
    ],
)
def test_a_duration_has_one_or_two_units(seconds, words):
    assert duration(seconds) == words
