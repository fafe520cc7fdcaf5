"""Parquet files, cut by their footers."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_prs.errors import InputError
from airflow_prs.inputs.columnar.parquet import cut_parquet_files
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.sources import MiniBatchSize, ParquetSource
from airflow_prs.records import Piece


@pytest.fixture
def write(tmp_path):
    """Write a Parquet file."""

    def write_file(name, rows, rows_per_group=10, column="a"):
        path = str(tmp_path / name)
        pq.write_table(pa.table({column: pa.array(range(rows), pa.int64())}), path, row_group_size=rows_per_group)
        return path

    return write_file


def cut(paths, size, *, is_bytes=False):
    mini_batches, columns = cut_parquet_files(
        ParquetSource(name="table", paths=()), Listing.of(paths), MiniBatchSize(size, "bytes" if is_bytes else "rows")
    )
    return list(mini_batches.mini_batches(0)), columns.names


def test_row_groups_stand_together_but_never_cross_a_file(write):
    one, two = write("1.parquet", 25), write("2.parquet", 5)
    mini_batches, columns = cut([one, two], 1000)
    assert columns == ["a"]
    assert [m.pieces for m in mini_batches] == [
        (Piece(one, 0, 10, 0, row=1), Piece(one, 0, 10, 1, row=11), Piece(one, 0, 5, 2, row=21)),
        (Piece(two, 0, 5, 0, row=1),),
    ]
    assert [m.items for m in mini_batches] == [25, 5]


def test_rows_inside_a_large_row_group_are_cut(write):
    mini_batches, _ = cut([write("1.parquet", 10)], 4)
    assert [(m.pieces[0].begin, m.pieces[0].end) for m in mini_batches] == [(0, 3), (3, 6), (6, 10)]


def test_bytes_are_those_in_the_file(write):
    path = write("1.parquet", 100, rows_per_group=100)
    whole, _ = cut([path], 10**6, is_bytes=True)
    parts, _ = cut([path], whole[0].size_bytes // 4, is_bytes=True)
    assert 4 <= len(parts) <= 5
    assert sum(m.size_bytes for m in parts) == whole[0].size_bytes
    assert sum(m.items for m in parts) == 100


def test_a_file_without_rows_makes_no_mini_batch(write):
    assert cut([write("1.parquet", 0)], 10)[0] == []


def test_other_columns_name_both_files(write):
    paths = [write("1.parquet", 1), write("2.parquet", 1, column="b")]
    with pytest.raises(InputError, match=r"2\.parquet' has the columns \['b'\], but .*1\.parquet' has \['a'\]"):
        cut(paths, 10)


@pytest.mark.parametrize("content", [b"", b"PAR1 torn"])
def test_an_unreadable_footer_names_the_file(tmp_path, content):
    path = tmp_path / "1.parquet"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"1\.parquet' cannot be read as Parquet: .*Parquet"):
        cut([str(path)], 10)
