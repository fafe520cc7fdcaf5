"""Airflow with CeleryExecutor: its services here, PostgreSQL, Redis, and workers on hosts of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.airflow_services import AirflowServices, wait_until
from tests.hosts import Host, check_hosts_can_be_made, hosts
from tests.servers import empty_redis, fresh_database

_STARTS_S = 120
_ANSWERS_S = 1.0


class CeleryCluster:
    """
    A running Airflow whose tasks run on other hosts.

    :param services: all but the workers.
    :param hosts: of the workers, by name.
    :param broker: URL of Redis.
    :param concurrency: tasks that a worker runs at once.
    """

    def __init__(self, services: AirflowServices, hosts: dict[str, Host], broker: str, concurrency: int) -> None:
        self.services = services
        self.hosts = hosts
        self._broker = broker
        self._concurrency = concurrency

    def start_worker(self, name: str) -> None:
        """Start the worker of a host; it takes what is sent to the default queue, or to one of its own name."""
        home = self.home(name)
        home.mkdir(exist_ok=True)
        host = self.hosts[name]
        options = ["--celery-hostname", name, "--queues", f"default,{name}", "--concurrency", str(self._concurrency)]
        quick = ["--skip-serve-logs", "--without-gossip", "--without-mingle"]
        host.start(
            [sys.executable, "-m", "airflow", "celery", "worker", *options, *quick],
            log=self.services.home / f"worker-{name}.log",
            cwd=home,
            environment=self.services.environment("worker", home, host.gateway),
        )

    def wait_for_workers(self) -> None:
        """Wait until all of them take tasks."""
        wait_until(lambda: self._answering() == set(self.hosts), self.services.logs, _STARTS_S)

    def home(self, name: str) -> Path:
        """AIRFLOW_HOME of a worker."""
        return self.services.home.with_name(name)

    def _answering(self) -> set[str]:
        from celery import Celery

        with Celery(broker=self._broker) as app:
            return {name.split("@")[1] for answer in app.control.ping(timeout=_ANSWERS_S) for name in answer}


@contextmanager
def celery_cluster(folder: Path, workers: Sequence[str], *, concurrency: int = 1) -> Iterator[CeleryCluster]:
    """Start all of it, and leave nothing running."""
    check_hosts_can_be_made()
    with fresh_database() as database, empty_redis() as broker:
        variables = {
            "AIRFLOW__CORE__EXECUTOR": "CeleryExecutor",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database,
            "AIRFLOW__CELERY__BROKER_URL": broker,
            "AIRFLOW__CELERY__RESULT_BACKEND": broker,
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "socket.gethostname",
            "AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT": "86400",
        }
        services = AirflowServices(folder / "home", environment=variables)
        # A worker reaches the API server and Redis, and neither PostgreSQL nor what else listens here.
        with hosts(workers, [services.port, urlsplit(broker).port or 6379]) as made:
            cluster = CeleryCluster(services, made, broker, concurrency)
            try:
                for name in workers:
                    cluster.start_worker(name)
                services.start()
                cluster.wait_for_workers()
                yield cluster
            finally:
                services.stop()
        assert services.processes() == []
