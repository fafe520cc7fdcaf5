"""Loads mini-batches, and decides whether it is worth it, and safe, to load the next one ahead."""

from __future__ import annotations

import resource
import sys
import time
from typing import Any, NamedTuple

# Relative, because this package has another name in a worker process.
from . import script  # noqa: TID252
from .reading import readers  # noqa: TID252
from .values import decode  # noqa: TID252

SHORTEST_S = 0.005
"""Loads that are shorter on average are not worth a thread."""
LEAST_SHARE = 0.05
"""Part of the time of a try that loading must take."""
SEEN_S = 0.02
"""Seconds of loading after which to judge."""
FIRST_S = 0.1
"""The first load is ignored if it takes less: it imports modules."""
_SAMPLE_ROWS = 100


class Order(NamedTuple):
    """A mini-batch as the supervisor hands it out."""

    minibatch_index: int
    try_number: int
    input: str
    items: int
    partition: dict[str, Any] | None
    pieces: list[Any]
    versions: list[str | None] | tuple[()] = ()
    spans: list[list[int]] | None = None
    is_trial: bool = False

    @property
    def given(self) -> int:
        """Number of items that run() gets."""
        return self.items if self.spans is None else sum(end - begin for begin, end in self.spans)

    def part_of(self, mini_batch: Any) -> Any:
        """Return the items that run() gets."""
        return mini_batch if self.spans is None else readers.part_of(mini_batch, self.spans)

    def context(self, mini_batch: Any) -> script.MiniBatchContext:
        """Return the second argument of run()."""
        values = {key: decode(value) for key, value in (self.partition or {}).items()}
        is_some_files = self.spans is not None and isinstance(mini_batch, list)
        pieces = list(mini_batch) if is_some_files else self.pieces
        dataset = script.MiniBatchDataset(self.input, mini_batch, pieces)
        return script.MiniBatchContext(values, dataset, self.minibatch_index, self.try_number)


class Worth:
    """Decides from the times so far whether loading takes long enough to do it ahead."""

    def __init__(self) -> None:
        self._loads = 0
        self._load_s = self._total_s = 0.0
        self._is_first = True

    def note_load(self, seconds: float) -> None:
        """Add the time of a load."""
        is_ignored, self._is_first = self._is_first and seconds < FIRST_S, False
        if not is_ignored:
            self._loads += 1
            self._load_s += seconds

    def note_try(self, seconds: float) -> None:
        """Add the time of a try."""
        self._total_s += seconds

    @property
    def is_given(self) -> bool:
        """Whether it is worth it."""
        return self._load_s >= max(SEEN_S, SHORTEST_S * self._loads, LEAST_SHARE * self._total_s)


class Room:
    """
    Estimates whether there is memory for one more mini-batch.

    :param most_bytes: for a mini-batch that is loaded ahead.
    :param limit_bytes: for the process; None: no limit.
    """

    def __init__(self, most_bytes: float, limit_bytes: int | None) -> None:
        self._most_bytes = most_bytes
        self._limit_bytes = limit_bytes
        self._bytes_per_row = 0.0

    def note(self, frame: Any) -> None:
        """Measure the rows of a DataFrame; a sample of them if there are many."""
        sample = frame.iloc[:: max(1, len(frame) // _SAMPLE_ROWS)]
        size = float(sample.memory_usage(deep=True).sum()) / max(1, len(sample))
        self._bytes_per_row = max(self._bytes_per_row, size)

    def is_enough(self, rows: int) -> bool:
        """Whether a mini-batch would fit beside what the process used at its peak."""
        size = rows * self._bytes_per_row
        return size <= self._most_bytes and (self._limit_bytes is None or _peak_bytes() + size <= self._limit_bytes)


class Loader:
    """
    Loads mini-batches, in one thread or in several at the same time.

    :param setup: the supervisor's first message. ``read_ahead_bytes`` is how large a mini-batch may be that is loaded
        ahead, 0: none is; ``memory_limit_bytes`` how much the process may use, None: no limit.
    """

    def __init__(self, setup: dict[str, Any]) -> None:
        self._specs = setup["inputs"]
        self._inputs = self._make_readers()
        # Readers keep files open, and two threads must not use the same reader.
        self._spare_inputs = [self._inputs]
        self._worth = Worth()
        most_bytes = setup.get("read_ahead_bytes", 0)
        self._room = Room(most_bytes, setup.get("memory_limit_bytes"))
        self._may_read_ahead = most_bytes > 0 and any(reader.is_table for reader in self._inputs.values())

    @property
    def should_read_ahead(self) -> bool:
        """Whether it is allowed and worth it to load the next mini-batch ahead."""
        return self._may_read_ahead and self._worth.is_given

    def should_load_ahead(self, order: Order) -> bool:
        """Whether it is still worth it to load a mini-batch ahead, and there is memory for it."""
        return self._worth.is_given and self._room.is_enough(order.items)

    def is_table(self, order: Order) -> bool:
        """Whether a mini-batch is a DataFrame, not a list of paths."""
        return self._inputs[order.input].is_table

    def load(self, order: Order) -> Any:
        """Return the first argument of run(); only one thread may call this."""
        return self._load(self._inputs, order)

    def load_in_thread(self, order: Order) -> Any:
        """Return the first argument of run(); several threads may call this, but none may call load()."""
        try:
            inputs = self._spare_inputs.pop()
        except IndexError:
            inputs = self._make_readers()
        try:
            return self._load(inputs, order)
        finally:
            self._spare_inputs.append(inputs)

    def note_try(self, seconds: float) -> None:
        """Add the time of a try."""
        self._worth.note_try(seconds)

    def _load(self, inputs: dict[str, readers.FilesReader | readers.TableReader], order: Order) -> Any:
        began = time.perf_counter()
        loaded = inputs[order.input].load(order.pieces, order.items, order.versions)
        if self._may_read_ahead:
            self._worth.note_load(seconds := time.perf_counter() - began)
            if seconds > SHORTEST_S:
                self._room.note(loaded)
        return order.part_of(loaded)

    def _make_readers(self) -> dict[str, readers.FilesReader | readers.TableReader]:
        return {spec["name"]: readers.make_reader(spec) for spec in self._specs}


def _peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
