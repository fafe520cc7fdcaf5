"""partition_format: what the end of a path says about the file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import NoReturn

from airflow_prs.errors import ConfigError, InputError

_FIELD = re.compile(r"\{([^{}]*)\}")
_TOKEN = re.compile(r"yyyy|MM|dd|HH|mm|ss")
_ATTRIBUTES = {"yyyy": "year", "MM": "month", "dd": "day", "HH": "hour", "mm": "minute", "ss": "second"}


@dataclass(frozen=True, slots=True)
class _Reader:
    """
    How one key's value is put together from the groups of a match.

    :param groups: their numbers.
    :param attributes: of a moment, one a group; empty for text.
    """

    groups: tuple[int, ...]
    attributes: tuple[str, ...] = ()

    def read(self, match: re.Match[str]) -> str | datetime:
        texts = match.group(*self.groups, self.groups[0])[:-1]
        if not self.attributes:
            return texts[0]
        given = {"month": 1, "day": 1} | {name: int(text) for name, text in zip(self.attributes, texts, strict=True)}
        return datetime(**given)  # type: ignore[arg-type]  # noqa: DTZ001 - a moment in a path names no time zone


@dataclass(frozen=True, slots=True)
class PartitionFormat:
    """A partition_format, ready to be matched."""

    text: str
    pattern: re.Pattern[str]
    readers: dict[str, _Reader]

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys in their order."""
        return tuple(self.readers)

    def read(self, path: str) -> dict[str, str | datetime]:
        """
        Take the keys' values from the end of a path.

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


def parse_partition_format(text: str) -> PartitionFormat:
    """
    Read a format such as ``/{user}/{day:yyyy/MM/dd}.wav``.

    Everything outside braces stands for itself. A ``{key}`` takes text within one segment, as little as possible; a
    moment takes as many segments as its pattern has.

    :raises ConfigError: if it is no such format.
    """
    pattern, readers = "/", {}
    group, end = 1, 0
    body = text.lstrip("/")
    for field in _FIELD.finditer(body):
        pattern += _literal(text, body[end : field.start()])
        key, colon, moment = field[1].partition(":")
        if not key or key in readers:
            _refuse(text, f"the key {key!r} stands in it twice" if key else "a key has no name")
        part, attributes = _moment(text, moment) if colon else ("([^/]+?)", ())
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


def _moment(text: str, moment: str) -> tuple[str, tuple[str, ...]]:
    """Make the pattern of a moment such as ``yyyy/MM/dd``, one group a token."""
    tokens = _TOKEN.findall(moment)
    between = _TOKEN.split(moment)
    if "yyyy" not in tokens or len(set(tokens)) != len(tokens) or any(c.isalnum() for c in "".join(between)):
        _refuse(text, f"{moment!r} is not a moment: give yyyy and, where needed, MM, dd, HH, mm, ss, each once")
    groups = [f"([0-9]{{{len(token)}}})" for token in tokens]
    literals = [re.escape(part) for part in between]
    pattern = literals[0] + "".join(group + literal for group, literal in zip(groups, literals[1:], strict=True))
    return pattern, tuple(_ATTRIBUTES[token] for token in tokens)


def _refuse(text: str, problem: str) -> NoReturn:
    raise ConfigError([f'partition_format={text!r}: {problem}; an example is "/{{user}}/{{day:yyyy/MM/dd}}.wav".'])
