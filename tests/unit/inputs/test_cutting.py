"""How files, records and row groups become mini-batches."""

import tracemalloc

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.inputs.columnar.row_groups import RowGroup, cut_row_groups
from airflow_prs.inputs.cutting import TableCut, cut_files, cut_partitions
from airflow_prs.inputs.mini_batches import PIECES
from airflow_prs.inputs.text.cutting import RecordCutter
from airflow_prs.inputs.text.records import add_pieces
from airflow_prs.records import Piece

lengths = st.lists(st.integers(1, 40), max_size=80)
row_groups = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 500)), max_size=20)


def cut_records(record_lengths, size, *, is_bytes, block):
    starts = np.concatenate(([0], np.cumsum(record_lengths, dtype=np.int64)))
    cutter = RecordCutter(size, is_bytes=is_bytes)
    for first in range(0, len(record_lengths), block):
        cutter.feed(starts[:-1][first : first + block])
    return list(cutter.finish(int(starts[-1]))), starts.tolist()


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(1, 12))
def test_files_are_neither_lost_nor_doubled_nor_moved(count, size):
    paths = [f"/f{number}" for number in range(count)]
    mini_batches = list(cut_files("in", paths, range(count), size).mini_batches(5))
    assert [piece for m in mini_batches for piece in m.pieces] == [Piece(path) for path in paths]
    assert [m.index for m in mini_batches] == list(range(5, 5 + -(-count // size)))
    assert all(m.items == len(m.pieces) == size for m in mini_batches[:-1])
    assert sum(m.size_bytes for m in mini_batches) == sum(range(count))


@settings(deadline=None)
@given(lengths, st.integers(1, 100), st.booleans(), st.integers(1, 9))
def test_records_are_neither_lost_nor_doubled_nor_torn(record_lengths, size, is_bytes, block):
    pieces, starts = cut_records(record_lengths, size, is_bytes=is_bytes, block=block)
    begins = [begin for begin, _, _ in pieces]
    assert begins == [0, *(end for _, end, _ in pieces)][: len(pieces)]
    assert set(begins) <= set(starts)
    assert [sum(b <= s < e for s in starts[:-1]) for b, e, _ in pieces] == [records for *_, records in pieces]
    assert sum(records for *_, records in pieces) == len(record_lengths)


@settings(deadline=None)
@given(lengths, st.integers(1, 100), st.integers(1, 9))
def test_a_mini_batch_holds_as_many_records_as_fit_but_one_at_least(record_lengths, size, block):
    pieces, starts = cut_records(record_lengths, size, is_bytes=True, block=block)
    for begin, end, records in pieces:
        assert records == 1 or end - begin <= size
        if end != starts[-1]:
            assert starts[starts.index(end) + 1] - begin > size


@settings(deadline=None)
@given(lengths, st.integers(1, 30), st.integers(1, 9))
def test_rows_are_counted_exactly(record_lengths, size, block):
    pieces, _ = cut_records(record_lengths, size, is_bytes=False, block=block)
    assert all(records == size for *_, records in pieces[:-1])
    assert all(0 < records <= size for *_, records in pieces)


@settings(deadline=None)
@given(row_groups, st.integers(1, 600), st.booleans())
def test_rows_of_row_groups_are_neither_lost_nor_doubled_nor_moved(sizes, size, is_bytes):
    groups = [RowGroup(number, rows, weight if rows else 0) for number, (rows, weight) in enumerate(sizes)]
    mini_batches = list(cut_row_groups(groups, size, is_bytes=is_bytes))
    rows = [(r.row_group, row) for m in mini_batches for r in m for row in range(r.begin, r.end)]
    assert rows == [(group.number, row) for group in groups for row in range(group.rows)]
    assert sum(r.size_bytes for m in mini_batches for r in m) == sum(group.size_bytes for group in groups)
    assert all(any(r.end > r.begin for r in m) for m in mini_batches)


def test_whole_row_groups_stand_together_while_they_fit():
    groups = [RowGroup(number, 10, 100) for number in range(5)]
    mini_batches = list(cut_row_groups(groups, 250, is_bytes=True))
    assert [[rows.row_group for rows in m] for m in mini_batches] == [[0, 1], [2, 3], [4]]


def test_a_large_row_group_is_cut_into_even_parts():
    mini_batches = list(cut_row_groups([RowGroup(0, 10, 1000)], 300, is_bytes=True))
    assert [(m[0].begin, m[0].end) for m in mini_batches] == [(0, 2), (2, 5), (5, 7), (7, 10)]


def test_each_combination_is_one_mini_batch_in_order_of_first_appearance():
    partitions = [{"k": "b"}, {"k": "a"}, {"k": "b"}, {"k": "c"}]
    cut = cut_partitions("in", ["/1", "/2", "/3", "/4"], [1, 1, 1, 0], partitions)
    assert [(dict(m.partition), [piece.path for piece in m.pieces]) for m in cut.mini_batches(0)] == [
        ({"k": "b"}, ["/1", "/3"]),
        ({"k": "a"}, ["/2"]),
    ]


def test_a_row_group_has_a_bounded_number_of_files_however_many_a_mini_batch_has():
    count = 2 * PIECES + 10
    cut = cut_files("in", [f"/f{number}" for number in range(count)], range(count), 20_000)
    batches = list(cut.batches(0))
    assert max(len(batch["pieces"].flatten()) for batch in batches) <= PIECES
    assert [piece["path"].as_py() for batch in batches for piece in batch["pieces"].flatten()][-1] == f"/f{count - 1}"
    assert sum(len(batch) for batch in batches) == len(cut) == -(-count // 20_000)


def test_a_mini_batch_with_more_files_than_that_stays_whole():
    count = PIECES + 10
    (mini_batch,) = cut_files("in", [f"/f{number}" for number in range(count)], [1] * count, count).mini_batches(0)
    assert [mini_batch.pieces[0], mini_batch.pieces[-1]] == [Piece("/f0"), Piece(f"/f{count - 1}")]
    assert mini_batch.items == mini_batch.size_bytes == len(mini_batch.pieces) == count


def test_the_mini_batches_of_one_file_need_no_more_memory_than_their_columns():
    count = 20_000
    cutter = RecordCutter(1, is_bytes=False)
    cutter.feed(range(0, 2 * count, 2))
    cut = TableCut("in", ["/in/a.csv"])
    tracemalloc.start()
    try:
        add_pieces(cut, 0, cutter.finish(2 * count), cutter.lines, is_whole=False)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(cut) == count
    assert peak_bytes / count < 100
