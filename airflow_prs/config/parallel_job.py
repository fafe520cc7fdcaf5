"""
The YAML file of a parallel job of Azure ML v2 (``type: parallel``), read as a configuration and what it is run with.

A warning names what is ignored because it is about Azure's machines or workspace. What cannot be ignored, such as an
environment or data that is registered in a workspace, is an error that says what to write instead.
"""

from __future__ import annotations

import logging
import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.config.environment import Environment
from airflow_prs.config.environment_yaml import read_environment_v2
from airflow_prs.config.references import OUTPUT, REFERENCE, expand, path_from
from airflow_prs.errors import ConfigError
from airflow_prs.object_storage.addresses import shown_path
from airflow_prs.wording import shown, unknown, wrong

log = logging.getLogger(__name__)

_RENAMED = {
    "mini_batch_error_threshold": "allowed_failed_count",
    "max_concurrency_per_instance": "process_count_per_node",
}
_SAME = (
    "description",
    "error_threshold",
    "environment_variables",
    "logging_level",
    "mini_batch_size",
    "partition_keys",
    *_RENAMED,
)
_READ = ("type", "inputs", "outputs", "input_data", "resources", "retry_settings", "task", *_SAME)
_IGNORED = (
    "name",
    "display_name",
    "experiment_name",
    "version",
    "tags",
    "properties",
    "compute",
    "identity",
    "is_deterministic",
)
_IN_RESOURCES = ("instance_type", "shm_size", "docker_args", "properties")
_IN_TASK = ("type", "code", "entry_script", "environment", "program_arguments", "append_row_to")
_VALUES = ("string", "number", "integer", "boolean")
_DATA = ("uri_folder", "uri_file", "mltable")
_MODES = ("ro_mount", "rw_mount", "download", "upload", "direct", "eval_mount", "eval_download")
_THRESHOLDS = ("error_threshold", "allowed_failed_percent")
"""Thresholds that a v2 job passes as arguments of the script."""

_IGNORES_ALL = -1
_FILES_A_MINI_BATCH = 1
"""Defaults of a v2 job, which are not those of a ParallelRunConfig."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelJob:
    """
    A job of Azure ML v2.

    :param config: the configuration; its relative paths start from the folder of the file.
    :param inputs: the input that is cut into mini-batches, or those that replace it; empty: it has no path.
    :param side_inputs: the other data, by name.
    :param output: folder of the result; None: the file names none.
    :param arguments: of the entry script; OUTPUT stands for the output folder.
    """

    config: ParallelRunConfig
    inputs: tuple[FileDataset | TabularDataset, ...]
    side_inputs: Mapping[str, FileDataset]
    output: str | None
    arguments: tuple[str, ...]


def is_parallel_job(layout: Any) -> bool:
    """
    Return whether the content of a file is a parallel job of Azure ML v2.

    :raises ConfigError: if it is a pipeline, which holds several jobs.
    """
    if not isinstance(layout, Mapping):
        return False
    if layout.get("type") == "pipeline" or isinstance(layout.get("jobs"), Mapping):
        problem = "type: pipeline is a pipeline of Azure ML; allowed: one of its parallel jobs, in a file of its own"
        raise ConfigError([problem])
    return layout.get("type") == "parallel"


def read_parallel_job(
    layout: Mapping[str, Any],
    base: Path,
    *,
    inputs: Sequence[FileDataset | TabularDataset] = (),
    side_inputs: Mapping[str, FileDataset] | None = None,
) -> ParallelJob:
    """
    Read a parallel job of Azure ML v2.

    :param layout: the content of its file.
    :param base: absolute folder of the file, from which relative paths start.
    :param inputs: replace what ``input_data`` names.
    :param side_inputs: replace or complete the other data, by name.
    :raises ConfigError: with all problems of the file.
    """
    return _Reading(layout=layout, base=base, inputs=tuple(inputs), side_inputs=dict(side_inputs or {})).read()


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One reading of a file: what is found goes into ``values`` and ``references``, what is wrong into ``problems``."""

    layout: Mapping[str, Any]
    base: Path
    inputs: tuple[FileDataset | TabularDataset, ...]
    side_inputs: dict[str, FileDataset]
    values: dict[str, Any] = field(default_factory=dict)
    references: dict[str, str | FileDataset] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def read(self) -> ParallelJob:
        self._read_settings()
        task = self._mapping(self.layout, "task", _IN_TASK)
        self._read_inputs()
        output = self._read_outputs(task.get("append_row_to"))
        self._read_script(task)
        arguments = self._read_arguments(task.get("program_arguments") or "")
        config = self._make_config()
        if self.problems or config is None:
            raise ConfigError(self.problems)
        if self.ignored:
            log.warning("Ignored, as they are about Azure ML: %s", ", ".join(self.ignored))
        return ParallelJob(
            config=config, inputs=self.inputs, side_inputs=self.side_inputs, output=output, arguments=arguments
        )

    def _read_settings(self) -> None:
        top = self._known(self.layout, (*_READ, "$schema"), _IGNORED, "a parallel job")
        self.values |= {_RENAMED.get(name, name): top[name] for name in _SAME if name in top}
        if isinstance(top.get("environment_variables"), Mapping):
            self.values["environment_variables"] = {
                key: str(value) for key, value in top["environment_variables"].items()
            }
        resources = self._mapping(self.layout, "resources", ("instance_count",), _IN_RESOURCES)
        self.values["node_count"] = resources.get("instance_count", 1)
        retries = self._mapping(self.layout, "retry_settings", ("max_retries", "timeout"))
        self.values["run_invocation_timeout"] = retries.get("timeout", 60)
        most = retries.get("max_retries", 2)
        if isinstance(most, int) and not isinstance(most, bool) and most >= 0:
            self.values["run_max_try"] = most + 1
        else:
            self.problems.append(wrong("retry_settings.max_retries", most, "an int of at least 0"))

    def _read_inputs(self) -> None:
        cut = self._reference(self.layout.get("input_data"), "input_data", "inputs")
        specs = self.layout.get("inputs") or {}
        if not isinstance(specs, Mapping):
            self.problems.append(wrong("inputs", specs, "a mapping of names to values or data"))
            specs = {}
        if cut is not None and cut not in specs:
            self.problems.append(unknown(f"input_data: {cut}", specs, what="key of inputs"))
        for name, spec in specs.items():
            self._read_input(str(name), spec, is_cut=name == cut)
        self.references |= {f"inputs.{name}": dataset for name, dataset in self.side_inputs.items()}

    def _read_input(self, name: str, spec: Any, *, is_cut: bool) -> None:
        key = f"inputs.{name}"
        if not isinstance(spec, Mapping):
            spec = {"type": "string", "default": spec}
        known = self._known(spec, ("type", "path", "mode", "default", "description", "optional"), ("min", "max"), key)
        kind = self._one_of(known.get("type", "uri_folder"), f"{key}.type", (*_DATA, *_VALUES))
        mode = self._one_of(known.get("mode", "ro_mount"), f"{key}.mode", _MODES)
        if kind in _VALUES:
            self._read_value(key, known.get("default"))
        elif is_cut and self.inputs:
            self.references[key] = _path_of(self.inputs[0])
        elif is_cut or name not in self.side_inputs:
            self._read_data(name, known, kind, mode, is_cut=is_cut)

    def _read_value(self, key: str, value: Any) -> None:
        if not isinstance(value, str | int | float) or REFERENCE.search(str(value)):
            self.problems.append(f"{key} is {shown(value)}; allowed: the value itself, a str, a number, true or false")
        self.references[key] = str(value)

    def _read_data(self, name: str, spec: Mapping[str, Any], kind: Any, mode: Any, *, is_cut: bool) -> None:
        key = f"inputs.{name}"
        if spec.get("path") is None and is_cut:
            self.references[key] = ""  # the shell says that an input is missing
            return
        way_out = "--input" if is_cut else f"--side-input {name}=PATH"
        path = self._path(spec.get("path"), f"{key}.path", way_out)
        if path is None:
            self.references[key] = ""
            return
        self.references[key] = path
        try:
            if is_cut and kind == "mltable":
                self.inputs = (TabularDataset.from_mltable(path).as_named_input(name),)
            elif is_cut:
                self.inputs = (
                    FileDataset(path, mode="direct" if mode == "direct" else "download").as_named_input(name),
                )
            elif mode != "direct":
                self.side_inputs[name] = FileDataset(path).as_named_input(name)
        except ConfigError as error:
            self.problems += [f"{key}: {problem}" for problem in error.problems]

    def _read_outputs(self, append_row_to: Any) -> str | None:
        """Return the folder of the result, and set where the rows are written to."""
        specs = self.layout.get("outputs") or {}
        if not isinstance(specs, Mapping):
            self.problems.append(wrong("outputs", specs, "a mapping of names to data"))
            specs = {}
        rows = None if append_row_to is None else self._reference(append_row_to, "task.append_row_to", "outputs")
        if rows is not None and rows not in specs:
            self.problems.append(unknown(f"task.append_row_to: {rows}", specs, what="key of outputs"))
        self.values["output_action"] = "summary_only" if append_row_to is None else "append_row"
        main = rows or next(iter(specs), None)
        folder = None
        for name, spec in specs.items():
            path, is_file = self._read_output(f"outputs.{name}", spec)
            if name != main:
                self.references[f"outputs.{name}"] = path or f"{OUTPUT}/{name}"
                continue
            folder, file_name = (posixpath.split(path) if is_file else (path, "")) if path else (None, "")
            if file_name and rows is not None:
                self.values["append_row_file_name"] = file_name
            below = f"/{file_name or 'parallel_run_step.txt'}" if is_file else ""
            self.references[f"outputs.{name}"] = f"{OUTPUT}{below}"
        return folder

    def _read_output(self, key: str, spec: Any) -> tuple[str | None, bool]:
        """Return the path of an output, None if it has none, and whether it is a file."""
        known = self._known(
            self._is_mapping(spec, key), ("type", "path", "mode", "description"), ("name", "version"), key
        )
        kind = self._one_of(known.get("type", "uri_folder"), f"{key}.type", _DATA)
        self._one_of(known.get("mode", "rw_mount"), f"{key}.mode", _MODES)
        path = self._path(known["path"], f"{key}.path", "--output") if known.get("path") is not None else None
        return path, kind == "uri_file"

    def _read_script(self, task: Mapping[str, Any]) -> None:
        kind = task.get("type", "run_function")
        if kind != "run_function":
            allowed = "run_function with an entry_script, whose init() loads the model"
            self.problems.append(wrong("task.type", kind, allowed))
        code = task.get("code", ".")
        if not isinstance(code, str) or code.startswith(("azureml:", "git+", "http:", "https:")):
            self.problems.append(wrong("task.code", code, "the path of a folder on this machine"))
            code = "."
        self.values["source_directory"] = path_from(self.base, code)
        if task.get("entry_script") is not None:
            self.values["entry_script"] = task["entry_script"]
        try:
            self.values["environment"], variables = read_environment_v2(task.get("environment"), self.base)
        except ConfigError as error:
            self.problems += error.problems
            self.values["environment"] = Environment.current()
        else:
            own = self.values.get("environment_variables")
            if variables and isinstance(own, Mapping | None):
                self.values["environment_variables"] = {**variables, **(own or {})}

    def _read_arguments(self, text: Any) -> tuple[str, ...]:
        if not isinstance(text, str):
            self.problems.append(wrong("task.program_arguments", text, "a str, as in a shell"))
            return ()
        if "$[[" in text:
            self.problems.append("task.program_arguments has $[[...]]; allowed: the argument without these brackets")
            return ()
        try:
            words = shlex.split(REFERENCE.sub(lambda found: f"${{{{{found[1]}}}}}", text))
        except ValueError as error:
            self.problems.append(f"task.program_arguments cannot be split: {error}; allowed: quotes as in a shell")
            return ()
        expanded = [expand(word, self.references, self.base, self.problems) for word in words]
        return tuple(self._without_thresholds(expanded))

    def _without_thresholds(self, arguments: Sequence[str]) -> Iterator[str]:
        """Yield the arguments of the script, and set the thresholds that stand among them."""
        rest = iter(arguments)
        for argument in rest:
            name, equals, value = argument.removeprefix("--").partition("=")
            if name not in _THRESHOLDS or not argument.startswith("--"):
                yield argument
                continue
            if name in self.values:
                self.problems.append(f"{name} is given twice, in task.program_arguments too; allowed: one of the two")
            self.values[name] = _number(value if equals else next(rest, ""))

    def _make_config(self) -> ParallelRunConfig | None:
        is_table = any(isinstance(dataset, TabularDataset) for dataset in self.inputs)
        if "partition_keys" not in self.values and not is_table:
            self.values.setdefault("mini_batch_size", _FILES_A_MINI_BATCH)
        self.values.setdefault("error_threshold", _IGNORES_ALL)
        try:
            return ParallelRunConfig(**self.values, compute_target="local")
        except ConfigError as error:
            self.problems += map(_in_their_words, error.problems)
        return None

    def _path(self, path: Any, key: str, option: str) -> str | None:
        if not isinstance(path, str) or not path.strip() or path.startswith("azureml:") or REFERENCE.search(path):
            what = "is missing" if path is None else f"is {shown_path(str(path))}"
            allowed = f"a path on this machine, s3:// or abfs://, here or as {option}"
            self.problems.append(f"{key} {what}; allowed: {allowed}")
            return None
        return path_from(self.base, path.strip())

    def _reference(self, value: Any, key: str, kind: str) -> str | None:
        """Return the name in ``${{inputs.name}}``."""
        found = REFERENCE.fullmatch(value.strip()) if isinstance(value, str) else None
        before, _, name = found[1].partition(".") if found else ("", "", "")
        if before == kind and name:
            return name
        what = "is missing" if value is None else f"is {shown(value)}"
        self.problems.append(f"{key} {what}; allowed: ${{{{{kind}.NAME}}}}")
        return None

    def _mapping(
        self, layout: Mapping[str, Any], key: str, known: Sequence[str], ignored: Sequence[str] = ()
    ) -> dict[str, Any]:
        return self._known(self._is_mapping(layout.get(key), key), known, ignored, key)

    def _is_mapping(self, value: Any, key: str) -> Mapping[str, Any]:
        if isinstance(value, Mapping | None):
            return value or {}
        self.problems.append(wrong(key, value, "a mapping"))
        return {}

    def _known(
        self, layout: Mapping[str, Any], known: Sequence[str], ignored: Sequence[str], place: str
    ) -> dict[str, Any]:
        """Return the values that are not null; unknown keys are problems, and ignored ones are kept for the warning."""
        prefix = "" if layout is self.layout else f"{place}."
        for key in layout:
            if key not in known and key not in ignored:
                self.problems.append(unknown(f"{prefix}{key}", [*known, *ignored], what=f"key of {place}"))
            elif key in ignored and (key, layout[key]) != ("compute", "local"):
                self.ignored.append(f"{prefix}{key}")
        return {key: value for key, value in layout.items() if key in known and value is not None}

    def _one_of(self, value: Any, key: str, allowed: Sequence[str]) -> Any:
        if value not in allowed:
            self.problems.append(wrong(key, value, f"one of {', '.join(allowed)}"))
        return value


def _path_of(dataset: FileDataset | TabularDataset) -> str:
    return dataset.path if isinstance(dataset.path, str) else str(next(iter(dataset.path), ""))


def _number(text: str) -> int | float | str:
    """Return the number that a text is; a text that is none is refused with the parameter's own words."""
    try:
        return int(text) if re.fullmatch(r"[+-]?\d+", text) else float(text)
    except ValueError:
        return text


def _in_their_words(problem: str) -> str:
    """Return a problem of a parameter under the name that it has in the file."""
    keys = {
        **{ours: theirs for theirs, ours in _RENAMED.items()},
        "node_count": "resources.instance_count",
        "run_invocation_timeout": "retry_settings.timeout",
        "entry_script": "task.entry_script",
        "append_row_file_name": "the file name of the output",
    }
    name, space, rest = problem.partition(" ")
    return f"{keys.get(name, name)}{space}{rest}"
