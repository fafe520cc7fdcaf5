"""
The files of a release: what they hold, and that an environment with nothing else runs the first DAG.

They are built for the tests, or taken from the folder that the variable DIST names.
"""

from __future__ import annotations

import email
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.lacking import lacking

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
UNAVAILABLE = r"network was disabled|Network connectivity is disabled"


def run(*command, **options):
    """Run a command outside the checkout, with nothing of the caller's Airflow or Python path."""
    foreign = ("AIRFLOW", "PYTHON", "VIRTUAL_ENV", "UV_PROJECT")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    variables = kept | options.pop("variables", {})
    return subprocess.run(
        [*map(str, command)], check=False, capture_output=True, text=True, env=variables, timeout=300, **options
    )


def uv(*arguments, **options):
    """Run uv without a network; where its cache has not all packages, fail on CI and skip elsewhere."""
    done = run(sys.executable, "-m", "uv", "--offline", *arguments, **options)
    if "No module named uv" in done.stderr:
        lacking("uv is missing; `make venv` installs it")
    if re.search(UNAVAILABLE, done.stderr):
        causes = [line.strip() for line in done.stderr.splitlines() if line.lstrip().startswith(("error", "cause"))]
        lacking(f"uv's cache lacks a package, which `make venv` would fetch: {', '.join(causes)}")
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """A folder with the wheel and the source distribution."""
    if "DIST" in os.environ:
        return ROOT / os.environ["DIST"]
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--out-dir", folder, ROOT)
    return folder


@pytest.fixture(scope="module")
def wheel(dist):
    (wheel,) = dist.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """An AIRFLOW_HOME that does not exist yet."""
    return tmp_path_factory.mktemp("wheel") / "home"


@pytest.fixture(scope="module")
def command(wheel, home):
    """Run a command of an environment that holds the wheel and the locked versions of what the wheel requires."""
    environment = home.parent / "venv"
    target = {"UV_PROJECT_ENVIRONMENT": str(environment), "UV_PYTHON_DOWNLOADS": "never"}
    project = ["--project", ROOT, "--frozen", "--no-default-groups", "--no-install-project"]
    uv("sync", "--quiet", *project, "--python", sys.executable, variables=target)
    uv("pip", "install", "--quiet", "--no-deps", "--python", environment, wheel)
    uv("pip", "check", "--python", environment)

    def command(name, *arguments):
        done = run(environment / "bin" / name, *arguments, cwd=home.parent, variables={"AIRFLOW_HOME": str(home)})
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
        return done.stdout

    return command


def contents(wheel):
    """Give each file of a wheel, without those that name the tool that made it."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith(("/RECORD", "/WHEEL"))}


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    files = (path for path in (ROOT / "airflow_prs").rglob("*") if path.is_file() and path.suffix != ".pyc")
    packed = {name for name in contents(wheel) if ".dist-info/" not in name}
    assert packed == {str(path.relative_to(ROOT)) for path in files}


def test_the_source_distribution_makes_the_same_wheel(dist, wheel, tmp_path):
    (source,) = dist.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    uv("build", "--quiet", "--wheel", "--out-dir", tmp_path / "dist", *tmp_path.glob("airflow_prs-*"))
    (again,) = (tmp_path / "dist").glob("*.whl")
    assert contents(again) == contents(wheel)


def test_the_metadata_has_the_license_and_the_readme(metadata):
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["License-File"] == "LICENSE"
    assert metadata.get_payload().startswith("# airflow_prs\n")


def test_an_environment_with_nothing_else_runs_the_first_dag(command, home):
    assert command("python", "-c", "import airflow_prs; print(airflow_prs.__file__)").startswith(str(home.parent))

    # The commands of docs/get_started.md.
    page = (ROOT / "docs" / "get_started.md").read_text(encoding="utf-8")
    dag = re.search(r"^## Your first DAG\n.*?^```python\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)[1]
    command("airflow", "db", "migrate")
    (home / "dags").mkdir()
    (home / "dags" / "first_run.py").write_text(dag.replace("/tmp/first_run", str(home / "out")), encoding="utf-8")
    printed = command("airflow", "dags", "test", "first_run")

    result = (home / "out" / "parallel_run_step.txt").read_text()
    assert re.search(r"^decoder\.py \d+$", result, re.MULTILINE)
    assert result in printed
