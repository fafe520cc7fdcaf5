"""All files of an input as plan has seen them, so that later runs can leave out those that were processed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_prs.run_folder.names import SEEN

if TYPE_CHECKING:
    import pyarrow as pa

    from airflow_prs.store.port import Store

_WORK = b"work"


@dataclass(frozen=True, slots=True)
class SeenFiles:
    """
    The files of an input, of which only the footer has been read.

    :param work: digest of each part of the work, without the files.
    """

    work: Mapping[str, str]
    _file: Any

    def read(self) -> pa.Table:
        """Return the files as ``write_seen`` got them."""
        return self._file.read(use_threads=False)


def write_seen(store: Store, name: str, files: Iterable[pa.RecordBatch], work: Mapping[str, str]) -> None:
    """
    Write the files of an input.

    :param name: name of the input.
    :param files: sorted by path, with the columns ``path``, ``version`` and ``is_new``, which is False where an earlier
        run has processed the file.
    :param work: digest of each part of the work, without the files.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = {"path": pa.large_string(), "version": pa.large_string(), "is_new": pa.bool_()}
    schema = pa.schema(fields, metadata={_WORK: json.dumps(dict(work)).encode()})
    with store.writer(_key(name)) as out, pq.ParquetWriter(out, schema, compression="zstd") as writer:
        for batch in files:
            writer.write_batch(batch)


def open_seen(store: Store, name: str) -> SeenFiles | None:
    """
    Return the files of an input; None: they were not written.

    :raises ValueError: if the file is damaged.
    """
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(store.reader(_key(name)))
    except FileNotFoundError:
        return None
    return SeenFiles(json.loads((file.schema_arrow.metadata or {}).get(_WORK, b"{}")), file)


def _key(name: str) -> str:
    return f"{SEEN}{name}.parquet"
