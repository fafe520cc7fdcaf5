"""bisect_failed_mini_batches: a mini-batch whose tries are used up loses only the items that fail."""

from __future__ import annotations

import json
import signal
import textwrap
from dataclasses import replace

import pandas as pd
import pyarrow as pa
import pytest

from airflow_prs.config.datasets import TabularDataset
from airflow_prs.records import Ruling, TryStatus, Verdict
from airflow_prs.report import failed_rows
from airflow_prs.report.reports import abort_message, first_failures, write_reports
from airflow_prs.run_folder.committed import read_committed
from tests.buckets import buckets_in_memory
from tests.node_process import start_node
from tests.shards import Tries, make_plan, read_outcomes, read_rows, read_tries
from tests.table_plans import table_plan
from tests.tables import together


def plan(path, body, **values):
    script = textwrap.dedent("""
        import os, time
        def bad(item): return item in ("item-5", "item-9")
        {run}
    """).replace("{run}", textwrap.dedent(body))
    values = {"items": 8, "mini_batches": 2, "run_max_try": 2, "process_count_per_node": 1} | values
    return make_plan(path, script, bisect_failed_mini_batches=True, **values)


RAISES = """
def run(mini_batch):
    for item in mini_batch:
        if bad(item): raise ValueError(f"{item} is bad")
    return mini_batch
"""
DIES = RAISES.replace('raise ValueError(f"{item} is bad")', "os._exit(3)")
HANGS = RAISES.replace('raise ValueError(f"{item} is bad")', "time.sleep(60)")
ASYNC = RAISES.replace("def run", "import asyncio\nasync def run")
HANGS_ASYNC = ASYNC.replace('raise ValueError(f"{item} is bad")', "await asyncio.sleep(60)")


@pytest.mark.parametrize(
    ("body", "status", "values"),
    [
        (RAISES, TryStatus.RUN_EXCEPTION, {}),
        (DIES, TryStatus.PROCESS_DIED, {"process_count_per_node": 2}),
        (HANGS, TryStatus.RUN_TIMEOUT, {"run_invocation_timeout": 1, "run_max_try": 1}),
        (ASYNC, TryStatus.RUN_EXCEPTION, {"max_concurrency_per_process": 2}),
        pytest.param(
            HANGS_ASYNC,
            TryStatus.RUN_TIMEOUT,
            {"run_invocation_timeout": 1, "max_concurrency_per_process": 2},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["raises", "dies", "hangs", "async", "hangs async"],
)
def test_only_the_items_that_fail_are_left_out(tmp_path, body, status, values):
    folder = plan(tmp_path, body, **values)
    Tries(folder).run()
    assert read_rows(folder) == [f"item-{n}" for n in range(16) if n not in {5, 9}]
    outcomes = read_outcomes(folder)
    assert outcomes["status"].tolist() == [TryStatus.RUN_DONE] * 2
    assert (outcomes["items"].tolist(), outcomes["succeeded"].tolist()) == ([8, 8], [7, 7])
    found = {failed.items: failed.status for failed in read_tries(folder) if failed.final}
    assert found == {("item-5",): status, ("item-9",): status}
    (report,) = [write_reports(folder, folder.read_settings(), status="completed")]
    assert report["mini_batches"]["failed"] == 0
    assert report["items"]["failed"] == 2
    assert report["thresholds"]["allowed_failed_count"]["count"] == 0
    processed = pd.read_csv(folder.names.processed)
    assert processed["failed_items"].tolist() == ["item-5", "item-9"]
    lines = [json.loads(line) for line in folder.names.failed_items.read_text().splitlines()]
    assert [(line["mini_batch"], line["failed_items"], line["items"]) for line in lines] == [
        (0, 1, ["item-5"]),
        (1, 1, ["item-9"]),
    ]
    assert [each["items"] for each in lines[0]["tries"] if "items" in each] == [["item-5"]]


def test_a_mini_batch_of_which_all_items_fail_has_failed(tmp_path):
    folder = plan(tmp_path, "def run(mini_batch): raise ValueError('never')", mini_batches=1, items=3)
    Tries(folder).run()
    assert read_rows(folder) == []
    assert read_outcomes(folder)["status"].tolist() == [TryStatus.RUN_EXCEPTION]
    assert read_outcomes(folder)["succeeded"].tolist() == [0]


def test_items_left_out_stay_in_the_reports_after_a_clear(tmp_path):
    body = RAISES + "\ndef init():\n    if os.path.exists('/gone'): raise SystemExit"
    folder = plan(tmp_path, body)
    tries = Tries(folder)
    tries.run()
    tries.clear()
    tries.run()
    assert [failed.items for failed in read_tries(folder) if failed.final] == [("item-5",), ("item-9",)]


def killing(folder, deaths):
    """Return a script that kills its node in the search for bad items, the first times."""
    (folder / "deaths").mkdir()
    return f"""
    import signal
    def run(mini_batch):
        with open("{folder}/calls", "a") as file: file.write(" ".join(mini_batch) + "\\n")
        if len(mini_batch) in (4, 2, 1) and len(os.listdir("{folder}/deaths")) < {deaths}:
            open(f"{folder}/deaths/{{time.time_ns()}}", "x").close()
            guard = os.getppid()
            with open(f"/proc/{{guard}}/stat") as stat: node = int(stat.read().rpartition(")")[2].split()[1])
            os.kill(node, signal.SIGKILL)
            time.sleep(60)
        if any(map(bad, mini_batch)): raise ValueError("bad")
        return mini_batch
    """


def run_nodes(folder, *, most_deaths):
    """Start one node after the other until one is through, and return how many died."""
    for number in range(most_deaths + 1):
        node = start_node(folder.path, number + 1)
        _, errors = node.communicate(timeout=60)
        if node.returncode == 0:
            return number
        assert node.returncode == -signal.SIGKILL, errors
    raise AssertionError(errors)


@pytest.mark.parametrize("deaths", [1, 3])
def test_a_node_that_dies_during_the_search_charges_no_good_item(tmp_path, deaths):
    folder = plan(tmp_path / "run", killing(tmp_path, deaths))
    assert run_nodes(folder, most_deaths=deaths) == deaths
    assert read_rows(folder) == [f"item-{n}" for n in range(16) if n not in {5, 9}]
    assert [failed.items for failed in read_tries(folder) if failed.final] == [("item-5",), ("item-9",)]
    # Two tries, seven trials and one call for the rows of each, and what each dead node did of this again.
    assert len((tmp_path / "calls").read_text().splitlines()) <= 2 * 10 + 10 * deaths


def test_a_search_that_always_kills_its_node_ends_with_a_failed_mini_batch(tmp_path):
    folder = plan(tmp_path / "run", killing(tmp_path, 99), mini_batches=1)
    assert run_nodes(folder, most_deaths=5) > 2
    assert read_outcomes(folder)["status"].tolist() == [TryStatus.NODE_DIED]


def test_an_abort_names_the_item_that_failed_after_many_ordinary_failed_tries(tmp_path):
    flaky = f"""
    def run(mini_batch):
        if "item-23" in mini_batch: raise ValueError("item-23 is bad")
        place = f"{tmp_path}/{{mini_batch[0]}} was tried"
        if mini_batch[0] != "item-22" and not os.path.exists(place):
            open(place, "x").close()
            raise OSError("the service is away")
        return mini_batch
    """
    folder = plan(tmp_path / "run", flaky, mini_batches=12, items=2)
    Tries(folder).run()
    failures = first_failures(read_committed(folder, folder.read_manifest()))
    assert [(failed.error, failed.items) for failed in failures] == [("ValueError: item-23 is bad", ("item-23",))]
    verdict = Verdict(ruling=Ruling.ABORT, reason="1 of 24 items failed", threshold="error_threshold")
    assert "fewer elements" not in abort_message(verdict, failures, folder)


def write_csv(folder, frame):
    path = folder / "in.csv"
    path.write_text("# made by hand\n" + frame.to_csv(index=False).replace("row 3", '"row\n3"'))
    return TabularDataset.from_delimited_files(str(path), comment="#"), [3 + n + (n > 3) for n in range(len(frame))]


def write_json_lines(folder, frame):
    path = folder / "in.jsonl"
    path.write_text("\n" + frame.to_json(orient="records", lines=True))
    return TabularDataset.from_json_lines_files(str(path)), [2 + n for n in range(len(frame))]


def write_parquet(folder, frame):
    path = folder / "in.parquet"
    frame.to_parquet(path, row_group_size=3)
    return TabularDataset.from_parquet_files(str(path)), [None] * len(frame)


def write_arrow(folder, frame):
    path = folder / "in.arrow"
    table = pa.Table.from_pandas(frame)
    with pa.ipc.new_file(path, table.schema) as out:
        out.write_table(table, max_chunksize=3)
    return TabularDataset.from_arrow_files(str(path)), [None] * len(frame)


TABLE = pd.DataFrame({"n": range(10), "text": [f"row {n}" for n in range(10)], "x": [n / 2 for n in range(10)]})
BAD_ROWS = """
def run(mini_batch):
    if mini_batch["n"].isin([4, 9]).any(): raise ValueError(f"bad row among {len(mini_batch)}")
    return mini_batch["n"].tolist()
"""


@pytest.mark.parametrize("write", [write_csv, write_json_lines, write_parquet, write_arrow])
def test_failed_rows_of_tables_on_object_storage_are_read_again(tmp_path, write, monkeypatch):
    dataset, lines = write(tmp_path, TABLE)
    [local] = tmp_path.glob("in.*")
    address = f"s3://conn@bkt/data/{local.name}"
    with buckets_in_memory("bkt") as buckets:
        buckets["bkt"].store.put(f"data/{local.name}", local.read_bytes())
        local.unlink()
        folder = plan_bad_rows(tmp_path, replace(dataset, path=address), bisects=True)
        Tries(folder).run()
        report = write_reports(folder, folder.read_settings(), status="completed")
        assert report["warnings"] == []
        kept = pd.read_parquet(folder.names.failed_rows)
        assert kept["n"].tolist() == [4, 9]
        assert kept["failed_line"].dropna().tolist() == [lines[n] for n in (4, 9) if lines[n]]
        assert set(kept["failed_file"]) == {address}
        monkeypatch.setattr(failed_rows, "MOST_PARTS", 1)
        bounded = write_reports(folder, folder.read_settings(), status="completed")
        assert "only the first failed rows, up to 1 parts" in bounded["warnings"][0]
        buckets["bkt"].store.put(f"data/{local.name}", b"it has changed")
        changed = write_reports(folder, folder.read_settings(), status="completed")
        assert "lacks rows that cannot be read, such as those of mini-batch" in changed["warnings"][0]


def plan_bad_rows(folder, dataset, *, bisects):
    (folder / "script.py").write_text(BAD_ROWS)
    return table_plan(
        folder,
        dataset,
        mini_batch_size="5 rows",
        source_directory=str(folder),
        entry_script="script.py",
        run_max_try=1,
        error_threshold=-1,
        node_count=1,
        bisect_failed_mini_batches=bisects,
    ).folder


@pytest.mark.parametrize("write", [write_csv, write_json_lines, write_parquet])
@pytest.mark.parametrize("bisects", [True, False])
def test_failed_rows_of_tables_are_named_and_kept(tmp_path, write, bisects):
    dataset, lines = write(tmp_path, TABLE)
    folder = plan_bad_rows(tmp_path, dataset, bisects=bisects)
    Tries(folder).run()
    # Without it, all rows of the mini-batches are lost; a Parquet file is cut between row groups.
    failed = [4, 9] if bisects else list(range(3, 10)) if write is write_parquet else list(range(10))
    assert read_rows(folder) == [str(n) for n in range(10) if n not in failed]
    write_reports(folder, folder.read_settings(), status="completed")
    kept = pd.read_parquet(folder.names.failed_rows)
    assert kept["n"].tolist() == failed
    assert kept["failed_row"].tolist() == [n + 1 for n in failed]
    assert kept["failed_line"].dropna().tolist() == [lines[n] for n in failed if lines[n]]
    assert set(kept["failed_file"]) == {str(next(tmp_path.glob("in.*")))}
    assert kept["failed_error"].str.startswith("ValueError: bad row among ").all()
    assert kept.dtypes[["n", "x"]].tolist() == TABLE.dtypes[["n", "x"]].tolist()
    again = TabularDataset.from_parquet_files(str(folder.names.failed_rows))
    assert len(together(again, tmp_path)) == len(failed)
