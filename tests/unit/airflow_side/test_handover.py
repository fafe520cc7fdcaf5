"""What tasks find of plan's XCom, also if it is gone or of another kind."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from airflow_prs.airflow_side.exceptions import AirflowFailException
from airflow_prs.airflow_side.handover import Handover, hand_over, last_completed, planned_folder


def instance(value=None, error=None):
    """A task instance that finds a value, or an error, in the XCom of plan."""

    def pull(*_, **__):
        if error is not None:
            raise error
        return value

    return SimpleNamespace(xcom_pull=pull)


def test_what_plan_hands_over_is_found():
    xcoms = {}
    handover = Handover(folder="/out/run", execution=4, mini_batches=1, items=1, shards=1, completed="/out/earlier")
    hand_over(SimpleNamespace(xcom_push=xcoms.__setitem__), handover)
    (value,) = xcoms.values()
    assert str(planned_folder(instance(value), "step.plan").path) == "/out/run"
    assert last_completed(instance(value), "step.plan") == "/out/earlier"


UNUSABLE = {
    "the reference of another XCom backend": instance("xcom/step.plan/plan.json"),
    "another version's": instance({"folder": "/out/run", "mini_batches": 1}),
    "unreadable": instance(error=FileNotFoundError("s3://xcoms/step.plan/plan.json")),
}


@pytest.mark.parametrize("ti", UNUSABLE.values(), ids=UNUSABLE)
def test_there_is_no_reuse_if_what_the_last_run_left_is(ti, caplog):
    with caplog.at_level(logging.WARNING):
        assert last_completed(ti, "step.plan") is None
    assert [record.getMessage()[:10] for record in caplog.records] == ["No reuse: "]


def test_there_is_nothing_to_log_about_a_first_run(caplog):
    assert last_completed(instance(), "step.plan") is None
    assert caplog.records == []


@pytest.mark.parametrize("value", ["xcom/step.plan/plan.json", {"folder": "/out/run", "mini_batches": 1}])
def test_an_xcom_of_another_kind_is_an_error_that_says_to_clear_plan(value):
    with pytest.raises(AirflowFailException, match=r"clear step\.plan"):
        planned_folder(instance(value), "step.plan")


def test_a_task_alone_says_which_run_to_name():
    with pytest.raises(AirflowFailException, match=r"run_id of a run in which step\.plan has succeeded"):
        planned_folder(instance(), "step.plan")
