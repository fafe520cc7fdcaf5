"""Which errors of ours Airflow tries again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_prs.airflow_side.exceptions import AirflowFailException
from airflow_prs.errors import (
    ConfigError,
    EntryScriptError,
    EnvironmentBrokenError,
    IncompleteRunError,
    InputError,
    RunAbortedError,
    StorageError,
    StorageRefusedError,
)

_HOPELESS = (
    ConfigError,
    InputError,
    EntryScriptError,
    EnvironmentBrokenError,
    IncompleteRunError,
    RunAbortedError,
    StorageRefusedError,
)
"""Errors that another try would only repeat."""


@contextmanager
def no_retry_where_hopeless() -> Iterator[None]:
    """
    Fail the task without a retry, with the same text, on errors that another try would only repeat.

    The cause is left out: the text already contains what matters of it, such as the user's own traceback. Other errors
    of object storage, which another try may not repeat, lose their cause and their traceback for the same reason.
    """
    try:
        yield
    except _HOPELESS as error:
        raise AirflowFailException(str(error)) from None
    except StorageError as error:
        # The message names the object, the reason and what to do; the way through this package would only hide it.
        raise StorageError(str(error)) from None
