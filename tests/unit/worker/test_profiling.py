import pstats

import pytest

from airflow_prs.worker.profiling import WRITE_EVERY_S, RunProfile


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["cProfile", "profile"])
def profile(request, tmp_path, clock):
    return RunProfile(request.param, str(tmp_path / "logs" / "process000.prof"), clock)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "logs" / "process000.prof"


def score():
    return "scored"


def calls_of_score(path):
    (calls,) = (calls for (_, _, name), (_, calls, *_) in pstats.Stats(str(path)).stats.items() if name == "score")
    return calls


def test_what_a_function_returns_is_passed_on(profile):
    assert profile.call(score) == "scored"


def test_a_profile_is_written_each_minute_and_goes_on(profile, path, clock):
    profile.call(score)
    profile.write_if_due()
    assert not path.exists()
    clock.now += WRITE_EVERY_S
    profile.write_if_due()
    assert calls_of_score(path) == 1
    profile.call(score)
    profile.call(score)
    clock.now += WRITE_EVERY_S
    profile.write_if_due()
    assert calls_of_score(path) == 3


def test_a_profile_without_a_call_can_be_written(profile, path):
    profile.write()
    assert path.exists()
