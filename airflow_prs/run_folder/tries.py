"""An index of the failed tries of a shard, which reads them when needed: many long tracebacks do not fit in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from airflow_prs.errors import RunFolderError
from airflow_prs.records import FailedTry
from airflow_prs.run_folder import ledger
from airflow_prs.run_folder.ledger import ShardState


class TriesIndex:
    """
    The positions of the failed tries that count in their files.

    :param state: state of the shard.
    :param shard_folder: folder of its attempts.
    """

    def __init__(self, state: ShardState, shard_folder: Path) -> None:
        import numpy as np

        self._paths: list[Path] = []
        places: list[tuple[int, int, int, int]] = []
        for path, end in ledger.committed_tries(state, shard_folder):
            places += [(index, len(self._paths), begin, size) for index, begin, size in _lines(path, end)]
            self._paths.append(path)
        found = np.array(places, np.int64).reshape(-1, 4)
        # A stable sort keeps the tries of a mini-batch in the order in which they were committed.
        self._places = found[np.argsort(found[:, 0], kind="stable")]
        self._indices = self._places[:, 0].copy()

    def find(self, indices: Iterable[int]) -> dict[int, list[FailedTry]]:
        """
        Return the failed tries of some mini-batches.

        :return: index to failed tries, oldest first; mini-batches without failed tries are left out.
        """
        import numpy as np

        wanted = np.array(sorted(indices), np.int64)
        firsts, ends = (np.searchsorted(self._indices, wanted, side).tolist() for side in ("left", "right"))
        rows = [row for first, end in zip(firsts, ends, strict=True) for row in range(first, end)]
        places = self._places[rows]
        found: dict[int, list[FailedTry]] = {}
        for number, path in enumerate(self._paths):
            here = places[places[:, 1] == number]
            if not len(here):
                continue
            with path.open("rb") as file:
                for index, _, begin, size in here.tolist():
                    file.seek(begin)
                    found.setdefault(index, []).append(ledger.FAILED_TRY.validate_json(file.read(size)))
        return found


def _lines(path: Path, end: int) -> Iterator[tuple[int, int, int]]:
    with path.open("rb") as file:
        while (begin := file.tell()) < end:
            line = file.readline()
            try:
                # `index` is the first field of FailedTry; parsing the others would take most of the time.
                yield int(line[line.index(b":") + 1 : line.index(b",")]), begin, len(line)
            except ValueError:
                raise RunFolderError(f"{path} is damaged after byte {begin}: clear plan to start over.") from None
