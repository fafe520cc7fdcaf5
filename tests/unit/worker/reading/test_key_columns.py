"""Columns whose values stand in paths, as worker processes add them."""

from datetime import date, datetime
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from airflow_prs.inputs.path_keys import copy_folders, key_folder, key_folders, parse_partition_format
from airflow_prs.worker.reading.key_columns import KeyColumns


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


@pytest.mark.parametrize(
    ("kind", "dtype", "texts", "values"),
    [
        ("whole", "int8", ["1", "-2"], [1, -2]),
        ("whole", "float64", ["1", None], [1.0, None]),
        ("float", "float32", ["0.5", "inf"], [0.5, float("inf")]),
        ("bool", "bool", ["true", "false"], [True, False]),
        ("bool", "object", ["true", None], [True, None]),
        ("date", "object", ["2024-02-29", None], [date(2024, 2, 29), None]),
        ("decimal", "object", ["1.10", "-2"], [Decimal("1.10"), Decimal(-2)]),
        ("moment", "datetime64[ns]", ["2024-02-29T01:02:03", None], [pd.Timestamp("2024-02-29T01:02:03"), None]),
        (
            "moment",
            "datetime64[ns, Europe/Berlin]",
            ["2024-10-27T02:30:00+02:00", "2024-10-27T02:30:00+01:00"],
            [pd.Timestamp(f"2024-10-27T0{hour}:30Z") for hour in (0, 1)],
        ),
    ],
)
def test_keys_of_a_copy_have_their_own_types(kind, dtype, texts, values):
    description = {**copy_folders(["k"]).describe(), "types": {"k": [kind, dtype]}}
    paths = [f"/d/{key_folder('k', text)}/rows.parquet" for text in texts]
    frame = KeyColumns(description).add(pd.DataFrame({"n": [1, 2, 3]}), paths, [2, 1])
    assert str(frame["k"].dtype) == dtype
    assert [None if pd.isna(value) else value for value in frame["k"]] == [values[0], *values]
