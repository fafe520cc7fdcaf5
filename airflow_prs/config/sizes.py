"""How much a mini-batch holds, as users write it: ``10``, ``"10KB"``, ``"5000 rows"``."""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator
from typing import Any

from airflow_prs.errors import ConfigError
from airflow_prs.inputs.sources import MiniBatchSize, RecordLimit
from airflow_prs.wording import wrong

SIZE_ALLOWED = "an int of at least 1, or a str such as '10', '10KB', '1MB', '1GB', '5000 rows'"
SIZE_PATTERN = r"^(0*[1-9][0-9]*)([kKmMgG][bB]| *[rR][oO][wW][sS]?)?$"
"""Without flags, since the JSON schema of the trigger form uses it, too."""

MEMORY_PATTERN = r"^0*[1-9][0-9]*([kKmMgG][bB])?$"
"""The same for an amount of memory."""

MAX_RECORD_SIZE = "64MB"
"""Largest record of a text file, unless the dataset allows another size."""

_UNIT_BYTES = {"kb": 1024, "mb": 1024**2, "gb": 1024**3}


def parse_size(value: Any) -> MiniBatchSize:
    """
    Return a mini_batch_size as a number of its unit.

    :raises ConfigError: if it is not a size.
    """
    try:
        return _parse(value)
    except (TypeError, ValueError):
        raise ConfigError([wrong("mini_batch_size", value, SIZE_ALLOWED)]) from None


def normalize_size(value: Any) -> int | str:
    """
    Return a size as it is kept: the same for the same size, whether a YAML file or a form wrote a number or its digits.

    :raises ValueError: if it is not a size.
    :raises TypeError: if it is neither an int nor text.
    """
    size = _parse(value)
    return size.count if size.unit is None else str(value).strip()


def normalize_memory(value: Any) -> int | str:
    """Return a number of bytes as it is kept, as normalize_size does; rows are not allowed."""
    if _parse(value).unit == "rows":
        raise ValueError
    return normalize_size(value)


def record_size_problems(value: Any) -> Iterator[str]:
    """Yield what is wrong with a max_record_size."""
    try:
        normalize_memory(value)
    except (TypeError, ValueError):
        yield wrong("max_record_size", value, "an int of at least 1, in bytes, or a str such as '64MB' or '1GB'")


def record_limit(value: int | str) -> RecordLimit:
    """Return the limit for a valid max_record_size."""
    return RecordLimit(_parse(value).count, value)


def _parse(value: Any) -> MiniBatchSize:
    if not isinstance(value, str):
        count = operator.index(value)
        if isinstance(value, bool) or count < 1:
            raise ValueError
        return MiniBatchSize(int(count))
    found = re.fullmatch(SIZE_PATTERN, value.strip())
    if not found:
        raise ValueError
    count, unit = int(found[1]), (found[2] or "").strip().lower()
    if unit in _UNIT_BYTES:
        return MiniBatchSize(count * _UNIT_BYTES[unit], "bytes")
    return MiniBatchSize(count, "rows" if unit else None)
