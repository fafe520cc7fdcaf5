import sys

import pytest

from airflow_prs.worker.environment import EnvironmentBrokenError, check_environment, versions


def test_an_environment_with_pandas_and_pyarrow_reads_everything():
    check_environment(["files", "delimited", "parquet"])
    assert versions()["pandas"]


def test_a_missing_library_is_an_error_that_names_it_and_the_interpreter(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(EnvironmentBrokenError, match=f"pandas is missing in {sys.executable} .*-m pip install"):
        check_environment(["delimited"])


def test_files_need_no_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    check_environment(["files"])


def test_an_old_pandas_is_an_error_that_names_its_version(monkeypatch):
    import pandas as pd

    monkeypatch.setattr(pd, "__version__", "1.4.4")
    with pytest.raises(EnvironmentBrokenError, match=r"has pandas 1.4.4, older than 1.5"):
        check_environment(["delimited"])


def test_an_old_python_is_an_error_that_names_its_version(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 8, 18))
    with pytest.raises(EnvironmentBrokenError, match=r"is Python .*need 3.9 or newer"):
        check_environment([])
