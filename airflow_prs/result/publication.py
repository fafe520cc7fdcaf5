"""Write the rows of all mini-batches, in the order of the input, as one file."""

from __future__ import annotations

import errno
import glob
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from airflow_prs.errors import PublicationError
from airflow_prs.result import parquet as result_parquet
from airflow_prs.result import rows as result_rows
from airflow_prs.store import files
from airflow_prs.store.opening import Location
from airflow_prs.wording import HOW_TO_GO_ON

if TYPE_CHECKING:
    from airflow_prs.run_folder.committed import Committed
    from airflow_prs.run_folder.folder import RunFolder

_ADVICE = {
    errno.ENOSPC: "Make room there",
    errno.EDQUOT: "Make room there",
    errno.EROFS: "Make it writable",
    errno.EACCES: "Give the worker's user the right to write there",
    errno.EPERM: "Give the worker's user the right to write there",
}

_ABANDONED_S = 24 * 3600
"""A temporary file counts as abandoned if nobody has written to it for this long."""


def write_result(out: IO[bytes], committed: Committed, result_format: str) -> None:
    """
    Write the rows of all mini-batches.

    :param result_format: ``parquet``; in all other formats the rows are bytes one after the other.
    :raises RunFolderError: if rows are not what was committed.
    """
    if result_format == "parquet":
        result_parquet.write_parquet(out, committed)
        return
    out.write(_read_header(committed.folder))
    for state in committed.states:
        result_rows.copy_rows(committed, state, out)


@contextmanager
def naming(target: Location) -> Iterator[None]:
    """
    Name the file that cannot be written.

    :raises PublicationError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "Remove the cause")
        raise PublicationError(
            f"the result cannot be put at {target}: {error.strerror or error}. An earlier file there is unchanged. "
            f"{advice}.\n\n{HOW_TO_GO_ON} clear the merge task: no mini-batch runs again."
        ) from error


def remove_leftovers(target: Path) -> None:
    """
    Remove temporary files that killed merges, of any run, have left beside a file more than a day ago.

    Those of the same run are revoked by the next merge. One that is still alive fails, and can be tried again.
    """
    for found in target.parent.glob(f".{glob.escape(target.name[:50])}.*.tmp"):
        # A file that cannot be removed now does no harm; a later merge removes it.
        with suppress(OSError):
            if files.is_temporary(found.name) and found.stat().st_mtime < time.time() - _ABANDONED_S:
                found.unlink()


def _read_header(folder: RunFolder) -> bytes:
    """Read the line of column names above the rows; empty if the format has none."""
    content = folder.layout().newest().content
    return json.loads(content)["header"].encode() if content else b""
