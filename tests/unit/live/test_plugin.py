"""The plugin, which every process of Airflow loads."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

from airflow_prs.airflow_side import run_link, versions
from airflow_prs.live.plugin import ParallelRunPlugin


def test_airflow_finds_the_plugin():
    (point,) = entry_points(group="airflow.plugins", name="parallel_run")
    assert point.load() is ParallelRunPlugin


def test_to_load_it_imports_nothing_of_ours_and_nothing_heavy():
    code = (
        "import sys, airflow.plugins_manager, airflow_prs; before = set(sys.modules); import airflow_prs.live.plugin; "
        "print(sorted(set(sys.modules) - before))"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.splitlines()
    assert found[-1] == "['airflow_prs.live', 'airflow_prs.live.plugin']"


@pytest.fixture
def with_cookie(monkeypatch):
    """Airflow is the first version that accepts the cookie."""
    monkeypatch.setattr(versions, "version", lambda _: "3.1.1")


def test_every_view_has_a_route_of_its_own(with_cookie):
    apps = ParallelRunPlugin().react_apps
    assert len({app["url_route"] for app in apps}) == len(apps)
    assert {app["destination"]: app["name"] for app in apps} == {
        "nav": "Parallel runs",
        "dag_run": "Parallel run",
        "task_instance": "Parallel run",
    }
    # Airflow's UI adds the prefix of its base URL to a relative address alone.
    assert not any(app["bundle_url"].startswith("/") for app in apps)


def test_where_the_api_takes_no_cookie_there_is_a_page_and_no_tab(monkeypatch):
    monkeypatch.setattr(versions, "version", lambda _: "3.1.0")
    assert ParallelRunPlugin().react_apps == []
    assert "upgrade to Airflow 3.1.1" in versions.why_no_tab()
    assert run_link.page_url("d", "r+1", "a.b").endswith("/parallel-run/page?dag_id=d&run_id=r%2B1&step=a.b")


def test_the_link_has_the_prefix_of_airflow(with_cookie, monkeypatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://example.org/airflow/")
    assert run_link.page_url("d", "r+1", "a.b") == "https://example.org/airflow/dags/d/runs/r%2B1/plugin/parallel-run"
