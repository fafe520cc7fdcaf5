"""Read the rows of a table block by block, as Arrow tables with the values that worker processes would read."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import Any

from airflow_prs.errors import InputError, StorageError
from airflow_prs.inputs.columnar.gathering import cast
from airflow_prs.inputs.columns import Table
from airflow_prs.inputs.files.listing import Listing
from airflow_prs.inputs.files.opening import InputFile
from airflow_prs.inputs.sources import DelimitedSource, JsonLinesSource, ParquetSource
from airflow_prs.inputs.text import json_lines
from airflow_prs.inputs.text.opening import OpenText, open_text
from airflow_prs.inputs.text.records import complete_lines, complete_records, line_at, marks_of
from airflow_prs.worker.reading import alike
from airflow_prs.worker.reading.arrow_files import ArrowFile
from airflow_prs.worker.reading.key_columns import KeyColumns
from airflow_prs.worker.reading.lines import LineError, breaks_in, line_feeds_in
from airflow_prs.worker.reading.row_filter import expression_of
from airflow_prs.worker.reading.text_pieces import DelimitedPieces, JsonLinesPieces
from airflow_prs.worker.values import encode
from airflow_prs.worker.writing.columns import describe_too_large

BLOCK_ROWS = 64 * 1024


def read_tables(table: Table, listing: Listing) -> Iterator[Any]:
    """
    Yield the rows of files in their order, some at a time, in bounded memory.

    :raises InputError: if a file cannot be read, or values of a column have no type in common.
    """
    import pyarrow as pa

    key_columns = None if table.path_keys is None else KeyColumns(dict(table.path_keys))
    if table.schema is not None:
        yield from _arrow_tables(table, listing, key_columns)
        return
    with closing(listing.files()) as files:
        for file in files:
            path = file.path
            for frame in _frames(table, file):
                rows = frame if key_columns is None else key_columns.add(frame, [path], [len(frame)])
                try:
                    made = pa.Table.from_pandas(rows, preserve_index=False)
                    yield cast(made, without_categories(made.schema), partial(without_type, path))
                except (pa.ArrowException, TypeError, OverflowError) as error:
                    more = describe_too_large(rows) if isinstance(error, OverflowError) else ""
                    raise without_type(path, f"{error}{more}.") from error


def without_type(place: str, error: object) -> InputError:
    """Return the error that the values of a column have no type in common."""
    return InputError(
        f"{place!r} cannot be partitioned, as one of its columns has values without a type in common: {error} "
        "Set the type of the column with dtypes, or leave it out with columns."
    )


def _frames(table: Table, file: InputFile) -> Iterator[Any]:
    """Yield the rows of a text file, which may be compressed or in any encoding, a block at a time."""
    source = table.source
    if isinstance(source, JsonLinesSource):
        with open_text(file, source.encoding, json_lines.MARKS) as text:
            reader = JsonLinesPieces({**table.options(), "encoding": text.encoding})
            texts = complete_lines(text, max_record_size=source.max_record_size)
            yield from _checked(text, texts, reader.frame_of, line_feeds_in)
    elif isinstance(source, DelimitedSource):
        with open_text(file, source.encoding, marks_of(source.separator, source.comment)) as text:
            options = {**table.options(), "encoding": text.encoding}
            yield from _checked(text, *_delimited(source, text, options), breaks_in)


def _delimited(
    source: DelimitedSource, text: OpenText, options: dict[str, Any]
) -> tuple[Iterator[tuple[bytes, int]], Callable[[bytes], Any]]:
    """Return the texts of a delimited file without its header, each with the position of its end; and their reader."""
    reader = DelimitedPieces(options)
    blocks = complete_records(text, source.separator, comment=source.comment, max_record_size=source.max_record_size)
    names = options["columns"]

    def without_header() -> Iterator[tuple[bytes, int]]:
        nonlocal names
        for number, records in enumerate(blocks):
            rows = records
            if number == 0 and source.header:
                header, rows = records.split()
                if source.header == "each":
                    names = reader.names_in(io.BytesIO(header))
            yield rows.text, rows.end

    return without_header(), lambda data: reader.records_in(io.BytesIO(data), names, is_whole=False)


def _checked(
    text: OpenText,
    texts: Iterable[tuple[bytes, int]],
    read: Callable[[bytes], Any],
    count: Callable[[bytes, bytes], int],
) -> Iterator[Any]:
    """Yield the frames of texts; raise InputError for an invalid record, since no partition can be found for it."""
    for data, end in texts:
        try:
            frame = read(data) if data.strip(b"\r\n") else None
        except LineError as error:
            line = line_at(text, end - len(data), count) + error.number - 1
            raise InputError(f"{text.path!r}: line {line} {error.problem}") from error
        except Exception as error:  # pandas raises whatever its parsers find
            message = " ".join(str(error).split())
            place = f"{text.path!r}, bytes {end - len(data)} to {end}"
            raise InputError(f"{place}, cannot be read: {type(error).__name__}: {message}") from error
        if frame is not None:
            yield frame


def _arrow_tables(table: Table, listing: Listing, key_columns: KeyColumns | None) -> Iterator[Any]:
    """Yield the rows of Parquet and Arrow files without converting them to pandas, which would lose types."""
    import pyarrow as pa

    source = table.source
    opened, conditions = _open_arrow, None
    if isinstance(source, ParquetSource):
        opened, conditions = _open_parquet, encode(source.filter)
    for path in listing.paths:
        with _reading(path), opened(listing, path) as batches:
            offset = 0
            for batch in batches:
                rows = alike.without_views(pa.Table.from_batches([batch]))
                rows = _wanted(rows, table.schema, offset, conditions)
                offset += len(batch)
                for begin in range(0, len(rows), BLOCK_ROWS):
                    part = rows.slice(begin, BLOCK_ROWS)
                    yield part if key_columns is None else _with_keys(part, path, key_columns)


def _wanted(table: Any, schema: Any, offset: int, conditions: list[Any] | None) -> Any:
    for name in schema.names:
        if name not in table.schema.names:
            table = alike.with_counted_index(table, name, offset)
    if conditions is not None:
        table = table.filter(expression_of(conditions, table.schema))
    table = alike.like(table, schema, {})
    return cast(table, without_categories(table.schema), partial(without_type, ""))


@contextmanager
def _reading(path: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except StorageError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path!r} cannot be read: {error}") from error


@contextmanager
def _open_parquet(listing: Listing, path: str) -> Iterator[Iterator[Any]]:
    import pyarrow.parquet as pq

    # An open file and not a path, which pyarrow could take for a URI.
    with listing.open(path) as stream, pq.ParquetFile(stream) as file:
        yield file.iter_batches(BLOCK_ROWS)


@contextmanager
def _open_arrow(listing: Listing, path: str) -> Iterator[Iterator[Any]]:
    with closing(ArrowFile(listing.source(path))) as file:
        yield file.batches()


def without_categories(schema: Any) -> Any:
    """Return a schema with the type of the values in place of categories, which differ in each part of a table."""
    import pyarrow as pa

    known = alike.notes_of_pandas(schema)
    decoded = {field.name for field in schema if pa.types.is_dictionary(field.type)}
    fields = [
        field.with_type(field.type.value_type).remove_metadata() if field.name in decoded else field for field in schema
    ]
    columns = [column for column in known.get("columns", ()) if column["field_name"] not in decoded]
    return pa.schema(fields, {alike.PANDAS: json.dumps({**known, "columns": columns}).encode()} if known else None)


def _with_keys(table: Any, path: str, key_columns: KeyColumns) -> Any:
    """Return a table with the columns of the keys in the path of its file."""
    import pandas as pd
    import pyarrow as pa

    rows = len(table)
    frame = key_columns.add(pd.DataFrame(index=range(rows)), [path], [rows])
    for name, column in frame.items():
        table = table.append_column(name, pa.Array.from_pandas(column))
    if known := alike.notes_of_pandas(table.schema):
        # The names of keys are text, so the other names must be text, too.
        table = table.replace_schema_metadata({alike.PANDAS: json.dumps({**known, "column_indexes": []}).encode()})
    if key_columns.order is None:
        return table
    index = [name for name in known.get("index_columns", ()) if name not in key_columns.order]
    return table.select([*key_columns.order, *index])
