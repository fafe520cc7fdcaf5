"""Which errors of ours Airflow tries again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_prs.airflow_side.exceptions import AirflowFailException
from airflow_prs.errors import (
    ConfigError,
    EntryScriptError,
    EnvironmentBrokenError,
    IncompleteRunError,
    InputError,
    RunAbortedError,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

_HOPELESS = (
    ConfigError,
    InputError,
    EntryScriptError,
    EnvironmentBrokenError,
    IncompleteRunError,
)
"""Errors that another try would only repeat."""

Callback = Callable[["Context"], Any]


class RunAbortedFailure(AirflowFailException):
    """A task failed because of a verdict, which the gatekeeper reports."""


@contextmanager
def no_retry_where_hopeless() -> Iterator[None]:
    """
    Fail the task without a retry, with the same text, on errors that another try would only repeat.

    The cause is left out: the text already contains what matters of it, such as the user's own traceback.
    """
    try:
        yield
    except RunAbortedError as error:
        raise RunAbortedFailure(str(error)) from None
    except _HOPELESS as error:
        raise AirflowFailException(str(error)) from None


def unless_aborted(callbacks: Callback | list[Callback] | None) -> list[Callback]:
    """Return callbacks that a shard does not call if a verdict ended it: one abort is one message."""
    if callbacks is None:
        return []
    return [_unless_aborted(callback) for callback in (callbacks if isinstance(callbacks, list) else [callbacks])]


def _unless_aborted(callback: Callback) -> Callback:
    def call(context: Context) -> Any:
        if not isinstance(context.get("exception"), RunAbortedFailure):
            return callback(context)
        return None

    return call
