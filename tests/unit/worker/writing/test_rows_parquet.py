"""Rows as Arrow streams of one schema, as worker processes write them for a Parquet file."""

import datetime as dt
import io
from decimal import Context, Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.run_folder.layout import Layout
from airflow_prs.store.memory import MemoryStore
from airflow_prs.worker.writing import layout as known_layout
from airflow_prs.worker.writing import widening
from airflow_prs.worker.writing.rows import BadResultError
from airflow_prs.worker.writing.rows_parquet import ParquetRows


class Written:
    """Writes elements as worker processes of one run do, and reads them back."""

    def __init__(self):
        self._layout = Layout(MemoryStore())
        self._processes = {}

    def __call__(self, elements, process=None):
        """Write with the process of a number; None: with a new one, which knows nothing."""
        parts = []
        self._process(process)(elements, lambda data: parts.append(bytes(data)))
        return pa.ipc.open_stream(b"".join(parts)).read_all()

    def empty(self, elements):
        self._process(None)(elements, pytest.fail)

    def schema(self):
        return pa.ipc.read_schema(pa.py_buffer(self._layout.newest().content))

    def _process(self, number):
        new = ParquetRows(known_layout.Layout(self._layout.propose))
        return new if number is None else self._processes.setdefault(number, new)


def merged(table, schema):
    """Put a table into the schema of all, and through Parquet."""
    stored = pa.schema([(field.name, widening.storable(field.type)) for field in schema])
    columns = [
        pa.chunked_array([widening.cast(chunk, field.type) for chunk in column.chunks], field.type)
        for column, field in zip(table.columns, stored, strict=True)
    ]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(columns, schema=stored), file)
    return pq.read_table(file)


@pytest.fixture
def written():
    return Written()


def frame(*values, dtype=None):
    return pd.DataFrame({"x": pd.Series(values, dtype=dtype)})


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((1, 2), (3.0, None)),
        ((0.5,), (2**53,)),
        (("a",), (None,)),
        ((Decimal("1.50"),), (Decimal("2.5"),)),
        ((pd.Timestamp("2024-01-01 10:00"),), (dt.date(2024, 1, 2),)),
        (([0.5],), ([1],)),
        (([],), (["a"],)),
    ],
)
def test_what_can_be_cast_without_loss_is(written, first, second):
    written(frame(*first))
    column = written(frame(*second)).column("x")
    wanted = [None if pd.isna(value) is True else value for value in second]
    got = [value.date() if isinstance(value, dt.datetime) else value for value in column.to_pylist()]
    assert got == wanted


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((1,), (0.5,)),
        ((0.5,), (2**53 + 1,)),
        ((1,), ("1",)),
        (("1",), (1,)),
        ((True,), (1,)),
        ((pd.Timestamp("2024-01-01"),), (pd.Timestamp("2024-01-01", tz="UTC"),)),
        (([1],), ([0.5],)),
    ],
)
def test_what_would_lose_something_fails_with_the_column_named(written, first, second):
    written(frame(*first))
    with pytest.raises(BadResultError, match=r"column 'x' of what run\(\) returned is of type .*, and cannot be cast"):
        written(frame(*second))


def test_a_double_is_not_made_a_float(written):
    written(frame(0.5, dtype="float32"))
    with pytest.raises(BadResultError, match="cannot be cast without loss to float"):
        written(frame(0.1))


def test_a_column_without_values_gets_its_type_from_the_first_that_has_some(written):
    assert written([{"x": None}]).schema.field("x").type == pa.null()
    assert written([{"x": "a"}]).column("x").to_pylist() == ["a"]
    assert written([{"x": None}]).schema.field("x").type == pa.string()


def test_categories_are_kept_as_what_they_stand_for(written):
    assert written(frame("a", "b", dtype="category")).column("x").to_pylist() == ["a", "b"]


def test_mixed_objects_are_refused_with_the_column_named(written):
    with pytest.raises(BadResultError, match="column x"):
        written(frame(1, "a", dtype=object))


def test_periods_are_refused_with_the_column_named(written):
    with pytest.raises(BadResultError, match=r"column 'x' .*holds periods.*astype\(str\)"):
        written(pd.DataFrame({"x": pd.period_range("2026-01", periods=2, freq="D")}))


def test_a_number_without_a_type_is_named_with_its_column(written):
    with pytest.raises(BadResultError, match=f"column 'x' holds {2**64 - 1}, which needs a type such as 'UInt64'"):
        written(frame(1, 2**64 - 1, None, dtype=object))
    assert written(frame(1, 2**64 - 1, None, dtype="UInt64")).column("x").to_pylist() == [1, 2**64 - 1, None]


def test_other_columns_are_refused(written):
    written(frame(1))
    with pytest.raises(BadResultError, match="without the column 'x' and with the column 'y'"):
        written(pd.DataFrame({"y": [1]}))


def test_no_rows_are_no_bytes():
    parts, layout = [], Layout(MemoryStore())
    writer = ParquetRows(known_layout.Layout(layout.propose))
    writer([], parts.append)
    writer(pd.DataFrame(), parts.append)
    assert layout.newest().number == -1
    writer(frame(), parts.append)
    assert parts == []


def test_columns_of_no_rows_hold_until_there_are_rows(written):
    written.empty(pd.DataFrame({"y": pd.Series([], dtype="int64")}))
    assert written.schema() == pa.schema([("y", pa.int64())])
    written(frame("a"))
    written.empty(pd.DataFrame({"z": []}))
    assert written.schema().names == ["x"]


DECIMALS = st.lists(
    st.lists(
        st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**20), max_value=10**20, places=None).map(
            lambda value: value.quantize(
                Decimal(1).scaleb(max(-15, value.as_tuple().exponent)), context=Context(prec=60)
            )
        )
        | st.none(),
        min_size=1,
        max_size=3,
    ),
    min_size=1,
    max_size=4,
)


@given(DECIMALS)
@settings(max_examples=40, deadline=None)
def test_decimals_get_as_many_digits_as_those_of_all_need(batches):
    written = Written()
    tables = [written([{"x": value} for value in batch]) for batch in batches]
    schema = written.schema()
    values = [value for batch in batches for value in batch]
    assert schema.field("x").type == pa.array(values).type
    assert [value for table in tables for value in merged(table, schema).column("x").to_pylist()] == values


STRUCTS = st.recursive(
    st.none() | st.integers(-5, 5) | st.lists(st.none() | st.integers(-5, 5), max_size=2),
    lambda leaf: st.dictionaries(st.sampled_from("abc"), leaf, max_size=3),
    max_leaves=6,
)


def filled(value, kind):
    """What Arrow gives back of a value: a field that it lacks is None."""
    if value is None:
        return None
    if pa.types.is_struct(kind):
        fields = [kind.field(place) for place in range(kind.num_fields)]
        return {field.name: filled(value.get(field.name), field.type) for field in fields}
    return [filled(one, kind.value_type) for one in value] if pa.types.is_list(kind) else value


@given(
    st.lists(
        st.lists(st.dictionaries(st.sampled_from("abc"), STRUCTS, max_size=3) | st.none(), min_size=1, max_size=2),
        min_size=1,
        max_size=4,
    )
)
@settings(max_examples=80, deadline=None)
def test_fields_that_are_missing_at_first_are_added(batches):
    values = [value for batch in batches for value in batch]
    try:
        whole = pa.array(values).type
    except pa.ArrowException:
        return  # numbers and objects in one place
    written = Written()
    tables = [written([{"x": value} for value in batch]) for batch in batches]
    schema = written.schema()
    read = [value for table in tables for value in merged(table, schema).column("x").to_pylist()]
    stored = widening.storable(schema.field("x").type)
    assert read == [filled(value, stored) for value in values]
    assert {*leaves(schema.field("x").type)} == {*leaves(whole)}


def leaves(kind, path=()):
    """Name the places in a type, with what is there."""
    if pa.types.is_struct(kind):
        yield path, "struct"
        for place in range(kind.num_fields):
            yield from leaves(kind.field(place).type, (*path, kind.field(place).name))
    elif pa.types.is_list(kind):
        yield from leaves(kind.value_type, (*path, "item"))
    else:
        yield path, str(kind)


def test_a_field_of_another_type_fails_with_the_column_named(written):
    written([{"x": {"a": 1}}])
    with pytest.raises(BadResultError, match=r"column 'x' of what run\(\) returned is of type struct<a: string>"):
        written([{"x": {"a": "b"}}])


def test_decimals_with_more_digits_than_there_can_be_fail(written):
    written([{"x": Decimal("1e75")}])
    with pytest.raises(BadResultError, match=r"column 'x' .* cannot be cast without loss to decimal256"):
        written([{"x": Decimal("0.001")}])


def test_nan_in_a_list_is_no_loss(written):
    written([{"x": [0.5]}])
    (values,) = written([{"x": [np.float32("nan"), np.float32(0.5)]}]).column("x").to_pylist()
    assert str(values) == "[nan, 0.5]"


@pytest.mark.parametrize("make", [pa.table, pa.record_batch], ids=["table", "batch"])
def test_an_arrow_table_keeps_its_types(written, make):
    table = pa.table({"x": pa.array([1, None], pa.int32())})
    assert written(make({"x": table["x"].combine_chunks()})).schema == table.schema


def not_none(value):
    """A value without the fields that are None, which others may have added."""
    if isinstance(value, dict):
        return {name: not_none(part) for name, part in value.items() if part is not None} or None
    return [not_none(part) for part in value] if isinstance(value, list) else value


ODD_TYPES = [
    pa.array([None]),
    pa.array([1]),
    pa.array([0.5]),
    pa.array([0.5], pa.float32()),
    pa.array(["a"]),
    pa.array([Decimal("1e73")]),
    pa.array([Decimal("0.1")]),
    pa.array([Decimal("0.1")], pa.decimal256(76, 5)),
    pa.array([Decimal("1.00")], pa.decimal256(76, 5)),
    pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
    pa.array([[]]),
    pa.array([[None, 1]]),
    pa.array([{"a": None}]),
    pa.array([{"a": 1, "b": []}]),
    pa.array([{"a": "x"}]),
]


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(ODD_TYPES)), max_size=8))
@settings(max_examples=200, deadline=None)
def test_a_process_that_has_missed_revisions_writes_and_refuses_what_one_that_knows_them_does(batches):
    written, fresh, tables = Written(), Written(), []
    for process, values in batches:
        table = pa.table({"x": values})
        try:
            fresh(table)
        except BadResultError:
            with pytest.raises(BadResultError):
                written(table, process)
        else:
            tables.append((values, written(table, process)))
    for values, table in tables:
        assert not_none(merged(table, written.schema()).column("x").to_pylist()) == not_none(values.to_pylist())
    if tables:
        assert written.schema() == fresh.schema()


def test_a_process_asks_only_if_rows_do_not_fit():
    asked, layout = [], Layout(MemoryStore())

    def ask(number, content):
        asked.append((number, bool(content)))
        return layout.propose(number, content)

    writer = ParquetRows(known_layout.Layout(ask))
    for value in (None, 1, 2, None):
        writer([{"x": value}], lambda data: None)
    with pytest.raises(BadResultError):
        writer([{"x": "a"}], lambda data: None)
    assert asked == [(0, True), (1, True), (2, False)]
