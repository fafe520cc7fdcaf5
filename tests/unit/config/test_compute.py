import pytest

from airflow_prs.config.compute import ComputeTarget, find_compute_target, load_compute_targets
from airflow_prs.errors import ConfigError


@pytest.fixture
def declare(tmp_path):
    def write(text):
        path = tmp_path / "targets.yml"
        path.write_text(text)
        return path

    return write


def test_the_targets_of_a_file_are_read(declare):
    path = declare("gpu: {queue: gpu, pool: gpus, pool_slots: 2}\nplain:\npod: {executor_config: {image: x}}\n")
    assert load_compute_targets(path) == {
        "gpu": ComputeTarget(queue="gpu", pool="gpus", pool_slots=2),
        "plain": ComputeTarget(),
        "pod": ComputeTarget(executor_config={"image": "x"}),
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("gpu: {quue: gpu}", "compute target gpu: quue is no setting of a compute target; did you mean 'queue'?"),
        ("gpu: {pool_slots: 0}", "compute target gpu: pool_slots is 0; allowed: an int of at least 1, or None"),
        ("gpu: [a]", "compute target gpu: it is ['a']; allowed: a mapping of queue, pool"),
        ("- gpu", "allowed: a mapping from names to queue, pool and so on"),
        ("gpu: {", "is not valid YAML"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(declare, text, problem):
    with pytest.raises(ConfigError) as error:
        load_compute_targets(declare(text))
    assert problem in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*none\.yml: No such file or directory"):
        load_compute_targets(tmp_path / "none.yml")


def test_all_problems_of_a_file_come_in_one_error(declare):
    with pytest.raises(ConfigError) as error:
        load_compute_targets(declare("a: {pool: 3, x: 1}\nb: {queue: ''}"))
    assert len(error.value.problems) == 3


def test_local_always_exists():
    assert find_compute_target("local", {}) == ComputeTarget()


def test_a_declared_target_is_found_by_its_name():
    assert find_compute_target("gpu", {"gpu": ComputeTarget(queue="q")}) == ComputeTarget(queue="q")


def test_a_target_itself_needs_no_name():
    assert find_compute_target(ComputeTarget(queue="q"), {}) == ComputeTarget(queue="q")


def test_an_unknown_name_is_an_error_that_lists_the_known_ones():
    with pytest.raises(ConfigError) as error:
        find_compute_target("gpus", {"gpu": ComputeTarget()})
    assert str(error.value) == "compute_target is 'gpus'; declared are: gpu, local; did you mean 'gpu'?"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"queue": ""}, "queue is ''; allowed: a name, or None"),
        ({"pool": 3}, "pool is 3; allowed: a name, or None"),
        ({"executor": 3}, "executor is 3"),
        ({"pool_slots": True}, "pool_slots is True"),
        ({"executor_config": "x"}, "executor_config is of type str; allowed: a dict, or None"),
    ],
)
def test_a_wrong_setting_is_named(options, problem):
    with pytest.raises(ConfigError) as error:
        ComputeTarget(**options)
    assert problem in str(error.value)


def test_only_what_is_set_becomes_an_argument():
    assert ComputeTarget(queue="q", pool_slots=2).to_arguments() == {"queue": "q", "pool_slots": 2}


def test_the_repr_tells_no_secret_of_the_executor():
    target = ComputeTarget(queue="q", executor_config={"env": {"TOKEN": "s3cret"}})
    assert repr(target) == "ComputeTarget(queue='q', executor_config=<env>)"
