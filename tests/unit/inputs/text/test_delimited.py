"""Delimited files, cut at their records."""

import bz2
import codecs
import gzip
import io
import lzma
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from airflow_prs.errors import ConfigError, InputError
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.sources import DelimitedSource, MiniBatchSize
from airflow_prs.inputs.text.delimited import cut_delimited_files


def zstd(content):
    return pa.compress(content, "zstd", asbytes=True)


@pytest.fixture
def cut(tmp_path):
    """Write files and cut them."""

    def write_and_cut(*contents, separator=",", encoding="utf-8", header=True, size=20, is_bytes=True):
        paths = []
        for number, content in enumerate(contents):
            path = tmp_path / f"{number}.csv"
            path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
            paths.append(str(path))
        source = DelimitedSource(name="rows", paths=(), separator=separator, encoding=encoding, header=header)
        listing, unit = Listing.of(paths), "bytes" if is_bytes else "rows"
        mini_batches, columns = cut_delimited_files(source, listing, MiniBatchSize(size, unit))
        return list(mini_batches.mini_batches(0)), columns.names

    return write_and_cut


def text_of(mini_batch):
    (piece,) = mini_batch.pieces
    return Path(piece.path).read_bytes()[piece.begin : piece.end]


def test_mini_batches_are_cut_at_records_and_the_header_is_in_none(cut):
    mini_batches, columns = cut('a,b\n1,"x\ny"\n2,"x""y"\n3,z\n', size=12)
    assert columns == ["a", "b"]
    assert [text_of(m) for m in mini_batches] == [b'1,"x\ny"\n', b'2,"x""y"\n', b"3,z\n"]
    assert [m.items for m in mini_batches] == [1, 1, 1]


def test_a_small_file_is_one_mini_batch_and_none_crosses_a_file(cut):
    mini_batches, _ = cut("a\n1\n2\n", "a\n3\n", size=1000)
    assert [text_of(m) for m in mini_batches] == [b"1\n2\n", b"3\n"]
    assert [(m.items, m.size_bytes) for m in mini_batches] == [(2, 4), (1, 2)]


def test_rows_can_be_asked_for(cut):
    mini_batches, _ = cut("a\n1\n\n2\n3\n4\n5", size=2, is_bytes=False)
    assert [text_of(m) for m in mini_batches] == [b"1\n\n2\n", b"3\n4\n", b"5"]


def test_without_a_header_all_records_are_rows_and_columns_are_numbered(cut):
    mini_batches, columns = cut("1,2\n3,4\n", header=False)
    assert list(columns) == [0, 1]
    assert [text_of(m) for m in mini_batches] == [b"1,2\n3,4\n"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("header", [True, False])
def test_a_byte_order_mark_belongs_to_nothing(cut, encoding, header):
    mini_batches, columns = cut(codecs.BOM_UTF8 + b"a\n1\n", encoding=encoding, header=header)
    assert list(columns) == (["a"] if header else [0])
    assert [text_of(m) for m in mini_batches] == [b"1\n" if header else b"a\n1\n"]


@pytest.mark.parametrize("content", ["", "\n\n", "a,b\n", "a,b"])
def test_a_file_without_rows_makes_no_mini_batch(cut, content):
    assert cut(content)[0] == []


def test_an_empty_file_among_others_has_no_columns_to_compare(cut):
    assert cut("a\n1\n", "", "a\n2\n")[1] == ["a"]


def test_columns_are_named_as_pandas_names_them(cut):
    content = 'a,a,,"b\nc",é\n1,2,3,4,5\n'
    assert cut(content, encoding="cp1252")[1] == list(pd.read_csv(io.StringIO(content)).columns)


def test_headers_may_be_quoted_in_another_way_but_other_columns_name_both_files(cut):
    assert cut("a,b\n1,2\n", '"a","b"\r\n1,2\r\n')[1] == ["a", "b"]
    with pytest.raises(InputError, match=r"1\.csv' has the columns \['b', 'a'\], but .*0\.csv' has \['a', 'b'\]"):
        cut("a,b\n1,2\n", "b,a\n1,2\n")


def test_an_unclosed_quote_names_the_file(cut):
    with pytest.raises(InputError, match=r"1\.csv' ends inside a quoted field"):
        cut("a\n1\n", 'a\n"1\n2\n')


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstd])
def test_a_packed_file_is_one_mini_batch(cut, compress):
    mini_batches, columns = cut(compress(codecs.BOM_UTF8 + b"a,b\n1,2\n3,4\n"), size=1)
    assert columns == ["a", "b"]
    assert [(m.items, m.size_bytes, m.pieces[0].begin) for m in mini_batches] == [(2, 8, None)]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-7", "cp037", "iso2022_jp"])
def test_a_file_in_an_encoding_unlike_ascii_is_one_mini_batch(cut, encoding):
    mini_batches, columns = cut("a,b\n1,2\n3,4\n", encoding=encoding, size=1)
    assert columns == ["a", "b"]
    assert [(m.items, m.pieces[0].begin) for m in mini_batches] == [(2, None)]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"PK\x03\x04....", "is compressed with zip, which is not supported: use gzip"),
        (gzip.compress(b"a\n1\n")[:-9], "is damaged"),
        ("a\n".encode("utf-16"), "set encoding='utf-16'"),
    ],
)
def test_what_cannot_be_read_is_named(cut, content, problem):
    with pytest.raises(InputError, match=rf"0\.csv' .*{problem}"):
        cut(content)


def test_a_separator_outside_ascii_is_refused(cut):
    with pytest.raises(ConfigError, match="separator of 'rows' is '§'"):
        cut("a\n1\n", separator="§")


def test_a_header_in_another_encoding_names_the_file(cut):
    with pytest.raises(InputError, match=r"header of .*0\.csv' cannot be read \(encoding 'utf-8'\)"):
        cut("é\n1\n".encode("latin-1"))


def test_a_file_that_is_gone_is_named(tmp_path):
    path = tmp_path / "gone.csv"
    path.write_text("a\n1\n")
    listing = Listing.of([str(path)])
    path.unlink()
    with pytest.raises(InputError, match=r"gone\.csv' cannot be read"):
        cut_delimited_files(DelimitedSource(name="rows", paths=()), listing, MiniBatchSize(10, "bytes"))
