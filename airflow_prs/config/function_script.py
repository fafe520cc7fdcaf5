"""An entry script made of functions in a DAG file."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_prs.config.datasets import FileDataset
from airflow_prs.config.declaring import Refused
from airflow_prs.config.function_source import FunctionSource, read_function
from airflow_prs.config.parameters import PipelineParameter
from airflow_prs.errors import ConfigError
from airflow_prs.wording import shown, unknown

CONTEXT = "mini_batch_context"

_ALLOWED = "None, True, False, a finite number, text, and lists and dicts of them, with text as keys"

# The functions are compiled with their own file and lines, so that tracebacks, debuggers and warnings show the DAG
# file. linecache gets the lines, since the file may be missing or different on the machine that runs them.
_LOADER = '''\
"""Made by airflow_prs of functions in a DAG file; tracebacks show the lines of that file."""


def _parallel_run_load(functions, parameters):
    import __future__
    import functools
    import inspect
    import json
    import linecache

    files, loaded = {}, []
    for name, file, line, bound, source in functions:
        above = "\\n" * (line - 2) + "if True:\\n" if source[0][:1].isspace() else "\\n" * (line - 1)
        flags = __future__.annotations.compiler_flag
        exec(compile(above + "".join(source), file, "exec", flags, True), globals())
        lines = files.setdefault(file, [])
        lines.extend(["\\n"] * (line - 1 + len(source) - len(lines)))
        lines[line - 1 : line - 1 + len(source)] = source
        function = globals()[name]
        defaults = inspect.signature(function).parameters
        values = {each: defaults[each].default for each in bound}
        values.update((each, value) for each, value in json.loads(parameters).items() if each in bound)
        loaded.append(functools.partial(function, **values) if bound else function)
    for file, lines in files.items():
        linecache.cache[file] = (sum(map(len, lines)), None, lines, file)
    return loaded


'''


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionScript:
    """
    Functions that stand for an entry script, which plan writes.

    :param functions: by role: ``run``, and ``init`` and ``shutdown`` where there are any.
    :param parameters: values for their parameters, by name.
    """

    functions: Mapping[str, FunctionSource]
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        """Name of the script; a name that hides no module of the function's name."""
        return f"parallel_run_{self.functions['run'].name}.py"

    def call(self, given: Mapping[str, Any]) -> FunctionScript:
        """
        Return the script with the values of its parameters that the DAG file passes.

        :raises ConfigError: if one is unknown or missing, or is neither a plain value nor becomes one in a run.
        """
        name = self.functions["run"].name
        known = {each for role in self.functions for each in self._bound(role)}
        needed = {each for role, function in self.functions.items() for each in self._bound(role) & function.required}
        problems = [unknown(each, known, what=f"parameter of {name}") for each in given if each not in known]
        problems += [f"{name}() lacks the parameter {each}" for each in sorted(needed - set(given))]
        for each, value in given.items():
            problems += _find_not_plain(each, value, is_known=False)
        if problems:
            raise ConfigError(problems)
        return replace(self, parameters=dict(given))

    def resolve(self, parameters: Mapping[str, Any]) -> FunctionScript:
        """
        Return the script with the values that its parameters have in a run.

        :raises ConfigError: if one is not a plain value.
        """
        problems = [problem for name, value in parameters.items() for problem in _find_not_plain(name, value)]
        if problems:
            raise ConfigError(problems)
        return replace(self, parameters=dict(parameters))

    def text(self) -> str:
        """The script."""
        return self._write({role: (function.file, function.line) for role, function in self.functions.items()})

    def work(self) -> str:
        """The script without files and line numbers, for the digest: edits elsewhere in the DAG file change them."""
        return self._write(dict.fromkeys(self.functions, ("", 0)))

    def _write(self, places: Mapping[str, tuple[str, int]]) -> str:
        lines = [_LOADER, f"{', '.join(self.functions)}, = _parallel_run_load(\n    [\n"]
        for role, function in self.functions.items():
            file, line = places[role]
            lines.append(f"        ({function.name!r}, {file!r}, {line}, {sorted(self._bound(role))!r}, [\n")
            lines += [f"            {line!r},\n" for line in function.lines]
            lines.append("        ]),\n")
        lines.append(f"    ],\n    {json.dumps(dict(sorted(self.parameters.items())))!r},\n)\n")
        return "".join(lines)

    def _bound(self, role: str) -> set[str]:
        names = self.functions[role].parameters
        return {name for name in names[1:] if name != CONTEXT} if role == "run" else set(names)


def make_script(reserved: frozenset[str], **functions: Callable[..., Any] | None) -> FunctionScript:
    """
    Make an entry script of functions.

    :param reserved: names that their parameters cannot have.
    :param functions: ``run``, and ``init`` and ``shutdown`` where there are any.
    :raises ConfigError: with all that they lack to run alone.
    """
    sources: dict[str, FunctionSource] = {}
    problems: list[str] = []
    for role, function in functions.items():
        if function is not None:
            try:
                sources[role] = read_function(function, role)
            except ConfigError as error:
                problems += error.problems
    for role, source in sources.items():
        problems += _parameter_problems(role, source, reserved)
    if not problems:
        problems += _name_problems(sources)
    if problems:
        raise ConfigError(problems)
    return FunctionScript(functions=sources)


def _parameter_problems(role: str, source: FunctionSource, reserved: frozenset[str]) -> Iterator[str]:
    bound = source.parameters
    if role == "run":
        if not bound:
            yield f"{source.place} has no parameter; allowed: one for the mini-batch, and others behind it"
        if CONTEXT in bound[2:]:
            yield f"{source.place} takes {CONTEXT} too late; allowed: as its second parameter"
        bound = tuple(name for name in bound[1:] if name != CONTEXT)
    for name in bound:
        if name in reserved:
            yield f"{source.place} has a parameter {name}, which has another meaning in its call; rename it"
        elif name in source.by_position:
            yield f"{source.place} takes {name} by position only; remove the '/'"


def _name_problems(sources: Mapping[str, FunctionSource]) -> Iterator[str]:
    for role, source in sources.items():
        if source.name in {"init", "shutdown", "run"} - {role}:
            yield f"{source.place} is the {role}() of the script, where {source.name} means something else; rename it"
    own = {source.name for source in sources.values()}.union(*(source.sets for source in sources.values()))
    for source in sources.values():
        if outer := sorted(source.reads - own):
            yield (
                f"{source.place} uses {', '.join(outer)}; it runs alone in worker processes, without the rest of the "
                "DAG file: import or define these names inside it, take them as parameters, or set them in init with "
                "'global'"
            )


def _find_not_plain(name: str, value: Any, *, is_known: bool = True) -> Iterator[str]:
    """
    Yield a problem for each value that JSON cannot hold, or would change.

    :param is_known: whether it is the value of a run; otherwise placeholders for such a value are allowed, too.
    """
    if value is None or type(value) in {bool, int, str} or (type(value) is float and math.isfinite(value)):
        return
    if not is_known and (
        isinstance(value, PipelineParameter | FileDataset | Refused) or hasattr(value, "iter_references")
    ):
        return
    if type(value) is list:
        for position, inner in enumerate(value):
            yield from _find_not_plain(f"{name}[{position}]", inner, is_known=is_known)
    elif type(value) is dict and all(type(key) is str for key in value):
        for key, inner in value.items():
            yield from _find_not_plain(f"{name}[{key!r}]", inner, is_known=is_known)
    else:
        yield f"{name} is {shown(value)}; allowed: {_ALLOWED}"
