"""Columns whose values stand in paths, as worker processes add them."""

from datetime import datetime

import numpy as np
import pandas as pd

from airflow_prs.plan.partitions import key_folders, parse_partition_format
from airflow_prs.worker.key_columns import KeyColumns


def add(keys, paths, lengths):
    rows = pd.DataFrame({"value": range(sum(lengths))})
    return KeyColumns(keys.describe()).add(rows, paths, lengths)


def test_key_columns_follow_the_others_with_the_values_of_each_piece():
    frame = add(
        parse_partition_format("/{user}/{day:yyyy-MM-dd}.csv"), ["/d/b/2024-02-29.csv", "/d/a/2023-01-02.csv"], [2, 1]
    )
    assert list(frame) == ["value", "user", "day"]
    assert list(frame["user"]) == ["b", "b", "a"]
    assert frame["day"].dtype == np.dtype("datetime64[us]")
    assert list(frame["day"]) == [datetime.fromisoformat(day) for day in ("2024-02-29", "2024-02-29", "2023-01-02")]


def test_values_of_folders_are_text_and_may_be_missing():
    paths = ["/d/k=a%2Fb%3D/1.csv", "/d/k=__HIVE_DEFAULT_PARTITION__/1.csv", "/d/k=01/1.csv", "/d/k=/1.csv"]
    frame = add(key_folders(["k"]), paths, [1, 1, 1, 1])
    assert [None if pd.isna(value) else value for value in frame["k"]] == ["a/b=", None, "01", ""]
    assert frame["k"].dtype == pd.Series(["text"]).dtype


def test_rows_of_no_piece_still_have_the_columns():
    assert list(add(key_folders(["a", "b"]), ["/a=1/b=2/f"], [0])) == ["value", "a", "b"]
