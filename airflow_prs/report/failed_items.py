"""Write failed_items.jsonl: every item that failed. Also the form of failed tries in all reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import IO, TYPE_CHECKING, Any

from airflow_prs.records import FailedTry, MiniBatch, Piece
from airflow_prs.run_folder.committed import Committed
from airflow_prs.run_folder.folder import RunFolder

if TYPE_CHECKING:
    from airflow_prs.run_folder.shard_log import ShardState

FAILED_STRETCH = 512
"""Number of failed mini-batches whose tries are in memory at the same time."""


def write_failed_items(out: IO[bytes], committed: Committed) -> None:
    """Write a line of JSON for each mini-batch that failed for good: its items, partition and tries."""
    for state in committed.states:
        for line in _failed_lines(committed, state):
            out.write(f"{line}\n".encode())


def plain_try(failed: FailedTry, folder: RunFolder) -> dict[str, Any]:
    """Return a failed try in the form of the reports."""
    return {
        "try": failed.try_number,
        "status": failed.status.name,
        "error": failed.error,
        "traceback": failed.traceback,
        "node": failed.node,
        "process": failed.process,
        "started": _moment(failed.started),
        "duration_s": round(failed.duration_s, 3),
        "log": log_path(failed, folder),
    }


def log_path(failed: FailedTry, folder: RunFolder) -> str:
    """Return the path of the log of the worker process that failed; empty without a log."""
    return str(folder.path / failed.log) if failed.log else ""


def _moment(seconds: float) -> str | None:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds") if seconds else None


def _failed_lines(committed: Committed, state: ShardState) -> Iterator[str]:
    failed = committed.failed_mini_batches(state)
    if not failed:
        return
    tries = committed.tries(state)
    for start in range(0, len(failed), FAILED_STRETCH):
        indices = failed[start : start + FAILED_STRETCH]
        found = tries.find(indices)
        for mini_batch in committed.folder.select_mini_batches(indices):
            yield _failed_line(mini_batch, found.get(mini_batch.index, []), committed.folder)


def _failed_line(mini_batch: MiniBatch, tries: list[FailedTry], folder: RunFolder) -> str:
    line = {
        "mini_batch": mini_batch.index,
        "input": mini_batch.input,
        "failed_items": mini_batch.items,
        "items": [_plain_piece(piece) for piece in mini_batch.pieces],
        "partition": None if mini_batch.partition is None else dict(mini_batch.partition),
        "tries": [plain_try(failed, folder) for failed in tries],
    }
    return json.dumps(line, ensure_ascii=False, default=str)


def _plain_piece(piece: Piece) -> str | dict[str, Any]:
    """Return the path of an entire file, or the path and place of a part of one."""
    place = {"begin": piece.begin, "end": piece.end, "row_group": piece.row_group}
    known = {name: value for name, value in place.items() if value is not None}
    return {"path": piece.path, **known} if known else piece.path
