"""What a slot and its worker processes exchange, and the limits that a process is held to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_prs.node.work.failed_tries import Failure
from airflow_prs.node.work.queue import Assignment
from airflow_prs.records import Outcome, TryStatus
from airflow_prs.worker.channel import Done


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailure:
    """
    A worker process that never became ready.

    :param stage: ``environment``, ``import``, ``init`` or ``timeout``.
    :param is_hopeless: whether another start would fail the same way, unless one has succeeded on this node.
    :param is_final: whether the script says that another start would not help.
    """

    stage: str
    error: str
    traceback: str = ""
    is_hopeless: bool = False
    is_final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessPolicy:
    """
    The limits of a worker process.

    :param run_s: seconds for a call of run().
    :param load_s: seconds for loading a mini-batch.
    :param init_s: seconds for init().
    :param shutdown_s: seconds for shutdown().
    :param exit_s: seconds for a process to end by itself after its work.
    :param has_tables: whether mini-batches are loaded before run() is called; the process then reports each call.
    :param most_mini_batches: after which a process is replaced; None: no limit.
    :param most_memory_bytes: above which a process is replaced between mini-batches; None: no limit.
    """

    run_s: float
    load_s: float
    init_s: float
    shutdown_s: float
    exit_s: float
    has_tables: bool = False
    most_mini_batches: int | None = None
    most_memory_bytes: int | None = None


def order_of(assignment: Assignment, *, has_tables: bool) -> list[Any]:
    """
    Return the order for a worker process: index, try, input, items, partition, paths or pieces, and their versions.

    A piece is path, begin, end, row group, and, if it is staged, the local path to open. For a part of a mini-batch the
    stretches of items follow, and whether it is a trial.

    :param has_tables: whether mini-batches are read from pieces, not passed as paths.
    """
    mini_batch, paths = assignment.mini_batch, assignment.staged.paths
    partition = None if mini_batch.partition is None else dict(mini_batch.partition)
    if has_tables:
        pieces: list[Any] = [[p.path, p.begin, p.end, p.row_group] for p in mini_batch.pieces]
    else:
        pieces = [piece.path for piece in mini_batch.pieces]
    versions = [piece.version for piece in mini_batch.pieces]
    if paths is not None:
        # The stager has checked the versions of what it has copied.
        is_copied = [path != piece.path for path, piece in zip(paths, mini_batch.pieces, strict=True)]
        versions = [None if copied else version for copied, version in zip(is_copied, versions, strict=True)]
        pieces = [[*piece, path] for piece, path in zip(pieces, paths, strict=True)] if has_tables else list(paths)
    part = [] if assignment.part is None else [assignment.part.spans, assignment.part.is_trial]
    numbers = [mini_batch.index, assignment.try_number]
    return [*numbers, mini_batch.input, mini_batch.items, partition, pieces, versions, *part]


def outcome_of(assignment: Assignment, answer: Done, *, process: int) -> Outcome:
    """
    Return the outcome of a mini-batch that succeeded.

    :param process: number of the worker process.
    """
    index, returned, offset, length, crc, started, duration_s, run_s, cpu_s = answer
    return Outcome(
        index=index,
        status=TryStatus.RUN_DONE,
        tries=assignment.try_number,
        items=assignment.mini_batch.items,
        succeeded=min(assignment.items, returned),
        returned=returned,
        process=process,
        offset=offset,
        length=length,
        crc=crc,
        started=started,
        duration_s=duration_s,
        run_s=run_s,
        cpu_s=cpu_s,
    )


def failure_of(assignment: Assignment, answer: Mapping[str, Any], *, process: str) -> Failure:
    """
    Return the failed try that a worker process has answered with.

    :param process: name of the worker process.
    """
    retry = answer.get("retry") or {}
    return Failure(
        assignment=assignment,
        status=TryStatus[answer["status"]],
        error=answer["error"],
        traceback=answer["traceback"],
        process=process,
        started=answer["started"],
        duration_s=answer["duration_s"],
        run_s=answer["run_s"],
        cpu_s=answer["cpu_s"],
        is_hopeless=retry.get("never", False),
        wait_s=retry.get("after_s", 0.0),
    )
