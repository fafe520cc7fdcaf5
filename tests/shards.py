"""A plan made by hand and nodes that run it: what tests of nodes, fault rounds and benchmarks start from."""

from __future__ import annotations

import io
import logging
import os
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow_prs.config.config import ParallelRunConfig
from airflow_prs.config.environment import Environment
from airflow_prs.node.request import NodeRequest
from airflow_prs.node.running import run_node
from airflow_prs.records import FailedTry, InputKind, InputSpec, MiniBatch, Piece, RunIdentity, Shard
from airflow_prs.result.rows_sources import open_rows
from airflow_prs.run_folder.committed import read_committed
from airflow_prs.run_folder.epochs import TaskTry
from airflow_prs.run_folder.folder import RunFolder
from airflow_prs.settings import RunSettings


def make_config(**changes) -> ParallelRunConfig:
    values = {
        "environment": Environment.current(),
        "entry_script": "script.py",
        "error_threshold": -1,
        "output_action": "append_row",
        "compute_target": "local",
        "node_count": 1,
        "process_count_per_node": 2,
        "run_invocation_timeout": 10,
    }
    return ParallelRunConfig(**(values | changes))


def make_plan(
    path: Path | str,
    script: str,
    *,
    mini_batches: int = 6,
    items: int = 2,
    shards: int = 1,
    kind: InputKind = InputKind.FILES,
    options: Mapping[str, Any] | None = None,
    pieces: Sequence[tuple[Piece, ...]] = (),
    **config,
) -> RunFolder:
    """
    Plan mini-batches of paths ``item-<number>`` that need not exist.

    :param path: folder of the run folder and of the result, or an address.
    :param options: of the input.
    :param pieces: of each mini-batch, instead of such paths; each is an item.
    """
    if pieces:
        mini_batches = len(pieces)
    folder = RunFolder(f"{path}/run")
    settings = RunSettings(
        config=make_config(**config),
        identity=RunIdentity(dag_id="dag", run_id="run", task_id="task", plan="plan"),
        inputs=(InputSpec(name="input", kind=kind, options=options or {}),),
        output=f"{path}/out",
    )
    folder.write_settings(settings)
    source = io.BytesIO()
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("script.py", script)
    folder.write_source(source)
    counts = [len(each) for each in pieces] or [items] * mini_batches
    size = -(-mini_batches // shards)
    dealt = [
        Shard(number=n, first=first, count=count, items=sum(counts[first : first + count]), size_bytes=count)
        for n, first in enumerate(range(0, mini_batches, size))
        for count in [min(size, mini_batches - first)]
    ]
    cut = (
        MiniBatch(
            index=i,
            input="input",
            items=counts[i],
            size_bytes=1,
            pieces=pieces[i] if pieces else tuple(Piece(f"item-{i * items + k}") for k in range(items)),
        )
        for i in range(mini_batches)
    )
    folder.write_manifest(cut, dealt)
    log = folder.open_task_log()
    log.append_execution(log.claim_plan(), folder=folder.path.name, terms={})
    return folder


@dataclass
class Tries:
    """
    Runs shards as Airflow would: each call of run() is another try.

    :param request: more of the NodeRequest.
    """

    folder: RunFolder
    clear_number: int = 0
    is_orphaned: Callable[[], bool] = lambda: False
    variables: dict[str, str] = field(default_factory=dict)
    redact: Callable[[str], str] = str
    request: dict[str, Any] = field(default_factory=dict)
    count: int = 0

    def run(self, shard: int = 0) -> dict:
        self.count += 1
        return run_node(
            NodeRequest(
                folder=self.folder,
                shard_number=shard,
                task_try=TaskTry(try_number=self.count, clear_number=self.clear_number),
                environ=dict(os.environ),
                variables=self.variables,
                is_orphaned=self.is_orphaned,
                redact=self.redact,
                logger=logging.getLogger("tests.node"),
                **self.request,
            )
        )

    def clear(self) -> None:
        """Clear the shard, as a user does in the UI: the next try finds another clear_number."""
        self.clear_number += 1


def read_outcomes(folder: RunFolder, shard: int = 0) -> Any:
    """Read the committed outcomes of a shard; see outcomes.outcome_type()."""
    committed = read_committed(folder, folder.read_manifest())
    return committed.outcomes(committed.states[shard])


def read_tries(folder: RunFolder, shard: int = 0) -> list[FailedTry]:
    """Read the failed tries of a shard."""
    committed = read_committed(folder, folder.read_manifest())
    return list(committed.tries(committed.states[shard]))


def read_rows(folder: RunFolder) -> list[str]:
    """Read the committed rows of all shards in input order."""
    rows: list[str] = []
    committed = read_committed(folder, folder.read_manifest())
    for state in committed.states:
        with open_rows(committed, state) as source:
            outcomes = committed.outcomes(state)
            for outcome in outcomes[outcomes["length"] > 0]:
                data = source.room(int(outcome["length"]))
                source.read(outcome, int(outcome["offset"]), data)
                rows += bytes(data).decode().splitlines()
    return rows
