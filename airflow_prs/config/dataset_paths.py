"""The path and the target of a dataset: what is allowed, and the form that is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from airflow_prs.config.declaring import Refused
from airflow_prs.config.parameters import PipelineParameter, Promotion, Words, fill_in, find_parameters, promote
from airflow_prs.object_storage.addresses import find_problem, normalize, shown_path
from airflow_prs.wording import shown

PATH_ALLOWED = "a path, a folder, a pattern such as 'images/**/*.png', an address on object storage, or a list of them"
TARGET_ALLOWED = "the path or the address of a folder, a template, a PipelineParameter, or what another task returns"


def normalize_path(path: Any) -> tuple[Any, list[str]]:
    """
    Return paths as text, and lists of them as one flat tuple.

    :return: text, a PipelineParameter, the output of another task, or a tuple of these; and what is wrong with it.
    """
    normalized = tuple(_each_path(path)) if _is_list(path) else next(_each_path(path))
    return normalized, _path_problems(normalized)


def normalize_target(target: Any) -> tuple[Any, list[str]]:
    """
    Return the path of a folder as text.

    :return: text, a PipelineParameter, the output of another task, or None; and what is wrong with it.
    """
    if target is None or hasattr(target, "iter_references"):
        return target, []
    normalized = as_text(target)
    value = normalized.default_value if isinstance(normalized, PipelineParameter) else normalized
    return normalized, [f"target {p}" for p in _text_problems(value, TARGET_ALLOWED)]


def promote_path(path: Any, name: str) -> list[Promotion]:
    """
    Return how the form of a run shows the PipelineParameters in a path.

    :param name: of the dataset, for messages.
    """
    schema = {"type": ["string", "array"], "minLength": 1, "minItems": 1, "items": {"type": "string"}}
    words = Words(
        title=f"Path of {name}",
        effect="What the step reads: a file, a folder with everything below it, or a pattern such as images/**/*.png. "
        "Each line is a path.",
        has_lines=True,
    )
    return [promote(parameter, f"path of {name}", schema, words) for parameter in find_parameters(path)]


def promote_target(target: Any, name: str) -> list[Promotion]:
    """Return how the form of a run shows the PipelineParameters in a target."""
    schema = {"type": "string", "minLength": 1}
    words = Words(
        title=f"Folder of the copy of {name}",
        effect="Where the partitioned copy is written. It replaces a copy of other data there.",
    )
    return [promote(parameter, f"target of {name}", schema, words) for parameter in find_parameters(target)]


def fill_in_path(path: Any, params: Mapping[str, Any]) -> Any:
    """
    Return a path with the run's values in place of PipelineParameters.

    In the form of a run, each line is a path. So a text of several lines becomes a list, and empty lines are left out.
    """
    if isinstance(path, PipelineParameter):
        return _lines(fill_in(path, params))
    return [fill_in_path(inner, params) for inner in path] if isinstance(path, list | tuple) else path


def _lines(value: Any) -> Any:
    if isinstance(value, list):
        return [line for line in value if not isinstance(line, str) or line.strip()]
    if not isinstance(value, str) or "\n" not in value:
        return value
    return [line for line in value.replace("\r\n", "\n").split("\n") if line.strip()]


def _each_path(value: Any) -> Iterator[Any]:
    """Yield the paths in a list. It may hold lists: a task inside of it may return one."""
    if _is_list(value):
        for inner in value:
            yield from _each_path(inner)
    else:
        yield as_text(value)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def as_text(value: Any) -> Any:
    """
    Return a path as text, in the form that is kept; anything else stays as it is.

    That is a local path without ``file://``, or an address with the id of its connection, also of an ObjectStoragePath.
    """
    if hasattr(value, "iter_references"):
        return value
    if hasattr(value, "protocol"):
        # A universal path as text is its URI; fspath would drop the scheme.
        value = str(value)
    elif isinstance(value, os.PathLike):
        value = os.fsdecode(value)
    return normalize(value) if isinstance(value, str) else value


def _path_problems(normalized: Any) -> list[str]:
    paths = normalized if isinstance(normalized, tuple) else (normalized,)
    if not paths:
        return [f"path is an empty list; allowed: {PATH_ALLOWED}"]
    return [problem for path in paths for problem in _problems_of_one(path)]


def _problems_of_one(path: Any) -> list[str]:
    if hasattr(path, "iter_references"):
        return []
    if isinstance(path, Refused):
        return list(path.problems)
    if isinstance(path, PipelineParameter):
        default = _lines(path.default_value)
        values = default if isinstance(default, list) and default else [default]
        return [f"path, the default of PipelineParameter {path.name!r}: {p}" for v in values for p in _text_problems(v)]
    return [f"path {problem}" for problem in _text_problems(path)]


def _text_problems(path: Any, allowed: str = PATH_ALLOWED) -> list[str]:
    if not isinstance(path, str) or not path.strip():
        return [f"is {shown(path)}; allowed: {allowed}"]
    problem = find_problem(path)
    return [f"is {shown_path(path)}; {problem}"] if problem else []
