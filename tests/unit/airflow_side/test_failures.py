"""What Airflow is told of our errors."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest

import airflow_prs
from airflow_prs.airflow_side.exceptions import AirflowFailException
from airflow_prs.airflow_side.tasks import as_task
from airflow_prs.errors import (
    ConfigError,
    EmptyInputError,
    EntryScriptError,
    EnvironmentBrokenError,
    IncompleteRunError,
    InputChangedError,
    NodeError,
    PublicationError,
    RunAbortedError,
    RunFolderError,
    StorageError,
    StorageRefusedError,
    SupersededError,
)
from airflow_prs.report.summary import summary_of

HOPELESS = [
    EmptyInputError,
    EntryScriptError,
    EnvironmentBrokenError,
    IncompleteRunError,
    RunAbortedError,
    StorageRefusedError,
]


class Task:
    """An operator whose execute() raises an error."""

    def __init__(self, error):
        self.error = error

    @as_task
    def execute(self, _context):
        def deep():
            raise self.error from OSError("an answer of the client")

        deep()


def run(error, logical_date=None):
    pushed = {}
    ti = SimpleNamespace(xcom_push=pushed.__setitem__)
    dag_run = SimpleNamespace(dag_id="letters", logical_date=logical_date)
    context = {"ti": ti, "dag_run": dag_run}
    try:
        Task(error).execute(context)
    except Exception as caught:  # noqa: BLE001 - the one that Airflow gets
        return caught, context, pushed
    raise AssertionError("no error")


@pytest.mark.parametrize("error", HOPELESS)
def test_what_another_try_would_repeat_fails_without_a_retry_and_with_the_same_text(error):
    caught, _, _ = run(error("the text"))
    assert (type(caught), str(caught)) == (AirflowFailException, "the text")


def test_a_wrong_value_fails_without_a_retry():
    caught, _, _ = run(ConfigError(["a is 1", "b is 2"]))
    assert (type(caught), str(caught)) == (AirflowFailException, "wrong values:\n- a is 1\n- b is 2")


@pytest.mark.parametrize(
    "error", [InputChangedError, NodeError, RunFolderError, PublicationError, StorageError, SupersededError, OSError]
)
def test_what_may_pass_is_left_to_airflows_retries(error):
    caught, _, _ = run(error("storage is gone"))
    assert type(caught) is error


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 keeps the frames of an exception that is re-raised")
@pytest.mark.parametrize("error", [RunAbortedError, NodeError, StorageError])
def test_a_traceback_has_neither_our_frames_nor_what_the_error_came_from(error):
    caught, _, _ = run(error("the text"))
    shown = "".join(traceback.format_exception(caught))
    assert str(Path(airflow_prs.__file__).parent) not in shown
    assert "in deep" not in shown
    assert "an answer of the client" not in shown
    assert shown.endswith("Exception: the text\n" if error is RunAbortedError else f"{error.__name__}: the text\n")


def test_a_bug_of_ours_keeps_its_traceback():
    caught, _, _ = run(KeyError("bug"))
    assert "in deep" in "".join(traceback.format_exception(caught))


def test_the_error_that_ends_a_run_ends_with_the_headline_and_leaves_the_summary():
    error = RunAbortedError("The run was aborted.\n\nWhat to do next:\n- clear plan")
    error.summary = {"headline": "aborted: 4 of 12 items failed"}
    caught, context, pushed = run(error)
    assert str(caught).splitlines()[-1] == "aborted: 4 of 12 items failed"
    assert summary_of(context) == error.summary == pushed["summary"]


def test_an_error_of_a_single_shard_leaves_no_summary():
    _, context, pushed = run(NodeError("init() failed"))
    assert summary_of(context) is None
    assert not pushed
