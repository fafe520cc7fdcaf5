"""Addresses of Airflow's UI and of the live page, relative to Airflow's base URL."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

PLUGIN = "parallel-run"
"""Of what the page is and asks, and the last part of the address of the tab of a DAG run."""
RUN_ROUTE = "/api/dags/{dag_id}/runs/{run_id}/steps"
STEP_ROUTE = f"{RUN_ROUTE}/{{step}}"
"""What the page asks about a step, below PLUGIN."""


def run_page(dag_id: str, run_id: str) -> str:
    """Return the address of the page of a DAG run."""
    return f"dags/{_quoted(dag_id)}/runs/{_quoted(run_id)}"


def run_tab(dag_id: str, run_id: str) -> str:
    """Return the address of the tab of a DAG run."""
    return f"{run_page(dag_id, run_id)}/plugin/{PLUGIN}"


def own_page(dag_id: str, run_id: str, step: str) -> str:
    """Return the address of the page of its own of a step."""
    return f"{PLUGIN}/page?{urlencode({'dag_id': dag_id, 'run_id': run_id, 'step': step})}"


def task_ref(dag_id: str, run_id: str, task_id: str, map_index: int, try_number: int | None) -> dict[str, Any]:
    """Return a task instance and the address of its log, as the page shows them."""
    page = f"{run_page(dag_id, run_id)}/tasks/{_quoted(task_id)}"
    if map_index >= 0:
        page += f"/mapped/{map_index}"
    if try_number is not None:
        page += f"?try_number={try_number}"
    return {"task_id": task_id, "map_index": map_index, "try_number": try_number, "url": page}


def step_api(dag_id: str, run_id: str, step: str) -> str:
    """Return the address of what the page asks about a step."""
    return PLUGIN + STEP_ROUTE.format(dag_id=_quoted(dag_id), run_id=_quoted(run_id), step=_quoted(step))


def _quoted(name: str) -> str:
    return quote(name, safe="")
