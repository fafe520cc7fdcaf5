"""A function's source as it stands in its file, and what the function needs from around it."""

from __future__ import annotations
import __future__

import ast
import builtins
import dis
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType
from typing import Any

from airflow_prs.errors import ConfigError
from airflow_prs.wording import wrong

_ALWAYS_THERE = frozenset(dir(builtins)) | {
    "__annotations__",
    "__builtins__",
    "__conditional_annotations__",
    "__file__",
    "__spec__",
}
"""Names that a module has before anything is defined in it."""

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionSource:
    """
    A function as it stands in its file.

    :param name: its name.
    :param file: path of the file.
    :param line: number of the line with ``def``.
    :param lines: from that line on, decorators left out, indented as they stand there.
    :param parameters: names of its parameters.
    :param required: those without a default.
    :param by_position: those that can be given by position alone.
    :param reads: names outside of it that it reads.
    :param sets: names that it makes global.
    """

    name: str
    file: str
    line: int
    lines: tuple[str, ...]
    parameters: tuple[str, ...]
    required: frozenset[str]
    by_position: frozenset[str]
    reads: frozenset[str]
    sets: frozenset[str]

    @property
    def place(self) -> str:
        """Where it stands, for errors."""
        return f"{self.name} ({self.file}, line {self.line})"


def read_function(function: Callable[..., Any], role: str) -> FunctionSource:
    """
    Read the source of a function, as far as a worker process can run it alone.

    :param role: what it is for, in errors.
    :raises ConfigError: if it is no function with a source, or is bound to what stands around it.
    """
    if not inspect.isfunction(function) or function.__code__.co_name == "<lambda>":
        raise ConfigError([wrong(role, function, "a function written with def or async def")])
    name = function.__code__.co_name
    if hasattr(function, "__wrapped__"):
        raise ConfigError([f"{role}: {name} has another decorator below; its source is taken without: remove it"])
    if outer := sorted(set(function.__code__.co_freevars) - {name}):
        problem = (
            f"{role}: {name} uses {', '.join(outer)} of the function or class around it; it runs alone in worker "
            "processes: take such values as parameters, and import or define the others inside"
        )
        raise ConfigError([problem])
    parameters = inspect.signature(function).parameters
    if variadic := [str(each) for each in parameters.values() if each.kind in _VARIADIC]:
        raise ConfigError([f"{role}: {name} takes {', '.join(variadic)}; allowed: parameters with a name each"])
    return _read(function, name, role, parameters)


def _read(function: Any, name: str, role: str, parameters: Any) -> FunctionSource:
    line, lines = _find_lines(function, name, role)
    file = function.__code__.co_filename
    reads, sets = _outer_names(_compile(lines, file))
    return FunctionSource(
        name=name,
        file=file,
        line=line,
        lines=lines,
        parameters=tuple(parameters),
        required=frozenset(each.name for each in parameters.values() if each.default is each.empty),
        by_position=frozenset(each.name for each in parameters.values() if each.kind is each.POSITIONAL_ONLY),
        reads=frozenset(reads - sets - _ALWAYS_THERE),
        sets=frozenset(sets),
    )


def _find_lines(function: Any, name: str, role: str) -> tuple[int, tuple[str, ...]]:
    first = function.__code__.co_firstlineno
    try:
        lines = inspect.findsource(function)[0]
        tree = ast.parse("".join(lines))
    except (OSError, SyntaxError) as error:
        raise ConfigError(
            [f"{role}: the source of {name} cannot be read: {error}; allowed: a function in a file"]
        ) from error
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            above = [decorator.lineno for decorator in node.decorator_list]
            if first in {node.lineno, *above}:
                source = lines[node.lineno - 1 : node.end_lineno]
                # A form feed in front is no indentation.
                return node.lineno, tuple(_ended([source[0].lstrip("\f"), *source[1:]]))
    problem = (
        f"{role}: {name} does not stand at line {first} of {function.__code__.co_filename}; parse the DAG file again"
    )
    raise ConfigError([problem])


def _ended(lines: list[str]) -> Iterator[str]:
    return (line if line.endswith("\n") else f"{line}\n" for line in lines)


def _compile(lines: tuple[str, ...], file: str) -> CodeType:
    """Compile lines as the script does. Annotations are not evaluated, since their names are defined outside."""
    before = "if True:\n" if lines[0][:1].isspace() else ""
    flags = __future__.annotations.compiler_flag
    code: CodeType = compile(before + "".join(lines), file, "exec", flags, dont_inherit=True)
    return code


def _outer_names(code: CodeType) -> tuple[set[str], set[str]]:
    """Find the names that code and what is defined in it read from around it, and those that it makes global."""
    own = {each.argval for each in dis.get_instructions(code) if each.opname == "STORE_NAME"}
    reads, sets = set(), set()
    for each in dis.get_instructions(code):
        if each.opname == "STORE_GLOBAL":
            sets.add(each.argval)
        elif "GLOBAL" in each.opname or (each.opname == "LOAD_NAME" and each.argval not in own):
            reads.add(each.argval)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            inner_reads, inner_sets = _outer_names(inner)
            reads |= inner_reads
            sets |= inner_sets
    return reads, sets
