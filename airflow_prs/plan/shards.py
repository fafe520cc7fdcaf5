"""Deal mini-batches into shards of even weight."""

from __future__ import annotations

from bisect import bisect_left
from itertools import pairwise
from typing import TYPE_CHECKING

from airflow_prs.errors import ConfigError
from airflow_prs.records import Shard

if TYPE_CHECKING:
    import numpy.typing as npt


def deal(
    items: npt.ArrayLike,
    sizes: npt.ArrayLike,
    *,
    node_count: int,
    mini_batches_per_task: int | None,
    max_shards: int,
) -> tuple[Shard, ...]:
    """
    Return the shards: consecutive ranges that cover all mini-batches in their order.

    :param items: items of each mini-batch.
    :param sizes: bytes of each mini-batch.
    :param node_count: number of shards, if ``mini_batches_per_task`` is None.
    :param mini_batches_per_task: mini-batches of each shard; None: shards have even weight instead.
    :param max_shards: the most shards that Airflow allows.
    :raises ConfigError: if there would be more shards than Airflow allows.
    """
    import numpy as np

    items, sizes = np.asarray(items, np.int64), np.asarray(sizes, np.int64)
    total = len(items)
    if mini_batches_per_task is None:
        starts = even_starts(np.where(sizes, sizes, items), node_count)
    else:
        starts = list(range(0, total, mini_batches_per_task))
    if len(starts) > max_shards:
        raise ConfigError([_too_many(len(starts), total, mini_batches_per_task, node_count, max_shards)])
    return tuple(
        Shard(
            number=number,
            first=first,
            count=end - first,
            items=int(items[first:end].sum()),
            size_bytes=int(sizes[first:end].sum()),
        )
        for number, (first, end) in enumerate(pairwise([*starts, total]))
    )


def even_starts(weights: npt.ArrayLike, count: int) -> list[int]:
    """
    Return the index of the first mini-batch of each of ``count`` shards; fewer if there are fewer mini-batches.

    Each shard ends at the mini-batch nearest to its even share. So no shard is heavier than an even share and one
    mini-batch.
    """
    import numpy as np

    sums = np.concatenate(([0], np.cumsum(weights, dtype=np.int64)))
    total = len(sums) - 1
    count = min(count, total)
    starts = [0] if count else []
    for number in range(1, count):
        share = int(sums[-1]) * number / count
        nearest = bisect_left(sums, share)
        if nearest and share - sums[nearest - 1] < sums[nearest] - share:
            nearest -= 1
        starts.append(min(max(nearest, starts[-1] + 1), total - (count - number)))
    return starts


def _too_many(shards: int, total: int, per_task: int | None, node_count: int, allowed: int) -> str:
    cause = f"node_count={node_count}" if per_task is None else f"mini_batches_per_task={per_task}"
    return (
        f"{cause} makes {shards} shards of {total} mini-batches, but Airflow maps a task at most {allowed} times "
        f"([core] max_map_length); set mini_batches_per_task={-(-total // allowed)} or more."
    )
