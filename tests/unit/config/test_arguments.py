import pytest

from airflow_prs.config.arguments import (
    RESERVED,
    DriverOptions,
    check_arguments,
    driver_options,
    may_need_no_inputs,
    near_misses,
)
from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.config.parameters import PipelineParameter
from airflow_prs.errors import ConfigError


class WhatATaskReturns:
    """Stands for an XComArg."""

    def iter_references(self):
        return iter(())


@pytest.mark.parametrize(
    "arguments",
    [
        None,
        [],
        ["--model_name", "mosaic"],
        ("-m", 3, 0.5),
        ["--model", WhatATaskReturns(), PipelineParameter("n", 2), FileDataset("labels").as_named_input("labels")],
        [WhatATaskReturns()],
        ["{{ params.flag }}", "x"],
        ["--value", "-5", "--mini-batch-size", "3"],
        ["--task_overhead_timeout", "{{ params.timeout }}"],
        ["--task_overhead_timeout", PipelineParameter("timeout", 5)],
        ["--rank_mini_batch_count", "0", "--resource_monitor_interval=0"],
    ],
)
def test_arguments_that_are_right_or_known_only_later_have_no_problem(arguments):
    assert check_arguments(arguments) == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["mosaic"], "arguments begin with 'mosaic'; allowed: keyword arguments only, so the first begins with '-'"),
        ([5], "arguments begin with 5"),
        ([FileDataset("x")], "arguments begin with FileDataset('x')"),
        ("--model mosaic", "arguments is '--model mosaic'; allowed: a list such as"),
        ({"--model": 1}, "arguments is {'--model': 1}"),
        (
            ["--model", None],
            "arguments[1] is None; allowed: a str, a number, a PipelineParameter, one of the side_inputs",
        ),
        (["--table", TabularDataset.from_parquet_files("x")], "arguments[1] is TabularDataset"),
    ],
)
def test_wrong_arguments_say_what_is_wrong(arguments, problem):
    (found,) = check_arguments(arguments)
    assert problem in found


@pytest.mark.parametrize("name", sorted(set(RESERVED) - {"output"}))
@pytest.mark.parametrize("form", ["--{}", "--{}=3"])
def test_a_reserved_name_is_refused_with_the_parameter_to_use(name, form):
    (problem,) = check_arguments(["--model", "x", form.format(name), "3"])
    assert (
        problem == f"arguments hold --{name}, which is reserved; use the parameter {name} of ParallelRunConfig instead"
    )


def test_the_output_is_a_parameter_of_the_operator():
    (problem,) = check_arguments(["--output", "/data"])
    assert "use the parameter output of ParallelRunOperator instead" in problem


def test_all_problems_are_found_at_once():
    assert len(check_arguments(["x", None, "--output", "y", "--profiling_module", "yappi"])) == 4


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        (["--rank_mini_batch_count", "8"], "rank_mini_batch_count", 8),
        (["--rank_mini_batch_count=8"], "rank_mini_batch_count", 8),
        (["--rank_mini_batch_count", "-1"], "rank_mini_batch_count", 0),
        (["--resource_monitor_interval", 60], "resource_monitor_interval_s", 60),
        (["--resource_monitor_interval", "0"], "resource_monitor_interval_s", 0),
        (["--profiling_module", "cProfile"], "profiling_module", "cProfile"),
        (["--progress_update_timeout", "60"], "progress_update_timeout_s", 60),
    ],
)
def test_an_option_for_the_driver_is_read(arguments, field, value):
    assert check_arguments(arguments) == []
    assert getattr(driver_options(arguments), field) == value


def test_resources_are_watched_every_ten_minutes_unless_asked_otherwise():
    assert driver_options(None).resource_monitor_interval_s == 600


@pytest.mark.parametrize(
    ("arguments", "needs_none"),
    [
        (None, False),
        (["--model", "x"], False),
        (["--rank_mini_batch_count", "3"], True),
        (["--rank_mini_batch_count", 0], False),
        (["--rank_mini_batch_count", "x"], False),
        (["--rank_mini_batch_count"], False),
        (["--rank_mini_batch_count", "{{ params.count }}"], True),
        (["--rank_mini_batch_count", PipelineParameter("count", 0)], True),
        (["--rank_mini_batch_count", WhatATaskReturns()], True),
        (["--rank_mini_batch_count=3", "--rank_mini_batch_count=0"], False),
    ],
)
def test_inputs_may_be_missing_where_mini_batches_may_come_without_any(arguments, needs_none):
    assert may_need_no_inputs(arguments) is needs_none


@pytest.mark.parametrize("name", ["task_overhead_timeout", "first_task_creation_timeout", "progress_update_timeout"])
@pytest.mark.parametrize("value", ["0", "-1", "259201", "x", "nan", ""])
def test_a_timeout_outside_of_its_range_is_refused(name, value):
    (problem,) = check_arguments([f"--{name}", value])
    assert problem == f"arguments: --{name} is {value!r}; allowed: seconds, more than 0 and at most 259200"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--rank_mini_batch_count", "x"], "--rank_mini_batch_count is 'x'; allowed: an int (0 or less: off)"),
        (["--resource_monitor_interval", "-1"], "--resource_monitor_interval is '-1'; allowed: seconds, at least 0"),
        (["--profiling_module", "yappi"], "--profiling_module is 'yappi'; allowed: cProfile or profile"),
        (["--task_overhead_timeout"], "--task_overhead_timeout has no value"),
        (["--task_overhead_timeout", "--model"], "--task_overhead_timeout has no value"),
    ],
)
def test_a_wrong_value_for_the_driver_is_refused(arguments, problem):
    (found,) = check_arguments(arguments)
    assert problem in found


def test_without_options_the_driver_is_asked_for_nothing():
    assert driver_options(["--model", "x"]) == DriverOptions()


@pytest.mark.parametrize("arguments", [["--task_overhead_timeout", "2.5"], ["-v", "--task_overhead_timeout=2.5"]])
def test_the_time_to_load_a_mini_batch_is_read(arguments):
    assert driver_options(arguments).task_overhead_timeout_s == 2.5


def test_the_last_of_two_values_counts():
    assert driver_options(["--task_overhead_timeout=1", "--task_overhead_timeout=2"]).task_overhead_timeout_s == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["--first_task_creation_timeout", "600"],
        ["--copy_logs_to_parent", "True"],
        ["--copy_logs_to_parent"],
        ["--push_metrics_to_parent", "True"],
        ["--metrics_name_prefix", "x"],
    ],
)
def test_an_option_without_use_here_is_accepted_and_a_line_says_so(arguments):
    assert check_arguments(arguments) == []
    (note,) = driver_options(arguments).notes
    assert note.startswith(f"{arguments[0]} is accepted, but it ")
    assert "no use here" in note


def test_a_template_that_nobody_rendered_is_not_swallowed_in_a_run():
    with pytest.raises(ConfigError, match="--task_overhead_timeout is"):
        driver_options(["--task_overhead_timeout", "{{ params.timeout }}"])


@pytest.mark.parametrize(
    ("option", "meant"),
    [
        ("--resource_monitor_interva", "resource_monitor_interval"),
        ("--resource-monitor-interval=5", "resource_monitor_interval"),
        ("--rank_minibatch_count", "rank_mini_batch_count"),
        ("--Profiling_Module", "profiling_module"),
        ("--task_overhead_time_out", "task_overhead_timeout"),
    ],
)
def test_a_near_miss_warns_with_the_option_that_was_meant(option, meant):
    (warning,) = near_misses([option, "5"])
    assert f"did you mean the driver's option --{meant}?" in warning


@pytest.mark.parametrize(
    "option", ["--model_name", "--output_folder", "--timeout", "--profiling_module", "--error_threshold", "--", "-r"]
)
def test_other_options_go_to_the_script_without_a_word(option):
    assert near_misses([option, "5"]) == []
