"""The full text of values whose str() leaves out parts; values without a full text are refused."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from functools import lru_cache
from typing import Any

PLAIN = frozenset({str, int, float, bool, bytes, type(None)})
"""Types whose text has no line breaks that str() adds, and does not depend on print options of numpy."""

TABULAR = ("__dataframe__", "__arrow_c_stream__", "__arrow_c_array__")
"""Methods that tables and their columns have in all libraries."""

LINE_BREAK = re.compile(r"\s*\n\s*")
MASKED_WIDTHS = ("_print_width", "_print_width_1d")


class Printer:
    """
    A context in which numpy prints arrays in full, every number exactly, in lines of any length.

    It changes the print options only when the first type that needs them comes: most elements are plain.

    :ivar prepared: the types that it was prepared for last.
    """

    def __init__(self) -> None:
        self.prepared: set[type] = set()
        self._changed: ExitStack | None = None

    def __enter__(self) -> Printer:  # noqa: PYI034 - Python 3.9 has no Self
        return self

    def __exit__(self, *_: object) -> None:
        if self._changed is not None:
            self._changed.close()

    def prepare(self, kinds: set[type]) -> None:
        """Change the print options if values of these types need it; plain values and numbers do not."""
        self.prepared = kinds
        numpy: Any = sys.modules.get("numpy")
        if self._changed is not None or not hasattr(numpy, "printoptions"):
            return
        if not all(kind in PLAIN or issubclass(kind, numpy.number) for kind in kinds):
            self._changed = ExitStack()
            _print_all(numpy, self._changed)


def _print_all(numpy: Any, until: ExitStack) -> None:
    options: dict[str, Any] = {"threshold": sys.maxsize, "linewidth": sys.maxsize, "floatmode": "unique"}
    if numpy.get_printoptions()["legacy"] == "1.13":
        options["legacy"] = False  # the legacy mode ignores floatmode
    until.enter_context(numpy.printoptions(**options))
    masked = getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)
    # Masked arrays have limits of their own, and leave out values beyond them without a mark.
    for name in MASKED_WIDTHS:
        if hasattr(masked, name):
            until.callback(setattr, masked, name, getattr(masked, name))
            setattr(masked, name, sys.maxsize)


@lru_cache(maxsize=256)
def is_table(kind: type) -> bool:
    """Whether a type is a table or a column of one; their text leaves out rows and columns."""
    pandas = sys.modules.get("pandas")
    columns = tuple(getattr(pandas, name) for name in ("Series", "Index") if hasattr(pandas, name))
    return issubclass(kind, columns) or any(hasattr(kind, name) for name in TABULAR)


def find_table(value: Any) -> type | None:
    """Return the type of the first table in a value, at any depth; None: there is none."""
    kind: Any = type(value)
    if is_table(kind):
        return type(value)
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, (tuple, list, set, frozenset)):
        return None
    return next(filter(None, map(find_table, value)), None)


def name_of(kind: type) -> str:
    """Return the name of a type as its users write it, such as pandas.DataFrame."""
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


def on_one_line(text: str) -> str:
    """Return a text with a blank in place of each line break and the indentation after it."""
    return LINE_BREAK.sub(" ", text.strip("\r\n"))
