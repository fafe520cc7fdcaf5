"""Plan knows the row and the line in which each mini-batch of a table begins."""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.parquet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_prs.config.datasets import TabularDataset
from airflow_prs.config.sizes import parse_size
from airflow_prs.inputs.cut_input import cut_input, list_input
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.text.delimited import cut_delimited_files
from airflow_prs.records import MiniBatch, Piece

in_one_folder = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


def cut(dataset, folder, size):
    source = dataset.as_named_input("t").to_source()
    files = list_input(source, base=str(folder))
    return cut_input(source, files, parse_size(size), None, base=str(folder), copies=folder / "c")[0].mini_batches(0)


@in_one_folder
@given(
    records=st.lists(st.sampled_from(["1,x", '2,"a\nb"', "", "# note", '3,"a\r\n\n"', "4,yy"]), max_size=30),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    size=st.sampled_from(["1 rows", "3 rows", 10, 25]),
    block=st.sampled_from([8, 50, 1000]),
)
def test_each_piece_of_a_delimited_file_has_its_first_row_and_line(tmp_path, records, end, size, block):
    text = end.join(["n,t", *records, ""]).encode()
    path = tmp_path / "1.csv"
    path.write_bytes(text)
    source = TabularDataset.from_delimited_files(str(path), comment="#").as_named_input("t").to_source()
    found, _ = cut_delimited_files(source, Listing.of([str(path)]), parse_size(size), block_bytes=block)
    row = 1
    for mini_batch in found.mini_batches(0):
        (piece,) = mini_batch.pieces
        line = len(re.findall(rb"\r\n|\n|\r", text[: piece.begin])) + 1
        assert (piece.row, piece.line) == (row, line)
        row += mini_batch.items


@in_one_folder
@given(lines=st.lists(st.sampled_from(['{"a": 1}', "", '{"a": "\\n\r"}', "bad"]), max_size=20), rows=st.integers(1, 4))
def test_each_piece_of_a_json_lines_file_has_its_first_row_and_line(tmp_path, lines, rows):
    path = tmp_path / "1.jsonl"
    path.write_bytes("\n".join([*lines, ""]).encode())
    filled = [number for number, line in enumerate(lines, start=1) if line]
    found = [m.pieces[0] for m in cut(TabularDataset.from_json_lines_files(str(path)), tmp_path, f"{rows} rows")]
    assert [(piece.row, piece.line) for piece in found] == [
        (number + 1, filled[number]) for number in range(0, len(filled), rows)
    ]


def test_each_piece_of_a_parquet_file_has_its_first_row(tmp_path):
    pa.parquet.write_table(pa.table({"a": range(10)}), tmp_path / "1.parquet", row_group_size=4)
    found = list(cut(TabularDataset.from_parquet_files(str(tmp_path / "1.parquet")), tmp_path, "3 rows"))
    pieces = [piece for mini_batch in found for piece in mini_batch.pieces]
    assert [(piece.row, piece.line) for piece in pieces] == [(row, None) for row in (1, 3, 5, 7, 9)]
    assert list(found[-1].names_of()) == [f"{tmp_path}/1.parquet, rows 9 to 10"]


def test_names_are_numbers_of_rows_and_lines_of_files():
    text = MiniBatch(index=0, input="t", items=5, size_bytes=9, pieces=(Piece("/a.csv", 40, 90, row=11, line=13),))
    assert list(text.names_of()) == ["/a.csv, rows 11 to 15, from line 13"]
    assert list(text.names_of([(1, 2), (3, 5)])) == ["/a.csv, row 12", "/a.csv, rows 14 to 15"]
    pieces = (Piece("/a.parquet", 0, 3, 0, row=1), Piece("/a.parquet", 0, 2, 1, row=4))
    groups = MiniBatch(index=0, input="t", items=5, size_bytes=9, pieces=pieces)
    assert list(groups.names_of([(2, 4)])) == ["/a.parquet, row 3", "/a.parquet, row 4"]
    packed = MiniBatch(index=0, input="t", items=5, size_bytes=9, pieces=(Piece("/a.csv.gz"),))
    assert list(packed.names_of()) == ["/a.csv.gz, rows 1 to 5"]
    files = MiniBatch(index=0, input="t", items=2, size_bytes=9, pieces=(Piece("/a"), Piece("/b")))
    assert list(files.names_of([(1, 2)])) == ["/b"]
