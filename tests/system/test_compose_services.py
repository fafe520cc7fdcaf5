"""What docker-compose.yaml starts in containers is started here without them, and runs an example."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from airflow_prs.run_folder.folder import earlier_runs
from tests import compose_file
from tests.airflow_services import free_port, wait_until
from tests.compose_file import ROOT, airflow_services, health_command, read_env
from tests.lacking import lacking
from tests.servers import fresh_database

pytestmark = [pytest.mark.system, pytest.mark.slow]
pytest.importorskip("airflow.providers.celery", reason="the image has the locked versions")

SECRET = "Xy0-_"
START_S = 600
RUN_S = 600
STOP_S = 60
WITH_HEALTH_CHECK = ["api-server", "scheduler", "dag-processor", "triggerer", "worker", "redis"]


class Here:
    """
    The services of the file on this machine, on ports and in a folder that nobody else uses.

    :param folder: stands for /opt/airflow; new.
    :param database: URL of an empty PostgreSQL database, which stands for the service postgres.
    """

    def __init__(self, folder: Path, database: str) -> None:
        self.home = folder
        example = read_env((ROOT / ".env.example").read_text())
        self.variables = {name: value or f"{name}{SECRET}" for name, value in example.items()}
        self.variables["AIRFLOW_FERNET_KEY"] = "A" * 43 + "="
        self._database = database.replace("postgresql://", "postgresql+psycopg2://")
        self._ports = {name: str(free_port()) for name in ("8080", "8974", "8793", "6379")}
        self.services = compose_file.services(self.variables)
        self.airflow = airflow_services(self.variables)
        for path in ("demo", "run_folders", "logs"):
            (folder / path).mkdir(parents=True)
        (folder / "dags").symlink_to(ROOT / "dags_examples")
        self.api = f"http://127.0.0.1:{self._ports['8080']}"

    @contextmanager
    def started(self, name):
        """Run the command of a service until the end of the block."""
        with (self.home / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                self.placed(self.services[name]["command"]),
                env=self.environment(name),
                cwd=self.home,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            # As a container is stopped: whatever is left after a while is killed.
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def run(self, name, command):
        """Run a command in the environment of a service."""
        return subprocess.run(
            self.placed(command), check=False, env=self.environment(name), cwd=self.home, capture_output=True, text=True
        )

    def check(self, name):
        """Run the health check of a service."""
        return self.run(name, health_command(self.services[name]))

    def is_healthy(self, name):
        return self.check(name).returncode == 0

    def environment(self, name):
        kept = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
        ours = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "AIRFLOW_HOME": str(self.home),
            # What an image and a network of its own do for a container.
            "AIRFLOW__API__PORT": self._ports["8080"],
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": self._ports["8974"],
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": self._ports["8793"],
        }
        of_service = {key: self.placed(value) for key, value in self.services[name].get("environment", {}).items()}
        if "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" in of_service:
            of_service["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] = self._database
        return kept | ours | of_service

    def placed(self, value):
        """Put this machine's places where the file has those of containers."""
        if isinstance(value, list):
            return [self.placed(each) for each in value]
        for there, here in {
            "/opt/airflow": str(self.home),
            "/tmp/": f"{self.home}/",
            "@redis:": "@127.0.0.1:",
            "api-server:": "127.0.0.1:",
            "redis-server": f"redis-server --port {self._ports['6379']}",
            "redis-cli": f"redis-cli -p {self._ports['6379']}",
        }.items():
            value = value.replace(there, here)
        for there, here in self._ports.items():
            value = value.replace(f":{there}", f":{here}")
        return value

    def token(self, password):
        """Log in as the UI does; gives the token."""
        return self.call("POST", "/auth/token", {"username": "admin", "password": password})["access_token"]

    def call(self, method, path, body=None, token=""):
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(f"{self.api}{path}", data, headers, method=method), timeout=60) as answer:
            return json.load(answer)

    def logs(self):
        return "\n".join(f"--- {path.name}\n{path.read_text()[-2000:]}" for path in sorted(self.home.glob("*.log")))


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The services before any but the database runs, the database being ready."""
    if shutil.which("redis-server") is None:
        lacking("no Redis is installed that could be started")
    with fresh_database() as database:
        here = Here(tmp_path_factory.mktemp("compose") / "airflow", database)
        done = here.run("airflow-init", here.services["airflow-init"]["command"])
        assert done.returncode == 0, done.stderr
        yield here


@pytest.fixture(scope="module")
def unhealthy(stopped):
    """The names of the services that call themselves unhealthy before they are started."""
    return [name for name in WITH_HEALTH_CHECK if not stopped.is_healthy(name)]


@pytest.fixture(scope="module")
def here(stopped, unhealthy):
    """All services, running; those that are slow to start may not be healthy yet."""
    with ExitStack() as stack:
        processes = {name: stack.enter_context(stopped.started(name)) for name in reversed(WITH_HEALTH_CHECK)}
        wait_until(lambda: stopped.is_healthy("api-server"), stopped.logs, START_S, every=1)
        assert {name: process.poll() for name, process in processes.items()} == dict.fromkeys(WITH_HEALTH_CHECK)
        yield stopped


def test_whatever_has_a_health_check_is_started_here(stopped):
    assert {name for name, each in stopped.services.items() if "healthcheck" in each} == {
        *WITH_HEALTH_CHECK,
        "postgres",
        "s3",
    }


def test_the_health_check_of_the_database_says_what_it_finds(stopped):
    """0: it takes connections; 2: nobody answers. Anything else would be a wrong command."""
    if shutil.which("pg_isready") is None:
        lacking("no pg_isready is installed")
    command = [*health_command(stopped.services["postgres"]), "--host=127.0.0.1", f"--port={free_port()}"]
    assert stopped.run("postgres", command).returncode == 2


def test_what_does_not_run_is_unhealthy(unhealthy):
    assert unhealthy == WITH_HEALTH_CHECK


@pytest.mark.parametrize("name", WITH_HEALTH_CHECK)
def test_what_runs_is_healthy(here, name):
    wait_until(lambda: here.is_healthy(name), here.logs, START_S, every=1)


def test_the_admin_logs_in_with_the_password_of_the_settings(here):
    assert here.token(here.variables["AIRFLOW_ADMIN_PASSWORD"])


def test_nobody_logs_in_with_another_password(here):
    with pytest.raises(HTTPError, match="401"):
        here.token("airflow")


def test_nobody_reads_anything_without_a_token(here):
    with pytest.raises(HTTPError, match="401"):
        here.call("GET", "/api/v2/dags")


def test_an_example_runs_on_the_worker(here):
    token = here.token(here.variables["AIRFLOW_ADMIN_PASSWORD"])
    dag = "/api/v2/dags/example_digits"

    def dags():
        return {each["dag_id"] for each in here.call("GET", "/api/v2/dags", None, token)["dags"]}

    wait_until(lambda: "example_digits" in dags(), here.logs)
    here.call("PATCH", dag, {"is_paused": False}, token)
    run = here.call("POST", f"{dag}/dagRuns", {"logical_date": None}, token)["dag_run_id"]

    def state():
        return here.call("GET", f"{dag}/dagRuns/{run}", None, token)["state"]

    wait_until(lambda: state() in {"success", "failed"}, here.logs, RUN_S, every=1)
    assert state() == "success", here.logs()
    output = here.home / "demo" / "digits" / "result"
    assert len((output / "digits.txt").read_text().splitlines()) == 1797
    assert len(earlier_runs(str(output), dag_id="example_digits", task_id="read_digits")) == 1
