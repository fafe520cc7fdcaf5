"""A server of the live page without Airflow: the page's real files, and answers that a test writes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from airflow_prs.live.api import answer
from airflow_prs.live.pages import serve_pages
from tests.airflow_services import free_port, wait_until

NOW = 1_790_000_000
PREFIX = "/team/airflow"
RUN = {"dag_id": "score_letters", "run_id": "manual__2026-09-21T12:00:00+00:00", "step": "score"}
_COLUMNS = 400

# What Airflow's UI does with a plugin: it imports the module, and renders the function that it finds.
_HOST = """<!doctype html><html lang="en" class="{theme}"><head><base href="{prefix}/"><title>Airflow</title>
<link rel="icon" href="data:,"></head><body><div id="root"></div><script type="module">
let cleanup, place = {{ current: null }};
globalThis.React = {{
  useRef: () => place,
  useEffect: (effect) => queueMicrotask(() => {{ cleanup = effect(); }}),
  createElement: (tag, {{ ref, ...props }}) => (ref.current = Object.assign(document.createElement(tag), props)),
}};
await import(new URL("parallel-run/assets/parallel_run.js?v=1", document.baseURI));
const query = Object.fromEntries(new URLSearchParams(location.search));
document.getElementById("root").append(globalThis.AirflowPlugin(query));
globalThis.leave = () => cleanup();
</script></body></html>"""


@dataclass
class Answers:
    """
    What the server answers, and what it was asked.

    :ivar step: the overview of the step, or a pair of status and detail.
    :ivar refused: paths of requests that change something, with status and detail.
    :ivar asked: the path of each request for data, in order.
    :ivar sent: path and body of each request that changes something, in order.
    """

    step: Any = None
    steps: list[dict[str, Any]] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    failures: list[dict[str, Any]] = field(default_factory=list)
    airflow_state: str = "running"
    refused: dict[str, tuple[int, str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    sent: list[tuple[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class PageServer:
    """A running server."""

    url: str
    answers: Answers

    def page(self, *, host: str = "page", **query: str) -> str:
        """Return the address of the page of the run."""
        names = {"dagId": "dag_id", "runId": "run_id"} if host == "page" else {}
        chosen = {"dagId": RUN["dag_id"], "runId": RUN["run_id"], **query}
        text = "&".join(f"{names.get(name, name)}={value.replace('+', '%2B')}" for name, value in chosen.items())
        return f"{self.url}/{'parallel-run/page' if host == 'page' else host}?{text}"


@contextmanager
def page_server() -> Iterator[PageServer]:
    """Run a server, and end it."""
    answers = Answers()
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(_make_app(answers), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, "the server of the page", every=0.02)
        yield PageServer(f"http://127.0.0.1:{port}{PREFIX}", answers)
    finally:
        server.should_exit = True
        thread.join()


def _make_app(answers: Answers) -> FastAPI:
    plugin, airflow = FastAPI(), FastAPI()
    serve_pages(plugin)
    plugin.include_router(_plugin)
    airflow.mount(f"{PREFIX}/parallel-run", plugin)
    airflow.include_router(_airflow, prefix=PREFIX)
    plugin.state.answers = airflow.state.answers = answers
    return airflow


_DAG_RUN = "/api/v2/dags/{_dag}/dagRuns/{_run}"
_STEPS = "/api/dags/{_dag}/runs/{_run}/steps"
_plugin, _airflow = APIRouter(), APIRouter()


def _look(request: Request, content: Any) -> Response:
    answers = request.app.state.answers
    answers.asked.append(request.url.path.removeprefix(f"{PREFIX}/"))
    if isinstance(content, tuple):
        return JSONResponse({"detail": content[1]}, content[0])
    return answer(request, content)


@_plugin.get("/api/runs")
def _runs(request: Request) -> Response:
    return _look(request, {"runs": request.app.state.answers.runs})


@_plugin.get(_STEPS)
def _steps(request: Request) -> Response:
    return _look(request, {"steps": request.app.state.answers.steps or [{**RUN, "state": "running"}]})


@_plugin.get(f"{_STEPS}/{{_step}}")
def _overview(request: Request) -> Response:
    return _look(request, request.app.state.answers.step)


@_plugin.get(f"{_STEPS}/{{_step}}/failures")
def _failures(request: Request, offset: int, limit: int) -> Response:
    failures = request.app.state.answers.failures
    return _look(request, {"total": len(failures), "failures": failures[offset : offset + limit]})


@_plugin.get(f"{_STEPS}/{{_step}}/clearing")
def _clearing(request: Request, action: str) -> Response:
    return _look(request, clearing_of(action))


@_plugin.post(f"{_STEPS}/{{_step}}/limits")
@_plugin.post(f"{_STEPS}/{{_step}}/abort")
@_airflow.post("/api/v2/dags/{_dag}/clearTaskInstances")
async def _change(request: Request) -> Response:
    answers = request.app.state.answers
    path = request.url.path.removeprefix(f"{PREFIX}/")
    assert request.headers["X-Parallel-Run"] == "1"
    answers.sent.append((path, await request.json()))
    for end, (status, detail) in answers.refused.items():
        if path.endswith(end):
            return JSONResponse({"detail": detail}, status)
    return JSONResponse({"changed": "error_threshold 10 -> 20", "author": "ada", "at": NOW})


@_airflow.get(_DAG_RUN)
def _dag_run(request: Request) -> Response:
    return _look(request, {"state": request.app.state.answers.airflow_state})


@_airflow.get("/{theme}")
def _host(theme: str) -> HTMLResponse:
    return HTMLResponse(_HOST.format(theme=theme, prefix=PREFIX))


def clearing_of(action: str) -> dict[str, Any]:
    """Return what an action clears."""
    names = {"retry": [0, 2], "resume": [1], "publish": []}[action]
    tasks = [task_ref(f"{RUN['step']}.mini_batches", number) for number in names]
    tasks += [task_ref(f"{RUN['step']}.{name}") for name in ("gatekeeper", "merge")]
    ids = [[task["task_id"], task["map_index"]] if task["map_index"] >= 0 else task["task_id"] for task in tasks]
    call = {"path": f"api/v2/dags/{RUN['dag_id']}/clearTaskInstances", "body": {"task_ids": ids}}
    return {"calls": [call], "tasks": tasks, "what": f"Clears what {action} needs."}


def task_ref(task_id: str, map_index: int = -1, try_number: int = 1) -> dict[str, Any]:
    """Return a task instance as the page's server shows it."""
    address = f"dags/{RUN['dag_id']}/runs/{RUN['run_id']}/tasks/{task_id}"
    return {"task_id": task_id, "map_index": map_index, "try_number": try_number, "url": address}


def overview(state: str = "running", **changes: Any) -> dict[str, Any]:
    """
    Return the answer about a step.

    :param state: of the run.
    :param changes: ``total``, ``done``, ``failed`` and ``running`` mini-batches; parts of the answer.
    """
    is_live = state in {"running", "planned"}
    counts = {name: changes.pop(name, default) for name, default in _COUNTS.items()}
    if not is_live:
        counts["running"] = 0
    total, done, failed, running = counts.values()
    return {
        **RUN,
        "state": state,
        "at": NOW,
        "is_live": is_live,
        "may_edit": True,
        "may_read_logs": True,
        "problem": None,
        "xcom": None,
        "command": "airflow-prs show /data/scores",
        "progress": {
            "total": total,
            "done": done,
            "succeeded": done - failed,
            "failed": failed,
            "running": running,
            "waiting": total - done - running,
            "retrying": min(2, total - done - running),
            "items_total": 50 * total,
            "items_succeeded": 50 * (done - failed),
            "items_failed": 50 * failed,
        },
        "rate": 3.4 if done else None,
        "eta_s": (total - done) / 3.4 if is_live and done else None,
        "began": NOW - 150,
        "ended": None if is_live else NOW - 20,
        "seconds": 150 if is_live else 130,
        "bins": _bins(total, done, failed, running),
        "history": _history(done, failed),
        "nodes": _nodes(total, done, failed, running),
        "thresholds": [
            _threshold("error_threshold", 250, 50 * failed, "items"),
            _threshold("allowed_failed_count", 5, failed, "mini-batches"),
            _threshold("allowed_failed_percent", None, 100 * failed / total, "percent"),
        ],
        "abort": None,
        "changes": [],
        "last_failures": [
            {
                "mini_batch": 243,
                "try": 1,
                "status": "RUN_TIMEOUT",
                "error": "60 s",
                "node": _NODES[2],
                "process": "process002",
            }
            | {"at": NOW - 4}
        ],
        "skew": [
            {"node": node, "mini_batches": done // 3 + number, "run_s": 180 + 9 * number, "mean_s": 1.4}
            for number, node in enumerate(_NODES)
        ],
        "slowest": [
            {"mini_batch": 17 + 31 * n, "seconds": 9.4 / (n + 1) + 1, "node": _NODES[n % 3], "process": "process001"}
            for n in range(5)
        ],
        "configuration": [
            {"name": "error_threshold", "value": 250, "is_promoted": True},
            {"name": "mini_batch_size", "value": 50, "is_promoted": False},
            {"name": "node_count", "value": 3, "is_promoted": True},
        ],
        "result": None,
        "actions": actions(state, failed),
        **changes,
    }


_NODES = [f"worker-{number}-{number}-1" for number in range(3)]
_COUNTS = {"total": 500, "done": 312, "failed": 3, "running": 12}


def actions(state: str, failed: int) -> dict[str, Any]:
    """Return what a reader can do in a state."""
    is_live = state in {"running", "planned"}
    command = "airflow-prs runs"

    def action(name: str, can: bool, does: str, why_not: str) -> dict[str, Any]:
        return {"can": can, "why": does if can else why_not, "command": f"{command} {name} /data/scores"}

    return {
        "retry": action(
            "retry",
            failed > 0 and not is_live,
            f"{failed} failed mini-batches get fresh tries. The others do not run again.",
            "The run goes on: failed mini-batches can be tried again when it has ended."
            if is_live
            else "Nothing has failed.",
        ),
        "resume": action(
            "resume",
            state in {"aborted", "stopped", "failed"},
            "The run continues where it stopped. Committed mini-batches do not run again.",
            "The run is under way." if is_live else "The run is complete.",
        ),
        "limits": action(
            "limits", state != "completed", "The new limits hold for all nodes from now on.", "The run is complete."
        ),
        "publish": action("publish", state == "aborted", "gatekeeper and merge judge the run again.", "Not now."),
        "drain": action(
            "drain",
            is_live,
            "No mini-batch begins any more. Calls of run() that are in flight finish, and what they return is kept.",
            "The run has ended.",
        ),
        "cancel": action(
            "cancel",
            is_live,
            "All worker processes end now. Calls of run() that are in flight are lost, and run again if you resume.",
            "The run has ended.",
        ),
    }


def failure(
    mini_batch: int, *, tries: int = 3, error: str = "ValueError: cannot read this letter", items: int = 50
) -> dict[str, Any]:
    """Return a failed mini-batch."""
    traceback = (
        "Traceback (most recent call last):\n"
        '  File "/opt/airflow/dags/score.py", line 31, in run\n    return [score(path) for path in mini_batch]\n'
        '  File "/opt/airflow/dags/score.py", line 14, in score\n    raise ValueError("cannot read this letter")\n'
        f"{error}"
    )
    step = f"parallel-run/api/dags/{RUN['dag_id']}/runs/{RUN['run_id']}/steps/score"
    return {
        "mini_batch": mini_batch,
        "items": [f"/data/letters/2026/09/{mini_batch:04}/{number:05}.txt" for number in range(min(items, 20))],
        "item_count": items,
        "tries": [
            {
                "try": number,
                "status": "RUN_EXCEPTION",
                "error": error,
                "traceback": traceback,
                "node": "worker-1-1-1",
                "process": "process002",
                "at": NOW - 60 + 10 * number,
                "seconds": 0.8,
                "log": f"{step}/logs/worker-1-1-1/process002",
                "task": task_ref("score.mini_batches", 1),
            }
            for number in range(1, tries + 1)
        ],
    }


def _threshold(name: str, limit: float | None, counted: float, unit: str) -> dict[str, Any]:
    return {
        "name": name,
        "limit": limit,
        "counted": counted,
        "left": None if limit is None else max(0, limit - counted),
        "unit": unit,
    }


def _bins(total: int, done: int, failed: int, running: int) -> dict[str, Any]:
    """Three shards, each worked off from its beginning."""
    count = total if total <= 100 else min(total, _COLUMNS)
    bins = {name: [0] * count for name in ("done", "failed", "running")}

    def of(number: int) -> int:
        """The bin of the n-th mini-batch that is begun."""
        shard, place = number % 3, number // 3
        return min((shard * total // 3 + place) * count // total, count - 1)

    sizes = [-(-(bin_ + 1) * total // count) - -(-bin_ * total // count) for bin_ in range(count)]
    for number in range(0, done + running, max(1, total // 100_000)):
        weight = min(max(1, total // 100_000), sizes[of(number)])
        name = "done" if number < done else "running"
        bins[name][of(number)] = min(bins[name][of(number)] + weight, sizes[of(number)])
    for number in range(failed):
        where = of((number + 1) * 47 % max(done, 1))
        bins["failed"][where] = min(bins["failed"][where] + 1, bins["done"][where])
    return {"count": count, "size": total / count, **bins}


def _history(done: int, failed: int) -> list[dict[str, Any]]:
    points = 50
    return [
        {
            "at": NOW - 150 + 3 * n,
            "done": done * n // points,
            "failed": failed * n // points,
            "rate": 0 if n < 3 else 3.4 + ((n * 7919) % 13 - 6) / 14,
            "cpu_percent": 12 if n < 3 else 86 + (n * 31) % 11,
            "memory_bytes": (1.1 + min(n, 12) / 8 + ((n * 17) % 5) / 40) * 2**30,
        }
        for n in range(points + 1)
    ]


def _nodes(total: int, done: int, failed: int, running: int) -> list[dict[str, Any]]:
    return [
        {
            "node": f"worker-{node}-{node}-1",
            "shard": node,
            "state": "running" if running else "completed",
            "at": NOW,
            "total": total // 3,
            "done": done // 3,
            "failed": failed if node == 1 else 0,
            "rate": 1.1,
            "loans": ["20 mini-batches from shard 2, 4 done."] if node == 0 and running else [],
            "task": task_ref("score.mini_batches", node),
            "processes": [
                {
                    "process": f"process{number:03}",
                    "mini_batch": 100 * node + 41 + number if node * 4 + number < running else None,
                    "since": NOW - 0.4 - number if node * 4 + number < running else None,
                    "mini_batches": done // 12,
                    "rate": 0.28,
                    "run_s": 41.3,
                }
                for number in range(4)
            ],
        }
        for node in range(3)
    ]
