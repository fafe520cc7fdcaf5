"""processed_mini-batches.csv: a line for each mini-batch, written column by column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

from airflow_prs.arrow_columns import of_numbers, of_texts, text_scalar
from airflow_prs.records import FailedTry, TryStatus
from airflow_prs.run_folder.committed import Committed

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from airflow_prs.run_folder.shard_log import ShardState

_STRETCH = 16_384
_ITEMS_SHOWN = 10

NOT_TRIED = "NOT_TRIED"
"""Status of a mini-batch without outcome whose first try has not ended."""
NOT_FINISHED = "NOT_FINISHED"
"""Status of a mini-batch without outcome that has failed a try and was to be tried again."""

_COLUMNS = (
    "mini_batch",
    "node",
    "process",
    "tries",
    "items",
    "succeeded",
    "failed",
    "start",
    "duration_s",
    "cpu_s",
    "run_s",
    "status",
    "error_category",
    "error",
    "detail",
    "failed_items",
)
_STATUSES = (*(status.name for status in TryStatus), NOT_TRIED, NOT_FINISHED)
_CATEGORIES = {
    TryStatus.RUN_DONE: None,
    TryStatus.RUN_EXCEPTION: "entry script",
    TryStatus.RUN_TIMEOUT: "entry script",
    TryStatus.RUN_BAD_RESULT: "entry script",
    TryStatus.LOAD_EXCEPTION: "input",
    TryStatus.LOAD_TIMEOUT: "input",
    TryStatus.PROCESS_DIED: "worker process",
    TryStatus.NODE_DIED: "node",
}


def write_processed(out: IO[bytes], committed: Committed) -> None:
    """Write a line of CSV for each mini-batch in the order of the input, those never tried too."""
    out.write((",".join(f'"{name}"' for name in _COLUMNS) + "\n").encode())
    for state in committed.states:
        for lines in map(_lines, _stretches(committed, state)):
            out.write(lines)


def _lines(columns: dict[str, pa.Array]) -> pa.Buffer:
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    lines = pa.BufferOutputStream()
    batch = pa.record_batch([columns[name] for name in _COLUMNS], list(_COLUMNS))
    pa_csv.write_csv(batch, lines, pa_csv.WriteOptions(include_header=False, batch_size=_STRETCH))
    return lines.getvalue()


def _stretches(committed: Committed, state: ShardState) -> Iterator[dict[str, pa.Array]]:
    """Yield the columns of a shard for a limited number of mini-batches at a time."""
    import numpy as np

    shard, outcomes, nodes = state.shard, committed.outcomes(state), committed.nodes(state)
    has_failures = state.progress.failed or state.progress.done < state.progress.total
    tries = committed.tries(state) if has_failures else None
    indices = outcomes["index"].copy()
    for start in range(shard.first, shard.end, _STRETCH):
        stop = min(start + _STRETCH, shard.end)
        records = np.zeros(stop - start, outcomes.dtype)
        first, end = np.searchsorted(indices, [start, stop])
        records[indices[first:end] - start] = outcomes[first:end]
        is_missing = np.ones(len(records), bool)
        is_missing[indices[first:end] - start] = False
        if is_missing.any():
            items = np.array(committed.folder.read_item_counts(start, stop))
            records["items"][is_missing] = items[is_missing]
        failed = np.flatnonzero(is_missing | (records["status"] != TryStatus.RUN_DONE)) + start
        found = tries.find(failed.tolist()) if tries is not None else {}
        columns = _columns(start, records, is_missing, nodes, dict(sorted(found.items())))
        yield columns | {"failed_items": of_texts(_failed_items(committed, state, records, found, start))}


def _failed_items(
    committed: Committed,
    state: ShardState,
    records: npt.NDArray[Any],
    found: dict[int, list[FailedTry]],
    start: int,
) -> list[str | None]:
    """Return the names of the first items that failed: of mini-batches that failed, and of those that were split."""
    import numpy as np

    names: list[str | None] = [None] * len(records)
    for index, tries in found.items():
        names[index - start] = "; ".join(tries[-1].items)
    is_short = (records["status"] == TryStatus.RUN_DONE) & (records["succeeded"] < records["items"])
    short = [index for index in (np.flatnonzero(is_short) + start).tolist() if index not in found]
    if short:
        for index, tries in committed.tries(state).find(short).items():
            left_out = [name for one in tries if one.spans for name in one.items]
            names[index - start] = "; ".join(left_out[:_ITEMS_SHOWN]) or None
    return names


def _columns(
    start: int,
    records: npt.NDArray[Any],
    is_missing: npt.NDArray[Any],
    nodes: list[str],
    failed_tries: dict[int, list[FailedTry]],
) -> dict[str, pa.Array]:
    """
    Return the columns of consecutive mini-batches.

    :param start: index of the first one.
    :param records: their outcomes.
    :param is_missing: which of them have no outcome.
    :param nodes: the node of each writer.
    :param failed_tries: those of mini-batches that did not succeed, in order of the index.
    """
    import numpy as np
    import pyarrow as pa

    places = [index - start for index in failed_tries]
    status = np.where(is_missing, _STATUSES.index(NOT_TRIED), records["status"])
    for place, tries in zip(places, failed_tries.values(), strict=True):
        if is_missing[place]:
            status[place], records["tries"][place] = _STATUSES.index(NOT_FINISHED), len(tries)
    processes, process = np.unique(records["process"], return_inverse=True)
    nothing = pa.nulls(len(records), pa.string())
    columns = {
        "mini_batch": of_numbers(np.arange(start, start + len(records))),
        "node": _pick(nodes, records["writer"], is_missing),
        "process": _pick([f"process{number:03d}" for number in processes.tolist()], process, is_missing),
        "tries": of_numbers(records["tries"]),
        "items": of_numbers(records["items"]),
        "failed": of_numbers(records["items"] - records["succeeded"], is_missing),
        "start": _moments(records["started"]),
        "status": _pick(_STATUSES, status),
        "error_category": _pick(list(_CATEGORIES.values()), records["status"], is_missing),
        "error": nothing,
        "detail": nothing,
        "failed_items": nothing,
    }
    columns |= {name: of_numbers(records[name], is_missing) for name in ("succeeded", "duration_s", "cpu_s", "run_s")}
    return columns | _describe(columns, places, [tries[-1] for tries in failed_tries.values()])


def _describe(columns: dict[str, pa.Array], places: list[int], tries: list[FailedTry]) -> dict[str, pa.Array]:
    """
    Return the columns that show how the last try of a mini-batch failed.

    :param columns: with the values of all other mini-batches.
    :param places: lines of the mini-batches that failed, in ascending order.
    :param tries: the last try of each.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not tries:
        return {}
    has_failed = np.zeros(len(columns["node"]), np.uint8)
    has_failed[places] = 1
    texts: dict[str, list[str | None]] = {
        "node": [last.node or None for last in tries],
        "process": [last.process or None for last in tries],
        "error_category": [_CATEGORIES[last.status] for last in tries],
        "error": [last.error for last in tries],
        "detail": [last.traceback or None for last in tries],
    }
    mask = of_numbers(has_failed).cast(pa.bool_())
    return {name: pc.replace_with_mask(columns[name], mask, of_texts(column)) for name, column in texts.items()}


def _pick(
    texts: Sequence[str | None], codes: npt.NDArray[Any], is_null: npt.NDArray[Any] | None = None
) -> pa.StringArray:
    """Return a column of texts, each given by its position in a short list."""
    return of_texts(texts).take(of_numbers(codes.astype("i4"), is_null))


def _moments(seconds: npt.NDArray[Any]) -> pa.Array:
    """Return moments as text, given in seconds since the epoch; null for 0, of a mini-batch that died with its node."""
    import pyarrow as pa
    import pyarrow.compute as pc

    moments = (seconds * 1000).astype("datetime64[ms]")
    texts = of_numbers(moments, seconds <= 0).cast(pa.string())
    # Arrow takes twenty times as long to write moments whose type says that they are UTC.
    return pc.binary_join_element_wise(texts, text_scalar("Z"), text_scalar(""))
