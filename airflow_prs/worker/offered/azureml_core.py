"""
A replacement for azureml-core in environments without it, with the two calls that many published scripts make.

``Model.get_model_path(name)`` returns the path of the side input of that name. ``Run.get_context()`` returns a run that
writes metrics to the log. Nothing else of azureml is replaced.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

# Relative, because this package has another name in a worker process.
from . import stand_ins  # noqa: TID252

_log = logging.getLogger("azureml")

_paths: dict[str, str] = {}


class Model:
    """Finds side inputs under the name of a registered model."""

    @staticmethod
    def get_model_path(model_name: str, version: int | None = None, _workspace: object = None) -> str:
        """Return the local path of the side input of that name; the DAG has chosen the version."""
        del version
        if model_name not in _paths:
            known = ", ".join(map(repr, _paths)) or "none"
            raise KeyError(
                f"no side input is named {model_name!r} (there are: {known}); declare the model as a side input"
            )
        return _paths[model_name]


class Run:
    """A run that only writes metrics to the log."""

    id = "airflow_prs"

    @classmethod
    def get_context(cls, *_: object, **__: object) -> Run:
        """Return the run that the script is part of."""
        return cls()

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name != "log" and not name.startswith("log_"):
            raise AttributeError(
                f"Run.{name} is azureml-core's, which is not installed here; only log methods are offered"
            )

        def log(*values: Any, **named: Any) -> None:
            _log.info("%s %s", name, " ".join([*map(str, values), *(f"{key}={named[key]}" for key in named)]))

        return log


def offer_names(side_inputs: dict[str, str]) -> None:
    """
    Make ``azureml.core`` importable if neither azureml-core nor a package of the user provides it.

    :param side_inputs: name to local path.
    """
    _paths.update(side_inputs)
    names = {"Model": Model, "Run": Run}
    contents = {"azureml": {}, "azureml.core": names, "azureml.core.model": names, "azureml.core.run": names}
    sys.meta_path.append(stand_ins.StandIns(contents))
