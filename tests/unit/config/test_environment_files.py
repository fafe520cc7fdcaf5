import pytest

from airflow_prs.config.environment import Environment
from airflow_prs.config.environment_files import read_packages
from airflow_prs.errors import ConfigError


@pytest.fixture
def write(tmp_path):
    def write_file(name, text):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return path

    return write_file


def test_an_environment_without_files_stays_as_it_is():
    for environment in (Environment.current(), Environment.from_python("/x"), Environment.from_pip(["numpy"], "3.12")):
        assert read_packages(environment) == environment


def test_a_requirements_file_gives_its_lines(write):
    path = write("requirements.txt", "# ours\n--extra-index-url https://host/simple\nnumpy==1.26.4  # pinned\n")
    assert read_packages(Environment.from_requirements_file(path, "3.12")) == Environment.from_pip(
        ["--extra-index-url https://host/simple", "numpy==1.26.4"], "3.12"
    )


def test_files_that_a_requirements_file_refers_to_are_read_from_its_folder(write):
    write("more/base.txt", "numpy\n-r deeper.txt\n")
    write("more/deeper.txt", "scipy\n")
    path = write("requirements.txt", "-r more/base.txt\nrequests\n")
    environment = read_packages(Environment.from_requirements_file(path))
    assert environment.requirements == ("numpy", "scipy", "requests")


def test_requirements_files_that_refer_to_each_other_are_an_error(write):
    write("b.txt", "-r a.txt\n")
    path = write("a.txt", "-r b.txt\n")
    with pytest.raises(ConfigError, match=r"a\.txt refers to itself by way of .*b\.txt"):
        read_packages(Environment.from_requirements_file(path))


def test_a_missing_requirements_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*requirements\.txt: No such file"):
        read_packages(Environment.from_requirements_file(tmp_path / "requirements.txt"))


def test_all_problems_of_a_requirements_file_come_in_one_error_that_names_it(write):
    path = write("requirements.txt", "a b\nnumpy\n-e .\n")
    with pytest.raises(ConfigError) as error:
        read_packages(Environment.from_requirements_file(path))
    assert [str(path) in problem for problem in error.value.problems] == [True, True]


def test_the_pip_packages_of_a_conda_file_are_taken_and_its_python(write):
    path = write("conda.yml", "dependencies: [conda-forge::python=3.11.4, pip=24, {pip: [numpy, azureml-core==1.5]}]")
    assert read_packages(Environment.from_conda_file(path)) == Environment.from_pip(
        ["numpy", "azureml-core==1.5"], "3.11"
    )


def test_a_given_python_wins_over_that_of_a_conda_file(write):
    path = write("conda.yml", "dependencies: [python=3.11, {pip: [numpy]}]")
    assert read_packages(Environment.from_conda_file(path, "/x/python")) == Environment.from_pip(["numpy"], "/x/python")


def test_a_python_that_is_too_old_is_replaced_with_a_warning(write, caplog):
    path = write("conda.yml", "dependencies: [python=3.6.2, {pip: [numpy]}]")
    assert read_packages(Environment.from_conda_file(path)) == Environment.from_pip(["numpy"])
    assert "asks for Python 3.6, but worker processes need 3.9 or newer" in caplog.text


def test_requirements_files_of_a_conda_file_are_read_from_its_folder(write):
    write("env/requirements.txt", "numpy\n")
    path = write("env/conda.yml", "dependencies: [{pip: [-r requirements.txt, scipy]}]")
    assert read_packages(Environment.from_conda_file(path)).requirements == ("numpy", "scipy")


def test_packages_that_only_conda_could_install_say_what_to_give_instead(write):
    path = write("conda.yml", "dependencies: [python=3.11, cudatoolkit=11, {pip: [numpy]}]")
    with pytest.raises(ConfigError, match=r"conda packages \(cudatoolkit=11\).*from_python\(.*conda\.yml"):
        read_packages(Environment.from_conda_file(path))


@pytest.mark.parametrize("text", ["", "- numpy", "dependencies: numpy"])
def test_a_file_that_is_no_conda_file_is_an_error(write, text):
    path = write("conda.yml", text)
    with pytest.raises(ConfigError, match=r"conda\.yml is .*; allowed: a mapping with a list of dependencies"):
        read_packages(Environment.from_conda_file(path))
