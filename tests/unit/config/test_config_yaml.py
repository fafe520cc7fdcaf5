import logging
from pathlib import Path

import pytest
import yaml

from airflow_prs.config.compute import ComputeTarget
from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.datasets import FileDataset
from airflow_prs.config.environment import Environment
from airflow_prs.config.parameters import PipelineParameter
from airflow_prs.errors import ConfigError

ORIGINAL = Path(__file__).parents[2] / "assets" / "parallel_run_config.yml"

LEAST = {
    "environment": {"python": {"userManagedDependencies": True}},
    "entry_script": "score.py",
    "error_threshold": 10,
    "output_action": "append_row",
    "compute_target_name": "local",
    "node_count": 2,
}


@pytest.fixture
def load(tmp_path):
    def write_and_load(workspace=None, **changes):
        layout = {name: value for name, value in {**LEAST, **changes}.items() if value != "left out"}
        (tmp_path / "config.yml").write_text(yaml.safe_dump({"parallel_run_config": layout}))
        return ParallelRunConfig.load_yaml(workspace, tmp_path / "config.yml")

    return write_and_load


def make(**changes):
    values = {**LEAST, "environment": Environment.current(), "compute_target": "local"}
    del values["compute_target_name"]
    return ParallelRunConfig(**{**values, **changes})


def problems_of(load, **changes):
    with pytest.raises(ConfigError) as error:
        load(**changes)
    return "\n".join(error.value.problems)


def test_a_file_of_the_original_loads():
    assert ParallelRunConfig.load_yaml(None, ORIGINAL) == ParallelRunConfig(
        environment=Environment.from_python("/opt/batch/bin/python"),
        entry_script="digit_identification.py",
        error_threshold=10,
        output_action="append_row",
        compute_target="cpu-cluster",
        node_count=2,
        process_count_per_node=4,
        mini_batch_size=5,
        source_directory="scripts",
        run_invocation_timeout=600,
        run_max_try=3,
        append_row_file_name="mnist_outputs.txt",
        environment_variables={"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE", "MODEL_HOME": "/models"},
    )


def test_what_is_ignored_of_an_environment_is_said(caplog):
    with caplog.at_level(logging.WARNING):
        ParallelRunConfig.load_yaml(None, ORIGINAL)
    assert "docker, name, spark, version, python.conda_dependencies" in caplog.text


@pytest.mark.parametrize(
    "config",
    [
        make(),
        make(
            environment="/opt/venv",
            mini_batch_size="10KB",
            process_count_per_node=3,
            allowed_failed_count=4,
            allowed_failed_percent=2.5,
            source_directory="scripts",
            description="Größe: 5\nlines",
            append_row_file_name="x.csv",
            environment_variables={"A": "{{ ds }}", "B": "on"},
            mini_batches_per_task=5,
            count_failed_tries=True,
            lend=False,
            keep_rows=False,
        ),
        make(environment=Environment.from_pip(["pandas==1.5.3", "numpy<2"])),
        make(environment=Environment.from_pip([], python="3.12")),
        make(environment=Environment.from_requirements_file("requirements.txt", python="/x/python")),
        make(environment=Environment.from_conda_file("conda.yml", python="3.12")),
        make(partition_keys=["user", "day"], compute_target=ComputeTarget(queue="gpu", pool_slots=2)),
    ],
)
def test_a_saved_config_loads_as_the_same(config, tmp_path):
    config.save_to_yaml(tmp_path / "config.yml")
    assert ParallelRunConfig.load_yaml(None, tmp_path / "config.yml") == config


def test_ours_are_written_only_where_they_are_no_defaults(tmp_path):
    make().save_to_yaml(tmp_path / "config.yml")
    written = yaml.safe_load((tmp_path / "config.yml").read_text())["parallel_run_config"]
    assert not {"mini_batches_per_task", "count_failed_tries"} & set(written)


def test_a_parameter_of_a_run_is_written_as_its_default(tmp_path):
    config = make(node_count=PipelineParameter("n", 3), partition_keys=PipelineParameter("keys", '["user"]'))
    config.save_to_yaml(tmp_path / "config.yml")
    loaded = ParallelRunConfig.load_yaml(None, tmp_path / "config.yml")
    assert loaded == make(node_count=3, partition_keys=["user"])


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {"environment_variables": {"A": FileDataset("a").as_named_input("a")}},
            r"environment_variables\['A'\] cannot",
        ),
        ({"compute_target": ComputeTarget(executor_config={"a": 1})}, "compute_target has an executor_config"),
    ],
)
def test_what_cannot_be_written_is_an_error_and_leaves_no_file(changes, problem, tmp_path):
    with pytest.raises(ConfigError, match=problem):
        make(**changes).save_to_yaml(tmp_path / "config.yml")
    assert not (tmp_path / "config.yml").exists()


def test_an_unknown_key_names_the_nearest_known_one(load):
    problems = problems_of(load, mini_batch_sise=5)
    assert "mini_batch_sise is no key of parallel_run_config; did you mean 'mini_batch_size'? (in " in problems


def test_all_problems_of_a_file_come_in_one_error(load):
    problems = problems_of(load, node_count=0, nonsense=1, compute_target_name=None, environment="left out")
    for part in ("nonsense is no key", "compute_target_name is missing", "environment is missing", "node_count is 0"):
        assert part in problems
    assert problems.count("\n") == 3


@pytest.mark.parametrize("text", ["", "- a", "other: 1", "parallel_run_config: 3"])
def test_a_file_without_the_top_key_is_an_error(text, tmp_path):
    (tmp_path / "config.yml").write_text(text)
    with pytest.raises(ConfigError, match="parallel_run_config is missing in"):
        ParallelRunConfig.load_yaml(None, tmp_path / "config.yml")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*none\.yml"):
        ParallelRunConfig.load_yaml(None, tmp_path / "none.yml")


def test_text_that_is_no_yaml_is_an_error(tmp_path):
    (tmp_path / "config.yml").write_text("a: [")
    with pytest.raises(ConfigError, match=r"config\.yml is not valid YAML"):
        ParallelRunConfig.load_yaml(None, tmp_path / "config.yml")


def test_relative_paths_are_resolved_against_the_workspace(tmp_path, load):
    config = load(
        workspace=tmp_path,
        source_directory="scripts",
        environment={"python": {"interpreterPath": "venv/bin/python"}},
    )
    assert config.source_directory == str(tmp_path / "scripts")
    assert config.entry_script == "score.py"
    assert config.environment.python == str(tmp_path / "venv/bin/python")


def test_a_script_without_source_directory_is_resolved_too(tmp_path, load):
    assert load(workspace=tmp_path).entry_script == str(tmp_path / "score.py")


def test_the_file_itself_may_be_relative_to_the_workspace():
    assert ParallelRunConfig.load_yaml(ORIGINAL.parent, ORIGINAL.name).node_count == 2


# environments

PACKAGES = ["numpy", "azureml-core==1.5"]
PIP = {"dependencies": ["python=3.8", "pip", {"pip": PACKAGES}]}


@pytest.mark.parametrize(
    ("python", "environment"),
    [
        ({"userManagedDependencies": True}, Environment.current()),
        ({"userManagedDependencies": True, "interpreterPath": "python"}, Environment.current()),
        ({"userManagedDependencies": True, "interpreterPath": "/x/python"}, Environment.from_python("/x/python")),
        ({"user_managed_dependencies": True, "interpreter_path": "/x/python"}, Environment.from_python("/x/python")),
        ({"interpreterPath": "/x/python", "condaDependencies": PIP}, Environment.from_python("/x/python")),
        ({"userManagedDependencies": True, "condaDependencies": PIP}, Environment.current()),
        (
            {"userManagedDependencies": False, "condaDependencies": {"dependencies": ["python=3.8", "pip"]}},
            Environment.current(),
        ),
    ],
)
def test_the_interpreter_of_an_environment_is_taken(load, python, environment):
    assert load(environment={"name": "batch", "python": python}).environment == environment


@pytest.mark.parametrize(
    ("python", "environment"),
    [
        ({"condaDependencies": PIP}, Environment.from_pip(["numpy", "azureml-core==1.5"])),
        ({"userManagedDependencies": False, "conda_dependencies": PIP}, Environment.from_pip(PACKAGES)),
        (
            {"condaDependencies": {"dependencies": ["python=3.12.1", {"pip": PACKAGES}]}},
            Environment.from_pip(PACKAGES, python="3.12"),
        ),
        (
            {"userManagedDependencies": False, "interpreterPath": "/x/python", "condaDependencies": PIP},
            Environment.from_pip(PACKAGES, python="/x/python"),
        ),
        ({"condaDependenciesFile": "conda.yml"}, Environment.from_conda_file("conda.yml")),
    ],
)
def test_the_packages_of_an_environment_are_taken(load, python, environment):
    assert load(environment={"name": "batch", "python": python}).environment == environment


def test_a_file_of_packages_is_resolved_against_the_workspace(tmp_path, load):
    config = load(workspace=tmp_path, environment={"python": {"condaDependenciesFile": "conda.yml"}})
    assert config.environment.files == (str(tmp_path / "conda.yml"),)


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"name": "AzureML-sklearn", "version": "5"}, "environment 'AzureML-sklearn' refers to one that is registered"),
        ({"name": "x", "docker": {"baseImage": "y"}}, "environment 'x' refers to one that is registered"),
        ({"python": {"conda_dependencies": {"dependencies": ["numpy=1"]}}}, "asks for conda packages (numpy=1)"),
    ],
)
def test_an_environment_that_azure_would_build_says_what_to_give_instead(load, environment, problem):
    problems = problems_of(load, environment=environment)
    assert problem in problems
    assert "userManagedDependencies: true, interpreterPath: /path/to/bin/python" in problems


@pytest.mark.parametrize(
    ("environment", "problem"),
    [
        ({"pyton": {}}, "pyton is no key of environment; did you mean 'python'?"),
        (
            {"python": {"interpreterPth": "x"}},
            "interpreterPth is no key of environment.python; did you mean 'interpreter_",
        ),
        ({"python": {"condaDependenciesFile": 3}}, "environment.python.condaDependenciesFile is 3; allowed: the path"),
        ({"python": {"condaDependencies": ["numpy"]}}, "environment.python.condaDependencies is ['numpy']; allowed: a"),
        (
            {"python": {"condaDependencies": {"dependencies": [{"pip": ["a b"]}]}}},
            "environment: 'a b' is not a valid requirement",
        ),
        ({"python": {"interpreterPath": 3}}, "environment.python.interpreterPath is 3; allowed: the path"),
        ({"python": {"userManagedDependencies": "yes"}}, "environment.python.userManagedDependencies is 'yes'"),
        ({"python": {"interpreterPath": "a", "interpreter_path": "b"}}, "interpreter_path is given twice"),
        ({"python": [1]}, "environment.python is [1]; allowed: a mapping"),
        ({"environmentVariables": ["A"]}, "environment.environmentVariables is not a mapping"),
        (3, "environment is 3; allowed: a mapping"),
    ],
)
def test_a_wrong_environment_says_what_is_wrong(load, environment, problem):
    assert problem in problems_of(load, environment=environment)


def test_the_configs_own_variables_win_over_those_of_the_environment(load):
    environment = {"python": {"userManagedDependencies": True}, "environmentVariables": {"A": "1", "B": "1"}}
    config = load(environment=environment, environment_variables={"B": "2"})
    assert config.environment_variables == {"A": "1", "B": "2"}


@pytest.mark.parametrize("with_workspace", [True, False])
def test_an_environment_may_stand_in_a_file_of_its_own(load, tmp_path, with_workspace):
    (tmp_path / "env.yml").write_text("name: x\npython: {interpreterPath: /x/python}\n")
    config = load(workspace=tmp_path if with_workspace else None, environment="env.yml")
    assert config.environment == Environment.from_python("/x/python")


def test_a_missing_environment_file_is_named(load):
    assert "environment: cannot read" in problems_of(load, environment="none.yml")


def test_an_environment_may_stand_in_a_folder_that_the_original_wrote(load, tmp_path):
    (tmp_path / "env").mkdir()
    (tmp_path / "env" / "azureml_environment.json").write_text(
        '{"name": "x", "python": {"interpreterPath": "/x/python"}}'
    )
    config = load(environment="left out", environment_dir_path="env")
    assert config.environment == Environment.from_python("/x/python")


def test_the_packages_in_such_a_folder_are_taken(load, tmp_path):
    (tmp_path / "azureml_environment.json").write_text('{"python": {"userManagedDependencies": false}}')
    (tmp_path / "conda_dependencies.yml").write_text("dependencies: [{pip: [numpy]}]")
    config = load(environment="left out", environment_dir_path=str(tmp_path))
    assert config.environment == Environment.from_pip(["numpy"])


def test_a_registered_environment_says_what_to_give_instead(load):
    problems = problems_of(load, environment="left out", environment_name="AzureML-x")
    assert "environment 'AzureML-x' refers to one that is registered in Azure ML" in problems


def test_only_one_place_of_the_environment_is_read_and_the_others_are_named(load, caplog):
    with caplog.at_level(logging.WARNING):
        load(environment_name="x")
    assert "Ignored, as environment is given: environment_name" in caplog.text
