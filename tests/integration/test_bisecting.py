"""bisect_failed_mini_batches: a mini-batch whose tries are used up loses only the items that fail."""

from __future__ import annotations

import json
import textwrap

import pytest

from airflow_prs.records import TryStatus
from airflow_prs.report.reports import write_reports
from tests.shards import Tries, make_plan, read_outcomes, read_rows, read_tries


def plan(path, body, **values):
    script = textwrap.dedent(f"""
        import os, time
        def bad(item): return item in ("item-5", "item-9")
        {{run}}
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
        (HANGS_ASYNC, TryStatus.RUN_TIMEOUT, {"run_invocation_timeout": 1, "max_concurrency_per_process": 2}),
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
