"""The memory that this machine, or the container, offers, and whether a process was killed for lack of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_SHORT = 0.05
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Memory:
    """
    The memory for all processes together.

    :param total_bytes: the machine's memory, or a container's limit.
    :param free_bytes: how much of it is unused; cached files count as unused.
    """

    total_bytes: int
    free_bytes: int


def usable_memory(cgroup: Path = _CGROUP) -> Memory:
    """
    Return the memory of this machine or container.

    :param cgroup: the container's control group, version 2 or 1.
    """
    machine = psutil.virtual_memory()
    second, first = cgroup, cgroup / "memory"
    limit = _number(second / "memory.max") or _number(first / "memory.limit_in_bytes")
    # Without a limit, version 1 has a number larger than any machine.
    if limit is None or limit >= machine.total:
        return Memory(machine.total, machine.available)
    used = _number(second / "memory.current") or _number(first / "memory.usage_in_bytes") or 0
    # The kernel drops its caches before it kills a process.
    cached = _field(second / "memory.stat", "inactive_file") or _field(first / "memory.stat", "total_inactive_file")
    free = limit - used + (cached or 0)
    return Memory(limit, max(0, min(free, machine.available)))


class MemoryWitness:
    """
    Finds whether the kernel has killed a process for lack of memory since this was created.

    :param cgroup: the container's control group, version 2 or 1.
    """

    def __init__(self, cgroup: Path = _CGROUP) -> None:
        self._cgroup = cgroup
        self._files = (cgroup / "memory.events", cgroup / "memory" / "memory.oom_control")
        self._kills = self._count()

    def explain(self) -> str:
        """Return why a process got a SIGKILL that this node did not send; '' if memory was not short."""
        if self._count() > self._kills:
            return "the kernel killed it because the container had no memory left"
        memory = usable_memory(self._cgroup)
        if memory.free_bytes < _SHORT * memory.total_bytes:
            free, total = memory.free_bytes // _MIB, memory.total_bytes // _MIB
            return f"memory was short ({free} of {total} MiB available), so probably for lack of it"
        return ""

    def _count(self) -> int:
        counts = (_field(file, "oom_kill") for file in self._files)
        return next((count for count in counts if count is not None), 0)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


def _field(file: Path, name: str) -> int | None:
    """Return the number behind a name, from a file with a name and a number in each line."""
    try:
        return int(dict(line.split(maxsplit=1) for line in file.read_text().splitlines())[name])
    except (OSError, KeyError, ValueError):
        return None


def used_bytes(pid: int) -> int:
    """Return the resident memory of a process; 0 if it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
