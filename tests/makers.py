"""Records and run folders with sensible defaults, for tests that care about one thing at a time."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.environment import Environment
from airflow_prs.records import FailedTry, MiniBatch, Outcome, Piece, Progress, RunIdentity, Shard, TryStatus
from airflow_prs.run_folder.attempts import Attempt
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.folder import RunFolder, run_folder_of
from airflow_prs.run_folder.shard_records import Closing
from airflow_prs.settings import RunSettings
from airflow_prs.store.port import Store

ITEMS = 2
"""Items of each mini-batch that make_folder plans."""


def make_config(**values: Any) -> ParallelRunConfig:
    defaults = {
        "environment": Environment.current(),
        "entry_script": "score.py",
        "error_threshold": -1,
        "output_action": "append_row",
        "compute_target": "local",
        "node_count": 1,
    }
    return ParallelRunConfig(**(defaults | values))


def make_identity(plan: str = "plan-1", **values: str) -> RunIdentity:
    return RunIdentity(**({"dag_id": "digits", "run_id": "run 1", "task_id": "score", "plan": plan} | values))


def make_mini_batch(index: int = 0, **values: Any) -> MiniBatch:
    pieces = tuple(Piece(f"/data/{index}-{item}.png") for item in range(values.get("items", ITEMS)))
    return MiniBatch(
        **({"index": index, "input": "digits", "items": ITEMS, "size_bytes": 100, "pieces": pieces} | values)
    )


def make_shards(*counts: int) -> list[Shard]:
    firsts = [sum(counts[:number]) for number in range(len(counts))]
    return [
        Shard(number=number, first=first, count=count, items=count * ITEMS, size_bytes=count * 100)
        for number, (first, count) in enumerate(zip(firsts, counts, strict=True))
    ]


def make_folder(
    output: Path,
    *counts: int,
    plan: str = "plan-1",
    run_id: str = "run 1",
    settings: Mapping[str, Any] | None = None,
    **config: Any,
) -> RunFolder:
    """
    Plan a run: settings, manifest and the execution in the task log are written.

    :param counts: mini-batches of each shard.
    :param settings: fields of RunSettings.
    :param config: parameters of the configuration.
    """
    identity = make_identity(plan, run_id=run_id)
    folder = run_folder_of(str(output), identity)
    values = {"config": make_config(**config), "identity": identity, "output": str(output), **(settings or {})}
    folder.write_settings(RunSettings(**values))
    folder.write_manifest(map(make_mini_batch, range(sum(counts))), make_shards(*counts))
    append_execution(folder)
    return folder


def append_execution(folder: RunFolder, **terms: Any) -> int:
    """Append an execution of a folder to the task log, and return its number."""
    log = folder.open_task_log()
    return log.append_execution(log.claim_plan(), folder=folder.path.name, terms=terms)


def make_failed_try(index: int = 0, **values: Any) -> FailedTry:
    defaults = {
        "index": index,
        "try_number": 3,
        "final": True,
        "status": TryStatus.RUN_EXCEPTION,
        "error": "ValueError: bad pixel",
        "traceback": 'Traceback (most recent call last):\n  File "score.py", line 7, in run\nValueError: bad pixel\n',
        "items": (f"/data/{index}-0.png", f"/data/{index}-1.png"),
        "node": "host-0-1",
        "process": "process001",
        "started": 1_700_000_000.0 + index,
        "duration_s": 0.5,
        "log": "logs/user/stderr/host-0-1/process001.stderr.txt",
    }
    return FailedTry(**(defaults | values))


def make_outcome(index: int = 0, **values: Any) -> Outcome:
    defaults = {
        "index": index,
        "status": TryStatus.RUN_DONE,
        "tries": 1,
        "items": ITEMS,
        "succeeded": ITEMS,
        "returned": ITEMS,
        "started": 1_700_000_000.0 + index,
        "duration_s": 0.5,
        "run_s": 0.25,
        "cpu_s": 0.125,
    }
    return Outcome(**(defaults | values))


def make_failure(index: int = 0, **values: Any) -> Outcome:
    return make_outcome(
        index, **({"status": TryStatus.RUN_EXCEPTION, "tries": 3, "succeeded": 0, "returned": 0} | values)
    )


def move(folder: RunFolder, store: Store) -> None:
    """Let a run folder use another store, which gets what it holds."""
    for key in folder.store.list(""):
        store.put(key, folder.store.get(key) or b"")
    folder.store = store


def open_attempt(
    folder: RunFolder,
    number: int = 0,
    *,
    try_number: int = 1,
    node: str | None = None,
    window: int = 1000,
    local: Path | None = None,
    **values: Any,
) -> Attempt:
    """
    Open an attempt at the shard of a number, as Airflow's try of that number does.

    :param local: a folder for what the node writes; on a file system there is no need of one.
    :param values: more of the TaskTry.
    """
    shard, task_try = folder.read_manifest().shards[number], TaskTry(try_number=try_number, **values)
    return folder.open_attempt(
        shard,
        task_try,
        node=node or f"host-{number}-{try_number}",
        window=window,
        files=folder.node_files(local or Path("/dev/null/no need of it")),
    )


def commit(
    attempt: Attempt,
    outcomes: Sequence[Outcome] = (),
    tries: Iterable[FailedTry] = (),
    *,
    rows: Mapping[int, bytes] | None = None,
    process: int = 0,
    progress: Progress | None = None,
    closing: Closing | None = None,
) -> Progress:
    """
    Commit outcomes as a node does.

    :param rows: rows of some of the outcomes, written to the rows file of a process in this order.
    :param progress: the shard's counts before; None: those that the attempt took over.
    :return: the shard's counts after it.
    """
    placed = {}
    with attempt.rows.path(process).open("ab") as file:
        for index, data in (rows or {}).items():
            place = {"offset": file.tell(), "length": len(data), "crc": zlib.crc32(data), "process": process}
            placed[index] = place
            file.write(data)
    outcomes = [replace(outcome, **placed.get(outcome.index, {})) for outcome in outcomes]
    after = (attempt.inheritance.progress if progress is None else progress) + count(outcomes)
    attempt.commit(outcomes, tries, progress=after, granted=0, closing=closing)
    return after


def count(outcomes: Sequence[Outcome]) -> Progress:
    """Count outcomes, as something to add to what was counted before."""
    statuses = Counter(outcome.has_failed for outcome in outcomes)
    done = [outcome for outcome in outcomes if not outcome.has_failed]
    return Progress(
        handed_out=len(outcomes),
        succeeded=statuses[False],
        failed=statuses[True],
        items_succeeded=sum(outcome.succeeded for outcome in outcomes),
        items_failed=sum(outcome.items - outcome.succeeded for outcome in outcomes),
        elements=sum(outcome.returned for outcome in done),
        output_bytes=sum(outcome.length for outcome in done),
    )


def rows_of(index: int) -> bytes:
    """Rows as two items of a mini-batch give them."""
    return f"{index} first\n{index} second\n".encode()


def do_shard(
    folder: RunFolder, number: int = 0, *, failed: Iterable[int] = (), try_number: int = 1, **values: Any
) -> None:
    """
    Do all that is left of a shard: two processes finish its mini-batches in mixed order.

    :param failed: indices of the mini-batches that fail for good.
    :param values: for open_attempt.
    """
    attempt = open_attempt(folder, number, try_number=try_number, **values)
    shard = folder.read_manifest().shards[number]
    done = attempt.inheritance.done
    left = [index for index in range(shard.first, shard.end) if not done[index - shard.first]]
    broken = [index for index in left if index in set(failed)]
    good = [index for index in left if index not in broken]
    progress = commit(attempt, [make_failure(index) for index in broken], map(make_failed_try, broken))
    for process, indices in enumerate((good[1::2][::-1], good[0::2])):
        outcomes = [make_outcome(index) for index in indices]
        rows = {index: rows_of(index) for index in indices}
        progress = commit(attempt, outcomes, rows=rows, process=process, progress=progress)
    commit(attempt, progress=progress, closing=Closing.DONE)
