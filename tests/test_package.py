"""What Airflow and Python see of the package as a whole."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

import airflow_prs
from airflow_prs.provider_info import get_provider_info

ROOT = Path(__file__).parent.parent
ALIASES = {"ParallelRunTaskGroup": "ParallelRunOperator"}
ROOMS = [
    "config.config",
    "inputs.cut_input",
    "node.running",
    "plan.planning",
    "report.reports",
    "result.merge",
    "thresholds.watch",
]


def run_python(code):
    """Run code in a fresh interpreter, and give what it prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_provider_info_fits_the_schema_of_airflow():
    schema = json.loads(files("airflow").joinpath("provider_info.schema.json").read_text())
    jsonschema.validate(get_provider_info(), schema)


def test_provider_info_names_modules_that_exist():
    info = get_provider_info()
    named = [
        module
        for kind in ("operators", "sensors", "triggers")
        for entry in info[kind]
        for module in entry["python-modules"]
    ]
    missing = [name for name in named if not (ROOT / f"{name.replace('.', '/')}.py").is_file()]
    assert missing == []


def test_airflow_finds_the_provider():
    infos = [point.load()() for point in entry_points(group="apache_airflow_provider") if "prs" in point.value]
    assert [info["package-name"] for info in infos] == ["airflow-prs"]


def test_every_public_name_can_be_imported():
    assert [
        name for name in airflow_prs.__all__ if getattr(airflow_prs, name).__name__ != ALIASES.get(name, name)
    ] == []


def test_public_names_are_listed_for_tools_too():
    assert set(airflow_prs.__all__) <= set(dir(airflow_prs))


def test_the_reference_knows_every_public_name():
    reference = (ROOT / "docs" / "api.md").read_text()
    assert [name for name in airflow_prs.__all__ if not re.search(rf"\b{name}$", reference, re.MULTILINE)] == []


def test_an_unknown_name_is_an_error_that_lists_the_known_ones():
    with pytest.raises(AttributeError, match="no attribute 'ParallelRunStep'; it offers ComputeTarget, Environment"):
        airflow_prs.ParallelRunStep  # noqa: B018


def test_the_version_is_that_of_the_installed_package():
    assert re.fullmatch(r"\d+\.\d+\.\d+", airflow_prs.__version__)


def test_provider_discovery_imports_nothing_of_ours():
    code = (
        "import sys, airflow_prs.provider_info; airflow_prs.provider_info.get_provider_info(); "
        "print(sorted(m for m in sys.modules if m.startswith(('airflow_prs', 'airflow.', 'pandas', 'pydantic'))))"
    )
    assert run_python(code) == "['airflow_prs', 'airflow_prs.provider_info']"


def test_rooms_load_without_airflow():
    imports = "; ".join(f"import airflow_prs.{room}" for room in ROOMS)
    assert run_python(f"import sys; sys.modules['airflow'] = None; {imports}; print('loaded')") == "loaded"


def test_make_lists_its_targets():
    listed = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert {"venv", "test", "demo-s3"} <= {line.split()[0] for line in listed.splitlines()}
