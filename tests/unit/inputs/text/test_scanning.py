"""Records are found where pandas and Python's csv module find them, however much is read in one step."""

import csv
import io
import re
from contextlib import contextmanager
from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from airflow_prs.errors import InputError
from airflow_prs.inputs.sources import DEFAULT_RECORD_LIMIT
from airflow_prs.inputs.text.opening import OpenText
from airflow_prs.inputs.text.records import complete_records


def texts_of(*letters):
    return st.lists(st.sampled_from(letters), max_size=40).map("".join).map(str.encode)


texts = texts_of('"', '"', ",", "\n", "\r\n", "\r", " ", "\t", "a")
commented = texts_of('"', '"', "#", "#", ",", "\n", "\r\n", "\r", " ", "a")
blocks = st.integers(1, 70)
more = settings(deadline=None, max_examples=200)


@contextmanager
def opened(data):
    yield OpenText(io.BytesIO(data), "utf-8", 0, "t", partial(opened, data))


def records_of(data, block_bytes=7, separator=",", comment=None):
    with opened(data) as text:
        yield from complete_records(
            text, separator, comment=comment, max_record_size=DEFAULT_RECORD_LIMIT, block_bytes=block_bytes
        )


def starts_of(data, *args, **options):
    found = [records.starts for records in records_of(data, *args, **options)]
    return np.concatenate([np.array([], np.int64), *found]).tolist()


def rows_of(data, comment=None):
    """Read as worker processes do; None where a quote is not closed."""
    # After an empty line that ends with CR alone, pandas loses a record that begins with a separator.
    assume(not re.search(rb"(?:\A|[\r\n])[ \t]*(?:#[^\r\n]*)?\r(?!\n)", data))
    try:
        return pd.read_csv(
            io.BytesIO(data),
            header=None,
            names=range(40),
            index_col=False,
            dtype=str,
            keep_default_na=False,
            comment=comment,
        ).to_numpy()
    except pd.errors.EmptyDataError:
        return np.empty((0, 40), object)
    except pd.errors.ParserError as error:
        return None if "EOF inside string" in str(error) else pytest.fail(str(error))


@more
@given(st.one_of(st.tuples(texts, st.none()), st.tuples(commented, st.just("#"))), blocks)
def test_as_many_records_are_counted_as_pandas_reads(written, block_bytes):
    data, comment = written
    rows = rows_of(data, comment)
    if rows is None:
        with pytest.raises(InputError, match="ends inside a quoted field"):
            starts_of(data, block_bytes, comment=comment)
    else:
        assert len(starts_of(data, block_bytes, comment=comment)) == len(rows)


@more
@given(st.one_of(texts, commented), blocks, st.sampled_from([None, "#"]))
def test_reading_record_by_record_gives_what_reading_at_once_gives(data, block_bytes, comment):
    rows = rows_of(data, comment)
    if rows is None or not len(rows):
        return
    starts = starts_of(data, block_bytes, comment=comment)
    pieces = [rows_of(data[begin:end], comment) for begin, end in zip(starts, [*starts[1:], len(data)], strict=True)]
    assert np.concatenate(pieces).tolist() == rows.tolist()


@settings(more, max_examples=400)
@given(st.data(), st.sampled_from(",;|\t :^a"), blocks)
def test_the_csv_module_finds_the_same_quoted_fields(data, separator, block_bytes):
    text = data.draw(texts_of('"', '"', '"', separator, separator, "\n", "\r\n", "\r", "x", "é")) + b'"\n'
    rows = [row for row in csv.reader(io.StringIO(text.decode(), newline=""), delimiter=separator) if row]
    try:
        assert len(starts_of(text, block_bytes, separator)) == len(rows)
    except InputError:  # then the quote at the end closes no field, and another one does
        assert len(starts_of(text + b'"\n', block_bytes, separator)) == len(rows)


@settings(more, max_examples=500)
@given(st.one_of(texts, commented), st.integers(1, 500), st.sampled_from([None, "#"]))
def test_records_do_not_depend_on_how_much_is_read_in_one_step(data, block_bytes, comment):
    text = (data + b"\n") * 50
    for one in (text, text + b'"'):
        assert outcome_of(one, block_bytes, comment) == outcome_of(one, 10**6, comment)


def outcome_of(data, block_bytes, comment):
    """Return positions and texts of all records, or the error."""
    try:
        blocks = list(records_of(data, block_bytes, comment=comment))
    except InputError as error:
        return str(error)
    assert blocks == [] or blocks[-1].end == len(data)
    texts = b"".join(records.text for records in blocks)
    offset = len(data) - len(texts)
    edges = [*(start for records in blocks for start in records.starts.tolist()), len(data)]
    return [(begin, texts[begin - offset : end - offset]) for begin, end in pairwise(edges)]


@given(st.one_of(texts, commented), blocks, st.sampled_from([None, "#"]))
def test_the_first_record_is_split_from_the_others(data, block_bytes, comment):
    for records in records_of(data.replace(b'"', b""), block_bytes, comment=comment):
        first, others = records.split()
        begin = len(records.text) - (records.end - int(records.starts[0]))
        assert first + others.text == records.text[begin:]
        assert others.starts.tolist() == records.starts[1:].tolist()
        assert len(others.text) == others.end - (others.starts[0] if len(others.starts) else others.end)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"1,2\n3,4\n", [0, 4]),
        (b"1,2\n3,4", [0, 4]),
        (b"1,2\r\n3,4\r\n", [0, 5]),
        (b"1,2\r3,4\r", [0, 4]),
        (b"\n\n1\n\n \n\t\n2\n\n", [2, 9]),
        (b'"a\nb"\nc\n', [0, 6]),
        (b'"a""\nb"\nc\n', [0, 8]),
        (b'5" pipe\n6" pipe\nx\n', [0, 8, 16]),
        (b'"a"b"\nc\n', [0, 6]),
        (b'x,"\n"\n,\n', [0, 6]),
        (b"", []),
        (b" \n\r\n", []),
    ],
)
@pytest.mark.parametrize("block_bytes", [1, 2, 3, 5, 100])
def test_records_start_at(data, expected, block_bytes):
    assert starts_of(data, block_bytes) == expected


def test_a_line_of_tabs_is_a_record_where_tabs_separate():
    assert starts_of(b"\t\t\na\tb\n", separator="\t") == [0, 3]


@pytest.mark.parametrize(
    ("line", "comment"), [(b'5" pipe,1\n', None), (b" 1,2\n", None), (b"# 1\n", "#"), (b'"a#"#\n', "#")]
)
def test_what_is_not_plain_holds_up_only_the_block_that_has_it(line, comment):
    record = b'"a#\n""b",1\n'
    data = record * 1000 + line + record * 1000
    found = list(records_of(data, 500, comment=comment))
    assert [line in records.text for records in found if not records.is_plain] in [[True], [True, False], [False, True]]
    assert sum(line in records.text for records in found) == 1
