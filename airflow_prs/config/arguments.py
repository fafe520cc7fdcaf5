"""
The step's arguments: those for the entry script, and the options for the driver among them.

When the DAG is parsed, an argument may be a template or another placeholder for a value that only a run knows. Plan
checks these once it has the values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from airflow_prs.config.datasets import FileDataset
from airflow_prs.config.declaring import Refused
from airflow_prs.config.parameters import PipelineParameter
from airflow_prs.config.rules import SECONDS, one_of
from airflow_prs.errors import ConfigError
from airflow_prs.records import LIMITS
from airflow_prs.wording import nearest, shown

RESERVED = (
    "mini_batch_size",
    *LIMITS,
    "output",
    "output_action",
    "logging_level",
    "process_count_per_node",
    "run_invocation_timeout",
    "run_max_try",
    "append_row_file_name",
    "partition_keys",
)
"""Arguments that the driver itself passes to the script, from the parameters of the same names."""

LONGEST_TIMEOUT_S = 259_200

NEAR_MISS_LIKENESS = 0.8
"""How similar a name must be to a driver's option to count as a misspelt one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverOptions:
    """
    The options for the driver. A field has the name of its option, followed by the unit.

    :param rank_mini_batch_count: number of mini-batches without any input; 0: those of the inputs.
    :param task_overhead_timeout_s: seconds allowed for loading a mini-batch; None: not given.
    :param progress_update_timeout_s: seconds that a node may go on without any mini-batch done; None: not given.
    :param resource_monitor_interval_s: seconds between samples of what nodes use; 0: none.
    :param profiling_module: ``cProfile`` or ``profile``; None: no profiles.
    :param notes: lines for the log about options that have no effect here.
    """

    rank_mini_batch_count: int = 0
    task_overhead_timeout_s: float | None = None
    progress_update_timeout_s: float | None = None
    resource_monitor_interval_s: float = 600
    profiling_module: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Option:
    """
    An option for the driver.

    :param allowed: its values in words.
    :param parse: returns the value of a text; raises ValueError if it is not allowed.
    :param note: why it has no effect here; '' if it has one.
    :param needs_value: whether it needs a value.
    """

    allowed: str
    parse: Callable[[str], Any]
    note: str = ""
    needs_value: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Given:
    """An option for the driver among the arguments; ``value`` is None if nothing follows it."""

    name: str
    value: Any


def check_arguments(arguments: Sequence[Any] | None) -> list[str]:
    """
    Return what is wrong with the arguments, as far as they are known.

    :param arguments: str and numbers, and placeholders for them: PipelineParameters, side inputs, outputs of tasks.
    """
    if arguments is None:
        return []
    if isinstance(arguments, str) or not isinstance(arguments, Sequence):
        return [f"arguments is {shown(arguments)}; allowed: a list such as ['--model', 'mosaic']"]
    problems = list(_find_wrong_types(arguments))
    if arguments and not _may_be_option(arguments[0]):
        problems.append(
            f"arguments begin with {shown(arguments[0])}; allowed: keyword arguments only, so the first begins with '-'"
        )
    problems += _find_reserved(arguments)
    for given in _find_driver_options(arguments):
        problem = None if _is_known_later(given.value) else _find_problem(given)
        if problem:
            problems.append(problem)
    return problems


def driver_options(arguments: Sequence[Any] | None) -> DriverOptions:
    """
    Return the options for the driver.

    :param arguments: checked by check_arguments, with the values of the run in place.
    :raises ConfigError: if an option has a wrong value.
    """
    given = list(_find_driver_options(arguments or ()))
    if problems := [problem for option in given if (problem := _find_problem(option))]:
        raise ConfigError(problems)
    values = {option.name: _OPTIONS[option.name].parse(str(option.value)) for option in given}
    return DriverOptions(
        **{_FIELDS[name]: value for name, value in values.items() if name in _FIELDS},
        notes=tuple(f"--{name} is accepted, but {_OPTIONS[name].note}." for name in values if _OPTIONS[name].note),
    )


def may_need_no_inputs(arguments: Sequence[Any] | None) -> bool:
    """Return whether the arguments ask for mini-batches without any input, or may do so once their values are known."""
    needs_none = False
    for given in _find_driver_options(arguments or ()):
        if given.name == _RANKS and given.value is not None:
            needs_none = _is_known_later(given.value) or (_find_problem(given) is None and _ranks(str(given.value)) > 0)
    return needs_none


def near_misses(arguments: Sequence[Any] | None) -> list[str]:
    """Return a warning for each option that goes to the script, but looks like a misspelt option for the driver."""
    warnings = []
    for name in dict.fromkeys(name for _, name, _ in _find_options(arguments or ())):
        meant = nearest(name, _OPTIONS, likeness=NEAR_MISS_LIKENESS)
        if meant and name != meant and name not in RESERVED:
            warnings.append(
                f"arguments: --{name} goes to the entry script; did you mean the driver's option --{meant}?"
            )
    return warnings


def _find_wrong_types(arguments: Sequence[Any]) -> Iterator[str]:
    for position, argument in enumerate(arguments):
        if not isinstance(argument, str | int | float) and not _stands_for_value(argument):
            yield (
                f"arguments[{position}] is {shown(argument)}; allowed: a str, a number, a PipelineParameter, one of "
                "the side_inputs, or what another task returns"
            )


def _may_be_option(argument: Any) -> bool:
    if isinstance(argument, str):
        return argument.startswith("-") or _is_template(argument)
    return _stands_for_value(argument) and not isinstance(argument, FileDataset)


def _find_reserved(arguments: Sequence[Any]) -> Iterator[str]:
    for name in dict.fromkeys(name for _, name, _ in _find_options(arguments) if name in RESERVED):
        owner = "ParallelRunOperator" if name == "output" else "ParallelRunConfig"
        yield f"arguments hold --{name}, which is reserved; use the parameter {name} of {owner} instead"


def _find_options(arguments: Sequence[Any]) -> Iterator[tuple[int, str, str | None]]:
    """Yield each ``--name`` or ``--name=value``: its position, its name, and the value after the '='."""
    for position, argument in enumerate(arguments):
        if isinstance(argument, str) and argument.startswith("--"):
            name, equals, value = argument.removeprefix("--").partition("=")
            yield position, name, value if equals else None


def _find_driver_options(arguments: Sequence[Any]) -> Iterator[_Given]:
    for position, name, value in _find_options(arguments):
        if name in _OPTIONS:
            following = arguments[position + 1] if position + 1 < len(arguments) else None
            if isinstance(following, str) and following.startswith("--"):
                following = None
            yield _Given(name=name, value=following if value is None else value)


def _find_problem(given: _Given) -> str | None:
    option = _OPTIONS[given.name]
    if given.value is None and option.needs_value:
        return f"arguments: --{given.name} has no value; allowed: {option.allowed}"
    try:
        option.parse(str(given.value))
    except ValueError:
        return f"arguments: --{given.name} is {shown(given.value)}; allowed: {option.allowed}"
    return None


def _stands_for_value(argument: Any) -> bool:
    return isinstance(argument, PipelineParameter | FileDataset | Refused) or hasattr(argument, "iter_references")


def _is_template(argument: str) -> bool:
    return "{{" in argument or "{%" in argument


def _is_known_later(value: Any) -> bool:
    return _is_template(value) if isinstance(value, str) else _stands_for_value(value)


def _timeout(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= LONGEST_TIMEOUT_S:
        raise ValueError
    return seconds


def _ranks(text: str) -> int:
    return max(0, int(text))


_RANKS = "rank_mini_batch_count"
_TIMEOUT = _Option(allowed=f"seconds, more than 0 and at most {LONGEST_TIMEOUT_S}", parse=_timeout)
_FOR_STUDIO = _Option(allowed="any", parse=str, note="it is for Azure's studio and has no use here", needs_value=False)

_OPTIONS: Mapping[str, _Option] = {
    _RANKS: _Option(allowed="an int (0 or less: off)", parse=_ranks),
    "resource_monitor_interval": _Option(
        allowed="seconds, at least 0 (0: off)", parse=lambda text: SECONDS.parse(float(text))
    ),
    "profiling_module": _Option(allowed="cProfile or profile", parse=one_of("cProfile", "profile").parse),
    "progress_update_timeout": _TIMEOUT,
    "task_overhead_timeout": _TIMEOUT,
    "first_task_creation_timeout": replace(
        _TIMEOUT, note="it has no use here: all mini-batches are known before the first one runs"
    ),
    "copy_logs_to_parent": _FOR_STUDIO,
    "push_metrics_to_parent": _FOR_STUDIO,
    "metrics_name_prefix": _FOR_STUDIO,
}
_FIELDS = {field.name.removesuffix("_s"): field.name for field in fields(DriverOptions)}
