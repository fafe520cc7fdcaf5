"""
Whatever dies or is cleared: no row is lost or doubled, and what was committed does not run again.

A table with a row for each case: what is done to a run, the task states that it ends with, the rows that are published,
and which items ran again. Each row of the table in docs/failures.md, "Clearing", is at least one case. Items 0000 to
0005 are shard 0, the others shard 1. Most cases begin with both shards held: two mini-batches of each are committed,
and the third (0002, 0008) is in run(). In an aborted run 0004 has failed, and 0008 was in run(), perhaps 0005 too.

Several runs are in flight at once, since most of a run's time is waiting.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import psutil
import pytest

from tests.airflow_services import AirflowServices, wait_until, with_luck
from tests.object_servers import serve
from tests.system.step_runs import Place, PlaceOnObjects, StepRun, connected, under_way, write_dag

pytestmark = pytest.mark.system

STORAGES = tuple(os.environ.get("CASES_ON", "disk").split())
"""Where the runs have their input and output: disk, or object storage, which takes longer."""

DAG_ID = "dies_or_is_cleared"
AT_ONCE = 6
CLEAR_TRIES = 3

HELD = {"0002", "0008"}
ALL = {f"{number:04}" for number in range(12)}

SHARD_0, SHARD_1 = ["step.mini_batches", 0], ["step.mini_batches", 1]
SUCCESS = dict.fromkeys(
    ["before", "step.plan", "step.mini_batches[0]", "step.mini_batches[1]", "step.gatekeeper", "step.merge", "after"],
    "success",
)
FAILED_MERGE = {"step.merge": "upstream_failed", "after": "upstream_failed"}
ABORTED = {
    "step.mini_batches[0]": "failed",
    "step.mini_batches[1]": "failed",
    "step.gatekeeper": "failed",
    **FAILED_MERGE,
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """
    A row of the table.

    :param name: what is done, as a test's id.
    :param act: does it, from a triggered run to an ended one.
    :param conf: of the run, besides the number of nodes.
    :param fails: the items at which run() raises.
    :param again: the items that run() got twice; all others got there once.
    :param maybe: the items that may have run once more.
    :param missing: the items whose rows are not published, because their failures are allowed.
    :param states: how the tasks end, where that is not success.
    :param is_slow: whether only `make test-all` runs it.
    """

    name: str
    act: Callable[[StepRun], None]
    conf: Mapping[str, Any] = field(default_factory=dict)
    fails: set[str] = field(default_factory=set)
    again: set[str] = field(default_factory=set)
    maybe: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    states: Mapping[str, str] = field(default_factory=dict)
    is_slow: bool = True

    @property
    def is_published(self) -> bool:
        """Whether there is a result in the end."""
        return self.states.get("step.merge", "success") == "success"


@dataclass(frozen=True, kw_only=True)
class Aborted(Case):
    """A case in which 0004 fails, and no failure is allowed; 0005 may just have been begun by then."""

    conf: Mapping[str, Any] = field(default_factory=lambda: {"allowed": 0, "tries": 1})
    fails: set[str] = field(default_factory=lambda: {"0004"})
    maybe: set[str] = field(default_factory=lambda: {"0005"})


# What is done to processes.


def hold(run: StepRun) -> None:
    """Wait until both shards are in run() of their third mini-batch."""
    for number in (0, 1):
        run.wait_for_shard(number, done=2)
    wait_until(lambda: run.place.ran.keys() >= HELD, run.summary)


def kill_worker_process(run: StepRun) -> None:
    hold(run)
    run.worker_process(0).kill()
    run.finish()


def kill_task_process(run: StepRun) -> None:
    hold(run)
    node = run.task_process(0)
    node.kill()
    # While it is dying its worker process may still be heard, and begin with what it has been handed out ahead.
    wait_for_death(node)
    run.finish_after_kill()


def kill_supervisor(run: StepRun) -> None:
    hold(run)
    node = run.task_process(0)
    node.parent().kill()
    wait_for_death(node)
    run.finish()


def wait_for_death(node: psutil.Process) -> None:
    """Wait until a node is gone."""
    _, alive = psutil.wait_procs([node], timeout=30)
    assert not alive, "the node lives on"


def stop_both_past_the_heartbeat_timeout(run: StepRun) -> None:
    hold(run)
    run.place.hold("0004")
    node = run.task_process(0)
    zombies = [node.parent(), node]
    for process in zombies:
        process.suspend()
    try:
        run.place.release("0002")
        run.wait_for_shard(0, try_number=2, done=4)
    finally:
        for process in zombies:
            with_luck(process.resume)
    _, alive = psutil.wait_procs([node], timeout=60)
    assert not alive, "the node lives on beside its successor"
    run.finish()


def mark_failed(run: StepRun) -> None:
    hold(run)
    node = run.task_process(0)
    run.mark("failed", *SHARD_0)
    _, alive = psutil.wait_procs([node], timeout=60)
    assert not alive, "the node lives on though its task was marked as failed"
    run.finish()


def mark_the_run_failed(run: StepRun) -> None:
    hold(run)
    nodes = [run.task_process(number) for number in (0, 1)]
    run.mark_run("failed")
    _, alive = psutil.wait_procs(nodes, timeout=60)
    assert not alive, "nodes live on though the run was marked as failed"
    # Airflow skips the tasks that have not begun. With SQLite, a scheduler that sees this first says that it succeeded.
    wait_until(lambda: run.state != "running", run.summary)


# What is cleared, and when.


def clear(*tasks: str | list[Any], **options: bool) -> Callable[[StepRun], None]:
    def act(run: StepRun) -> None:
        run.clear(*tasks, **options)

    return act


def while_held(act: Callable[[StepRun], None], *restarted: int) -> Callable[[StepRun], None]:
    """
    Do something to a run that goes on, and let it end.

    :param restarted: the shards that begin another try because of it.
    """

    def act_while_held(run: StepRun) -> None:
        hold(run)
        act(run)
        for number in restarted:
            run.wait_for_shard(number, try_number=2, done=2)
        run.finish()

    return act_while_held


def after_the_end(act: Callable[[StepRun], None], *, is_idle: bool = False) -> Callable[[StepRun], None]:
    """
    Do something to a run that has succeeded, and wait until it has ended again.

    :param is_idle: whether no task is tried again because of it.
    """

    def act_after_the_end(run: StepRun) -> None:
        assert run.finish() == "success", run.summary()
        before = run.tries()
        act(run)
        run.finish()
        assert (run.tries() == before) is is_idle, run.summary()

    return act_after_the_end


def after_the_abort(act: Callable[[StepRun], None]) -> Callable[[StepRun], None]:
    """Let 0004 fail while the other shard is in run(); repair the script, and do something."""

    def act_after_the_abort(run: StepRun) -> None:
        abort(run)
        run.place.repair()
        act(run)
        run.finish()

    return act_after_the_abort


def abort(run: StepRun) -> None:
    hold(run)
    # A shard that is done succeeds: this one has work left.
    run.place.hold("0005")
    run.place.release("0002")
    run.wait_for_end("failed")


def abort_by_the_last_one(run: StepRun) -> None:
    """Let 0005 fail when all others are done, so that both shards succeed, and the gatekeeper fails."""
    hold(run)
    run.place.hold("0005")
    run.place.release("0002", "0008")
    # A node may have taken mini-batches over from the other one.
    wait_until(lambda: sum(run.done(number, 1) for number in (0, 1)) == len(ALL) - 1, run.summary)
    run.place.release("0005")
    run.wait_for_end("failed")


def abort_again(run: StepRun) -> None:
    abort(run)
    run.place.hold("0004")
    SHARDS_ON(run)
    for number, done in ((0, 4), (1, 2)):
        run.wait_for_shard(number, try_number=2, done=done)
    run.place.release("0004")
    run.wait_for_end("failed")
    run.finish()


def clear_plan_alone_while_held(run: StepRun) -> None:
    hold(run)
    run.clear("step.plan")
    run.wait_for_task("step.plan", "success", try_number=2)
    run.finish()


def clear_what_failed_while_the_other_shard_runs(run: StepRun) -> None:
    hold(run)
    run.mark("failed", *SHARD_0)
    run.wait_for_task("step.mini_batches[0]", "failed")
    # A scheduler that is about to say so would say it after the clear, too.
    for task in ("step.merge", "after"):
        run.wait_for_task(task, "upstream_failed", try_number=0)
    run.clear(only_failed=True)
    run.wait_for_shard(0, try_number=2, done=2)
    run.finish()


def after(*acts: Callable[[StepRun], None]) -> Callable[[StepRun], None]:
    """Do one thing after another, and wait until the run has ended again."""

    def act_after(run: StepRun) -> None:
        for act in acts:
            act(run)
        run.finish()

    return act_after


def fail_beside_a_success(run: StepRun) -> None:
    """Let shard 0 end in success although 0004 has failed, and shard 1 fail; repair the script."""
    hold(run)
    run.place.release("0002")
    run.wait_for_task("step.mini_batches[0]", "success")
    run.mark("failed", *SHARD_1)
    run.wait_for_end("failed")
    run.place.repair()


def order(action: str, *options: str) -> Callable[[StepRun], None]:
    """Steer a run with the command `runs`."""

    def act(run: StepRun) -> None:
        assert run.runs_command(action, *options)

    return act


def clear_by_command(action: str) -> Callable[[StepRun], None]:
    """Let the command `runs` find what to clear, and clear it."""

    def act(run: StepRun) -> None:
        api = run.services.api
        with api.one_change:
            # SQLite may be locked, as for any change through the API; then nothing is cleared.
            options = ("--api-url", api.url, "--token", api.token)
            assert any(run.runs_command(action, *options) for _ in range(CLEAR_TRIES))

    return act


def cancel(run: StepRun) -> None:
    hold(run)
    order("cancel")(run)
    run.wait_for_end("failed")


def mark_as(state: str, *tasks: list[Any]) -> Callable[[StepRun], None]:
    """Mark tasks as failed, or as success, which lets Airflow try again what failed behind them."""

    def act(run: StepRun) -> None:
        for task in tasks:
            run.mark(state, *task)

    return act


PLAN_ON = clear("step.plan", downstream=True)
SHARDS_ON = clear("step.mini_batches", downstream=True)

CASES = [
    # What dies.
    Case(name="kill a worker process", act=kill_worker_process, again={"0002"}),
    Case(name="kill the task process of a shard", act=kill_task_process, again={"0002"}),
    Case(name="kill the supervisor of a shard", act=kill_supervisor, again={"0002"}),
    Case(
        name="stop both past the heartbeat timeout and wake them up beside the next try",
        act=stop_both_past_the_heartbeat_timeout,
        again={"0002"},
        # What the zombie begins before it looks at the claims and stops.
        maybe={"0003", "0004"},
    ),
    Case(
        name="mark a running shard as failed",
        act=mark_failed,
        states={"step.mini_batches[0]": "failed", "step.gatekeeper": "failed", **FAILED_MERGE},
    ),
    Case(
        name="mark the gatekeeper as failed while it goes on",
        act=while_held(mark_as("failed", ["step.gatekeeper"])),
        states={"step.gatekeeper": "failed", **FAILED_MERGE},
    ),
    # What is cleared while the run goes on.
    Case(name="clear plan while it goes on", act=while_held(PLAN_ON, 0, 1), again=HELD),
    Case(name="clear plan alone while it goes on", act=clear_plan_alone_while_held),
    Case(name="clear one shard while it goes on", act=while_held(clear(SHARD_0), 0), again={"0002"}),
    Case(name="clear the gatekeeper while it goes on", act=while_held(clear("step.gatekeeper"))),
    Case(name="clear merge while it goes on", act=while_held(clear("step.merge"))),
    Case(name="clear mini_batches while it goes on", act=while_held(SHARDS_ON, 0, 1), again=HELD),
    Case(
        name="clear mini_batches alone while it goes on",
        act=while_held(clear("step.mini_batches"), 0, 1),
        again=HELD,
    ),
    Case(
        name="clear only failed tasks while it goes on",
        act=clear_what_failed_while_the_other_shard_runs,
        again={"0002"},
    ),
    Case(name="clear all tasks while it goes on", act=while_held(clear(), 0, 1), again=HELD),
    Case(name="clear a task outside while it goes on", act=while_held(clear("before"))),
    # What is cleared after a success.
    Case(name="clear plan after a success", act=after_the_end(PLAN_ON), again=ALL),
    Case(name="clear plan alone after a success", act=after_the_end(clear("step.plan"))),
    Case(name="clear one shard after a success", act=after_the_end(clear(SHARD_0))),
    Case(name="clear the gatekeeper after a success", act=after_the_end(clear("step.gatekeeper"))),
    Case(name="clear merge after a success", act=after_the_end(clear("step.merge"))),
    Case(name="clear mini_batches after a success", act=after_the_end(SHARDS_ON)),
    Case(name="clear mini_batches alone after a success", act=after_the_end(clear("step.mini_batches"))),
    Case(name="clear only failed tasks after a success", act=after_the_end(clear(only_failed=True), is_idle=True)),
    Case(name="clear all tasks after a success", act=after_the_end(clear()), again=ALL),
    Case(name="clear the task before after a success", act=after_the_end(clear("before"))),
    Case(name="clear the task behind after a success", act=after_the_end(clear("after"))),
    # What is cleared after a failure.
    Case(
        name="clear mini_batches after a shard was marked as failed",
        act=after(mark_failed, SHARDS_ON),
        again={"0002"},
    ),
    Case(
        name="clear only failed tasks after a shard was marked as failed",
        act=after(mark_failed, clear(only_failed=True)),
        again={"0002"},
    ),
    Case(
        name="clear mini_batches after the run was marked as failed",
        act=after(mark_the_run_failed, SHARDS_ON),
        again=HELD,
    ),
    Case(
        name="clear mini_batches after a shard has succeeded with a failed mini-batch",
        act=after(fail_beside_a_success, SHARDS_ON),
        conf={"tries": 1},
        fails={"0004"},
        again={"0004", "0008"},
    ),
    Case(
        name="clear only failed tasks after a shard has succeeded with a failed mini-batch",
        act=after(fail_beside_a_success, clear(only_failed=True)),
        conf={"tries": 1},
        fails={"0004"},
        again={"0008"},
        missing={"0004"},
    ),
    # What is cleared after an abort.
    Aborted(name="clear plan after an abort", act=after_the_abort(PLAN_ON), again={"0004", "0008"}),
    Aborted(
        name="clear one shard after an abort",
        act=after_the_abort(clear(SHARD_0)),
        again={"0004"},
        states={**ABORTED, "step.mini_batches[0]": "success"},
    ),
    Aborted(
        name="clear one shard with what follows after an abort",
        act=after_the_abort(clear(SHARD_0, downstream=True)),
        again={"0004"},
        states={**ABORTED, "step.mini_batches[0]": "success"},
    ),
    Aborted(
        name="clear the gatekeeper after an abort",
        act=after_the_abort(clear("step.gatekeeper")),
        states=ABORTED,
    ),
    Aborted(name="clear merge after an abort", act=after_the_abort(clear("step.merge")), states=ABORTED),
    Aborted(
        name="clear mini_batches after an abort",
        act=after_the_abort(SHARDS_ON),
        again={"0004", "0008"},
        is_slow=False,
    ),
    Aborted(
        name="clear mini_batches alone after an abort",
        act=after_the_abort(clear("step.mini_batches")),
        again={"0004", "0008"},
        states={"step.gatekeeper": "failed", **FAILED_MERGE},
    ),
    Aborted(
        name="clear mini_batches after an abort whose cause is still there",
        act=abort_again,
        again={"0004"},
        maybe={"0005", "0008"},
        states=ABORTED,
    ),
    Aborted(
        name="clear only failed tasks after an abort",
        act=after_the_abort(clear(only_failed=True)),
        again={"0004", "0008"},
    ),
    Aborted(name="clear all tasks after an abort", act=after_the_abort(clear()), again={"0004", "0008"}),
    Aborted(name="clear the task before after an abort", act=after_the_abort(clear("before")), states=ABORTED),
    Aborted(
        name="mark the gatekeeper as success after an abort",
        act=after_the_abort(mark_as("success", ["step.gatekeeper"])),
        states={**ABORTED, "step.gatekeeper": "success"},
    ),
    Aborted(
        name="mark all but merge as success after an abort",
        act=after_the_abort(mark_as("success", SHARD_0, SHARD_1, ["step.gatekeeper"])),
        states={"step.merge": "failed", "after": "upstream_failed"},
    ),
    # What the command `runs` does.
    Case(name="cancel and resume by command", act=after(cancel, clear_by_command("resume")), again=HELD),
    Aborted(
        name="raise a limit after an abort and resume by command",
        act=after(abort, order("limits", "--error-threshold", "1"), clear_by_command("resume")),
        again={"0004", "0008"},
        missing={"0004"},
    ),
    Case(
        name="raise a limit after an abort with nothing left and publish by command",
        act=after(abort_by_the_last_one, order("limits", "--error-threshold", "1"), clear_by_command("publish")),
        conf={"allowed": 0, "tries": 1},
        fails={"0005"},
        missing={"0005"},
    ),
    Case(
        name="retry by command after a success with a failed mini-batch",
        act=after_the_end(after(lambda run: run.place.repair(), clear_by_command("retry"))),
        conf={"tries": 1},
        fails={"0004"},
        again={"0004"},
    ),
]


# The table.


@dataclass(frozen=True)
class End:
    """What came of a case."""

    run: StepRun
    states: Mapping[str, str | None]


def go_through(services: AirflowServices, case: Case, place: Place) -> End:
    """Trigger a run, do to it what the case says, and look at its end."""
    place.hold(*HELD)
    place.fail(*case.fails)
    try:
        run = StepRun.trigger(services, DAG_ID, place, nodes=2, **case.conf)
        case.act(run)
        return End(run, run.states())
    finally:
        place.release()


@pytest.fixture(scope="module")
def ends(airflow, request, tmp_path_factory) -> Iterator[Mapping[tuple[str, str], Future[End]]]:
    """The ends of all cases that were chosen, on each storage, several under way at once."""
    write_dag(airflow, DAG_ID)
    chosen = [item.callspec.params for item in request.session.items if item.path == request.path]
    jobs = {}
    with connected(airflow, [serve(name) for name in {params["storage"] for params in chosen} - {"disk"}]):
        for params in chosen:
            storage, case = params["storage"], params["case"]
            path = tmp_path_factory.mktemp("case") / "place"
            place = Place(path) if storage == "disk" else PlaceOnObjects(path, serve(storage).place(), has_input=False)
            jobs[storage, case.name] = partial(go_through, airflow, case, place)
        with under_way(airflow, jobs, at_once=AT_ONCE) as futures:
            yield futures


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=[pytest.mark.slow] * case.is_slow) for case in CASES]
)
def test_no_row_is_lost_or_doubled(storage, case, ends):
    end = ends[storage, case.name].result()
    place, summary = end.run.place, end.run.summary()
    assert end.states == {**SUCCESS, **case.states}, summary
    rows = [item for item in place.items if item not in case.missing]
    assert place.result == (rows if case.is_published else None), summary
    counts = {item: place.ran[item] for item in place.items if item not in case.maybe}
    assert {item for item, count in counts.items() if count > 1} == case.again, summary
    assert max(counts.values()) <= 2, summary
    assert 0 not in counts.values() or not case.is_published, summary
