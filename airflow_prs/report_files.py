"""processed_mini-batches.csv and failed_items.jsonl: every mini-batch, and every item that failed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_prs.committed import Committed
from airflow_prs.records import FailedTry, MiniBatch, Piece, Shard, Status
from airflow_prs.run_folder import files
from airflow_prs.run_folder.folder import RunFolder

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from airflow_prs.run_folder.ledger import ShardState
    from airflow_prs.run_folder.tries import TriesIndex

_CSV_STRETCH = 8192
_FAILED_STRETCH = 512

NOT_TRIED = "NOT_TRIED"
"""Status of a mini-batch without outcome whose first try has not ended."""
NOT_FINISHED = "NOT_FINISHED"
"""Status of a mini-batch without outcome that has failed a try and was to be tried again."""

_CATEGORIES = {
    Status.RUN_DONE: None,
    Status.RUN_EXCEPTION: "entry script",
    Status.RUN_TIMEOUT: "entry script",
    Status.RUN_BAD_RESULT: "entry script",
    Status.LOAD_EXCEPTION: "input",
    Status.LOAD_TIMEOUT: "input",
    Status.PROCESS_DIED: "worker process",
    Status.NODE_DIED: "node",
}


def write_processed(path: Path, committed: Committed) -> None:
    """Write a CSV file with a line per mini-batch, those never tried too, in the order of the input."""

    def write(temporary: Path) -> None:
        import pyarrow.csv as pa_csv

        schema = _schema()
        with pa_csv.CSVWriter(str(temporary), schema) as writer:
            for state in committed.states:
                for table in _tables(committed, state, schema):
                    writer.write_table(table)

    files.publish(path, write)


def write_failed_items(path: Path, committed: Committed) -> None:
    """Write a JSON line per mini-batch that failed for good: its items, partition and tries."""

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8") as out:
            for state in committed.states:
                for line in _failed_lines(committed, state):
                    out.write(line + "\n")

    files.publish(path, write)


def plain_try(failed: FailedTry, folder: RunFolder) -> dict[str, Any]:
    """Write a failed try as the reports do."""
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
    """Path of the log of the worker process that failed, '' without one."""
    return str(folder.path / failed.log) if failed.log else ""


def _moment(seconds: float) -> str | None:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="milliseconds") if seconds else None


def _failed_lines(committed: Committed, state: ShardState) -> Iterator[str]:
    if not state.progress.failed:
        return
    outcomes = committed.outcomes(state)
    failed = outcomes["index"][outcomes["status"] != Status.RUN_DONE].tolist()
    tries = committed.index_failed_tries(state)
    for start in range(0, len(failed), _FAILED_STRETCH):
        indices = failed[start : start + _FAILED_STRETCH]
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
    """Write a whole file as its path, a part of one as its path and place."""
    place = {"begin": piece.begin, "end": piece.end, "row_group": piece.row_group}
    known = {name: value for name, value in place.items() if value is not None}
    return {"path": piece.path, **known} if known else piece.path


def _schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        [
            ("mini_batch", pa.int64()),
            ("node", pa.string()),
            ("process", pa.string()),
            ("tries", pa.int64()),
            ("items", pa.int64()),
            ("succeeded", pa.int64()),
            ("failed", pa.int64()),
            ("start", pa.timestamp("ms", "UTC")),
            ("duration_s", pa.float32()),
            ("cpu_s", pa.float32()),
            ("run_s", pa.float32()),
            ("status", pa.string()),
            ("error_category", pa.string()),
            ("error", pa.string()),
            ("detail", pa.string()),
        ]
    )


def _tables(committed: Committed, state: ShardState, schema: pa.Schema) -> Iterator[pa.Table]:
    """Write a shard as tables of a bounded number of mini-batches."""
    import numpy as np
    import pyarrow as pa

    outcomes, nodes = committed.outcomes(state), committed.nodes(state)
    has_failures = state.progress.failed or state.progress.done < state.progress.total
    tries = committed.index_failed_tries(state) if has_failures else None
    indices = outcomes["index"].copy()
    for stretch in _stretches(state.shard):
        first, end = np.searchsorted(indices, [stretch.start, stretch.stop])
        columns = _columns(stretch, outcomes[first:end], nodes)
        if end - first < len(stretch):
            items = committed.folder.read_item_counts(stretch.start, stretch.stop)
            _fill_in_missing(columns, items)
        if tries is not None:
            _fill_in_failures(columns, stretch, tries)
        yield pa.table([pa.array(columns[field.name], field.type) for field in schema], schema)


def _stretches(shard: Shard) -> Iterator[range]:
    for start in range(shard.first, shard.end, _CSV_STRETCH):
        yield range(start, min(start + _CSV_STRETCH, shard.end))


def _columns(stretch: range, outcomes: npt.NDArray[Any], nodes: list[str]) -> dict[str, npt.NDArray[Any]]:
    """
    Lay out what the outcomes of some consecutive mini-batches hold; the others' places stay empty.

    :param nodes: the node of each attempt.
    """
    import numpy as np

    numbers, codes = np.unique(outcomes["process"], return_inverse=True)
    values = {name: outcomes[name] for name in ("tries", "items", "succeeded", "duration_s", "cpu_s", "run_s")}
    values |= {
        "failed": outcomes["items"] - outcomes["succeeded"],
        "start": _moments(outcomes["started"]),
        "status": _pick([status.name for status in Status], outcomes["status"]),
        "error_category": _pick([_CATEGORIES[status] for status in Status], outcomes["status"]),
        "node": _pick(nodes, outcomes["attempt"]),
        "process": _pick([f"process{number:03d}" for number in numbers], codes),
        "error": np.full(len(outcomes), None, object),
        "detail": np.full(len(outcomes), None, object),
    }
    places = outcomes["index"] - stretch.start
    spread = {name: _spread(value, places, len(stretch)) for name, value in values.items()}
    return {"mini_batch": np.arange(stretch.start, stretch.stop), **spread}


def _moments(seconds: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Make moments of seconds since the epoch; 0, of a mini-batch that died with its node, is none."""
    import numpy as np

    moments = (seconds * 1000).astype("datetime64[ms]")
    return np.where(seconds > 0, moments, np.datetime64("NaT", "ms"))


def _pick(names: list[Any], codes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Put names in the place of their numbers."""
    import numpy as np

    picked: npt.NDArray[Any] = np.array([*names, None], object)[codes]
    return picked


def _spread(values: npt.NDArray[Any], places: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Put values in their places; the others are None in a text, NaT in a moment, masked in a number."""
    import numpy as np

    spread: npt.NDArray[Any] = np.full(size, None, object)
    if values.dtype.kind == "M":
        spread = np.full(size, np.datetime64("NaT"), values.dtype)
    elif values.dtype != object:
        spread = np.ma.MaskedArray(np.zeros(size, values.dtype), mask=np.ones(size, bool))
    spread[places] = values
    return spread


def _fill_in_missing(columns: dict[str, npt.NDArray[Any]], items: list[int]) -> None:
    """Say of mini-batches without outcome that they were not tried."""
    import numpy as np

    is_missing = np.ma.getmaskarray(columns["tries"]).copy()
    columns["status"][is_missing] = NOT_TRIED
    columns["tries"][is_missing] = 0
    columns["items"][is_missing] = np.array(items)[is_missing]


def _fill_in_failures(columns: dict[str, npt.NDArray[Any]], stretch: range, tries: TriesIndex) -> None:
    """Say of mini-batches that did not succeed how their last try failed."""
    import numpy as np

    places = np.flatnonzero(np.not_equal(columns["status"], Status.RUN_DONE.name))
    for index, failed in tries.find((places + stretch.start).tolist()).items():
        place, last = index - stretch.start, failed[-1]
        columns["node"][place] = last.node or None
        columns["process"][place] = last.process or None
        columns["error"][place] = last.error
        columns["detail"][place] = last.traceback or None
        columns["error_category"][place] = _CATEGORIES[last.status]
        if columns["status"][place] == NOT_TRIED:
            columns["status"][place] = NOT_FINISHED
            columns["tries"][place] = len(failed)
