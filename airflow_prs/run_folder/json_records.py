"""Records of logs as JSON."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

_T = TypeVar("_T")


class JsonRecords(Generic[_T]):
    """
    Converts records to JSON and back.

    pydantic needs milliseconds to prepare for a type. It does so at the first use, for most processes use few types.

    :param kind: type of the records.
    """

    def __init__(self, kind: Any) -> None:
        self._kind = kind

    @cached_property
    def _adapter(self) -> TypeAdapter[_T]:
        return TypeAdapter(self._kind)

    def dump_json(self, record: _T) -> bytes:
        """Return a record as a line of JSON, without the line break."""
        return self._adapter.dump_json(record)

    def validate_json(self, line: bytes) -> _T:
        """
        Return the record of a line.

        :raises ValidationError: if the line does not hold a record of this type.
        """
        return self._adapter.validate_json(line)
