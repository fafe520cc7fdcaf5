"""Arrow reads JSON lines only where it finds the values that Python finds."""

import json

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_prs.worker.reading import json_arrow
from airflow_prs.worker.reading.json_table import JsonTable
from airflow_prs.worker.reading.lines import LineError

DTYPES = {"f": "float64", "i": "int64", "u": "uint64", "b": "bool", "s": "str"}
NUMBERS = [
    "0",
    "-0",
    "-0.0",
    "1",
    "-1",
    "1.5",
    "1e2",
    "1E400",
    "NaN",
    "-NaN",
    "Infinity",
    "Inf",
    "01",
    "1.",
    "0.1",
    "4.35e-7",
]
LARGE = ["18446744073709551615", "9223372036854775808", "9007199254740993", "9" * 400, "9" * 4400]
TEXTS = [
    '"x"',
    '"1"',
    '""',
    '"é"',
    '"\\u00e9"',
    '"\\ud83d\\ude00"',
    '"\\ud83d"',
    '"\\udE00"',
    '"\\u0000"',
    '"\\/"',
    '"\\x"',
]
OTHERS = ["true", "false", "null", "[1]", "{}", '{"f": 1}', "[" * 2000 + "]" * 2000, '"\t"', '"\x7f"', '"\x00"', "x"]
VALUES = st.one_of(*map(st.sampled_from, (NUMBERS, LARGE, TEXTS, OTHERS)))
FITTING = {"f": NUMBERS[:7], "i": ["0", "-0", "-1"], "u": ["0", LARGE[0]], "b": ["true", "false"], "s": TEXTS[:6]}
FIELDS = st.one_of(
    *(st.tuples(st.just(name), st.sampled_from(values)) for name, values in FITTING.items()),
    st.tuples(st.sampled_from([*DTYPES, "\\u0066", "other"]), VALUES),
)
ENDS = st.sampled_from(["\n", "\n", "\n", "\r\n", "\n\n", "", "\r", " \n", "\n ", ",\n", "\0\n", "//\n", "\v\n"])


def line_of(fields):
    return "{" + ", ".join(f'"{name}": {value}' for name, value in fields) + "}"


LINES = st.lists(st.tuples(st.lists(FIELDS, max_size=3).map(line_of), ENDS), min_size=1, max_size=4)


def in_python(data, columns):
    """Return what Python finds; short data is never left to Arrow."""
    assert len(data) < json_arrow.SHORTEST
    return JsonTable({"columns": columns, "dtypes": {name: DTYPES[name] for name in columns}})(data, is_whole=False)


@settings(deadline=None)
@given(LINES, st.sampled_from(sorted(DTYPES)).map(lambda name: [name]) | st.just(list(DTYPES)))
@example([('{"f": 1}{"f": 2}', "\n"), ('{"f":', "\n"), ("3}", "\n")], ["f"])
@example([('{"f": -0}', "\n")], ["f"])
@example([('{"s": "\\ud83d"}', "\n")], ["s"])
@example([('{"f": 1, "f": 2}', "\n")], ["f"])
def test_arrow_finds_what_python_finds_or_leaves_it_to_python(lines, columns):
    data = "".join(line + end for line, end in lines).encode()
    found = json_arrow.read_table(data, columns, columns, DTYPES)
    if found is not None:
        pd.testing.assert_frame_equal(found, in_python(data, columns), check_exact=True)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_arrow_reads_lines_of_plain_values(end):
    rows = [{"f": n / 7, "i": -n, "u": 2**63 + n, "b": n % 2 == 0, "s": f"é{n}"} for n in range(100)]
    rows[3]["f"] = rows[4]["s"] = None
    del rows[5]["f"], rows[6]["s"]
    data = end.join(json.dumps(row, ensure_ascii=n % 2 == 0) for n, row in enumerate(rows)).encode()
    found = json_arrow.read_table(data, list(DTYPES), ["s", "f", "i"], DTYPES)
    pd.testing.assert_frame_equal(found, in_python(data, list(DTYPES))[["s", "f", "i"]], check_exact=True)


def test_text_that_is_not_utf_8_is_an_error_however_long_it_is():
    line = b'{"s": "' + b"x" * json_arrow.SHORTEST + b'\xff"}\n'
    with pytest.raises(LineError, match="line 2 is not in the encoding"):
        JsonTable({"columns": ["s"], "dtypes": DTYPES})(b'{"s": "a"}\n' + line, is_whole=False)


def test_long_lines_without_types_are_read_by_python():
    data = b'{"a": [1], "b": "' + b"x" * json_arrow.SHORTEST + b'"}\n'
    assert JsonTable({"columns": ["a", "b"], "dtypes": {"b": "str"}})(data, is_whole=False)["a"].tolist() == [[1]]
