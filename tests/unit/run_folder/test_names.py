"""Names on disk never collide, whatever DAGs, runs and tasks are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_prs.run_folder.folder import earlier_runs, run_folder_of
from airflow_prs.run_folder.names import Names, encode, run_path, shard_prefix
from tests.makers import make_identity

ids = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=300)


@given(ids, ids)
def test_two_ids_never_share_a_folder(one, other):
    assert (encode(one) == encode(other)) == (one == other)


@given(ids)
def test_an_encoded_id_is_one_visible_folder_of_at_most_120_bytes(name):
    encoded = encode(name)
    assert len(encoded.encode()) <= 120
    assert Path(encoded).name == encoded
    assert not encoded.startswith(".")


@given(ids)
def test_an_encoded_id_holds_no_pattern(name):
    assert not set(encode(name)) & set("*?[]")


@pytest.mark.parametrize("name", ["..", ".", "/", "a/b", "scheduled__2024-01-01T00:00:00+00:00", "日本 'x' \"y\""])
def test_ids_that_mean_something_to_a_file_system_are_made_harmless(name, tmp_path):
    folder = run_folder_of(str(tmp_path), make_identity(run_id=name))
    folder.path.mkdir(parents=True)
    assert folder.path.relative_to(tmp_path).parts[0] == "_parallel_run"
    assert len(folder.path.resolve().relative_to(tmp_path).parts) == 5


def test_long_ids_that_differ_at_their_end_alone_have_folders_of_their_own():
    assert encode("x" * 250 + "1") != encode("x" * 250 + "2")


def test_the_run_folder_lies_under_output_dag_run_task_and_plan():
    path = run_path("/out", make_identity("plan-1", run_id="run 1"))
    assert path == Path("/out/_parallel_run/digits/run%201/score/plan-1")


def test_shards_sort_by_number():
    prefixes = [shard_prefix(number) for number in (2, 10, 1000)]
    assert prefixes == sorted(prefixes)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("stdout", "stdout/host-0-1/process000.stdout.txt"),
        ("stderr", "stderr/host-0-1/process000.stderr.txt"),
        ("entry_script_log", "entry_script_log/host-0-1/process000.log.txt"),
    ],
)
def test_logs_lie_where_the_original_has_them(kind, expected):
    assert Names(Path("/run")).log(kind, "host-0-1", "process000") == Path("/run/logs/user", expected)


def test_run_folders_of_all_runs_of_a_task_are_listed_newest_first(tmp_path):
    for run_id, plan in (("run 1", "plan-1"), ("run [2]", "plan-3"), ("run 3", "plan-2")):
        folder = run_folder_of(str(tmp_path), make_identity(plan, run_id=run_id))
        folder.path.mkdir(parents=True)
        folder.open_task_log().claim_plan()
    run_folder_of(str(tmp_path), make_identity("plan-4", task_id="other")).path.mkdir(parents=True)
    found = earlier_runs(str(tmp_path), "digits", "score")
    assert [folder.path.name for folder in found] == ["plan-3", "plan-2", "plan-1"]
