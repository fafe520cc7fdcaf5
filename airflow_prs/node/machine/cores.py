"""The cores and GPUs that this machine, or the container, offers."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")


def usable_cores(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many cores quota and affinity allow, at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, min(cores, math.ceil(quota))) if quota else cores


def _quota(cgroup: Path) -> float | None:
    """Return the CPU quota of cgroup v2 or v1 in cores; None if there is none."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if limit in {"max", "-1"}:
        return None
    return int(limit) / int(period)


def visible_devices(environ: Mapping[str, str], drivers: Path = Path("/proc/driver/nvidia/gpus")) -> list[str]:
    """Return the GPUs that worker processes may use, as CUDA_VISIBLE_DEVICES names them."""
    named = environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [device.strip() for device in named.split(",") if device.strip() not in {"", "-1", "NoDevFiles"}]
    try:
        return [str(number) for number, _ in enumerate(drivers.iterdir())]
    except OSError:
        return []


def default_process_count(devices: list[str]) -> int:
    """Return the number of worker processes of a node: 1 if a GPU is visible, else one per usable core."""
    return 1 if devices else usable_cores()


def process_environment(
    environ: Mapping[str, str], variables: Mapping[str, str], *, devices: list[str], slot: int, processes: int
) -> dict[str, str]:
    """
    Return the environment of a worker process.

    Numeric libraries get a fair share of the cores, and each process a GPU of its own as long as there are some, unless
    the user set these variables.

    :param variables: the user's environment_variables.
    :param slot: of the process; one that replaces another has the same.
    """
    threads = str(max(1, usable_cores() // processes))
    environment = {name: threads for name in _THREAD_VARIABLES if name not in environ}
    environment |= environ
    environment["PYTHONFAULTHANDLER"] = "1"
    if devices:
        environment["CUDA_VISIBLE_DEVICES"] = devices[slot] if slot < len(devices) else ""
    return {**environment, **variables}
