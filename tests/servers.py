"""PostgreSQL and Redis for a test: those of this machine, else started if they are installed."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

from tests.airflow_services import free_port, wait_until
from tests.lacking import lacking

POSTGRES = os.environ.get("TEST_POSTGRES", "postgres://postgres@localhost:5432/test")
REDIS = os.environ.get("TEST_REDIS", "redis://127.0.0.1:6379")
_SUPERUSER = "postgres"
_STARTS_S = 30
_DATABASES = 16


@contextmanager
def fresh_database() -> Iterator[str]:
    """Make a database in PostgreSQL, give its URL, and drop it in the end."""
    with _postgres() as server:
        name = f"airflow_prs_{uuid4().hex}"
        _execute(server, f"CREATE DATABASE {name}")
        try:
            yield urlsplit(server)._replace(path=f"/{name}").geturl()
        finally:
            _execute(server, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def empty_redis() -> Iterator[str]:
    """Give the URL of a database of Redis that nobody uses, and leave it empty."""
    with _redis() as server:
        url, client = _reserve(server)
        try:
            yield url
        finally:
            client.flushdb()
            client.close()


@contextmanager
def _postgres() -> Iterator[str]:
    url = POSTGRES.replace("postgres://", "postgresql://")
    if _answers(url):
        yield url
        return
    tools = _postgres_tools()
    if tools is None:
        lacking(f"no PostgreSQL: none answers at {POSTGRES}, and none is installed that could be started")
    with tempfile.TemporaryDirectory(prefix="airflow_prs-postgres-") as folder:
        # PostgreSQL refuses to run as root.
        user = _SUPERUSER if getpass.getuser() == "root" else getpass.getuser()
        shutil.chown(folder, user)
        options: dict[str, Any] = {"cwd": folder, "user": user, "stdout": subprocess.DEVNULL}
        subprocess.run([tools / "initdb", "--auth=trust", f"--username={_SUPERUSER}", "db"], check=True, **options)
        port = free_port()
        command = [tools / "postgres", "-D", "db", "-p", str(port), "-k", folder, "-h", "127.0.0.1"]
        with _running(command, **options, stderr=subprocess.DEVNULL):
            url = f"postgresql://{_SUPERUSER}@127.0.0.1:{port}/postgres"
            wait_until(lambda: _answers(url), "PostgreSQL", _STARTS_S)
            yield url


def _postgres_tools() -> Path | None:
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    found = shutil.which("initdb") or (installed[-1] if installed else None)
    return Path(found).resolve().parent if found else None


def _answers(url: str) -> bool:
    import psycopg2

    with suppress(psycopg2.OperationalError):
        psycopg2.connect(url, connect_timeout=2).close()
        return True
    return False


def _execute(url: str, statement: str) -> None:
    import psycopg2

    connection = psycopg2.connect(url)
    try:
        connection.autocommit = True
        connection.cursor().execute(statement)
    finally:
        connection.close()


@contextmanager
def _redis() -> Iterator[str]:
    if _pongs(REDIS):
        yield REDIS
        return
    server = shutil.which("redis-server")
    if server is None:
        lacking(f"no Redis: none answers at {REDIS}, and none is installed that could be started")
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="airflow_prs-redis-") as folder,
        _running([server, "--port", str(port), "--save", "", "--dir", folder], stdout=subprocess.DEVNULL),
    ):
        url = f"redis://127.0.0.1:{port}"
        wait_until(lambda: _pongs(url), "Redis", _STARTS_S)
        yield url


def _pongs(url: str) -> bool:
    import redis

    with suppress(redis.RedisError), redis.Redis.from_url(url, socket_connect_timeout=2) as client:
        return bool(client.ping())
    return False


def _reserve(server: str) -> tuple[str, Any]:
    """Find an empty database, and write into it, so that nobody else takes it."""
    import redis

    # From the last one down: people use the first.
    for number in reversed(range(_DATABASES)):
        url = f"{server.rstrip('/')}/{number}"
        client = redis.Redis.from_url(url)
        with suppress(redis.ResponseError):
            if client.dbsize() == 0 and client.set("airflow_prs", "tests", nx=True):
                return url, client
        client.close()
    return lacking(f"Redis at {server} has no empty database")


@contextmanager
def _running(command: list[Any], **options: Any) -> Iterator[None]:
    process = subprocess.Popen(command, **options)
    try:
        yield
    finally:
        process.terminate()
        process.wait()
