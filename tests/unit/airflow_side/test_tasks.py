"""What each task of ours runs in."""

from __future__ import annotations

import pytest

from airflow_prs.airflow_side.exceptions import AirflowFailException
from airflow_prs.airflow_side.tasks import as_task
from airflow_prs.errors import InputError, StorageError
from airflow_prs.object_storage import connecting
from airflow_prs.object_storage.addresses import parse_address
from airflow_prs.operators.merge import MergeOperator
from airflow_prs.operators.mini_batches import MiniBatchesOperator
from airflow_prs.operators.plan import PlanOperator
from airflow_prs.sensors.gatekeeper import GatekeeperSensor


@pytest.fixture(autouse=True)
def nobody_connects(monkeypatch):
    monkeypatch.setattr(connecting, "_connect", connecting._refuse)


def test_a_task_takes_connections_from_airflow_and_repeats_nothing_hopeless():
    bucket = parse_address("s3://missing@bucket").bucket
    with pytest.raises(StorageError, match="nothing has said where credentials come from"):
        connecting.connect_to(bucket)
    context = {"dag_run": None}
    # Where no task runs, Airflow 3.1 cannot look a connection up, which may pass; later versions say that it misses.
    with pytest.raises((AirflowFailException, StorageError), match="Airflow returns no connection 'missing'"):
        as_task(lambda _task, _context: connecting.connect_to(bucket))(None, context)

    def fail(_task, _context):
        raise InputError("the text")

    with pytest.raises(AirflowFailException, match="the text"):
        as_task(fail)(None, context)


@pytest.mark.parametrize(
    "entered", [x.execute for x in (PlanOperator, MiniBatchesOperator, GatekeeperSensor, MergeOperator)]
)
def test_each_task_runs_in_it(entered):
    with pytest.raises(Exception, match=r"."):
        entered(None, {})
    assert connecting._connect is not connecting._refuse
