"""
How a declaration is refused.

The parts of a step are made one after another. While Airflow parses a DAG file, a wrong part does not end the parse:
something that stands for it reaches the step, which reports the problems of all parts together. Anywhere else, a wrong
part raises its error immediately.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn, ParamSpec, TypeVar, cast

from airflow_prs.errors import ConfigError
from airflow_prs.wording import unknown

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_parsing: list[Callable[[], bool]] = []
_is_collecting = ContextVar("_is_collecting", default=False)


class Refused:
    """
    Stands for a configuration or a dataset that has wrong values. Any use other than in a step raises its error.

    :param problems: one sentence for each wrong value.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)

    def as_named_input(self, _name: str) -> Refused:
        """Return the same object, as the name changes no problem."""
        return self

    def partition_by(self, *_keys: Any, **_options: Any) -> Refused:
        """Return the same object."""
        return self

    def __getattr__(self, name: str) -> NoReturn:
        raise _RefusedUseError(self.__dict__.get("problems", (name,)))


class _RefusedUseError(ConfigError, AttributeError):
    """The error of a wrong value. ``hasattr`` must return False instead of raising it."""


def defer_while(is_parsing: Callable[[], bool]) -> None:
    """
    Let wrong parts wait for their step while a condition is true.

    :param is_parsing: returns whether a DAG file is being parsed, so that an error of the step is sure to be seen.
    """
    _parsing[:] = [is_parsing]


def refuse(problems: Sequence[str]) -> Refused:
    """
    Return what stands for a part that has wrong values.

    :raises ConfigError: with the problems, if no DAG file is being parsed.
    """
    if not _is_parsing():
        raise ConfigError(problems)
    return Refused(problems)


def declared(part: type[T]) -> type[T]:
    """Decorate the class of a part: an unknown keyword names the nearest parameter, and problems wait for the step."""
    check = part.__init__
    find_unknown = _unknown_keywords(check, part.__name__)

    def new(owner: type[T], *args: Any, **values: Any) -> Any:
        problems = find_unknown(values)
        made = object.__new__(owner)
        if not problems and _is_parsing() and (args or values):  # a copy has none
            with collected(problems):
                check(made, *args, **values)
        return refuse(problems) if problems else made

    part.__new__ = staticmethod(new)  # type: ignore[method-assign, assignment]
    return part


def declares(make: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function that makes a part, as ``declared`` decorates a class."""
    find_unknown = _unknown_keywords(make, make.__qualname__)

    @functools.wraps(make)
    def call(*args: P.args, **values: P.kwargs) -> R:
        problems = find_unknown(values)
        if not problems:
            if not _is_parsing():
                return make(*args, **values)
            with collected(problems):
                return make(*args, **values)
        return cast("R", refuse(problems))

    return call


@contextmanager
def collected(problems: list[str]) -> Iterator[None]:
    """Add the problems of a ConfigError to those of other parts. Parts that are made inside raise their errors."""
    token = _is_collecting.set(True)
    try:
        yield
    except ConfigError as error:
        problems += error.problems
    finally:
        _is_collecting.reset(token)


def _is_parsing() -> bool:
    return not _is_collecting.get() and any(condition() for condition in _parsing)


def _unknown_keywords(make: Callable[..., Any], name: str) -> Callable[[Iterable[str]], list[str]]:
    parameters = inspect.signature(make).parameters
    takes_all = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    names = [each for each in parameters if each not in {"self", "cls"}]

    def find(given: Iterable[str]) -> list[str]:
        return [
            unknown(each, names, what=f"parameter of {name}") for each in given if not takes_all and each not in names
        ]

    return find
