"""Reading the logs of entry scripts in a run folder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from airflow_prs.run_folder.names import USER_LOGS

if TYPE_CHECKING:
    from airflow_prs.run_folder.folder import RunFolder
    from airflow_prs.store.port import Store

_LOG_BYTES: Final = 256 * 1024


def read_script_log(folder: RunFolder, node: str, process: str) -> str | None:
    """
    Return the ends of the logs of an entry script; None: there are none of this node and process.

    :param node: name of a node, compared with the names in the run folder.
    :param process: name of a worker process, likewise.
    """
    store = folder.store
    keys = [
        key
        for kind in store.list_folders(f"{USER_LOGS}/")
        if node in store.list_folders(f"{USER_LOGS}/{kind}/")
        for key in store.list(f"{USER_LOGS}/{kind}/{node}/")
        if key.rpartition("/")[2].partition(".")[0] == process
    ]
    parts = [part for key in keys for part in _end(store, key, _LOG_BYTES // len(keys))]
    return "\n".join(parts) if parts else None


def _end(store: Store, key: str, size: int) -> Iterator[str]:
    """Yield the end of a log under its name; nothing if it is empty."""
    stat = store.stat(key)
    if stat is None or not stat.size:
        return
    data = store.get(key, max(0, stat.size - size)) or b""
    cut = f", its last {size:,} bytes" if stat.size > size else ""
    yield f"==> {key.removeprefix(f'{USER_LOGS}/')}{cut} <==\n{data.decode('utf-8', 'replace')}"
