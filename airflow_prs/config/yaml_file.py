"""YAML files of the user: read and written, with errors that name the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow_prs.errors import ConfigError

JOB_KEYS = ("inputs", "side_inputs", "output", "arguments")
"""Keys of a job file beside those of the configuration. The shell reads them; in a DAG, the operator has them."""


def read_yaml(path: str | os.PathLike[str], *, what: str, expected: str = "the path of a YAML file") -> Any:
    """
    Return the plain values in a YAML (or JSON) file.

    :param what: what the file holds, for errors.
    :param expected: what the author has to pass, for errors.
    :raises ConfigError: if it cannot be read or is not valid YAML.
    """
    import yaml

    try:
        return yaml.safe_load(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError([f"{what}: cannot read {path}: {error.strerror}; pass {expected}"]) from error
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError([f"{what}: {path} is not valid YAML: {' '.join(str(error).split())}"]) from error


def write_yaml(path: str | os.PathLike[str], content: Any) -> None:
    """Write plain values to a YAML file; keys keep their order."""
    import yaml

    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    Path(path).write_text(text, encoding="utf-8")
