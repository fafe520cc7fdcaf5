"""Addresses of Airflow's UI, relative to its base URL."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote


def run_page(dag_id: str, run_id: str) -> str:
    """Return the address of the page of a DAG run."""
    return f"dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}"


def task_ref(dag_id: str, run_id: str, task_id: str, map_index: int, try_number: int | None) -> dict[str, Any]:
    """Return a task instance and the address of its log, as the page shows them."""
    page = f"{run_page(dag_id, run_id)}/tasks/{quote(task_id, safe='')}"
    if map_index >= 0:
        page += f"/mapped/{map_index}"
    if try_number is not None:
        page += f"?try_number={try_number}"
    return {"task_id": task_id, "map_index": map_index, "try_number": try_number, "url": page}


def step_api(dag_id: str, run_id: str, step: str) -> str:
    """Return the address of what the page asks about a step."""
    return f"parallel-run/api/dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}/steps/{quote(step, safe='')}"
