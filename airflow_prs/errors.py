"""
Every error that airflow_prs raises on purpose.

    PrsError
    ├── ConfigError               a parameter has a wrong value; lists all problems at once (also a ValueError)
    ├── InputError                the input cannot be listed, read or cut
    │   └── EmptyInputError       a path or pattern matched nothing
    ├── InputChangedError         the input changed while plan read it
    ├── EntryScriptError          the entry script cannot be used: no run(), init() keeps failing, ...
    ├── EnvironmentBrokenError    the chosen Python environment cannot run the worker processes
    ├── RunFolderError            the run folder is not visible, damaged, or written by a newer version
    ├── SupersededError           this attempt is no longer the newest one of its shard
    ├── RunAbortedError           a threshold was exceeded; carries the verdict
    ├── NodeError                 a shard could not do its work
    ├── IncompleteRunError        mini-batches were never tried, so nothing is published
    └── PublicationError          the result could not be put in its place

An error is for the reader of a red box in the Airflow UI: it says which parameter or item, its value, what was
expected, and what to do next.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class PrsError(Exception):
    """Base of all errors that airflow_prs raises on purpose."""


class ConfigError(PrsError, ValueError):
    """
    One or more parameters have a wrong value.

    :param problems: one sentence each, beginning with the parameter's name.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(
            self.problems[0] if len(self.problems) == 1 else "\n- ".join(("wrong values:", *self.problems))
        )


class InputError(PrsError):
    """The input cannot be listed, read or cut into mini-batches."""


class EmptyInputError(InputError):
    """A path or pattern matched nothing, or only empty files."""


class InputChangedError(PrsError):
    """The input changed while plan read it; unlike an InputError, another try may find it at rest."""


class EntryScriptError(PrsError):
    """The entry script cannot be used."""


class EnvironmentBrokenError(PrsError):
    """The chosen Python environment cannot run the worker processes."""


class RunFolderError(PrsError):
    """The run folder is not visible, damaged, or written by a newer version of airflow_prs."""


class SupersededError(PrsError):
    """A newer attempt of the same shard has taken over."""


class RunAbortedError(PrsError):
    """A threshold was exceeded, so the run was aborted."""


class NodeError(PrsError):
    """A shard could not do its work: its worker processes keep failing to start, or storage is gone."""


class IncompleteRunError(PrsError):
    """Mini-batches were never tried, or a shard failed for good; nothing is published."""


class PublicationError(PrsError):
    """The result could not be put in its place; what stood there before is untouched."""
