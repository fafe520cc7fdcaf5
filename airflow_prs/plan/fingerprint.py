"""The fingerprint of a run: two runs with the same fingerprint have the same rows."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.config.environment import Environment
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.versions import own_versions
from airflow_prs.worker import distributions
from airflow_prs.worker.distributions import describe_python

_NO_INFLUENCE = frozenset(
    {
        "compute_target",
        "description",
        "environment",  # its versions are hashed instead
        "environment_variables",  # their names and a keyed hash are hashed instead
        "entry_script",  # the name inside the snapshot is hashed instead
        "lend",
        "logging_level",
        "mini_batches_per_task",
        "node_count",
        "process_count_per_node",
        "source_directory",  # the snapshot's digest is hashed instead
    }
)
"""Settings that do not change the rows of a run, only where and when it runs and what it logs."""

_ASK_TIMEOUT_S = 60


def describe(dataset: FileDataset | TabularDataset) -> dict[str, Any]:
    """Return how a dataset is read, without its paths, the folder of its copy and the limit of a record."""
    apart = {"path", "target", "max_record_size"}
    return {name: value for name, value in dataset.to_spec().items() if name not in apart}


def fingerprint_of(
    *,
    config: Mapping[str, Any],
    arguments: Sequence[str],
    snapshot: Sequence[str],
    inputs: Sequence[tuple[Mapping[str, Any], Listing]],
    side_inputs: Sequence[tuple[str, Listing]],
    versions: Mapping[str, Any],
    variable_names: Sequence[str],
    variables_hash: str | None,
    output: str | None,
) -> str:
    """
    Return a hash of everything that the rows of a run depend on.

    :param config: the resolved configuration as JSON.
    :param arguments: the arguments of the entry script, rendered.
    :param snapshot: digest of the code, and the name of the entry script in it.
    :param inputs: how each input is read, and its files.
    :param side_inputs: name and files of each side input.
    :param versions: versions that plan and the worker processes run under, see ``versions_in``.
    :param variable_names: names of the environment variables.
    :param variables_hash: keyed hash of their values.
    :param output: folder to which the script itself writes; None: rows are the only output of the run.
    """
    content = {
        "config": {name: value for name, value in config.items() if name not in _NO_INFLUENCE},
        "arguments": list(arguments),
        "snapshot": list(snapshot),
        "inputs": [[dict(described), listing.digest()] for described, listing in inputs],
        "side_inputs": [[name, listing.digest()] for name, listing in side_inputs],
        "versions": dict(versions),
        "variables": [sorted(variable_names), variables_hash],
        "output": output,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


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
