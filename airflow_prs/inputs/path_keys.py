"""The keys in paths: those of a partition_format, and those of folders named ``key=value``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn
from urllib.parse import unquote

from airflow_prs.errors import ConfigError, InputError
from airflow_prs.worker.reading.key_columns import NULL

_FIELD = re.compile(r"\{([^{}]*)\}")
_TOKEN = re.compile(r"yyyy|MM|dd|HH|mm|ss")
_ATTRIBUTES = {"yyyy": "year", "MM": "month", "dd": "day", "HH": "hour", "mm": "minute", "ss": "second"}
_FOLDER = re.compile(r"([^/=]+)=([^/]*)")
_UNFIT = re.compile(r"""[\x00-\x1f\x7f-\x9f/\\%="'#*:?{}\[\]^\u241b\ufffe\uffff]|\.\Z""")
"""
The characters that Hive and Spark percent-encode in the name of a folder, and those that names of objects cannot have
on all storage.
"""


@dataclass(frozen=True, slots=True)
class _Reader:
    """
    Makes the value of one key from the groups of a match.

    :param groups: numbers of the groups.
    :param attributes: attribute of a datetime for each group; empty for text.
    """

    groups: tuple[int, ...]
    attributes: tuple[str, ...] = ()

    def read(self, match: re.Match[str]) -> str | datetime:
        texts = match.group(*self.groups, self.groups[0])[:-1]
        if not self.attributes:
            return texts[0]
        fields = {"month": 1, "day": 1} | {name: int(text) for name, text in zip(self.attributes, texts, strict=True)}
        return datetime(**fields)  # type: ignore[arg-type]  # noqa: DTZ001 - a datetime in a path has no time zone


@dataclass(frozen=True, slots=True)
class PartitionFormat:
    """A parsed partition_format."""

    text: str
    pattern: re.Pattern[str]
    readers: dict[str, _Reader]

    @property
    def keys(self) -> tuple[str, ...]:
        """Return the keys in their order."""
        return tuple(self.readers)

    def describe(self) -> dict[str, Any]:
        """Return as plain values how worker processes read the key values of a path."""
        keys = [[key, list(reader.groups), list(reader.attributes)] for key, reader in self.readers.items()]
        return {"pattern": self.pattern.pattern, "keys": keys, "are_folders": False}

    def read(self, path: str) -> dict[str, str | datetime]:
        """
        Return the key values at the end of a path.

        :raises InputError: if the path does not match.
        """
        match = self.pattern.search(path)
        if match is None:
            raise InputError(
                f"{path!r} does not match partition_format={self.text!r}, which must describe the end of every path; "
                "leave the file out of the input or change the format."
            )
        try:
            return {key: reader.read(match) for key, reader in self.readers.items()}
        except ValueError as error:
            raise InputError(f"{path!r} does not match partition_format={self.text!r}: {error}") from None


@dataclass(frozen=True, slots=True)
class KeyFolders:
    """
    Folders named ``key=value``, as Hive, Spark and pyarrow write them.

    :param keys: in the order of the folders.
    :param pattern: has a group for the value of each key.
    """

    keys: tuple[str, ...]
    pattern: re.Pattern[str]

    def describe(self) -> dict[str, Any]:
        """Return as plain values how worker processes read the key values of a path."""
        keys = [[key, [group], []] for group, key in enumerate(self.keys, 1)]
        return {"pattern": self.pattern.pattern, "keys": keys, "are_folders": True}

    def read(self, path: str) -> dict[str, str | None]:
        """
        Return the key values in a path; null is None.

        :raises InputError: if the path does not have these folders.
        """
        match = self.pattern.search(path)
        if match is None:
            raise InputError(
                f"{path!r} is not in the folders {_folders_text(self.keys)}, as other files of the input are; leave "
                "the file out of the input or move it."
            )
        return {key: _value(text) for key, text in zip(self.keys, match.groups(), strict=True)}


PathKeys = PartitionFormat | KeyFolders


def find_key_folders(paths: Sequence[str]) -> KeyFolders | None:
    """
    Return the keys in the names of the folders, which must be the same for all files; None: there are none.

    :raises InputError: if a file is in folders of other keys.
    """
    last: str | None = None
    first, keys = "", tuple[str, ...]()
    for path in paths:
        folder = path[: path.rfind("/")]
        if folder == last:
            continue
        found = _folder_keys(folder) if "=" in folder else ()
        if last is None:
            first, keys = path, found
        elif found != keys:
            raise InputError(
                f"{path!r} is in {_folders_text(found)}, but {first!r} is in {_folders_text(keys)}; all files of an "
                "input must be in folders of the same keys in the same order, or none of them."
            )
        last = folder
    return key_folders(keys) if keys else None


def copy_folders(keys: Sequence[str]) -> KeyFolders:
    """Return the folders that ``key_folder`` names: the last folders of a path, without others between them."""
    steps = [f"{re.escape(encode_key(key))}=([^/]*)/" for key in keys]
    return KeyFolders(tuple(keys), re.compile("/" + "".join(steps) + r"[^/]*\Z"))


def key_folders(keys: Sequence[str]) -> KeyFolders:
    """Return the folders of these keys in their order; there may be other folders between them."""
    between = "(?:[^/]*/)*?"
    steps = [f"{re.escape(key)}=([^/]*)/" for key in keys]
    return KeyFolders(tuple(keys), re.compile("/" + between.join(steps) + between + r"[^/]*\Z"))


def key_folder(key: str, text: str | None) -> str:
    """
    Return the name of the folder of a key and a value, as ``find_key_folders``, Hive and Spark read it.

    :param text: the value; None: null.
    """
    if text is None:
        return f"{encode_key(key)}={NULL}"
    # A text that equals the name of null is encoded, so that it is not read as null.
    return f"{encode_key(key)}={'%5F' + text[1:] if text == NULL else encode_key(text)}"


def encode_key(text: str) -> str:
    """Percent-encode the characters that cannot be in the name of a folder; ``unquote`` decodes them."""
    return _UNFIT.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text)


def _folder_keys(folder: str) -> tuple[str, ...]:
    segments = map(_FOLDER.fullmatch, folder.split("/"))
    keys = tuple(segment[1] for segment in segments if segment)
    if len(set(keys)) < len(keys):
        raise InputError(f"{folder!r} has two folders with the same key; rename one of them.")
    return keys


def _value(text: str) -> str | None:
    return None if text == NULL else unquote(text)


def _folders_text(keys: Sequence[str]) -> str:
    return repr("/".join(f"{key}=..." for key in keys)) if keys else "no folder named key=value"


def parse_partition_format(text: str) -> PartitionFormat:
    """
    Parse a format such as ``/{user}/{day:yyyy/MM/dd}.wav``.

    Text outside braces matches itself. A ``{key}`` matches text within one segment, as little as possible. A key with a
    datetime format matches as many segments as its format has.

    :raises ConfigError: if the text is not such a format.
    """
    pattern, readers = "(?<!/)/", {}  # not within the '//' before a bucket
    group, end = 1, 0
    body = text.lstrip("/")
    for field in _FIELD.finditer(body):
        pattern += _literal(text, body[end : field.start()])
        key, colon, datetime_format = field[1].partition(":")
        if not key or key in readers:
            _refuse(text, f"the key {key!r} appears twice" if key else "a key has no name")
        part, attributes = _datetime_pattern(text, datetime_format) if colon else ("([^/]+?)", ())
        size = max(1, len(attributes))
        readers[key] = _Reader(tuple(range(group, group + size)), attributes)
        pattern, group, end = pattern + part, group + size, field.end()
    if not readers:
        _refuse(text, "it has no {key}")
    return PartitionFormat(text, re.compile(pattern + _literal(text, body[end:]) + r"\Z"), readers)


def _literal(text: str, part: str) -> str:
    if "{" in part or "}" in part:
        _refuse(text, "its braces do not match")
    return re.escape(part)


def _datetime_pattern(text: str, datetime_format: str) -> tuple[str, tuple[str, ...]]:
    """Return the pattern of a datetime format such as ``yyyy/MM/dd``, and the attribute of each of its groups."""
    tokens = _TOKEN.findall(datetime_format)
    between = _TOKEN.split(datetime_format)
    if "yyyy" not in tokens or len(set(tokens)) != len(tokens) or any(c.isalnum() for c in "".join(between)):
        problem = "is not a datetime format: it needs yyyy, and may have MM, dd, HH, mm and ss, each once"
        _refuse(text, f"{datetime_format!r} {problem}")
    groups = [f"([0-9]{{{len(token)}}})" for token in tokens]
    literals = [re.escape(part) for part in between]
    pattern = literals[0] + "".join(group + literal for group, literal in zip(groups, literals[1:], strict=True))
    return pattern, tuple(_ATTRIBUTES[token] for token in tokens)


def _refuse(text: str, problem: str) -> NoReturn:
    raise ConfigError([f'partition_format={text!r}: {problem}; an example is "/{{user}}/{{day:yyyy/MM/dd}}.wav".'])
