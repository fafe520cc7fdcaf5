"""A node's private folder goes with the node, or with the next one where the node was killed."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile

import pytest

from airflow_prs.node.processes.staging import Stage, remove_abandoned

STAGED = """
import os, signal
from airflow_prs.node.processes.staging import Stage
print(Stage().path, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def source_zip(tmp_path, monkeypatch):
    """A snapshot, and a temporary folder of the test's own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with zipfile.ZipFile(tmp_path / "source.zip", "w") as archive:
        archive.writestr("score.py", "")
    return tmp_path / "source.zip"


def folders(source_zip):
    return sorted((source_zip.parent / "tmp").iterdir())


def test_what_a_killed_node_has_left_is_removed_by_the_next_one(source_zip):
    killed = subprocess.run([sys.executable, "-c", STAGED], stdout=subprocess.PIPE, check=False)
    assert [str(folder) for folder in folders(source_zip)] == [killed.stdout.decode().strip()]
    stage = Stage()
    assert folders(source_zip) == [stage.path]
    stage.remove()
    assert folders(source_zip) == []


def test_the_folder_of_a_living_node_stays(source_zip):
    stage = Stage()
    stage.extract(source_zip.open("rb"))
    remove_abandoned()
    assert (stage.source / "score.py").exists()
    stage.remove()


def test_what_is_not_a_nodes_stays(source_zip):
    other = source_zip.parent / "tmp" / "airflow_prs-node-of-somebody"
    other.mkdir()
    remove_abandoned()
    assert folders(source_zip) == [other]
