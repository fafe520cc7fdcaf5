"""Arrow and Feather files: cut by their record batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_prs.errors import InputError
from airflow_prs.plan.columns import Columns, require_same, type_with_nulls
from airflow_prs.plan.cutting import TableCut
from airflow_prs.plan.row_groups import RowGroup, add_row_groups

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


def cut_arrow_files(
    name: str, paths: Sequence[str], sizes: npt.NDArray[np.int64], size: int, *, is_bytes: bool
) -> tuple[TableCut, Columns]:
    """
    Cut Arrow files (Feather among them) into mini-batches; a file in the streaming format is one mini-batch.

    :param name: of the input.
    :param sizes: bytes of the files.
    :param size: bytes or rows of a mini-batch.
    :param is_bytes: whether size is in bytes.
    :return: the mini-batches, and the columns.
    :raises InputError: if a file cannot be read or has other columns than the first one.
    """
    import pyarrow as pa

    cut = TableCut(name, paths)
    columns: list[str] | None = None
    nullable: dict[str, str] = {}
    for file, (path, size_bytes) in enumerate(zip(paths, sizes.tolist(), strict=True)):
        try:
            schema, rows, is_stream = _look_at(path, nullable)
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{path!r} cannot be read as an Arrow or Feather file: {error}") from error
        columns = require_same(columns, list(schema.names), paths[0], path)
        total = sum(rows)
        if is_stream and total:
            cut.add_piece(file, items=total, size_bytes=size_bytes)
            cut.close_mini_batch()
        elif total:
            groups = [RowGroup(number, count, size_bytes * count // total) for number, count in enumerate(rows)]
            add_row_groups(cut, file, groups, size, is_bytes=is_bytes)
    return cut, Columns(columns, nullable)


def _look_at(path: str, nullable: dict[str, str]) -> tuple[Any, list[int], bool]:
    """Give a file's schema, the rows of its record batches, and whether it is a stream; note columns with nulls."""
    import pyarrow as pa

    with pa.memory_map(path) as file:
        is_stream = file.read(6) != b"ARROW1"
        file.seek(0)
        schema = (pa.ipc.open_stream if is_stream else pa.ipc.open_file)(file).schema
        kinds = [(number, type_with_nulls(field.type)) for number, field in enumerate(schema)]
        wanted = [number for number, kind in kinds if kind is not None] or [0]
        options = pa.ipc.IpcReadOptions(included_fields=wanted)
        file.seek(0)
        reader = (pa.ipc.open_stream if is_stream else pa.ipc.open_file)(file, options=options)
        batches = reader if is_stream else map(reader.get_batch, range(reader.num_record_batches))
        rows = []
        for batch in batches:
            rows.append(batch.num_rows)
            for field, column in zip(batch.schema, batch.columns, strict=True):
                kind = type_with_nulls(field.type)
                if kind is not None and column.null_count:
                    nullable[field.name] = kind
        return schema, rows, is_stream
