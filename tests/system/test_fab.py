"""The live page where the FAB auth manager decides: roles that are limited to a DAG, in an environment of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

from tests.airflow_services import AirflowApi, running_airflow
from tests.lacking import lacking
from tests.system.step_runs import Place, StepRun, write_dag

pytestmark = [pytest.mark.system, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
PASSWORD = "a password of this test alone"
USERS = {"admin": "Admin", "owner": "Owner", "reader": "Reader", "nobody": "Public"}
ACCESS = 'access_control={"Owner": {"can_read", "can_edit"}, "Reader": {"can_read"}}'
CHANGE = {"X-Parallel-Run": "1"}


def uv(*arguments, **options):
    done = subprocess.run(
        [sys.executable, "-m", "uv", *map(str, arguments)], capture_output=True, text=True, check=False, **options
    )
    if done.returncode:
        lacking(f"uv {arguments[0]} fails: {done.stderr[-2000:]}")
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    """An environment with the same Airflow, this package and the provider, which pins what others need newer."""
    folder = tmp_path_factory.mktemp("fab")
    python, versions = folder / "venv" / "bin" / "python", folder / "versions.txt"
    installed = json.loads(uv("pip", "list", "--quiet", "--python", sys.executable, "--format", "json"))
    airflow = [each for each in installed if each["name"].startswith("apache-airflow")]
    versions.write_text("".join(f"{each['name']}=={each['version']}\n" for each in airflow))
    uv("venv", "--quiet", "--python", sys.executable, python.parents[1])
    to_install = ["--editable", ROOT, "apache-airflow-providers-fab"]
    uv("pip", "install", "--quiet", "--python", python, "--constraint", versions, *to_install)
    return str(python)


@pytest.fixture(scope="module")
def airflow(python, tmp_path_factory):
    """An Airflow whose roles may do something with all runs and logs, but only of the DAGs that they may read."""

    def user(name, role):
        options = {"--username": name, "--role": role, "--password": PASSWORD, "--email": f"{name}@example.org"}
        named = {"--firstname": name, "--lastname": name}
        return ["users", "create", *(part for pair in {**options, **named}.items() for part in pair)]

    setup = [
        ["roles", "create", "Owner", "Reader"],
        ["roles", "add-perms", "Owner", "Reader", "--resource", "DAG Runs", "--action", "can_read"],
        ["roles", "add-perms", "Owner", "--resource", "DAG Runs", "Task Logs", "--action", "can_read", "can_edit"],
        *(user(name, role) for name, role in USERS.items()),
    ]
    manager = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"
    with running_airflow(
        tmp_path_factory.mktemp("airflow") / "home",
        python=python,
        setup=setup,
        credentials=credentials("admin"),
        environment={"AIRFLOW__CORE__AUTH_MANAGER": manager},
    ) as services:
        write_dag(services, "theirs", dag=ACCESS)
        write_dag(services, "of_others")
        yield services
    assert services.processes() == []


@pytest.fixture(scope="module")
def runs(airflow, tmp_path_factory):
    """A run of each DAG, in which a mini-batch has failed."""
    found = []
    for dag_id in ("theirs", "of_others"):
        place = Place(tmp_path_factory.mktemp("place") / dag_id, 4)
        place.fail("0002")
        found.append(StepRun.trigger(airflow, dag_id, place, allowed=1, tries=1))
    for run in found:
        assert run.finish() == "success", run.summary()
    return found


def credentials(name):
    return {"username": name, "password": PASSWORD}


@pytest.fixture(scope="module")
def ask(airflow):
    """Ask the page for something as a user; return the status and the answer."""
    apis = {name: AirflowApi(airflow.url, credentials(name)) for name in USERS}
    for api in apis.values():
        api.log_in()

    def send(name, path, body=None):
        headers = {"Authorization": f"Bearer {apis[name].token}", "Content-Type": "application/json", **CHANGE}
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{airflow.url}/parallel-run/api/{path}", data, headers)
        try:
            with urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()

    return send


def statuses(ask, name, run):
    """Return the status of each endpoint for a user."""
    steps = f"dags/{run.dag_id}/runs/{quote(run.run_id)}/steps"
    failures = json.loads(ask("admin", f"{steps}/step/failures")[1])["failures"]
    node = failures[0]["tries"][0]["node"]
    requests = {
        "steps": (steps,),
        "step": (f"{steps}/step",),
        "failures": (f"{steps}/step/failures",),
        "clearing": (f"{steps}/step/clearing?action=retry",),
        "log": (f"{steps}/step/logs/{node}/process000",),
        "limits": (f"{steps}/step/limits", {"error_threshold": 3}),
        "abort": (f"{steps}/step/abort", {"kind": "drain"}),
    }
    return {kind: ask(name, *request)[0] for kind, request in requests.items()}


READ = {"steps": 200, "step": 200, "failures": 200, "clearing": 200}


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        # The script has printed nothing, and a run that has ended can be changed no more.
        ("owner", READ | {"log": 404, "limits": 409, "abort": 409}),
        ("reader", READ | {"log": 403, "limits": 403, "abort": 403}),
        ("nobody", dict.fromkeys([*READ, "log", "limits", "abort"], 403)),
    ],
)
def test_a_role_of_one_dag_sees_and_changes_runs_of_that_dag_alone(ask, runs, name, theirs):
    assert statuses(ask, name, runs[0]) == theirs
    assert set(statuses(ask, name, runs[1]).values()) == {403}


def test_the_list_has_the_runs_of_that_dag_alone(ask, runs):
    listed = {name: {row["dag_id"] for row in json.loads(ask(name, "runs")[1])["runs"]} for name in USERS}
    ours = {"theirs"}
    assert listed == {"admin": {"theirs", "of_others"}, "owner": ours, "reader": ours, "nobody": set()}


def test_the_page_shows_what_a_role_may_do(ask, runs):
    path = f"dags/theirs/runs/{quote(runs[0].run_id)}/steps/step"
    shown = {name: json.loads(ask(name, path)[1]) for name in ("owner", "reader")}
    assert {name: (each["may_edit"], each["may_read_logs"]) for name, each in shown.items()} == {
        "owner": (True, True),
        "reader": (False, False),
    }
    tracebacks = {
        name: json.loads(ask(name, f"{path}/failures")[1])["failures"][0]["tries"][0]["traceback"] for name in shown
    }
    assert ("0002 is bad" in tracebacks["owner"], tracebacks["reader"]) == (True, None)
