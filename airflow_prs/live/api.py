"""
What the page asks the API server, and the page itself.

Every answer about a run is behind the permission to read DAG runs of that DAG, every change behind the one to edit
them. A request names a DAG, a run and a step; where something is stored comes from what plan has left, never from a
request.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Annotated, Any, Literal, TypeVar

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response, status
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, StrictFloat, StrictInt

from airflow_prs.airflow_side.addresses import RUN_ROUTE, STEP_ROUTE, task_ref
from airflow_prs.airflow_side.metadata import newest_steps, read_step, steps_of_run
from airflow_prs.airflow_side.object_storage import refresh_connection
from airflow_prs.airflow_side.page_access import (
    CHANGES_RUN,
    READS_LOGS,
    READS_RUN,
    User,
    audited,
    may_edit,
    may_read_logs,
    readable_dags,
)
from airflow_prs.airflow_side.step_facts import StepFacts
from airflow_prs.airflow_side.versions import why_no_tab
from airflow_prs.errors import PrsError
from airflow_prs.live.actions import NEEDS_EDIT, refuse_actions
from airflow_prs.live.failures import describe_failures
from airflow_prs.live.pages import serve_pages
from airflow_prs.live.reading import RunReader
from airflow_prs.live.snapshot import Snapshot
from airflow_prs.live.storage_threads import CHANGE_PATIENCE_S, PATIENCE_S, StorageThreads, UnreadableError
from airflow_prs.live.view import describe_row, describe_run, describe_unreadable, explain_unreadable
from airflow_prs.records import LimitName
from airflow_prs.run_folder.committed import find_source
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.run_log import AbortKind
from airflow_prs.run_folder.script_logs import read_script_log
from airflow_prs.steering.clearing import ClearAction, clear_request, tasks_to_clear, what_it_does
from airflow_prs.steering.orders import abort, change_limits
from airflow_prs.steering.steerable import read_steerable
from airflow_prs.step_tasks import PLAN, task_of

_T = TypeVar("_T")

_HEADER = "X-Parallel-Run"
_UNPROCESSABLE = 422
_MOST_ROWS = 100
_READS_AT_A_TIME = 8
_MOST_RUNS = 128
_storage = StorageThreads()


@lru_cache(_MOST_RUNS)
def _reader_of(path: str, execution: int) -> RunReader:
    return RunReader(path, execution, connect=refresh_connection, threads=_storage)


def _keep_private(response: Response) -> None:
    response.headers["Cache-Control"] = "private, no-cache"


router = APIRouter(default_response_class=JSONResponse, dependencies=[Depends(_keep_private)])


def make_app() -> FastAPI:
    """Return the app that Airflow's API server mounts."""
    app = FastAPI(title="Parallel run", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(router)
    app.add_exception_handler(RequestValidationError, _explain_invalid)
    if problem := why_no_tab():
        # Without a header, which a browser does not send by itself, nobody is known here.
        app.add_exception_handler(
            status.HTTP_401_UNAUTHORIZED,
            lambda *_: JSONResponse({"detail": problem}, status.HTTP_401_UNAUTHORIZED),
        )
    serve_pages(app)
    return app


def _explain_invalid(_: Request, error: Exception) -> Response:
    """Return what is wrong with a request as one text, as in all other errors."""
    found = error.errors() if isinstance(error, RequestValidationError) else []
    problems = [f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in found]
    return JSONResponse({"detail": "; ".join(problems)}, _UNPROCESSABLE)


def _check_names(dag_id: str, run_id: str) -> None:
    """Refuse names that mean more than one thing: Airflow's "~" is every DAG."""
    if dag_id == "~" or ".." in run_id:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"no run {run_id!r} of a DAG {dag_id!r}")


def _check_origin(request: Request) -> None:
    """Refuse what a form of another site could send with the user's cookie."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(status.HTTP_415_UNSUPPORTED_MEDIA_TYPE, "send application/json")
    if request.headers.get(_HEADER) != "1":
        raise HTTPException(status.HTTP_400_BAD_REQUEST, f"the header {_HEADER}: 1 is missing")


_OF_RUN = [READS_RUN, Depends(_check_names)]
_CHANGES = [Depends(_check_origin), CHANGES_RUN, Depends(_check_names)]


LimitChanges = dict[LimitName, StrictInt | StrictFloat | None]
"""New limits; those that are left out stay."""


class AbortOrder(BaseModel):
    """How to abort a run."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["drain", "cancel"]


def _find_step(dag_id: str, run_id: str, step: str) -> StepFacts:
    facts = read_step(dag_id, run_id, step)
    if facts is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"the run {run_id} of {dag_id} has no parallel step {step!r}")
    return facts


Step = Annotated[StepFacts, Depends(_find_step)]


def find_reader(facts: StepFacts, deadline: float) -> tuple[RunReader, Snapshot]:
    """
    Return the reader of the run folder of a step, and what the folder shows.

    :param deadline: until when to wait for storage, by the monotonic clock.
    :raises UnreadableError: if there is none, or this machine cannot read it.
    :raises HTTPException: 404, if it is the folder of another run.
    """
    if facts.handover is None:
        raise UnreadableError(facts.problem)
    reader = _reader_of(facts.handover.folder, facts.handover.execution)
    snapshot = reader.read(deadline)
    identity = snapshot.settings.identity
    is_same = (identity.dag_id, identity.task_id) == (facts.dag_id, facts.step)
    if not is_same or identity.run_id not in facts.run_names:
        plan = task_of(facts.step, PLAN)
        raise HTTPException(
            status.HTTP_404_NOT_FOUND,
            f"what {plan} has left belongs to another run; clear {plan}",
        )
    return reader, snapshot


@router.get("/api/runs")
def list_runs(user: User, limit: Annotated[int, Query(ge=1, le=_MOST_ROWS)] = 50) -> dict[str, Any]:
    """Return the newest runs that the user may read."""
    return {"runs": _rows(newest_steps(readable_dags(user), limit))}


@router.get(RUN_ROUTE, dependencies=_OF_RUN)
def list_steps(dag_id: str, run_id: str) -> dict[str, Any]:
    """Return the steps of a run."""
    return {"steps": _rows(steps_of_run(dag_id, run_id))}


def _rows(found: list[StepFacts]) -> list[dict[str, Any]]:
    if not found:
        return []
    row = partial(_row, deadline=_deadline())
    with ThreadPoolExecutor(_READS_AT_A_TIME, thread_name_prefix="airflow_prs-page") as threads:
        return list(threads.map(row, found))


def _row(facts: StepFacts, deadline: float) -> dict[str, Any]:
    if facts.is_published:
        # Merge has left all that a line shows, so that a long list costs no look at the storage.
        return describe_row(facts, None)
    try:
        return describe_row(facts, find_reader(facts, deadline)[1])
    except (UnreadableError, HTTPException):
        return describe_row(facts, None)


@router.get(STEP_ROUTE, dependencies=_OF_RUN)
def show_step(facts: Step, user: User, request: Request) -> Response:
    """Return everything that the page shows of a step, but the failures."""
    reads_logs, edits = may_read_logs(user, facts.dag_id), may_edit(user, facts.dag_id)
    path = facts.handover.folder if facts.handover else "OUTPUT"
    deadline = _deadline()
    try:
        reader, snapshot = find_reader(facts, deadline)
    except UnreadableError as error:
        problem = explain_unreadable(facts, error)
        shown, actions = describe_unreadable(facts, problem), refuse_actions(path, problem)
    else:
        shown = describe_run(facts, snapshot, may_read_logs=reads_logs)
        # Who may change nothing needs no look at all the shards.
        actions = _actions(facts, reader, path, deadline) if edits else {}
    actions = actions if edits else refuse_actions(path, NEEDS_EDIT)
    return answer(request, {**shown, "actions": actions, "may_edit": edits, "may_read_logs": reads_logs})


def _actions(facts: StepFacts, reader: RunReader, path: str, deadline: float) -> dict[str, Any]:
    try:
        return reader.actions(facts.step, facts.states, facts.clear_number, deadline)
    except UnreadableError as error:
        return refuse_actions(path, explain_unreadable(facts, error))


@router.get(f"{STEP_ROUTE}/failures", dependencies=_OF_RUN)
def list_failures(
    facts: Step,
    user: User,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Annotated[int, Query(ge=1, le=_MOST_ROWS)] = 50,
) -> dict[str, Any]:
    """Return failed mini-batches in input order; tracebacks only to those who may read task logs."""
    with readable():
        deadline = _deadline()
        page = find_reader(facts, deadline)[0].failures(offset, limit, deadline)
    return describe_failures(facts, page, has_tracebacks=may_read_logs(user, facts.dag_id))


@router.get(f"{STEP_ROUTE}/logs/{{node}}/{{process}}", dependencies=[*_OF_RUN, READS_LOGS])
def show_log(facts: Step, node: str, process: str) -> Response:
    """Return the ends of the logs of an entry script in one worker process."""
    with readable():
        _, snapshot = find_reader(facts, _deadline())
        text = _storage.call(
            lambda: read_script_log(find_source(snapshot.folder, snapshot.settings), node, process), PATIENCE_S
        )
    if text is None:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"{process} on {node} has written no log in this run")
    headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"}
    return Response(text, media_type="text/plain; charset=utf-8", headers=headers)


@router.post(f"{STEP_ROUTE}/limits", dependencies=[*_CHANGES, Depends(audited("parallel_run_limits"))])
def set_limits(facts: Step, user: User, limits: LimitChanges) -> dict[str, Any]:
    """Change limits of the run; the record in its log names the user."""
    wanted = {str(name): value for name, value in limits.items()}
    with readable():
        what = _change(facts, lambda folder: change_limits(folder, wanted, user.get_name()))
    return {"changed": what}


@router.post(f"{STEP_ROUTE}/abort", dependencies=[*_CHANGES, Depends(audited("parallel_run_abort"))])
def abort_run(facts: Step, user: User, order: AbortOrder) -> dict[str, Any]:
    """Drain or cancel the run; the record in its log names the user."""
    with readable():
        kind, author = AbortKind(order.kind), user.get_name()
        record = _change(facts, lambda folder: abort(folder, kind, author, clear_number=facts.clear_number))
    return {"author": record.author, "at": record.at}


@router.get(f"{STEP_ROUTE}/clearing", dependencies=_OF_RUN)
def plan_clearing(facts: Step, action: ClearAction) -> dict[str, Any]:
    """Return the requests to Airflow's own API that retry, resume or publish the run, with the user's own rights."""
    with readable():
        _, snapshot = find_reader(facts, _deadline())
        run = _storage.call(lambda: read_steerable(snapshot.folder), CHANGE_PATIENCE_S)
        tasks = tasks_to_clear(run, facts.step, action, facts.states)
    call = clear_request(facts.dag_id, facts.run_id, tasks, is_dry=False)
    return {
        "calls": [{"path": call.path, "body": call.body}],
        "tasks": [_task_ref(facts, task_id, index) for task_id, index in tasks],
        "what": what_it_does(action, tasks),
    }


def _change(facts: StepFacts, change: Callable[[RunFolder], _T]) -> _T:
    """
    Change a run folder.

    :raises NoAnswerError: if storage does not answer; the change may have an effect nevertheless.
    """
    reader, snapshot = find_reader(facts, _deadline())
    try:
        return _storage.call(lambda: change(snapshot.folder), CHANGE_PATIENCE_S)
    finally:
        reader.expire()


def _deadline() -> float:
    return time.monotonic() + PATIENCE_S


def _task_ref(facts: StepFacts, task_id: str, index: int | None) -> dict[str, Any]:
    map_index = -1 if index is None else index
    known = facts.tasks.get(task_id, {}).get(map_index)
    return task_ref(facts.dag_id, facts.run_id, task_id, map_index, known.try_number if known else None)


@contextmanager
def readable() -> Iterator[None]:
    """Answer with 409 and the reason where a run folder cannot be read, or the run not be changed."""
    try:
        yield
    except (UnreadableError, OSError, PrsError) as error:
        raise HTTPException(status.HTTP_409_CONFLICT, str(error)) from None


def answer(request: Request, content: Mapping[str, Any]) -> Response:
    """Return content as JSON, or 304 if the page has it already."""
    body = json.dumps(content, ensure_ascii=False).encode()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": tag, "Cache-Control": "private, no-cache"}
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers=headers)
    return Response(body, media_type="application/json", headers=headers)
