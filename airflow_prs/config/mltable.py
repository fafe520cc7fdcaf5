"""MLTable files of the original, read as the options of a TabularDataset."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from airflow_prs.config.yaml_file import read_yaml
from airflow_prs.errors import ConfigError
from airflow_prs.records import InputKind

Options = dict[str, Any]

_ENCODINGS = {"utf8bom": "utf-8-sig", "iso88591": "latin-1", "windows1252": "cp1252", "utf8": "utf-8"}
_HEADERS = {"all_files_same_headers": True, "all_files_different_headers": "each", "no_header": False}
_TOP = {"$schema", "type", "paths", "transformations"}


def read_mltable(folder: str | os.PathLike[str]) -> Options:
    """
    Read the file MLTable of a folder.

    :return: the arguments of a TabularDataset.
    :raises ConfigError: if it cannot be read, or asks for something that is not known here; each is named.
    """
    path = Path(folder, "MLTable")
    if not path.is_absolute():
        problem = f"folder is {str(folder)!r}; allowed: an absolute path, such as Path(__file__).parent / 'table'"
        raise ConfigError([problem])
    content = read_yaml(path, what="from_mltable", expected="the folder that holds a file MLTable")
    if not isinstance(content, Mapping):
        raise ConfigError([f"from_mltable: {path} is not a mapping"])
    problems = [f"from_mltable: {path}: {key!r} is not supported" for key in content if key not in _TOP]
    options: Options = {"path": [_path(one, Path(folder), problems) for one in content.get("paths") or ()]}
    for step in content.get("transformations") or ():
        _apply(step, options, problems)
    if "kind" not in options:
        problems.append("transformations: allowed: one of read_delimited, read_parquet, read_json_lines")
    if problems:
        raise ConfigError(
            [problem if "from_mltable" in problem else f"from_mltable: {problem}" for problem in problems]
        )
    return _with_columns(options)


def _path(entry: Any, folder: Path, problems: list[str]) -> str:
    place = next(iter(entry.items())) if isinstance(entry, Mapping) and len(entry) == 1 else (None, None)
    kind, text = place
    if kind not in {"file", "folder", "pattern"} or not isinstance(text, str):
        problems.append(f"paths has {entry!r}; allowed: one of file, folder, pattern with a path")
        return ""
    return text if "://" in text else str(folder / text.removeprefix("./"))


def _apply(step: Any, options: Options, problems: list[str]) -> None:
    """Add the options of one transformation, which is a name, or a mapping of a name to its settings."""
    name, value = next(iter(step.items())) if isinstance(step, Mapping) and len(step) == 1 else (step, None)
    known = _STEPS.get(name) if isinstance(name, str) else None
    if known is None:
        problems.append(f"transformation {name!r} is not supported; allowed: {', '.join(_STEPS)}")
    else:
        known(value, options, problems)


def _read_delimited(value: Any, options: Options, problems: list[str]) -> None:
    given = dict(value or {})
    header = given.pop("header", "all_files_same_headers")
    if header not in _HEADERS:
        problems.append(f"header of read_delimited is {header!r}; allowed: {', '.join(_HEADERS)}")
    options |= {
        "kind": InputKind.DELIMITED,
        "separator": given.pop("delimiter", ","),
        "header": _HEADERS.get(header, True),
        "encoding": _encoding(given),
    }
    given.pop("support_multi_line", None)  # line breaks in quotes are always understood
    _leftover("read_delimited", given, problems, infer_column_types=True, empty_as_string=False)


def _read_json_lines(value: Any, options: Options, problems: list[str]) -> None:
    given = dict(value or {})
    options |= {"kind": InputKind.JSON_LINES, "encoding": _encoding(given)}
    _leftover("read_json_lines", given, problems, invalid_lines="error")


def _read_parquet(value: Any, options: Options, problems: list[str]) -> None:
    options["kind"] = InputKind.PARQUET
    _leftover("read_parquet", dict(value or {}), problems)


def _encoding(given: Options) -> Any:
    name = given.pop("encoding", "utf8")
    return _ENCODINGS.get(name, name)


def _leftover(step: str, given: Options, problems: list[str], **harmless: Any) -> None:
    """Name each option that would change something."""
    harmless["include_path_column"] = False
    for option, value in given.items():
        if option not in harmless:
            problems.append(f"{option!r} of {step} is not supported")
        elif value != harmless[option]:
            problems.append(f"{option} of {step} is {value!r}; allowed: {harmless[option]!r}")


def _extract(value: Any, options: Options, problems: list[str]) -> None:
    form = value.get("partition_format") if isinstance(value, Mapping) else value
    if not isinstance(form, str):
        problems.append(f"extract_columns_from_partition_format is {value!r}; allowed: a partition format")
    options["partition_format"] = form


def _keep(value: Any, options: Options, problems: list[str]) -> None:
    kept = _names("keep_columns", value, problems)
    known = options.get("columns")
    options["columns"] = [name for name in kept if known is None or name in known]


def _drop(value: Any, options: Options, problems: list[str]) -> None:
    options["dropped"] = [*options.get("dropped", ()), *_names("drop_columns", value, problems)]


def _names(step: str, value: Any, problems: list[str]) -> Sequence[str]:
    names = [value] if isinstance(value, str) else value
    if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
        return names
    problems.append(f"{step} is {value!r}; allowed: the name of a column, or a list of names")
    return ()


def _with_columns(options: Options) -> Options:
    """Remove dropped columns from the chosen ones. If all are chosen, plan removes them, since it knows all columns."""
    if options.get("columns") is not None:
        dropped = options.pop("dropped", ())
        options["columns"] = [name for name in options["columns"] if name not in dropped]
    return options


_STEPS: dict[str, Callable[[Any, Options, list[str]], None]] = {
    "read_delimited": _read_delimited,
    "read_parquet": _read_parquet,
    "read_json_lines": _read_json_lines,
    "extract_columns_from_partition_format": _extract,
    "keep_columns": _keep,
    "drop_columns": _drop,
}
