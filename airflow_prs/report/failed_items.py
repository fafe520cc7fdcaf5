"""Write failed_items.jsonl: every item that failed. Also the form of failed tries in all reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import IO, TYPE_CHECKING, Any

from airflow_prs.records import FailedTry, MiniBatch
from airflow_prs.run_folder.committed import Committed
from airflow_prs.run_folder.failures import Spans, find_failures
from airflow_prs.run_folder.folder import RunFolder

if TYPE_CHECKING:
    from airflow_prs.run_folder.shard_log import ShardState


def write_failed_items(out: IO[bytes], committed: Committed) -> None:
    """
    Write a line of JSON for each mini-batch that failed for good: its items, partition and tries.

    A mini-batch that was split and succeeded has a line with the items that it has left out.
    """
    for state in committed.states:
        for line in _failed_lines(committed, state):
            out.write(f"{line}\n".encode())


def plain_try(failed: FailedTry, folder: RunFolder) -> dict[str, Any]:
    """Return a failed try in the form of the reports."""
    items = {"items": list(failed.items)} if failed.spans else {}
    return {
        **items,
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
    for mini_batch, spans, tries in find_failures(committed, state):
        yield _failed_line(mini_batch, spans, tries, committed.folder)


def _failed_line(mini_batch: MiniBatch, spans: Spans, tries: list[FailedTry], folder: RunFolder) -> str:
    line = {
        "mini_batch": mini_batch.index,
        "input": mini_batch.input,
        "failed_items": sum(end - begin for begin, end in spans),
        "items": list(_plain_items(mini_batch, spans)),
        "partition": None if mini_batch.partition is None else dict(mini_batch.partition),
        "tries": [plain_try(failed, folder) for failed in tries],
    }
    return json.dumps(line, ensure_ascii=False, default=str)


def _plain_items(mini_batch: MiniBatch, spans: Spans) -> Iterator[str | dict[str, Any]]:
    """Yield the paths of entire files, or the path and the rows of parts of files."""
    if not mini_batch.has_rows:
        for begin, end in spans:
            yield from (piece.path for piece in mini_batch.pieces[begin:end])
        return
    if list(spans) != [(0, mini_batch.items)]:
        for place in mini_batch.rows_of(spans):
            yield {"path": place.piece.path, "first_row": place.first, "last_row": place.last}
        return
    places = {place.piece: place for place in mini_batch.rows_of(spans)}
    for piece in mini_batch.pieces:
        where = {"begin": piece.begin, "end": piece.end, "row_group": piece.row_group}
        if piece.row is not None and piece in places:
            where |= {"first_row": piece.row, "last_row": places[piece].last, "first_line": piece.line}
        known = {name: value for name, value in where.items() if value is not None}
        yield {"path": piece.path, **known} if known else piece.path
