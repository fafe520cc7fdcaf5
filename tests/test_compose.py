"""docker-compose.yaml, its settings and its image fit each other, the specification of such files and Airflow."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import jsonschema
import pytest
import yaml
from cryptography.fernet import Fernet

from tests import compose_file
from tests.compose_file import COMPOSE, EXAMPLE, ROOT, MissingVariableError, airflow_services, read_env, references
from tests.lacking import lacking

pytest.importorskip("airflow.providers.celery", reason="the image has the locked versions")

ON_OBJECT_STORAGE = ROOT / "dags_examples" / "example_object_storage.py"
EXAMPLES = sorted({*(ROOT / "dags_examples").glob("example_*.py")} - {ON_OBJECT_STORAGE})
"""The examples that write to local folders."""
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
AIRFLOW_HOME = "/opt/airflow"
SPECIFICATION = json.loads((ROOT / "tests" / "assets" / "compose-spec" / "compose-spec.json").read_text())
EXTRAS = "async,celery,cncf-kubernetes,common-io,fab,http,pandas,postgres,redis,statsd"
"""Of those that the official image is made with, what has to do with Celery, with storage or with our dependencies."""


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    """What `make env` writes, in a folder of its own; gives the path of the file."""
    folder = tmp_path_factory.mktemp("env")
    for name in ["Makefile", EXAMPLE.name]:
        shutil.copy(ROOT / name, folder)
    make_env(folder)
    return folder / ".env"


def make_env(folder):
    subprocess.run(["make", "env"], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def variables(env):
    return read_env(env.read_text())


@pytest.fixture(scope="module")
def services(variables):
    return compose_file.services(variables)


@pytest.fixture(scope="module")
def airflow(variables):
    return airflow_services(variables)


# The file


def test_the_file_follows_the_specification_of_compose_files(variables):
    validator = jsonschema.Draft202012Validator(SPECIFICATION)
    assert [
        f"{error.json_path}: {error.message}" for error in validator.iter_errors(compose_file.load(variables))
    ] == []


def test_it_follows_the_specification_before_variables_are_put_in():
    jsonschema.Draft202012Validator(SPECIFICATION).validate(yaml.safe_load(COMPOSE.read_text()))


def test_all_of_airflow_its_database_and_its_broker_are_there(services):
    parts = {"postgres", "redis", "api-server", "scheduler", "dag-processor", "triggerer", "worker"}
    assert set(services) == {*parts, "airflow-init", "s3"}


def test_the_s3_server_is_started_only_if_somebody_wants_it(services, variables):
    assert [name for name, service in services.items() if "profiles" in service] == ["s3"]
    server = services["s3"]
    environment = services["worker"]["environment"]
    connection = json.loads(environment["AIRFLOW_CONN_DEMO_S3"])
    assert (connection["login"], connection["password"]) == tuple(server["environment"].values())
    assert connection["extra"]["endpoint_url"] == "http://s3:8333"
    assert "-s3.port=8333" in server["command"]
    assert environment["AIRFLOW_VAR_OBJECT_STORAGE"].split("/")[2] == "demo_s3@demo"
    assert "-bucket=demo" in server["command"]


def test_two_workers_are_started(services):
    assert services["worker"]["deploy"]["replicas"] == "2"


def test_workers_can_be_multiplied(services):
    assert {"container_name", "hostname", "ports"} & set(services["worker"]) == set()


def test_all_that_goes_on_has_a_health_check_and_starts_again(services):
    lasting = {name: service for name, service in services.items() if name != "airflow-init"}
    assert [name for name, service in lasting.items() if "healthcheck" not in service] == []
    assert {service["restart"] for service in lasting.values()} == {"unless-stopped"}


def test_every_service_has_limits(services):
    without = [
        name for name, each in services.items() if set(each["deploy"]["resources"]["limits"]) != {"cpus", "memory"}
    ]
    assert without == []


def test_every_service_awaits_what_it_needs(services):
    conditions = {
        name: {each["condition"] for each in one.get("depends_on", {}).values()} for name, one in services.items()
    }
    assert conditions.pop("airflow-init") == {"service_healthy"}
    assert {name for name, of in conditions.items() if of == {"service_completed_successfully"}} == {
        "api-server",
        "scheduler",
        "dag-processor",
        "triggerer",
        "worker",
    }


def test_the_image_is_made_once_and_never_pulled(airflow):
    assert [name for name, service in airflow.items() if "build" in service] == ["airflow-init"]
    assert {service["pull_policy"] for service in airflow.values()} == {"never"}


def test_nothing_is_installed_when_services_start():
    assert re.findall(r"pip |_PIP_ADDITIONAL|apt", COMPOSE.read_text()) == []


# Folders


def mounts(service):
    return dict(reversed(mount.split(":")[:2]) for mount in service["volumes"])


def test_every_airflow_service_sees_the_same_folders(airflow):
    assert {tuple(service["volumes"]) for service in airflow.values()} == {tuple(airflow["triggerer"]["volumes"])}


def test_the_examples_are_the_dags(airflow):
    assert "./dags_examples:/opt/airflow/dags:ro" in airflow["dag-processor"]["volumes"]


def test_run_folders_are_on_a_volume(airflow):
    assert (
        mounts(airflow["worker"])[airflow["worker"]["environment"]["AIRFLOW__PARALLEL_RUN__RUN_ROOT"]] == "run_folders"
    )


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_what_an_example_writes_is_on_a_volume(path, airflow, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", AIRFLOW_HOME)
    statements = ast.parse(path.read_text()).body
    folder = next(each.value for each in statements if isinstance(each, ast.Assign) and each.targets[0].id == "FOLDER")
    written = eval(compile(ast.Expression(folder), str(path), "eval"), {"os": os, "Path": Path})
    assert mounts(airflow["worker"])[str(written.parent)] == "demo"


def test_the_image_has_each_folder_that_a_volume_covers(airflow):
    """A volume takes over the owner of the folder it covers; without one it is root's, and Airflow cannot write."""
    made = re.search(r"^RUN mkdir --parents (.+)$", DOCKERFILE, re.MULTILINE)[1].replace(
        "${AIRFLOW_HOME}", AIRFLOW_HOME
    )
    volumes = set(yaml.safe_load(COMPOSE.read_text())["volumes"])
    covered = {target for target, source in mounts(airflow["worker"]).items() if source in volumes}
    assert {path.strip('"') for path in made.split()} == covered


# Variables


def test_every_variable_of_airflow_is_in_its_configuration_reference(airflow):
    command = [sys.executable, "-m", "airflow", "config", "list", "--defaults", "--include-env-vars"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    known = set(re.findall(r"^# Variable: (\w+)$", shown, re.MULTILINE))
    used = {name for service in airflow.values() for name in service["environment"] if name.startswith("AIRFLOW__")}
    assert len(used) > 10
    assert used - known == set()


def test_the_example_of_settings_has_what_the_file_uses():
    assert {name for name, _, _ in references(COMPOSE.read_text())} - {"NAME"} == set(read_env(EXAMPLE.read_text()))


def test_defaults_are_those_of_the_example():
    told = read_env(EXAMPLE.read_text())
    assert [
        (name, rest) for name, sign, rest in references(COMPOSE.read_text()) if sign == "-" and rest != told[name]
    ] == []


SECRETS = [name for name, value in read_env(EXAMPLE.read_text()).items() if not value]


def test_the_secrets_are_known():
    assert len(SECRETS) == 7


@pytest.mark.parametrize("name", SECRETS)
def test_nothing_starts_with_a_secret_missing(name, variables):
    with pytest.raises(MissingVariableError, match=rf"^{name} is missing in \.env; make env writes one$"):
        compose_file.load({**variables, name: ""})


def test_every_secret_is_made_afresh(variables):
    made = {variables[name] for name in SECRETS}
    assert len(made) == len(SECRETS)
    assert {len(value) for value in made} == {len(Fernet.generate_key())}
    Fernet(variables["AIRFLOW_FERNET_KEY"])


def test_settings_are_for_their_owner_alone(env):
    assert stat.S_IMODE(env.stat().st_mode) == 0o600


def test_settings_are_never_overwritten(env):
    before = env.read_text()
    make_env(env.parent)
    assert env.read_text() == before


def test_settings_are_not_committed():
    assert "/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_a_password_stays_itself_in_a_url(variables, airflow):
    from sqlalchemy import make_url

    environment = airflow["worker"]["environment"]
    assert make_url(environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]).password == variables["POSTGRES_PASSWORD"]
    assert urlsplit(environment["AIRFLOW__CELERY__BROKER_URL"]).password == variables["REDIS_PASSWORD"]


def test_only_this_machine_reaches_a_port(services):
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published == ["127.0.0.1:8080:8080"]


# The image


def locked(package):
    return re.search(rf'^name = "{package}"\nversion = "(.+)"$', (ROOT / "uv.lock").read_text(), re.MULTILINE)[1]


def test_the_image_has_the_locked_airflow():
    assert re.search(r"^FROM apache/airflow:([\d.]+)-python", DOCKERFILE, re.MULTILINE)[1] == locked("apache-airflow")


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """A copy of what .dockerignore lets into the image."""
    folder = tmp_path_factory.mktemp("context")
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    for name in (line[1:] for line in lines if line.startswith("!")):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    return folder


def uv(*arguments, **options):
    """Run uv; without the package index, fail on CI and skip elsewhere."""
    command = [sys.executable, "-m", "uv", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
    if done.returncode and re.search(r"Failed to fetch|dns error|Network connectivity", done.stderr):
        lacking(f"no package index: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_package_is_made_of_what_the_image_gets(context, tmp_path):
    uv("build", "--quiet", "--wheel", "--out-dir", tmp_path, context)
    (wheel,) = tmp_path.glob("*.whl")
    assert "airflow_prs/py.typed" in zipfile.ZipFile(wheel).namelist()


def resolve(context, tmp_path, platform, *options):
    """Resolve the image's packages with Airflow as it is there; gives the versions."""
    python = re.search(r"^FROM apache/airflow:[\d.]+-python([\d.]+)$", DOCKERFILE, re.MULTILINE)[1]
    wanted = tmp_path / "wanted.txt"
    wanted.write_text(
        f"apache-airflow[{EXTRAS}]=={locked('apache-airflow')}\nairflow-prs[examples] @ file://{context}\n"
    )
    target = ["--python-version", python, "--python-platform", f"{platform}-manylinux_2_28", "--only-binary", ":all:"]
    binary = ["--no-binary", "airflow-prs"]
    shown = uv("pip", "compile", "--quiet", "--no-header", "--no-annotate", *target, *binary, *options, wanted)
    return dict(line.split("==") for line in shown.splitlines() if "==" in line)


@pytest.mark.slow
@pytest.mark.parametrize("platform", ["x86_64", "aarch64"])
def test_the_packages_of_the_image_go_together(context, tmp_path, platform):
    versions = resolve(context, tmp_path, platform)
    assert versions["apache-airflow-core"] == locked("apache-airflow-core")
    assert {"scikit-learn", "pillow", "pandas", "pyarrow"} - set(versions) == set()


@pytest.mark.slow
def test_they_go_together_under_the_constraints_of_the_image(context, tmp_path):
    """The image keeps the constraints it was made with, which Airflow publishes on GitHub alone."""
    python = re.search(r"-python([\d.]+)$", DOCKERFILE, re.MULTILINE)[1]
    place = "https://raw.githubusercontent.com/apache/airflow"
    try:
        with urlopen(f"{place}/constraints-{locked('apache-airflow')}/constraints-{python}.txt", timeout=20) as answer:
            (tmp_path / "constraints.txt").write_bytes(answer.read())
    except URLError as error:
        pytest.skip(f"no constraints from GitHub: {error}")
    versions = resolve(context, tmp_path, "x86_64", "--constraint", tmp_path / "constraints.txt")
    assert versions["apache-airflow-core"] == locked("apache-airflow-core")
