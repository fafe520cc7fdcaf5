"""processed_mini-batches.csv: a line for each mini-batch, written column by column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_prs.ahead import map_ahead
from airflow_prs.arrow_columns import of_numbers, of_texts, text_scalar, to_numbers
from airflow_prs.records import Shard, Status
from airflow_prs.run_folder.committed import Committed
from airflow_prs.store import files

if TYPE_CHECKING:
    import numpy.typing as npt
    import pyarrow as pa

    from airflow_prs.run_folder.ledger import ShardState
    from airflow_prs.run_folder.tries import TriesIndex

_STRETCH = 16_384
_THREADS = 2
"""Numbers become text in Arrow, which lets other threads run; writing what two of them make takes most of a third."""

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
)
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
        with files.EarlyFile(temporary) as out:
            out.write((",".join(f'"{name}"' for name in _COLUMNS) + "\n").encode())
            for lines in map_ahead(_lines, _all_stretches(committed), threads=_THREADS):
                out.write(lines)

    files.publish(path, write)


def _lines(stretch: _Stretch) -> pa.Buffer:
    columns = stretch.columns()
    return _join(columns[name] for name in _COLUMNS)


def _join(columns: Iterable[str | pa.Array]) -> pa.Buffer:
    """
    Write lines, from the fields of each column as they stand in the file, empty where they are null.

    :param columns: an array, or a text where the fields of all lines are the same; at least one array.
    """
    import pyarrow.compute as pc

    parts: list[Any] = []
    between = ""
    for column in columns:
        if isinstance(column, str):
            between += column
        else:
            parts += [text_scalar(between), column]
            between = ""
        between += ","
    parts.append(text_scalar(between[:-1] + "\n"))
    lines = pc.binary_join_element_wise(*parts, text_scalar(""), null_handling="replace", null_replacement="")
    return lines.buffers()[2]


def _all_stretches(committed: Committed) -> Iterator[_Stretch]:
    for state in committed.states:
        yield from _stretches(committed, state)


def _stretches(committed: Committed, state: ShardState) -> Iterator[_Stretch]:
    """Lay out a shard, a bounded number of mini-batches at a time."""
    import numpy as np

    outcomes, nodes = committed.outcomes(state), committed.nodes(state)
    has_failures = state.progress.failed or state.progress.done < state.progress.total
    tries = committed.index_failed_tries(state) if has_failures else None
    indices = outcomes["index"].copy()
    for span in _spans(state.shard):
        first, end = np.searchsorted(indices, [span.start, span.stop])
        stretch = _Stretch(span, outcomes[first:end], nodes)
        if end - first < len(span):
            stretch.fill_in_missing(committed.folder.read_item_counts(span.start, span.stop))
        if tries is not None:
            stretch.fill_in_failures(tries)
        yield stretch


def _spans(shard: Shard) -> Iterator[range]:
    for start in range(shard.first, shard.end, _STRETCH):
        yield range(start, min(start + _STRETCH, shard.end))


class _Stretch:
    """
    Some consecutive mini-batches; those without outcome were not tried.

    :param span: their indices.
    :param outcomes: of those that have one.
    :param nodes: the node of each attempt.
    """

    def __init__(self, span: range, outcomes: npt.NDArray[Any], nodes: list[str]) -> None:
        import numpy as np

        places = outcomes["index"] - span.start
        self._span = span
        self._has_outcome = np.zeros(len(span), bool)
        self._has_outcome[places] = True

        def spread(values: Any) -> npt.NDArray[Any]:
            spread: npt.NDArray[Any] = np.zeros(len(span), values.dtype)
            spread[places] = values
            return spread

        self._started = spread(outcomes["started"])
        copied = ("tries", "items", "succeeded", "duration_s", "cpu_s", "run_s")
        self._numbers = {name: spread(outcomes[name]) for name in copied}
        self._numbers["failed"] = self._numbers["items"] - self._numbers["succeeded"]
        processes = of_numbers(outcomes["process"].copy()).dictionary_encode()
        process_names = [f"process{number:03d}" for number in processes.dictionary.to_pylist()]
        statuses = spread(outcomes["status"] + 1)
        self._texts = {
            "node": _Texts([None, *nodes], spread(outcomes["attempt"] + 1)),
            "process": _Texts([None, *process_names], spread(to_numbers(processes.indices) + 1)),
            "status": _Texts([NOT_TRIED, *(status.name for status in Status)], statuses),
            "error_category": _Texts([None, *(_CATEGORIES[status] for status in Status)], statuses),
            "error": _Texts([None], np.zeros(len(span))),
            "detail": _Texts([None], np.zeros(len(span))),
        }

    def fill_in_missing(self, items: list[int]) -> None:
        """
        Say of mini-batches without outcome what they would have been given.

        :param items: how many items each mini-batch has.
        """
        import numpy as np

        self._numbers["items"] = np.where(self._has_outcome, self._numbers["items"], items)

    def fill_in_failures(self, tries: TriesIndex) -> None:
        """Say of mini-batches that did not succeed how their last try failed."""
        indices = [self._span.start + place for place in self._texts["status"].others(Status.RUN_DONE.name)]
        for index, failed in tries.find(indices).items():
            place, last = index - self._span.start, failed[-1]
            self._texts["node"].put(place, last.node or None)
            self._texts["process"].put(place, last.process or None)
            self._texts["error"].put(place, last.error)
            self._texts["detail"].put(place, last.traceback or None)
            self._texts["error_category"].put(place, _CATEGORIES[last.status])
            if not self._has_outcome[place]:
                self._texts["status"].put(place, NOT_FINISHED)
                self._numbers["tries"][place] = len(failed)

    def columns(self) -> dict[str, str | pa.Array]:
        """Write the fields of each column; see _join."""
        import numpy as np
        import pyarrow as pa

        # How many items a mini-batch has, and its tries so far, are known without an outcome.
        always_known = {name: np.ones(len(self._span), bool) for name in ("tries", "items")}
        is_known = dict.fromkeys(self._numbers, self._has_outcome) | always_known
        return {
            "mini_batch": of_numbers(np.arange(self._span.start, self._span.stop)).cast(pa.string()),
            "start": _moments(self._started),
            **{name: _fields(numbers, is_known[name]) for name, numbers in self._numbers.items()},
            **{name: texts.fields() for name, texts in self._texts.items()},
        }


def _fields(numbers: npt.NDArray[Any], is_known: npt.NDArray[Any]) -> str | pa.Array:
    """Write numbers as fields, one text where all lines have the same."""
    import pyarrow as pa

    is_same = bool(is_known.all() and (numbers == numbers[0]).all())
    fields = of_numbers(numbers[:1]) if is_same else of_numbers(numbers, ~is_known)
    texts = fields.cast(pa.string())
    return str(texts[0]) if is_same else texts


def _moments(seconds: npt.NDArray[Any]) -> pa.Array:
    """Write moments, given in seconds since the epoch; 0, of a mini-batch that died with its node, is none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    moments = (seconds * 1000).astype("datetime64[ms]")
    texts = of_numbers(moments, seconds <= 0).cast(pa.string())
    # They are UTC; where Arrow is told so, it takes twenty times as long.
    return pc.binary_join_element_wise(texts, text_scalar("Z"), text_scalar(""))


class _Texts:
    """
    A column of texts, of which few are different.

    :param texts: the different ones; None: an empty field.
    :param codes: which of them each line has, by its position.
    """

    def __init__(self, texts: Sequence[str | None], codes: npt.NDArray[Any]) -> None:
        self._texts = list(texts)
        self._codes = codes.astype("i4")

    def others(self, text: str) -> list[int]:
        """Find the lines that have another text."""
        others: list[int] = (self._codes != self._texts.index(text)).nonzero()[0].tolist()
        return others

    def put(self, line: int, text: str | None) -> None:
        """Give a line another text."""
        self._codes[line] = len(self._texts)
        self._texts.append(text)

    def fields(self) -> str | pa.Array:
        """Write as fields, one text where all lines have the same."""
        quoted = [None if text is None else '"' + text.replace('"', '""') + '"' for text in self._texts]
        if (self._codes == self._codes[0]).all():
            return quoted[self._codes[0]] or ""
        return of_texts(quoted).take(of_numbers(self._codes))
