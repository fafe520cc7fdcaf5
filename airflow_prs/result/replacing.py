"""Whose result is in the place where another one is going to be."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import Any

from airflow_prs.records import RUNS, RunIdentity
from airflow_prs.run_folder.names import encode
from airflow_prs.store.opening import Location, open_store

logger = logging.getLogger(__name__)

_UNKNOWN = "an earlier file, which no run is known to have published"


def find_replaced(target: Location, identity: RunIdentity) -> str | None:
    """
    Return whose result a run is going to replace, in words; None: there is none, or it is the run's own.

    :param target: where the result is going to be.
    :param identity: that of the run.
    """
    store = open_store(target.parent)
    found, note = store.stat(target.name), _read(store.get(_key(target)))
    if found is None:
        return None
    if note.get("version") != found.version:
        return _UNKNOWN
    if all(note.get(name) == getattr(identity, name) for name in ("dag_id", "run_id", "task_id")):
        return None
    return f"the result of {note.get('task_id')} in run {note.get('run_id')} of DAG {note.get('dag_id')}"


def note_owner(target: Location, identity: RunIdentity) -> None:
    """
    Note whose result is in a place, for those who replace it.

    The note only serves messages: if it cannot be written, that is a warning.
    """
    store = open_store(target.parent)
    try:
        found = store.stat(target.name)
        if found is not None:
            store.put(_key(target), json.dumps({**asdict(identity), "version": found.version}).encode())
    except OSError as error:
        logger.warning("Whose result is at %s could not be noted: %s", target, error)


def _key(target: Location) -> str:
    # Beside the folders of the DAGs, whose names have no such ending.
    return f"{RUNS}/{encode(target.name)}!published.json"


def _read(data: bytes | None) -> dict[str, Any]:
    try:
        note = json.loads(data or b"{}")
    except ValueError:
        return {}
    return note if isinstance(note, dict) else {}
