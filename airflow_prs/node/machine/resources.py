"""Samples what a node and its worker processes use of the machine into a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path

import psutil

from airflow_prs.node.machine.memory import usable_memory

COLUMNS = (
    "time",
    "scope",
    "cpu_percent",
    "memory_total_bytes",
    "memory_used_bytes",
    "memory_percent",
    "disk_read_bytes",
    "disk_written_bytes",
    "network_sent_bytes",
    "network_received_bytes",
)


class ResourceLog:
    """
    A CSV file with a line for the machine and one for each worker process at each sample.

    CPU is in percent of one core since the sample before (0 in the first one), disk and network in bytes since boot or
    start. Values that the system does not report are empty. Memory is that of the container if it has a limit.

    :param path: created with its folders at the first sample.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[int, psutil.Process] = {}

    def sample(self, processes: Iterable[tuple[str, int]]) -> None:
        """
        Write one sample.

        :param processes: name and process id of each worker process.
        """
        moment = datetime.now(timezone.utc).isoformat(timespec="seconds")
        lines = [(moment, "node", *_of_machine())]
        lines += [(moment, name, *used) for name, pid in processes if (used := self._of_process(pid))]
        is_new = not self._path.exists()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", newline="") as file:
            writer = csv.writer(file)
            if is_new:
                writer.writerow(COLUMNS)
            writer.writerows(lines)

    def _of_process(self, pid: int) -> tuple[float | int | str, ...]:
        try:
            return _of_process(self._known.setdefault(pid, psutil.Process(pid)))
        except psutil.Error:
            # The process has ended since it was listed.
            self._known.pop(pid, None)
            return ()


class ProcessUsage:
    """Measures what worker processes use together, often and at little cost; what they have started does not count."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def measure(self, pids: Iterable[int]) -> dict[str, float]:
        """
        Return the CPU time since the last call, in percent of one core, and the resident memory, of all processes.

        :param pids: their process ids.
        """
        found = {pid: self._known.get(pid) or _find(pid) for pid in pids}
        self._known = {pid: process for pid, process in found.items() if process is not None}
        used = [use for process in self._known.values() if (use := _use_of(process)) is not None]
        return {
            "cpu_percent": round(sum(cpu for cpu, _ in used), 1),
            "memory_bytes": sum(memory for _, memory in used),
        }


def _find(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


def _use_of(process: psutil.Process) -> tuple[float, int] | None:
    try:
        with process.oneshot():
            return process.cpu_percent(), process.memory_info().rss
    except psutil.Error:
        # It has ended since.
        return None


def _of_machine() -> tuple[float | int | str, ...]:
    memory, disk, network = usable_memory(), psutil.disk_io_counters(), psutil.net_io_counters()
    used = memory.total_bytes - memory.free_bytes
    return (
        psutil.cpu_percent() * (psutil.cpu_count() or 1),
        memory.total_bytes,
        used,
        _percent(used, memory.total_bytes),
        disk.read_bytes if disk else "",
        disk.write_bytes if disk else "",
        network.bytes_sent if network else "",
        network.bytes_recv if network else "",
    )


def _of_process(process: psutil.Process) -> tuple[float | int | str, ...]:
    with process.oneshot():
        disk = process.io_counters() if hasattr(process, "io_counters") else None
        total, used = usable_memory().total_bytes, process.memory_info().rss
        return (
            process.cpu_percent(),
            total,
            used,
            _percent(used, total),
            disk.read_bytes if disk else "",
            disk.write_bytes if disk else "",
            "",
            "",
        )


def _percent(used: int, total: int) -> float:
    return round(100 * used / total, 2)
