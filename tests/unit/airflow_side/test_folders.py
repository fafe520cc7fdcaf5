"""Folders that the Airflow installation names."""

from pathlib import Path

import pytest

from airflow_prs.airflow_side.folders import environments_root, run_root
from airflow_prs.errors import ConfigError


def name(monkeypatch, option, value):
    monkeypatch.setenv(f"AIRFLOW__PARALLEL_RUN__{option.upper()}", value)


@pytest.mark.parametrize(
    ("named", "folder"),
    [
        ("/runs", "/runs"),
        ("file:///runs", "/runs"),
        ("s3a://my_aws@bucket/runs", "s3://my_aws@bucket/runs"),
        ("abfs://runs", "abfs://runs"),
    ],
)
def test_run_folders_may_be_on_a_share_or_on_object_storage(monkeypatch, named, folder):
    name(monkeypatch, "run_root", named)
    assert run_root() == folder


@pytest.mark.parametrize("named", ["/envs", "file:///envs"])
def test_environments_are_in_a_local_folder(monkeypatch, named):
    name(monkeypatch, "environments_root", named)
    assert environments_root() == Path("/envs")


def test_both_are_below_the_home_of_airflow_unless_named(monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", "/home/airflow")
    assert run_root() == "/home/airflow/parallel_run"
    assert environments_root() == Path("/home/airflow/parallel_run/environments")


def test_environments_on_object_storage_are_refused(monkeypatch):
    name(monkeypatch, "environments_root", "s3://bucket/envs")
    with pytest.raises(ConfigError, match=r"environments_root is 's3://bucket/envs'; allowed: a local path or a mount"):
        environments_root()


@pytest.mark.parametrize(("option", "read"), [("run_root", run_root), ("environments_root", environments_root)])
def test_a_place_on_another_storage_is_refused(monkeypatch, option, read):
    name(monkeypatch, option, "gs://bucket/runs")
    with pytest.raises(ConfigError, match=rf"\[parallel_run\] {option} is 'gs://bucket/runs'; gs:// is not supported"):
        read()
