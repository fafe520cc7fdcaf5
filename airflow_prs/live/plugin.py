"""The plugin that adds the page to Airflow. Every Airflow process imports this module, so it imports almost nothing."""

from __future__ import annotations

import logging
from functools import cached_property
from importlib.metadata import version
from typing import Any

from airflow.plugins_manager import AirflowPlugin

URL_PREFIX = "/parallel-run"
_log = logging.getLogger(__name__)


class ParallelRunPlugin(AirflowPlugin):
    """Adds the page "Parallel runs", the tab "Parallel run" of DAG runs and task instances, and what they ask."""

    name = "parallel_run"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """What the page asks for; made in the API server alone."""
        from airflow_prs.live.api import make_app

        return [{"app": make_app(), "url_prefix": URL_PREFIX, "name": "Parallel run"}]

    @cached_property
    def react_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The page in Airflow's navigation and the tabs; none where the browser could not log in with its cookie."""
        from airflow_prs.airflow_side.run_link import TAB
        from airflow_prs.airflow_side.versions import why_no_tab

        if problem := why_no_tab():
            _log.warning("%s", problem)
            return []
        bundle = f"{URL_PREFIX.lstrip('/')}/assets/parallel_run.js?v={version('airflow-prs')}"
        views = [
            ("Parallel runs", "nav", "parallel-runs"),
            ("Parallel run", "dag_run", TAB),
            ("Parallel run", "task_instance", f"{TAB}-task"),
        ]
        return [
            {"name": name, "bundle_url": bundle, "destination": destination, "url_route": route}
            for name, destination, route in views
        ]
