"""``check``: plan a job as Airflow would, run one mini-batch in a worker process, and print the problems."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from airflow_prs.cli.console import shown_log
from airflow_prs.cli.job import Job, plan_job
from airflow_prs.node.masking import Masker
from airflow_prs.node.request import NodeRequest
from airflow_prs.node.running import run_node
from airflow_prs.records import LIMITS, FailedTry, Limits, MiniBatch, Shard, TryStatus
from airflow_prs.run_folder.committed import Committed, read_committed
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.folder import RunFolder

_ROWS_SHOWN = 5
_BYTES_READ = 64 * 1024
_LONGEST_ROW = 200

_ADVICE = {
    TryStatus.RUN_EXCEPTION: "Correct run() of the script; with `run --in-process` a debugger stops where it fails.",
    TryStatus.RUN_BAD_RESULT: "Let run() return a DataFrame, or a list with an element for each item that succeeded.",
    TryStatus.RUN_TIMEOUT: "Make mini_batch_size smaller or run_invocation_timeout longer.",
    TryStatus.LOAD_EXCEPTION: "Check the input, and whether --table or --files fits it.",
    TryStatus.LOAD_TIMEOUT: "Make mini_batch_size smaller, or --task_overhead_timeout longer.",
    TryStatus.PROCESS_DIED: "Check the script's libraries and the memory: mini_batch_size may be too large.",
    TryStatus.NODE_DIED: "Check the memory of this machine.",
}


def check(job: Job) -> int:
    """Check a job, print the findings, leave no files behind, and return the exit code."""
    with tempfile.TemporaryDirectory(prefix="airflow_prs-check-") as scratch, shown_log(is_output=True):
        _print(f"The configuration {job.name} has no wrong values.")
        planned = plan_job(job, str(Path(scratch, "plan")), nodes=None)
        mini_batch = next(planned.folder.read_mini_batches(0, 1))
        _print(
            f"Mini-batch 0 runs in a worker process: {mini_batch.items:,} items, the first is {_first_item(mini_batch)}"
        )
        folder = _plan_one(planned.folder, mini_batch, Path(scratch, "one"))
        return _run_one(job, folder, mini_batch)


def _plan_one(planned: RunFolder, mini_batch: MiniBatch, path: Path) -> RunFolder:
    """Return the plan of a run with a single mini-batch, which is tried once; no threshold applies."""
    folder, settings = RunFolder(path), planned.read_settings()
    config = settings.config.model_copy(
        update={
            "run_max_try": 1,
            "process_count_per_node": 1,
            **{name: getattr(Limits(), name) for name in LIMITS},
        }
    )
    folder.write_settings(replace(settings, config=config))
    with planned.open_source() as archive:
        folder.write_source(archive)
    shard = Shard(number=0, first=0, count=1, items=mini_batch.items, size_bytes=mini_batch.size_bytes)
    folder.write_manifest([mini_batch], [shard])
    return folder


def _run_one(job: Job, folder: RunFolder, mini_batch: MiniBatch) -> int:
    run_node(
        NodeRequest(
            folder=folder,
            shard_number=0,
            task_try=TaskTry(try_number=1),
            environ=os.environ,
            variables=job.variables,
            redact=Masker(job.variables.values()),
            logger=logging.getLogger("airflow_prs.node"),
            tells_results=True,
        )
    )
    manifest = folder.read_manifest()
    committed = read_committed(folder, manifest)
    failed = next(iter(committed.tries(committed.states[0])), None)
    if failed is not None:
        _print("\n".join(_describe_failure(failed)))
        return 1
    return _describe_success(job, committed, mini_batch)


def _describe_failure(failed: FailedTry) -> Iterator[str]:
    yield f"It failed, {failed.status.name}, after {failed.duration_s:.3g} s: {failed.error}"
    if failed.traceback:
        yield failed.traceback.rstrip()
    yield f"What to do: {_ADVICE[failed.status]}"


def _describe_success(job: Job, committed: Committed, mini_batch: MiniBatch) -> int:
    state = committed.states[0]
    outcome = committed.outcomes(state)[0]
    returned, items = int(outcome["returned"]), mini_batch.items
    _print(f"run() took {float(outcome['run_s']):.3g} s and returned {returned:,} elements for {items:,} items.")
    if job.config.output_action == "append_row":
        path = committed.rows_path(state)(int(outcome["writer"]), int(outcome["process"]))
        _print("\n".join(_first_rows(path, int(outcome["length"]))))
    if 0 <= job.config.error_threshold < items - returned:
        allowed = f"error_threshold allows {job.config.error_threshold:,}"
        _print(f"{items - returned:,} items without an element count as failed, but {allowed}: a run would be aborted.")
        return 1
    if returned < items:
        _print(f"Warning: {items - returned:,} items without an element count as failed against error_threshold.")
    elif returned > items:
        _print("Warning: there are more elements than items; each mini-batch counts as many successes as it has items.")
    else:
        _print("No problems found.")
    return 0


def _first_rows(path: Path, length: int) -> Iterator[str]:
    with path.open("rb") as file:
        rows = file.read(min(length, _BYTES_READ)).decode("utf-8", "replace").splitlines()
    yield "The first rows:" if rows else "It has no rows."
    for row in rows[:_ROWS_SHOWN]:
        yield f"  {row}" if len(row) <= _LONGEST_ROW else f"  {row[:_LONGEST_ROW]}..."


def _first_item(mini_batch: MiniBatch) -> str:
    return str(mini_batch.pieces[0]) if mini_batch.pieces else "none: a mini-batch without data"


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the command's output
