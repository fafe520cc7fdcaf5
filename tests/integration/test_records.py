"""The records of text files are those that pandas and json find in the entire file, whatever is written in them."""

import gzip
import json
import tracemalloc
import warnings

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from airflow_prs.config.datasets import TabularDataset
from airflow_prs.errors import ConfigError, InputError
from airflow_prs.worker.reading.load_errors import LoadError
from tests.tables import cut, mini_batches, together

in_one_folder = settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])

DOUBLE_BYTE = {
    "shift_jis": "|\\",
    "cp932": "^",
    "shift_jis_2004": "`",
    "big5": "|",
    "big5hkscs": "_",
    "cp950": "~",
    "gbk": "|",
    "gb18030": "|1",
    "johab": ";",
    "cp949": "x",
    "euc_jp": "|~",
    "mac_arabic": "|",
}
"""Separators that are, for most, second bytes of characters, too."""


def letters_with(encoding, separator):
    """Find characters of which the separator is a byte, and those whose bytes are mere text."""
    found = []
    for char in map(chr, range(0xA0, 0xD7A4)):
        try:
            data = char.encode(encoding)
        except ValueError:
            continue
        if (separator.encode() in data and data != separator.encode()) or len(found) < 2:
            found.append(char)
    return found[:6]


def delimited(fields, separator):
    """Write a field as it is where that is possible, else in quotes."""
    return separator.join(
        '"' + field.replace('"', '""') + '"' if {separator, "\n"} & set(field) or field.startswith('"') else field
        for field in fields
    )


@pytest.mark.parametrize(
    ("encoding", "separator"), [(encoding, one) for encoding, separators in DOUBLE_BYTE.items() for one in separators]
)
def test_records_in_any_encoding_are_those_that_pandas_reads(tmp_path, encoding, separator):
    letters = letters_with(encoding, separator)
    field = st.lists(st.sampled_from([*letters, *letters, separator, '"', "\n", "a", "#"]), max_size=4).map("".join)

    @in_one_folder
    @given(st.lists(st.tuples(field, field), min_size=1, max_size=9), st.sampled_from([None, "#"]))
    def check(rows, comment):
        lines = [f"k{separator}{letters[0]}", *(delimited(row, separator) for row in rows)]
        path = tmp_path / "1.csv"
        path.write_bytes("\n".join(lines).encode(encoding))
        text = {"k": "str", letters[0]: "str"}
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)  # a first record that is too long is refused
                whole = pd.read_csv(
                    path, sep=separator, encoding=encoding, comment=comment, dtype="str", index_col=False
                )
        except (pd.errors.ParserError, pd.errors.ParserWarning):
            return
        dataset = TabularDataset.from_delimited_files(
            str(path), separator, encoding=encoding, comment=comment, dtypes=text
        )
        if len(whole) and list(whole.columns) == list(text):
            assert_frame_equal(together(dataset, tmp_path), whole)

    check()


def test_a_file_is_cut_in_a_double_byte_encoding_if_the_separator_is_no_second_byte(tmp_path):
    path = tmp_path / "1.csv"
    path.write_bytes("ポ,b\nポ,1\nソ,2\n".encode("cp932"))
    assert len(mini_batches(TabularDataset.from_delimited_files(str(path), encoding="cp932"), tmp_path, "1 rows")) == 2


odd_breaks = ["\n", "\n", "\r\n", "\r", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", " ", "\t", "\xa0", "\ufeff"]
objects = ['{"a": 1}', '{"a": 2, "b": "x\u2028y"}', '{"b": "\\u0085"}', '{"a": NaN}', '{"a": 1, "a": 3}', "[]", "{"]
odd_lines = st.lists(st.sampled_from([*odd_breaks, *objects, *objects]), max_size=12).map("".join)


def read_line(line):
    """Give the object of a line, "bad" where there is none, None where there is nothing."""
    try:
        text = line.decode().strip()
        found = json.loads(text) if text else None
    except ValueError:
        return "bad"
    return found if found is None or isinstance(found, dict) else "bad"


@settings(in_one_folder, max_examples=100)
@given(odd_lines, st.binary(max_size=2))
def test_a_line_of_json_ends_at_a_line_feed_and_nowhere_else(tmp_path, text, more):
    (tmp_path / "1.jsonl").write_bytes(b"{}\n" + text.encode() + b"\n" + more)
    lines = [read_line(line) for line in (text.encode() + b"\n" + more).split(b"\n")]
    expected = [(number, one) for number, one in enumerate(lines, 2) if one is not None]
    reader, pieces = cut(TabularDataset.from_json_lines_files(str(tmp_path / "1.jsonl")), tmp_path, "1 rows")
    assert [items for _, items, _ in pieces] == [1, *(1 for _ in expected)]
    for piece, (number, one) in zip(pieces[1:], expected, strict=True):
        if one == "bad":
            with pytest.raises(LoadError, match=rf"1\.jsonl: line {number} is no"):
                reader.load(*piece)
        else:
            (row,) = reader.load(*piece).to_dict("records")
            present = {name: value for name, value in one.items() if not pd.isna(value)}
            assert {name: value for name, value in row.items() if not pd.isna(value)} == present


BAD_LINES = {
    '{"k": "\\ud83d"}': r"holds '\\ud83d', which is half of a surrogate pair",
    '{"\\uDC00": 1}': r"holds '\\udc00', which is half of a surrogate pair",
    '{"k": ' + "[" * 100_000 + "]" * 100_000 + "}": "is nested too deeply to be read",
    '{"k": ' + "9" * 5000 + "}": "is not JSON that Python can read: Exceeds the limit",
    '{"k": "\udcff"}': "is not in the encoding 'utf-8': invalid start byte",
    '{"k": 1}\r{"k": 2}': "is not valid JSON: Extra data at character 10",
    '{"k": 1} \ufeff{"k": 2}': "is not valid JSON: Extra data at character 10",
}


@pytest.mark.parametrize("line", BAD_LINES)
@pytest.mark.parametrize("packed", [False, True])
def test_a_line_that_cannot_be_read_costs_its_mini_batch_alone(tmp_path, line, packed):
    content = ('{"k": 0}\n\n{"k": "x"}\n' + line + '\n{"k": null}\n').encode(errors="surrogateescape")
    path = tmp_path / "1.jsonl"
    path.write_bytes(gzip.compress(content) if packed else content)
    reader, pieces = cut(TabularDataset.from_json_lines_files(str(path)), tmp_path, "1 rows")
    assert [items for _, items, _ in pieces] == ([4] if packed else [1, 1, 1, 1])
    for number, piece in enumerate(pieces):
        if packed or number == 2:
            with pytest.raises(LoadError, match=rf"^[^:]*1\.jsonl: line 4 {BAD_LINES[line]}"):
                reader.load(*piece)
        else:
            assert len(reader.load(*piece)) == 1


def test_whole_characters_in_halves_are_text(tmp_path):
    (tmp_path / "1.jsonl").write_text('{"k": "\\ud83d\\ude00"}\n{"k": "\\\\ud83d"}\n')
    frame = together(TabularDataset.from_json_lines_files(str(tmp_path / "1.jsonl")), tmp_path)
    assert frame.k.tolist() == ["\U0001f600", "\\ud83d"]


def test_a_number_beside_text_and_missing_values_stays_a_number(tmp_path):
    (tmp_path / "1.jsonl").write_text('{"k": NaN}\n{"k": "x"}\n{"k": 1.5}\n')
    frame = together(TabularDataset.from_json_lines_files(str(tmp_path / "1.jsonl")), tmp_path, "1 rows")
    assert frame.k.tolist()[1:] == ["x", 1.5]


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b'a,b\n1,"x\n2,y\n', r"line 2 \(byte 6\)"),
        (b'a,b\r\n1,"x\r\n""y""\r\nz\r\n', r"line 2 \(byte 7\)"),
        (b'a,b\r1,x"\r"q",5" "\r2,"\r\r', r"line 4 \(byte 20\)"),
        (b'# "\na,b\n1,2 # "\n3,"#', r"line 4 \(byte 18\)"),
        (b'"', r"line 1 \(byte 0\)"),
        (gzip.compress(b'a,b\n1,2\n3,"x'), "line 3"),
        (b"\xef\xbb\xbf" + b'a,b\n1,"x', r"line 2 \(byte 9\)"),
        ('a,b\n"ポ",2\n1,"x'.encode("utf-16"), "line 3"),
    ],
)
def test_an_unclosed_quote_is_named_by_line_and_byte(tmp_path, content, place):
    (tmp_path / "1.csv").write_bytes(content)
    encoding = "utf-16" if content.startswith(b"\xff\xfe") else "utf-8"
    dataset = TabularDataset.from_delimited_files(str(tmp_path / "1.csv"), encoding=encoding, comment="#")
    with pytest.raises(InputError, match=rf"1\.csv' ends inside a quoted field: .* at {place}, is not closed"):
        cut(dataset, tmp_path)


def test_an_unclosed_quote_does_not_keep_the_rest_of_the_file_in_memory(tmp_path):
    with (tmp_path / "1.csv").open("wb") as file:
        file.write(b'a,b\n1,2\n3,"x\n')
        for _ in range(64):
            file.write(b"4,5\n" * 64 * 1024)
    dataset = TabularDataset.from_delimited_files(str(tmp_path / "1.csv"), max_record_size="2MB")
    problem = (
        r"1\.csv': the record that begins at line 3 \(byte 8\) is larger than max_record_size, which is '2MB'\. "
        r"It is inside a quoted field, opened at line 3 \(byte 10\): its closing quote may be missing\. "
    )
    (tmp_path / "2.csv").write_text("a\n1\n")
    cut(TabularDataset.from_delimited_files(str(tmp_path / "2.csv")), tmp_path)  # what is imported takes memory, too
    tracemalloc.start()
    with pytest.raises(InputError, match=problem):
        cut(dataset, tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12 * 1024 * 1024


@pytest.mark.parametrize("size", [12, 13])
@pytest.mark.parametrize("make", [TabularDataset.from_delimited_files, TabularDataset.from_json_lines_files])
def test_a_record_may_be_as_large_as_it_is_said_to_be(tmp_path, make, size):
    (tmp_path / "1").write_bytes(b'{"k":0}\n{"k":100000}\n{"k":0}\n\n\n')
    dataset = make(str(tmp_path / "1"), max_record_size=size)
    if size == 12:
        with pytest.raises(InputError, match=r"that begins at line 2 \(byte 8\) is larger than max_record_size"):
            cut(dataset, tmp_path)
    else:
        assert sum(items for _, items, _ in cut(dataset, tmp_path)[1]) > 1


def test_a_copy_is_not_written_of_a_record_that_is_too_large(tmp_path):
    (tmp_path / "1.csv").write_text("k,n\n1,2\n3," + "4" * 100 + "\n")
    dataset = TabularDataset.from_delimited_files(str(tmp_path / "1.csv"), max_record_size=50).partition_by(["k"])
    with pytest.raises(InputError, match=r"that begins at line 3 \(byte 8\) is larger than max_record_size, .* 50\. "):
        cut(dataset, tmp_path)


@pytest.mark.parametrize("size", [0, -1, True, 1.5, None, "", "5 rows", "64XB"])
def test_what_is_no_size_is_an_error_when_the_dag_is_parsed(size):
    for make in (TabularDataset.from_delimited_files, TabularDataset.from_json_lines_files):
        with pytest.raises(ConfigError, match=r"max_record_size is .*; allowed: an int of at least 1, in bytes"):
            make("a", max_record_size=size)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "gb18030"])
@pytest.mark.parametrize("size", ["1 rows", "9 rows"])
@pytest.mark.parametrize("content", ["id\n1\n\ufeff2\n3\n", "id\n\ufeff1\n2\n"])
def test_a_byte_order_mark_within_a_file_is_text_wherever_the_file_is_cut(tmp_path, content, size, encoding):
    (tmp_path / "1.csv").write_text(content, encoding)
    whole = pd.read_csv(tmp_path / "1.csv", encoding=encoding)
    dataset = TabularDataset.from_delimited_files(str(tmp_path / "1.csv"), encoding=encoding)
    assert_frame_equal(together(dataset, tmp_path, size), whole)
