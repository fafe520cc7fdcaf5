"""The types of columns do not depend on how much of a file is read at once."""

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.sources import DelimitedSource, MiniBatchSize
from airflow_prs.inputs.text.delimited import cut_delimited_files
from airflow_prs.inputs.text.seen import MISSING_WORDS, Seen, look_at
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
    return types_of_files([path], block_bytes, header=header)


def types_of_files(paths, block_bytes, **options):
    source = DelimitedSource(name="t", paths=(), **options)
    size = MiniBatchSize(10, "rows")
    return dict(cut_delimited_files(source, Listing.of(map(str, paths)), size, block_bytes=block_bytes)[1].dtypes)


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


KNOWN = {
    "1": Seen(extent=(1, 1)),
    "1.5": Seen(has_floats=True),
    "True": Seen(has_truth=True),
    "": Seen(has_missing=True),
    str(2**63): Seen(extent=(2**63, 2**63)),
}


@pytest.mark.parametrize("word", [*ODD, "\v7", "7\f", "+-7", "1.5.", "infin", "1.e5", "0x", "00x1", "\u0661", "1\xa0"])
@pytest.mark.parametrize("usual", KNOWN)
def test_the_words_of_a_column_are_read_by_the_grammar_of_pandas(usual, word):
    if usual == str(2**63) and word in {"-0", "-Infinity"}:
        return  # text for pandas, where nothing with a sign can follow; here they are numbers
    written = pd.DataFrame({"a": [usual, word, usual], "b": 0}).to_csv(index=False, header=False)
    found = as_read_in_one_piece(written.encode(), header=None)[0]
    missing = [None if one in MISSING_WORDS else one for one in (usual, word, usual)]
    words = pa.chunked_array([missing], pa.string())
    for known in (KNOWN[usual], Seen()):
        kind = known.followed_by(look_at(words, known)).dtype
        assert found.dtype == (object if kind in {MISSING_OR_BOOL, WHOLE_OBJECTS} else kind)


def test_an_order_of_rows_that_pandas_minds(tmp_path):
    for number, words in enumerate((["1.5", str(2**64)], [str(2**64), "1.5"], [str(2**63), "1.5"], ["1" * 5000, "1"])):
        path = tmp_path / f"{number}.csv"
        path.write_text("\n".join(["a", *words, *words]))
        whole = pd.read_csv(path)
        assert {types_of(path, block_bytes)["a"] for block_bytes in (4, 30, 500)} == {str(whole["a"].dtype)}


def test_a_column_that_earlier_rows_lack_has_missing_values_there_also_if_nothing_else_was_looked_at(tmp_path):
    (tmp_path / "1.csv").write_text("a\n1\n")
    (tmp_path / "2.csv").write_text("a,b\n2,3\n")
    found = types_of_files([tmp_path / "1.csv", tmp_path / "2.csv"], 99, header="each", dtypes={"a": "str"})
    assert found == {"a": "str", "b": "float64"}


def test_a_file_without_rows_leaves_the_columns_that_it_lacks_as_they_are(tmp_path):
    (tmp_path / "1.csv").write_text("a,b\nx,1\n")
    (tmp_path / "2.csv").write_text("a\n\n\n")
    found = types_of_files([tmp_path / "1.csv", tmp_path / "2.csv"], 99, header="each")
    assert found == {"a": "str", "b": "int64"}
