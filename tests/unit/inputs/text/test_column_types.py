"""The types of columns do not depend on how much of a file is read at once."""

import io

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_prs.inputs.sources import DelimitedSource, MiniBatchSize
from airflow_prs.inputs.text.confirming import Kind, confirm
from airflow_prs.inputs.text.delimited import cut_delimited_files
from airflow_prs.worker.reading.dtypes import MISSING_OR_BOOL, WHOLE_OBJECTS
from tests.tables import as_read_in_one_piece

in_one_folder = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

ODD = ["0x1F", "0XA", "+7", " 7", "7 ", "\t7", "007", "-0", "1_0", "1,5", "x", "", " ", "NA", "-nan", "<NA>", ".5"]
ODD += ["NAN", "nan", "inf", "-Infinity", "1e999", "1e5", "1E+05", "1e", "-", "True", "TRUE", "tRUE", "True ", "1.0"]
ODD += [str(2**63 - 1), str(-(2**63)), "9" * 30 + ".5", "1.7976931348623157e308", "5e-324", "é", "a\nb", '"', "1."]

common = st.sampled_from(["1", "1.5", "True", "", "x"])


@st.composite
def columns(draw):
    """Draw a column of one sort, with a few others somewhere in it."""
    cells = [draw(common)] * 20
    other = st.sampled_from(["", "2", "-1", "2.5"]) | st.sampled_from(ODD)
    for place, word in draw(st.dictionaries(st.integers(0, 19), other, max_size=3)).items():
        cells[place] = word
    return cells


def types_of(path, block_bytes, header=True):
    source = DelimitedSource(name="t", paths=(), header=header)
    _, found = cut_delimited_files(source, [str(path)], MiniBatchSize(10, "rows"), block_bytes=block_bytes)
    return dict(found.dtypes)


def as_pandas_has_it(path):
    found = as_read_in_one_piece(path.read_bytes()).dtypes
    return {name: None if dtype.kind == "O" and dtype != "str" else str(dtype) for name, dtype in found.items()}


@in_one_folder
@given(st.lists(columns(), min_size=1, max_size=3), st.integers(1, 60))
def test_types_are_those_of_the_whole_file(tmp_path, cells, block_bytes):
    path = tmp_path / "t.csv"
    frame = pd.DataFrame({"row": range(20), **{f"c{number}": column for number, column in enumerate(cells)}})
    frame.to_csv(path, index=False)
    found = types_of(path, block_bytes)
    unnamed = {MISSING_OR_BOOL, WHOLE_OBJECTS}
    assert {name: None if kind in unnamed else kind for name, kind in found.items()} == as_pandas_has_it(path)


WORDS = {Kind.WHOLE: "1", Kind.FLOAT: "1.5", Kind.BOOL: "True", Kind.MISSING: ""}
KINDS = {"int64": Kind.WHOLE, "float64": Kind.FLOAT, "bool": Kind.BOOL}


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("word", ODD)
@pytest.mark.parametrize("other", ["y", "0x"])
def test_what_is_confirmed_is_what_pandas_finds(kind, word, other):
    usual = WORDS[kind]
    written = pd.DataFrame({"a": [usual, word, usual], "b": other}).to_csv(index=False, header=False)
    confirmed = confirm(written.encode(), ",", ["a", "b"], {"a": kind})
    if not confirmed:
        return
    found = pd.read_csv(io.StringIO(written), header=None)[0]
    assert confirmed["a"].has_missing == found.hasnans
    if kind is Kind.MISSING:
        assert found.isna().all()
    elif kind is Kind.WHOLE:
        assert (found.dropna() % 1 == 0).all()
    elif not found.hasnans:
        assert KINDS[str(found.dtype)] is kind
