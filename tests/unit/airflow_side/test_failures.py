"""Which errors Airflow tries again."""

from __future__ import annotations

import traceback

import pytest

from airflow_prs.airflow_side.exceptions import AirflowFailException
from airflow_prs.airflow_side.failures import no_retry_where_hopeless
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

HOPELESS = [
    EmptyInputError,
    EntryScriptError,
    EnvironmentBrokenError,
    IncompleteRunError,
    RunAbortedError,
    StorageRefusedError,
]


@pytest.mark.parametrize("error", HOPELESS)
def test_what_another_try_would_repeat_fails_at_once_with_the_same_text(error):
    with pytest.raises(AirflowFailException, match="the text") as caught, no_retry_where_hopeless():
        raise error("the text")
    assert caught.value.__suppress_context__


def test_a_wrong_value_fails_at_once():
    with pytest.raises(AirflowFailException, match="wrong values"), no_retry_where_hopeless():
        raise ConfigError(["a is 1", "b is 2"])


@pytest.mark.parametrize(
    "error", [InputChangedError, NodeError, RunFolderError, PublicationError, SupersededError, OSError]
)
def test_what_may_pass_is_left_to_airflows_retries(error):
    with pytest.raises(error), no_retry_where_hopeless():
        raise error("storage is gone")


def test_an_error_of_object_storage_is_tried_again_and_shows_its_message_without_the_way_to_it():
    def ask():
        raise StorageError("s3://bucket/key: busy") from OSError("an answer of the client")

    with pytest.raises(StorageError) as caught, no_retry_where_hopeless():
        ask()
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.endswith("StorageError: s3://bucket/key: busy\n")
    assert "in ask" not in shown
    assert "an answer of the client" not in shown
