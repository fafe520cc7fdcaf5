"""What each node of a run is doing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_prs.airflow_side.addresses import task_ref
from airflow_prs.airflow_side.step_facts import StepFacts
from airflow_prs.step_tasks import MINI_BATCHES, task_of


def describe_nodes(facts: StepFacts, status: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return the nodes and their processes; what a node has borrowed is part of it."""
    nodes: dict[str, dict[str, Any]] = {}
    for shown in sorted((status or {}).get("nodes", []), key=lambda node: node.get("is_loan", False)):
        name = shown["node"]
        node = nodes.setdefault(name, _node(facts, shown))
        if shown.get("is_loan"):
            node["state"] = "running"
            node["rate"] += shown["mini_batches_per_s"]
            node["loans"].append(
                f"{shown['total']:,} mini-batches from shard {shown['shard']}, {shown['done']:,} done."
            )
        _add_processes(node["processes"], shown["processes"])
    return list(nodes.values())


def _node(facts: StepFacts, shown: Mapping[str, Any]) -> dict[str, Any]:
    shard, try_number = shard_and_try(shown["node"])
    is_loan = shown.get("is_loan", False)
    return {
        "node": shown["node"],
        "shard": shard,
        "state": shown["state"],
        "at": shown["at"],
        "total": 0 if is_loan else shown["total"],
        "done": 0 if is_loan else shown["done"],
        "failed": 0 if is_loan else shown.get("failed", 0),
        "rate": 0 if is_loan else shown["mini_batches_per_s"],
        "loans": [],
        "task": task_ref(facts.dag_id, facts.run_id, task_of(facts.step, MINI_BATCHES), shard, try_number),
        "processes": [],
    }


def shard_and_try(node: str) -> tuple[int, int | None]:
    """Return the shard and the try of a node from its name, ``<host>-<shard>-<try>``."""
    parts = node.rsplit("-", 2)
    if len(parts) != 3 or not (parts[1].isdigit() and parts[2].isdigit()):  # noqa: PLR2004  (the three parts)
        return -1, None
    return int(parts[1]), int(parts[2])


def _add_processes(processes: list[dict[str, Any]], shown: Mapping[str, Mapping[str, Any]]) -> None:
    known = {process["process"]: process for process in processes}
    for name, counts in shown.items():
        process = known.get(name)
        if process is None:
            process = {"process": name, "mini_batch": None, "since": None, "mini_batches": 0, "rate": 0.0, "run_s": 0.0}
            processes.append(process)
        process["mini_batches"] += counts["mini_batches"]
        process["rate"] += counts["mini_batches_per_s"]
        process["run_s"] += counts["run_s"]
        if counts.get("mini_batch") is not None:
            process |= {"mini_batch": counts["mini_batch"], "since": counts["since"]}


def describe_skew(status: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Return how much each node has done, and how long run() took there on average."""
    sums: dict[str, list[float]] = {}
    for shown in (status or {}).get("nodes", []):
        added = sums.setdefault(shown["node"], [0, 0.0])
        for process in shown["processes"].values():
            added[0] += process["mini_batches"]
            added[1] += process["run_s"]
    return [
        {
            "node": node,
            "mini_batches": int(count),
            "run_s": round(run_s, 3),
            "mean_s": round(run_s / count, 4) if count else None,
        }
        for node, (count, run_s) in sums.items()
    ]
