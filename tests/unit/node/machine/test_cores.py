"""How many processes a node gets, and what each of them sees of the machine."""

from __future__ import annotations

import os

import pytest

from airflow_prs.node.machine.cores import default_process_count, process_environment, usable_cores, visible_devices


def test_the_quota_of_a_container_counts_not_the_machines_cores(tmp_path):
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert usable_cores(tmp_path) == 1


def test_part_of_a_core_is_a_core(tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert usable_cores(tmp_path) == 1


@pytest.mark.parametrize(("limit", "cores"), [("250m", 1), ("1", 1), ("1500m", 2), ("2", 2), ("3", 3)])
@pytest.mark.parametrize("version", [1, 2])
def test_the_cpu_limit_of_a_pod_is_its_number_of_processes(tmp_path, monkeypatch, limit, cores, version):
    """A limit of Kubernetes, in cores or thousandths, is a quota in each 100 ms."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)))
    thousandths = int(limit[:-1]) if limit.endswith("m") else 1000 * int(limit)
    if version == 1:
        (tmp_path / "cpu").mkdir()
        (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(f"{100 * thousandths}\n")
        (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    else:
        (tmp_path / "cpu.max").write_text(f"{100 * thousandths} 100000\n")
    assert usable_cores(tmp_path) == cores


@pytest.mark.parametrize("text", ["max 100000\n", ""])
def test_without_a_quota_affinity_counts(tmp_path, text):
    (tmp_path / "cpu.max").write_text(text)
    assert usable_cores(tmp_path) == len(os.sched_getaffinity(0))


def test_affinity_counts_within_the_quota(tmp_path):
    before = os.sched_getaffinity(0)
    (tmp_path / "cpu.max").write_text("6400000 100000\n")
    os.sched_setaffinity(0, {min(before)})
    try:
        assert usable_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)


def test_a_gpu_makes_one_process_the_default():
    assert default_process_count(["0", "1"]) == 1


def test_devices_are_those_that_the_variable_names(tmp_path):
    assert visible_devices({"CUDA_VISIBLE_DEVICES": "2, GPU-8f"}, tmp_path) == ["2", "GPU-8f"]


@pytest.mark.parametrize("hidden", ["", "-1", "NoDevFiles"])
def test_hidden_devices_are_none(tmp_path, hidden):
    (tmp_path / "0000:01:00.0").mkdir()
    assert visible_devices({"CUDA_VISIBLE_DEVICES": hidden}, tmp_path) == []


def test_without_the_variable_devices_are_those_of_the_driver(tmp_path):
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:02:00.0").mkdir()
    assert visible_devices({}, tmp_path) == ["0", "1"]
    assert visible_devices({}, tmp_path / "no-driver") == []


def test_each_process_has_a_device_of_its_own_while_they_last():
    seen = [
        process_environment({}, {}, devices=["5", "7"], slot=slot, processes=3)["CUDA_VISIBLE_DEVICES"]
        for slot in range(3)
    ]
    assert seen == ["5", "7", ""]


def test_without_devices_the_variable_is_left_alone():
    assert "CUDA_VISIBLE_DEVICES" not in process_environment({}, {}, devices=[], slot=0, processes=1)


def test_numeric_libraries_share_the_cores():
    environment = process_environment({}, {}, devices=[], slot=0, processes=1000)
    assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "1"


def test_what_the_user_sets_wins():
    environment = process_environment(
        {"OMP_NUM_THREADS": "3", "COLOUR": "red"},
        {"COLOUR": "blue", "MKL_NUM_THREADS": "4"},
        devices=[],
        slot=0,
        processes=1000,
    )
    assert (environment["OMP_NUM_THREADS"], environment["MKL_NUM_THREADS"]) == ("3", "4")
    assert environment["COLOUR"] == "blue"


def test_a_crash_shows_its_python_stack():
    assert process_environment({}, {}, devices=[], slot=0, processes=1)["PYTHONFAULTHANDLER"] == "1"
