"""What kind of data an input is, from its name and the options of a command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Final

from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.errors import ConfigError
from airflow_prs.wording import wrong

FILES: Final = "files"

TABLES: Mapping[str, Callable[..., TabularDataset]] = {
    "csv": TabularDataset.from_delimited_files,
    "tsv": TabularDataset.from_delimited_files,
    "jsonl": TabularDataset.from_json_lines_files,
    "parquet": TabularDataset.from_parquet_files,
    "arrow": TabularDataset.from_arrow_files,
}
"""The kinds of tables, each with what makes a dataset of it."""

_SUFFIXES = {**{f".{kind}": kind for kind in TABLES}, ".ndjson": "jsonl", ".feather": "arrow"}
_TEXTS = {"csv", "tsv", "jsonl"}
_COMPRESSED = {".gz", ".bz2", ".xz", ".zst"}
"""What the readers of text open."""
_UNREADABLE = {".zip", ".7z", ".tgz", ".lz4", ".z"}
_AS_TEXT = {"separator", "encoding", "comment", "partition_format", "max_record_size"}
"""Options that are text. As YAML, the separators ``|`` and ``,`` would be wrong."""


def find_kind(path: str) -> str:
    """
    Return the kind of data that a path names by its suffix: one of TABLES, or FILES.

    :raises ConfigError: if the name is that of a compressed table that cannot be read as one.
    """
    name = PurePosixPath(path)
    suffix = name.suffix.lower()
    if suffix not in _COMPRESSED | _UNREADABLE:
        return _SUFFIXES.get(suffix, FILES)
    kind = _SUFFIXES.get(name.with_suffix("").suffix.lower(), FILES)
    if kind == FILES or (suffix in _COMPRESSED and kind in _TEXTS):
        return kind
    readable = "gzip, bzip2, xz or zstd" if kind in _TEXTS else "a file that is not compressed as a whole"
    raise ConfigError([f"{path} is a table that cannot be read as it is; allowed: {readable}, or --files for files"])


def make_dataset(path: str, kind: str, options: Mapping[str, Any]) -> FileDataset | TabularDataset:
    """
    Return the dataset of a path.

    :param kind: one of TABLES, or FILES.
    :param options: of the dataset.
    :raises ConfigError: if the path or an option is wrong.
    """
    if kind not in (*TABLES, FILES):
        raise ConfigError([wrong("table", kind, f"one of {', '.join((*TABLES, FILES))}")])
    if kind == FILES:
        return FileDataset(path, **options)
    defaults = {"separator": "\t"} if kind == "tsv" else {}
    return TABLES[kind](path, **{**defaults, **options})


def read_options(pairs: Sequence[str], problems: list[str]) -> dict[str, Any]:
    """
    Return options of tables that a command line gives as ``NAME=VALUE``, and add what is wrong with them to problems.

    A value is YAML, such as ``[a, b]``, unless the option is text.
    """
    import yaml

    options: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            problems.append(f"--table-option {pair}: allowed: NAME=VALUE, such as separator=';' or 'columns=[a, b]'")
        elif name in options:
            problems.append(f"--table-option {name} is given twice")
        elif name == "path":
            problems.append("--table-option path: allowed: the options of a table; pass the path as --input")
        elif name in _AS_TEXT:
            options[name] = "\t" if text == r"\t" else text
        else:
            try:
                options[name] = yaml.safe_load(text)
            except yaml.YAMLError:
                problems.append(
                    f"--table-option {pair}: the value is not valid YAML; allowed: such as 'columns=[a, b]'"
                )
    return options
