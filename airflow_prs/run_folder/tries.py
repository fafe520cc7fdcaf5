"""Failed tries of a shard, read when needed: many long tracebacks do not fit in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from airflow_prs.errors import RunFolderError
from airflow_prs.records import FailedTry, Shard
from airflow_prs.run_folder.outcomes import parse_try
from airflow_prs.run_folder.shard_log import OWN_LOG, loan_log, shard_log

if TYPE_CHECKING:
    import numpy.typing as npt

    from airflow_prs.store.port import Store


def read_lines(store: Store, shard: Shard, places: npt.NDArray[Any]) -> Iterator[bytes]:
    """
    Yield the lines of failed tries, in the order of their places.

    Places of the same record that follow each other are read with one request.

    :param places: of outcomes.place_type().
    :raises RunFolderError: if a record is missing.
    """
    import numpy as np

    sources = places["log"] * (1 << 40) + places["record"]
    bounds = [*np.flatnonzero(np.diff(sources, prepend=sources[:1] - 1)).tolist(), len(places)]
    for first, end in pairwise(bounds):
        group = places[first:end]
        log, record = int(group["log"][0]), int(group["record"][0])
        key = (shard_log(store, shard) if log == OWN_LOG else loan_log(store, shard, log)).key(record)
        begin = int(group["begin"].min())
        data = store.get(key, begin, int((group["begin"] + group["size"]).max()))
        if data is None:
            raise RunFolderError(f"{key} is missing. Clear the plan task to start over.")
        for start, size in zip((group["begin"] - begin).tolist(), group["size"].tolist(), strict=True):
            yield data[start : start + size]


class TriesIndex:
    """
    The failed tries of a shard that count.

    :param places: their places in the order in which they were committed; see outcomes.place_type().
    """

    def __init__(self, store: Store, shard: Shard, places: npt.NDArray[Any]) -> None:
        import numpy as np

        self._store = store
        self._shard = shard
        self._places = places
        # A stable sort keeps the tries of a mini-batch in the order in which they were committed.
        self._order = np.argsort(places["index"], kind="stable")
        self._indices = places["index"][self._order]

    def __iter__(self) -> Iterator[FailedTry]:
        """Yield all failed tries in the order in which they were committed."""
        return map(parse_try, read_lines(self._store, self._shard, self._places))

    def find(self, indices: Iterable[int]) -> dict[int, list[FailedTry]]:
        """
        Return the failed tries of some mini-batches.

        :return: index to failed tries, oldest first; mini-batches without failed tries are left out.
        """
        import numpy as np

        wanted = np.array(sorted(indices), np.int64)
        firsts, ends = (np.searchsorted(self._indices, wanted, side).tolist() for side in ("left", "right"))
        chosen = [place for first, end in zip(firsts, ends, strict=True) for place in range(first, end)]
        places = np.sort(self._order[chosen]) if chosen else np.empty(0, np.int64)
        found: dict[int, list[FailedTry]] = {}
        for failed in map(parse_try, read_lines(self._store, self._shard, self._places[places])):
            found.setdefault(failed.index, []).append(failed)
        return found
