"""parallel_run_step.settings.json: arguments of to_csv for the result, as in Azure ML's ParallelRunStep."""

from __future__ import annotations

import json
import logging
import zipfile
from collections.abc import Mapping
from typing import IO, Any

from airflow_prs.errors import ConfigError
from airflow_prs.wording import shown, unknown

logger = logging.getLogger(__name__)

NAME = "parallel_run_step.settings.json"
_ACTION = "append_row"
_FUNCTION = "pandas.DataFrame.to_csv"

_ALLOWED = frozenset(
    {
        "columns",
        "date_format",
        "decimal",
        "doublequote",
        "escapechar",
        "float_format",
        "header",
        "index",
        "index_label",
        "lineterminator",
        "na_rep",
        "quotechar",
        "quoting",
        "sep",
    }
)
_USELESS = {
    "chunksize": "rows are written a part at a time anyway",
    "compression": "the result is not compressed",
    "encoding": "the result is in UTF-8",
    "errors": "the result is in UTF-8",
    "mode": "the result is always a new file",
    "path_or_buf": "append_row_file_name names the result",
    "storage_options": "output says where the result is",
}


def read_to_csv(archive: IO[bytes], result_format: str) -> dict[str, Any] | None:
    """
    Return the arguments of to_csv that the settings file in source_directory lists.

    :param archive: the snapshot of source_directory.
    :param result_format: format of the result; only text and csv are written with to_csv.
    :return: None: there is no settings file, or the format does not use it.
    :raises ConfigError: if a key or a value in the file is not allowed.
    """
    archive.seek(0)
    with zipfile.ZipFile(archive) as packed:
        if NAME not in packed.namelist():
            return None
        content = packed.read(NAME)
    try:
        layout = json.loads(content)
    except ValueError as error:
        raise ConfigError([f"{NAME} is not valid JSON: {error}"]) from None
    options = _only_value(_only_value(layout, _ACTION, NAME), _FUNCTION, f"{_ACTION} in {NAME}")
    if options is None:
        return None
    if problems := _find_problems(options):
        raise ConfigError([f"{problem} (in {NAME})" for problem in problems])
    if result_format not in {"text", "csv"}:
        logger.warning("%s is ignored: it does not apply to a result in the format %s.", NAME, result_format)
        return None
    return dict(options)


def _only_value(mapping: Any, key: str, place: str) -> Any:
    """Return the value of the only key that is allowed in a place; None: the key is missing."""
    if mapping is None:
        return None
    if not isinstance(mapping, Mapping):
        raise ConfigError([f"{place} is {shown(mapping)}; allowed: an object with the key {key!r}"])
    if problems := [unknown(name, (key,), what=f"key of {place}") for name in mapping if name != key]:
        raise ConfigError(problems)
    return mapping.get(key)


def _find_problems(options: Any) -> list[str]:
    if not isinstance(options, Mapping):
        return [f"{_FUNCTION} is {shown(options)}; allowed: an object with arguments of to_csv"]
    problems = [f"{name} cannot be set: {reason}" for name, reason in _USELESS.items() if name in options]
    others = [name for name in options if name not in _ALLOWED and name not in _USELESS]
    problems += [unknown(name, _ALLOWED, what=f"argument of {_FUNCTION}") for name in others]
    return problems or _try_out(options)


def _try_out(options: Mapping[str, Any]) -> list[str]:
    """Call to_csv with the values, and return what pandas reports."""
    import pandas as pd

    header = options.get("header")
    width = len(header) if isinstance(header, list) else 2
    names = options.get("columns") or [f"column {number}" for number in range(width)]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return [f"columns is {shown(names)}; allowed: a list of names"]
    try:
        pd.DataFrame([[0.5] * len(names)], columns=names).to_csv(**options)
    except Exception as error:  # noqa: BLE001 - pandas raises many kinds of errors
        return [f"{_FUNCTION} does not accept {shown(dict(options))}: {error}"]
    return []
