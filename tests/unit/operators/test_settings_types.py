"""The types of a step's arguments name the same parameters as the code that takes them."""

from __future__ import annotations

from typing import get_args

from airflow_prs.config.config import RULES, RowFormat
from airflow_prs.config.rules import SUFFIX_OF_FORMAT
from airflow_prs.operators.dealing import OWN_ARGUMENTS, TASK_ARGUMENTS
from airflow_prs.operators.parallel_run import STEP_PARAMETERS
from airflow_prs.operators.settings_types import FunctionSettings, TaskArguments


def test_the_arguments_of_a_task_are_those_of_airflow_that_a_step_takes():
    missing = TASK_ARGUMENTS - STEP_PARAMETERS - OWN_ARGUMENTS.keys() - TaskArguments.__annotations__.keys()
    assert not missing
    assert not TaskArguments.__annotations__.keys() & (STEP_PARAMETERS | OWN_ARGUMENTS.keys())


def test_the_settings_of_a_function_are_those_of_a_step_and_its_configuration():
    ours = FunctionSettings.__annotations__.keys() - TaskArguments.__annotations__.keys()
    assert ours == (STEP_PARAMETERS | RULES.keys()) - {"parallel_run_config", "entry_script"}


def test_every_format_of_rows_has_a_suffix():
    assert get_args(RowFormat) == tuple(SUFFIX_OF_FORMAT)
