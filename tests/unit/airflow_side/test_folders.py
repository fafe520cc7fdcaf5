"""Folders that the Airflow installation names."""

from pathlib import Path

import pytest

from airflow_prs.airflow_side.folders import parallel_run_folder
from airflow_prs.errors import ConfigError


@pytest.mark.parametrize("named", ["/runs", "file:///runs"])
def test_the_setting_names_a_folder(monkeypatch, named):
    monkeypatch.setenv("AIRFLOW__PARALLEL_RUN__RUN_ROOT", named)
    assert parallel_run_folder("run_root") == Path("/runs")


@pytest.mark.parametrize("option", ["run_root", "environments_root"])
def test_a_place_that_is_no_folder_of_a_machine_is_refused(monkeypatch, option):
    monkeypatch.setenv(f"AIRFLOW__PARALLEL_RUN__{option.upper()}", "s3://bucket/runs")
    with pytest.raises(ConfigError, match=rf"\[parallel_run\] {option} is 's3://bucket/runs'; s3:// is not supported"):
        parallel_run_folder(option)
