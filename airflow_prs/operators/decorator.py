"""@parallel_run: a function in a DAG file that replaces an entry script."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

from airflow_prs.airflow_side.authoring import free_id
from airflow_prs.config.config import RULES, ParallelRunConfig
from airflow_prs.config.declaring import Refused, collected
from airflow_prs.config.environment import Environment
from airflow_prs.config.function_script import FunctionScript, make_script
from airflow_prs.errors import ConfigError
from airflow_prs.operators.dealing import TASK_ARGUMENTS
from airflow_prs.operators.parallel_run import STEP_PARAMETERS, ParallelRunOperator
from airflow_prs.wording import unknown

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from airflow_prs.airflow_side.authoring import StepOutput
    from airflow_prs.config.datasets import FileDataset
    from airflow_prs.operators.declaration import Inputs
    from airflow_prs.operators.settings_types import FunctionSettings

_MAPPING = frozenset({"expand", "expand_kwargs", "partial"})
_AT_CALL = frozenset({"inputs", "side_inputs", "output", "arguments"})

_CONFIG = frozenset(RULES) - {"entry_script"}
_KNOWN = _CONFIG | (STEP_PARAMETERS - {"parallel_run_config"}) | TASK_ARGUMENTS


class ParallelRunFunction:
    """
    A function that a ParallelRunOperator runs on mini-batches, as ``@parallel_run`` returns it.

    :param function: the function itself, for tests.
    :param script: the entry script that contains it.
    :param settings: parameters of ParallelRunConfig and ParallelRunOperator.
    """

    function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any], script: FunctionScript, settings: Mapping[str, Any]) -> None:
        name = function.__name__
        problems = [unknown(each, _KNOWN, what="parameter of @parallel_run") for each in settings if each not in _KNOWN]
        if "entry_script" in settings:
            problems = ["entry_script is the function itself; use ParallelRunOperator to run a file"]
        if problems:
            raise ConfigError([f"{name}: {problem}" for problem in problems])
        functools.update_wrapper(self, function)
        self.function = function
        self._script = script
        self._settings = settings

    if TYPE_CHECKING:

        def __call__(
            self,
            *,
            inputs: Inputs = ...,
            side_inputs: Sequence[FileDataset] | FileDataset | None = ...,
            output: Any = ...,
            arguments: Sequence[Any] | None = ...,
            **parameters: Any,
        ) -> StepOutput:
            """
            Add the step to the current DAG, and return the location of its result; ``.summary`` is a RunSummary.

            :param inputs: as for ParallelRunOperator, like the other three; it has priority over the decorator's.
            :param parameters: values of the other parameters of the functions.
            """

    else:

        def __call__(self, **given: Any) -> StepOutput:  # noqa: D102 - see above
            parameters = {name: value for name, value in given.items() if name not in _AT_CALL}
            settings = {
                **({} if "name" in self._settings else {"task_id": self.__name__}),
                "environment": Environment.current(),
                "error_threshold": 0,
                "output_action": "append_row",
                "compute_target": "local",
                "node_count": 1,
                "doc_md": inspect.getdoc(self.function),
                **self._settings,
                **{name: value for name, value in given.items() if name in _AT_CALL},
            }
            for each in {"task_id", "name"} & settings.keys():
                settings[each] = free_id(settings[each], settings.get("dag"), settings.get("task_group"))
            problems: list[str] = []
            script, config = self._script, None
            with collected(problems):
                script = script.call(parameters)
            with collected(problems):
                configured = {name: value for name, value in settings.items() if name in _CONFIG}
                config = ParallelRunConfig(entry_script=script, **configured)
            if problems:
                config = Refused(problems)
            others = {name: value for name, value in settings.items() if name not in _CONFIG}
            return ParallelRunOperator(parallel_run_config=config, **others).output

        def __getattr__(self, name: str) -> Any:
            if name in _MAPPING:
                instead = f"call {self.__name__} with all inputs, or several times with .override(task_id=...)"
                raise AttributeError(f"{self.__name__}.{name} is not there: its tasks are mapped already; {instead}")
            raise AttributeError(f"{type(self).__name__} has no attribute {name!r}", name=name, obj=self)

    def override(self, **settings: Unpack[FunctionSettings]) -> ParallelRunFunction:
        """
        Return the same function with other settings, such as ``task_id``.

        :param settings: parameters of ``@parallel_run`` except ``init`` and ``shutdown``.
        """
        return type(self)(self.function, self._script, {**self._settings, **settings})

    def __repr__(self) -> str:
        return f"<@parallel_run {self.function.__qualname__}>"


@overload
def parallel_run(function: Callable[..., Any], /) -> ParallelRunFunction: ...


@overload
def parallel_run(
    *,
    init: Callable[..., Any] | None = ...,
    shutdown: Callable[..., Any] | None = ...,
    **settings: Unpack[FunctionSettings],
) -> Callable[[Callable[..., Any]], ParallelRunFunction]: ...


def parallel_run(
    function: Callable[..., Any] | None = None,
    /,
    *,
    init: Callable[..., Any] | None = None,
    shutdown: Callable[..., Any] | None = None,
    **settings: Any,
) -> Any:
    """
    Use a function as an entry script's ``run()``; a call of it creates a ParallelRunOperator.

    Worker processes run the source of the functions alone: a function imports or defines what it needs inside. The call
    sets its parameters other than mini_batch and mini_batch_context to plain values.

    :param init: called once in each worker process; the function can use what it declares ``global``.
    :param shutdown: called when a worker process ends.
    :param settings: parameters of ParallelRunConfig and ParallelRunOperator. Defaults: environment is the Python that
        runs Airflow, error_threshold 0, output_action append_row, compute_target local, node_count 1, and task_id the
        name of the function.
    :raises ConfigError: if a function cannot run alone, or a parameter is unknown.
    """

    def decorate(decorated: Callable[..., Any]) -> ParallelRunFunction:
        script = make_script(_AT_CALL, run=decorated, init=init, shutdown=shutdown)
        return ParallelRunFunction(decorated, script, settings)

    return decorate if function is None else decorate(function)
