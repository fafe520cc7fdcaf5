"""A clear is told from a retry by what the installed Airflow counts."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_prs.airflow_side import clears


@pytest.fixture
def count(monkeypatch):
    def count(version, **run):
        monkeypatch.setattr(clears, "version", lambda _: version)
        ti = SimpleNamespace(try_number=1, max_tries=3)
        found = clears.this_try({"dag_run": SimpleNamespace(**run), "ti": ti}, 0)
        return found.clear_number, found.max_tries

    return count


@pytest.mark.parametrize("version", ["3.2.0", "3.3.2", "4.0.0"])
def test_an_airflow_that_counts_every_clear_needs_no_max_tries(count, version):
    assert count(version, clear_number=2) == (2, None)


@pytest.mark.parametrize("version", ["3.1.0", "3.1.8"])
def test_an_airflow_that_counts_only_some_clears_shows_others_by_max_tries(count, version):
    assert count(version, clear_number=2) == (2, 3)


@pytest.mark.parametrize("run", [{}, {"clear_number": None}])
def test_a_run_outside_the_database_was_never_cleared(count, run):
    assert count("3.3.2", **run) == (0, None)
