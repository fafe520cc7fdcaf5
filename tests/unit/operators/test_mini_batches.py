"""What a shard leaves for later tasks: how far its log goes, and why it has failed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from airflow_prs.airflow_side.exceptions import AirflowException, AirflowTaskTimeout
from airflow_prs.airflow_side.handover import ERROR_KEY, POSITION_KEY, Handover, hand_over
from airflow_prs.errors import RunAbortedError, RunFolderError, SupersededError
from airflow_prs.operators.mini_batches import MiniBatchesOperator
from airflow_prs.operators.variables import EnvironmentVariables
from tests.makers import commit, make_folder, make_outcome, open_attempt


def make_operator() -> MiniBatchesOperator:
    return MiniBatchesOperator(
        task_id="mini_batches", plan_task_id="plan", variables=EnvironmentVariables({}), shard={"shard": 0}
    )


@contextlib.contextmanager
def handling(handle: Callable[[], None]) -> Iterator[None]:
    """Handle a timeout as Airflow does."""
    try:
        yield
    except AirflowTaskTimeout:
        handle()
        raise


def context_of(folder, xcoms, *, clear_number=None):
    ti = SimpleNamespace(
        dag_id="digits",
        task_id="score.mini_batches",
        try_number=1,
        max_tries=0,
        xcom_push=xcoms.__setitem__,
        xcom_pull=lambda task_id, key, **options: xcoms[key],
    )
    hand_over(ti, Handover(folder=str(folder), execution=6, mini_batches=1, items=1, shards=1))
    return {"ti": ti, "params": {}, "dag_run": SimpleNamespace(clear_number=clear_number)}


def test_a_node_that_cannot_see_the_run_folder_leaves_the_reason_for_the_gatekeeper(tmp_path):
    xcoms = {}
    with pytest.raises(RunFolderError):
        make_operator().execute(context_of(tmp_path / "elsewhere", xcoms))
    assert f"{tmp_path}/elsewhere" in xcoms[ERROR_KEY]


@pytest.mark.parametrize(
    "failure", [None, SupersededError("a later try"), RunAbortedError("too many failed"), OSError()]
)
def test_a_shard_leaves_how_far_its_log_goes_however_it_ends(tmp_path, monkeypatch, failure):
    folder, xcoms = make_folder(tmp_path, 3), {}

    def run_node(request):
        commit(open_attempt(folder), [make_outcome(0)])
        if failure is not None:
            raise failure
        return {}

    monkeypatch.setattr("airflow_prs.node.running.run_node", run_node)
    with contextlib.suppress(Exception):
        make_operator().execute(context_of(folder.path, xcoms))
    assert xcoms[POSITION_KEY]["record"] == 1


def test_a_node_learns_its_epoch_from_plan_and_the_run(tmp_path, monkeypatch):
    folder, requests = make_folder(tmp_path, 3), []
    monkeypatch.setattr("airflow_prs.node.running.run_node", lambda request: requests.append(request) or {})
    make_operator().execute(context_of(folder.path, {}, clear_number=2))
    task_try = requests[0].task_try
    assert (task_try.execution, task_try.clear_number, task_try.try_number) == (6, 2, 1)


def test_a_kill_wakes_whoever_waits_for_the_node_once():
    operator = make_operator()
    with pytest.raises(AirflowException, match="asked this shard to stop"):
        operator.on_kill()
    operator.on_kill()


def test_a_kill_after_the_node_has_ended_replaces_no_reason():
    operator = make_operator()
    with pytest.raises(KeyError):
        operator.execute({})
    operator.on_kill()


def test_a_kill_in_the_handler_of_a_timeout_replaces_no_reason():
    """The timeout may be over before execute() has begun."""
    operator = make_operator()
    with pytest.raises(AirflowTaskTimeout), handling(operator.on_kill):
        raise AirflowTaskTimeout
