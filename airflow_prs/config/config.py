"""ParallelRunConfig: how to do a run. Checked once, when the DAG is parsed; all problems are reported together."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from airflow_prs.config import rules
from airflow_prs.config.compute import ComputeTarget, read_compute_target
from airflow_prs.config.datasets import Dataset, FileDataset
from airflow_prs.config.declaring import Refused, declared, declares
from airflow_prs.config.entry_check import check_entry_script
from airflow_prs.config.environment import Environment
from airflow_prs.config.function_script import FunctionScript
from airflow_prs.config.parameters import PipelineParameter, Promotion, combine_promotions, fill_in
from airflow_prs.config.rules import SUFFIX_OF_FORMAT, at_least, default_of, find_conflicts, find_promotions, one_of
from airflow_prs.config.sizes import parse_size
from airflow_prs.errors import ConfigError, EntryScriptError
from airflow_prs.inputs.sources import MiniBatchSize
from airflow_prs.records import Limits
from airflow_prs.wording import unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pydantic_core import ErrorDetails

__all__ = ["DEFAULT_FILE_NAME", "MiniBatchSize", "ParallelRunConfig", "parse_size"]

DEFAULT_FILE_NAME = "parallel_run_step.txt"

OutputAction = Literal["append_row", "summary_only"]
LoggingLevel = Literal["WARNING", "INFO", "DEBUG"]
RowFormat = Literal["text", "csv", "jsonl", "parquet"]


@declared
class ParallelRunConfig(BaseModel):
    """
    How to do a run.

    A parameter marked with * may be a PipelineParameter; ``resolve`` replaces it by the value of the run. The
    constructor does not look at the disk; ``find_file_problems`` does.

    :param environment: which Python runs the entry script: an Environment, or the path of an interpreter or a virtual
        environment.
    :param entry_script: script with ``run(mini_batch)``; relative to source_directory, where that is given.
    :param error_threshold: * failed items allowed over the entire input; -1 ignores all.
    :param output_action: ``append_row`` gathers what run() returns in one file; ``summary_only`` counts it.
    :param compute_target: where the shards run: a ComputeTarget, or the name of a declared one, such as ``local``.
    :param node_count: * nodes that work at the same time.
    :param process_count_per_node: * worker processes of a node; None: 1 on a machine with a GPU, else one for each
        core.
    :param mini_batch_size: * files, or for a table bytes ("10KB", "1MB") or rows ("5000 rows"), that one call of run()
        gets; None: 10 files, or 1 MB of a table.
    :param source_directory: folder that every node gets a copy of.
    :param description: free text, shown as the tooltip of the task group.
    :param logging_level: * level of the scripts' logs: WARNING, INFO or DEBUG.
    :param run_invocation_timeout: * seconds that one call of run() may take.
    :param run_max_try: * times that a mini-batch is tried.
    :param append_row_file_name: * name of the result file; None: parallel_run_step with the suffix of its format.
    :param allowed_failed_count: * failed mini-batches allowed; -1 ignores all; None: not checked.
    :param allowed_failed_percent: * failed mini-batches allowed, in percent of all; 100 ignores all; None: not checked.
    :param partition_keys: * keys of partition_format whose combinations of values make the mini-batches.
    :param environment_variables: set in the worker processes; never stored and never shown.
    :param mini_batches_per_task: * mini-batches of one mapped task instance; None: one shard for each node.
    :param append_row_format: * ``text`` as the original writes it, ``csv`` (one header), ``jsonl`` or ``parquet``;
        None: by the suffix .jsonl, .parquet or (DataFrames alone) .csv of append_row_file_name, else text.
    :param count_failed_tries: * whether a mini-batch that failed a try counts as failed until its next try succeeds.
    :param retry_delay_s: * seconds before the second try of a mini-batch; doubled before each further try, plus or
        minus 25 percent, up to one hour; 0: no delay.
    :param max_mini_batches_per_process: * mini-batches after which a new worker process replaces the old one; None:
        never.
    :param max_memory_per_process: * memory ("2GB") above which a new worker process replaces the old one, between two
        mini-batches; None: never.
    :param max_concurrency_per_process: * mini-batches that ``async def run`` works on at the same time in each worker
        process.
    :param read_ahead: * whether a worker process loads its next mini-batch of a table while run() works.
    :param exit_timeout_s: * seconds for a worker process to end after shutdown() has returned, with its threads and
        atexit functions.
    :param lend: * whether a node that has nothing left to hand out takes mini-batches over from other nodes.
    :param keep_rows: * whether the rows of the mini-batches stay in the run folder after merge has published them; if
        not, the run can neither be continued nor reused.
    :param bisect_failed_mini_batches: * whether a mini-batch whose tries are used up is split until the items that fail
        are found; the rows of the others are kept.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    # The types are those of a resolved configuration, which all code after plan uses. Before that, fields may hold
    # PipelineParameters, and entry_script a FunctionScript.
    environment: Annotated[Environment, rules.ENVIRONMENT]
    entry_script: Annotated[str, rules.ENTRY_SCRIPT]
    error_threshold: Annotated[int, rules.THRESHOLD]
    output_action: Annotated[str, rules.OUTPUT_ACTION]
    compute_target: Annotated[ComputeTarget | str, rules.COMPUTE_TARGET]
    node_count: Annotated[int, at_least(1)]
    process_count_per_node: Annotated[int | None, at_least(1).or_none("None for one a core")] = None
    mini_batch_size: Annotated[int | str | None, rules.SIZE.or_none("None for 10 files or 1 MB of a table")] = None
    source_directory: Annotated[str | None, rules.FOLDER.or_none()] = None
    description: Annotated[str | None, rules.TEXT.or_none()] = None
    logging_level: Annotated[str, one_of(*get_args(LoggingLevel))] = "INFO"
    run_invocation_timeout: Annotated[int, at_least(1, ", in seconds")] = 60
    run_max_try: Annotated[int, at_least(1)] = 3
    append_row_file_name: Annotated[
        str | None, rules.FILE_NAME.or_none("None for parallel_run_step with the suffix of its format")
    ] = None
    allowed_failed_count: Annotated[int | None, rules.THRESHOLD.or_none()] = None
    allowed_failed_percent: Annotated[float | None, rules.PERCENT.or_none()] = None
    partition_keys: Annotated[tuple[str, ...] | None, rules.KEYS.or_none()] = None
    environment_variables: Annotated[dict[str, Any] | None, rules.VARIABLES.or_none()] = None
    mini_batches_per_task: Annotated[int | None, at_least(1).or_none("None for one shard a node")] = None
    append_row_format: Annotated[
        str | None, one_of(*get_args(RowFormat)).or_none("None for what the suffix of append_row_file_name says")
    ] = None
    count_failed_tries: Annotated[bool, rules.FLAG] = False
    retry_delay_s: Annotated[float, rules.SECONDS] = 0
    max_mini_batches_per_process: Annotated[int | None, at_least(1).or_none("None for no limit")] = None
    max_memory_per_process: Annotated[int | str | None, rules.MEMORY.or_none("None for no limit")] = None
    max_concurrency_per_process: Annotated[int, at_least(1)] = 1
    read_ahead: Annotated[bool, rules.FLAG] = True
    exit_timeout_s: Annotated[float, rules.SECONDS] = 10
    lend: Annotated[bool, rules.FLAG] = True
    keep_rows: Annotated[bool, rules.FLAG] = True
    bisect_failed_mini_batches: Annotated[bool, rules.FLAG] = False

    if TYPE_CHECKING:

        def __init__(  # noqa: PLR0917  (the original's order)
            self,
            environment: Environment | str | os.PathLike[str],
            entry_script: str | os.PathLike[str] | FunctionScript,
            error_threshold: int | PipelineParameter,
            output_action: OutputAction,
            compute_target: ComputeTarget | str,
            node_count: int | PipelineParameter,
            process_count_per_node: int | PipelineParameter | None = None,
            mini_batch_size: int | str | PipelineParameter | None = None,
            source_directory: str | os.PathLike[str] | None = None,
            description: str | None = None,
            logging_level: LoggingLevel | PipelineParameter = "INFO",
            run_invocation_timeout: int | PipelineParameter = 60,
            run_max_try: int | PipelineParameter = 3,
            append_row_file_name: str | PipelineParameter | None = None,
            allowed_failed_count: int | PipelineParameter | None = None,
            allowed_failed_percent: float | PipelineParameter | None = None,
            partition_keys: Sequence[str] | PipelineParameter | None = None,
            environment_variables: Mapping[str, Any] | None = None,
            *,
            mini_batches_per_task: int | PipelineParameter | None = None,
            append_row_format: RowFormat | PipelineParameter | None = None,
            count_failed_tries: bool | PipelineParameter = False,
            retry_delay_s: float | PipelineParameter = 0,
            max_mini_batches_per_process: int | PipelineParameter | None = None,
            max_memory_per_process: int | str | PipelineParameter | None = None,
            max_concurrency_per_process: int | PipelineParameter = 1,
            read_ahead: bool | PipelineParameter = True,
            exit_timeout_s: float | PipelineParameter = 10,
            lend: bool | PipelineParameter = True,
            keep_rows: bool | PipelineParameter = True,
            bisect_failed_mini_batches: bool | PipelineParameter = False,
        ) -> None: ...

    else:

        def __init__(self, *args: Any, **values: Any) -> None:
            problems = list(_name_positions(args, values))
            refused = {name: value for name, value in values.items() if isinstance(value, Refused)}
            problems += [problem for value in refused.values() for problem in value.problems]
            known = {name: value for name, value in values.items() if name in RULES and name not in refused}
            what = "parameter of ParallelRunConfig"
            problems += [unknown(name, RULES, what=what) for name in values if name not in RULES]
            try:
                super().__init__(**known)
            except ValidationError as error:
                problems += [_problem_in(each) for each in error.errors() if each["loc"][0] not in refused]
            problems += find_conflicts(known, RULES)
            if problems:
                raise ConfigError(problems)

    @field_validator("*", mode="plain")
    @classmethod
    def _check(cls, value: Any, info: ValidationInfo) -> Any:
        name = str(info.field_name)
        return RULES[name].check(name, value)

    @property
    def max_memory_per_process_bytes(self) -> int | None:
        """max_memory_per_process in bytes."""
        limit = self.max_memory_per_process
        return None if limit is None else parse_size(limit).count

    @property
    def limits(self) -> Limits:
        """The thresholds of a resolved configuration."""
        self._require_resolved("limits")
        return Limits(
            error_threshold=self.error_threshold,
            allowed_failed_count=self.allowed_failed_count,
            allowed_failed_percent=self.allowed_failed_percent,
            count_failed_tries=self.count_failed_tries,
        )

    @property
    def result_file_name(self) -> str:
        """Name of the append_row file."""
        suffix = SUFFIX_OF_FORMAT.get(self.append_row_format or "text", "")
        return self.append_row_file_name or str(Path(DEFAULT_FILE_NAME).with_suffix(suffix))

    @property
    def result_format(self) -> str:
        """Format of the append_row file."""
        if self.append_row_format is None and self.result_suffix in {".jsonl", ".parquet"}:
            return self.result_suffix[1:]
        return self.append_row_format or "text"

    @property
    def result_suffix(self) -> str:
        """Suffix of the append_row file, in lower case."""
        return Path(self.result_file_name).suffix.lower()

    @property
    def writes_frames_as_csv(self) -> bool:
        """Whether the name alone asks for CSV: DataFrames are written so, unless a settings file says otherwise."""
        return self.append_row_format is None and self.result_suffix == ".csv"

    def promoted(self) -> dict[str, Promotion]:
        """Return the PipelineParameters, by name."""
        return combine_promotions(find_promotions(dict(self), RULES))

    def resolve(self, params: Mapping[str, Any]) -> ParallelRunConfig:
        """
        Return the configuration with a run's values in place of PipelineParameters; where it has none, their defaults.

        :param params: the params of the run; may hold others, too.
        :raises ConfigError: if a value is not allowed.
        """
        values = fill_in(dict(self), params)
        problems = [
            f"{name}: {problem} (parameter {parameter.name!r} of the run)"
            for name, parameter in self._parameters.items()
            if (problem := parameter.find_problem(values[name]))
        ]
        try:
            resolved = ParallelRunConfig(**values)
        except ConfigError as error:
            problems += map(self._name_source, error.problems)
        if problems:
            raise ConfigError(problems)
        return resolved

    def find_file_problems(self, folder: str | os.PathLike[str]) -> list[str]:
        """
        Return a problem for each file that is missing, and for an entry script that cannot work.

        The script is read, but not run. A script that this process may not read has no problem; plan reads it again.

        :param folder: folder that relative paths begin at: that of the DAG file.
        """
        environment = self.environment.relative_to(folder)
        missing = [path for path in environment.files if not Path(path).is_file()]
        problems = [f"environment: {path} is missing; allowed: an existing file" for path in missing]
        return problems + self._find_script_problems(folder, is_same_python=environment.interpreter == sys.executable)

    def find_size_problems(self, inputs: Iterable[Dataset]) -> list[str]:
        """Return a problem for each input of files, if mini_batch_size is in rows or bytes."""
        if self.mini_batch_size is None or self.partition_keys is not None:
            return []
        given = default_of(self.mini_batch_size)
        if given is None or parse_size(given).unit is None:
            return []
        return [
            f"mini_batch_size is {given!r}; allowed for the files of {dataset.name!r}: a number of files"
            for dataset in inputs
            if isinstance(dataset, FileDataset)
        ]

    def _find_script_problems(self, folder: str | os.PathLike[str], *, is_same_python: bool) -> list[str]:
        source = Path(folder, self.source_directory or "")
        if self.source_directory is not None and not source.is_dir():
            found = "a file" if source.exists() else "missing"
            given = repr(self.source_directory)
            return [f"source_directory is {given}, but {source} is {found}; allowed: an existing folder"]
        if isinstance(self.entry_script, FunctionScript):
            return []
        script = source / self.entry_script
        if not script.is_file():
            found = "no file" if script.exists() else "missing"
            return [f"entry_script is {self.entry_script!r}, but {script} is {found}; allowed: an existing file"]
        try:
            check_entry_script(script.read_bytes(), self.entry_script, is_same_python=is_same_python)
        except EntryScriptError as error:
            return [f"entry_script: {error}"]
        except OSError:
            return []
        return []

    def to_json(self) -> dict[str, Any]:
        """
        Return a resolved configuration as plain values.

        environment_variables, which may hold secrets, and the executor_config of a compute target are left out.
        """
        self._require_resolved("to_json()")
        plain = dict(self)
        del plain["environment_variables"]
        plain["environment"] = self.environment.to_json()
        if isinstance(self.compute_target, ComputeTarget):
            options = self.compute_target.to_arguments()
            plain["compute_target"] = {name: options[name] for name in options if name != "executor_config"}
        if self.partition_keys is not None:
            plain["partition_keys"] = list(self.partition_keys)
        return plain

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> ParallelRunConfig:
        """Return the configuration that ``to_json`` wrote."""
        target = plain["compute_target"]
        values = {
            **plain,
            "environment": Environment.from_json(plain["environment"]),
            "compute_target": read_compute_target(target) if isinstance(target, Mapping) else target,
        }
        return cls(**values)

    def save_to_yaml(self, path: str | os.PathLike[str]) -> None:
        """
        Write a YAML file in the original's layout. A PipelineParameter is written as its default.

        :raises ConfigError: if a value cannot be written, such as the output of another task.
        """
        from airflow_prs.config import config_yaml

        ours = {name: type(self).model_fields[name].default for name in OURS}
        config_yaml.write_config(path, dict(self.resolve({})), ours)

    @staticmethod
    @declares
    def load_yaml(workspace: str | os.PathLike[str] | None, path: str | os.PathLike[str]) -> ParallelRunConfig:
        """
        Return the configuration in a YAML file of the original's layout.

        :param workspace: folder that relative paths are resolved against; None: they stay relative.
        :param path: the file.
        :raises ConfigError: with all problems of the file.
        """
        from airflow_prs.config import config_yaml

        values, problems = config_yaml.read_config(workspace, path, RULES)
        try:
            config = ParallelRunConfig(**values)
        except ConfigError as error:
            problems += error.problems
        if problems:
            raise ConfigError([f"{problem} (in {path})" for problem in problems])
        return config

    def __repr_args__(self) -> Iterator[tuple[str, Any]]:
        for name, value in self:
            yield name, dict.fromkeys(value, "***") if name == "environment_variables" and value else value

    @property
    def _parameters(self) -> dict[str, PipelineParameter]:
        return {name: value for name, value in self if isinstance(value, PipelineParameter)}

    def _require_resolved(self, what: str) -> None:
        if problems := [f"{name} is a PipelineParameter; {what} needs resolve() first" for name in self._parameters]:
            raise ConfigError(problems)

    def _name_source(self, problem: str) -> str:
        """Add to a problem which parameter of the run the wrong value came from."""
        parameter = self._parameters.get(problem.split(" ", 1)[0])
        return f"{problem} (parameter {parameter.name!r} of the run)" if parameter is not None else problem


RULES: Mapping[str, rules.Rule] = {name: field.metadata[0] for name, field in ParallelRunConfig.model_fields.items()}

_BY_POSITION = 18
"""How many parameters the original knows."""

OURS = tuple(RULES)[_BY_POSITION:]
"""The others. They are passed by name, and a YAML file holds them only if they differ from their defaults."""


def _name_positions(args: tuple[Any, ...], values: dict[str, Any]) -> Iterator[str]:
    """Add positional values to ``values`` under their names, and yield what is wrong with them."""
    if len(args) > _BY_POSITION:
        yield f"ParallelRunConfig got {len(args)} values by position; allowed: {_BY_POSITION}, the others by name"
    for name, value in zip(list(RULES)[:_BY_POSITION], args, strict=False):
        if name in values:
            yield f"{name} is given twice, by position and by name"
        values[name] = value


def _problem_in(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        name = str(error["loc"][0])
        return f"{name} is missing; allowed: {RULES[name].allowed}"
    return str(error["ctx"]["error"])
