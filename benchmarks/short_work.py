"""Measure mini-batches with almost no work: the cost of handing out, answering and committing."""

from __future__ import annotations

import functools
import os
import time
from concurrent.futures import ProcessPoolExecutor

from benchmarks.comparing import Comparison
from benchmarks.shards import PROCESSES, shard_in_new_process, shard_s

MINI_BATCHES, ITEMS = 2000, 10
BASE_NAMES = """
import os
def run(mini_batch):
    return [os.path.basename(path) for path in mini_batch]
"""


def work() -> list[list[str]]:
    """Return the items of all mini-batches."""
    return [[f"item-{number * ITEMS + place}" for place in range(ITEMS)] for number in range(MINI_BATCHES)]


def base_names(mini_batch: list[str]) -> list[str]:
    return [os.path.basename(path) for path in mini_batch]


def ours_s() -> float:
    return shard_s(BASE_NAMES, mini_batches=MINI_BATCHES, items=ITEMS)


def pool_s() -> float:
    mini_batches = work()
    with ProcessPoolExecutor(PROCESSES) as pool:
        list(pool.map(base_names, mini_batches[:20]))
        began = time.monotonic()
        list(pool.map(base_names, mini_batches, chunksize=1))
        return time.monotonic() - began


def short(scale: float) -> list[Comparison]:  # noqa: ARG001 - it is small already
    return [
        Comparison(
            "W1: 2,000 mini-batches of 10 paths, base names, durable",
            "ProcessPoolExecutor.map, chunksize 1, nothing durable",
            0.5,
            ours_s,
            pool_s,
            rounds=7,
        )
    ]


def million(scale: float) -> list[Comparison]:
    many, few = int(1_000_000 * scale), 1000
    large = functools.cache(lambda: shard_in_new_process(BASE_NAMES, mini_batches=many, items=ITEMS))
    small = functools.cache(lambda: shard_in_new_process(BASE_NAMES, mini_batches=few, items=ITEMS))
    return [
        Comparison(
            f"a mini-batch in a shard of {many:,}",
            f"a mini-batch in a shard of {few:,}",
            1.2,
            lambda: large()[0] / many,
            lambda: small()[0] / few,
            rounds=1,
        ),
        Comparison(
            f"memory of the supervisor of {many:,} mini-batches, beyond that of {few:,}",
            "100 MiB",
            1.0,
            lambda: max(0.0, large()[1] - small()[1]),
            lambda: 100 * 2.0**20,
            unit="MiB",
            rounds=1,
        ),
    ]
