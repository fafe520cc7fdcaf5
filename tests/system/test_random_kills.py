"""A kill at a random moment of a run of many short mini-batches, under a scheduler."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.airflow_services import wait_until
from tests.shards import read_outcomes
from tests.system.step_runs import Place, StepRun, under_way, write_dag

if TYPE_CHECKING:
    from psutil import Process

pytestmark = [pytest.mark.system, pytest.mark.slow]

DAG_ID = "random_kills"
ROUNDS = range(5)
MINI_BATCHES = 2000
LATEST = 700
"""Of the thousand mini-batches of the shard, so many are committed at most before the kill."""
PACE_S = 0.005


@dataclass(frozen=True)
class Round:
    """
    What came of a round.

    :param committed: the items that were committed before the kill.
    """

    run: StepRun
    state: str
    committed: set[str]


def choose_victim(run: StepRun, chance: random.Random) -> Process:
    node = run.task_process(0)
    guards = node.children()
    workers = [worker for guard in guards for worker in guard.children()]
    return chance.choice([[node], [node.parent()], guards, workers])[0]


def go_through(airflow, place: Place, seed: int) -> Round:
    chance = random.Random(seed)
    run = StepRun.trigger(airflow, DAG_ID, place, nodes=2, pace_s=PACE_S)
    moment = chance.randrange(LATEST)
    run.wait_for_shard(0, done=1)
    victim = choose_victim(run, chance)
    folder = run.folder()
    shard = folder.read_manifest().shards[0]
    wait_until(lambda: folder.read_shard(shard).progress.done >= moment, run.summary, every=0.01)
    time.sleep(chance.uniform(0, 0.5))
    committed = {place.items[index] for index in read_outcomes(folder)["index"].tolist()}
    victim.kill()
    return Round(run, run.finish_after_kill(), committed)


@pytest.fixture(scope="module")
def rounds(airflow, tmp_path_factory):
    """All rounds, under way at once."""
    write_dag(airflow, DAG_ID)
    places = {seed: Place(tmp_path_factory.mktemp("round") / "place", MINI_BATCHES) for seed in ROUNDS}
    jobs = {seed: partial(go_through, airflow, place, seed) for seed, place in places.items()}
    with under_way(airflow, jobs, at_once=len(ROUNDS)) as futures:
        yield futures


@pytest.mark.parametrize("seed", ROUNDS)
def test_a_kill_at_a_random_moment_loses_and_doubles_nothing(rounds, seed):
    ended = rounds[seed].result()
    place = ended.run.place
    assert ended.state == "success", ended.run.states()
    assert place.result == place.items
    assert {item for item in ended.committed if place.ran[item] > 1} == set()
