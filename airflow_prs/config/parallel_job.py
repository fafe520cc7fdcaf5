"""
Parallel jobs of Azure ML v2 (``type: parallel``), translated into the layout of a job file.

A rule comes from Azure ML's page "CLI (v2) parallel job YAML schema", unless a comment says otherwise.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from airflow_prs.config.yaml_file import read_yaml
from airflow_prs.errors import ConfigError
from airflow_prs.wording import shown, unknown

_SETTINGS: Final = {
    "description": "description",
    "logging_level": "logging_level",
    "max_concurrency_per_instance": "process_count_per_node",
    "error_threshold": "error_threshold",
    "mini_batch_error_threshold": "allowed_failed_count",
    "mini_batch_size": "mini_batch_size",
    "partition_keys": "partition_keys",
    "environment_variables": "environment_variables",
}
"""Keys whose values are parameters of a ParallelRunConfig, under other names."""
_PARTS: Final = ("type", "task", "inputs", "outputs", "input_data", "resources", "retry_settings", "compute")
_IGNORED: Final = (
    *("name", "version", "display_name", "experiment_name", "tags", "properties"),
    *("identity", "limits", "services", "is_deterministic"),
)
_TASK: Final = ("type", "code", "entry_script", "environment", "program_arguments", "append_row_to")
_RESOURCES_IGNORED: Final = ("instance_type", "properties", "shm_size", "docker_args")
_ENVIRONMENT_IGNORED: Final = (
    "name",
    "version",
    "image",
    "build",
    "description",
    "tags",
    "os_type",
    "inference_config",
)
_LITERALS: Final = ("string", "number", "integer", "boolean")
_THRESHOLDS: Final = ("error_threshold", "allowed_failed_percent")
"""Thresholds that v2 takes from program_arguments."""
_EXPRESSION: Final = re.compile(r"\$\{\{\s*([\w.-]+?)\s*\}\}")


class _Job:
    """A parallel job, the values that its expressions may refer to, and what was found while it was read."""

    def __init__(self, job: Mapping[str, Any], parents: Mapping[str, Any], folder: Path) -> None:
        self.job = job
        self.parents = parents
        self.folder = folder
        self.problems: list[str] = []
        self.ignored: list[str] = []

    def part(self, name: str) -> Mapping[str, Any]:
        value = self.job.get(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            self.problems.append(f"{name} is {shown(value)}; allowed: a mapping")
            return {}
        return value

    def check_keys(self, part: Mapping[str, Any], place: str, known: tuple[str, ...], ignored: tuple[str, ...]) -> None:
        prefix, what = (f"{place}.", f"key of {place}") if place else ("", "key of a parallel job")
        self.problems += [unknown(key, (*known, *ignored), what=what) for key in part if key not in (*known, *ignored)]
        self.ignored += [prefix + key for key in part if key in ignored and part[key] is not None]


def is_parallel_job(layout: Any) -> bool:
    """Return whether a file holds a parallel job of v2, or a pipeline of v2, in which one may be."""
    return isinstance(layout, Mapping) and layout.get("type") in {"parallel", "pipeline"}


def translate(layout: Mapping[str, Any], folder: Path) -> tuple[dict[str, Any], list[str]]:
    """
    Return the layout of a job file that means the same, and what is ignored.

    :param layout: the parallel job, or a pipeline with one.
    :param folder: where relative paths begin: the folder of the file.
    :raises ConfigError: if something has no meaning here; lists all problems.
    """
    job = _find_job(layout, folder)
    job.check_keys(job.job, "", ("$schema", *_SETTINGS, *_PARTS), _IGNORED)
    task = job.part("task")
    if not task:
        job.problems.append("task is missing; allowed: a mapping with code, entry_script and environment")
    job.check_keys(task, "task", _TASK, ())
    if task.get("type", "run_function") != "run_function":
        job.problems.append(f"task.type is {shown(task['type'])}; allowed: run_function")
    inputs = {name: _resolve(job, name, value) for name, value in job.part("inputs").items()}
    data = _name_in(job, "input_data", "inputs") if job.job.get("input_data") is not None else None
    arguments, thresholds = _take_thresholds(_arguments(job, task, inputs, data), job.problems)
    output, file_name = _output(job, task)
    config = {**_config(job, task), "append_row_file_name": file_name}
    config["output_action"] = "append_row" if task.get("append_row_to") else "summary_only"
    for name, value in thresholds.items():
        if config.get(name) not in {None, value}:
            job.problems.append(
                f"{name} is {config[name]}, but {value} in task.program_arguments; allowed: one of them"
            )
        config[name] = value
    # -1, which is also the default, means that failures are ignored.
    config.setdefault("error_threshold", -1)
    if _is_files(inputs.get(data or "")):
        config.setdefault("mini_batch_size", "1")
    if config.get("allowed_failed_count") == -1:
        del config["allowed_failed_count"]
    if job.problems:
        raise ConfigError(job.problems)
    side_inputs = {name: value["path"] for name, value in inputs.items() if name != data and _has_path(value)}
    return {
        "parallel_run_config": {key: value for key, value in config.items() if value is not None},
        "inputs": list(_input(data, inputs.get(data or ""))),
        "side_inputs": side_inputs,
        "output": output,
        "arguments": arguments,
    }, job.ignored


def _find_job(layout: Mapping[str, Any], folder: Path) -> _Job:
    if layout["type"] == "parallel":
        return _Job(layout, {}, folder)
    jobs = layout.get("jobs")
    found = {
        name: job
        for name, job in (jobs.items() if isinstance(jobs, Mapping) else ())
        if isinstance(job, Mapping) and job.get("type") == "parallel"
    }
    if len(found) != 1:
        names = f" ({', '.join(map(str, found))})" if found else ""
        problem = f"the pipeline has {len(found)} jobs of type parallel{names}; allowed: one"
        raise ConfigError([f"{problem}; write the job that you mean to a file of its own"])
    ((name, job),) = found.items()
    parents = layout.get("inputs")
    read = _Job(job, parents if isinstance(parents, Mapping) else {}, folder)
    read.ignored.append(f"all of the pipeline but its inputs and the job {name}")
    return read


def _config(job: _Job, task: Mapping[str, Any]) -> dict[str, Any]:
    resources, retries = job.part("resources"), job.part("retry_settings")
    job.check_keys(resources, "resources", ("instance_count",), _RESOURCES_IGNORED)
    job.check_keys(retries, "retry_settings", ("max_retries", "timeout"), ())
    settings = {ours: job.job[theirs] for theirs, ours in _SETTINGS.items() if job.job.get(theirs) is not None}
    return {
        **settings,
        "entry_script": task.get("entry_script"),
        "source_directory": task.get("code"),
        "environment": _environment(job, task.get("environment")),
        "compute_target_name": _target(job),
        "node_count": resources.get("instance_count", 1),
        "run_invocation_timeout": retries.get("timeout"),
        "run_max_try": _tries(job, retries.get("max_retries")),
    }


def _tries(job: _Job, retries: Any) -> int | None:
    """Return the number of tries, which is greater by one than that of retries."""
    if retries is None:
        return None
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        job.problems.append(f"retry_settings.max_retries is {shown(retries)}; allowed: a whole number from 0 on")
        return None
    return retries + 1


def _target(job: _Job) -> Any:
    compute = job.job.get("compute")
    return compute.removeprefix("azureml:") if isinstance(compute, str) else compute or "local"


def _environment(job: _Job, environment: Any) -> Any:
    """Return the environment as files of the original hold it; anything else as it is, for that reader to refuse it."""
    if isinstance(environment, str):
        if environment.startswith("azureml:"):
            return {"name": environment}
        environment = read_yaml(job.folder / environment.removeprefix("file:"), what="task.environment")
    if not isinstance(environment, Mapping) or "python" in environment:
        return environment
    job.check_keys(environment, "task.environment", ("conda_file",), _ENVIRONMENT_IGNORED)
    packages = environment.get("conda_file")
    if packages is None:
        return {"name": environment.get("name") or environment.get("image")}
    key = "condaDependenciesFile" if isinstance(packages, str) else "condaDependencies"
    return {"python": {key: packages}}


def _resolve(job: _Job, name: str, value: Any) -> Any:
    """Return an input: a literal, or a mapping; None: a value that the file does not hold."""
    found = _EXPRESSION.fullmatch(value) if isinstance(value, str) else None
    if found:
        place, _, parent = found[1].rpartition(".")
        if place != "parent.inputs" or parent not in job.parents:
            job.ignored.append(f"inputs.{name}, as {value} is not in this file")
            return None
        value = job.parents[parent]
    if isinstance(value, Mapping) and value.get("type") in _LITERALS:
        return value.get("default")
    return _without_asset(job, f"inputs.{name}", value)


def _without_asset(job: _Job, place: str, value: Any) -> Any:
    """Return an input or output; None: only Azure ML knows its path."""
    if not _has_path(value) or not value["path"].startswith("azureml:"):
        return value
    job.ignored.append(f"{place}, as {value['path']} is known to Azure ML only")
    return None


def _has_path(value: Any) -> bool:
    return isinstance(value, Mapping) and isinstance(value.get("path"), str)


def _input(name: str | None, value: Any) -> Iterator[dict[str, Any]]:
    value = {"path": value} if isinstance(value, str) else value
    if name is None or not isinstance(value, Mapping) or not _has_path(value):
        return
    is_files = _is_files(value)
    direct = {"mode": "direct"} if value.get("mode") == "direct" and is_files else {}
    yield {"name": name, "path": value["path"], "kind": "files" if is_files else "mltable", **direct}


def _is_files(value: Any) -> bool:
    return not isinstance(value, Mapping) or value.get("type") != "mltable"


def _output(job: _Job, task: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the folder of the result, and the name of the file with the rows; None: not in the file."""
    outputs = {name: _without_asset(job, f"outputs.{name}", value) for name, value in job.part("outputs").items()}
    if not task.get("append_row_to"):
        paths = [value["path"] for value in outputs.values() if _has_path(value)]
        if len(paths) > 1:
            job.problems.append(f"outputs has {len(paths)} paths; allowed: one, the folder of the result")
        return (paths[0] if paths else None), None
    output = outputs.get(_name_in(job, "append_row_to", "outputs", task) or "")
    if not isinstance(output, Mapping) or not _has_path(output):
        return None, None
    folder, slash, name = output["path"].rpartition("/")
    if output.get("type") == "uri_folder" or not name:
        return output["path"], None
    return (folder or slash or "."), name


def _name_in(job: _Job, key: str, place: str, part: Mapping[str, Any] | None = None) -> str | None:
    """Return the name of the input or output that a value refers to."""
    value = (job.job if part is None else part)[key]
    found = _EXPRESSION.fullmatch(value.strip()) if isinstance(value, str) else None
    where, _, name = found[1].rpartition(".") if found else ("", "", "")
    if where != place or name not in job.part(place):
        job.problems.append(f"{key} is {shown(value)}; allowed: ${{{{{place}.NAME}}}} with a name below {place}")
        return None
    return name


def _arguments(job: _Job, task: Mapping[str, Any], inputs: Mapping[str, Any], data: str | None) -> list[Any]:
    text = task.get("program_arguments") or ""
    if not isinstance(text, str) or "$[[" in text:
        problem = "allowed: a text such as --model ${{inputs.model}}, without optional parts in $[[ ]]"
        job.problems.append(f"task.program_arguments is {shown(text)}; {problem}")
        return []
    try:
        parts = shlex.split(_EXPRESSION.sub(r"${{\1}}", text))
    except ValueError as error:
        job.problems.append(f"task.program_arguments is {shown(text)}: {error}; allowed: the words of a command line")
        return []
    return [_argument(job, part, inputs, data) for part in parts]


def _argument(job: _Job, part: str, inputs: Mapping[str, Any], data: str | None) -> Any:
    literals = {
        f"inputs.{name}": str(value)
        for name, value in inputs.items()
        if name != data and value is not None and not isinstance(value, Mapping)
    }
    for found in _EXPRESSION.finditer(part):
        place, _, name = found[1].rpartition(".")
        if found[1] in literals:
            continue
        if place == "inputs" and name in inputs and name != data:
            if found[0] == part:
                return {"side_input": name}
            hint = "allowed: an argument of its own, such as --model ${{inputs.model}}, as it is a path"
        elif place == "outputs":
            hint = "not supported: the script finds its output folder as EntryScript().output_dir"
        elif place == "inputs" and name == data:
            hint = "not supported: run() gets the mini-batches of input_data"
        else:
            hint = "allowed: ${{inputs.NAME}} with a name below inputs"
        job.problems.append(f"task.program_arguments has {part}; {hint}")
    return _EXPRESSION.sub(lambda found: literals.get(found[1], found[0]), part)


def _take_thresholds(arguments: list[Any], problems: list[str]) -> tuple[list[Any], dict[str, float]]:
    """Return the arguments without the thresholds among them, and these."""
    rest: list[Any] = []
    thresholds: dict[str, float] = {}
    left = iter(arguments)
    for argument in left:
        name, equals, value = argument.removeprefix("--").partition("=") if isinstance(argument, str) else ("", "", "")
        if name not in _THRESHOLDS or not str(argument).startswith("--"):
            rest.append(argument)
            continue
        text = value if equals else next(left, None)
        try:
            thresholds[name] = int(text) if name == "error_threshold" else float(text)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            problems.append(f"task.program_arguments: --{name} is {shown(text)}; allowed: a number")
    return rest, thresholds
