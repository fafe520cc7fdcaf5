"""
The two calls of azureml-core that many published scripts make, for environments that do not have it.

``Model.get_model_path(name)`` is the path of the side input of that name; ``Run.get_context()`` has the methods that
log a metric, which write to the log. There is nothing else of azureml.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

# Relative, as this package has another name where it is at work.
from . import stand_ins  # noqa: TID252

_log = logging.getLogger("azureml")

_paths: dict[str, str] = {}


class Model:
    """Finds side inputs under the name of a registered model."""

    @staticmethod
    def get_model_path(model_name: str, version: int | None = None, _workspace: object = None) -> str:
        """Local path of the side input of that name; the version is the one that the DAG chose."""
        del version
        if model_name not in _paths:
            known = ", ".join(map(repr, _paths)) or "none"
            raise KeyError(
                f"no side input is named {model_name!r} (there are: {known}); give the model as a side input"
            )
        return _paths[model_name]


class Run:
    """A run that only logs."""

    id = "airflow_prs"

    @classmethod
    def get_context(cls, *_: object, **__: object) -> Run:
        """The run that the script is part of."""
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
    Make ``azureml.core`` importable where there is none: neither azureml-core nor a package of the user's.

    :param side_inputs: name to local path.
    """
    _paths.update(side_inputs)
    names = {"Model": Model, "Run": Run}
    contents = {"azureml": {}, "azureml.core": names, "azureml.core.model": names, "azureml.core.run": names}
    sys.meta_path.append(stand_ins.StandIns(contents))
