"""A job as a command line describes it, and its plan."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from airflow_prs.config.arguments import check_arguments, driver_options, near_misses
from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.dataset_paths import remote_scheme, without_file_scheme
from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.errors import ConfigError, EmptyInputError
from airflow_prs.plan.planning import PlanRequest, PlanResult, make_plan
from airflow_prs.records import RunIdentity

logger = logging.getLogger(__name__)

_DAG_ID = "shell"
"""Stands for the DAG in the run folder's path."""

_TABLES = {".csv": "csv", ".parquet": "parquet"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """
    What is to be done.

    :param config: the configuration.
    :param name: of the configuration's file, without suffix.
    :param base: folder of the configuration's file, where relative paths in it begin.
    :param inputs: what is cut into mini-batches.
    :param side_inputs: reference data.
    :param arguments: for the entry script.
    """

    config: ParallelRunConfig
    name: str
    base: str
    inputs: tuple[FileDataset | TabularDataset, ...]
    side_inputs: tuple[FileDataset, ...]
    arguments: tuple[str, ...]

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of the worker processes."""
        return {name: str(value) for name, value in (self.config.environment_variables or {}).items()}


def read_job(options: argparse.Namespace) -> Job:
    """
    Read the configuration, and check it together with the command line.

    :raises ConfigError: with all problems.
    """
    file = Path(options.config).absolute()
    config = load_config(file)
    problems = [*config.find_missing_paths(file.parent), *check_arguments(options.arguments)]
    inputs = _inputs(options, problems)
    side_inputs = tuple(_side_inputs(options.side_input, problems))
    if problems:
        raise ConfigError(problems)
    for line in (*near_misses(options.arguments), *driver_options(options.arguments).notes):
        logger.warning(line)
    return Job(
        config=config,
        name=file.stem,
        base=str(file.parent),
        inputs=inputs,
        side_inputs=side_inputs,
        arguments=tuple(options.arguments),
    )


def load_config(file: Path) -> ParallelRunConfig:
    """
    Read a configuration whose relative paths begin in its own folder.

    :param file: absolute.
    """
    return ParallelRunConfig.load_yaml(file.parent, file)


def plan_job(job: Job, output: str, *, nodes: int | None) -> PlanResult:
    """
    Plan a run of a job.

    :param output: folder of the result.
    :param nodes: shards, in place of what the configuration says; None: as it says.
    """
    config = job.config
    if nodes is not None:
        config = config.model_copy(update={"node_count": nodes, "mini_batches_per_task": None})
    now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    request = PlanRequest(
        config=config,
        datasets=job.inputs,
        side_inputs=job.side_inputs,
        arguments=job.arguments,
        output=str(Path(output).absolute()),
        run_root=output,
        dag_folder=job.base,
        # As Airflow's, names of plans are in order of time.
        identity=RunIdentity(dag_id=_DAG_ID, run_id=now, task_id=job.name, plan=now),
        # Whoever runs a script by hand wants to see it run.
        allow_reuse=False,
        variables_hash=None,
        published_name=config.result_file_name,
    )
    try:
        return make_plan(request)
    except EmptyInputError as error:
        # The rest is about tasks, which a shell has not.
        raise EmptyInputError(str(error).partition(" on_empty=")[0]) from None


def _inputs(options: argparse.Namespace, problems: list[str]) -> tuple[FileDataset | TabularDataset, ...]:
    kinds = [_kind(path, options) for path in options.input]
    if len(set(kinds)) > 1:
        problems.append("--input mixes files and tables; allowed: one sort, or one of --table and --files for all")
    given = enumerate(zip(options.input, kinds, strict=True))
    found = (_input(f"input_{position}", path, kind, problems) for position, (path, kind) in given)
    return tuple(dataset for dataset in found if dataset is not None)


def _input(name: str, path: str, kind: str, problems: list[str]) -> FileDataset | TabularDataset | None:
    try:
        return _dataset(_from_here(path), kind).as_named_input(name)
    except ConfigError as error:
        problems += [f"--input: {problem}" for problem in error.problems]
        return None


def _kind(path: str, options: argparse.Namespace) -> str:
    if options.is_files:
        return "files"
    return options.table or _TABLES.get(Path(path).suffix.lower(), "files")


def _dataset(path: str, kind: str) -> FileDataset | TabularDataset:
    if kind == "csv":
        return TabularDataset.from_delimited_files(path)
    return TabularDataset.from_parquet_files(path) if kind == "parquet" else FileDataset(path)


def _side_inputs(given: Sequence[str], problems: list[str]) -> Iterator[FileDataset]:
    names = [pair.partition("=")[0] for pair in given]
    problems += [f"--side-input {name} is given twice" for name in dict.fromkeys(names) if names.count(name) > 1]
    for pair in given:
        name, _, path = pair.partition("=")
        try:
            yield FileDataset(_from_here(path)).as_named_input(name)
        except ConfigError as error:
            problems += [f"--side-input {pair}: {problem}" for problem in error.problems]


def _from_here(path: str) -> str:
    """Let a path begin in the working directory, as everything in a shell does; a slash at its end stays."""
    if not path or remote_scheme(path):
        return path
    return os.path.join(os.getcwd(), os.path.expanduser(without_file_scheme(path)))  # noqa: PTH109, PTH111, PTH118
