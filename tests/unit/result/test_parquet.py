"""Small Arrow streams that are read as one give the same rows in the same order."""

import io

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_prs.result.parquet import join_streams

TABLES = [
    pa.table({"a": [1, 2]}),
    pa.table({"a": [3]}),
    pa.table({"a": pa.array([], pa.int64())}),
    pa.table({"a": [None, "x"]}),
    pa.table({"a": [["x"], ["y"]]}, pa.schema([("a", pa.list_(pa.dictionary(pa.int8(), pa.string())))])),
    pa.table({"a": [["z"]]}, pa.schema([("a", pa.list_(pa.dictionary(pa.int8(), pa.string())))])),
]


def stream_of(table, *, is_ended, is_file):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(table)
    data = sink.getvalue() if is_ended else sink.getvalue()[:-8]
    return io.BytesIO(data) if is_file else data


def rows_of(streams):
    return [row["a"] for stream in streams for row in pa.ipc.open_stream(stream).read_all().to_pylist()]


streams = st.lists(
    st.tuples(st.sampled_from(TABLES), st.sampled_from([True, True, False]), st.sampled_from([False, False, True]))
)


@settings(deadline=None)
@given(streams)
def test_joined_streams_hold_the_rows_of_all(drawn):
    apart = [stream_of(table, is_ended=is_ended, is_file=is_file) for table, is_ended, is_file in drawn]
    assert rows_of(join_streams(apart)) == [row["a"] for table, _, _ in drawn for row in table.to_pylist()]


def test_streams_of_one_schema_become_one():
    apart = [stream_of(TABLES[0], is_ended=True, is_file=False)] * 3
    assert [len(pa.ipc.open_stream(stream).read_all()) for stream in join_streams(apart)] == [6]
