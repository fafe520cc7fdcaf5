"""Write process_summary.csv and node_summary.csv: what each worker process and each node did."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from typing import IO, TYPE_CHECKING, Any

from airflow_prs.records import TryStatus
from airflow_prs.run_folder.committed import Committed
from airflow_prs.run_folder.failures import FAILED_STRETCH

if TYPE_CHECKING:
    import numpy.typing as npt

    from airflow_prs.run_folder.shard_log import ShardState

_NO_PROCESS = -1
"""Number of the process of a mini-batch whose node died: the process is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """
    What one or several processes did: the mini-batches whose last try they made.

    :param started: moment of the first start, seconds since the epoch; infinite: none is known.
    :param ended: moment of the last end; minus infinite: none is known.
    """

    mini_batches: int = 0
    failed: int = 0
    items: int = 0
    elements: int = 0
    run_s: float = 0.0
    cpu_s: float = 0.0
    started: float = math.inf
    ended: float = -math.inf

    def __add__(self, other: _Work) -> _Work:
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        sums |= {"started": min(self.started, other.started), "ended": max(self.ended, other.ended)}
        return _Work(**sums)

    @property
    def wall_s(self) -> float:
        """From the first start to the last end."""
        return max(self.ended - self.started, 0.0)

    def columns(self, processes: int) -> dict[str, Any]:
        """
        Return the values of a CSV file; unknown ones are None.

        :param processes: how many processes did the work.
        """
        room_s = self.wall_s * processes
        return {
            "mini_batches": self.mini_batches,
            "failed": self.failed,
            "items": self.items,
            "elements": self.elements,
            "run_s": round(self.run_s, 3),
            "cpu_s": round(self.cpu_s, 3),
            "first_start": _moment(self.started),
            "last_end": _moment(self.ended),
            # Above 1 if an asynchronous script works on several mini-batches at a time.
            "busy_share": round(self.run_s / room_s, 4) if room_s else None,
        }


def write_summaries(of_processes: IO[bytes], of_nodes: IO[bytes], committed: Committed) -> None:
    """
    Write a line of CSV for each worker process, and one for each node.

    A mini-batch with an outcome counts for the process that made its last try.
    """
    nodes: list[dict[str, Any]] = []
    _write_lines(of_processes, ("node", "process", *_Work().columns(0)), _process_lines(committed, nodes))
    _write_lines(of_nodes, ("node", "processes", *_Work().columns(0), "wall_s", "mini_batches_per_s"), nodes)


def _write_lines(out: IO[bytes], header: Iterable[str], lines: Iterable[dict[str, Any]]) -> None:
    text = io.TextIOWrapper(out, "utf-8", newline="")
    writer = csv.DictWriter(text, list(header), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    text.detach()


def _process_lines(committed: Committed, nodes: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield the lines of all processes, and append a line to ``nodes`` after those of each node."""
    for state in committed.states:
        names = committed.nodes(state)
        for writer, group in itertools.groupby(_work_in_shard(committed, state), key=lambda found: found[0]):
            total, processes = _Work(), 0
            for _, number, work in group:
                total += work
                if number != _NO_PROCESS:
                    processes += 1
                    yield {"node": names[writer], "process": f"process{number:03d}", **work.columns(1)}
            nodes.append(_node_line(names[writer], processes, total))


def _node_line(node: str, processes: int, total: _Work) -> dict[str, Any]:
    return {
        "node": node,
        "processes": processes,
        **total.columns(processes),
        "wall_s": round(total.wall_s, 3),
        "mini_batches_per_s": round(total.mini_batches / total.wall_s, 3) if total.wall_s else None,
    }


def _work_in_shard(committed: Committed, state: ShardState) -> Iterator[tuple[int, int, _Work]]:
    """Yield writer, number of the process and its work, sorted by writer and number."""
    import numpy as np

    outcomes = committed.outcomes(state)
    if not len(outcomes):
        return
    process = _processes(committed, state, outcomes)
    numbers = int(process.max()) - _NO_PROCESS + 1
    group = outcomes["writer"].astype(np.int64) * numbers + process - _NO_PROCESS
    columns = _added(outcomes, group)
    for place in np.flatnonzero(columns["mini_batches"]).tolist():
        work = _Work(**{name: column[place].item() for name, column in columns.items()})
        yield place // numbers, place % numbers + _NO_PROCESS, work


def _added(outcomes: npt.NDArray[Any], group: npt.NDArray[Any]) -> dict[str, npt.NDArray[Any]]:
    """Add up outcomes by group, in their order, so that the sums are always the same."""
    import numpy as np

    def total(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return np.bincount(group, values)

    # A mini-batch that died with its node has no moment.
    has_moment = outcomes["started"] > 0
    starts = outcomes["started"][has_moment]
    mini_batches = np.bincount(group)
    started, ended = np.full(len(mini_batches), math.inf), np.full(len(mini_batches), -math.inf)
    np.minimum.at(started, group[has_moment], starts)
    np.maximum.at(ended, group[has_moment], starts + outcomes["duration_s"][has_moment])
    return {
        "mini_batches": mini_batches,
        "failed": total(outcomes["status"] != TryStatus.RUN_DONE).astype(np.int64),
        "items": total(outcomes["items"]).astype(np.int64),
        "elements": total(outcomes["returned"]).astype(np.int64),
        "run_s": total(outcomes["run_s"]),
        "cpu_s": total(outcomes["cpu_s"]),
        "started": started,
        "ended": ended,
    }


def _processes(committed: Committed, state: ShardState, outcomes: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the process of each outcome; for failed mini-batches it is that of the last try."""
    import numpy as np

    processes: npt.NDArray[Any] = outcomes["process"].astype(np.int64)
    places = np.flatnonzero(outcomes["status"] != TryStatus.RUN_DONE)
    if not len(places):
        return processes
    processes[places] = _NO_PROCESS
    indices = outcomes["index"].copy()
    tries = committed.tries(state)
    for start in range(0, len(places), FAILED_STRETCH):
        found = tries.find(indices[places[start : start + FAILED_STRETCH]].tolist())
        for index, failed in found.items():
            if name := failed[-1].process:
                processes[np.searchsorted(indices, index)] = int(name.removeprefix("process"))
    return processes


def _moment(seconds: float) -> str | None:
    """Return a moment as text, in the form of processed_mini-batches.csv."""
    if math.isinf(seconds):
        return None
    moment = datetime.fromtimestamp(seconds, timezone.utc).isoformat(" ", "milliseconds")
    return moment.replace("+00:00", "Z")
