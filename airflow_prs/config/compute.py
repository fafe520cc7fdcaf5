"""ComputeTarget: where Airflow places the shards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from airflow_prs.config.declaring import declared
from airflow_prs.config.yaml_file import read_yaml
from airflow_prs.errors import ConfigError
from airflow_prs.wording import nearest, shown, unknown, wrong

LOCAL = "local"
"""Name of the target that always exists. It leaves all choices to Airflow."""


@declared
@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ComputeTarget:
    """
    Where the shards run; None leaves a choice to Airflow and the operator's own arguments.

    :param queue: queue of the executor.
    :param pool: pool whose slots the shards take.
    :param pool_slots: slots that each shard takes.
    :param executor: name of the executor.
    :param executor_config: what the executor understands, such as ``{"pod_override": ...}``.
    """

    queue: str | None = None
    pool: str | None = None
    pool_slots: int | None = None
    executor: str | None = None
    executor_config: Mapping[str, Any] | None = field(default=None, hash=False)

    def __post_init__(self) -> None:
        if problems := list(self._problems()):
            raise ConfigError(problems)

    def to_arguments(self) -> dict[str, Any]:
        """The arguments of an Airflow operator that are set."""
        values = {option.name: getattr(self, option.name) for option in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def __repr__(self) -> str:
        # an executor's configuration may hold secrets, and objects whose repr differs between hosts
        arguments = self.to_arguments()
        config = arguments.pop("executor_config", None)
        listed = [f"{name}={value!r}" for name, value in arguments.items()]
        if config is not None:
            listed.append(f"executor_config=<{', '.join(sorted(map(str, config)))}>")
        return f"ComputeTarget({', '.join(listed)})"

    def _problems(self) -> Iterator[str]:
        for name in ("queue", "pool", "executor"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not value.strip()):
                yield wrong(name, value, "a name, or None")
        slots = self.pool_slots
        if slots is not None and (isinstance(slots, bool) or not isinstance(slots, int) or slots < 1):
            yield wrong("pool_slots", slots, "an int of at least 1, or None")
        if self.executor_config is not None and not isinstance(self.executor_config, Mapping):
            yield f"executor_config is of type {type(self.executor_config).__name__}; allowed: a dict, or None"


def load_compute_targets(path: str | os.PathLike[str]) -> dict[str, ComputeTarget]:
    """
    Read the targets that a YAML file declares: a mapping from a name to the arguments of ComputeTarget.

    :raises ConfigError: with all problems of the file.
    """
    content = read_yaml(path, what="compute targets")
    if not isinstance(content, Mapping):
        raise ConfigError([f"compute targets in {path}: allowed: a mapping from names to queue, pool and so on"])
    targets, problems = {}, []
    for name, options in content.items():
        try:
            targets[str(name)] = read_compute_target(options or {})
        except ConfigError as error:  # noqa: PERF203  (all problems of the file at once)
            problems += [f"compute target {name}: {problem} (in {path})" for problem in error.problems]
    if problems:
        raise ConfigError(problems)
    return targets


def read_compute_target(options: Any) -> ComputeTarget:
    """
    Return the target that a mapping of a YAML file describes.

    :raises ConfigError: with all problems of the mapping.
    """
    known = [option.name for option in fields(ComputeTarget)]
    if not isinstance(options, Mapping):
        raise ConfigError([wrong("it", options, f"a mapping of {', '.join(known)}")])
    problems = [unknown(name, known, what="setting of a compute target") for name in options if name not in known]
    try:
        target = ComputeTarget(**{name: value for name, value in options.items() if name in known})
    except ConfigError as error:
        raise ConfigError([*problems, *error.problems]) from None
    if problems:
        raise ConfigError(problems)
    return target


def find_compute_target(value: str | ComputeTarget, declared: Mapping[str, ComputeTarget]) -> ComputeTarget:
    """
    Return the target that a configuration names.

    :raises ConfigError: if no target of this name is declared.
    """
    if isinstance(value, ComputeTarget):
        return value
    targets = {LOCAL: ComputeTarget(), **declared}
    if value in targets:
        return targets[value]
    near = nearest(value, targets)
    hint = f"; did you mean {near!r}?" if near else ""
    raise ConfigError([f"compute_target is {shown(value)}; declared are: {', '.join(sorted(targets))}{hint}"])
