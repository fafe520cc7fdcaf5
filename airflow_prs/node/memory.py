"""Whether a process that was killed was killed for memory."""

from __future__ import annotations

from pathlib import Path

import psutil

_SHORT = 0.05
_MIB = 1024 * 1024


class MemoryWitness:
    """
    Remembers how many processes the kernel has killed for memory so far.

    :param cgroup: the container's control group, version 2 or 1.
    """

    def __init__(self, cgroup: Path = Path("/sys/fs/cgroup")) -> None:
        self._files = (cgroup / "memory.events", cgroup / "memory" / "memory.oom_control")
        self._kills = self._count()

    def explain(self) -> str:
        """Say why a process has got a SIGKILL that nobody here sent; '' if memory was not short."""
        if self._count() > self._kills:
            return "the kernel killed it because the container had no memory left"
        memory = psutil.virtual_memory()
        if memory.available < _SHORT * memory.total:
            free, total = memory.available // _MIB, memory.total // _MIB
            return f"memory was short ({free} of {total} MiB available), so probably for lack of it"
        return ""

    def _count(self) -> int:
        return next((count for count in map(_read_kills, self._files) if count is not None), 0)


def _read_kills(file: Path) -> int | None:
    try:
        lines = dict(line.split(maxsplit=1) for line in file.read_text().splitlines())
        return int(lines["oom_kill"])
    except (OSError, KeyError, ValueError):
        return None


def used_bytes(pid: int) -> int:
    """Read the memory that a process holds for itself; 0 if it is gone."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return 0
