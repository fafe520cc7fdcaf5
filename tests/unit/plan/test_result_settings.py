"""What parallel_run_step.settings.json may hold."""

import io
import json
import zipfile

import pytest

from airflow_prs.errors import ConfigError
from airflow_prs.plan.result_settings import NAME, read_to_csv


def read(content, result_format="text"):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("score.py", "")
        if content is not None:
            packed.writestr(NAME, content if isinstance(content, str) else json.dumps(content))
    return read_to_csv(archive, result_format)


def of_to_csv(**options):
    return {"append_row": {"pandas.DataFrame.to_csv": options}}


@pytest.mark.parametrize("content", [None, {}, {"append_row": {}}])
def test_where_nothing_is_set_nothing_changes(content):
    assert read(content) is None


def test_arguments_are_those_that_are_listed():
    assert read(of_to_csv(sep=",", header=True, index=True)) == {"sep": ",", "header": True, "index": True}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "is not valid JSON"),
        ({"append": {}}, "append is no key of parallel_run_step.settings.json; did you mean 'append_row'"),
        ({"append_row": {"to_csv": {}}}, "to_csv is no key of append_row in"),
        (of_to_csv(separator=","), "separator is no argument of pandas.DataFrame.to_csv"),
        (of_to_csv(head=True), "did you mean 'header'"),
        (of_to_csv(encoding="utf-16"), "encoding cannot be set: the result is in UTF-8"),
        (of_to_csv(sep="||"), "does not accept"),
        (of_to_csv(columns=["a"], header=["b", "c"]), "does not accept"),
        (of_to_csv(columns="a"), "columns is 'a'; allowed: a list of names"),
    ],
)
def test_what_is_wrong_is_named(content, problem):
    with pytest.raises(ConfigError) as wrong:
        read(content)
    assert problem in str(wrong.value)


def test_json_lines_have_no_use_for_it():
    assert read(of_to_csv(sep=","), "jsonl") is None
