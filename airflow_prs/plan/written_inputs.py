"""The folder of the inputs that plan writes itself: the rows of queries, and partitioned copies."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_prs.run_folder.folder import RunFolder

if TYPE_CHECKING:
    import pyarrow as pa


class WrittenInputs:
    """
    A folder for the inputs that plan writes. It is in the run folder, or a local one whose files are uploaded.

    :param run_folder: the run folder.
    :ivar path: the folder.
    """

    def __init__(self, run_folder: RunFolder) -> None:
        self._run_folder = run_folder
        self._is_in_place = isinstance(run_folder.path, Path)
        self.path: Path = run_folder.names.inputs
        if not self._is_in_place:
            self.path = Path(tempfile.mkdtemp(prefix="airflow_prs-plan-"))

    def upload(self) -> None:
        """Upload the files, unless they are in the run folder."""
        if not self._is_in_place:
            self._run_folder.upload_inputs(self.path)

    def kept(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """
        Return mini-batches with the addresses of files that were uploaded in place of their paths.

        :param batch: see ``mini_batches.batch_of``.
        """
        if self._is_in_place:
            return batch
        import pyarrow as pa
        import pyarrow.compute as pc

        pieces = batch["pieces"]
        fields = list(pieces.type.value_type)
        columns = dict(zip([field.name for field in fields], pieces.values.flatten(), strict=True))
        paths, here = columns["path"], f"{self.path}/"
        is_written = pc.starts_with(paths, here)
        behind = pc.utf8_slice_codeunits(paths, len(here))
        columns["path"] = pc.if_else(
            is_written, pc.binary_join_element_wise(str(self._run_folder.names.inputs), behind, "/"), paths
        )
        # They never change, and no version of the storage is known.
        columns["version"] = pc.if_else(is_written, pa.scalar(None, pa.string()), columns["version"])
        moved = pa.ListArray.from_arrays(
            pieces.offsets, pa.StructArray.from_arrays(list(columns.values()), fields=fields)
        )
        return batch.set_column(batch.schema.get_field_index("pieces"), batch.schema.field("pieces"), moved)

    def remove(self) -> None:
        """Remove what was written, since plan writes no manifest."""
        self.remove_local()
        if self._is_in_place:
            shutil.rmtree(self.path, ignore_errors=True)
            with suppress(OSError):
                self.path.parent.rmdir()  # the folder holds something else
        else:
            with suppress(OSError):
                self._run_folder.remove_inputs()

    def remove_local(self) -> None:
        """Remove the local folder."""
        if not self._is_in_place:
            shutil.rmtree(self.path, ignore_errors=True)
