"""What prune removes: old runs that have ended, and never what somebody may still need."""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_prs.errors import RunFolderError
from airflow_prs.result.merge import merge_run
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.pruning import DAY_S, HOUR_S, Candidate, choose, find_leftovers, find_scratch, remove
from airflow_prs.run_folder.stored_runs import RunState, StoredRun, stored_runs
from airflow_prs.run_folder.task_log import TaskLog
from airflow_prs.store.files import temporary_name
from airflow_prs.store.posix import PosixStore
from tests.makers import append_execution, do_shard, make_folder, open_attempt

NOW = 1_000_000_000.0
NEVER_PLANNED = {RunState.NOT_PLANNED, RunState.REMOVING, RunState.UNREADABLE}
ENDED = {RunState.COMPLETED, RunState.ABORTED, RunState.FAILED}


class Known(Candidate):
    """A run whose files are known."""

    has_seen_files = False

    def __init__(self, run, changed, reuses):
        super().__init__(run)
        self._measured = (changed, 0, 0)
        self._reuses = reuses

    def reused(self):
        return self._reuses


def make_known(number, *, dag="dag", task="task", state=RunState.COMPLETED, planned=1.0, age=40 * DAY_S, reuses=()):
    place = (dag, f"run{number}", task)
    run = StoredRun(
        path=Path("/out/_parallel_run", *place),
        place=place,
        dag_id=dag,
        run_id=place[1],
        task_id=task,
        state=state,
        planned=planned,
    )
    return Known(run, NOW - age, reuses)


def chosen(candidates, older_than_s=30 * DAY_S, keep=0):
    return [each.run.run_id for each in choose(candidates, older_than_s=older_than_s, keep=keep, now=NOW)]


def test_old_runs_are_removed_and_young_ones_stay():
    assert chosen([make_known(1, age=31 * DAY_S), make_known(2, age=29 * DAY_S)]) == ["run1"]


def test_the_newest_runs_of_each_dag_and_task_stay():
    known = [make_known(number, dag=dag, planned=float(number)) for number in (1, 3, 2) for dag in ("a", "b")]
    assert chosen(known, keep=2) == ["run1", "run1"]


def test_a_run_that_was_never_planned_takes_no_place_of_another():
    assert chosen([make_known(1), make_known(2, planned=0.0, state=RunState.NOT_PLANNED)], keep=1) == ["run2"]


@pytest.mark.parametrize("state", [state for state in RunState if state not in ENDED])
def test_a_run_that_has_not_ended_may_wait_for_a_day(state):
    planned = float(state not in NEVER_PLANNED)
    known = [make_known(n, state=state, age=h * HOUR_S, planned=planned) for n, h in ((1, 23), (2, 25))]
    expected = {RunState.UNREADABLE: [], RunState.REMOVING: ["run1", "run2"]}.get(state, ["run2"])
    assert chosen(known, older_than_s=HOUR_S) == expected


def test_a_run_that_is_reused_stays_as_long_as_who_reuses_it():
    first, second = make_known(1), make_known(2, reuses=[("dag", "run1", "task")])
    third = make_known(3, reuses=[("dag", "run2", "task")], planned=9.0)
    assert chosen([first, second, third]) == ["run1", "run2", "run3"]
    assert chosen([first, second, third], keep=1) == []


def test_the_last_completed_run_stays_if_it_tells_which_files_are_not_new():
    known = [make_known(number, planned=float(number)) for number in (1, 2)]
    known.append(make_known(3, planned=3.0, state=RunState.ABORTED))
    for each in known:
        each.has_seen_files = True
    assert chosen(known) == ["run1", "run3"]


@st.composite
def histories(draw):
    states = draw(st.lists(st.sampled_from(RunState), max_size=8))
    return [
        make_known(
            number,
            dag=draw(st.sampled_from("ab")),
            state=state,
            planned=0.0 if state in NEVER_PLANNED else draw(st.sampled_from([1.0, 2.0, 3.0])),
            age=draw(st.sampled_from([0.5, 2, 23, 25, 100])) * HOUR_S,
            reuses=[
                (draw(st.sampled_from("ab")), f"run{draw(st.integers(0, 7))}", "task")
                for _ in range(draw(st.integers(0, 1)))
            ],
        )
        for number, state in enumerate(states)
    ]


@given(histories(), st.sampled_from([1, 12, 48]), st.integers(0, 3))
def test_what_stays_is_what_a_naive_reading_of_the_rules_keeps(candidates, hours, keep):
    stays = set()
    for each in candidates:
        run = each.run
        age = NOW - each.changed
        rivals = [other for other in candidates if other.run.place[0] == run.place[0] and other.run.planned > 0]
        newer = [o for o in rivals if (o.run.planned, str(o.run.path)) > (run.planned, str(run.path))]
        is_among_newest = run.planned > 0 and len(newer) < keep
        goes_on = age < HOUR_S or (run.state not in ENDED and age < DAY_S)
        if run.state is not RunState.REMOVING and (
            run.state is RunState.UNREADABLE or is_among_newest or goes_on or age < hours * HOUR_S
        ):
            stays.add(run.place)
    removing = {each.run.place for each in candidates if each.run.state is RunState.REMOVING}
    for _ in candidates:
        reused = {place for each in candidates if each.run.place in stays for place in each.reused()}
        stays |= {each.run.place for each in candidates if each.run.place in reused - removing}
    found = {each.run.place for each in choose(candidates, older_than_s=hours * HOUR_S, keep=keep, now=NOW)}
    assert found == {each.run.place for each in candidates} - stays


# On storage


def make_old(output: Path, days: float = 40) -> None:
    """Let all files below an output be old."""
    moment = time.time() - days * DAY_S
    for path in output.rglob("*"):
        os.utime(path, (moment, moment))


def prune(output, older_than_s=30 * DAY_S, keep=0):
    candidates = [Candidate(run) for run in stored_runs(output)]
    found = choose(candidates, older_than_s=older_than_s, keep=keep, now=time.time())
    for each in found:
        remove(each)
    return [each.run.run_id for each in found]


def publish(output, run_id="run 1", **values) -> RunFolder:
    folder = make_folder(output, 2, run_id=run_id, **values)
    do_shard(folder)
    merge_run(folder)
    return folder


def states(output):
    return {run.run_id: run.state for run in stored_runs(output)}


def test_the_states_of_runs(tmp_path):
    publish(tmp_path, "published")
    make_folder(tmp_path, 2, run_id="planned")
    running = make_folder(tmp_path, 4, run_id="running")
    progress = {"total": 4, "succeeded": 2, "failed": 1}
    running.write_status({"at": time.time(), "shards": {"running": 1}, "progress": progress})
    stopped = make_folder(tmp_path, 4, run_id="stopped")
    stopped.write_status({"at": time.time() - 600, "shards": {"running": 1}, "progress": progress})
    aborted = make_folder(tmp_path, 4, run_id="aborted")
    aborted.store.put("report.json", json.dumps({"at": time.time(), "status": "aborted"}).encode())
    damaged = make_folder(tmp_path, 2, run_id="damaged")
    (damaged.path.parent / "log/0000000000").write_bytes(b"no")
    TaskLog(PosixStore(damaged.path.parents[2] / "claimed/score"), "log/").claim_plan()
    assert states(tmp_path) == {
        "published": RunState.COMPLETED,
        "planned": RunState.PLANNED,
        "running": RunState.RUNNING,
        "stopped": RunState.STOPPED,
        "aborted": RunState.ABORTED,
        "damaged": RunState.UNREADABLE,
        "claimed": RunState.NOT_PLANNED,
    }
    found = {run.run_id: run for run in stored_runs(tmp_path)}
    assert [name for name, run in found.items() if run.is_published] == ["published"]
    assert (found["running"].total, found["running"].done, found["running"].failed) == (4, 3, 1)
    assert (found["published"].dag_id, found["published"].task_id) == ("digits", "score")


def test_a_run_that_is_cleared_after_its_report_runs_again(tmp_path):
    folder = publish(tmp_path)
    status = {"at": time.time() + 1, "shards": {"running": 1}, "progress": {"total": 2, "succeeded": 2, "failed": 0}}
    folder.write_status(status)
    assert states(tmp_path) == {"run 1": RunState.RUNNING}


def test_long_names_are_read_from_the_settings(tmp_path):
    make_folder(tmp_path, 2, run_id="long" * 99)
    assert list(states(tmp_path)) == ["long" * 99]


def test_a_place_without_runs_is_an_error(tmp_path):
    with pytest.raises(RunFolderError, match="holds no runs; allowed: the output folder"):
        stored_runs(tmp_path)


def test_a_removed_run_leaves_the_result_and_nothing_else(tmp_path):
    folder = publish(tmp_path)
    folder.open_task_log().claim_plan("crashed")
    (folder.path / "logs").mkdir(exist_ok=True)
    make_old(tmp_path)
    assert prune(tmp_path) == ["run 1"]
    left = ["_parallel_run", "parallel_run_step.txt", "parallel_run_step.txt!published.json"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == left, "more than the result, and whose it is"


def test_the_age_is_that_of_the_last_change(tmp_path):
    folder = make_folder(tmp_path, 2)
    make_old(tmp_path)
    open_attempt(folder)
    assert prune(tmp_path, older_than_s=HOUR_S) == []


def test_a_run_that_another_one_reuses_stays(tmp_path):
    source = publish(tmp_path, "source")
    make_old(tmp_path)
    reusing = make_folder(tmp_path, run_id="reusing", settings={"reused_from": str(source.path)})
    assert prune(tmp_path) == []
    make_old(tmp_path)
    assert prune(tmp_path) == ["source", "reusing"]
    assert not reusing.is_planned


def test_a_run_that_goes_on_meanwhile_stays(tmp_path):
    folder = publish(tmp_path)
    make_old(tmp_path)
    (candidate,) = [Candidate(run) for run in stored_runs(tmp_path)]
    assert choose([candidate], older_than_s=DAY_S, keep=0, now=time.time()) == [candidate]
    append_execution(folder)
    with pytest.raises(RunFolderError, match="goes on, so it stays"):
        remove(candidate)
    assert states(tmp_path) == {"run 1": RunState.COMPLETED}


@pytest.mark.parametrize("operation", ["delete", "delete_folder"])
@pytest.mark.parametrize("calls", range(4))
def test_a_prune_that_is_killed_is_finished_by_the_next(tmp_path, monkeypatch, operation, calls):
    folder = publish(tmp_path)
    make_old(tmp_path)
    real, counted = getattr(PosixStore, operation), iter(range(99))

    def dies(self, argument):
        if next(counted) == calls:
            raise KeyboardInterrupt
        return real(self, argument)

    with monkeypatch.context() as patch:
        patch.setattr(PosixStore, operation, dies)
        try:
            prune(tmp_path)
        except KeyboardInterrupt:
            assert states(tmp_path) == {"run 1": RunState.REMOVING}
            if folder.open_task_log().read():
                with pytest.raises(RunFolderError, match="is removing"):
                    folder.open_task_log().claim_plan()
            # Neither its age nor --keep counts any more.
            assert prune(tmp_path, older_than_s=99 * DAY_S, keep=9) == ["run 1"]
    assert not folder.path.parent.exists()


def test_a_run_that_was_removed_can_be_planned_again(tmp_path):
    publish(tmp_path)
    make_old(tmp_path)
    prune(tmp_path)
    publish(tmp_path)
    assert states(tmp_path) == {"run 1": RunState.COMPLETED}


def test_leftovers_are_temporary_files_older_than_a_day(tmp_path):
    folder = publish(tmp_path)
    old = [temporary_name(tmp_path / "parallel_run_step.txt"), temporary_name(folder.path / "report.json")]
    for path in old:
        path.write_bytes(b"12345")
    theirs = temporary_name(tmp_path / "theirs/file")
    theirs.parent.mkdir()
    theirs.touch()
    (tmp_path / ".not_ours.tmp").touch()
    make_old(tmp_path, 2)
    temporary_name(tmp_path / "parallel_run_step.txt").touch()
    found = list(find_leftovers(tmp_path, time.time()))
    assert sorted((each.path, each.size) for each in found) == sorted((str(path), 5) for path in old)
    for each in found:
        each.remove()
    assert list(find_leftovers(tmp_path, time.time())) == []


def test_local_folders_that_nobody_has_used_for_a_day_are_found(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for name in ("airflow_prs-plan-old", "airflow_prs-plan-used", "airflow_prs-node-old", "mine"):
        (tmp_path / name / "inputs").mkdir(parents=True)
        (tmp_path / name / "inputs/rows").write_bytes(b"12345")
    make_old(tmp_path, 2)
    os.utime(tmp_path / "airflow_prs-plan-used/inputs/rows")
    (found,) = find_scratch(time.time())
    assert found.path == str(tmp_path / "airflow_prs-plan-old")
    assert found.size >= 5
    found.remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["airflow_prs-node-old", "airflow_prs-plan-used", "mine"]
