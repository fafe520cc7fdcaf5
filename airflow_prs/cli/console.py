"""The log lines and the progress bar that a command shows while it works."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from airflow_prs.records import Progress, Shard
from airflow_prs.run_folder.folder import RunFolder

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from airflow_prs.run_folder.shard_log import ShardState

_LOOK_S = 0.25


def shown_moment(seconds: float) -> str:
    """Return a moment in the local time zone; a dash for 0."""
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M}" if seconds else "-"


class _Handler(logging.Handler):
    """Prints log lines above the progress bar."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        style = "yellow" if record.levelno >= logging.WARNING else None
        self._console.print(
            self.format(record), style=style, markup=False, highlight=False, emoji=False, soft_wrap=True
        )


@contextlib.contextmanager
def shown_log(*, is_output: bool = False) -> Iterator[Console]:
    """
    Show the log lines of this package. The root logger is not used, since an entry script in this process may use it.

    :param is_output: whether the lines are the output of the command and go to stdout; otherwise they go to stderr.
    """
    from rich.console import Console

    console = Console(stderr=not is_output)
    ours = logging.getLogger("airflow_prs")
    before = ours.level, ours.propagate
    handler = _Handler(console)
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    ours.propagate = False
    try:
        yield console
    finally:
        ours.removeHandler(handler)
        ours.level, ours.propagate = before


@contextlib.contextmanager
def progress_bar(console: Console, folder: RunFolder, shards: Sequence[Shard]) -> Iterator[None]:
    """Show a progress bar of a run, from the commits of its shards."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("mini-batches"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TimeElapsedColumn(),
        TextColumn("left:"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("", total=sum(shard.count for shard in shards), failed=0)
        over = threading.Event()
        watcher = threading.Thread(target=_follow, args=(bar, task, folder, shards, over), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


def _follow(bar: Bar, task: TaskID, folder: RunFolder, shards: Sequence[Shard], over: threading.Event) -> None:
    states: dict[int, ShardState] = {}
    is_last = False
    while not is_last:
        is_last = over.wait(_LOOK_S)
        for shard in shards:
            if shard.number not in states or not states[shard.number].is_done:
                # A failed read must not end the run; the next one may succeed.
                with contextlib.suppress(OSError, ValueError):
                    states[shard.number] = folder.read_shard(shard, states.get(shard.number))
        progress = sum((state.progress for state in states.values()), Progress())
        bar.update(task, completed=progress.done, failed=progress.failed)
