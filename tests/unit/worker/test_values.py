"""Values that JSON has no word for."""

import json
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_prs.worker.values import decode, encode

zones = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))
values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.text(),
    st.floats(allow_nan=False),
    st.dates(),
    st.datetimes().map(lambda moment: moment.replace(fold=0)),
    st.datetimes(timezones=zones).map(lambda moment: moment.replace(fold=0)),
    st.decimals(allow_nan=False),
)


@given(st.recursive(values, st.lists))
def test_a_value_is_read_as_it_was_written(value):
    assert repr(decode(json.loads(json.dumps(encode(value))))) == repr(value)


def test_what_has_no_text_is_refused():
    with pytest.raises(TypeError, match="set is not text, a number, a date, a datetime or a Decimal"):
        encode([1, {2}])


def test_a_datetime_in_the_filter_of_an_older_run_folder_is_read():
    assert decode([["day", ">", {"datetime": "2026-01-31T00:00:00"}]]) == [["day", ">", datetime(2026, 1, 31)]]  # noqa: DTZ001
