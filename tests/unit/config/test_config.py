import ast
import contextlib
import copy
import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import airflow_prs
from airflow_prs.config.compute import ComputeTarget
from airflow_prs.config.config import RULES, MiniBatchSize, ParallelRunConfig, parse_size
from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.config.environment import Environment
from airflow_prs.config.form import FORM
from airflow_prs.config.parameters import PipelineParameter
from airflow_prs.errors import ConfigError
from airflow_prs.records import Limits

SCRIPT = "def run(mini_batch):\n    return mini_batch\n"


def make(**changes):
    values = {
        "environment": Environment.current(),
        "entry_script": "score.py",
        "error_threshold": 10,
        "output_action": "append_row",
        "compute_target": "local",
        "node_count": 2,
    }
    return ParallelRunConfig(**{**values, **changes})


def problems_of(**changes):
    with pytest.raises(ConfigError) as error:
        make(**changes)
    return error.value.problems


class WhatATaskReturns:
    """Stands for an XComArg."""

    def iter_references(self):
        return iter(())


def test_what_is_not_given_has_the_default_of_the_original():
    config = make()
    assert config.process_count_per_node is None
    assert config.mini_batch_size is None
    assert config.logging_level == "INFO"
    assert config.run_invocation_timeout == 60
    assert config.run_max_try == 3
    assert config.allowed_failed_count is None
    assert config.result_file_name == "parallel_run_step.txt"
    assert config.count_failed_tries is False
    assert config.lend is True
    assert config.keep_rows is True
    assert config.bisect_failed_mini_batches is False


def parameters_in(module, function):
    """Read what only type checkers see of a function: the names of its parameters, with their defaults as text."""
    source = Path(airflow_prs.__file__).parent.joinpath(module).read_text()
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
    (arguments,) = [each.args for each in functions if each.name == function and len(each.args.kwonlyargs) > 2]
    required = len(arguments.args) - len(arguments.defaults)
    by_position = zip(arguments.args, [None] * required + arguments.defaults, strict=True)
    both = [*by_position, *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return {name.arg: default and ast.unparse(default) for name, default in both if name.arg != "self"}


def test_type_checkers_see_the_parameters_and_defaults_that_there_are():
    declared = ParallelRunConfig.model_fields.items()
    defaults = {name: None if field.is_required() else repr(field.default) for name, field in declared}
    assert list(parameters_in("config/config.py", "__init__").items()) == list(defaults.items())


def test_values_by_position_have_the_order_of_the_original():
    config = ParallelRunConfig(
        Environment.current(), "score.py", -1, "summary_only", "local", 2, 4, "1KB", "scripts", "words", "DEBUG", 5, 6,
        "x.txt", 7, 8.5, None, {"A": "b"},
    )  # fmt: skip
    assert config == make(
        error_threshold=-1,
        output_action="summary_only",
        process_count_per_node=4,
        mini_batch_size="1KB",
        source_directory="scripts",
        description="words",
        logging_level="DEBUG",
        run_invocation_timeout=5,
        run_max_try=6,
        append_row_file_name="x.txt",
        allowed_failed_count=7,
        allowed_failed_percent=8.5,
        environment_variables={"A": "b"},
    )


INT_1 = "an int of at least 1"
THRESHOLD = "an int of at least -1 (-1 ignores all)"
SIZE = "an int of at least 1, or a str such as '10', '10KB', '1MB', '1GB', '5000 rows', or None for 10 files or 1 MB"
FILE_NAME = "a file name other than '', '.' and '..', without control characters and any of ~\"#%&*:<>?/\\{|}"
VARIABLES = "a dict of str to str (templates and side inputs too), or None"

WRONG = [
    ("environment", 3, "an Environment, or the path of an interpreter or virtual environment"),
    ("environment", " ", "an Environment, or the path of an interpreter or virtual environment"),
    ("entry_script", None, "the path of a Python script"),
    ("entry_script", " \n", "the path of a Python script"),
    ("error_threshold", -2, THRESHOLD),
    ("error_threshold", "3", THRESHOLD),
    ("error_threshold", 1.0, THRESHOLD),
    ("error_threshold", True, THRESHOLD),
    ("error_threshold", None, THRESHOLD),
    ("output_action", "append_rows", "'append_row' or 'summary_only'"),
    ("output_action", None, "'append_row' or 'summary_only'"),
    ("compute_target", None, "a ComputeTarget, or the name of a declared one ('local')"),
    ("compute_target", "", "a ComputeTarget, or the name of a declared one ('local')"),
    ("node_count", 0, INT_1),
    ("node_count", "2", INT_1),
    ("node_count", None, INT_1),
    ("process_count_per_node", 0, f"{INT_1}, or None for one a core"),
    ("mini_batch_size", 0, SIZE),
    ("mini_batch_size", "0", SIZE),
    ("mini_batch_size", "0KB", SIZE),
    ("mini_batch_size", -1, SIZE),
    ("mini_batch_size", "1KBKB", SIZE),
    ("mini_batch_size", "1 KB", SIZE),
    ("mini_batch_size", "1.5MB", SIZE),
    ("mini_batch_size", "1\u212aB", SIZE),
    ("mini_batch_size", "ten", SIZE),
    ("mini_batch_size", 2.5, SIZE),
    ("source_directory", "", "the path of a folder, or None"),
    ("source_directory", 3, "the path of a folder, or None"),
    ("description", 3, "text, or None"),
    ("logging_level", "info", "'WARNING', 'INFO' or 'DEBUG'"),
    ("logging_level", "ERROR", "'WARNING', 'INFO' or 'DEBUG'"),
    ("run_invocation_timeout", 0, f"{INT_1}, in seconds"),
    ("run_invocation_timeout", 1.5, f"{INT_1}, in seconds"),
    ("run_max_try", 0, INT_1),
    ("append_row_file_name", "", FILE_NAME),
    ("append_row_file_name", ".", FILE_NAME),
    ("append_row_file_name", "..", FILE_NAME),
    ("append_row_file_name", "a\n", FILE_NAME),
    ("append_row_file_name", "a\x7f", FILE_NAME),
    *(("append_row_file_name", f"a{letter}b", FILE_NAME) for letter in '~"#%&*:<>?/\\{|}'),
    ("allowed_failed_count", -2, f"{THRESHOLD}, or None"),
    ("allowed_failed_percent", -0.1, "a number from 0 to 100 (100 ignores all), or None"),
    ("allowed_failed_percent", 100.5, "a number from 0 to 100 (100 ignores all), or None"),
    ("allowed_failed_percent", float("nan"), "a number from 0 to 100 (100 ignores all), or None"),
    ("allowed_failed_percent", True, "a number from 0 to 100 (100 ignores all), or None"),
    ("partition_keys", "user", "a list of different str, or None"),
    ("partition_keys", [], "a list of different str, or None"),
    ("partition_keys", ["user", 3], "a list of different str, or None"),
    ("partition_keys", ["user", "user"], "a list of different str, or None"),
    ("mini_batches_per_task", 0, f"{INT_1}, or None for one shard a node"),
    ("retry_delay_s", -1, "a number of at least 0, in seconds"),
    ("retry_delay_s", float("inf"), "a number of at least 0, in seconds"),
    ("exit_timeout_s", -1, "a number of at least 0, in seconds"),
    ("max_mini_batches_per_process", 0, f"{INT_1}, or None for no limit"),
    (
        "max_memory_per_process",
        "5 rows",
        "an int of at least 1, in bytes, or a str such as '500MB' or '2GB', or None for no limit",
    ),
    ("max_concurrency_per_process", 0, INT_1),
    ("append_row_format", "xml", "'text', 'csv', 'jsonl' or 'parquet'"),
    ("count_failed_tries", 1, "True or False"),
    ("lend", "no", "True or False"),
    ("keep_rows", "no", "True or False"),
    ("bisect_failed_mini_batches", 1, "True or False"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), WRONG)
def test_a_wrong_value_is_named_with_the_value_and_what_is_allowed(name, value, allowed):
    (problem,) = problems_of(**{name: value})
    assert problem.startswith(f"{name} is {value!r}; allowed: {allowed}")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("A=b", f"environment_variables is of type str; allowed: {VARIABLES}"),
        ({"A": 5}, f"environment_variables['A'] is of type int; allowed: {VARIABLES}"),
        ({3: "x"}, f"environment_variables has the name 3; allowed: {VARIABLES}"),
        ({"A=B": "x"}, f"environment_variables has the name 'A=B'; allowed: {VARIABLES}"),
        ({"A": "s3cret\0"}, f"environment_variables['A'] holds a null character; allowed: {VARIABLES}"),
    ],
)
def test_a_wrong_environment_variable_is_named_without_its_value(value, problem):
    assert problems_of(environment_variables=value) == (problem,)


@pytest.mark.parametrize("name", ["environment", "entry_script", "error_threshold", "output_action", "compute_target"])
def test_a_missing_parameter_is_named(name):
    values = dict(make())
    del values[name]
    with pytest.raises(ConfigError, match=f"{name} is missing; allowed: "):
        ParallelRunConfig(**values)


def test_a_misspelt_parameter_names_the_nearest_one():
    assert problems_of(error_treshold=3) == (
        "error_treshold is no parameter of ParallelRunConfig; did you mean 'error_threshold'?",
    )


def test_all_problems_come_in_one_error():
    problems = problems_of(node_count=0, run_max_try=0, mini_batch_size=5, partition_keys=["user"], nonsense=1)
    assert [problem.split()[0] for problem in problems] == ["nonsense", "node_count", "run_max_try", "mini_batch_size"]


def test_an_error_about_a_config_is_a_value_error():
    with pytest.raises(ValueError, match="node_count"):
        make(node_count=0)


def test_a_value_given_twice_is_an_error():
    with pytest.raises(ConfigError, match="environment is given twice"):
        ParallelRunConfig(Environment.current(), "a.py", 0, "append_row", "local", 1, environment="x")


def test_too_many_values_by_position_are_an_error():
    with pytest.raises(ConfigError, match="got 19 values by position; allowed: 18"):
        ParallelRunConfig(Environment.current(), "a.py", 0, "append_row", "local", 1, *[None] * 13)


def test_mini_batch_size_and_partition_keys_exclude_each_other():
    assert problems_of(mini_batch_size=5, partition_keys=["user"]) == (
        "mini_batch_size is 5 and partition_keys is ['user']; allowed: one of the two",
    )


@pytest.mark.parametrize("entry_script", ["/abs/score.py", "../score.py", "a/../../score.py"])
def test_a_script_outside_of_the_source_directory_is_an_error(entry_script):
    (problem,) = problems_of(entry_script=entry_script, source_directory="scripts")
    assert problem == f"entry_script is {entry_script!r}; allowed: a path inside of source_directory, relative to it"


@pytest.mark.parametrize(
    ("name", "given_as", "kept_as"),
    [
        ("entry_script", " score.py\n", "score.py"),
        ("source_directory", " scripts ", "scripts"),
        ("output_action", "Append_Row", "append_row"),
        ("mini_batch_size", "10", 10),
        ("mini_batch_size", " 10kb ", "10kb"),
        ("environment", "/opt/venv", Environment.from_python("/opt/venv")),
        ("partition_keys", ["user", "day"], ("user", "day")),
        ("error_threshold", -1, -1),
        ("allowed_failed_percent", 100, 100),
        ("append_row_file_name", "result of today.jsonl", "result of today.jsonl"),
        ("environment_variables", {"A": "{{ var.value.a }}"}, {"A": "{{ var.value.a }}"}),
    ],
)
def test_a_right_value_is_kept(name, given_as, kept_as):
    assert getattr(make(**{name: given_as}), name) == kept_as


@pytest.mark.parametrize(
    ("name", "chosen", "file_name", "result_format"),
    [
        (None, None, "parallel_run_step.txt", "text"),
        (None, "text", "parallel_run_step.txt", "text"),
        (None, "csv", "parallel_run_step.csv", "csv"),
        (None, "jsonl", "parallel_run_step.jsonl", "jsonl"),
        (None, "parquet", "parallel_run_step.parquet", "parquet"),
        ("t.JSONL", None, "t.JSONL", "jsonl"),
        ("t.parquet", None, "t.parquet", "parquet"),
        ("t.csv", None, "t.csv", "text"),
        ("t", None, "t", "text"),
        ("t", "parquet", "t", "parquet"),
        ("t.jsonl", "text", "t.jsonl", "text"),
        ("t.txt", "csv", "t.txt", "csv"),
        ("t.dat", "jsonl", "t.dat", "jsonl"),
    ],
)
def test_name_and_format_of_the_result_choose_each_other(name, chosen, file_name, result_format):
    config = make(append_row_file_name=name, append_row_format=chosen)
    assert (config.result_file_name, config.result_format) == (file_name, result_format)


@pytest.mark.parametrize(
    ("name", "result_format", "suffix"),
    [
        ("t.csv", "parquet", ".parquet"),
        ("t.txt", "parquet", ".parquet"),
        ("t.Parquet", "text", ".txt"),
        ("t.parquet", "csv", ".csv"),
        ("t.jsonl", "csv", ".csv"),
        ("t.csv", "jsonl", ".jsonl"),
    ],
)
def test_a_format_that_contradicts_the_name_is_an_error(name, result_format, suffix):
    problem = (
        f"append_row_file_name is {name!r} and append_row_format is {result_format!r}; "
        f"allowed: a name that ends in {suffix!r}, or one of the two alone"
    )
    assert problems_of(append_row_file_name=name, append_row_format=result_format) == (problem,)
    promoted = PipelineParameter("chosen", result_format)
    assert problems_of(append_row_file_name=name, append_row_format=promoted) == (problem,)


def test_environment_variables_may_be_side_inputs_or_what_tasks_return():
    variables = {"LABELS": FileDataset("labels").as_named_input("labels"), "TOKEN": WhatATaskReturns()}
    assert make(environment_variables=variables).environment_variables == variables


def test_a_config_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        make().node_count = 3


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda config: pickle.loads(pickle.dumps(config))])
def test_a_config_survives_being_copied(clone):
    config = make(environment_variables={"A": "b"}, node_count=PipelineParameter("n", 2))
    assert clone(config) == config


def test_the_repr_is_stable_and_tells_no_secret():
    text = repr(make(environment_variables={"TOKEN": "s3cret"}))
    assert text.startswith("ParallelRunConfig(environment=Environment.current(), entry_script='score.py',")
    assert "environment_variables={'TOKEN': '***'}" in text


# sizes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (10, MiniBatchSize(10)),
        ("10", MiniBatchSize(10)),
        ("007", MiniBatchSize(7)),
        ("10KB", MiniBatchSize(10 * 1024, "bytes")),
        ("1mB", MiniBatchSize(1024**2, "bytes")),
        ("2GB", MiniBatchSize(2 * 1024**3, "bytes")),
        ("5000 rows", MiniBatchSize(5000, "rows")),
        ("1 row", MiniBatchSize(1, "rows")),
    ],
)
def test_a_size_is_read(text, size):
    assert parse_size(text) == size


@given(st.one_of(st.text(max_size=8), st.integers(), st.floats(), st.none(), st.booleans()))
def test_whatever_is_no_size_is_a_config_error_and_all_else_is_more_than_nothing(value):
    with contextlib.suppress(ConfigError):
        assert parse_size(value).count > 0


# parameters of a run

PROMOTABLE = {
    "error_threshold": 3,
    "node_count": 3,
    "process_count_per_node": 3,
    "mini_batch_size": "3MB",
    "logging_level": "DEBUG",
    "run_invocation_timeout": 3,
    "run_max_try": 3,
    "append_row_file_name": "x.txt",
    "allowed_failed_count": 3,
    "allowed_failed_percent": 3.5,
    "partition_keys": '["user"]',
    "mini_batches_per_task": 3,
    "append_row_format": "csv",
    "count_failed_tries": True,
    "retry_delay_s": 0.5,
    "max_mini_batches_per_process": 3,
    "max_memory_per_process": "2GB",
    "max_concurrency_per_process": 3,
    "read_ahead": False,
    "exit_timeout_s": 0.5,
    "lend": False,
    "keep_rows": False,
    "bisect_failed_mini_batches": True,
}


@pytest.mark.parametrize("other", [{"partition_keys": ["day"]}, {"output_action": "Summary_Only"}])
@pytest.mark.parametrize("value", [True, PipelineParameter("chosen", True)])
def test_mini_batches_whose_items_belong_together_are_not_split(other, value):
    (problem,) = problems_of(bisect_failed_mini_batches=value, **other)
    assert problem.startswith(f"bisect_failed_mini_batches is True and {next(iter(other))} is ")


@pytest.mark.parametrize(("name", "value"), PROMOTABLE.items())
def test_a_parameter_of_a_run_may_stand_for_it(name, value):
    config = make(**{name: PipelineParameter("chosen", value)})
    assert config.promoted()["chosen"].fields == (name,)
    assert getattr(config.resolve({"chosen": value}), name) == getattr(make(**{name: value}), name)


@pytest.mark.parametrize(
    "name", sorted(set(ParallelRunConfig.model_fields) - set(PROMOTABLE) - {"environment_variables"})
)
def test_no_parameter_of_a_run_may_stand_for_the_others(name):
    problems = problems_of(**{name: PipelineParameter("chosen", "x")})
    assert problems[0].startswith(f"{name} is the PipelineParameter 'chosen'; allowed: only ")


@pytest.mark.parametrize(
    ("name", "parameter", "schema"),
    [
        ("node_count", PipelineParameter("n", 2, maximum=8), {"type": "integer", "minimum": 1, "maximum": 8}),
        ("process_count_per_node", PipelineParameter("n", None), {"type": ["integer", "null"], "minimum": 1}),
        ("logging_level", PipelineParameter("n", "INFO"), {"type": "string", "enum": ["WARNING", "INFO", "DEBUG"]}),
        (
            "allowed_failed_percent",
            PipelineParameter("n", 5, maximum=200),
            {"type": ["number", "null"], "minimum": 0, "maximum": 100},
        ),
        ("mini_batch_size", PipelineParameter("n", 5, minimum=2), {"type": ["integer", "null"], "minimum": 2}),
        ("mini_batch_size", PipelineParameter("n", 5), {"type": ["string", "integer", "null"], "minimum": 1}),
        (
            "partition_keys",
            PipelineParameter("n", None),
            {"type": ["array", "null"], "minItems": 1, "items": {"type": "string"}},
        ),
        (
            "partition_keys",
            PipelineParameter("n", ["a"]),
            {
                "anyOf": [{"type": "array"}, {"type": "string"}, {"type": "null"}],
                "minItems": 1,
                "items": {"type": "string"},
            },
        ),
    ],
)
def test_the_schema_of_a_parameter_comes_from_the_field(name, parameter, schema):
    found = dict(make(**{name: parameter}).promoted()["n"].rules)
    found.pop("pattern", None)
    assert found == schema


def test_the_form_describes_every_parameter_that_a_run_may_choose_with_its_unit():
    assert FORM.keys() == PROMOTABLE.keys()
    for name, words in FORM.items():
        has_unit = "(seconds)" in words.title or "(percent)" in words.title
        assert has_unit == (name == "run_invocation_timeout" or name.endswith(("_s", "_percent"))), name
        assert bool(words.empty) == ("null" in RULES[name].schema["type"]), name


@pytest.mark.parametrize(
    ("name", "parameter", "description"),
    [
        ("node_count", PipelineParameter("n", 2, maximum=8), f"{FORM['node_count'].effect} Allowed: 1 to 8."),
        ("node_count", PipelineParameter("n", 2, "Machines"), "Machines. Allowed: at least 1."),
        ("lend", PipelineParameter("n", True), FORM["lend"].effect),
        (
            "allowed_failed_count",
            PipelineParameter("n", None, "Failures?"),
            "Failures? Allowed: at least -1. Empty: not checked.",
        ),
        ("mini_batch_size", PipelineParameter("n", "1MB", "Size"), "Size. Empty: 10 files, or 1 MB of a table."),
    ],
)
def test_a_description_says_what_changes_and_which_values_are_allowed(name, parameter, description):
    assert make(**{name: parameter}).promoted()["n"].description == description


@pytest.mark.parametrize("default", ["5000 rows", 10, None])
def test_the_form_suggests_sizes_in_a_field_for_text(default):
    promotion = make(mini_batch_size=PipelineParameter("n", default)).promoted()["n"]
    assert promotion.look["examples"] == ["10", "1MB", "5000 rows"]
    assert promotion.rules["type"][0] == "string"


def test_a_parameter_of_a_config_must_have_a_default_that_is_allowed():
    assert problems_of(node_count=PipelineParameter("n", 0)) == (
        f"node_count is 0; allowed: {INT_1} (the default of PipelineParameter 'n')",
    )


def test_bounds_for_a_text_are_an_error():
    (problem,) = problems_of(logging_level=PipelineParameter("n", None, maximum=3))
    assert problem == "logging_level is not a number, but its PipelineParameter 'n' has a minimum or maximum"


def test_one_name_for_different_fields_is_an_error():
    (problem,) = problems_of(node_count=PipelineParameter("n", 2), error_threshold=PipelineParameter("n", 2))
    assert "is the PipelineParameter 'n', which stands for something else in" in problem


def test_one_parameter_may_stand_for_fields_of_the_same_kind():
    parameter = PipelineParameter("n", 2)
    assert make(node_count=parameter, run_max_try=parameter).promoted()["n"].fields == ("node_count", "run_max_try")


def test_a_node_count_of_a_run_needs_a_maximum_where_there_may_be_more_shards_than_nodes():
    (problem,) = problems_of(node_count=PipelineParameter("n", 2), mini_batches_per_task=1)
    assert problem.startswith("node_count is the PipelineParameter 'n' without a maximum")
    assert make(node_count=PipelineParameter("n", 2, maximum=4), mini_batches_per_task=1)


def test_a_run_that_chooses_nothing_gets_the_defaults():
    assert make(node_count=PipelineParameter("n", 2)).resolve({}) == make(node_count=2)


def test_a_wrong_value_of_a_run_is_named_with_its_parameter():
    config = make(node_count=PipelineParameter("nodes", 2, maximum=4), logging_level=PipelineParameter("level", "INFO"))
    with pytest.raises(ConfigError) as error:
        config.resolve({"nodes": 5, "level": "loud"})
    assert error.value.problems == (
        "node_count: 5 is more than the maximum 4 (parameter 'nodes' of the run)",
        "logging_level is 'loud'; allowed: 'WARNING', 'INFO' or 'DEBUG' (parameter 'level' of the run)",
    )


def test_thresholds_become_limits():
    config = make(error_threshold=5, allowed_failed_count=6, allowed_failed_percent=7.5, count_failed_tries=True)
    assert config.limits == Limits(
        error_threshold=5, allowed_failed_count=6, allowed_failed_percent=7.5, count_failed_tries=True
    )


@pytest.mark.parametrize("use", [lambda config: config.limits, ParallelRunConfig.to_json])
def test_what_needs_the_values_of_a_run_says_so(use):
    with pytest.raises(ConfigError, match=r"error_threshold is a PipelineParameter; .* needs resolve\(\) first"):
        use(make(error_threshold=PipelineParameter("n", 2)))


# JSON


@pytest.mark.parametrize(
    "config",
    [
        make(),
        make(
            environment="/opt/venv",
            compute_target=ComputeTarget(queue="gpu", pool_slots=2),
            mini_batch_size="5000 rows",
            source_directory="scripts",
            allowed_failed_percent=2.5,
            mini_batches_per_task=3,
            count_failed_tries=True,
            lend=False,
        ),
        make(partition_keys=["user", "day"]),
        make(environment=Environment.from_pip(["pandas==1.5.3"], python="3.11")),
    ],
)
def test_a_config_is_the_same_after_json(config):
    assert ParallelRunConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_the_current_environment_stays_that_of_each_node():
    assert make().to_json()["environment"] == {"interpreter": None}


def test_secrets_are_not_in_the_json():
    target = ComputeTarget(executor_config={"env": "s3cret"})
    plain = make(environment_variables={"TOKEN": "s3cret"}, compute_target=target).to_json()
    assert "s3cret" not in json.dumps(plain)


# paths


def test_existing_paths_are_not_missing(tmp_path):
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "score.py").write_text(SCRIPT)
    assert make(source_directory="scripts").find_file_problems(tmp_path) == []
    assert make(entry_script=str(tmp_path / "scripts" / "score.py")).find_file_problems("/") == []


def test_a_missing_folder_is_named_with_where_it_was_looked_for(tmp_path):
    (problem,) = make(source_directory="scripts").find_file_problems(tmp_path)
    assert problem == (
        f"source_directory is 'scripts', but {tmp_path / 'scripts'} is missing; allowed: an existing folder"
    )


def test_a_missing_script_is_named_with_where_it_was_looked_for(tmp_path):
    (problem,) = make().find_file_problems(tmp_path)
    assert problem == f"entry_script is 'score.py', but {tmp_path / 'score.py'} is missing; allowed: an existing file"


def test_a_folder_is_no_script(tmp_path):
    (tmp_path / "score.py").mkdir()
    (problem,) = make().find_file_problems(tmp_path)
    assert "is no file" in problem


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("def run(mini_batch):\nreturn", "entry_script: score.py, line 2: "),
        ("def run(mini_batch): ...\nreturn 1", "entry_script: score.py, line 2: 'return' outside function"),
        ("def runs(mini_batch): ...", "entry_script: score.py defines no run(); "),
        ("\0", "entry_script: score.py"),
    ],
)
def test_a_script_that_cannot_work_is_found_without_running_it(tmp_path, script, problem):
    (tmp_path / "score.py").write_text(script)
    (found,) = make().find_file_problems(tmp_path)
    assert found.startswith(problem)


def test_another_python_may_know_the_syntax_of_its_script(tmp_path):
    (tmp_path / "score.py").write_text("def run(mini_batch):\nreturn")
    assert make(environment="/opt/venv/bin/python").find_file_problems(tmp_path) == []
    (tmp_path / "score.py").write_text("1")
    (problem,) = make(environment="/opt/venv/bin/python").find_file_problems(tmp_path)
    assert "defines no run()" in problem


@pytest.mark.parametrize("size", ["10 rows", "1MB", PipelineParameter("size", "10 rows")])
def test_rows_and_bytes_are_no_size_of_files(size):
    digits, table = FileDataset("/in").as_named_input("digits"), TabularDataset.from_parquet_files("/in")
    (problem,) = make(mini_batch_size=size).find_size_problems([digits, table])
    assert "allowed for the files of 'digits': a number of files" in problem


@pytest.mark.parametrize("values", [{}, {"mini_batch_size": 10}, {"mini_batch_size": "10"}, {"partition_keys": ["a"]}])
def test_a_number_of_files_is_one(values):
    assert make(**values).find_size_problems([FileDataset("/in").as_named_input("digits")]) == []


def test_a_missing_file_of_packages_is_named(tmp_path):
    (tmp_path / "score.py").write_text(SCRIPT)
    (problem,) = make(environment=Environment.from_conda_file("conda.yml")).find_file_problems(tmp_path)
    assert problem == f"environment: {tmp_path / 'conda.yml'} is missing; allowed: an existing file"
