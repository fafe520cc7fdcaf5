"""Publish the rows of all mini-batches, in the order of the input, as one file."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_prs.errors import PublicationError
from airflow_prs.result import parquet as result_parquet
from airflow_prs.result import rows as result_rows
from airflow_prs.result import temporaries
from airflow_prs.store import files
from airflow_prs.wording import HOW_TO_GO_ON

if TYPE_CHECKING:
    from airflow_prs.records import RunIdentity
    from airflow_prs.run_folder.committed import Committed
    from airflow_prs.run_folder.folder import RunFolder

_ADVICE = {
    errno.ENOSPC: "Make room there",
    errno.EDQUOT: "Make room there",
    errno.EROFS: "Make it writable",
    errno.EACCES: "Give the worker's user the right to write there",
    errno.EPERM: "Give the worker's user the right to write there",
}


def publish_rows(
    target: Path, committed: Committed, *, identity: RunIdentity, result_format: str, confirm: Callable[[], None]
) -> None:
    """
    Write a file with the rows of all mini-batches atomically.

    :param identity: whose result it is; temporary files of killed merges of the same task are removed.
    :param result_format: ``parquet``; in all other formats the rows are bytes one after the other.
    :param confirm: called right before the file gets its name; if it raises, the file does not appear.
    :raises RunFolderError: if rows are not what was committed.
    :raises PublicationError: if the file cannot be written.
    """

    def write(temporary: Path) -> None:
        if result_format == "parquet":
            result_parquet.write_parquet(temporary, committed)
        else:
            _write_rows(temporary, committed)
        # A large file takes time to become durable: sync before the last check, not after it.
        files.sync_file(temporary)
        confirm()

    try:
        files.make_folder(target.parent)
        temporaries.remove_leftovers(target, identity)
        temporary = temporaries.owned_temporary_name(target, identity)
        with temporaries.held(temporary):
            files.publish(target, write, temporary)
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "Remove the cause")
        raise PublicationError(
            f"the result cannot be put at {target}: {error.strerror or error}. An earlier file there is unchanged. "
            f"{advice}.\n\n{HOW_TO_GO_ON} clear the merge task: no mini-batch runs again."
        ) from error


def _write_rows(path: Path, committed: Committed) -> None:
    with files.EarlyFile(path) as out:
        out.write(_read_header(committed.folder))
        for state in committed.states:
            result_rows.copy_rows(committed.outcomes(state), committed.rows_path(state), out)


def _read_header(folder: RunFolder) -> bytes:
    """Read the line of column names above the rows; empty if the format has none."""
    layout = folder.read_layout()
    return b"" if layout is None else json.loads(layout)["header"].encode()
