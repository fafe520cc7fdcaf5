"""Addresses on object storage, as Airflow writes them: ``s3://conn_id@bucket/key``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from airflow_prs.errors import ConfigError
from airflow_prs.wording import shown

ALLOWED: Final = "s3://conn_id@bucket/key or abfs://conn_id@container/key"
"""How addresses are written; without ``conn_id@`` the credentials are those of the environment."""

_URI: Final = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*)://([^/]*)(.*)", re.DOTALL)
_TEMPLATE: Final = re.compile(r"\{\{|\{%")
_CONN_ID: Final = re.compile(r"[\w().!-]*", re.ASCII)
_HOST: Final = re.compile(r".*\.(core\.(windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)|amazonaws\.com(\.cn)?)")
_QUERY: Final = re.compile(r"\?(versionid|snapshot|sv|se|sp|sig|x-amz-[a-z-]+|awsaccesskeyid)=", re.IGNORECASE)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SECRETS: Final = re.compile(r"(?<=://)[^@]*:[^@]*(?=@)|(?<=\?)[\w.-]+=.*", re.DOTALL)


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
_PLANNED: Final = frozenset({"gs", "gcs"})
_NAMES: Final = {
    # Buckets that are older than the rules of today have capital letters and underscores.
    Kind.S3: (re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"), "a bucket", "letters, digits, '-' and '.'"),
    Kind.AZURE: (re.compile(r"[a-z0-9$][a-z0-9-]*"), "a container", "lower-case letters, digits and '-'"),
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
        return replace(self, key=f"{self.key}/{name}" if self.key else name)

    @property
    def name(self) -> str:
        """The part after the last slash."""
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> Address:
        """The address without its last part."""
        return replace(self, key=self.key.rpartition("/")[0])


def is_remote(path: str) -> bool:
    """Return whether text is an address on object storage."""
    found = _URI.match(path)
    return found is not None and found[1].lower() in _KINDS


def parse_address(path: str) -> Address:
    """
    Return the address in text of the form ``s3://conn_id@bucket/key`` or ``abfs://conn_id@container/key``.

    A key is taken literally, as the storage has it: nothing in it is decoded. One slash at its end is left out.

    :raises ConfigError: if it is none.
    """
    found = _URI.match(path)
    if found is None or found[1].lower() not in _KINDS:
        raise ConfigError([f"{shown_path(path)} is not an address on object storage; allowed: {ALLOWED}"])
    kind = _KINDS[found[1].lower()]
    if problem := _bucket_problem(kind, found[2]) or _key_problem(found[3]):
        raise ConfigError([f"{shown_path(path)}: {problem}"])
    conn_id, _, name = found[2].rpartition("@")
    return Address(Bucket(kind, name, conn_id or None), found[3][1:].removesuffix("/"))


def normalize(path: str) -> str:
    """
    Return a path in the form that is kept.

    Of an address, the scheme becomes that of its kind, and a slash at its end stays. The path of a ``file://`` is
    returned without that. Other text, and a template, whose value only a run knows, stay as they are.
    """
    if path[:7].lower() == "file://":
        return path[7:]
    if not is_remote(path) or _TEMPLATE.search(path) or find_problem(path):
        return path
    address = parse_address(path)
    return f"{address}/" if address.key and path.endswith("/") else str(address)


def find_problem(path: str) -> str | None:
    """
    Return what is wrong with a path; None: it is an address, or local.

    Of a template, only the scheme is checked.
    """
    found = _URI.match(path)
    if found is None or found[1].lower() == "file":
        return None
    scheme, authority, key = found.groups()
    kind = _KINDS.get(scheme.lower())
    if kind is None:
        yet = " yet" if scheme.lower() in _PLANNED else ""
        return f"{scheme}:// is not supported{yet}; allowed: a local path, {ALLOWED}"
    if _TEMPLATE.search(path):
        return None
    return _bucket_problem(kind, authority) or _key_problem(key)


def shown_path(path: str) -> str:
    """Return the repr of a path for an error, without what may be a secret: a signature, or keys before an ``@``."""
    return shown(_SECRETS.sub("***", path))


def _bucket_problem(kind: Kind, authority: str) -> str | None:
    conn_id, _, name = authority.rpartition("@")
    pattern, what, characters = _NAMES[kind]
    if _HOST.fullmatch(name):
        example = f"{kind.value}://conn_id@{conn_id or 'name'}/key" if kind is Kind.AZURE else ALLOWED.partition(" ")[0]
        return f"{name} is a host; allowed: {example}, with the account or endpoint in the Airflow connection"
    if ":" in conn_id:
        return "credentials cannot be part of a path; put them into an Airflow connection, and its id before the @"
    if not _CONN_ID.fullmatch(conn_id):
        return f"{conn_id!r} cannot be the id of a connection; allowed: letters, digits, '_', '-', '.', '!' and '()'"
    if not name:
        return f"it names no {what.split()[1]}; allowed: {ALLOWED}"
    if not pattern.fullmatch(name):
        return f"{name!r} cannot be the name of {what}; allowed: {characters}"
    return None


def _key_problem(path: str) -> str | None:
    key = path[1:].removesuffix("/")
    if _QUERY.search(key):
        return "a query such as ?versionId= cannot be part of a path; remove it"
    if _CONTROL.search(key):
        return "the key has a control character, such as a line break"
    parts = key.split("/") if path[1:] else []
    if "" in parts:
        return "the key has an empty part; allowed: one slash between two names"
    if "." in parts or ".." in parts:
        return "the key has '.' or '..' as a part, which mean nothing on object storage; write the entire key"
    return None
