"""The plugin that adds the page to Airflow. Every Airflow process imports this module, so it imports almost nothing."""

from __future__ import annotations

import logging
from functools import cached_property
from importlib.metadata import version
from typing import Any

from airflow.plugins_manager import AirflowPlugin

_log = logging.getLogger(__name__)


class ParallelRunPlugin(AirflowPlugin):
    """Adds the page "Parallel runs", the tab "Parallel run" of DAG runs and task instances, and what they ask."""

    name = "parallel_run"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """What the page asks for; made in the API server alone."""
        from airflow_prs.airflow_side.addresses import PLUGIN
        from airflow_prs.live.api import make_app

        return [{"app": make_app(), "url_prefix": f"/{PLUGIN}", "name": "Parallel run"}]

    @cached_property
    def react_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The page in Airflow's navigation and the tabs; none where the browser could not log in with its cookie."""
        from airflow_prs.airflow_side.addresses import PLUGIN
        from airflow_prs.airflow_side.versions import why_no_tab

        if problem := why_no_tab():
            _log.warning("%s", problem)
            return []
        bundle = f"{PLUGIN}/assets/parallel_run.js?v={version('airflow-prs')}"
        views = [
            ("Parallel runs", "nav", "parallel-runs"),
            ("Parallel run", "dag_run", PLUGIN),
            ("Parallel run", "task_instance", f"{PLUGIN}-task"),
        ]
        return [
            {"name": name, "bundle_url": bundle, "destination": destination, "url_route": route}
            for name, destination, route in views
        ]
