"""What status.json of a run keeps of the past."""

from __future__ import annotations

from itertools import pairwise

import pytest

from airflow_prs.node.run_status import RunStatus, add_point
from tests.makers import make_folder


@pytest.mark.parametrize("every_s", [2, 10])
def test_a_history_is_bounded_even_and_ends_now(every_s):
    history = []
    for moment in range(0, 40_000, every_s):
        history = add_point(history, {"at": float(moment)})
    times = [point["at"] for point in history]
    gaps = [after - before for before, after in pairwise(times)]
    assert 50 < len(history) <= 120
    assert (times[0], times[-1]) == (0.0, 40_000 - every_s)
    assert max(gaps) < 6 * sorted(gaps)[len(gaps) // 2]


def test_a_short_run_keeps_every_point():
    history = []
    for moment in range(0, 200, 2):
        history = add_point(history, {"at": float(moment)})
    assert len(history) == 100


def test_another_node_carries_the_history_on(tmp_path):
    folder = make_folder(tmp_path, 3, 3)
    manifest = folder.read_manifest()
    states = [folder.read_shard(shard) for shard in manifest.shards]
    first, second = RunStatus(folder, manifest), RunStatus(folder, manifest)
    for node in (first, second, first):
        node.write(states, node.stat())
    history = folder.read_status()["history"]
    assert (len(history), history[0]["done"], history[0]["cpu_percent"]) == (3, 0, None)
