"""The job that a command line describes, and its plan."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from airflow_prs.cli.tables import FILES, find_kind, make_dataset, read_options
from airflow_prs.config.arguments import check_arguments, driver_options, near_misses
from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.dataset_paths import as_text
from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.config.job_file import INPUT_KEYS, JobFile, read_job_file
from airflow_prs.errors import ConfigError, EmptyInputError
from airflow_prs.inputs.cut_input import local_path
from airflow_prs.object_storage.addresses import find_problem, is_remote
from airflow_prs.plan.planning import PlanRequest, PlanResult, make_plan
from airflow_prs.records import RunIdentity

logger = logging.getLogger(__name__)

_DAG_ID = "shell"
"""Takes the place of the DAG's id in the path of the run folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    A job, as a command line and a job file describe it together. The command line wins.

    :param config: the configuration.
    :param name: name of the job file, without suffix.
    :param base: folder of the job file, from which relative paths in it start.
    :param inputs: the inputs, which are cut into mini-batches.
    :param side_inputs: reference data.
    :param output: folder of the result; None: not given.
    :param arguments: arguments of the entry script; a side input stands for its local path.
    """

    config: ParallelRunConfig
    name: str
    base: str
    inputs: tuple[FileDataset | TabularDataset, ...]
    side_inputs: tuple[FileDataset, ...]
    output: str | None
    arguments: tuple[Any, ...]

    @property
    def variables(self) -> dict[str, str]:
        """Return the environment variables of the worker processes."""
        return {name: str(value) for name, value in (self.config.environment_variables or {}).items()}


def read_job(options: argparse.Namespace) -> Job:
    """
    Return the job that a command line and its job file describe, after checking both together.

    :raises ConfigError: if values are wrong; lists all problems.
    """
    file = Path(options.config).absolute()
    config, problems = load_config(file), list[str]()
    written = read_job_file(file, problems)
    inputs = _inputs(options, problems) if options.input else _written_inputs(written, file.parent, problems)
    if getattr(options, "is_only_new", False):
        inputs = _only_new(inputs, problems)
    given = _side_inputs(options, written, file.parent, problems)
    arguments = _arguments(options.arguments or written.arguments, given, problems)
    problems += [*config.find_file_problems(file.parent), *config.find_size_problems(inputs)]
    if problems:
        raise ConfigError(problems)
    for line in (*near_misses(arguments), *driver_options(arguments).notes):
        logger.warning(line)
    return Job(
        config=config,
        name=file.stem,
        base=str(file.parent),
        inputs=inputs,
        side_inputs=tuple(given.values()),
        output=getattr(options, "output", None) or _written_output(written, file.parent),
        arguments=arguments,
    )


def load_config(file: Path) -> ParallelRunConfig:
    """
    Return a configuration whose relative paths start from its own folder.

    :param file: absolute path of the YAML file.
    """
    return ParallelRunConfig.load_yaml(file.parent, file)


def plan_job(job: Job, output: str, *, nodes: int | None) -> PlanResult:
    """
    Plan a run of a job.

    :param output: folder of the result.
    :param nodes: number of shards, instead of that of the configuration; None: that of the configuration.
    """
    config = job.config
    if nodes is not None:
        config = config.model_copy(update={"node_count": nodes, "mini_batches_per_task": None})
    paths = {dataset.name: local_path(dataset.to_source(), job.base)[0] for dataset in job.side_inputs}
    now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    request = PlanRequest(
        config=config,
        datasets=job.inputs,
        side_inputs=job.side_inputs,
        arguments=tuple(paths[each.name] if isinstance(each, FileDataset) else str(each) for each in job.arguments),
        output=output if is_remote(output) else str(Path(output).absolute()),
        run_root=output,
        dag_folder=job.base,
        # The names of plans sort by time, as those from Airflow do.
        identity=RunIdentity(dag_id=_DAG_ID, run_id=now, task_id=job.name, plan=now),
        # A user who runs a script by hand expects it to run.
        allow_reuse=False,
        # Values are never stored, and a shell has no key for a hash that tells nothing about them.
        variables_hash=None if job.variables else "",
        published_name=config.result_file_name,
    )
    try:
        return make_plan(request)
    except EmptyInputError as error:
        # The rest of the message is about tasks, which a shell does not have.
        raise EmptyInputError(str(error).partition(" on_empty=")[0]) from None


def _inputs(options: argparse.Namespace, problems: list[str]) -> tuple[FileDataset | TabularDataset, ...]:
    kinds = [_kind(path, options, problems) for path in options.input]
    if len(set(kinds)) > 1:
        problems.append("--input mixes files and tables; allowed: one kind, or one of --table and --files for all")
    of_table = read_options(options.table_option, problems)
    if of_table and FILES in kinds:
        problems.append("--table-option is given, but --input is files; allowed: with tables, see --table")
        of_table = {}
    pairs = enumerate(zip(options.input, kinds, strict=True))
    datasets = (_input(f"input_{position}", path, kind, of_table, problems) for position, (path, kind) in pairs)
    return tuple(dataset for dataset in datasets if dataset is not None)


def _only_new(
    inputs: tuple[FileDataset | TabularDataset, ...], problems: list[str]
) -> tuple[FileDataset | TabularDataset, ...]:
    try:
        return tuple(replace(dataset, only_new=True) for dataset in inputs)
    except ConfigError as error:
        problems += [f"--only-new: {problem}" for problem in error.problems]
        return inputs


def _input(
    name: str, path: str, kind: str, of_table: Mapping[str, Any], problems: list[str]
) -> FileDataset | TabularDataset | None:
    try:
        return make_dataset(_absolute(path, Path.cwd()), kind, of_table).as_named_input(name)
    except ConfigError as error:
        problems += [f"--input: {problem}" for problem in error.problems]
        return None


def _kind(path: str, options: argparse.Namespace, problems: list[str]) -> str:
    if options.is_files:
        return FILES
    if options.table:
        return str(options.table)
    try:
        return find_kind(path)
    except ConfigError as error:
        problems += [f"--input: {problem}" for problem in error.problems]
        return FILES


def _written_inputs(written: JobFile, folder: Path, problems: list[str]) -> tuple[FileDataset | TabularDataset, ...]:
    """Return the inputs in a job file; relative paths in it start from its folder."""
    inputs = []
    for position, given in enumerate(written.inputs):
        options = {key: value for key, value in given.items() if key not in INPUT_KEYS}
        try:
            kind = given["kind"] if "kind" in given else find_kind(given["path"])
            dataset = make_dataset(_absolute(given["path"], folder), kind, options)
            inputs.append(dataset.as_named_input(given.get("name", f"input_{position}")))
        except ConfigError as error:
            problems += [f"inputs: {given['path']}: {problem}" for problem in error.problems]
    if len({type(dataset) for dataset in inputs}) > 1:
        problems.append("inputs mixes files and tables; allowed: one of the two, for all inputs; see kind")
    return tuple(inputs)


def _written_output(written: JobFile, folder: Path) -> str | None:
    return None if written.output is None else _absolute(written.output, folder)


def _side_inputs(
    options: argparse.Namespace, written: JobFile, folder: Path, problems: list[str]
) -> dict[str, FileDataset]:
    """Return the side inputs of a job file and of a command line, by their names."""
    pairs = [pair.partition("=")[::2] for pair in options.side_input]
    names = [name for name, _ in pairs]
    problems += [f"--side-input {name} is given twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    places = {name: (path, folder, f"side_inputs.{name}") for name, path in written.side_inputs.items()}
    places |= {name: (path, Path.cwd(), f"--side-input {name}={path}") for name, path in pairs}
    found = {name: _side_input(name, *place, problems) for name, place in places.items()}
    return {name: dataset for name, dataset in found.items() if dataset is not None}


def _side_input(name: str, path: str, folder: Path, place: str, problems: list[str]) -> FileDataset | None:
    try:
        return FileDataset(_absolute(path, folder)).as_named_input(name)
    except ConfigError as error:
        problems += [f"{place}: {problem}" for problem in error.problems]
        return None


def _arguments(given: Sequence[Any], side_inputs: Mapping[str, FileDataset], problems: list[str]) -> tuple[Any, ...]:
    """Return the arguments with the side inputs in place, after checking them."""
    arguments = []
    for argument in given:
        name = argument.get("side_input") if isinstance(argument, Mapping) and len(argument) == 1 else None
        if isinstance(name, str) and name not in side_inputs:
            problems.append(f"arguments has the side input {name}, which is missing; allowed: --side-input {name}=PATH")
        arguments.append(side_inputs.get(name, "") if isinstance(name, str) else argument)
    problems += check_arguments(arguments)
    return tuple(arguments)


def _absolute(path: str, folder: Path) -> str:
    """Return a local path as an absolute one, relative to a folder; a slash at its end stays."""
    if not path or is_remote(path) or find_problem(path):
        return path
    return os.path.join(folder, os.path.expanduser(as_text(path)))  # noqa: PTH111, PTH118
