"""When two runs have the same fingerprint."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import airflow_prs
from airflow_prs.config.environment import Environment
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.files.paths import Paths
from airflow_prs.plan.fingerprint import Work, versions_in, versions_of

CONFIG = {"error_threshold": 1, "mini_batch_size": 5, "node_count": 2, "description": None, "source_directory": "a"}


def files(path="/a", size=1, modified=1):
    return Listing(Paths.of([path]), np.array([size]), np.array([modified]))


def work(**changes):
    parts = {
        "config": CONFIG,
        "arguments": ["--model", "x"],
        "snapshot": ("digest", "score.py"),
        "inputs": [({"name": "in", "kind": "files"}, files())],
        "side_inputs": [("labels", files("/labels"))],
        "versions": {"python": "3.11", "pandas": "2"},
        "variable_names": ["A"],
        "variables_hash": "hash",
        "output": None,
    }
    return Work(**{**parts, **changes})


def fingerprint(**changes):
    return work(**changes).fingerprint()


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {**CONFIG, "mini_batch_size": 6}},
        {"arguments": ["--model", "y"]},
        {"arguments": ["--modelx"]},
        {"snapshot": ("other", "score.py")},
        {"snapshot": ("digest", "other.py")},
        {"inputs": [({"name": "in", "kind": "files"}, files("/b"))]},
        {"inputs": [({"name": "in", "kind": "files"}, files(size=2))]},
        {"inputs": [({"name": "in", "kind": "files"}, files(modified=2))]},
        {"inputs": [({"name": "in", "kind": "parquet"}, files())]},
        {"side_inputs": [("labels", files("/labels", modified=2))]},
        {"versions": {"python": "3.11", "pandas": "3"}},
        {"variables_hash": "other"},
        {"variable_names": ["B"]},
        {"output": "/out"},
    ],
)
def test_what_may_change_rows_changes_it(changes):
    assert fingerprint(**changes) != fingerprint()


@pytest.mark.parametrize(
    "changes",
    [
        {
            "config": {
                **CONFIG,
                "node_count": 9,
                "error_threshold": 2,
                "lend": False,
                "keep_rows": False,
                "description": "text",
                "source_directory": "b",
                "logging_level": "DEBUG",
            }
        },
        {"config": dict(reversed(CONFIG.items()))},
        {"snapshot": ["digest", "score.py"]},
    ],
)
def test_what_does_not_change_rows_does_not_change_it(changes):
    assert fingerprint(**changes) == fingerprint()


def changed(**changes):
    before, after = work().digests(), work(**changes).digests()
    return {name for name in before | after if before.get(name) != after.get(name)}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"config": {**CONFIG, "mini_batch_size": 6}}, {"mini_batch_size"}),
        ({"arguments": []}, {"arguments"}),
        ({"snapshot": ("other", "score.py")}, {"code"}),
        ({"inputs": [({"name": "in", "kind": "files"}, files("/b"))]}, {"inputs"}),
        ({"inputs": [({"name": "in", "kind": "query", "sql": "SELECT 1"}, None)]}, {"inputs"}),
        ({"side_inputs": []}, {"side_inputs"}),
        ({"versions": {}}, {"environment"}),
        ({"variables_hash": "other"}, {"environment_variables"}),
        ({"output": "/out"}, {"output"}),
        ({"config": {**CONFIG, "error_threshold": 2}}, set()),
        ({"config": {**CONFIG, "node_count": 9, "run_max_try": 7, "run_invocation_timeout": 5}}, set()),
    ],
)
def test_the_parts_that_differ_are_known_by_name_and_terms_are_none(changes, expected):
    assert changed(**changes) == expected


@pytest.fixture
def interpreter(tmp_path):
    """Another interpreter, which finds the distributions that are made in a folder."""
    path, folder = tmp_path / "python", tmp_path / "packages"
    folder.mkdir()
    path.write_text(f'#!/bin/sh\nPYTHONPATH={folder} exec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return str(path)


def install(interpreter, name, **files):
    """Make what an installer leaves of a distribution."""
    info = Path(interpreter).parent / "packages" / name
    info.mkdir()
    for file, text in files.items():
        (info / file.replace("_json", ".json").replace("PKG_INFO", "PKG-INFO")).write_text(text)
    return info


def test_another_interpreter_is_asked_for_what_is_installed(interpreter):
    own, asked = versions_of(sys.executable), versions_of(interpreter)
    assert asked == {**own, "interpreter": interpreter}
    assert own["python"] == sys.version


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("scikit_learn-1.5.0.dist-info", {}), ("scikit_learn-1.6.0.dist-info", {})),
        (("a-1.dist-info", {}), ("b-1.dist-info", {})),
        (
            ("a-1.dist-info", {"direct_url_json": '{"vcs_info": {"commit_id": "1"}}'}),
            ("a-1.dist-info", {"direct_url_json": '{"vcs_info": {"commit_id": "2"}}'}),
        ),
        (("a.egg-info", {"PKG_INFO": "Version: 1"}), ("a.egg-info", {"PKG_INFO": "Version: 2"})),
    ],
)
def test_another_distribution_version_or_origin_is_another_work(interpreter, first, second):
    bare = versions_of(interpreter)
    found = []
    for name, more in (first, second, first):
        folder = install(interpreter, name, **more)
        found.append(versions_of(interpreter))
        shutil.rmtree(folder)
    assert found[0] == found[2]
    assert found[0] != found[1] != bare
    assert versions_of(interpreter) == bare


@pytest.mark.parametrize("text", ["exit 1", "echo", "echo '[1'", "echo 1"])
def test_an_interpreter_that_cannot_be_asked_has_no_versions(interpreter, text):
    Path(interpreter).write_text(f"#!/bin/sh\n{text}\n")
    assert versions_of(interpreter) is versions_of("/nowhere/python") is None
    assert versions_in(Environment.from_python(interpreter)) is None
    assert versions_in(Environment.from_pip(["pandas"], python=interpreter)) is None


def test_an_environment_that_is_there_counts_by_its_versions_and_those_of_plan():
    versions = versions_in(Environment.current())
    assert versions["processes"] == versions_of(sys.executable)
    assert versions["plan"]["airflow-prs"] == airflow_prs.__version__
    assert versions["plan"].keys() == {"python", "airflow-prs", "pandas", "pyarrow"}


def test_an_environment_yet_to_be_made_counts_by_its_requirements_and_python():
    one, other = Environment.from_pip(["pandas==1.5.3"]), Environment.from_pip(["pandas==2.2.3"])
    assert versions_in(one) != versions_in(other)
    assert versions_in(one)["processes"]["python"] == sys.version
    assert "distributions" not in versions_in(one)["processes"]
