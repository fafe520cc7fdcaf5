"""The fingerprint: equal for two runs whose rows must be equal."""

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
        "environment",  # its versions are held on their own
        "environment_variables",  # their names and a keyed hash are held instead
        "entry_script",  # the name inside the snapshot is held instead
        "lend",
        "logging_level",
        "mini_batches_per_task",
        "node_count",
        "process_count_per_node",
        "source_directory",  # the snapshot's digest is held instead
    }
)
"""Settings that change where, when or how loudly a run does its work, but not its rows."""

_ASK_TIMEOUT_S = 60


def describe(dataset: FileDataset | TabularDataset) -> dict[str, Any]:
    """Return how a dataset is read, apart from where it and its copy are, and from what only bounds memory."""
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
    Hash everything that the rows of a run depend on.

    :param config: the resolved configuration as JSON.
    :param snapshot: digest of the code and the entry script's name in it.
    :param inputs: how each input is read, and its files.
    :param side_inputs: names and files.
    :param versions: of what plan and the worker processes run under.
    :param output: where the script writes by itself; None where rows are all that comes of a run.
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
    Say what plan and worker processes run under; for an environment yet to be made, what it will be made of.

    :return: None: it cannot be said, so no other run is known to be equal.
    """
    own, asked = own_versions(), versions_of(environment.interpreter)
    if asked is None or None in own.values():
        return None
    if environment.requirements is not None:
        made_of = {name: value for name, value in asked.items() if name != "distributions"}
        asked = {**made_of, "requirements": list(environment.requirements)}
    return {"plan": own, "processes": asked}


def versions_of(interpreter: str) -> dict[str, Any] | None:
    """
    Name an interpreter, its version, and a digest of all distributions that it finds.

    :return: None: it cannot be asked on this machine; its worker processes say what is wrong.
    """
    if interpreter == sys.executable:
        return {"interpreter": interpreter, **describe_python()}
    try:
        answer = subprocess.run(
            # As worker processes are started, so that the same variables count.
            [interpreter, "-c", Path(distributions.__file__).read_text(encoding="utf-8")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            cwd="/",
            timeout=_ASK_TIMEOUT_S,
        )
        # What a site customization prints comes before.
        return {"interpreter": interpreter, **json.loads(answer.stdout.splitlines()[-1])}
    except (OSError, subprocess.SubprocessError, ValueError, IndexError, TypeError):
        return None
