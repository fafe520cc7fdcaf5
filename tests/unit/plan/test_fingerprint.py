"""When two runs have the same fingerprint."""

import sys

import numpy as np
import pytest

from airflow_prs.environment import Environment
from airflow_prs.plan.fingerprint import fingerprint_of, versions_in, versions_of
from airflow_prs.plan.listing import Listing
from airflow_prs.plan.paths import Paths

CONFIG = {"error_threshold": 1, "mini_batch_size": 5, "node_count": 2, "description": None, "source_directory": "a"}


def files(path="/a", size=1, modified=1):
    return Listing(Paths.of([path]), np.array([size]), np.array([modified]))


def fingerprint(**changes):
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
    return fingerprint_of(**{**parts, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {**CONFIG, "mini_batch_size": 6}},
        {"config": {**CONFIG, "error_threshold": 2}},
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


def test_another_interpreter_is_asked_for_its_versions(tmp_path):
    link = tmp_path / "python"
    link.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    link.chmod(0o755)
    own, asked = versions_of(sys.executable), versions_of(str(link))
    assert asked == {**own, "interpreter": str(link)}
    assert own["pandas"]


def test_an_interpreter_that_is_not_here_has_no_versions():
    assert versions_of("/nowhere/python") == {"interpreter": "/nowhere/python"}


def test_an_environment_that_is_there_counts_by_its_versions():
    assert versions_in(Environment.current()) == versions_of(sys.executable)


def test_an_environment_yet_to_be_made_counts_by_its_requirements_and_python():
    one, other = Environment.from_pip(["pandas==1.5.3"]), Environment.from_pip(["pandas==2.2.3"])
    assert versions_in(one) != versions_in(other)
    assert versions_in(one)["python"] == sys.version
    assert "pandas" not in versions_in(one)
