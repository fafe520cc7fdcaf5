"""
Checkpoints: what many records of a shard's log hold in one object, so that nobody reads a long log record by record.

A checkpoint holds what was committed since the one before it, and names that one. A new one takes in those before it
that are not much larger, until it is large enough: so there are few, and the memory and the work of each are bounded,
however many mini-batches a shard has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_prs.errors import DamagedError, RunFolderError
from airflow_prs.run_folder.json_records import JsonRecords
from airflow_prs.run_folder.log import pack, unpack
from airflow_prs.run_folder.outcomes import Content, outcome_type, place_type
from airflow_prs.run_folder.shard_records import Checkpoint, ShardRecord

if TYPE_CHECKING:
    import numpy.typing as npt

    from airflow_prs.store.port import Store

_FEW_RECORDS = 8
"""With at most this many records since the last checkpoint, the end of an attempt needs no other one."""
_RECORDS = 64
"""After this many records a checkpoint is written."""
_LARGE = 1 << 15
"""After so many outcomes and failed tries, too; they are some 3 MB. A checkpoint takes in others up to this size."""


@dataclass(frozen=True, slots=True)
class _Header:
    """
    The header of a checkpoint.

    :param outcomes: number of outcomes in the payload; places of failed tries follow.
    :param before: the checkpoint before it; None: it is the first one.
    """

    outcomes: int
    before: Checkpoint | None


_HEADER: JsonRecords[_Header] = JsonRecords(_Header)


def needs_checkpoint(record: ShardRecord, number: int) -> bool:
    """
    Whether a commit is to write a checkpoint.

    :param record: the commit, which names the checkpoint before.
    :param number: its number.
    """
    records = number - (record.checkpoint.number if record.checkpoint is not None else -1)
    is_due = records > _FEW_RECORDS if record.closing is not None else records >= _RECORDS
    return is_due or record.after_checkpoint >= _LARGE


def takes_in(size: int, before: Checkpoint) -> bool:
    """
    Whether a new checkpoint takes in the one before it.

    Each is then more than twice as large as the next one, or both together are large, so their number is small. What is
    taken in grows at least by half, so it is rarely written again.

    :param size: number of outcomes and failed tries in the new one.
    """
    return before.size <= 2 * size and before.size + size <= _LARGE


def write_checkpoint(store: Store, checkpoint: Checkpoint, parts: Sequence[Content], before: Checkpoint | None) -> None:
    """
    Write a checkpoint; it counts once a record names it.

    :param parts: what it holds, the oldest part first.
    :param before: the checkpoint before it; None: it is the first one.
    """
    outcomes, tries = [part.outcomes for part in parts], [part.tries for part in parts]
    header = _HEADER.dump_json(_Header(sum(map(len, outcomes)), before))
    if not store.create(checkpoint.key, pack(header, map(_bytes_of, [*outcomes, *tries]))):
        raise RunFolderError(f"{checkpoint.key} exists with another content: two processes have the same random id.")


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    import numpy as np

    return np.ascontiguousarray(array).view(np.uint8).data


def read_checkpoint(store: Store, checkpoint: Checkpoint) -> tuple[Content, Checkpoint | None]:
    """
    Return what a checkpoint holds, and the one before it.

    :raises DamagedError: if it is damaged or missing.
    """
    import numpy as np

    data = store.get(checkpoint.key)
    if data is None:
        raise DamagedError(f"{checkpoint.key} is missing. Clear the plan task to start over.")
    found, payload = unpack(data, checkpoint.key)
    header = _HEADER.validate_json(found)
    outcomes = np.frombuffer(payload, outcome_type(), header.outcomes)
    return Content(outcomes=outcomes, tries=np.frombuffer(payload, place_type(), offset=outcomes.nbytes)), header.before
