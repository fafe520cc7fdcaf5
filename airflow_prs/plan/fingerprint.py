"""What the rows of a run depend on: two runs with the same fingerprint do the same work."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.config.environment import Environment
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.versions import own_versions
from airflow_prs.settings import TERMS
from airflow_prs.worker import distributions
from airflow_prs.worker.distributions import describe_python

_APART = TERMS | {
    "environment",  # its versions are hashed instead
    "environment_variables",  # their names and a keyed hash are hashed instead
    "entry_script",  # the name inside the snapshot is hashed instead
    "source_directory",  # the snapshot's digest is hashed instead
}
"""Parameters that do not change the rows of a run, or of which something else is hashed."""

_ASK_TIMEOUT_S = 60


def describe(dataset: FileDataset | TabularDataset) -> dict[str, Any]:
    """Return how a dataset is read, without its paths, the folder of its copy and the limit of a record."""
    apart = {"path", "target", "max_record_size"}
    return {name: value for name, value in dataset.to_spec().items() if name not in apart}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """
    All that the rows of a run depend on.

    :param config: the resolved configuration as JSON.
    :param arguments: the arguments of the entry script, rendered.
    :param snapshot: digest of the code, and the name of the entry script in it.
    :param inputs: how each input is read, and its files; None in place of the files of a query.
    :param side_inputs: name and files of each side input.
    :param versions: versions that plan and the worker processes run under, see ``versions_in``.
    :param variable_names: names of the environment variables.
    :param variables_hash: keyed hash of their values.
    :param output: folder to which the script itself writes; None: rows are the only output of the run.
    """

    config: Mapping[str, Any]
    arguments: Sequence[str]
    snapshot: Sequence[str]
    inputs: Sequence[tuple[Mapping[str, Any], Listing | None]]
    side_inputs: Sequence[tuple[str, Listing]]
    versions: Mapping[str, Any]
    variable_names: Sequence[str]
    variables_hash: str | None
    output: str | None

    def digests(self) -> dict[str, str]:
        """Return a hash of each part, by the name that the author knows it by. The terms are no part."""
        parts = {name: value for name, value in self.config.items() if name not in _APART} | {
            "arguments": list(self.arguments),
            "code": list(self.snapshot),
            "inputs": [
                [dict(described), None if listing is None else listing.digest()] for described, listing in self.inputs
            ],
            "side_inputs": [[name, listing.digest()] for name, listing in self.side_inputs],
            "environment": dict(self.versions),
            "environment_variables": [sorted(self.variable_names), self.variables_hash],
            "output": self.output,
        }
        return {name: _digest(part) for name, part in parts.items()}

    def digests_without_files(self) -> dict[str, str]:
        """
        Return what must be equal in two runs of which one leaves out the files that the other has processed.

        The folder to which the script itself writes may differ, as that of the rows may.
        """
        read = [(described, None) for described, _ in self.inputs]
        return replace(self, inputs=read, output=None).digests()

    def fingerprint(self) -> str:
        """Return a hash of all parts."""
        return _digest(self.digests())


def _digest(plain: Any) -> str:
    return hashlib.sha256(json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def versions_in(environment: Environment) -> dict[str, Any] | None:
    """
    Return the versions that plan and the worker processes run under.

    For an environment that is not made yet, these are its Python and its requirements.

    :return: None: a version is not known, so no other run is known to be equal.
    """
    own, found = own_versions(), versions_of(environment.interpreter)
    if found is None or None in own.values():
        return None
    if environment.requirements is not None:
        python = {name: value for name, value in found.items() if name != "distributions"}
        found = {**python, "requirements": list(environment.requirements)}
    return {"plan": own, "processes": found}


def versions_of(interpreter: str) -> dict[str, Any] | None:
    """
    Return an interpreter, its version, and a digest of all distributions that it finds.

    :return: None: it does not run on this machine; its worker processes will report why.
    """
    if interpreter == sys.executable:
        return {"interpreter": interpreter, **describe_python()}
    try:
        answer = subprocess.run(
            # Started like worker processes, so that the same variables have an effect.
            [interpreter, "-c", Path(distributions.__file__).read_text(encoding="utf-8")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            cwd="/",
            timeout=_ASK_TIMEOUT_S,
        )
        # A sitecustomize may have printed lines before.
        return {"interpreter": interpreter, **json.loads(answer.stdout.splitlines()[-1])}
    except (OSError, subprocess.SubprocessError, ValueError, IndexError, TypeError):
        return None
