"""What the page shows, from what Airflow and the run folder know."""

from __future__ import annotations

from dataclasses import replace

import pytest

from airflow_prs.airflow_side.handover import Handover
from airflow_prs.airflow_side.step_facts import StepFacts, TaskFacts
from airflow_prs.live.nodes import describe_nodes, shard_and_try
from airflow_prs.live.pace import describe_bins
from airflow_prs.live.snapshot import Snapshot
from airflow_prs.live.storage_threads import UnreadableError
from airflow_prs.live.view import describe_row, describe_run, describe_unreadable, explain_unreadable
from airflow_prs.node.run_status import RunStatus
from airflow_prs.node.work.status import StatusBoard
from airflow_prs.records import Progress
from airflow_prs.report.reports import write_reports
from tests.makers import do_shard, make_folder, open_attempt

DONE = TaskFacts(state="success", try_number=1, started=1.0, ended=2.0)


def facts_of(folder, **tasks):
    """Return a step whose tasks have succeeded, but for those that are named."""
    states = {"plan": DONE, "mini_batches": DONE, "gatekeeper": DONE, "merge": DONE, **tasks}
    instances = {
        f"score.{task}": fact if isinstance(fact, dict) else {0 if task == "mini_batches" else -1: fact}
        for task, fact in states.items()
    }
    handover = Handover(folder=str(folder.path), execution=1, mini_batches=6, items=12, shards=2)
    return StepFacts(
        dag_id="digits",
        run_id="run 1",
        step="score",
        run_names=frozenset({"run 1"}),
        tasks=instances,
        handover=handover,
    )


def snapshot_of(folder, **values):
    known = {
        "settings": folder.read_settings(),
        "history": folder.open_task_log().read(),
        "status": folder.read_status(),
        "report": folder.read_report(),
    }
    return Snapshot(folder=folder, **{**known, **values})


def working(state="running"):
    return {0: TaskFacts(state=state, try_number=1, started=1.0)}


@pytest.fixture
def running(tmp_path):
    """A run of six mini-batches: the first shard is done, a node works on the second one."""
    import numpy as np

    folder = make_folder(tmp_path, 3, 3, error_threshold=4, allowed_failed_percent=100)
    do_shard(folder, 0, failed=[1])
    second = open_attempt(folder, 1)
    nothing = np.zeros(3, bool)
    for attempt, done in ((None, np.array([True] * 3)), (second, nothing)):
        number = 0 if attempt is None else 1
        shard = folder.read_manifest().shards[number]
        failed = np.array([False, True, False]) if attempt is None else nothing
        board = StatusBoard(
            folder, f"shards/{number:05d}/status.json", shard, 6, f"host-{number}-1", done=done, failed=failed
        )
        at_work = {} if attempt is None else {"process000": (4, 12.0)}
        state = folder.read_shard(shard)
        board.write(state.progress, record=state.number, working=at_work, usage={"cpu_percent": 50, "memory_bytes": 9})
    status = RunStatus(folder, folder.read_manifest())
    status.write([folder.read_shard(shard) for shard in folder.read_manifest().shards], None)
    return folder


def test_a_running_run_is_shown_with_what_each_process_does(running):
    facts = facts_of(running, mini_batches=working(), merge=TaskFacts(state=None))
    shown = describe_run(facts, snapshot_of(running), may_read_logs=False)
    assert (shown["state"], shown["is_live"], shown["tasks"]["mini_batches"], shown["result"]) == (
        "running",
        True,
        {"running": 1},
        None,
    )
    assert {name: shown["progress"][name] for name in ("total", "done", "failed", "running", "waiting")} == {
        "total": 6,
        "done": 3,
        "failed": 1,
        "running": 1,
        "waiting": 2,
    }
    assert shown["bins"] == {
        "count": 6,
        "size": 1.0,
        "done": [1, 1, 1, 0, 0, 0],
        "failed": [0, 1, 0, 0, 0, 0],
        "running": [0, 0, 0, 0, 1, 0],
    }
    assert [(node["node"], node["state"], node["done"], node["failed"]) for node in shown["nodes"]] == [
        ("host-1-1", "running", 0, 0),
        ("host-0-1", "done", 3, 1),
    ]
    assert (shown["nodes"][0]["processes"][0]["mini_batch"], shown["nodes"][0]["processes"][0]["since"]) == (4, 12.0)
    (point,) = shown["history"]
    assert (point["done"], point["cpu_percent"], point["memory_bytes"]) == (3, 50, 9)


def test_thresholds_show_what_is_left_and_no_limit_where_there_is_none(running):
    shown = describe_run(facts_of(running, mini_batches=working()), snapshot_of(running), may_read_logs=False)
    assert [(each["name"], each["limit"], each["counted"], each["left"]) for each in shown["thresholds"]] == [
        ("error_threshold", 4, 2, 2),
        ("allowed_failed_count", None, 1, None),
        ("allowed_failed_percent", None, 16.6667, None),
    ]


@pytest.mark.parametrize(
    ("tasks", "state"),
    [
        ({"mini_batches": working()}, "running"),
        ({"mini_batches": working("up_for_retry")}, "running"),
        ({}, "stopped"),
        ({"mini_batches": working("failed"), "gatekeeper": TaskFacts(state="running")}, "running"),
    ],
)
def test_the_state_of_a_run_without_a_report_is_that_of_its_tasks(running, tasks, state):
    assert describe_row(facts_of(running, **tasks), snapshot_of(running))["state"] == state


def test_a_report_counts_until_a_shard_begins_again(running):
    write_reports(running, running.read_settings(), status="aborted")
    snapshot = snapshot_of(running)
    moment = snapshot.report["at"]
    ended = {0: TaskFacts(state="failed", started=moment - 5, ended=moment - 1)}
    again = {0: TaskFacts(state="failed", started=moment + 5, ended=moment + 9)}
    states = [
        describe_row(facts_of(running, mini_batches=shards), snapshot)["state"]
        for shards in (ended, again, working("running"), working("queued"))
    ]
    assert states == ["aborted", "stopped", "running", "running"]


def test_what_has_not_begun_is_planned_or_not_even_that(tmp_path):
    folder = make_folder(tmp_path, 3, 3)
    waiting = facts_of(folder, mini_batches=working("scheduled"))
    shown = describe_run(waiting, snapshot_of(folder), may_read_logs=True)
    assert (shown["state"], shown["progress"]["total"], shown["progress"]["waiting"], shown["bins"]["count"]) == (
        "planned",
        6,
        6,
        0,
    )
    unplanned = replace(waiting, handover=None)
    assert describe_unreadable(unplanned, "")["state"] == "not planned"
    failed = replace(unplanned, tasks={"score.plan": {-1: TaskFacts(state="failed")}})
    assert describe_unreadable(failed, "")["state"] == "failed"


def test_an_unreadable_folder_still_shows_what_merge_has_left(tmp_path):
    folder = make_folder(tmp_path, 3, 3)
    counts = {
        "mini_batches": {"total": 6, "succeeded": 5, "failed": 1},
        "items": {"total": 12, "succeeded": 10, "failed": 2},
    }
    facts = replace(facts_of(folder), summary={"status": "completed", **counts})
    problem = explain_unreadable(facts, UnreadableError("config.json cannot be seen"))
    shown = describe_unreadable(facts, problem)
    assert (shown["state"], shown["progress"]["failed"], shown["progress"]["items_failed"]) == ("completed", 1, 2)
    assert str(folder.path) in shown["problem"]
    assert "at the same path as on the nodes" in shown["problem"]
    assert describe_unreadable(replace(facts, summary=None), problem)["state"] == "unreadable"


def test_storage_with_an_address_is_connected_and_not_mounted():
    handover = Handover(folder="s3://lake@bucket/out/run", execution=1, mini_batches=6, items=12, shards=2)
    facts = StepFacts(dag_id="d", run_id="r", step="s", run_names=frozenset("r"), handover=handover)
    assert "airflow-prs[s3]" in explain_unreadable(facts, UnreadableError("no connection"))


def test_what_a_node_has_borrowed_is_part_of_that_node(running):
    status = running.read_status()
    loan = {
        **status["nodes"][0],
        "node": "host-0-1",
        "shard": 1,
        "is_loan": True,
        "total": 2,
        "done": 1,
        "mini_batches_per_s": 1.5,
        "processes": {
            "process000": {"mini_batches": 1, "mini_batches_per_s": 1.5, "run_s": 1.0, "mini_batch": 5, "since": 3.0}
        },
    }
    nodes = describe_nodes(facts_of(running), {**status, "nodes": [loan, *status["nodes"]]})
    (borrower,) = [node for node in nodes if node["node"] == "host-0-1"]
    assert (len(nodes), borrower["shard"], borrower["state"], borrower["total"]) == (2, 0, "running", 3)
    assert borrower["loans"] == ["2 mini-batches from shard 1, 1 done."]
    assert [process["mini_batch"] for process in borrower["processes"]] == [5]


@pytest.mark.parametrize(
    ("name", "found"), [("my-host-12-3", (12, 3)), ("host-0-1", (0, 1)), ("odd", (-1, None)), ("a-b-c", (-1, None))]
)
def test_the_name_of_a_node_tells_its_task(name, found):
    assert shard_and_try(name) == found


def test_the_map_of_a_million_mini_batches_is_as_small_as_that_of_four_hundred():
    nodes = [{"state": "running", "processes": {"process000": {"mini_batch": 999_999}}}]
    status = {"bins": {"count": 400, "done": [0] * 400, "failed": [0] * 400}, "nodes": nodes}
    bins = describe_bins(status, 1_000_000)
    assert (bins["size"], len(bins["running"]), bins["running"][399]) == (2500, 400, 1)


def test_progress_of_no_mini_batches_is_no_error(tmp_path):
    folder = make_folder(tmp_path, 1)
    status = {
        "at": 1.0,
        "progress": dict.fromkeys(Progress.__slots__, 0),
        "nodes": [],
        "mini_batches_per_s": 0,
        "bins": {"count": 0, "done": [], "failed": []},
    }
    shown = describe_run(facts_of(folder), snapshot_of(folder, status=status), may_read_logs=False)
    assert (shown["rate"], shown["eta_s"], shown["bins"]["count"]) == (None, None, 0)
