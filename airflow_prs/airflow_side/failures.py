"""Our errors as Airflow's: which are tried again, and which are not."""

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
    SupersededError,
)

if TYPE_CHECKING:
    from airflow.sdk import Context

_HOPELESS = (
    ConfigError,
    InputError,
    EntryScriptError,
    EnvironmentBrokenError,
    IncompleteRunError,
    SupersededError,
)
"""Errors that another try would only repeat."""

Callback = Callable[["Context"], Any]


class RunAbortedFailure(AirflowFailException):
    """A shard ended because of a verdict; the gatekeeper is the one to tell of it."""


@contextmanager
def no_retry_where_hopeless() -> Iterator[None]:
    """
    Fail the task at once, with the same text, on errors that another try would only repeat.

    The cause is left out: what matters of it, such as the user's own traceback, stands in the text.
    """
    try:
        yield
    except RunAbortedError as error:
        raise RunAbortedFailure(str(error)) from None
    except _HOPELESS as error:
        raise AirflowFailException(str(error)) from None


def unless_aborted(callbacks: Callback | list[Callback] | None) -> list[Callback]:
    """Wrap callbacks so that a shard calls them only when it failed other than by a verdict: one abort, one message."""
    if callbacks is None:
        return []
    return [_unless_aborted(callback) for callback in (callbacks if isinstance(callbacks, list) else [callbacks])]


def _unless_aborted(callback: Callback) -> Callback:
    def call(context: Context) -> Any:
        if not isinstance(context.get("exception"), RunAbortedFailure):
            return callback(context)
        return None

    return call
