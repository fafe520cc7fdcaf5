import sys

import pytest

from airflow_prs.config.environment import Environment
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


# packages


def test_an_environment_of_packages_has_a_stable_repr():
    assert repr(Environment.from_pip(["a==1", "b"], python="3.12")) == (
        "Environment.from_pip(['a==1', 'b'], python='3.12')"
    )
    assert repr(Environment.from_conda_file("conda.yml")) == "Environment.from_conda_file('conda.yml')"


def test_an_environment_of_packages_is_made_of_airflows_python_if_none_is_given():
    assert Environment.from_pip([]).interpreter == sys.executable


def test_a_version_of_python_is_a_command_on_the_path(tmp_path, monkeypatch):
    command = tmp_path / "python3.42"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Environment.from_pip([], python="3.42").interpreter == str(command)


def test_a_version_is_not_read_from_the_folder_of_the_dag(tmp_path):
    (tmp_path / "3.12").mkdir()
    environment = Environment.from_pip([], python="3.12")
    assert environment.relative_to(tmp_path) == environment


def test_comments_in_requirements_change_nothing():
    assert Environment.from_pip(["numpy  # arrays"]) == Environment.from_pip(("numpy",))


def test_files_of_packages_are_read_from_the_folder_of_the_dag():
    requirements = Environment.from_requirements_file("requirements.txt", python="venv/bin/python")
    assert requirements.relative_to("/dags").files == ("/dags/requirements.txt",)
    assert requirements.relative_to("/dags").python == "/dags/venv/bin/python"
    assert Environment.from_conda_file("conda.yml").relative_to("/dags").files == ("/dags/conda.yml",)


def test_a_requirements_file_that_does_not_exist_is_no_error_when_the_dag_is_parsed():
    assert Environment.from_requirements_file("/nowhere/requirements.txt").is_installed


@pytest.mark.parametrize(
    "environment", [Environment.current(), Environment.from_python("/opt/x"), Environment.from_pip(["a"], "3.12")]
)
def test_an_environment_comes_back_from_json(environment):
    assert Environment.from_json(environment.to_json()) == environment


def test_what_files_say_must_be_read_before_it_is_stored():
    with pytest.raises(ConfigError, match=r"environment: /x/requirements\.txt must be read first"):
        Environment.from_requirements_file("/x/requirements.txt").to_json()


@pytest.mark.parametrize(
    ("requirements", "python", "problem"),
    [
        ("numpy", None, r"environment\.requirements is 'numpy'; allowed: a list of str"),
        (None, None, r"environment\.requirements is None; allowed: a list of str"),
        (["numpy", 3], None, "a requirement of environment is 3"),
        ([""], None, "a requirement of environment is ''"),
        (["a\nb"], None, "a requirement of environment is 'a"),
        (["pandas=1.5"], None, "environment: 'pandas=1.5' is not a valid requirement"),
        ([], 3.12, r"environment\.python is 3\.12; allowed: a version such as '3\.12'"),
        ([], " ", "environment is ' '; allowed: a version such as"),
        ([], "3.8", r"environment\.python is '3\.8'; worker processes need 3\.9 or newer"),
    ],
)
def test_wrong_packages_are_an_error_when_the_dag_is_parsed(requirements, python, problem):
    with pytest.raises(ConfigError, match=problem):
        Environment.from_pip(requirements, python)


def test_all_wrong_requirements_come_in_one_error():
    with pytest.raises(ConfigError) as error:
        Environment.from_pip(["a b", "c", "./d"])
    assert len(error.value.problems) == 2


@pytest.mark.parametrize("path", ["", 3, None])
def test_a_file_of_packages_needs_a_path(path):
    with pytest.raises(ConfigError, match=r"environment is .*; allowed: the path of a file that lists packages"):
        Environment.from_conda_file(path)
