"""Arguments in a job file that refer to the inputs and outputs of the job, as ``${{inputs.model}}`` does."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from airflow_prs.config.dataset_paths import as_text
from airflow_prs.config.datasets import FileDataset
from airflow_prs.object_storage.addresses import find_problem, is_remote
from airflow_prs.wording import unknown

REFERENCE = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")

OUTPUT = "\0output\0"
"""Stands in arguments for the output folder, which is known only when a run is planned. No argument can hold a NUL."""


def expand(
    argument: str, references: Mapping[str, str | FileDataset], base: str | os.PathLike[str], problems: list[str]
) -> str:
    """
    Return an argument with values in place of ``${{name}}``, and add unknown names to problems.

    :param references: the value of each name, such as ``inputs.model``; a side input stands for its local path.
    :param base: folder that the paths of side inputs start from.
    """

    def replace(found: re.Match[str]) -> str:
        value = references.get(found[1])
        if value is None:
            known = [f"${{{{{name}}}}}" for name in references]
            problems.append(f"arguments: {unknown(found[0], known, what='value of the job')}")
        elif isinstance(value, FileDataset):
            from airflow_prs.inputs.cut_input import local_path

            return local_path(value.to_source(), str(base))[0]
        return value or ""

    return REFERENCE.sub(replace, argument)


def path_from(base: str | os.PathLike[str], path: str) -> str:
    """Return a local path as an absolute one; a slash at its end stays, and so does what is not a local path."""
    if not path or is_remote(path) or find_problem(path):
        return path
    return os.path.join(base, os.path.expanduser(str(as_text(path))).removeprefix("./"))  # noqa: PTH111, PTH118
