"""Plan as a whole: from a request to a run folder."""

import json
import logging
import os
import re
import shutil
import sys
from dataclasses import replace
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.datasets import FileDataset, TabularDataset
from airflow_prs.config.environment import Environment
from airflow_prs.errors import ConfigError, EmptyInputError, EntryScriptError, InputError, RunFolderError
from airflow_prs.inputs import versions
from airflow_prs.plan import planning
from airflow_prs.plan.planning import PlanRequest, make_plan
from airflow_prs.records import InputKind, Piece, RunIdentity
from airflow_prs.result.merge import merge_run
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.run_folder.shard_records import Closing
from airflow_prs.store.posix import PosixStore
from tests.makers import commit, do_shard, make_failure, open_attempt


@pytest.fixture
def dags(tmp_path):
    """A folder with a DAG file's scripts and data."""
    for name in ("scripts/score.py", "data/b.txt", "data/a.txt", "data/sub/c.txt"):
        path = tmp_path / "dags" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("def run(mini_batch):\n    return mini_batch\n")
    return tmp_path / "dags"


@pytest.fixture
def request_plan(dags, tmp_path):
    """Make a request; each has a run of its own."""
    runs = iter(range(100))

    def make(*datasets, settings=None, **changes):
        values = {
            "environment": Environment.current(),
            "entry_script": "score.py",
            "source_directory": "scripts",
            "error_threshold": 0,
            "output_action": "append_row",
            "compute_target": "local",
            "node_count": 2,
            **(settings or {}),
        }
        number = next(runs)
        given = {
            "config": ParallelRunConfig(**values),
            "datasets": datasets or (FileDataset("data").as_named_input("texts"),),
            "output": str(tmp_path / "out"),
            "run_root": str(tmp_path / "root"),
            "dag_folder": str(dags),
            "identity": RunIdentity(dag_id="dag", run_id=f"run{number}", task_id="step", plan=f"plan{number:02}"),
        }
        return PlanRequest(**{**given, **changes})

    return make


def mini_batches(result):
    return list(result.folder.read_mini_batches(0, result.manifest.mini_batches))


def written(output):
    """Return the files below an output, without the task logs, where plans note that they have begun."""
    return [path for path in output.rglob("*") if path.is_file() and path.parent.name != "log"]


def version_of(path):
    return f"{path.stat().st_size}-{path.stat().st_mtime_ns}"


def complete(result, status="completed"):
    result.folder.names.report.write_text(json.dumps({"status": status}))
    return result


def publish(result):
    for number in range(len(result.manifest.shards)):
        do_shard(result.folder, number)
    merge_run(result.folder)
    return result


def test_files_become_mini_batches_and_shards(request_plan, dags):
    result = make_plan(request_plan(settings={"mini_batch_size": 1}))
    assert [[piece.path for piece in m.pieces] for m in mini_batches(result)] == [
        [f"{dags}/data/{name}"] for name in ("a.txt", "b.txt", "sub/c.txt")
    ]
    assert (result.manifest.mini_batches, result.manifest.items) == (3, 3)
    assert [(shard.first, shard.count) for shard in result.manifest.shards] in ([(0, 1), (1, 2)], [(0, 2), (2, 1)])
    assert result.folder.read_manifest() == result.manifest
    assert result.folder.names.source_zip.exists()


def test_settings_say_what_was_resolved(request_plan, dags):
    side = FileDataset("data/sub").as_named_input("labels")
    result = make_plan(
        request_plan(settings={"entry_script": "./score.py"}, side_inputs=(side,), arguments=("--x", "1"))
    )
    settings = result.folder.read_settings()
    assert settings.config.entry_script == "score.py"
    assert settings.arguments == ("--x", "1")
    assert settings.side_inputs == {"labels": f"{dags}/data/sub"}
    assert [spec.kind for spec in settings.inputs] == [InputKind.FILES]
    assert settings.reused_from is None


def test_inputs_are_cut_one_after_the_other_with_indices_through_all(request_plan):
    first, second = FileDataset("data/*.txt").as_named_input("one"), FileDataset("data/sub").as_named_input("two")
    result = make_plan(request_plan(first, second, settings={"mini_batch_size": 1}))
    assert [(m.index, m.input) for m in mini_batches(result)] == [(0, "one"), (1, "one"), (2, "two")]


def test_ten_files_are_a_mini_batch_by_default(request_plan, dags):
    for number in range(18):
        (dags / f"data/{number}.txt").touch()
    assert [m.items for m in mini_batches(make_plan(request_plan()))] == [10, 10, 1]


def test_delimited_files_are_cut_in_rows_and_their_columns_recorded(request_plan, dags):
    (dags / "t.csv").write_text("a,b\n1,2\n3,4\n5,6\n")
    table = TabularDataset.from_delimited_files("t.csv").as_named_input("table")
    result = make_plan(request_plan(table, settings={"mini_batch_size": "2 rows"}))
    (spec,) = result.folder.read_settings().inputs
    assert spec.options == {
        "separator": ",",
        "header": True,
        "encoding": "utf-8",
        "comment": None,
        "columns": ["a", "b"],
        "chosen": None,
        "dtypes": {"a": "int64", "b": "int64"},
    }
    version = version_of(dags / "t.csv")
    assert [(m.items, m.pieces) for m in mini_batches(result)] == [
        (2, (Piece(f"{dags}/t.csv", 4, 12, version=version, row=1, line=2),)),
        (1, (Piece(f"{dags}/t.csv", 12, 16, version=version, row=3, line=4),)),
    ]


def test_parquet_files_are_cut(request_plan, dags):
    pq.write_table(pa.table({"a": [1, 2, 3]}), dags / "t.parquet")
    table = TabularDataset.from_parquet_files("t.parquet").as_named_input("table")
    result = make_plan(request_plan(table))
    piece = Piece(f"{dags}/t.parquet", 0, 3, 0, version_of(dags / "t.parquet"), row=1)
    assert [m.pieces for m in mini_batches(result)] == [(piece,)]


def test_a_folder_as_other_engines_write_it_is_a_table(request_plan, dags):
    folder = dags / "t"
    footers = []
    pq.write_to_dataset(pa.table({"a": [1, 2], "_x": ["p", "q"]}), folder, ["_x"], metadata_collector=footers)
    for footer in footers:
        footer.set_file_path(footer.row_group(0).column(0).file_path)
    pq.write_metadata(pa.schema({"a": pa.int64()}), folder / "_metadata", footers)
    pq.write_metadata(pa.schema({"a": pa.int64()}), folder / "_common_metadata")
    (folder / "_SUCCESS").touch()
    (folder / "_SUCCESS.crc").touch()
    (folder / "_x=p/.part-0.parquet.crc").write_bytes(b"crc")
    (folder / "_temporary/0").mkdir(parents=True)
    (folder / "_temporary/0/torn.parquet").write_bytes(b"PAR1")
    result = make_plan(request_plan(TabularDataset.from_parquet_files("t").as_named_input("table")))
    assert [m.items for m in mini_batches(result)] == [1, 1]
    assert result.folder.read_settings().inputs[0].partition_keys == ("_x",)


def test_a_size_in_bytes_that_meant_rows_is_warned_of(request_plan, dags, caplog):
    (dags / "t.csv").write_text("a\n" + "123456789\n" * 9)
    table = TabularDataset.from_delimited_files("t.csv").as_named_input("table")
    with caplog.at_level(logging.WARNING):
        make_plan(request_plan(table, settings={"mini_batch_size": 10}))
    assert any('"20 rows"' in message for message in caplog.messages)


def test_each_combination_of_partition_keys_is_a_mini_batch(request_plan, dags):
    for name in ("2024/01/ann/1.wav", "2024/01/bob/2.wav", "2024/02/ann/3.wav", "2024/02/ann/4.wav"):
        path = dags / "music" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    music = FileDataset("music", partition_format="/{month:yyyy/MM}/{user}/{track}.wav").as_named_input("music")
    result = make_plan(request_plan(music, settings={"partition_keys": ["user", "month"]}))
    assert [(m.partition, m.items) for m in mini_batches(result)] == [
        ({"user": "ann", "month": datetime.fromisoformat("2024-01-01")}, 1),
        ({"user": "bob", "month": datetime.fromisoformat("2024-01-01")}, 1),
        ({"user": "ann", "month": datetime.fromisoformat("2024-02-01")}, 2),
    ]
    assert result.folder.read_settings().inputs[0].partition_keys == ("month", "user", "track")


def test_partition_format_alone_cuts_as_usual_but_every_file_must_match(request_plan, dags):
    texts = FileDataset("data/*.txt", partition_format="/{name}.txt").as_named_input("texts")
    assert [m.partition for m in mini_batches(make_plan(request_plan(texts)))] == [None]
    (dags / "data/odd").write_text("x")
    with pytest.raises(InputError, match=r"data/odd' does not match partition_format"):
        make_plan(request_plan(replace(texts, path="data")))


@pytest.mark.parametrize("partition_format", [None, "/{user}.txt"])
def test_unknown_partition_keys_are_refused(request_plan, partition_format):
    texts = FileDataset("data/*.txt", partition_format=partition_format).as_named_input("texts")
    with pytest.raises(ConfigError, match=r"partition_keys is .*'day'"):
        make_plan(request_plan(texts, settings={"partition_keys": ["day"]}))


@pytest.mark.parametrize("size", ["10KB", "5 rows"])
def test_files_are_cut_in_files_only(request_plan, size):
    with pytest.raises(ConfigError, match=r"mini_batch_size is .*a number of files"):
        make_plan(request_plan(settings={"mini_batch_size": size}))


def test_an_empty_input_names_the_pattern_and_writes_nothing(request_plan, tmp_path):
    images = FileDataset("data/*.png").as_named_input("images")
    with pytest.raises(EmptyInputError, match=r"input 'images': 'data/\*\.png' matched no file"):
        make_plan(request_plan(images))
    assert not written(tmp_path / "out")


def test_an_empty_input_may_skip(request_plan, tmp_path, caplog):
    caplog.set_level("INFO")
    result = make_plan(request_plan(FileDataset("data/*.png").as_named_input("images"), on_empty="skip"))
    assert result.is_empty
    assert result.manifest.shards == ()
    assert not written(tmp_path / "out")
    assert [message.split(":")[0] for message in caplog.messages] == ["Starting", "input 'images'"]


@pytest.mark.parametrize("path", ["data/today", "data/today/", "data/today/*.txt", "data/today.txt"])
def test_a_missing_last_folder_may_skip(request_plan, path):
    request = request_plan(FileDataset(path).as_named_input("today"))
    with pytest.raises(EmptyInputError, match=r"today.*does not exist.*on_empty=\"skip\""):
        make_plan(request)
    assert make_plan(replace(request, on_empty="skip")).is_empty


@pytest.mark.parametrize("path", ["share/today", "share/today/*.txt"])
def test_a_missing_parent_never_skips(request_plan, path):
    with pytest.raises(InputError, match=r"there is no '.*/share'"):
        make_plan(request_plan(FileDataset(path).as_named_input("today"), on_empty="skip"))


def test_files_without_any_row_are_an_empty_input(request_plan, dags):
    (dags / "t.csv").write_text("a,b\n")
    request = request_plan(TabularDataset.from_delimited_files("*.csv").as_named_input("table"))
    with pytest.raises(EmptyInputError, match="input 'table': 1 file holds no data"):
        make_plan(request)
    assert make_plan(replace(request, on_empty="skip")).is_empty


def test_one_empty_input_of_several_does_not_skip_the_others(request_plan):
    texts, images = FileDataset("data").as_named_input("texts"), FileDataset("*.png").as_named_input("images")
    result = make_plan(request_plan(texts, images, on_empty="skip"))
    assert (result.is_empty, result.manifest.items) == (False, 3)


def test_the_result_among_the_input_is_left_out(request_plan, dags):
    (dags / "data/result.txt").write_text("old result")
    result = make_plan(request_plan(output=str(dags / "data"), published_name="result.txt"))
    assert result.manifest.items == 3


def test_a_script_that_cannot_be_used_is_refused_before_anything_is_written(request_plan, dags, tmp_path):
    (dags / "scripts/score.py").write_text("def runs(mini_batch): ...")
    with pytest.raises(EntryScriptError, match=r"score\.py defines no run\(\)"):
        make_plan(request_plan())
    assert not written(tmp_path / "out")


def test_more_shards_than_airflow_allows_say_what_fits(request_plan):
    request = request_plan(settings={"mini_batch_size": 1, "mini_batches_per_task": 1}, max_shards=2)
    with pytest.raises(ConfigError, match="mini_batches_per_task=2 or more"):
        make_plan(request)


def test_without_output_the_run_folder_lies_under_the_run_root(request_plan, tmp_path):
    result = make_plan(request_plan(settings={"output_action": "summary_only"}, output=None))
    assert result.folder.path.is_relative_to(tmp_path / "root")


@pytest.mark.parametrize("path", ["data/*.txt", ["data/a.txt", "data/b.txt"]])
def test_a_side_input_is_one_file_or_folder(request_plan, path):
    with pytest.raises(ConfigError, match="'labels' matches 2 files"):
        make_plan(request_plan(side_inputs=(FileDataset(path).as_named_input("labels"),)))


def test_a_side_input_that_matches_one_file_is_that_file(request_plan, dags):
    result = make_plan(request_plan(side_inputs=(FileDataset("data/a*").as_named_input("labels"),)))
    assert result.folder.read_settings().side_inputs == {"labels": f"{dags}/data/a.txt"}


class TestReuse:
    """allow_reuse."""

    def test_an_equal_completed_run_is_reused(self, request_plan):
        earlier = complete(make_plan(request_plan()))
        result = make_plan(request_plan())
        assert result.reused_from == str(earlier.folder.path)
        assert result.manifest.shards == ()
        assert not result.is_empty
        settings = result.folder.read_settings()
        assert settings.reused_from == result.reused_from
        assert settings.inputs == earlier.folder.read_settings().inputs

    def test_the_newest_one_is(self, request_plan):
        complete(make_plan(request_plan(allow_reuse=False)))
        newest = complete(make_plan(request_plan(allow_reuse=False)))
        make_plan(request_plan(allow_reuse=False))
        assert make_plan(request_plan()).reused_from == str(newest.folder.path)

    def test_a_run_that_itself_reused_another_leads_to_that(self, request_plan):
        first = complete(make_plan(request_plan()))
        complete(make_plan(request_plan()))
        assert make_plan(request_plan()).reused_from == str(first.folder.path)

    def test_the_run_known_by_its_xcom_is_found_under_another_output(self, request_plan, tmp_path):
        earlier = complete(make_plan(request_plan()))
        other = str(tmp_path / "elsewhere")
        assert make_plan(request_plan(output=other)).reused_from is None
        known = request_plan(output=other, earlier=str(earlier.folder.path))
        assert make_plan(known).reused_from == str(earlier.folder.path)

    def test_what_summary_only_wrote_is_reused_under_the_same_output_only(self, request_plan, tmp_path):
        summary = {"output_action": "summary_only"}
        earlier = complete(make_plan(request_plan(settings=summary)))
        other = {"output": str(tmp_path / "elsewhere"), "earlier": str(earlier.folder.path)}
        assert make_plan(request_plan(settings=summary)).reused_from == str(earlier.folder.path)
        assert make_plan(request_plan(settings=summary, **other)).reused_from is None

    def test_a_run_never_reuses_itself(self, request_plan):
        request = request_plan()
        complete(make_plan(request))
        again = replace(request, identity=replace(request.identity, plan="plan99"))
        assert make_plan(again).reused_from is None

    @pytest.mark.parametrize("report", ['{"status": "aborted"}', "torn", "[]", "{}", None])
    def test_a_run_that_is_not_known_to_be_completed_is_not_reused(self, request_plan, report):
        earlier = make_plan(request_plan())
        if report is not None:
            earlier.folder.names.report.write_text(report)
        assert make_plan(request_plan()).reused_from is None

    def test_a_damaged_earlier_run_is_passed_over(self, request_plan):
        good = complete(make_plan(request_plan()))
        damaged = complete(make_plan(request_plan(allow_reuse=False)))
        damaged.folder.names.settings.write_text("{")
        assert make_plan(request_plan()).reused_from == str(good.folder.path)

    def test_changed_input_code_or_settings_are_not_reused(self, request_plan, dags):
        complete(make_plan(request_plan()))
        assert make_plan(request_plan(settings={"mini_batch_size": 2})).reused_from is None
        assert make_plan(request_plan(arguments=("--x", "1"))).reused_from is None
        os.utime(dags / "data/a.txt", (1, 1))
        assert make_plan(request_plan()).reused_from is None
        complete(make_plan(request_plan()))
        (dags / "scripts/lib.py").write_text("")
        assert make_plan(request_plan()).reused_from is None

    @pytest.mark.parametrize("changed", [{"error_threshold": 1}, {"run_max_try": 9}, {"run_invocation_timeout": 9}])
    def test_a_run_whose_mini_batches_fail_by_other_rules_is_not_reused(self, request_plan, changed):
        complete(make_plan(request_plan()))
        assert make_plan(request_plan(settings=changed)).reused_from is None
        assert make_plan(request_plan(settings={"node_count": 7, "lend": False})).reused_from is not None

    def test_a_continued_run_is_reused_by_its_last_rules(self, request_plan):
        first = request_plan()
        make_plan(first)
        config = first.config.model_copy(update={"error_threshold": 5})
        continued = complete(make_plan(replace(first, config=config)))
        assert make_plan(request_plan()).reused_from is None
        assert make_plan(request_plan(settings={"error_threshold": 5})).reused_from == str(continued.folder.path)

    def test_a_run_without_rows_is_not_reused(self, request_plan, caplog):
        caplog.set_level("INFO")
        with_rows = publish(make_plan(request_plan()))
        without = publish(make_plan(request_plan(settings={"keep_rows": False}, allow_reuse=False)))
        assert make_plan(request_plan()).reused_from == str(with_rows.folder.path)
        assert f"No reuse of {without.folder.path}: its rows were deleted" in caplog.text

    def test_a_run_that_reuses_leaves_the_rows_of_the_other(self, request_plan):
        earlier = publish(make_plan(request_plan()))
        again = make_plan(request_plan(settings={"keep_rows": False}))
        assert again.reused_from == str(earlier.folder.path)
        publish(again)
        assert list(earlier.folder.path.glob("shards/*/rows/*"))

    def test_another_version_of_this_package_is_not_reused(self, request_plan, monkeypatch):
        complete(make_plan(request_plan()))
        known = versions.version
        monkeypatch.setattr(versions, "version", lambda name: "9.9" if name == "airflow-prs" else known(name))
        assert make_plan(request_plan()).reused_from is None

    def test_an_interpreter_that_cannot_be_asked_turns_it_off(self, request_plan, caplog):
        unknown = {"environment": Environment.from_python("/nowhere/python")}
        complete(make_plan(request_plan(settings=unknown)))
        assert make_plan(request_plan(settings=unknown)).reused_from is None
        assert "No reuse: the packages of /nowhere/python cannot be listed." in caplog.text

    def test_a_newer_library_of_the_script_is_not_reused(self, request_plan, tmp_path):
        interpreter, library = tmp_path / "python", tmp_path / "packages/scikit_learn-1.5.0.dist-info"
        interpreter.write_text(f'#!/bin/sh\nPYTHONPATH={library.parent} exec "{sys.executable}" "$@"\n')
        interpreter.chmod(0o755)
        library.mkdir(parents=True)
        chosen = {"environment": Environment.from_python(interpreter)}
        complete(make_plan(request_plan(settings=chosen)))
        assert make_plan(request_plan(settings=chosen)).reused_from is not None
        library.rename(library.with_name("scikit_learn-1.6.0.dist-info"))
        assert make_plan(request_plan(settings=chosen)).reused_from is None

    def test_it_can_be_switched_off(self, request_plan):
        complete(make_plan(request_plan()))
        assert make_plan(request_plan(allow_reuse=False)).reused_from is None
        assert make_plan(request_plan(variables_hash=None)).reused_from is None


NO_EFFECT = "has no effect in a continued folder: its shards stay as first planned."
BORROWS = "The shards stay as first planned; 1 more node takes mini-batches over from them."
RANKS = ("--rank_mini_batch_count", "5")


class TestContinuing:
    """Plan again in the same run."""

    @pytest.fixture
    def plan(self, request_plan, caplog):
        """Plan one run again and again, and return the result and the first line of the log."""
        request = request_plan()
        plans = iter(range(99, 0, -1))
        caplog.set_level(logging.INFO)

        def make(*datasets, settings=None, **changes):
            caplog.clear()
            made = request_plan(*datasets, settings=settings, **changes)
            # The ids of later plans sort before those of earlier ones.
            identity = replace(request.identity, plan=f"plan{next(plans)}")
            result = make_plan(replace(made, identity=identity))
            return result, next(record.getMessage() for record in caplog.records if "ontinuing" in record.name)

        return make

    def test_the_same_work_goes_on_in_the_folder_that_has_it(self, plan):
        (first, begun), (again, continued) = plan(), plan()
        assert begun == "Starting: this is the first execution of plan in this run."
        assert continued.startswith(f"Continuing {first.folder.path}:")
        assert again.folder.path == first.folder.path
        assert again.manifest == first.manifest
        assert again.folder.execution > first.folder.execution
        assert [path.name for path in first.folder.path.parent.iterdir() if path.name != "log"] == ["plan99"]

    def test_it_goes_on_under_new_terms(self, plan, caplog):
        first, _ = plan(settings={"error_threshold": 0, "run_max_try": 2})
        planned = first.folder.names.settings.read_bytes()
        terms = {"error_threshold": 5, "run_max_try": 4, "run_invocation_timeout": 9, "process_count_per_node": 3}
        again, _ = plan(settings=terms)
        assert again.folder.path == first.folder.path
        # The newest limits count for everybody, the other terms for their own execution.
        for folder, expected in ((again.folder, (5, 4, 9, 3)), (first.folder, (5, 2, 60, None))):
            config = folder.read_settings().config
            found = config.error_threshold, config.run_max_try, config.run_invocation_timeout
            assert (*found, config.process_count_per_node) == expected
        assert RunFolder(first.folder.path).read_settings() == again.folder.read_settings()
        assert first.folder.names.settings.read_bytes() == planned
        assert "error_threshold is 5, was 0" in caplog.text

    @pytest.mark.parametrize("thresholds", [[0], [0, 0], [0, 5], [0, 5, 5], [0, 5, 0]])
    def test_the_run_log_has_the_limits_of_each_execution_that_goes_on(self, plan, thresholds):
        results = [plan(settings={"error_threshold": threshold})[0] for threshold in thresholds]
        log = results[0].folder.run_log()
        log.follow()
        assert [record.limits.error_threshold for record in log.records] == thresholds[1:]

    @pytest.mark.parametrize("threshold", [0, 5])
    def test_a_plan_that_is_late_leaves_the_limits_of_a_later_one(self, plan, threshold, monkeypatch):
        first, _ = plan(settings={"error_threshold": 0})
        set_limits = planning.set_limits

        def set_late(folder, limits):
            monkeypatch.setattr(planning, "set_limits", set_limits)
            plan(settings={"error_threshold": threshold})
            set_limits(folder, limits)

        monkeypatch.setattr(planning, "set_limits", set_late)
        plan(settings={"error_threshold": 9})
        log = first.folder.run_log()
        log.follow()
        assert log.limits.error_threshold == threshold

    @pytest.mark.parametrize(
        ("changes", "borrowing", "line"),
        [
            ({"node_count": 3}, [2], BORROWS),
            # There are only three mini-batches.
            ({"node_count": 8}, [2], BORROWS),
            (
                {"node_count": 3, "lend": False},
                [],
                f"node_count {NO_EFFECT} With lend=False more nodes would have no work.",
            ),
            ({"node_count": 1}, [], f"node_count {NO_EFFECT}"),
            ({"mini_batches_per_task": 1}, [], f"mini_batches_per_task {NO_EFFECT}"),
        ],
    )
    def test_shards_stay_as_first_planned_and_more_nodes_borrow(self, plan, caplog, changes, borrowing, line):
        settings = {"mini_batch_size": 1, "node_count": 2}
        first, _ = plan(settings=settings)
        again, _ = plan(settings={**settings, **changes})
        assert again.manifest.shards == first.manifest.shards
        assert [(shard.number, shard.count, shard.items) for shard in again.borrowing_shards] == [
            (number, 0, 0) for number in borrowing
        ]
        assert first.borrowing_shards == ()
        assert line in [record.getMessage() for record in caplog.records]
        # The same terms again make the same shards.
        assert plan(settings={**settings, **changes})[0].borrowing_shards == again.borrowing_shards

    def test_more_nodes_than_airflow_maps_are_refused(self, plan):
        settings = {"mini_batch_size": 1, "node_count": 2}
        plan(settings=settings)
        allowed = r"node_count is 3; allowed: at most 2, .*\[core\] max_map_length"
        with pytest.raises(ConfigError, match=allowed):
            plan(settings={**settings, "node_count": 3}, max_shards=2)
        assert len(plan(settings=settings, max_shards=2)[0].manifest.shards) == 2

    @pytest.mark.parametrize(
        ("changes", "part"),
        [
            ({"settings": {"mini_batch_size": 1}}, "mini_batch_size"),
            ({"settings": {"append_row_format": "csv"}}, "append_row_format"),
            ({"arguments": ("--x", "1")}, "arguments"),
            ({"variables_hash": "other"}, "environment_variables"),
        ],
    )
    def test_other_work_starts_over_and_the_log_says_what_differs(self, plan, changes, part):
        first, _ = plan()
        again, line = plan(**changes)
        assert line == f"Starting over: not the same as in the execution before: {part}."
        assert again.folder.path != first.folder.path
        assert again.folder.read_settings().identity.plan == "plan98"

    def test_other_code_and_input_start_over(self, plan, dags):
        plan()
        (dags / "scripts/lib.py").write_text("")
        (dags / "data/d.txt").write_text("new")
        assert plan()[1].endswith("in the execution before: code, inputs.")

    def test_the_newest_execution_goes_on_whatever_it_is_called(self, plan):
        plan()
        other, _ = plan(arguments=("--x",))
        assert plan(arguments=("--x",))[0].folder.path == other.folder.path
        again, line = plan()
        assert line.startswith("Starting over")
        assert again.folder.path.name == "plan96"

    def test_what_was_published_starts_over_so_that_a_person_can_force_it(self, plan):
        first, _ = plan()
        publish(first)
        again, line = plan()
        assert line == "Starting over: the execution before has published its result."
        assert again.folder.path != first.folder.path
        assert plan()[0].folder.path == again.folder.path

    def test_what_has_no_rows_any_more_starts_over(self, plan):
        cut = {"mini_batch_size": 1, "keep_rows": False}
        first, _ = plan(settings={"error_threshold": 2, **cut})
        do_shard(first.folder, 0, failed=[0])
        do_shard(first.folder, 1)
        merge_run(first.folder)
        attempt = open_attempt(first.folder, 0, try_number=2, clear_number=1)
        commit(attempt, [make_failure(0, items=5)], closing=Closing.ABORTED)
        again, line = plan(settings={"error_threshold": 2, **cut})
        assert line.startswith(
            "Starting over: the execution before has published its result, and its rows were deleted"
        )
        assert again.folder.path != first.folder.path

    @pytest.mark.parametrize("failed", [[0], []])
    def test_what_was_aborted_after_it_was_published_goes_on(self, plan, failed):
        cut = {"mini_batch_size": 1}
        first, _ = plan(settings={"error_threshold": 2, **cut})
        do_shard(first.folder, 0, failed=[0])
        do_shard(first.folder, 1)
        merge_run(first.folder)
        attempt = open_attempt(first.folder, 0, try_number=2, clear_number=1)
        commit(attempt, [make_failure(index, items=5) for index in failed], closing=Closing.ABORTED)
        again, line = plan(settings={"error_threshold": 9, **cut})
        assert line.startswith("Continuing")
        assert again.folder.path == first.folder.path

    def test_without_reuse_it_starts_over(self, plan):
        first, _ = plan()
        again, line = plan(allow_reuse=False)
        assert line == "Starting over: allow_reuse is False."
        assert again.folder.path != first.folder.path

    def test_what_cannot_be_compared_starts_over(self, plan):
        plan()
        assert "not known whether the work is the same" in plan(variables_hash=None)[1]
        assert "not known whether the work is the same" in plan()[1]

    @pytest.mark.parametrize("what", ["", "config.json", "manifest.parquet", "source.zip"])
    def test_a_folder_that_is_gone_starts_over(self, plan, what):
        first, _ = plan()
        path = first.folder.path / what
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        again, line = plan()
        assert "the execution before cannot be read" in line
        assert again.folder.path != first.folder.path

    def test_a_damaged_folder_starts_over(self, plan):
        first, _ = plan()
        first.folder.open_task_log().abandon(first.folder.path.name, "rows of mini-batch 1 are damaged.")
        assert plan()[1] == "Starting over: rows of mini-batch 1 are damaged."

    def test_a_folder_whose_rows_are_gone_starts_over(self, plan):
        first, _ = plan()
        do_shard(first.folder)
        assert plan()[0].folder.path == first.folder.path
        [path] = [path for path in first.folder.path.glob("shards/00000/rows/*") if path.stat().st_size]
        path.unlink()
        again, line = plan()
        assert line.startswith(f"Starting over: the execution before cannot be read: {path} is gone")
        assert again.folder.path != first.folder.path

    @pytest.mark.parametrize(
        "what",
        [
            "config.json",
            "manifest.parquet",
            "source.zip",
            "log/0000000000",
            "shards/00000/log/0000000000",
            "shards/00000/log/0000000001",
            "shards/00000/log/0000000002",
        ],
    )
    def test_a_folder_with_a_damaged_file_starts_over(self, plan, what):
        first, _ = plan(settings={"error_threshold": 1})
        plan(settings={"error_threshold": 2})
        attempt = open_attempt(first.folder)
        commit(attempt)
        commit(attempt)
        path = first.folder.path / what
        path.write_bytes(path.read_bytes()[:-100])
        again, line = plan()
        assert re.match(f"Starting over: the execution before cannot be read: .*{what} is damaged", line)
        assert again.folder.path != first.folder.path

    def test_a_reused_result_is_no_work_to_go_on_with(self, plan, request_plan):
        complete(make_plan(request_plan()))
        plan()
        assert plan()[1] == "Starting over: the execution before reused the result of another run."

    def test_mini_batches_without_input_go_on(self, plan):
        first, _ = plan(arguments=RANKS)
        assert plan(arguments=RANKS)[0].folder.path == first.folder.path

    def test_another_run_has_work_of_its_own(self, plan, request_plan):
        first, _ = plan()
        assert make_plan(request_plan()).folder.path.parent != first.folder.path.parent


def test_storage_on_which_two_can_create_one_file_is_refused(request_plan, tmp_path, monkeypatch):
    def create(store, key, data):
        store.put(key, data)
        return True

    monkeypatch.setattr(PosixStore, "create", create)
    with pytest.raises(RunFolderError, match=f"{tmp_path}.* cannot hold run folders"):
        make_plan(request_plan())
    assert not written(tmp_path / "out")


@pytest.mark.parametrize("schema", [1, 3])
def test_a_run_folder_of_another_version_is_refused(request_plan, schema):
    folder = make_plan(request_plan()).folder
    settings = json.loads(folder.names.settings.read_bytes())
    folder.names.settings.write_text(json.dumps({**settings, "schema": schema}))
    expected = {1: "older version .*Clear the plan task to start over", 3: "newer version "}[schema]
    with pytest.raises(RunFolderError, match=expected):
        folder.read_settings()


@pytest.mark.parametrize("datasets", [(), (FileDataset("no/such/folder").as_named_input("ignored"),)])
def test_mini_batches_may_come_without_any_input(request_plan, datasets):
    result = make_plan(replace(request_plan(arguments=RANKS), datasets=datasets))
    assert [(m.index, m.items, m.pieces) for m in mini_batches(result)] == [(index, 1, ()) for index in range(5)]
    assert (result.manifest.items, [shard.count for shard in result.manifest.shards]) == (5, [3, 2])
    assert [spec.kind for spec in result.folder.read_settings().inputs] == [InputKind.FILES]


def test_mini_batches_without_any_input_are_never_reused(request_plan):
    complete(make_plan(request_plan(arguments=RANKS)))
    assert make_plan(request_plan(arguments=RANKS)).reused_from is None


@pytest.mark.parametrize("on_empty", ["fail", "skip"])
def test_no_inputs_are_an_error_without_ranks(request_plan, on_empty):
    request = request_plan(arguments=("--rank_mini_batch_count", "0"), on_empty=on_empty)
    with pytest.raises(ConfigError, match="inputs is empty"):
        make_plan(replace(request, datasets=()))


def test_settings_have_what_arguments_ask_of_the_driver(request_plan):
    arguments = ("--profiling_module", "profile", "--resource_monitor_interval", "5", "--progress_update_timeout", "9")
    settings = make_plan(request_plan(arguments=arguments)).folder.read_settings()
    assert settings.profiling_module == "profile"
    assert settings.resource_monitor_interval_s == 5
    assert settings.progress_update_timeout_s == 9


def test_the_settings_beside_the_script_reach_the_worker_processes(request_plan, dags):
    to_csv = {"sep": ",", "header": True}
    content = {"append_row": {"pandas.DataFrame.to_csv": to_csv}}
    (dags / "scripts" / "parallel_run_step.settings.json").write_text(json.dumps(content))
    assert make_plan(request_plan()).folder.read_settings().to_csv == to_csv
