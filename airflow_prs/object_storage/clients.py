"""Clients of object storage whose requests end in time, however the storage behaves."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from airflow_prs.object_storage.addresses import Bucket, Kind
from airflow_prs.object_storage.connecting import Connection
from airflow_prs.object_storage.requests import begin_requests

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

REQUEST_TIMEOUT_S: Final = 5
"""For a request of few bytes: whoever aborts a run waits for it."""

BULK_TIMEOUT_S: Final = 300
"""For a request of many bytes."""

_REQUEST_RETRIES: Final[RetryConfig] = {
    "max_retries": 1000,
    "retry_timeout": timedelta(seconds=15),
    "backoff": {"init_backoff": timedelta(milliseconds=50), "max_backoff": timedelta(seconds=1), "base": 2},
}

_BULK_RETRIES: Final[RetryConfig] = {
    "max_retries": 1000,
    "retry_timeout": timedelta(minutes=1),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=10), "base": 2},
}


def make_connection(
    bucket: Bucket, *, native: Callable[[], Any], client_options: ClientConfig | None = None, **options: Any
) -> Connection:
    """
    Return a connection to a bucket. It sends nothing yet.

    :param native: makes the storage's own client, see ``Connection``; it is called once, when somebody needs it.
    :param client_options: of all clients, in addition to the time limits.
    :param options: of S3Store or AzureStore of obstore, for example ``endpoint`` and ``credential_provider``.
    """
    from obstore.store import AzureStore, S3Store

    begin_requests(bucket)
    make = S3Store if bucket.kind is Kind.S3 else AzureStore
    shared: ClientConfig = client_options or {}
    if str(options.get("endpoint", "")).startswith("http://"):
        shared = {**shared, "allow_http": True}
    return Connection(
        bucket=bucket,
        objects=make(
            bucket.name,
            client_options={**shared, "timeout": timedelta(seconds=REQUEST_TIMEOUT_S)},
            retry_config=_REQUEST_RETRIES,
            **options,
        ),
        bulk=make(
            bucket.name,
            client_options={**shared, "timeout": timedelta(seconds=BULK_TIMEOUT_S)},
            retry_config=_BULK_RETRIES,
            **options,
        ),
        native=cache(native),
    )
