"""Airflow as `airflow standalone` starts it: all four services, in a home of their own, with short waits."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import Request, urlopen

import psutil

SQL_VARIABLE = "AIRFLOW_PRS_TEST_SQL"
"""SQLAlchemy URL of an empty database that may be used instead of SQLite."""

SERVICES = {
    "api-server": [],
    "scheduler": ["--skip-serve-logs"],
    "dag-processor": [],
    "triggerer": ["--skip-serve-logs"],
}
HEARTBEAT_TIMEOUT_S = 20
_START_S = 180
_STOP_S = 60
_CALL_S = 60
_RUN_S = 300
_TRIES = 5


def wait_until(condition: Callable[[], Any], what: Any, seconds: float = 180, every: float = 0.25) -> Any:
    """
    Wait until a condition holds, and return its value.

    :param what: what is waited for, as text or as a function that words it.
    """
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds:.0f} seconds still waiting for {what() if callable(what) else what}")
        time.sleep(every)
    return value


class ApiError(Exception):
    """
    The API server refused a call.

    :param status: of HTTP.
    """

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(f"{status}: {message}")


class AirflowApi:
    """
    The public REST API, as an administrator.

    Changes go one after the other: with SQLite, an API server that works at two of them may block itself.

    :param url: of the API server.
    :param credentials: username and password, where not everybody is an administrator.
    :ivar token: what its caller shows.
    :ivar one_change: held during a change.
    """

    def __init__(self, url: str, credentials: Mapping[str, str] | None = None) -> None:
        self.url = url
        self._credentials = credentials
        self.token = ""
        self.one_change = threading.Lock()

    def log_in(self) -> None:
        """Get a token, as the UI does."""
        method = "GET" if self._credentials is None else "POST"
        self.token = self._call(method, "/auth/token", self._credentials)["access_token"]

    def get(self, path: str, **query: Any) -> Any:
        """Read something."""
        return self._call("GET", f"/api/v2/{path}?{urlencode(query)}", None)

    def post(self, path: str, body: Any) -> Any:
        """Make something happen."""
        return self._change("POST", path, body)

    def patch(self, path: str, body: Any) -> Any:
        """Change something."""
        return self._change("PATCH", path, body)

    def _change(self, method: str, path: str, body: Any, tries: int = _TRIES) -> Any:
        try:
            with self.one_change:
                return self._call(method, f"/api/v2/{path}", body)
        except ApiError as error:
            if tries == 1 or error.status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise
        # The database was locked, so nothing has changed.
        return self._change(method, path, body, tries - 1)

    def _call(self, method: str, path: str, body: Any) -> Any:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}{path}", data, headers, method=method)
        try:
            with urlopen(request, timeout=_CALL_S) as answer:
                return json.load(answer)
        except HTTPError as error:
            answer = error.read().decode(errors="replace")[:2000]
            raise ApiError(error.code, f"{method} {path} {body}: {answer}") from None


class AirflowServices:
    """
    A running Airflow.

    :param home: its AIRFLOW_HOME, a new folder.
    :param without: services that are not started.
    :param is_standalone: whether the one command `airflow standalone` makes the database and starts the services.
    :param environment: further variables for all of them.
    :param prefix: of all paths, as behind a proxy that several services share.
    :param python: the interpreter of an environment with another Airflow.
    :param setup: commands of Airflow that follow the migration.
    :param credentials: those of an administrator, see AirflowApi.
    """

    def __init__(
        self,
        home: Path,
        *,
        prefix: str = "",
        without: Iterable[str] = (),
        is_standalone: bool = False,
        environment: Mapping[str, str] | None = None,
        python: str = sys.executable,
        setup: Iterable[list[str]] = (),
        credentials: Mapping[str, str] | None = None,
    ) -> None:
        self.home = home
        self._python = python
        self._setup = [["db", "migrate"], *setup]
        self._without = set(without)
        self._is_standalone = is_standalone
        self.dags = home / "dags"
        self.dags.mkdir(parents=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}{prefix}"
        self._keys = {
            "AIRFLOW__API__SECRET_KEY": secrets.token_hex(16),
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
            # Of the servers of logs, which Celery's workers need, and `airflow standalone` starts in any case.
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(free_port()),
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(free_port()),
            **(environment or {}),
        }
        self._is_given_up = False
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.api = AirflowApi(self.url, credentials)

    def start(self) -> None:
        """Make the database, start the services and wait until all are healthy."""
        if self._is_standalone:
            self._start("standalone", ["standalone"])
        else:
            for command in self._setup:
                assert self._start("setup", command).wait(_START_S) == 0, self.logs()
            del self._processes["setup"]
            for name, options in SERVICES.items():
                if name not in self._without:
                    self._start(name, [name, *options])
        wait_until(self._is_healthy, self._complaint, _START_S, every=0.5)

    def restart(self, name: str, environment: Mapping[str, str] | None = None) -> None:
        """
        End a service as an administrator does, and start it again.

        :param environment: variables for this service alone.
        """
        process = self._processes[name]
        process.terminate()
        process.wait(_STOP_S)
        self._start(name, [name, *SERVICES[name]], environment)

    def process(self, name: str) -> psutil.Process:
        """Give the process of a service, for measurements."""
        return psutil.Process(self._processes[name].pid)

    def environment(self, service: str, home: Path, gateway: str) -> dict[str, str]:
        """
        Give the environment variables of a service that runs on another host.

        :param home: its AIRFLOW_HOME.
        :param gateway: the address at which it reaches what listens here on 127.0.0.1.
        """
        ours = {**service_environment(service, home, self.url), **self._keys}
        outside = {name: value.replace("127.0.0.1", gateway) for name, value in ours.items()}
        return {**outside, "AIRFLOW__CORE__DAGS_FOLDER": str(self.dags)}

    def check(self) -> None:
        """Fail if a service has ended, or if nobody waits for what is under way any more."""
        dead = [name for name, process in self._processes.items() if process.poll() is not None]
        assert not dead, f"{', '.join(dead)} ended:\n{self.logs()}"
        assert not self._is_given_up, "the tests were interrupted"

    def give_up(self) -> None:
        """Let everything that waits for this Airflow fail."""
        self._is_given_up = True

    def stop(self) -> None:
        """End the services and whatever they have started."""
        # `airflow standalone` ends its services for Ctrl-C alone.
        number = signal.SIGINT if self._is_standalone else signal.SIGTERM
        for process in self._processes.values():
            process.send_signal(number)
        _, alive = psutil.wait_procs(self.processes(), timeout=_STOP_S)
        while alive:
            for process in alive:
                with_luck(process.kill)
            psutil.wait_procs(alive, timeout=_STOP_S)
            alive = self.processes()
        for process in self._processes.values():
            process.wait()

    def processes(self) -> list[psutil.Process]:
        """Find every process of the services' sessions, or that lives in their home, whoever its parent is by now."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def logs(self) -> str:
        """Read the ends of the services' logs."""
        paths = sorted(self.home.glob("*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-3000:]}" for path in paths)

    def wait_for_dag(self, dag_id: str) -> None:
        """Wait until a DAG file that was just written has been parsed."""

        def is_parsed() -> bool:
            known = {dag["dag_id"] for dag in self.api.get("dags", limit=100)["dags"]}
            return dag_id in known

        wait_until(is_parsed, lambda: f"the DAG {dag_id}: {self.api.get('importErrors')}")

    def run(self, dag_id: str, conf: Mapping[str, Any] | None = None, *, seconds: float = _RUN_S) -> str:
        """
        Trigger a run as the UI does, and wait until it has succeeded.

        :return: its path in the API.
        """
        runs = f"dags/{dag_id}/dagRuns"
        path = f"{runs}/{self.api.post(runs, {'logical_date': None, 'conf': dict(conf or {})})['dag_run_id']}"

        def end() -> str:
            self.check()
            state = self.api.get(path)["state"]
            return state if state in {"success", "failed"} else ""

        ended = wait_until(end, lambda: f"the end of {path}:\n{self.logs()}", seconds)
        assert ended == "success", f"{path} {ended}:\n{self.logs()}"
        return path

    def _start(
        self, name: str, command: list[str], environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        with (self.home / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [self._python, "-m", "airflow", *command],
                cwd=self.home,
                env={**service_environment(name, self.home, self.url), **self._keys, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self._processes[name]

    def _is_healthy(self) -> bool:
        self.check()
        try:
            health = self.api.get("monitor/health")
            self.api.log_in()
        except (ApiError, URLError, ConnectionError, TimeoutError):
            return False
        parts = [part for name, part in health.items() if part and name not in self._without]
        return all(part["status"] == "healthy" for part in parts)

    def _complaint(self) -> str:
        return f"Airflow's services:\n{self.logs()}"

    def _is_ours(self, process: psutil.Process) -> bool:
        sessions = {service.pid for service in self._processes.values()}
        try:
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            return os.getsid(process.pid) in sessions or process.environ().get("AIRFLOW_HOME") == str(self.home)
        except (psutil.Error, ProcessLookupError):
            return False


@contextmanager
def running_airflow(home: Path, **options: Any) -> Iterator[AirflowServices]:
    """Start an Airflow, and leave nothing of it running."""
    services = AirflowServices(home, **options)
    try:
        services.start()
        yield services
    finally:
        services.stop()


def with_luck(act: Callable[[], Any]) -> None:
    """Do something to a process that may be gone by now."""
    with suppress(psutil.NoSuchProcess):
        act()


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def service_environment(service: str, home: Path, url: str) -> dict[str, str]:
    """Give the environment variables of a service: nothing of the caller's own Airflow, and short waits."""
    patience = "" if service == "api-server" else "?timeout=60"
    ours = {
        "API__BASE_URL": url,
        "API__HOST": "127.0.0.1",
        "API__PORT": urlsplit(url).port,
        "API__WORKERS": 1,
        "CORE__DAGS_ARE_PAUSED_AT_CREATION": False,
        "CORE__DAGS_FOLDER": home / "dags",
        "CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "CORE__EXECUTOR": "LocalExecutor",
        "CORE__LOAD_EXAMPLES": False,
        "CORE__MAX_ACTIVE_RUNS_PER_DAG": 64,
        "CORE__MAX_ACTIVE_TASKS_PER_DAG": 64,
        "CORE__PARALLELISM": 24,
        "CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": True,
        "DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": 1,
        "DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": 600,
        "DAG_PROCESSOR__REFRESH_INTERVAL": 1,
        # The API server waits for a lock of SQLite in its event loop, which whoever holds the lock may need to end.
        "DATABASE__SQL_ALCHEMY_CONN": os.environ.get(SQL_VARIABLE) or f"sqlite:///{home}/airflow.db{patience}",
        "SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": 0.5,
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": HEARTBEAT_TIMEOUT_S,
        "SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": 2,
        "USAGE_DATA_COLLECTION__ENABLED": False,
        "WORKERS__MIN_HEARTBEAT_INTERVAL": 2,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    # `airflow standalone` looks for the command of the same installation there.
    kept["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}"
    return {**kept, "AIRFLOW_HOME": str(home), **{f"AIRFLOW__{name}": str(value) for name, value in ours.items()}}
