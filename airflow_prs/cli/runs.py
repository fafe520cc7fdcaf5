"""``runs``: list the runs below an output, and remove old ones."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from airflow_prs.cli.console import shown_moment
from airflow_prs.errors import RunFolderError
from airflow_prs.run_folder.pruning import Candidate, Leftover, choose, find_leftovers, find_scratch, remove
from airflow_prs.run_folder.stored_runs import RunState, StoredRun, stored_runs
from airflow_prs.wording import counted


def list_runs(output: str, *, is_json: bool) -> int:
    """
    Print the runs below an output, those planned last at the end, and return the exit code.

    :param is_json: whether to print a list in JSON instead of a table.
    """
    runs = stored_runs(output)
    if is_json:
        print(json.dumps([_plain(run) for run in runs], indent=2, ensure_ascii=False))  # noqa: T201 - the output
        return 0
    rows = [("PLANNED", "STATE", "DONE", "PUBLISHED", "DAG", "TASK", "RUN"), *map(_row, runs)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())  # noqa: T201 - the command's output
    _print_problems(runs)
    return 0


def prune_runs(output: str, *, older_than_s: float, keep: int, is_dry: bool) -> int:
    """
    Remove old runs and leftovers below an output, print what was removed, and return the exit code.

    :param older_than_s: see ``choose``.
    :param keep: see ``choose``.
    :param is_dry: whether to print what would be removed, and remove nothing.
    :return: 1: something could not be removed.
    """
    now, runs = time.time(), stored_runs(output)
    _print_problems(runs)
    chosen = choose([Candidate(run) for run in runs], older_than_s=older_than_s, keep=keep, now=now)
    verb = "would remove" if is_dry else "removed"
    removed: list[int] = []
    leftovers: list[int] = []
    has_failed = False
    for candidate in chosen:
        size, files = candidate.size, candidate.files
        if is_dry or _try(partial(remove, candidate)):
            removed.append(size)
            run = candidate.run
            what = f"{run.state.value}, planned {shown_moment(run.planned)}, {counted(files, 'file')}, {_size(size)}"
            print(f"{verb} {run.dag_id} · {run.task_id} · {run.run_id} ({what})")  # noqa: T201 - the output
        else:
            has_failed = True
    for leftover in _leftovers(output, now, chosen if is_dry else ()):
        if is_dry or _try(leftover.remove):
            leftovers.append(leftover.size)
            print(f"{verb} {leftover.path} (left behind, {_size(leftover.size)})")  # noqa: T201 - as above
        else:
            has_failed = True
    print(  # noqa: T201 - as above
        f"{verb.capitalize()} {counted(len(removed), 'run')} ({_size(sum(removed))}) and "
        f"{counted(len(leftovers), 'leftover')} ({_size(sum(leftovers))}); "
        f"{counted(len(runs) - len(removed), 'run')} {'would stay' if is_dry else 'stayed'}."
    )
    return 1 if has_failed else 0


def _leftovers(output: str, now: float, chosen: Sequence[Candidate]) -> Iterator[Leftover]:
    """Yield the leftovers, but for those in chosen runs, which go with their run."""
    inside = tuple(f"{candidate.run.path}/" for candidate in chosen)
    yield from (leftover for leftover in find_leftovers(output, now) if not leftover.path.startswith(inside))
    yield from find_scratch(now)


def _try(act: Callable[[], None]) -> bool:
    try:
        act()
    except (RunFolderError, OSError) as error:
        print(error, file=sys.stderr)  # noqa: T201 - as above
        return False
    return True


def _print_problems(runs: Sequence[StoredRun]) -> None:
    for run in runs:
        if run.state is RunState.UNREADABLE:
            print(f"{run.path} cannot be read, so it stays: {run.problem}", file=sys.stderr)  # noqa: T201 - as above


def _row(run: StoredRun) -> tuple[str, ...]:
    done = "-"
    if run.total is not None:
        done = f"{run.done:,} of {run.total:,}" + (f", {run.failed:,} failed" if run.failed else "")
    published = "yes" if run.is_published else "no"
    return (shown_moment(run.planned), run.state.value, done, published, run.dag_id, run.task_id, run.run_id)


def _plain(run: StoredRun) -> dict[str, object]:
    names = ("dag_id", "task_id", "run_id", "planned", "total", "done", "failed", "is_published", "problem")
    return {**{name: getattr(run, name) for name in names}, "state": run.state.value, "folder": str(run.path)}


def _size(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:  # noqa: PLR2004 - of the unit
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"
