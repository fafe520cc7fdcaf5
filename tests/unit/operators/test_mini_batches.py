"""What a shard leaves for the gatekeeper, which tells why a run has failed."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_prs.airflow_side.exceptions import AirflowException
from airflow_prs.airflow_side.handover import ERROR_KEY, Handover, hand_over
from airflow_prs.errors import RunFolderError
from airflow_prs.operators.mini_batches import MiniBatchesOperator
from airflow_prs.operators.variables import EnvironmentVariables


def make_operator() -> MiniBatchesOperator:
    return MiniBatchesOperator(
        task_id="mini_batches", plan_task_id="plan", variables=EnvironmentVariables({}), shard={"shard": 0}
    )


def test_a_node_that_cannot_see_the_run_folder_leaves_the_reason_for_the_gatekeeper(tmp_path):
    xcoms = {}
    ti = SimpleNamespace(
        id="0",
        try_number=1,
        max_tries=0,
        xcom_push=xcoms.__setitem__,
        xcom_pull=lambda task_id, key, **options: xcoms[key],
    )
    hand_over(ti, Handover(folder=str(tmp_path / "elsewhere"), execution=1, mini_batches=1, items=1, shards=1))
    with pytest.raises(RunFolderError):
        make_operator().execute({"ti": ti})
    assert f"{tmp_path}/elsewhere" in xcoms[ERROR_KEY]


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
