"""The result in each format, from run() to the published file, with real worker processes."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from airflow_prs.errors import RunFolderError
from airflow_prs.report.reports import first_failures
from airflow_prs.result.merge import merge_run
from airflow_prs.run_folder.committed import read_committed
from tests.shards import Tries, make_plan

FRAMES = """
import pandas as pd

def run(mini_batch):
    return pd.DataFrame({"item": mini_batch, "score": [0.1, 1e300]})
"""

OTHER_COLUMNS = """
import pandas as pd

def run(mini_batch):
    score = "points" if "item-4" in mini_batch else "score"
    return pd.DataFrame({"item": mini_batch, score: [1, 2]})
"""


def result_of(folder) -> str:
    return Path(merge_run(folder).location).read_text()


def test_csv_has_one_header_and_all_rows_in_input_order(tmp_path):
    folder = make_plan(tmp_path, FRAMES, shards=2, append_row_format="csv", append_row_file_name="scores.csv")
    Tries(folder).run(0)
    Tries(folder).run(1)
    rows = [f"item-{n},{'1e+300' if n % 2 else '0.1'}" for n in range(12)]
    assert result_of(folder).splitlines() == ["item,score", *rows]


def test_a_mini_batch_with_other_columns_fails_with_the_column_named(tmp_path):
    folder = make_plan(tmp_path, OTHER_COLUMNS, append_row_format="csv", run_max_try=1, process_count_per_node=1)
    assert Tries(folder).run()["failed"] == 1
    (failed,) = first_failures(read_committed(folder, folder.read_manifest()))
    assert (failed.index, "with the column 'points'" in failed.error) == (2, True)
    assert len(result_of(folder).splitlines()) == 11


def test_settings_of_the_original_change_how_data_frames_are_written(tmp_path):
    folder = make_plan(tmp_path, FRAMES, mini_batches=2)
    folder.write_settings(replace(folder.read_settings(), to_csv={"sep": ";", "header": ["i", "s"]}))
    Tries(folder).run()
    assert result_of(folder) == "i;s\nitem-0;0.1\nitem-1;1e+300\nitem-2;0.1\nitem-3;1e+300\n"


def test_a_name_that_ends_in_csv_makes_data_frames_csv(tmp_path):
    folder = make_plan(tmp_path, FRAMES, mini_batches=2, append_row_file_name="scores.csv")
    Tries(folder).run()
    assert result_of(folder) == "item,score\nitem-0,0.1\nitem-1,1e+300\nitem-2,0.1\nitem-3,1e+300\n"


@pytest.mark.parametrize("to_csv", [{"sep": " ", "header": False}, {}])
def test_settings_of_the_original_are_stronger_than_a_name_that_ends_in_csv(tmp_path, to_csv):
    folder = make_plan(tmp_path, FRAMES, mini_batches=1, append_row_file_name="scores.csv")
    folder.write_settings(replace(folder.read_settings(), to_csv=to_csv))
    Tries(folder).run()
    wanted = "item-0 0.1\nitem-1 1e+300\n" if to_csv else "item,score\nitem-0,0.1\nitem-1,1e+300\n"
    assert result_of(folder) == wanted


def test_rows_of_text_stay_as_they_are_where_the_name_ends_in_csv(tmp_path):
    script = "def run(mini_batch):\n    return [f'{item};1' for item in mini_batch]\n"
    folder = make_plan(tmp_path, script, mini_batches=1, append_row_file_name="scores.csv")
    Tries(folder).run()
    assert result_of(folder) == "item-0;1\nitem-1;1\n"


def test_json_lines_are_chosen_by_the_suffix(tmp_path):
    folder = make_plan(tmp_path, FRAMES, mini_batches=1, append_row_file_name="scores.jsonl")
    Tries(folder).run()
    rows = [json.loads(line) for line in result_of(folder).splitlines()]
    assert rows == [{"item": "item-0", "score": 0.1}, {"item": "item-1", "score": 1e300}]


def test_parquet_is_one_file_of_one_schema_in_input_order(tmp_path):
    folder = make_plan(tmp_path, FRAMES, shards=2, append_row_file_name="scores.parquet")
    Tries(folder).run(1)
    Tries(folder).run(0)
    table = pq.read_table(merge_run(folder).location)
    assert table.column("item").to_pylist() == [f"item-{n}" for n in range(12)]
    assert table.column("score").to_pylist() == [0.1, 1e300] * 6


MIXED_TYPES = """
import pandas as pd

def run(mini_batch):
    score = [0.5, 1.0] if "item-4" in mini_batch else [1.0, None] if "item-6" in mini_batch else [1, 2]
    return pd.DataFrame({"score": score})
"""


def test_types_are_cast_where_that_loses_nothing_and_else_the_mini_batch_fails(tmp_path):
    folder = make_plan(tmp_path, MIXED_TYPES, append_row_format="parquet", run_max_try=1, process_count_per_node=1)
    assert Tries(folder).run()["failed"] == 1
    (failed,) = first_failures(read_committed(folder, folder.read_manifest()))
    assert (failed.index, "column 'score'" in failed.error) == (2, True)
    assert pq.read_table(merge_run(folder).location).column("score").to_pylist() == [1, 2, 1, 2, 1, None, 1, 2, 1, 2]


LARGE = """
import pandas as pd

def run(mini_batch):
    return pd.DataFrame({"item": mini_batch[0], "n": range(400_000), "text": [str(n * n) for n in range(400_000)]})
"""


def test_a_large_mini_batch_is_read_a_part_at_a_time(tmp_path):
    folder = make_plan(tmp_path, LARGE, mini_batches=3, append_row_format="parquet")
    Tries(folder).run()
    file = pq.ParquetFile(merge_run(folder).location)
    assert file.metadata.num_rows == 1_200_000
    assert file.metadata.num_row_groups == 2
    assert sum(batch.column("n").to_numpy().sum() for batch in file.iter_batches(columns=["n"])) == 3 * sum(
        range(400_000)
    )


def test_damaged_parquet_rows_publish_nothing(tmp_path):
    folder = make_plan(tmp_path, FRAMES, append_row_format="parquet")
    Tries(folder).run()
    path = max(folder.path.glob("shards/*/rows/*.bin"), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(RunFolderError, match=r"rows of mini-batch \d are damaged"):
        merge_run(folder)
    assert not (tmp_path / "out" / "parallel_run_step.parquet").exists()


def test_a_run_without_rows_makes_an_empty_parquet_file(tmp_path):
    folder = make_plan(tmp_path, "def run(mini_batch):\n    return []\n", append_row_format="parquet")
    Tries(folder).run()
    assert pq.read_table(merge_run(folder).location).num_rows == 0


NESTED = """
from decimal import Decimal

def run(mini_batch):
    n = int(mini_batch[0].rpartition("-")[2]) // 2
    more = [{}, None, {"a": None}, {"a": n, "b": [{}]}, {"c": "x"}, {"b": [{"d": 0.5}]}][n]
    return [{"price": Decimal(10) ** (5 * n) + Decimal("0.1") ** n, "more": more, "never": {}}] * 2
"""


def test_digits_and_fields_that_come_later_are_in_the_result_of_all(tmp_path):
    folder = make_plan(tmp_path, NESTED, append_row_format="parquet", run_max_try=1)
    assert Tries(folder).run()["failed"] == 0
    rows = pq.read_table(merge_run(folder).location).to_pylist()[::2]
    assert [row["price"] for row in rows] == [Decimal(10) ** (5 * n) + Decimal("0.1") ** n for n in range(6)]
    nothing = {"a": None, "b": None, "c": None}
    some = [{}, None, {}, {"a": 3, "b": [{"d": None}]}, {"c": "x"}, {"b": [{"d": 0.5}]}]
    assert [row["more"] for row in rows] == [None if one is None else nothing | one for one in some]
    assert rows[0]["never"] == {"empty": None}


EMPTY = """
import pandas as pd

def run(mini_batch):
    return pd.DataFrame({"item": pd.Series([], dtype="int64"), "score": []})
"""


def test_frames_that_are_all_empty_give_the_result_their_columns(tmp_path):
    parquet = make_plan(tmp_path / "parquet", EMPTY, mini_batches=1, append_row_format="parquet")
    csv = make_plan(tmp_path / "csv", EMPTY, mini_batches=1, append_row_format="csv")
    for folder in (parquet, csv):
        Tries(folder).run()
    table = pq.read_table(merge_run(parquet).location)
    assert (table.num_rows, table.column_names, str(table.schema.types[0])) == (0, ["item", "score"], "int64")
    assert result_of(csv) == "item,score\n"


@pytest.mark.parametrize("format_", ["csv", "jsonl"])
def test_a_run_whose_every_mini_batch_returned_nothing_has_an_empty_result(tmp_path, format_):
    folder = make_plan(tmp_path, "def run(mini_batch):\n    return []\n", append_row_format=format_)
    Tries(folder).run()
    assert result_of(folder) == ""
