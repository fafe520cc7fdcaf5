"""Addresses on object storage, as Airflow writes them: ``s3://conn_id@bucket/key``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from airflow_prs.errors import ConfigError

_URI: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://([^/]*)/*(.*)", re.DOTALL)


class Kind(Enum):
    """A kind of object storage."""

    S3 = "s3"
    AZURE = "abfs"


_KINDS: Final = {
    "s3": Kind.S3,
    "s3a": Kind.S3,
    "abfs": Kind.AZURE,
    "abfss": Kind.AZURE,
    "wasb": Kind.AZURE,
    "wasbs": Kind.AZURE,
}


@dataclass(frozen=True, slots=True)
class Bucket:
    """
    A bucket of S3 or a container of Azure Blob Storage, and the Airflow connection through which it is used.

    :param kind: the kind of storage.
    :param name: name of the bucket or container.
    :param conn_id: id of the Airflow connection; None: the address names none.
    """

    kind: Kind
    name: str
    conn_id: str | None = None

    def __str__(self) -> str:
        return f"{self.kind.value}://{'' if self.conn_id is None else f'{self.conn_id}@'}{self.name}"


@dataclass(frozen=True, slots=True)
class Address:
    """
    The address of an object, or of all objects below a prefix.

    :param bucket: where it is.
    :param key: without a slash at its ends; "": the entire bucket.
    """

    bucket: Bucket
    key: str = ""

    def __str__(self) -> str:
        return f"{self.bucket}/{self.key}" if self.key else str(self.bucket)

    def __truediv__(self, name: str) -> Address:
        name = name.strip("/")
        return replace(self, key=f"{self.key}/{name}" if self.key else name)

    @property
    def name(self) -> str:
        """The part after the last slash."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> Address:
        """The address without its last part."""
        return replace(self, key=self.key.rpartition("/")[0])

    def with_name(self, name: str) -> Address:
        """Return the address with another last part."""
        return self.parent / name


def is_remote(path: str) -> bool:
    """Return whether text is an address on object storage."""
    found = _URI.match(path)
    return found is not None and found[1].lower() in _KINDS


def parse_address(path: str) -> Address:
    """
    Return the address in text of the form ``s3://conn_id@bucket/key`` or ``abfs://conn_id@container/key``.

    :raises ConfigError: if it is none.
    """
    found = _URI.match(path)
    if found is None or found[1].lower() not in _KINDS:
        raise ConfigError([f"{path!r} is not an address on object storage; allowed: s3://conn_id@bucket/key"])
    conn_id, _, name = found[2].rpartition("@")
    if not name:
        raise ConfigError([f"{path!r} names no bucket; allowed: s3://conn_id@bucket/key"])
    return Address(Bucket(_KINDS[found[1].lower()], name, conn_id or None), found[3].strip("/"))
