"""The job file: a configuration, and optionally what it is run with; or a parallel job of Azure ML v2."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow_prs.cli.tables import FILES, find_kind, make_dataset
from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.config.parallel_job import is_parallel_job, read_parallel_job
from airflow_prs.config.references import expand, path_from
from airflow_prs.config.yaml_file import JOB_KEYS, read_yaml
from airflow_prs.errors import ConfigError
from airflow_prs.wording import shown, wrong

_INPUT = "a path, or a mapping with a path, such as {path: rows.csv, table: csv, separator: ';'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFile:
    """
    A job, as far as its file and the command line describe it.

    :param config: the configuration.
    :param inputs: the inputs, named; empty: there are none.
    :param side_inputs: reference data, by name.
    :param output: folder of the result; None: none is named.
    :param arguments: arguments of the entry script.
    """

    config: ParallelRunConfig
    inputs: tuple[FileDataset | TabularDataset, ...] = ()
    side_inputs: Mapping[str, FileDataset]
    output: str | None = None
    arguments: tuple[str, ...] = ()


def read_job_file(
    file: Path, *, inputs: tuple[FileDataset | TabularDataset, ...], side_inputs: Mapping[str, FileDataset]
) -> JobFile:
    """
    Return the job in a file.

    :param file: absolute path; relative paths in it start from its folder.
    :param inputs: of the command line, which replace those of the file.
    :param side_inputs: of the command line, which replace those of the same names.
    :raises ConfigError: with all problems of the file.
    """
    layout = read_yaml(file, what="the job file")
    if not is_parallel_job(layout):
        return _read_own(layout, file, inputs, side_inputs)
    job = read_parallel_job(layout, file.parent, inputs=inputs, side_inputs=side_inputs)
    return JobFile(
        config=job.config, inputs=job.inputs, side_inputs=job.side_inputs, output=job.output, arguments=job.arguments
    )


def read_variables(file: Path) -> dict[str, str]:
    """
    Return the environment variables in a job file.

    :param file: absolute path.
    """
    layout = read_yaml(file, what="the job file")
    if is_parallel_job(layout):
        variables = layout.get("environment_variables")
    else:
        variables = ParallelRunConfig.load_yaml(file.parent, file).environment_variables
    return {name: str(value) for name, value in (variables or {}).items()}


def _read_own(
    layout: Any,
    file: Path,
    inputs: tuple[FileDataset | TabularDataset, ...],
    side_inputs: Mapping[str, FileDataset],
) -> JobFile:
    config = ParallelRunConfig.load_yaml(file.parent, file)
    given = {key: layout[key] for key in JOB_KEYS if layout.get(key) is not None}
    problems: list[str] = []
    listed = given.get("inputs", [])
    entries = listed if isinstance(listed, list) else [listed]
    own = () if inputs else tuple(_inputs(entries, file.parent, problems))
    sides = {**dict(_side_inputs(given.get("side_inputs", {}), file.parent, problems)), **side_inputs}
    output = given.get("output")
    if not isinstance(output, str | None) or output == "":
        problems.append(wrong("output", output, "the path of a folder, or an address"))
        output = None
    references = {f"side_inputs.{name}": dataset for name, dataset in sides.items()}
    arguments = tuple(_arguments(given.get("arguments", []), references, file.parent, problems))
    if problems:
        raise ConfigError([f"{problem} (in {file})" for problem in problems])
    return JobFile(
        config=config,
        inputs=inputs or own,
        side_inputs=sides,
        output=None if output is None else path_from(file.parent, output),
        arguments=arguments,
    )


def _inputs(entries: list[Any], base: Path, problems: list[str]) -> Iterator[FileDataset | TabularDataset]:
    kinds: set[bool] = set()
    for position, entry in enumerate(entries):
        options = {"path": entry} if isinstance(entry, str) else dict(entry) if isinstance(entry, Mapping) else {}
        path = options.pop("path", None)
        if not isinstance(path, str) or not path:
            problems.append(wrong(f"inputs[{position}]", entry, _INPUT))
            continue
        name = options.pop("name", f"input_{position}")
        try:
            kind = options.pop("table", None) or find_kind(path)
            kinds.add(kind == FILES)
            yield make_dataset(path_from(base, path), kind, options).as_named_input(name)
        except ConfigError as error:
            problems += [f"inputs[{position}]: {problem}" for problem in error.problems]
    if len(kinds) > 1:
        problems.append("inputs mixes files and tables; allowed: one kind, such as table: files for each")


def _side_inputs(value: Any, base: Path, problems: list[str]) -> Iterator[tuple[str, FileDataset]]:
    if not isinstance(value, Mapping):
        problems.append(wrong("side_inputs", value, "a mapping of names to paths, such as {labels: data/labels}"))
        return
    for name, path in value.items():
        if not isinstance(path, str) or not path:
            problems.append(wrong(f"side_inputs.{name}", path, "a path"))
            continue
        try:
            yield str(name), FileDataset(path_from(base, path)).as_named_input(str(name))
        except ConfigError as error:
            problems += [f"side_inputs.{name}: {problem}" for problem in error.problems]


def _arguments(value: Any, references: Mapping[str, FileDataset], base: Path, problems: list[str]) -> Iterator[str]:
    if not isinstance(value, list):
        problems.append(wrong("arguments", value, "a list, such as [--model, mosaic]"))
        return
    for position, argument in enumerate(value):
        if isinstance(argument, str | int | float):
            yield expand(str(argument), references, base, problems)
        else:
            problems.append(f"arguments[{position}] is {shown(argument)}; allowed: a str or a number")
