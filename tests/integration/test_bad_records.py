"""A record that cannot be read is named by its line in the file, wherever the file is cut and whatever is before it."""

import gzip
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_prs.config.datasets import TabularDataset
from airflow_prs.errors import InputError
from airflow_prs.worker.reading.load_errors import LoadError
from tests.tables import cut, mini_batches

in_one_folder = settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])

FINE = ["1,x", '2,"a\nb"', '3,"a""\r\nb,\n\n#"', '"4",5" pipe', "5", "6,", '7,"c"#"', "8,é"]
SKIPPED = ["", '# said, " nothing, at all', " \t"]
BAD = {
    "1,2,3": "ParserError: Error tokenizing data. C error: Expected 2 fields, saw 3",
    '1,"a\n\nb",3': "ParserError: Error tokenizing data. C error: Expected 2 fields, saw 3",
    "y,x": "ValueError: 'y' in the column 'n' is not read as float64: ",
    '"y\nz","x\n"': r"ValueError: 'y\\nz' in the column 'n' is not read as float64: ",
}
FIRST = "ParserWarning: Length of header or names does not match length of data"
TOO_LONG = ("1,2,3", '1,"a\n\nb",3')


def lines_of(text):
    return len(re.findall("\r\n|\n|\r", text)) + 1


def error_of(dataset, folder, size):
    """Read all mini-batches; gives what is said about the only one that cannot be read."""
    reader, pieces = cut(dataset, folder, size)
    (message,) = filter(None, (error_with(reader, piece) for piece in pieces))
    return message


def error_with(reader, piece):
    try:
        reader.load(*piece)
    except LoadError as error:
        return str(error)
    return None


@in_one_folder
@given(
    header=st.sampled_from([True, False, "each"]),
    lines=st.lists(st.sampled_from([*FINE, *FINE, *SKIPPED]), max_size=12),
    at=st.integers(0, 12),
    bad=st.sampled_from(list(BAD)),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"]),
    pack=st.sampled_from([bytes, bytes, gzip.compress]),
    rows=st.integers(1, 5),
)
def test_the_line_is_the_one_where_the_bad_record_begins(
    tmp_path, *, header, lines, at, bad, end, encoding, pack, rows
):
    before = [*(['# about"', "", "n,t"] if header else ["9,z"]), *lines[:at]]
    path = tmp_path / "1.csv"
    path.write_bytes(pack(end.join([*before, bad, *lines[at:]]).encode(encoding)))
    dataset = TabularDataset.from_delimited_files(
        str(path), header=header, encoding=encoding, comment="#", dtypes={"n" if header else "0": "float64"}
    )
    place = f"line {lines_of(end.join([*before, '']))} cannot be read: "
    problem = error_of(dataset, tmp_path, f"{rows} rows").removeprefix(f"{path}: ")
    assert problem.startswith(place)
    assert len(re.findall(r"line \d+", problem)) == 1
    if header:
        with pytest.raises(InputError, match=rf"1\.csv': {place}"):
            mini_batches(dataset.partition_by(["t"]), tmp_path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("record", BAD)
def test_what_is_wrong_is_said_with_column_and_value(tmp_path, record, packed):
    for before in ("", "1,a\n" * 3000 + '2,"a\nb"\n'):
        content = f"n,t\n{before}{record}\n3,c\n".encode()
        path = tmp_path / "1.csv"
        path.write_bytes(gzip.compress(content) if packed else content)
        dataset = TabularDataset.from_delimited_files(str(path), dtypes={"n": "float64"})
        problem = FIRST if record in TOO_LONG and not before else BAD[record]
        place = rf"1\.csv: line {lines_of(before) + 1} cannot be read: "
        assert re.search(place + problem, error_of(dataset, tmp_path, "1000 rows"))


@pytest.mark.parametrize(
    ("dtype", "value", "problem"),
    [
        ("int64", "x", "ValueError: 'x' in the column 'n' is not read as int64: invalid literal"),
        ("int64", "", "ValueError: a missing value in the column 'n' is not read as int64: "),
        ("int64", "1.5", "ValueError: '1.5' in the column 'n' is not read as int64: "),
        ("Int64", "x", "ValueError: 'x' in the column 'n' is not read as Int64: (?!.* at position)"),
        ("bool", "maybe", "ValueError: 'maybe' in the column 'n' is not read as bool: "),
        ("datetime64[us]", "31/1/2026", r"ValueError: '31/1/2026' in the column 'n' is not read as datetime64\[us\];"),
    ],
)
@pytest.mark.parametrize("chosen", [None, ["n"]])
def test_a_value_that_a_type_cannot_hold_is_named(tmp_path, dtype, value, problem, chosen):
    good = {"bool": "True", "datetime64[us]": "2026-01-31"}.get(dtype, "1")
    (tmp_path / "1.csv").write_text(f"k,n\n1,{good}\n\n2,{good}\n3,{value}\n4,{good}\n")
    dataset = TabularDataset.from_delimited_files(str(tmp_path / "1.csv"), dtypes={"n": dtype}, columns=chosen)
    assert re.search(rf"1\.csv: line 5 cannot be read: .*{problem}", error_of(dataset, tmp_path, "3 rows"))


def test_a_value_that_stands_behind_what_a_first_record_leaves_empty_is_named(tmp_path):
    (tmp_path / "1.csv").write_text("a,b\n1,2,\n3,4,\n5,6,7\n8,9,\n")
    dataset = TabularDataset.from_delimited_files(str(tmp_path / "1.csv"))
    assert f"1.csv: line 4 cannot be read: {FIRST}" in error_of(dataset, tmp_path, "9 rows")


def test_a_file_without_text_for_its_encoding_is_named_by_line(tmp_path):
    (tmp_path / "1.csv").write_text("a\n1\n2\n")
    reader, [_, (pieces, items, _)] = cut(
        TabularDataset.from_delimited_files(str(tmp_path / "1.csv")), tmp_path, "1 rows"
    )
    (tmp_path / "1.csv").write_bytes(b"a\n1\n\xff\n")
    with pytest.raises(LoadError, match=r"1\.csv: line 3 is not in the encoding 'utf-8': invalid start byte"):
        reader.load(pieces, items)
