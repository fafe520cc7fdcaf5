"""A server of object storage for measurements, and plans whose run folder is on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from uuid import uuid4

from airflow_prs.object_storage.addresses import Address
from airflow_prs.object_storage.connecting import use_connections
from benchmarks.storage_proxy import Proxy, proxy_of
from tests.object_servers import ACCESS_KEY, REGION, SECRET_KEY, Server, serve


@contextmanager
def storage(latency_s: float = 0.0) -> Iterator[tuple[Server, Proxy, Address]]:
    """
    Use SeaweedFS through a proxy, in this process and in those that it starts.

    :return: the server, the proxy, and an address below which there is nothing.
    """
    server = serve("seaweed")
    with proxy_of(server.url, latency_s) as proxy:
        environment = {
            "AWS_ENDPOINT_URL": proxy.url,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_DEFAULT_REGION": REGION,
        }
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        use_connections(partial(server.connect, url=proxy.url))
        try:
            yield server, proxy, Address(server.bucket, f"bench/{uuid4().hex}")
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
