"""Whatever dies, stalls or comes late: the promises of the run folder's protocol hold in simulated runs."""

from __future__ import annotations

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from airflow_prs.run_folder import checkpoints, inheritance
from airflow_prs.run_folder.log import Log
from tests.unit.run_folder.protocol_choices import play
from tests.unit.run_folder.protocol_publication import Publication
from tests.unit.run_folder.protocol_run import Run

SEEDS = st.integers(0, 2**32)
# A failing schedule is made shorter by protocol_choices, which takes seconds.
QUICK = settings(deadline=None, phases=[Phase.reuse, Phase.generate])
EVENTS = ["land", "kill", "forget", "twin", "clear_one", "clear_all", "execute", "abort", "limit", "gatekeep"]


def work(choose, steps=400):
    """Draw a run's shards and what may happen to it, then let it happen."""
    counts = [choose(10), *(choose(5) if choose(2) else 0 for _ in range(choose(3)))]
    poison = [choose(sum(counts) or 1) for _ in range(max(0, choose(4) - 1))]
    events = [*["switch"] * 12, "end", *(event for event in EVENTS if choose(3) == 2)]
    rules = {"calm": 31 - choose(8), "limit": choose(4) - 1, "bad": 4 - choose(3)}
    rules |= {"is_faulty": choose(2) == 1, "is_old": choose(4) == 3}
    Run(choose, counts=counts, poison=poison, events=events, **rules).play(steps)


def publish(choose, steps=200):
    """Draw what plans and merges may go through, then let it happen."""
    events = [*["switch"] * 6, "plan", "merge", "merge", "commit", "twin", "land", *["kill"] * choose(2)]
    Publication(choose, events=events, calm=31 - choose(12), is_faulty=choose(2) == 1).play(steps)


@pytest.fixture(autouse=True, scope="module")
def _is_fast():
    """Write checkpoints after few records, call few suspects a crowd, and let nobody sleep while the storage lags."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Log.__init__.__kwdefaults__, "sleep", lambda seconds: None)
        for name, value in {"_FEW_RECORDS": 2, "_RECORDS": 5, "_LARGE": 8}.items():
            patch.setattr(checkpoints, name, value)
        patch.setattr(inheritance, "GROUP", 1)
        yield


@settings(QUICK, max_examples=250)
@given(SEEDS)
def test_shards_keep_their_promises(seed):
    play(work, seed)


@settings(QUICK, max_examples=250)
@given(SEEDS)
def test_the_newest_result_stands(seed):
    play(publish, seed)


@pytest.mark.slow
@settings(QUICK, max_examples=1500)
@given(SEEDS)
def test_shards_keep_their_promises_in_many_runs(seed):
    play(work, seed)


@pytest.mark.slow
@settings(QUICK, max_examples=1500)
@given(SEEDS)
def test_the_newest_result_stands_in_many_runs(seed):
    play(publish, seed)
