"""
What the page asks the API server, and the page itself.

Every answer about a run is behind the permission to read DAG runs of that DAG, every change behind the one to edit them.
A request names a DAG, a run and a step; where something is stored comes from what plan has left, never from a request.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response, status
from fastapi.responses import JSONResponse

from airflow_prs.airflow_side.metadata import newest_steps, read_step, steps_of_run
from airflow_prs.airflow_side.object_storage import refresh_connection
from airflow_prs.airflow_side.page_access import READS_RUN, User, may_edit, may_read_logs, readable_dags
from airflow_prs.airflow_side.step_facts import StepFacts
from airflow_prs.live.pages import serve_pages
from airflow_prs.live.reading import RunReaders, Snapshot, UnreadableError
from airflow_prs.live.view import describe_row, describe_run, describe_unreadable, explain_unreadable

_MOST_ROWS = 100
_READS_AT_A_TIME = 8
_RUN = "/api/dags/{dag_id}/runs/{run_id}/steps"
_STEP = f"{_RUN}/{{step}}"
_readers = RunReaders(refresh_connection)
router = APIRouter(default_response_class=JSONResponse)


def make_app() -> FastAPI:
    """Return the app that Airflow's API server mounts."""
    app = FastAPI(title="Parallel run", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(router)
    serve_pages(app)
    return app


def _check_names(dag_id: str, run_id: str) -> None:
    """Refuse names that mean more than one thing: Airflow's "~" is every DAG."""
    if dag_id == "~" or ".." in run_id:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"no run {run_id!r} of a DAG {dag_id!r}")


_OF_RUN = [READS_RUN, Depends(_check_names)]


def _find_step(dag_id: str, run_id: str, step: str) -> StepFacts:
    facts = read_step(dag_id, run_id, step)
    if facts is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"the run {run_id} of {dag_id} has no parallel step {step!r}")
    return facts


Step = Annotated[StepFacts, Depends(_find_step)]


def read_snapshot(facts: StepFacts) -> Snapshot:
    """
    Return what the run folder of a step shows.

    :raises UnreadableError: if there is none, or this machine cannot read it.
    :raises HTTPException: 404, if it is the folder of another run.
    """
    if facts.handover is None:
        raise UnreadableError(facts.problem)
    snapshot = _readers.of(facts.handover.folder, facts.handover.execution).read()
    identity = snapshot.settings.identity
    is_same = (identity.dag_id, identity.task_id) == (facts.dag_id, facts.step)
    if not is_same or identity.run_id not in facts.run_names:
        raise HTTPException(
            status.HTTP_404_NOT_FOUND, f"what {facts.step}.plan has left belongs to another run; clear {facts.step}.plan"
        )
    return snapshot


@router.get("/api/runs")
def list_runs(user: User, limit: Annotated[int, Query(ge=1, le=_MOST_ROWS)] = 50) -> dict[str, Any]:
    """Return the newest runs that the user may read."""
    return {"runs": _rows(newest_steps(readable_dags(user), limit))}


@router.get(_RUN, dependencies=_OF_RUN)
def list_steps(dag_id: str, run_id: str) -> dict[str, Any]:
    """Return the steps of a run."""
    return {"steps": _rows(steps_of_run(dag_id, run_id))}


def _rows(found: list[StepFacts]) -> list[dict[str, Any]]:
    if not found:
        return []
    with ThreadPoolExecutor(_READS_AT_A_TIME, thread_name_prefix="airflow_prs-page") as threads:
        return list(threads.map(_row, found))


def _row(facts: StepFacts) -> dict[str, Any]:
    try:
        return describe_row(facts, read_snapshot(facts))
    except (UnreadableError, HTTPException):
        return describe_row(facts, None)


@router.get(_STEP, dependencies=_OF_RUN)
def show_step(facts: Step, user: User, request: Request) -> Response:
    """Return everything that the page shows of a step, but the failures."""
    reads_logs, edits = may_read_logs(user, facts.dag_id), may_edit(user, facts.dag_id)
    try:
        shown = describe_run(facts, read_snapshot(facts), may_read_logs=reads_logs)
    except UnreadableError as error:
        shown = describe_unreadable(facts, explain_unreadable(facts, str(error)))
    return answer(request, {**shown, "may_edit": edits, "may_read_logs": reads_logs})


def answer(request: Request, content: Mapping[str, Any]) -> Response:
    """Return content as JSON, or 304 if the page has it already."""
    body = json.dumps(content, ensure_ascii=False).encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(body, media_type="application/json", headers=headers)


