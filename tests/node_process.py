"""A node in a process of its own, to be killed: ``python -m tests.node_process <folder> <shard> <try> [<seconds>]``."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from airflow_prs.store.opening import Location

COMMIT_S = 0.3
"""Seconds between two commits on object storage: with the usual 3, a node would do hardly more than it can lose."""


def start_node(
    folder: Location, try_number: int, shard: int = 0, *, awaits_others_s: float = 0
) -> subprocess.Popen[str]:
    """
    Start a node as Airflow starts a shard's task; it can be killed.

    On object storage it uses the credentials of the environment.
    """
    command = [sys.executable, "-m", "tests.node_process", str(folder), str(shard), str(try_number)]
    command.append(str(awaits_others_s))
    root = Path(__file__).parent.parent
    return subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def main() -> None:
    from airflow_prs.node.request import NodeRequest
    from airflow_prs.node.running import run_node
    from airflow_prs.object_storage import ambient
    from airflow_prs.object_storage.connecting import use_connections
    from airflow_prs.run_folder import folder as folders
    from airflow_prs.run_folder.epochs import TaskTry
    from airflow_prs.run_folder.folder import RunFolder

    use_connections(ambient.connect)
    folders.ON_OBJECTS = replace(folders.ON_OBJECTS, commit_s=COMMIT_S)
    logging.basicConfig(level="WARNING")
    folder, shard, try_number, *seconds = sys.argv[1:]
    run_node(
        NodeRequest(
            folder=RunFolder(folder),
            shard_number=int(shard),
            task_try=TaskTry(try_number=int(try_number)),
            environ=dict(os.environ),
            awaits_others_s=float(*seconds),
        )
    )


if __name__ == "__main__":
    main()
