"""Rows as Arrow streams of one schema, as worker processes write them for a Parquet file."""

import datetime as dt
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pytest

from airflow_prs.worker.layout import Layout
from airflow_prs.worker.rows import BadResultError
from airflow_prs.worker.rows_parquet import ParquetRows


@pytest.fixture
def written(tmp_path):
    """Write elements and read them back; each call is a process of its own."""

    def write(elements):
        parts = []
        ParquetRows(Layout(str(tmp_path / "layout")))(elements, lambda data: parts.append(bytes(data)))
        return pa.ipc.open_stream(b"".join(parts)).read_all()

    return write


def frame(*values, dtype=None):
    return pd.DataFrame({"x": pd.Series(values, dtype=dtype)})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((1, 2), (3.0, None)),
        ((0.5,), (2**53,)),
        (("a",), (None,)),
        ((Decimal("1.50"),), (Decimal("2.5"),)),
        ((pd.Timestamp("2024-01-01 10:00"),), (dt.date(2024, 1, 2),)),
        (([0.5],), ([1],)),
        (([],), (["a"],)),
    ],
)
def test_what_can_be_cast_without_loss_is(written, first, second):
    written(frame(*first))
    column = written(frame(*second)).column("x")
    wanted = [None if pd.isna(value) is True else value for value in second]
    got = [value.date() if isinstance(value, dt.datetime) else value for value in column.to_pylist()]
    assert got == wanted


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((1,), (0.5,)),
        ((0.5,), (2**53 + 1,)),
        ((1,), ("1",)),
        (("1",), (1,)),
        ((True,), (1,)),
        ((pd.Timestamp("2024-01-01"),), (pd.Timestamp("2024-01-01", tz="UTC"),)),
        (([1],), ([0.5],)),
    ],
)
def test_what_would_lose_something_fails_with_the_column_named(written, first, second):
    written(frame(*first))
    with pytest.raises(BadResultError, match=r"column 'x' of what run\(\) returned is of type .*, and cannot be cast"):
        written(frame(*second))


def test_a_double_is_not_made_a_float(written):
    written(frame(0.5, dtype="float32"))
    with pytest.raises(BadResultError, match="cannot be cast to float"):
        written(frame(0.1))


def test_a_column_without_values_gets_its_type_from_the_first_that_has_some(written):
    assert written([{"x": None}]).schema.field("x").type == pa.null()
    assert written([{"x": "a"}]).column("x").to_pylist() == ["a"]
    assert written([{"x": None}]).schema.field("x").type == pa.string()


def test_categories_are_kept_as_what_they_stand_for(written):
    assert written(frame("a", "b", dtype="category")).column("x").to_pylist() == ["a", "b"]


def test_mixed_objects_are_refused_with_the_column_named(written):
    with pytest.raises(BadResultError, match="column x"):
        written(frame(1, "a", dtype=object))


def test_other_columns_are_refused(written):
    written(frame(1))
    with pytest.raises(BadResultError, match="without the column 'x' and with the column 'y'"):
        written(pd.DataFrame({"y": [1]}))


def test_no_rows_are_no_bytes(tmp_path):
    parts = []
    ParquetRows(Layout(str(tmp_path / "layout")))(frame(), parts.append)
    assert parts == []
    assert not (tmp_path / "layout").exists()
