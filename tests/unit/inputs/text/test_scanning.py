"""Records are found where pandas finds them."""

import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.inputs.text.scanning import UnclosedQuoteError, scan_records

# Quotes, breaks and blanks meet in every way. No CR alone: after an empty line that ends with one, pandas loses a
# record that begins with a separator.
texts = (
    st.lists(st.sampled_from(['"', '"', ",", "\n", "\r\n", " ", "\t", "a"]), max_size=40).map("".join).map(str.encode)
)
commented = st.lists(st.sampled_from(['"', "#", ",", "\n", "\r\n", " ", "a"]), max_size=40).map("".join).map(str.encode)
blocks = st.integers(1, 70)


def starts_of(data, block_bytes=7, separator=",", comment=None):
    blocks = scan_records(io.BytesIO(data), ord(separator), comment=comment and ord(comment), block_bytes=block_bytes)
    found = [block.starts.positions() for block in blocks]
    return np.concatenate([np.array([], np.int64), *found]).tolist()


def rows_of(data, comment=None):
    """Read as worker processes do; pandas gives None where a quote is not closed."""
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


@settings(deadline=None)
@given(texts, blocks)
def test_as_many_records_are_counted_as_pandas_reads(data, block_bytes):
    rows = rows_of(data)
    if rows is None:
        with pytest.raises(UnclosedQuoteError):
            starts_of(data, block_bytes)
    else:
        assert len(starts_of(data, block_bytes)) == len(rows)


@settings(deadline=None)
@given(texts, blocks)
def test_reading_record_by_record_gives_what_reading_at_once_gives(data, block_bytes):
    rows = rows_of(data)
    if rows is None or not len(rows):
        return
    starts = starts_of(data, block_bytes)
    pieces = [rows_of(data[begin:end]) for begin, end in zip(starts, [*starts[1:], len(data)], strict=True)]
    assert np.concatenate(pieces).tolist() == rows.tolist()


@settings(deadline=None)
@given(texts, st.integers(100, 2000))
def test_records_do_not_depend_on_how_much_is_read_at_once(data, block_bytes):
    if rows_of(data) is None:
        return
    many = (data + b"\n") * 50
    assert starts_of(many, block_bytes) == starts_of(many, 7)


@settings(deadline=None)
@given(commented, blocks)
def test_comments_are_no_records_and_their_quotes_say_nothing(data, block_bytes):
    rows = rows_of(data, comment="#")
    if rows is None:
        with pytest.raises(UnclosedQuoteError):
            starts_of(data, block_bytes, comment="#")
    else:
        assert len(starts_of(data, block_bytes, comment="#")) == len(rows)


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


def test_an_odd_quote_holds_up_only_what_is_near_it():
    record = b'"a\nb",1\n'
    data = record * 40_000 + b'5" pipe,1\n' + record * 40_000
    found = list(scan_records(io.BytesIO(data), ord(","), block_bytes=len(data)))
    assert b"".join(block.text for block in found) == data
    assert [b"pipe" in block.text for block in found] == [not block.is_plain for block in found]
    assert starts_of(data, len(data)) == starts_of(data, 5000)
