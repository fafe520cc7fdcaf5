import sys

import pytest

from airflow_prs.environment import Environment
from airflow_prs.errors import ConfigError


def test_the_current_environment_is_the_python_that_runs():
    assert Environment.current().interpreter == sys.executable


def test_the_current_environment_has_the_same_repr_on_every_host():
    assert repr(Environment.current()) == "Environment.current()"


def test_the_repr_of_another_python_shows_its_path():
    assert repr(Environment.from_python("/opt/x")) == "Environment.from_python('/opt/x')"


def test_a_folder_means_the_python_of_a_virtual_environment(tmp_path):
    assert Environment.from_python(tmp_path).interpreter == str(tmp_path / "bin" / "python")


def test_a_link_is_kept_since_a_virtual_environments_python_is_one(tmp_path):
    link = tmp_path / "python"
    link.symlink_to(sys.executable)
    assert Environment.from_python(link).interpreter == str(link)


def test_the_name_of_a_command_is_looked_up_on_the_path():
    assert Environment.from_python("sh").interpreter.endswith("/sh")


def test_a_path_that_does_not_exist_stays_so_that_an_error_can_name_it():
    assert Environment.from_python("no-such-python").interpreter == "no-such-python"


def test_a_relative_path_is_read_from_the_folder_of_the_dag(tmp_path):
    (tmp_path / "venv").mkdir()
    assert Environment.from_python("venv").relative_to(tmp_path).python == str(tmp_path / "venv")
    assert Environment.from_python("../x/python").relative_to("/dags").python == "/dags/../x/python"


@pytest.mark.parametrize(
    "environment", [Environment.current(), Environment.from_python("/opt/x"), Environment.from_python("python3")]
)
def test_what_is_not_relative_does_not_move(environment, tmp_path):
    assert environment.relative_to(tmp_path) == environment


@pytest.mark.parametrize("path", ["", "  ", 3, None])
def test_a_wrong_path_is_an_error(path):
    with pytest.raises(
        ConfigError, match=r"environment is .*; allowed: the path of an interpreter or virtual environment"
    ):
        Environment.from_python(path)
