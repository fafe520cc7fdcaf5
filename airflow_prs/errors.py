"""
Every error that airflow_prs raises on purpose.

    PrsError
    ├── ConfigError               parameters have wrong values; lists all problems (also a ValueError)
    ├── InputError                the input cannot be listed, read or cut
    │   └── EmptyInputError       a path or pattern matched nothing
    ├── InputChangedError         the input changed while plan was reading it
    ├── EntryScriptError          the entry script cannot be used: no run(), init() keeps failing, ...
    ├── EnvironmentBrokenError    the chosen Python environment cannot run the worker processes
    ├── RunFolderError            the run folder is not visible, is damaged, or has another version's layout
    │   └── DamagedError          what was committed is damaged or gone
    ├── StorageError              object storage cannot be reached, or refuses a request (also an OSError)
    │   └── StorageRefusedError   another try would be refused too: a wrong connection, a missing bucket, no permission
    ├── SupersededError           a newer attempt of the same shard, merge or plan has taken over
    ├── RunAbortedError           a threshold was exceeded, or a person has stopped the run
    ├── SteeringError             a run is not in the state for what a person orders
    ├── NodeError                 a shard could not do its work
    │   └── StagingError          a local copy of input on object storage cannot be made
    ├── IncompleteRunError        mini-batches were never tried, so nothing is published
    └── PublicationError          the result could not be written to its path

The reader of an error sees a red box in the Airflow UI. So the message names the parameter or item and its value, and
says what was expected and what to do next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class PrsError(Exception):
    """Base of all errors that airflow_prs raises on purpose."""


class ConfigError(PrsError, ValueError):
    """
    One or more parameters have a wrong value.

    :param problems: one sentence for each, which begins with the parameter's name.
    :param step: the id of the step that they belong to; '': it is clear.
    """

    def __init__(self, problems: Sequence[str], *, step: str = "") -> None:
        self.problems = tuple(problems)
        text = self.problems[0] if len(self.problems) == 1 else "\n- ".join(("wrong values:", *self.problems))
        super().__init__(f"step {step!r}: {text}" if step else text)


class InputError(PrsError):
    """The input cannot be listed, read or cut into mini-batches."""


class EmptyInputError(InputError):
    """A path or pattern matched nothing, or only empty files."""


class InputChangedError(PrsError):
    """The input changed while plan was reading it. Unlike after an InputError, another try may succeed."""


class EntryScriptError(PrsError):
    """The entry script cannot be used."""


class EnvironmentBrokenError(PrsError):
    """The chosen Python environment cannot run the worker processes."""


class RunFolderError(PrsError):
    """The run folder is not visible, is damaged, or has the layout of another version of airflow_prs."""


class DamagedError(RunFolderError):
    """What was committed is damaged or gone, so the run folder cannot be continued."""


class StorageError(PrsError, OSError):
    """
    Object storage cannot be reached or refuses a request, or a connection to it is missing or fails.

    :ivar code: the error code of the storage, such as ``PreconditionFailed``; "": it has sent none.
    """

    code = ""


class StorageRefusedError(StorageError):
    """A connection is missing or wrong, a bucket is missing, or the storage permits too little: a person must help."""


class SupersededError(PrsError):
    """A newer attempt of the same shard, merge or plan has taken over."""


class RunAbortedError(PrsError):
    """
    A threshold was exceeded, or a person has stopped the run, so the run was aborted.

    :ivar summary: what came of the run, where the error is the one that ends it; see report.summary.
    """

    summary: Mapping[str, Any] | None = None


class SteeringError(PrsError):
    """A run is not in the state for what a person orders, or the order is wrong; nothing has changed."""


class NodeError(PrsError):
    """A shard could not do its work: its worker processes keep failing to start, or storage is not available."""


class StagingError(NodeError):
    """A local copy of input on object storage cannot be made; the message names the object."""


class IncompleteRunError(PrsError):
    """
    Mini-batches were never tried, or a shard failed after all its retries; nothing is published.

    :ivar summary: what came of the run; see report.summary.
    """

    summary: Mapping[str, Any] | None = None


class PublicationError(PrsError):
    """The result could not be written to its path; an earlier file there is unchanged."""
