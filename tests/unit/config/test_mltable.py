"""MLTable files of the original."""

import pytest

from airflow_prs.config.datasets import TabularDataset
from airflow_prs.errors import ConfigError


@pytest.fixture
def read(tmp_path):
    def write_and_read(text):
        (tmp_path / "MLTable").write_text(text)
        return TabularDataset.from_mltable(tmp_path)

    return write_and_read


def test_delimited_files(read, tmp_path):
    dataset = read("""
$schema: https://azuremlschemas.azureedge.net/latest/MLTable.schema.json
type: mltable
paths:
  - pattern: ./*/*.txt
  - file: more.txt
transformations:
  - read_delimited:
      delimiter: "\\t"
      encoding: iso88591
      header: no_header
      support_multi_line: true
      infer_column_types: true
  - extract_columns_from_partition_format: /{year}/{name}.txt
""")
    assert dataset == TabularDataset.from_delimited_files(
        [f"{tmp_path}/*/*.txt", f"{tmp_path}/more.txt"], "\t", False, "latin-1", "/{year}/{name}.txt"
    )


@pytest.mark.parametrize("step", ["read_parquet", "read_parquet: {include_path_column: false}"])
def test_parquet_files_with_columns_that_are_kept(read, tmp_path, step):
    dataset = read(
        f"paths: [{{folder: ./}}]\ntransformations:\n- {step}\n- keep_columns: [b, a, c]\n- drop_columns: c\n"
    )
    assert dataset == TabularDataset.from_parquet_files([str(tmp_path)], columns=["b", "a"])


def test_json_lines(read, tmp_path):
    dataset = read("paths: [{file: a.jsonl}]\ntransformations: [{read_json_lines: {encoding: utf8}}]\n")
    assert dataset.to_spec() == TabularDataset.from_json_lines_files([f"{tmp_path}/a.jsonl"]).to_spec()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("transformations: [read_parquet, take: 5]", "transformation 'take' is not supported; allowed: read_delimited"),
        ("transformations: [{read_parquet: {x: 1}}]", "'x' of read_parquet is not supported"),
        ("transformations: [{read_delimited: {header: from_first_file}}]", "header of read_delimited is 'from_first"),
        ("transformations: [{read_delimited: {empty_as_string: true}}]", "empty_as_string of read_delimited is True"),
        ("transformations: [read_parquet]\ntraits: {}", "'traits' is not supported"),
        ("transformations: []", "transformations: allowed: one of read_delimited"),
        ("transformations: [read_parquet]\npaths: [{url: x}]", "paths has {'url': 'x'}; allowed: one of file, folder"),
        (
            "transformations: [read_parquet]\npaths: [{file: 'azureml://x'}]",
            "azureml:// is not supported; allowed: a local path, s3://",
        ),
        ("- a", "is not a mapping"),
    ],
)
def test_what_is_not_known_is_named(read, text, problem):
    with pytest.raises(ConfigError) as error:
        read(text if "paths" in text or text == "- a" else f"paths: [{{file: a}}]\n{text}\n")
    assert problem in str(error.value)


def test_a_folder_without_the_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*MLTable"):
        TabularDataset.from_mltable(tmp_path)


def test_a_relative_folder_is_refused():
    with pytest.raises(ConfigError, match="folder is 'table'; allowed: an absolute path"):
        TabularDataset.from_mltable("table")
