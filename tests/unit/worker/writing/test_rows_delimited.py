"""What is written as CSV is read back, by pandas and by csv, however it was cut into mini-batches."""

import csv
import datetime as dt
import io
import json
import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.run_folder.layout import Layout
from airflow_prs.store.memory import MemoryStore
from airflow_prs.worker.writing import rows_arrow
from airflow_prs.worker.writing.formats import make_writer
from airflow_prs.worker.writing.rows import TEXT, write_as_pandas, write_frame

TEXTS = st.text(st.sampled_from("ab \",;\t|\r\n'ä\U0001f600"), max_size=5)
MOMENTS = st.datetimes(pd.Timestamp(1700, 1, 1), pd.Timestamp(2200, 1, 1)).flatmap(
    lambda moment: st.sampled_from([moment, dt.datetime.combine(moment, dt.time()), moment.replace(microsecond=0)])
)
COLUMNS = {
    "text": TEXTS,
    "moment": MOMENTS | st.none(),
    "float": st.floats(allow_nan=False, allow_infinity=False),
    "whole": st.integers(-(2**63), 2**63 - 1),
    "duration": st.timedeltas(dt.timedelta(-1000), dt.timedelta(1000)) | st.sampled_from([dt.timedelta(1)]),
}


def frame_of(records):
    columns = {name: [record[place] for record in records] for place, name in enumerate(COLUMNS)}
    frame = pd.DataFrame(columns).astype({"float": "float64", "whole": "int64", "text": "object"})
    return frame.assign(moment=pd.to_datetime(frame["moment"]), duration=pd.to_timedelta(frame["duration"]))


def text_of(frame, sep=" ", **options):
    parts = []
    write_frame(frame, lambda data: parts.append(bytes(data)), {**TEXT, "sep": sep, **options})
    return b"".join(parts).decode()


@given(
    st.lists(st.lists(st.tuples(*COLUMNS.values()), min_size=1, max_size=3), min_size=1, max_size=3),
    st.sampled_from(",; \t|"),
)
@settings(max_examples=60, deadline=None)
@pytest.mark.filterwarnings("ignore:The .float_precision. argument is deprecated")
def test_a_result_is_read_back_as_it_was(batches, sep):
    text = "".join(text_of(frame_of(records), sep) for records in batches)
    whole = frame_of([record for records in batches for record in records])
    read = pd.read_csv(
        io.StringIO(text, newline=""),
        sep=sep,
        names=list(COLUMNS),
        keep_default_na=False,
        na_values={"moment": [""]},
        parse_dates=["moment"],
        dtype={"text": object},
        float_precision="round_trip",
        lineterminator=None,
    )
    assert read["text"].tolist() == whole["text"].tolist()
    assert read["float"].tolist() == whole["float"].tolist()
    assert read["whole"].tolist() == whole["whole"].tolist()
    assert pd.to_timedelta(read["duration"]).tolist() == whole["duration"].tolist()
    moments = whole["moment"].dropna().tolist()
    assert pd.to_datetime(read["moment"]).dropna().tolist() == moments
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=sep))
    assert [line[0] for line in lines] == whole["text"].tolist()
    assert [dt.datetime.fromisoformat(line[1]) for line in lines if line[1]] == moments


@given(st.lists(TEXTS | st.none(), min_size=1, max_size=5), st.sampled_from(rows_arrow.SEPARATORS))
@settings(max_examples=60, deadline=None)
def test_both_writers_quote_alike(texts, sep):
    frame = pd.DataFrame({"a": pd.Series(texts, dtype=object), "b": range(len(texts))})
    parts = []
    write_as_pandas(frame, lambda data: parts.append(bytes(data)), {**TEXT, "sep": sep})
    assert text_of(frame, sep) == b"".join(parts).decode()
    lines = list(csv.reader(io.StringIO(text_of(frame, sep), newline=""), delimiter=sep))
    assert [line[0] for line in lines] == [text or "" for text in texts]


MIDNIGHT, NOON = pd.Timestamp("2026-01-01"), pd.Timestamp("2026-01-01 12:00:00.5")


@pytest.mark.parametrize(
    "column_of",
    [
        lambda moment: pd.Series([moment]),
        lambda moment: pd.Series([moment]).dt.tz_localize("UTC"),
        lambda moment: pd.Series([moment]).astype("category"),
        lambda moment: pd.Series([moment.to_pydatetime(), None], dtype=object),
        lambda moment: pd.Series([moment]).astype("datetime64[ms]"),
        lambda moment: pd.Series([moment]).astype("timestamp[us][pyarrow]"),
    ],
    ids=["naive", "aware", "category", "object", "ms", "arrow"],
)
def test_moments_have_one_format_whatever_is_beside_them(column_of):
    shapes = {
        re.sub(r"\d", "0", text_of(column_of(moment).to_frame(), ",").split("\n")[0]) for moment in (MIDNIGHT, NOON)
    }
    assert len(shapes) == 1
    assert shapes.pop().removesuffix("+00:00") == "0000-00-00 00:00:00.000000"


def test_nanoseconds_are_kept():
    moments = pd.Series([pd.Timestamp("2026-01-01"), pd.Timestamp(1), None]).astype("datetime64[ns]")
    assert text_of(moments.to_frame(), ",") == '2026-01-01 00:00:00.000000\n1970-01-01 00:00:00.000000001\n""\n'
    assert (
        pd.read_csv(io.StringIO("t\n" + text_of(moments.to_frame(), ",")), parse_dates=["t"])["t"].dropna().tolist()
        == moments.dropna().tolist()
    )


def test_an_index_and_what_is_missing_are_written_as_the_settings_say():
    frame = pd.DataFrame({"t": [NOON, None]}, index=pd.DatetimeIndex([MIDNIGHT, NOON], name="when"))
    wanted = "2026-01-01 00:00:00.000000,2026-01-01 12:00:00.500000\n2026-01-01 12:00:00.500000,-\n"
    assert text_of(frame, ",", index=True, na_rep="-") == wanted
    assert text_of(frame, ",", index=True, date_format="%Y") == "2026,2026\n2026,\n"
    levels = frame.set_index("t", append=True).assign(n=1)
    assert text_of(levels, ",", index=True).startswith("2026-01-01 00:00:00.000000,2026-01-01 12:00:00.500000,1\n")


def test_the_name_of_a_column_with_a_carriage_return_is_quoted():
    layout = Layout(MemoryStore())
    writer = make_writer({"format": "csv", "to_csv": None}, layout.propose)
    writer(pd.DataFrame({"a\rb": [np.float32(0.5)], "c": ["x\ry"]}), lambda data: None)
    assert json.loads(layout.newest().content)["header"] == '"a\rb",c\n'


@pytest.mark.parametrize("sep", [",", " "])
def test_columns_of_arrows_types_are_written(sep):
    moment = dt.datetime.fromisoformat("2026-01-31")
    columns = {
        "n": pd.array([1, None], "int64[pyarrow]"),
        "t": pd.array(["a\rb", None], pd.ArrowDtype(pa.string())),
        "d": pd.array([moment.date(), None], pd.ArrowDtype(pa.date32())),
        "m": pd.array([moment, None], pd.ArrowDtype(pa.timestamp("us"))),
    }
    text = text_of(pd.DataFrame(columns), sep)
    moments = '"2026-01-31 00:00:00.000000"' if sep == " " else "2026-01-31 00:00:00.000000"
    assert text == f"{sep.join(['1', QUOTED, '2026-01-31', moments])}\n{sep * 3}\n"


QUOTED = '"a\rb"'
